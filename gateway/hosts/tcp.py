"""The TCP host: JSON-RPC over plain TCP, without HTTP around it.

    a frame on a socket -> HTTPRequest, as if it had been POSTed -> admit -> answer -> HTTPResponse -> a frame again

The endpoint cannot tell it from HTTP, so methods, limits, faults, deadlines and the log are the same. Calls of one
connection run at the same time, and each answer goes out when it is ready; the id tells whose it is. What is too long
is refused before it is held, and ends the connection, for nobody knows where the next message begins.

What is not a JSON text ends the connection, too, and nothing behind it is run: a web page can have a browser POST to
any port, and its body would be a message like any other. The request line of HTTP gets no answer at all.

A connection is judged when it is made, as the head of a request is, and that holds for its first message. Each later
one is judged again. So rules by address and by method hold here, and rates; a key cannot be shown. A client that
half-closes still gets its answers; the calls of one that is gone are cancelled. When the host retires, each connection
ends with its next answer.
"""

import asyncio
import logging
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

from gateway.hosts.connections import Connections
from gateway.hosts.eager import start
from gateway.model.http import Admission, Admitted, HTTPRequest, HTTPResponse
from gateway.model.limits import Limits
from gateway.wire.framing import Frames, FrameTooLongError, FramingError, is_json

log = logging.getLogger("gateway")

_JSON = "application/json"
_REQUEST_LINE = re.compile(rb"[A-Z]+(?: |\Z)")
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
    """A TCP server for one endpoint.

    Args:
        admit: judges each message.
        limits: what is kept to.
        target: the path that the messages are as good as POSTed to.
        framing: makes the frames of a connection from the most bytes of a message.
        is_proxy: tells which peers bring the connections of many clients.

    Attributes:
        connections: who is connected.
        calls: the calls whose answers take their time.

    """

    def __init__(
        self,
        admit: Admission,
        limits: Limits,
        target: str,
        framing: Callable[[int], Frames],
        is_proxy: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.connections: Connections[_Connection] = Connections(limits, is_proxy)
        self.calls: set[asyncio.Task[None]] = set()
        self.admit = admit
        self.limits = limits
        self.target = target
        self._framing = framing
        self._connecting: set[asyncio.Task[None]] = set()

    def serve(self, sockets: Iterable[socket.socket]) -> None:
        """Accept on sockets that are bound (gateway/hosts/listening.py), which are the host's own from now on."""
        self.connections.serve(sockets, self._connect)

    def retire(self) -> None:
        """Accept nothing more. Each connection ends with its next answer."""
        self.connections.retire()

    async def drain(self, seconds: float) -> None:
        """Wait until all messages are answered and the answers taken; for so long at most. Retire it first."""
        await self.connections.drain(seconds)

    async def close(self) -> None:
        """Close the connections. Retire it first."""
        self.connections.close()

    def connected(self) -> int:
        """Count the connections."""
        return len(self.connections)

    def running(self) -> int:
        """Count the calls that run."""
        return len(self.calls)

    def _connect(self, accepted: socket.socket, peer: str) -> None:
        accepted.setblocking(False)  # noqa: FBT003 - the standard library's
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(self, self._framing(self.limits.max_body), peer)
        self.connections.add(connection)
        connecting = asyncio.get_running_loop().create_task(self._finish(accepted, connection))
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)

    async def _finish(self, accepted: socket.socket, connection: "_Connection") -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, accepted)
        except OSError:  # it is gone already
            self.connections.forget(connection)
            accepted.close()


