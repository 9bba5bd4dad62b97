"""The bridge to JSON-RPC 2.0 servers over plain TCP: many calls on one connection, told apart by their ids.

An answer that comes after its caller has gone meets no call, and is dropped. A connection that has given no sign of
life since such a call was sent is not used for new ones and is closed when its last call has ended: it may be dead, and
what is still unsent goes with it. What is no frame or no JSON-RPC ends the connection and fails all of its calls, for
nobody knows what else is wrong with it. Notifications of the server's own are passed over.
"""

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gateway.codecs.jsonrpc import JSONRPC
from gateway.model.calls import Reply
from gateway.model.faults import BadUpstream, Fault, ForeignFault
from gateway.model.limits import Limits
from gateway.upstreams import Failures, Invocation, Signature
from gateway.upstreams.faults import told
from gateway.upstreams.jsonrpc.openrpc import describe
from gateway.upstreams.options import host_and_port
from gateway.upstreams.transport.connection import StreamConnection
from gateway.upstreams.transport.dial import STREAM_FAILURES, StreamOptions, client_context, open_stream
from gateway.upstreams.transport.pool import Pool
from gateway.wire.framing import FRAMINGS, Frames, FrameTooLongError, FramingError

_SHARE = 256  # calls on one connection; their answers are a few dozen bytes each to wait for


class TCPOptions(StreamOptions, frozen=True, kw_only=True):
    """How the messages are told apart."""

    framing: Annotated[
        Literal["newline", "netstring"], Meta(description="newline: one on each line; netstring: 5:hello,")
    ] = "newline"


class JSONRPCOverTCP:
    """Calls as request objects, many on each connection."""

    Options: ClassVar = TCPOptions
    takes: ClassVar[Literal["list", "dict", "either"]] = "either"
    failures: ClassVar[Failures] = STREAM_FAILURES

    def __init__(self, options: TCPOptions, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        self._codec = JSONRPC(max_depth=limits.max_depth, max_batch=1)
        self._tls = client_context(options)
        self._pool = Pool(self._connect, options.connections, _SHARE)

    def known(self) -> list[Signature] | None:
        """Nothing is known without asking."""
        return None

    async def describe(self, deadline: float) -> list[Signature] | None:
        """Ask for the methods."""
        return await describe(self.call, deadline)

    async def call(self, invocation: Invocation) -> Any:
        """Send a request object, and wait for the response object of its id."""
        async with self._pool.lend() as connection:
            reply = await connection.call(invocation)
        if reply.fault is None:
            return reply.value
        raise told(reply.fault) if isinstance(reply.fault, ForeignFault) else reply.fault

    async def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    async def _connect(self) -> "_Connection":
        frames = FRAMINGS[self._options.framing](self._limits.max_reply)
        address = host_and_port(self._options.url)
        return await open_stream(lambda: _Connection(self._codec, frames), address, self._options, self._tls)


class _Connection(StreamConnection):
    """A connection, and the calls on it that wait for their answers."""

    def __init__(self, codec: JSONRPC, frames: Frames) -> None:
        super().__init__()
        self._codec = codec
        self._frames = frames
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._last_id = 0
        self._heard = 0
        self._retired = False

    async def call(self, invocation: Invocation) -> Reply:
        """Send one call, and wait for its reply."""
        self._last_id = call_id = self._last_id + 1
        frame = self._frames.frame(self._codec.encode_call(invocation.method, invocation.params, call_id))
        await self._writable.wait()
        if not self.usable():
            raise EOFError
        heard = self._heard
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = answer
        invocation.sent = "maybe"
        self._transport.write(frame)
        try:
            reply = await answer
        except asyncio.CancelledError:
            self._retired = self._retired or self._heard == heard
            raise
        finally:
            self._waiting.pop(call_id, None)
        invocation.sent = "yes"
        return reply

    def usable(self) -> bool:
        """Tell whether a new call can be sent."""
        return not self._retired and super().usable()

    def data_received(self, data: bytes) -> None:
        """Give answers to their calls (called by the event loop)."""
        self._heard += 1
        try:
            for message in self._frames.feed(data):
                self._receive(message)
        except FrameTooLongError:
            self._fail(BadUpstream("its answer has more bytes than are taken"))
        except FramingError:
            self._fail(BadUpstream("it does not frame its answers as configured"))
        except Fault as fault:
            self._fail(fault)

    def _receive(self, message: bytes) -> None:
        answer = self._codec.decode_answer(message)
        if answer is None:
            return
        answered, reply = answer
        if answered is None and reply.fault is not None:  # nobody knows whose it is
            raise told(reply.fault) if isinstance(reply.fault, ForeignFault) else reply.fault
        waiting = self._waiting.get(answered) if type(answered) is int else None
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def _pending(self) -> Iterable[asyncio.Future[Any]]:
        return self._waiting.values()
