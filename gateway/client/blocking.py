"""Blocking sockets for the core; safe for threads, since each connection belongs to one call at a time."""

import math
import os
import queue
import select
import socket
import ssl
import time

from gateway.client.address import Address
from gateway.client.transport import Places, Stream

_PIECE = 65536  # bytes that are received at once: more than a record of TLS; for 128 KiB, malloc asks the kernel


class Blocking:
    """Makes connections of sockets."""

    def home(self) -> object:
        """Return the process: one that is forked makes connections of its own."""
        return os.getpid()

    def places(self, count: int) -> Places:
        """Make places."""
        return _Places(count)

    async def connect(self, address: Address, tls: ssl.SSLContext | None, deadline: float) -> Stream:
        """Connect; names are looked up without a deadline, as the system does it."""
        if address.path:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                made.settimeout(_left(deadline))
                made.connect(address.path)
            except BaseException:
                made.close()
                raise
        else:
            made = socket.create_connection((address.host, address.port), timeout=_left(deadline))
        try:
            if not address.path:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                made.settimeout(_left(deadline))
                made = tls.wrap_socket(made, server_hostname=address.host)
            made.setblocking(False)  # noqa: FBT003 - its name
        except BaseException:
            made.close()
            raise
        return _Socket(made)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)  # noqa: ASYNC251 - there is no loop


class _Places:
    def __init__(self, count: int) -> None:
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    def take_now(self) -> bool:
        try:
            self._free.get_nowait()
        except queue.Empty:
            return False
        return True

    async def take(self, deadline: float) -> None:
        try:
            self._free.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None

    def give_back(self) -> None:
        self._free.put(None)


class _Socket:
    """A connected socket that never blocks, and what waits for it."""

    def __init__(self, connected: socket.socket) -> None:
        self.written = False
        self._socket = connected
        self._readable = select.poll()
        self._readable.register(connected, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(connected, select.POLLOUT)

    def is_clean(self) -> bool:
        return not self._readable.poll(0)

    async def send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            try:
                sent = self._socket.send(rest)
            except (BlockingIOError, ssl.SSLWantWriteError):
                _wait(self._writable, deadline)
            except ssl.SSLWantReadError:
                _wait(self._readable, deadline)
            except OSError:
                return
            else:
                self.written = True
                rest = rest[sent:]

    async def receive(self, deadline: float) -> bytes:
        while True:
            _wait(self._readable, deadline)
            try:
                return self._socket.recv(_PIECE)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            except ssl.SSLWantWriteError:
                _wait(self._writable, deadline)

    def close(self) -> None:
        self._socket.close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _wait(events: select.poll, deadline: float) -> None:
    if not events.poll(math.ceil(_left(deadline) * 1000)):
        raise TimeoutError
