"""Batches for other servers (section 6): request objects in an array, and the response objects to them."""

from collections.abc import Sequence
from typing import Any, Protocol

from gateway.codecs.jsonrpc.answers import no_answer, read_answer
from gateway.model.calls import Call, Id, Params, Reply
from gateway.model.faults import InvalidParams


class _Writer(Protocol):
    """What writes one request object."""

    def encode_call(self, method: str, params: Params, call_id: Id = None) -> bytes: ...

    def encode_notification(self, method: str, params: Params) -> bytes: ...


def encode(codec: _Writer, calls: Sequence[Call]) -> bytes:
    """Write calls; their ids are their places.

    Raises:
        InvalidParams: an argument cannot be encoded; the detail names its place.

    """
    written = []
    for place, call in enumerate(calls, 1):
        try:
            if call.notification:
                written.append(codec.encode_notification(call.method, call.params))
            else:
                written.append(codec.encode_call(call.method, call.params, place))
        except InvalidParams as fault:
            raise InvalidParams(f"call {place}: {fault.detail}") from None
    return b"[%b]" % b",".join(written)


def read(document: Any) -> list[tuple[Id, Reply]] | Reply:
    """Read the parsed response to a batch, whose response objects may come in any order."""
    if type(document) is list and document:
        return [answer for each in document if (answer := read_answer(each)) is not None]
    _, reply = read_answer(document) or (None, no_answer("it is a request"))
    return reply if reply.fault is not None else no_answer("a batch is answered by an array")
