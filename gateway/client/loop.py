"""Connections of an event loop for the core: asyncio's own, or uvloop's."""

import asyncio
import select
import socket
import ssl
import time
from collections import deque
from contextlib import suppress
from typing import Any, cast

from gateway.client.address import Address
from gateway.client.transport import Places, Stream


class Looping:
    """Makes connections of the loop that runs."""

    def home(self) -> object:
        """Return the loop that runs."""
        return asyncio.get_running_loop()

    def places(self, count: int) -> Places:
        """Make places."""
        return _Places(count)

    async def connect(self, address: Address, tls: ssl.SSLContext | None, deadline: float) -> Stream:
        """Connect."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(deadline - time.monotonic()):
            if address.path:
                return (await loop.create_unix_connection(_Connection, address.path))[1]
            first: OSError | None = None
            for info in await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
                try:
                    return await _connected(info[4], address, tls)
                except OSError as error:
                    first = first or error
            raise first or OSError("the name has no address")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


async def _connected(where: tuple[Any, ...], address: Address, tls: ssl.SSLContext | None) -> Stream:
    name = address.host if tls is not None else None
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(_Connection, where[0], where[1], ssl=tls, server_hostname=name)
    return stream


class _Places:
    """Places that those who wait are handed in their order."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_now(self) -> bool:
        if not self._free:
            return False
        self._free -= 1
        return True

    async def take(self, deadline: float) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await waiting
        except BaseException:
            if waiting.done() and not waiting.cancelled():  # it was handed one all the same
                self.give_back()
            raise

    def give_back(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return
        self._free += 1


class _Connection(asyncio.Protocol):
    """A connection, and what has come on it."""

    def __init__(self) -> None:
        self.written = False
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._has_ended = False
        self._error: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._fires = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the same methods, but another class
        self._readable = select.poll()
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        self._wake()

    def eof_received(self) -> None:
        self._has_ended = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._has_ended = True
        self._error = error
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    def is_clean(self) -> bool:
        """Ask the socket, too: the loop may not have looked at it since the last call."""
        if self._has_ended or self._received or self._transport.is_closing():
            return False
        return self._transport.get_write_buffer_size() == 0 and not self._readable.poll(0)

    async def send(self, data: bytes, deadline: float) -> None:
        self.written = True
        self._transport.write(data)

    async def receive(self, deadline: float) -> bytes:
        if not self._received and not self._has_ended:
            self._waiting = self._loop.create_future()
            self._watch(deadline)
            try:
                await self._waiting
            finally:
                self._waiting = None
        received, self._received = self._received, b""
        if not received and self._error is not None:
            raise self._error if isinstance(self._error, OSError) else ConnectionResetError(str(self._error))
        return received

    def close(self) -> None:
        with suppress(RuntimeError):  # its loop has been closed
            if asyncio.get_running_loop() is self._loop:
                self._transport.abort()
            else:
                self._loop.call_soon_threadsafe(self._transport.abort)

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _watch(self, deadline: float) -> None:
        """Wait no longer than that. A timer is kept for the next call, where it can only come too early."""
        self._deadline = deadline
        if self._timer is not None and self._fires > deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._fires = deadline
            self._timer = self._loop.call_later(deadline - time.monotonic(), self._look)

    def _look(self) -> None:
        self._timer = None
        waiting = self._waiting
        if waiting is None or waiting.done():
            return
        if time.monotonic() < self._deadline:
            self._watch(self._deadline)
        else:
            waiting.set_exception(TimeoutError())
