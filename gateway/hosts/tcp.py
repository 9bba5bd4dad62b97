"""The TCP host: JSON-RPC over plain TCP, without HTTP around it.

    a frame on a socket -> HTTPRequest, as if it had been POSTed -> admit -> answer -> HTTPResponse -> a frame again

The door cannot tell it from HTTP, so methods, limits, faults, deadlines and the log are the same. Calls of one
connection run at the same time, and each answer goes out when it is ready; the id tells whose it is. What is too long
is refused before it is held, and ends the connection, for nobody knows where the next message begins.

A connection is judged when it is made, by the same ``admit`` as the head of a request, and counts as a call; so is each
message. So rules by address and by method hold here, and rates; a key cannot be shown. A client that half-closes still
gets its answers; one that is gone has its calls cancelled.
"""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

from gateway.eager import start
from gateway.exchange import Admission, HTTPRequest, HTTPResponse
from gateway.framing import Frames, Misframed, TooLong
from gateway.limits import Limits

log = logging.getLogger("gateway")

_JSON = "application/json"
_NEVER = float("inf")
_SWEEP = 1.0  # seconds; how late a timeout may come
_TURN = 32  # messages of one connection, after which it is the others' turn


class _OneHeader(Mapping[str, str]):
    """The headers that a POST of JSON-RPC would have; the name is found in any case."""

    def __getitem__(self, name: str) -> str:
        if name.lower() != "content-type":
            raise KeyError(name)
        return _JSON

    def __iter__(self) -> Iterator[str]:
        return iter(("Content-Type",))

    def __len__(self) -> int:
        return 1


_HEADERS = _OneHeader()


class TCPHost:
    """A TCP server for one door.

    ``target`` is the path that the calls are as good as POSTed to.

    Attributes:
        calls: the calls whose answers take their time.

    """

    def __init__(self, admit: Admission, limits: Limits, target: str) -> None:
        self.calls: set[asyncio.Task[None]] = set()
        self.admit = admit
        self.limits = limits
        self.target = target
        self.connections: set[_Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None

    async def serve(self, sockets: Iterable[socket.socket], framing: Callable[[int], Frames]) -> None:
        """Accept on sockets that are bound (gateway/hosts/listening.py), which are the host's own from now on.

        ``framing`` makes the frames of a connection from the most bytes of a message.
        """
        loop = asyncio.get_running_loop()
        for bound in sockets:
            self._servers.append(
                await loop.create_server(
                    lambda: _Connection(self, framing(self.limits.max_body)), sock=bound, backlog=self.limits.backlog
                )
            )
        self._sweep()

    def stop(self) -> None:
        """Accept nothing more; what is connected goes on."""
        for server in self._servers:
            server.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self.connections):
            connection.close()

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self.connections):
            if connection.due < now:
                connection.close()
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)


class _Connection(asyncio.Protocol):
    """A client's connection.

    ``due`` is when it is closed if nothing happens until then: idle, in the middle of a message, or with answers that
    the client does not read.
    """

    def __init__(self, host: TCPHost, frames: Frames) -> None:
        self.due = _NEVER
        self._host = host
        self._frames = frames
        self._received: deque[bytes] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._next: asyncio.Handle | None = None
        self._begun = _NEVER
        self._is_clogged = False
        self._ends = False
        self._lingers = False
        self._head: HTTPRequest
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the client in, or not (called by the event loop)."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the same methods, but another class
        peer = (transport.get_extra_info("peername") or ("",))[0]
        self._head = HTTPRequest(method="POST", target=self._host.target, headers=_HEADERS, peer=peer)
        self._host.connections.add(self)
        admitted = self._host.admit(self._head)
        if isinstance(admitted, HTTPResponse):
            self._end_with(admitted)
        self._settle()

    def data_received(self, data: bytes) -> None:
        """Take messages (called by the event loop)."""
        if self._ends:
            return
        try:
            self._received += self._frames.feed(data)
        except TooLong:
            admitted = self._host.admit(self._head)
            self._end_with(admitted if isinstance(admitted, HTTPResponse) else admitted.too_large())
        except Misframed:
            self._received.append(b"")  # what is no frame is no JSON either, and is answered so
            self._ends = self._lingers = True
        if not self._frames.unfinished():
            self._begun = _NEVER
        elif self._begun == _NEVER:
            self._begun = time.monotonic()
        self._go_on()

    def eof_received(self) -> bool:
        """Answer what has been asked, and close then (called by the event loop)."""
        self._ends = True
        self._lingers = False
        self._settle()
        return True

    def pause_writing(self) -> None:
        """Begin nothing more while answers are not read (called by the event loop)."""
        self._is_clogged = True
        self._settle()

    def resume_writing(self) -> None:
        """Go on (called by the event loop)."""
        self._is_clogged = False
        self._go_on()

    def connection_lost(self, error: Exception | None) -> None:
        """Cancel what runs for a client that is gone (called by the event loop)."""
        self._host.connections.discard(self)
        self._received.clear()
        for call in self._calls:
            call.cancel()

    def close(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def _go_on(self) -> None:
        """Begin a few of the calls that have come."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        for _ in range(_TURN):
            if not self._received or self._is_clogged or len(self._calls) >= self._host.limits.in_flight:
                break
            self._begin(self._received.popleft())
        else:
            self._next = asyncio.get_running_loop().call_soon(self._go_on)
        self._settle()

    def _begin(self, message: bytes) -> None:
        call = start(self._serve(message))
        if call is not None:
            self._calls.add(call)
            self._host.calls.add(call)
            call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._host.calls.discard(call)
        if self._next is None:
            self._go_on()

    async def _serve(self, message: bytes) -> None:
        admitted = self._host.admit(self._head)
        try:
            response = admitted if isinstance(admitted, HTTPResponse) else await admitted.answer(message)
        except Exception:
            log.exception("the door raised, which it never should")
            self.close()
            return
        if response.body and not self._transport.is_closing():
            self._transport.write(self._frames.frame(response.body))

    def _end_with(self, refusal: HTTPResponse) -> None:
        """Say why nothing more is taken; a refusal that is no JSON is for HTTP."""
        self._ends = self._lingers = True
        if dict(refusal.headers).get("Content-Type") == _JSON:
            self._transport.write(self._frames.frame(refusal.body))

    def _settle(self) -> None:
        """Read on or not, end or not, and set the time until something has to happen."""
        if self._transport.is_closing():
            return
        busy = bool(self._calls or self._received)
        if not self._ends and (self._received or len(self._calls) >= self._host.limits.in_flight):
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
        self.due = self._next_due(busy=busy)
        if self._ends and not busy:
            self._end()

    def _next_due(self, *, busy: bool) -> float:
        limits, now = self._host.limits, time.monotonic()
        if self._is_clogged:
            return min(self.due, now + limits.body_timeout)
        if busy:
            return _NEVER
        if self._ends:
            return min(self.due, now + limits.linger)
        return now + limits.idle_timeout if self._begun == _NEVER else self._begun + limits.body_timeout

    def _end(self) -> None:
        """Close when all is written; after a refusal read a while longer, for closing would reset the connection."""
        if not self._lingers:
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()
