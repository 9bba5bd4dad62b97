"""JSON-RPC servers over plain TCP: many calls on one connection, told apart by their ids.

A response that comes after its caller has gone is dropped. A connection on which nothing was received since such a
call was sent is not used for new ones and is closed when its last call has ended: it may be dead, and what is still
unsent is never sent. What is not a frame or not JSON-RPC ends the connection and fails all of its calls. A response
with an id that was never sent is logged; if one call waits, it is that call's, and the call fails. Notifications of the
server's own are ignored.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gateway.codecs.jsonrpc import JSONRPC
from gateway.fleet.listing import Instance
from gateway.model.calls import Reply
from gateway.model.faults import BadUpstream, Fault, ForeignFault
from gateway.model.limits import Limits
from gateway.upstreams import Cancel, Failures, Invocation, Outcome, Signature
from gateway.upstreams.faults import told
from gateway.upstreams.jsonrpc.openrpc import Lenient, describe
from gateway.upstreams.options import Target, target
from gateway.upstreams.transport.connection import StreamConnection
from gateway.upstreams.transport.dial import STREAM_FAILURES, StreamOptions, client_context, open_stream
from gateway.upstreams.transport.outcomes import Read
from gateway.upstreams.transport.pool import Lent, Pool
from gateway.upstreams.transport.pooled import Pooled
from gateway.wire.framing import FRAMINGS, Frames, FrameTooLongError, FramingError

log = logging.getLogger("gateway.upstreams")

_SHARE = 256  # calls on one connection; each that waits takes a few dozen bytes


class TCPOptions(StreamOptions, frozen=True, kw_only=True):
    """How the messages are framed and read."""

    framing: Annotated[
        Literal["newline", "json", "netstring"],
        Meta(description="newline: one on each line; json: texts one after the other; netstring: 5:hello,"),
    ] = "newline"
    lenient: Lenient = False


class JSONRPCOverTCP(Pooled[Pool["_Connection"]]):
    """Calls as request objects, many on each connection."""

    Options: ClassVar = TCPOptions
    takes: ClassVar[Literal["list", "dict", "either"]] = "either"
    failures: ClassVar[Failures] = STREAM_FAILURES

    def __init__(self, options: TCPOptions, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        self._codec = JSONRPC(max_depth=limits.max_depth, max_batch=1)
        self._tls = client_context(options)
        self.aim(options.first)

    def aim(self, instance: Instance) -> None:
        """Have calls go to an instance."""
        self._target = target(instance)
        self._pool = Pool(self._connect, self._options.connections, _SHARE)

    def known(self) -> list[Signature] | None:
        """Nothing is known without asking."""
        return None

    async def describe(self, deadline: float) -> list[Signature] | None:
        """Ask for the methods."""
        return await describe(self.call, deadline)

    async def call(self, invocation: Invocation) -> Any:
        """Send a request object, and wait for the response object of its id."""
        async with self._pool.lend(invocation) as connection:
            reply = await connection.call(invocation)
        return _value(reply)

    def begin(self, invocation: Invocation, outcome: Outcome) -> Cancel:
        """Send a request object, and have the result told later."""
        return self._pool.lend_to(Read(_value, outcome), invocation, partial(_begin, invocation)).cancel

    async def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    async def _connect(self) -> "_Connection":
        options, to = self._options, self._target
        frames = FRAMINGS[options.framing](self._limits.max_reply)
        return await open_stream(lambda: _Connection(self._codec, frames, options, to), to, options, self._tls)


def _begin(invocation: Invocation, lent: Lent["_Connection"], connection: "_Connection") -> Cancel:
    return connection.begin(invocation, lent)


def _value(reply: Reply) -> Any:
    if reply.fault is None:
        return reply.value
    raise told(reply.fault) if isinstance(reply.fault, ForeignFault) else reply.fault


class _Begun:
    """A call that waits for its reply, as a future would."""

    __slots__ = ("_call_id", "_connection", "_heard", "_invocation", "_lent")

    def __init__(
        self, connection: "_Connection", call_id: int, heard: int, invocation: Invocation, lent: Lent["_Connection"]
    ) -> None:
        self._connection = connection
        self._call_id = call_id
        self._heard = heard
        self._invocation = invocation
        self._lent = lent

    def done(self) -> bool:
        return self._lent.done()

    def set_result(self, reply: Reply) -> None:
        self._connection.forget(self._call_id)
        self._invocation.sent = "yes"
        self._lent.set_result(reply)

    def set_exception(self, error: Exception) -> None:
        self._connection.forget(self._call_id)
        self._lent.set_exception(error)

    def stop(self) -> None:
        self._connection.forget(self._call_id, self._heard)


class _Connection(StreamConnection):
    """A connection, and the calls on it that wait for their responses."""

    def __init__(self, codec: JSONRPC, frames: Frames, options: TCPOptions, target: Target) -> None:
        super().__init__()
        self._target = target
        self._codec = codec
        self._frames = frames
        self._options = options
        self._waiting: dict[int, Outcome] = {}
        self._unsent: dict[int, tuple[bytes, Invocation]] = {}  # frames by the ids of their calls
        self._last_id = 0
        self._heard = 0
        self._retired = False
        self._has_warned = False

    async def call(self, invocation: Invocation) -> Reply:
        """Send one call, and wait for its reply."""
        call_id, frame = self._framed(invocation)
        await self._writable.wait()
        if not self.usable():
            raise EOFError
        heard = self._heard
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._send(frame, call_id, invocation, answer)
        try:
            reply = await answer
        except asyncio.CancelledError:
            self.forget(call_id, heard)
            raise
        finally:
            self.forget(call_id)
        invocation.sent = "yes"
        return reply

    def begin(self, invocation: Invocation, lent: Lent["_Connection"]) -> Cancel:
        """Send one call, whose reply is told later; while the connection takes no more bytes, it is held back."""
        call_id, frame = self._framed(invocation)
        begun = _Begun(self, call_id, self._heard, invocation, lent)
        if self._writable.is_set():
            self._send(frame, call_id, invocation, begun)
        else:
            self._waiting[call_id] = begun
            self._unsent[call_id] = frame, invocation
        return begun.stop

    def forget(self, call_id: int, heard: int = -1) -> None:
        """Wait no more for a reply; where nothing was received since ``heard``, the connection may be dead."""
        self._waiting.pop(call_id, None)
        if self._unsent.pop(call_id, None) is None:
            self._retired = self._retired or self._heard == heard

    def _framed(self, invocation: Invocation) -> tuple[int, bytes]:
        self._last_id = call_id = self._last_id + 1
        return call_id, self._frames.frame(self._codec.encode_call(invocation.method, invocation.params, call_id))

    def _send(self, frame: bytes, call_id: int, invocation: Invocation, answer: Outcome) -> None:
        self._waiting[call_id] = answer
        invocation.sent = "maybe"
        self._transport.write(frame)

    def resume_writing(self) -> None:
        """Send what was held back (called by the event loop)."""
        super().resume_writing()
        while self._unsent and self._writable.is_set():
            call_id = next(iter(self._unsent))
            frame, invocation = self._unsent.pop(call_id)
            self._send(frame, call_id, invocation, self._waiting[call_id])

    def usable(self) -> bool:
        """Tell whether a new call can be sent."""
        return not self._retired and super().usable()

    def data_received(self, data: bytes) -> None:
        """Give responses to their calls (called by the event loop)."""
        self._heard += 1
        try:
            for message in self._frames.feed(data):
                self._receive(message)
        except FrameTooLongError:
            self._fail(BadUpstream("the response has more bytes than limits.max_reply"))
        except FramingError:
            self._fail(BadUpstream("the response is not framed as configured"))
        except Fault as fault:
            self._fail(fault)

    def connection_lost(self, error: Exception | None) -> None:
        """Take a last response that lacks its newline, and fail the other calls (called by the event loop)."""
        if error is None and self._error is None:
            with suppress(Fault):  # it was cut off
                for message in self._frames.end():
                    self._receive(message)
        super().connection_lost(error)

    def _receive(self, message: bytes) -> None:
        answer = self._codec.decode_answer(message, lenient=self._options.lenient)
        if answer is None:
            return
        answered, reply = answer
        if answered is None and reply.fault is not None:  # it may be of any call
            raise told(reply.fault) if isinstance(reply.fault, ForeignFault) else reply.fault
        if type(answered) is not int or not 0 < answered <= self._last_id:
            self._receive_unknown()
            return
        waiting = self._waiting.get(answered)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def _receive_unknown(self) -> None:
        """Judge a response with an id that was never sent."""
        if len(self._waiting) == 1:
            raise BadUpstream("the response has an id that was never sent")
        if not self._has_warned:
            log.warning("upstream at %s:%d: a response has an id that was never sent", *self._target[:2])
        self._has_warned = True

    def _pending(self) -> Iterable[Outcome]:
        return self._waiting.values()
