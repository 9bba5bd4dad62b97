"""Streams over HTTP: server-sent events, where the caller asks for them and the host can send a response in pieces.

    data: {"jsonrpc":"2.0","method":"rpc.subscription","params":{"subscription":1,"result":17}}      each value
    data: {"jsonrpc":"2.0","result":null,"id":1}                                                      the end

The call's own id stands for the subscription, and the last event is the answer to the call: null, or an error. A
comment is sent where nothing else is for a while, so that nobody in between gives the connection up. The endpoint of
MCP has another form (gateway/endpoints/mcp/progress.py).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol, Self

import msgspec

from gateway.codecs import Codec, Decoded
from gateway.codecs.jsonrpc import JSONRPC
from gateway.endpoints.batches import Writer
from gateway.endpoints.rpc import Exchange
from gateway.endpoints.subscriptions import encoded_value
from gateway.model.calls import Answer, Call, Context, Reply, record_of
from gateway.model.faults import Fault, Unavailable, detached
from gateway.model.http import HTTPRequest
from gateway.model.streams import Stream

_MEDIA_TYPE = "text/event-stream"
_SILENCE = 15.0  # seconds
_COMMENT = b":\n\n"


class Form(Protocol):
    """How a stream is written."""

    def value(self, value: Any, context: Context) -> Awaitable[bytes]:
        """Write a value.

        Raises:
            Fault: it cannot be encoded, or is too large.

        """

    def end(self, reply: Reply, context: Context) -> Awaitable[Answer]:
        """Write the end: a fault, or a reply without one. Raises nothing."""


def are_asked_for(head: HTTPRequest) -> bool:
    """Tell whether the caller takes events, and the host can send them."""
    return head.takes_pieces and _MEDIA_TYPE in head.headers.get("Accept", "").lower()


async def begun(streams: Callable[[str], bool], exchange: Exchange, codec: Codec, decoded: Decoded) -> "Events | None":
    """Begin the stream that a body calls for; None where it is no such call, or the method does not begin.

    ``streams`` tells whether a method streams.
    """
    if not isinstance(codec, JSONRPC) or not are_asked_for(exchange.head):
        return None
    if not isinstance(decoded, Call) or decoded.notification or not streams(decoded.method):
        return None
    return await begin(exchange, decoded, codec, _Notifications(codec, decoded, exchange.endpoint.limits.max_reply))


async def begin(exchange: Exchange, call: Call, writer: Writer, form: Form) -> "Events | None":
    """Begin the stream of a call. Where there is none, the exchange has the reply, and does not call again."""
    if exchange.head.is_held:
        exchange.deadline = min(exchange.deadline, exchange.arrival + exchange.endpoint.limits.timeout)
    context = exchange.context(writer, call, None)
    context.streaming = "may"
    exchange.began = time.monotonic()
    try:
        replied = exchange.endpoint.handler(call, context)
        reply = replied if isinstance(replied, Reply) else await replied
    except BaseException:
        _note(exchange, context, 0, "cancelled", exchange.began)
        raise
    if isinstance(reply.value, Stream):
        return Events(exchange, context, reply.value, form)

    def answered(_call: Call, again: Context) -> Reply:
        again.method, again.called, again.deprecation = context.method, context.called, context.deprecation
        again.instance, again.attempts = context.instance, context.attempts
        return reply

    exchange.handler, exchange.begun = answered, context.span
    return None


class _Notifications:
    """The form of JSON-RPC."""

    def __init__(self, codec: JSONRPC, call: Call, most: int) -> None:
        self._codec = codec
        self._call = call
        self._most = most
        self._id = msgspec.json.encode(call.id)

    async def value(self, value: Any, context: Context) -> bytes:
        encoded = await encoded_value(self._codec, value, self._most, context)
        said = b'{"jsonrpc":"2.0","method":"rpc.subscription","params":{"subscription":%b,"result":%b}}'
        return said % (self._id, encoded)

    async def end(self, reply: Reply, _context: Context) -> Answer:
        return self._codec.encode(self._call, reply, self._most)


class Events:
    """The pieces of a response: an event each."""

    def __init__(self, exchange: Exchange, context: Context, stream: Stream, form: Form) -> None:
        self._exchange = exchange
        self._context = context
        self._stream = stream
        self._form = form
        self._pieces: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue(1)  # so a slow client makes the method wait
        self._is_inside = False
        self._is_over = False
        self._farewell: Fault | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._is_over:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout(_SILENCE):
                piece, self._is_over = await self._pieces.get()
        except TimeoutError:
            return _COMMENT
        return piece

    def retire(self) -> None:
        """End the stream, because the gateway ends."""
        self._farewell = Unavailable("the gateway stops, or loads its configuration again: call again")
        if self._is_inside:
            self._task.cancel()

    async def close(self) -> None:
        """End the stream, if it has not ended; twice is once."""
        if self._is_inside:
            self._task.cancel()
        else:
            await self._stream.close()
        await asyncio.wait((self._task,))

    async def _run(self) -> None:
        since, sent = time.monotonic(), 0
        self._is_inside = True
        reply, is_cancelled = Reply(), False
        try:
            async for value in self._stream:
                event = b"data: %b\n\n" % await self._form.value(value, self._context)
                sent += len(event)
                await self._pieces.put((event, False))
        except Fault as error:
            reply = Reply(fault=detached(error))
        except asyncio.CancelledError:
            is_cancelled = True
            reply = Reply(fault=self._farewell)
        self._is_inside = False
        await self._stream.close()
        answer = await self._form.end(reply, self._context)
        last = b"data: %b\n\n" % answer.wire
        outcome: int | Literal["cancelled"] | None = None if answer.fault is None else answer.fault.code
        self._exchange.endpoint.observers.answered(self._context.protocol, 0, sent + len(last))
        _note(self._exchange, self._context, sent + len(last), "cancelled" if is_cancelled else outcome, since)
        if not is_cancelled or self._farewell is not None:
            await self._pieces.put((last, True))


def _note(
    exchange: Exchange, context: Context, size: int, outcome: int | Literal["cancelled"] | None, since: float
) -> None:
    """Report a call."""
    record = record_of(context, outcome, size, since)
    exchange.endpoint.observers.note(record)
    if exchange.endpoint.recorder is not None:
        exchange.endpoint.recorder.streamed(record)
