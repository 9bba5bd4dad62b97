"""Streams over HTTP: server-sent events, where the caller asks for them and the host can send a response in pieces.

    data: {"jsonrpc":"2.0","method":"rpc.subscription","params":{"subscription":1,"result":17}}      each value
    data: {"jsonrpc":"2.0","result":null,"id":1}                                                      the end

The call's own id stands for the subscription, and the last event is the answer to the call: null, or an error. A
comment is sent where nothing else is for a while, so that nobody in between gives the connection up.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Self

import msgspec

from gateway.codecs import Codec
from gateway.codecs.jsonrpc import JSONRPC
from gateway.endpoints.rpc import Exchange
from gateway.endpoints.subscriptions import encoded_value
from gateway.model.calls import Call, CallRecord, Context, Reply
from gateway.model.faults import Fault, Unavailable, detached
from gateway.model.streams import Stream

_MEDIA_TYPE = "text/event-stream"
_SILENCE = 15.0  # seconds
_COMMENT = b":\n\n"


async def begun(streams: Callable[[str], bool], exchange: Exchange, codec: Codec, body: bytes) -> "Events | None":
    """Begin the stream that a body calls for; None where it is no such call, or the method does not begin.

    ``streams`` tells whether a method streams.
    """
    if _MEDIA_TYPE not in exchange.head.headers.get("Accept", "").lower() or not isinstance(codec, JSONRPC):
        return None
    call = codec.decode(body, exchange.judged.charset)
    if not isinstance(call, Call) or call.notification or not streams(call.method):
        return None
    if exchange.set_deadline() is not None:
        return None
    context = exchange.context(codec, call, None)
    context.streaming = "may"
    replied = exchange.endpoint.handler(call, context)
    reply = replied if isinstance(replied, Reply) else await replied
    if isinstance(reply.value, Stream):
        return Events(exchange, codec, call, context, reply.value)
    exchange.handler, exchange.begun = lambda _call, _context: reply, context.span  # it has been answered already
    return None


class Events:
    """The pieces of a response: an event each."""

    def __init__(self, exchange: Exchange, codec: JSONRPC, call: Call, context: Context, stream: Stream) -> None:
        self._exchange = exchange
        self._codec = codec
        self._call = call
        self._context = context
        self._stream = stream
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
        since, sent, most = time.monotonic(), 0, self._exchange.endpoint.limits.max_reply
        self._is_inside = True
        reply, is_cancelled = Reply(), False
        try:
            async for value in self._stream:
                event = self._event(await encoded_value(self._codec, value, most, self._context))
                sent += len(event)
                await self._pieces.put((event, False))
        except Fault as error:
            reply = Reply(fault=detached(error))
        except asyncio.CancelledError:
            is_cancelled = True
            reply = Reply(fault=self._farewell)
        self._is_inside = False
        await self._stream.close()
        answer = self._codec.encode(self._call, reply, most)
        last = b"data: %b\n\n" % answer.wire
        self._note(sent + len(last), None if answer.fault is None else answer.fault.code, since, is_cut=is_cancelled)
        if not is_cancelled or self._farewell is not None:
            await self._pieces.put((last, True))

    def _event(self, encoded: bytes) -> bytes:
        number = msgspec.json.encode(self._call.id)
        said = b'{"jsonrpc":"2.0","method":"rpc.subscription","params":{"subscription":%b,"result":%b}}'
        return b"data: %b\n\n" % (said % (number, encoded))

    def _note(self, size: int, outcome: int | None, since: float, *, is_cut: bool) -> None:
        """Report the call."""
        context, caller = self._context, self._exchange.judged.caller
        self._exchange.endpoint.observers.answered(context.protocol, 0, size)
        self._exchange.endpoint.observers.note(
            CallRecord(
                method=context.method,
                protocol=context.protocol,
                client=caller.client,
                outcome="cancelled" if is_cut else outcome,
                bytes=size,
                request_id=context.request_id,
                position=None,
                seconds=time.monotonic() - since,
                instance=context.instance,
                attempts=context.attempts,
                called=context.called,
                caller=caller,
                span=context.span,
            )
        )
