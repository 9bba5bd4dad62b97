"""What records the calls of a gateway with their arguments and results, as the section [record] says."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from gateway.codecs import Codec
from gateway.codecs.jsonrpc import JSONRPC
from gateway.config import Config
from gateway.config.access import KEY_PREFIX
from gateway.endpoints.mcp.tools import PROTOCOL
from gateway.methods import RESERVED, Method, Registry
from gateway.model.calls import Answer, Call, Reply
from gateway.model.faults import BadUpstream
from gateway.model.places import place
from gateway.telemetry.recording import Described, Plan, Recorder, Spoken

_ANONYMOUS = Call(method="", params=[])


def recorder_of(
    config: Config, served: Registry, codecs: Iterable[Codec], passing: Callable[[str], object]
) -> Recorder | None:
    """Make what records, if anything is recorded.

    Args:
        config: the configuration.
        served: the methods.
        codecs: of the protocols.
        passing: returns the method of an upstream's pattern that a name fits, or something else.

    """
    section = config.record
    if not section.methods:
        return None
    plan = Plan(
        methods=section.methods,
        share=section.share,
        folder=Path(section.folder),
        max_folder=section.max_folder,
        max_record=section.max_record,
        redact=tuple(map(place, section.redact)),
        secrets=section.redact_secrets,
        prefix=KEY_PREFIX,
        never=frozenset({config.websocket.subscribe, config.websocket.unsubscribe})
        if config.websocket.enabled
        else frozenset(),
    )
    spoken = {codec.name: Spoken(_document_of(codec), _reader_of(codec)) for codec in codecs}
    jsonrpc = next(codec for codec in codecs if codec.name == JSONRPC.name)
    spoken[PROTOCOL] = Spoken(_as_json(jsonrpc, config.limits.max_reply), _reader_of(jsonrpc))
    return Recorder(plan, spoken, _describer(served, config.mcp.read_only, passing))


def _document_of(codec: Codec) -> Callable[[Reply, Answer], bytes]:
    return lambda _, answer: codec.single(answer)


def _as_json(codec: Codec, room: int) -> Callable[[Reply, Answer], bytes]:
    """Write for a recording what an agent was sent as a text, from which its value would not come back."""

    def document(reply: Reply, answer: Answer) -> bytes:
        said = reply if answer.fault is None else Reply(fault=answer.fault)
        return codec.encode(_ANONYMOUS, said, room).wire

    return document


def _reader_of(codec: Codec) -> Callable[[bytes], Reply]:
    def read(document: bytes) -> Reply:
        found = codec.decode_answer(document)
        if found is None or isinstance(found[1].fault, BadUpstream):
            raise ValueError(f"a response in {codec.title} cannot be read")
        return found[1]

    return read


def _describer(served: Registry, harmless: tuple[str, ...], passing: Callable[[str], object]) -> Described:
    def describe(method: str, called: str, protocol: str) -> tuple[tuple[str, ...], bool]:
        found: object = served.get(method, protocol) or passing(called)
        is_harmless = called.startswith(RESERVED) or any(fnmatchcase(called, pattern) for pattern in harmless)
        if not isinstance(found, Method):
            return (), is_harmless
        return tuple([param.name for param in found.positional]), is_harmless or found.idempotent

    return describe
