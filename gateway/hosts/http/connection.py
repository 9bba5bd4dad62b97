"""A client's connection: what comes, what is written, and when it is closed.

    bytes -> Reader.step -> write -> bytes

What the bytes mean is up to its reader: requests.py has the one that every connection begins with. While the reader
waits, or the client has not taken what was written, nothing more is read but a little: a client that sends on waits for
itself. After _TURN steps that came together it is the others' turn.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any, Protocol

from gateway.hosts.connections import Connections
from gateway.hosts.http.tls import TLS

_TURN = 8  # requests of one connection, after which it is the others' turn; a client may send without waiting
_AHEAD = 2**14  # bytes that are held of a client that does not wait for its responses, beside the last ones read


class Book(Protocol):
    """What a connection asks of its host."""

    connections: "Connections[Connection]"

    def give_up(self, connection: "Connection") -> None:
        """Close a connection that has not begun."""


class Reader(Protocol):
    """What reads what has come, and answers it."""

    def waits(self) -> bool:
        """Tell whether what comes next has to wait."""

    def step(self) -> bool:
        """Read a request and begin to answer it; False where more bytes are needed, or nothing more is read."""

    def drained(self) -> None:
        """Take note that the client has taken all that was written."""

    def ended(self) -> bool:
        """Take note that the client sends nothing more; True where the connection ends with that."""

    def lose(self) -> None:
        """Take note that the connection is closed."""

    def farewell(self) -> bytes:
        """Return what is written before the host closes the connection."""


class Connection(asyncio.Protocol):
    """A client's connection.

    Attributes:
        peer: the address at its other end, without a port.
        certificate: the common name of the client's certificate, if it has shown one.
        reader: what reads it. It is dropped when the connection is closed.
        input: what has come, and was not read
        at: from here on.
        is_blocked: the client has not taken all that was written.
        is_deaf: nothing that still comes is read.
        has_turn: it need not wait for other connections.

    """

    __slots__ = (
        "__weakref__",
        "_book",
        "_has_ended",
        "_is_leaving",
        "_is_reading",
        "_owed",
        "_socket",
        "_transport",
        "_written",
        "at",
        "certificate",
        "has_turn",
        "input",
        "is_blocked",
        "is_deaf",
        "peer",
        "reader",
    )

    def __init__(self, book: Book, accepted: socket.socket, peer: str) -> None:
        self.peer = peer
        self.certificate: str | None = None
        self.reader: Reader
        self.input = b""
        self.at = 0
        self.is_blocked = False
        self.is_deaf = False
        self.has_turn = True
        self._book = book
        self._socket = accepted
        self._transport: Any = None
        self._written = 0  # bytes of all responses
        self._owed = 0  # bytes of those that the client has not taken, as they were written
        self._is_reading = True
        self._is_leaving = False  # it ends with what was written
        self._has_ended = False  # the client sends nothing more

    # What the transport calls

    def handshake_begun(self, transport: Any) -> None:
        """Take note of what is closed if the handshake takes too long."""
        self._transport = transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        self._transport = transport
        self._transport.set_write_buffer_limits(0)  # so that it is blocked exactly while something is unsent
        if not self._book.connections.is_idle(self):
            self._book.connections.note_idle(self)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self.is_deaf:
            return
        self.input = self.input[self.at :] + data if self.input else data
        self.at = 0
        self.go_on()

    def eof_received(self) -> bool:
        """Take note that the client sends nothing more: a call that runs is cancelled, what was written is sent."""
        if self.reader.ended():
            return False
        if self.is_deaf:
            self._is_leaving = True
            return self.is_blocked
        self._has_ended = self.is_blocked or not self.has_turn
        return self._has_ended

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it; a call that runs is cancelled."""
        self.is_deaf = True
        self.input = b""
        self._book.connections.forget(self)
        reader = self.reader
        del self.reader  # which has the connection: whoever watches for the end of that hears of it at once
        reader.lose()

    def pause_writing(self) -> None:
        """Take note that the client has not taken all that was written."""
        self.is_blocked = True

    def resume_writing(self) -> None:
        """Go on, now that it has."""
        self.is_blocked = False
        self._owed = 0
        if self._is_leaving:
            self._transport.close()
        else:
            self.reader.drained()

    # What the book of connections calls

    def descriptor(self) -> int:
        """Return the descriptor of its socket; -1 where it is closed."""
        return self._socket.fileno()

    def unsent(self) -> int:
        """Return how many bytes of responses the client has not taken yet."""
        size: int = self._transport.get_write_buffer_size() if self.is_blocked else 0
        return size

    def held(self) -> int:
        """Return how many bytes of memory hold what the client has not taken: responses go as they are taken whole."""
        return self._owed if self.is_blocked else 0

    def taken(self) -> int:
        """Return how many bytes the client has taken so far, or the kernel for it."""
        return self._written - self.unsent()

    def close(self) -> None:
        """Close it, and throw away what is unsent."""
        self.is_deaf = True
        if self._transport is None:  # not even begun
            self._book.give_up(self)
        elif self.is_blocked:
            self._transport.abort()
        else:
            if farewell := self.reader.farewell():
                self.write(farewell)
            self._transport.close()

    def reset(self) -> None:
        """Close it and throw away what is unsent; the kernel would keep trying for minutes."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    # What its reader calls

    @property
    def scheme(self) -> str:
        """Tell whether the client speaks TLS: https, or http."""
        return "https" if isinstance(self._transport, TLS) else "http"

    def is_closing(self) -> bool:
        """Tell whether nothing more can be written."""
        return bool(self._transport.is_closing())

    def go_on(self) -> None:
        """Read and answer what has come, as far as it goes now."""
        for _ in range(_TURN):
            if self.reader.waits() or not self.reader.step():
                break
        else:
            if self.at < len(self.input):
                self.has_turn = False
                asyncio.get_running_loop().call_soon(self._take_turn)
        if self.at >= len(self.input):
            self.input, self.at = b"", 0
        if self._has_ended and not self.reader.waits() and not self.is_deaf:
            self.leave()
        ahead = len(self.input) - self.at > _AHEAD and self.reader.waits()
        if ahead is self._is_reading and not self._transport.is_closing():
            self._is_reading = not ahead
            (self._transport.pause_reading if ahead else self._transport.resume_reading)()

    def go_on_soon(self) -> None:
        """Do so in the next turn of the event loop."""
        if not self.is_deaf:
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self.has_turn = True
        if not self.is_deaf:
            self.go_on()

    def write(self, data: bytes, rest: bytes = b"") -> None:
        """Write one piece, or two."""
        size = len(data) + len(rest)
        self._written += size
        self._owed = self._owed + size if self.is_blocked else size
        if rest:
            self._transport.writelines((data, rest))
        else:
            self._transport.write(data)
        if self.is_blocked:
            self._book.connections.note_written(self)

    def rest(self) -> None:
        """Wait for the next request, once the client has taken the response."""
        if self.is_blocked:
            self._book.connections.note_busy(self)
        else:
            self._book.connections.note_idle(self)

    def leave(self) -> None:
        """Close it, once the client has taken all that was written."""
        self.is_deaf = True
        if self.is_blocked:
            self._is_leaving = True
            self._book.connections.note_busy(self)
        else:
            self._transport.close()

    def linger(self, response: bytes) -> None:
        """Write a last response, and throw away what still comes, until the client hangs up or for a while."""
        self.is_deaf = True
        self._book.connections.note_linger(self)
        self.write(response)
        with suppress(OSError):  # the client is gone
            self._transport.write_eof()

    def abort(self) -> None:
        """Close it at once, and throw away what is unsent."""
        self.is_deaf = True
        self._transport.abort()