class _Connection(asyncio.Protocol):
    """A client's connection.

    Attributes:
        peer: the address at its other end.

    """

    def __init__(self, host: TCPHost, frames: Frames, peer: str) -> None:
        self.peer = peer
        self._host = host
        self._frames = frames
        self._head = HTTPRequest(method="POST", target=host.target, headers=_HEADERS, peer=peer, connection=self)
        self._judged: HTTPResponse | Admitted | None = None
        self._received: deque[bytes] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._next: asyncio.Handle | None = None
        self._written = 0
        self._answers: deque[int] = deque()  # where each that is not taken as a whole ends, in all that was written
        self._freed = 0
        self._begun: float | None = None  # when the message was, of which only the beginning is here
        self._is_clogged = False
        self._ends = False
        self._lingers = False
        self._is_made = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the client in, or not (called by the event loop)."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the same methods, but another class
        self._is_made = True
        if self not in self._host.connections:  # it was closed meanwhile
            self._transport.abort()
            return
        self._judged = self._host.admit(self._head)
        if isinstance(self._judged, HTTPResponse):
            self._end_with(self._judged)
        self._settle()

    def data_received(self, data: bytes) -> None:
        """Take messages (called by the event loop)."""
        if self._ends:
            return
        self._host.connections.note_progress(self, len(data))
        before = len(self._received)
        try:
            self._received.extend(self._frames.feed(data))
        except FrameTooLongError:
            admitted = self._judge()
            self._end_with(admitted if isinstance(admitted, HTTPResponse) else admitted.too_large())
        except FramingError as error:
            self._ends = True
            self._lingers = _REQUEST_LINE.match(error.found) is None
            if self._lingers:
                self._received.append(b"")  # what is not a frame is not JSON either, and is answered so
        if not self._frames.unfinished():
            self._begun = None
        elif self._begun is None or len(self._received) > before:
            self._begun = time.monotonic()
        self._go_on()

    def eof_received(self) -> bool:
        """Answer what has been asked, and close then (called by the event loop)."""
        if not self._ends:
            self._received.extend(self._frames.end())
        self._ends = True
        self._lingers = False
        self._go_on()
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
        self._received.clear()
        for call in self._calls:
            call.cancel()
        self._host.connections.forget(self)

    def close(self) -> None:
        """Close it at once."""
        if self._is_made:
            self._transport.abort()
        else:
            self._host.connections.forget(self)

    def descriptor(self) -> int:
        """Return the descriptor of its socket; -1 where there is none yet, or no more."""
        return self._transport.get_extra_info("socket").fileno() if self._is_made else -1

    def reset(self) -> None:
        """Close it at once, and throw away what is unsent."""
        self._transport.abort()

    def unsent(self) -> int:
        """Return how many bytes of answers the client has not taken yet."""
        return self._transport.get_write_buffer_size() if self._is_made else 0

    def held(self) -> int:
        """Return how many bytes of memory hold what the client has not taken: answers go as they are taken whole."""
        taken = self.taken()
        while self._answers and self._answers[0] <= taken:
            self._freed = self._answers.popleft()
        return self._written - self._freed

    def taken(self) -> int:
        """Return how many bytes of answers the client has taken so far."""
        return self._written - self.unsent()

    def _judge(self) -> HTTPResponse | Admitted:
        """Judge a message; the first one was judged with the connection."""
        judged, self._judged = self._judged, None
        return self._host.admit(self._head) if judged is None else judged

    def _write(self, message: bytes) -> None:
        framed = self._frames.frame(message)
        self._written += len(framed)
        self._answers.append(self._written)
        self._transport.write(framed)
        self._host.connections.note_written(self)

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
        if not is_json(message):
            self._received.clear()
            self._ends = True
            self._lingers = _REQUEST_LINE.match(message) is None
            if not self._lingers:
                return
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
        admitted = self._judge()
        try:
            response = admitted if isinstance(admitted, HTTPResponse) else await admitted.answer(message)
        except Exception:
            log.exception("the endpoint raised an exception, which is a bug")
            self.close()
            return
        if response.body and not self._transport.is_closing():
            self._write(response.body)
        self._ends = self._ends or self._host.connections.retired

    def _end_with(self, refusal: HTTPResponse) -> None:
        """Tell why nothing more is taken; a refusal that is not JSON is for HTTP."""
        self._ends = self._lingers = True
        if dict(refusal.headers).get("Content-Type") == _JSON:
            self._write(refusal.body)

    def _settle(self) -> None:
        """Read on or not, end or not, and set the time until something has to happen."""
        if self._transport.is_closing():
            return
        busy = bool(self._calls or self._received)
        if not self._ends and (self._received or len(self._calls) >= self._host.limits.in_flight):
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
        self._set_clock(busy=busy)
        if self._ends and not busy:
            self._end()

    def _set_clock(self, *, busy: bool) -> None:
        connections = self._host.connections
        if busy:
            connections.note_busy(self)
        elif self._ends:
            connections.note_linger(self)
        elif self._begun is None:
            connections.note_idle(self)
        else:
            connections.note_body(self, self._begun)

    def _end(self) -> None:
        """Close when all is written; after a refusal read a while longer, for closing would reset the connection."""
        if not self._lingers:
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()
