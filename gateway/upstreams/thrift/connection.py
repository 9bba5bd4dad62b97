"""A connection to a Thrift service: one message out and its reply in, then the next.

    reply = await connection.call(message, invocation, read)

``read`` takes the reply from the connection, which is a Source, piece by piece as the pieces arrive: without frames
nothing else tells where a reply ends. Every error is raised, and the connection must be closed then.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from gateway.model.faults import BadUpstream
from gateway.upstreams import Invocation
from gateway.upstreams.thrift.wire import MisreadError, Source
from gateway.upstreams.transport.connection import StreamConnection

_LENGTH = struct.Struct(">i")
_PIECES = 1000  # taken in one turn of the event loop, some milliseconds; a reply can have millions

T = TypeVar("T")


class Connection(StreamConnection):
    """A connection; ``most`` bounds the bytes of a reply."""

    def __init__(self, most: int, *, framed: bool) -> None:
        super().__init__()
        self._most = most
        self._framed = framed
        self._held = bytearray()
        self._at = 0
        self._end: int | None = None  # of the frame
        self._taken = 0
        self._calling = False
        self._more: asyncio.Future[None] | None = None

    async def call(
        self, message: bytes, invocation: Invocation, read: Callable[[Source], Awaitable[T]] | None
    ) -> T | None:
        """Send a message and read its reply; without ``read`` no reply is expected.

        Raises:
            MisreadError, BadUpstream: the reply is invalid, or too long.
            OSError, EOFError: the connection is broken.

        """
        if not self.usable():
            raise EOFError
        self._calling = True
        invocation.sent = "maybe"
        self._transport.write(_LENGTH.pack(len(message)) + message if self._framed else message)
        if read is None:
            await self._written()
            reply = None
        else:
            reply = await self._read(read)
        self._calling = False
        invocation.sent = "yes"
        return reply

    async def _written(self) -> None:
        """Wait until the message is sent, when no reply will tell that it has arrived."""
        await self._writable.wait()
        if self._error is not None:
            raise self._error

    async def _read(self, read: Callable[[Source], Awaitable[T]]) -> T:
        self._held.clear()
        self._at, self._end = 0, None
        if self._framed:
            (length,) = _LENGTH.unpack(await self.take(_LENGTH.size))
            if not 0 <= length <= self._most:
                raise MisreadError(f"the response has a frame of {length} bytes; limits.max_reply is {self._most}")
            self._end = self._at + length
        reply = await read(self)
        if self._end not in (None, self._at):
            raise MisreadError("the frame has more bytes after the response")
        return reply

    async def take(self, count: int) -> bytes:
        """Take the next bytes of the reply."""
        end = self._at + count
        if not 0 <= count <= self._most or (self._end is not None and end > self._end):
            raise MisreadError(f"a value of {count} bytes does not fit into the response")
        self._taken += 1
        if self._taken % _PIECES == 0:
            await asyncio.sleep(0)
        while len(self._held) < end:
            if self._error is not None:
                raise self._error
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        data = bytes(self._held[self._at : end])
        self._at = end
        return data

    def usable(self) -> bool:
        """Tell whether the next call may use it: it is open, and nothing of the last reply is left."""
        return super().usable() and self._at == len(self._held)

    def data_received(self, data: bytes) -> None:
        """Keep what arrives, within bounds (called by the event loop)."""
        self._held += data
        if not self._calling:
            self._transport.abort()
        elif len(self._held) > self._most + _LENGTH.size:
            self._fail(BadUpstream("the response has more bytes than limits.max_reply"))
        self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def _pending(self) -> Iterable[asyncio.Future[Any]]:
        return () if self._more is None else (self._more,)
