"""What became of a call, written for a model: the result of ``tools/call``.

A text is written as it is, and anything else as the JSON that JSON-RPC has for it. A fault is a result, too, with
``isError``: a JSON-RPC error need not reach the model, which reads the text and mends its call. Nothing is sent as
structured content: agents pay for both, or round large ints in it.
"""

from typing import Any

import msgspec

from gateway.codecs import Codec
from gateway.codecs.contract import Turns
from gateway.endpoints.batches import in_turns
from gateway.endpoints.mcp.tools import PROTOCOL
from gateway.model.calls import Answer, Call, Entry, Reply
from gateway.model.faults import ResponseTooLarge

_ANONYMOUS = Call(method="", params=[])
_BEFORE, _AFTER = b'{"jsonrpc":"2.0","result":', b',"id":null}'


class Results:
    """Writes replies.

    Arguments:
        codec: that of JSON-RPC, whose values are written.

    Attributes:
        name: what contexts, the log and metrics call the protocol.
        native: see Codec.
        wide_ints: likewise.

    """

    def __init__(self, codec: Codec) -> None:
        self.name = PROTOCOL
        self.native = codec.native
        self.wide_ints = codec.wide_ints
        self._codec = codec

    def encoding(self, _entry: Entry, reply: Reply, room: int) -> Turns[Answer]:
        """Write a reply as the members of a result, in at most ``room`` bytes, in turns; without errors."""
        answer = yield from self._codec.encoding(_ANONYMOUS, reply, room)
        if answer.fault is None:
            wire = _content(_text(answer))
            if len(wire) <= room:
                return Answer(wire=wire)
            fault = ResponseTooLarge(f"the response has {len(wire)} bytes, and {max(room, 0)} are left")
            answer = self._codec.encode(_ANONYMOUS, Reply(fault=fault), room)
        return Answer(wire=_content(_words(answer.wire)) + b',"isError":true', fault=answer.fault)

    async def text(self, value: Any, room: int) -> str:
        """Write a value as ``encoding`` does, alone.

        Raises:
            Fault: it cannot be encoded, or has more than ``room`` bytes.

        """
        answer = await in_turns(self._codec.encoding(_ANONYMOUS, Reply(value=value), room))
        if answer.fault is not None:
            raise answer.fault
        return _text(answer)


def _content(text: str) -> bytes:
    return b'"content":[{"type":"text","text":%b}]' % msgspec.json.encode(text)


def _text(answer: Answer) -> str:
    """Return the value of an answer: a text as it is, and anything else as JSON."""
    value = answer.wire[len(_BEFORE) : -len(_AFTER)]
    text: str = msgspec.json.decode(value) if value.startswith(b'"') else value.decode()
    return text


def _words(error: bytes) -> str:
    """Write an error object as a text: its message, what is known beyond it, and its code."""
    said: dict[str, Any] = msgspec.json.decode(error)["error"]
    data = said.get("data")
    words = said["message"]
    if type(data) is dict and type(data.get("detail")) is str:
        words = f"{words}: {data['detail']}"
        data = {name: value for name, value in data.items() if name != "detail"} or None
    if data is not None:
        words = f"{words} {msgspec.json.encode(data).decode()}"
    return f"{words} (code {said['code']})"
