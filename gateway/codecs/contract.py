"""The contract of a codec: bytes to calls, replies to bytes. No socket, no clock, no log."""

from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from gateway.model.calls import Answer, Batch, Call, Entry, Id, InvalidCall, Params, Reply
from gateway.model.faults import Fault, ResponseTooLarge, detached
from gateway.model.values import encoding_error

Decoded: TypeAlias = Call | InvalidCall | Batch
_T = TypeVar("_T")
Turns: TypeAlias = Generator[None, None, _T]
"""Work that takes long, in parts of a few milliseconds: others may have their turn at each yield."""

_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})
_FEW = 100  # values that are written in far less than one turn
_Answered: TypeAlias = tuple[Id, Reply]


class Codec(Protocol):
    """A protocol, with the limits that it keeps.

    Arguments:
        max_depth: levels of nesting, both ways.
        max_batch: calls in one batch.

    Attributes:
        name: what contexts, the log, metrics and the option ``protocols`` of a method call it, like ``"xmlrpc"``.
        title: what people call it, like ``"XML-RPC"``.
        media_types: the Content-Types, in lower case and without parameters, that mean this protocol.
        content_type: the Content-Type of an answer; its media type is the usual one of requests, too.
        charsets: the values of a charset parameter that are taken; None where the codec itself decides.
        first_bytes: the first bytes of bodies of this protocol, for bodies without a Content-Type.
        native: the types that values have on the wire beside those of JSON. Texts are taken for types that are missing.
        wide_ints: whether ints beyond 53 bits are numbers on the wire; otherwise they are texts, also in calls.
        batch_method: the method whose call is decoded into a Batch; empty where a batch is not a call.
        capabilities: what system.getCapabilities returns for the protocol, by name: the address and version of a
            specification.

    """

    name: str
    title: str
    media_types: tuple[str, ...]
    content_type: str
    charsets: frozenset[str] | None
    first_bytes: bytes
    native: tuple[type, ...]
    wide_ints: bool
    batch_method: str
    capabilities: dict[str, dict[str, str | int]]

    def __init__(self, *, max_depth: int, max_batch: int) -> None: ...

    def decode(self, body: bytes, charset: str | None) -> Decoded:
        """Read a whole body; what is not a call becomes an InvalidCall. ``charset`` is of the Content-Type. No errors.

        ``charset`` is in lower case.
        """

    def decode_usual(self, body: bytes, charset: str | None) -> Call | None:
        """Read one call that wants an answer, if that is what a body is and the fast reader reads it.

        What it returns is what ``decode`` returns. None means nothing but that ``decode`` has to be asked. No errors.
        """

    def encode(self, entry: Entry, reply: Reply, room: int) -> Answer:
        """Write one reply, as a part of a document, in at most ``room`` bytes; without errors, see ``encoded``."""

    def decoding(self, body: bytes, charset: str | None) -> Turns[Decoded]:
        """Read as ``decode`` does, in turns."""

    def encoding(self, entry: Entry, reply: Reply, room: int) -> Turns[Answer]:
        """Write as ``encode`` does, in turns; what is not large is written in the first one."""

    def single(self, answer: Answer) -> bytes:
        """Make the document that answers a single call."""

    def batch(self, answers: list[Answer]) -> bytes:
        """Make the document that answers a batch."""

    def encode_call(self, method: str, params: Params, call_id: Id, /) -> bytes:
        """Write a call for another server.

        Raises:
            InvalidParams: an argument cannot be encoded; the detail names its place.

        """

    def encode_notification(self, method: str, params: Params, /) -> bytes:
        """Write a call that is not answered.

        Raises:
            InvalidParams: an argument cannot be encoded, or the protocol has no such calls.

        """

    def encode_batch(self, calls: Sequence[Call], /) -> bytes:
        """Write several calls, whose ids are their places, counted from 1.

        Raises:
            InvalidParams: an argument cannot be encoded; the detail names its place in the batch.

        """

    def decode_answer(self, body: bytes, charset: str | None = None, *, lenient: bool = False) -> _Answered | None:
        """Read another server's answer: the id of the call, where the protocol has one, and what became of it.

        A fault in it is a ForeignFault, anything else that is not an answer a BadUpstream, and a call is None.
        ``lenient`` takes some of what other servers get wrong.
        """

    def decode_batch(
        self, body: bytes, charset: str | None = None, *, lenient: bool = False
    ) -> list[_Answered] | Reply:
        """Read another server's answers to a batch, by the ids of ``encode_batch``, or the one fault for all of it."""


class ReplyWriter(Protocol):
    """What ``encoded`` asks of a codec. ``written_as`` names the format, in "cannot be encoded as JSON"."""

    written_as: str

    def write_value(self, value: Any, call_id: Id, room: int) -> Turns[bytes]:
        """Write a result, in turns.

        Raises:
            ResponseTooLarge: it has more than ``room`` bytes.
            Exception: it cannot be encoded.

        """

    def write_fault(self, fault: Fault, call_id: Id) -> bytes:
        """Write a fault.

        Raises:
            Exception: its data cannot be encoded.

        """


def encoded(writer: ReplyWriter, entry: Entry, reply: Reply, room: int) -> Turns[Answer]:
    """Write a reply: its value, if it can be encoded in the bytes that are left, and a fault otherwise."""
    fault = reply.fault
    if fault is None:
        try:
            wire = yield from writer.write_value(reply.value, entry.id, room)
            if len(wire) <= room:
                return Answer(wire=wire)
            fault = ResponseTooLarge(f"the response has {len(wire)} bytes, and {max(room, 0)} are left")
        except ResponseTooLarge as too_large:
            fault = detached(too_large)
        except Exception as error:  # noqa: BLE001 - code of the result itself may run here
            fault = encoding_error(error).fault(writer.written_as)
    try:
        return Answer(wire=writer.write_fault(fault, entry.id), fault=fault)
    except Exception as error:  # noqa: BLE001 - likewise, of the fault's data
        fault = encoding_error(error).fault(writer.written_as, "error")
        return Answer(wire=writer.write_fault(fault, entry.id), fault=fault)


def at_once(turns: Turns[_T]) -> _T:
    """Do work that is in turns without a pause, and return what it comes to."""
    while True:
        try:
            next(turns)
        except StopIteration as end:
            value: _T = end.value
            return value


def may_be_large(value: Any) -> bool:
    """Return whether a value may take more than one turn to write: it has many inside, or some that are not scalars."""
    kind = type(value)
    if kind in _SCALARS:
        return False
    if kind is not list and kind is not dict:
        return True
    return len(value) > _FEW or not _SCALARS.issuperset(map(type, value if kind is list else value.values()))
