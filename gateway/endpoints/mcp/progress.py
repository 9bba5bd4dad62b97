"""Streams over MCP: progress, and then the result, as server-sent events in the response to ``tools/call``.

    data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1,"message":"17"}}
    data: {"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"[17,18]"}]}}

An agent asks for it with a ``progressToken`` and ``Accept: text/event-stream``, and shows each message to its user. The
model reads the result alone. So this is what it would be without progress: all values.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.endpoints.batches import in_turns
from gateway.endpoints.mcp.messages import Message
from gateway.endpoints.mcp.results import Results
from gateway.model.calls import Answer, Call, Context, Reply
from gateway.model.faults import Fault, ResponseTooLarge

_LONGEST = 1000  # characters of a message, which is a line for people


def token_of(message: Message) -> bytes | None:
    """Return what names the progress of a request, as JSON; None where the agent wants none."""
    meta = message.params.get("_meta")
    token = meta.get("progressToken") if type(meta) is dict else None
    return msgspec.json.encode(token) if type(token) in (str, int) else None


class Progress:
    """The form of MCP.

    Arguments:
        results: writes replies.
        call: the call of the tool.
        token: as JSON.
        most: bytes of the result.
        respond: makes a response of the members of a result.

    """

    def __init__(
        self, results: Results, call: Call, token: bytes, most: int, respond: Callable[[bytes], bytes]
    ) -> None:
        self._results = results
        self._call = call
        self._token = token
        self._most = most
        self._respond = respond
        self._values: list[Any] = []
        self._size = 0

    async def value(self, value: Any, _context: Context) -> bytes:
        """Write a value as the message of a progress, and keep it for the result.

        Raises:
            Fault: it cannot be encoded, or all of them are too large for a result.

        """
        text = await self._results.text(value, self._most)
        self._size += len(text)
        if self._size > self._most:
            raise ResponseTooLarge(f"the stream has more than {self._most} bytes")
        self._values.append(value)
        said = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
        return (
            b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b,"progress":%d,"message":%b}}'
            % (self._token, len(self._values), msgspec.json.encode(said))
        )

    async def end(self, reply: Reply, _context: Context) -> Answer:
        """Write the result: all values, or the fault as a text."""
        whole = reply if isinstance(reply.fault, Fault) else Reply(value=self._values)
        answer = await in_turns(self._results.encoding(self._call, whole, self._most))
        return msgspec.structs.replace(answer, wire=self._respond(answer.wire))
