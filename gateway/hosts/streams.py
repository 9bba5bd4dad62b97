"""A client's bytes: Tornado's streams, in the clear and in TLS.

    Stream(socket, peer)               ready at once
    TLSStream(socket, peer, context)   shakes hands first: wait_for_handshake()

Whatever goes wrong with a client's connection closes it and is not logged: anybody may send anything. Raises
nothing but what Tornado raises for a stream that is closed.
"""

import re
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tornado import iostream
from tornado.http1connection import HTTP1ServerConnection

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\n\r\n"
_REQUEST_LINE = re.compile(rb"[\r\n]*[!#$%&'*+.^_`|~0-9A-Za-z-]*(?: |$)")  # RFC 9112, 3


class Stream(iostream.IOStream):
    """A client's stream, which sends what it has at once, always.

    Tornado would switch that on and off again around each answer: two system calls, a twentieth of a short call.

    Attributes:
        peer: the address at its other end, without a port.
        certificate: the common name of the client's certificate, if it has shown one.
        server: what reads its requests, once its handshake is over.
        requests: how many heads of requests have been read from it.
        on_large_head: is called once with the stream and the beginning of a head that is too large. All bytes that
            come after that are thrown away.

    """

    # Tornado's attributes fill a dict whose keys are shared: with more, each stream would take a kilobyte more.
    __slots__ = ("_is_refused", "certificate", "on_large_head", "peer", "requests", "server")

    def __init__(self, connection: socket.socket, peer: str, ssl_options: ssl.SSLContext | None = None) -> None:
        super().__init__(connection, **({} if ssl_options is None else {"ssl_options": ssl_options}))
        super().set_nodelay(True)
        self.peer = peer
        self.certificate: str | None = None
        self.server: HTTP1ServerConnection | None = None
        self.requests = 0
        self.on_large_head: Callable[[Stream, str], None] | None = None
        self._is_refused = False

    def descriptor(self) -> int:
        """Return the descriptor of its socket; -1 where it is closed."""
        return -1 if self.closed() else self.socket.fileno()

    def set_nodelay(self, value: bool) -> None:  # noqa: FBT001 - Tornado's signature
        """Leave it on."""

    def has_bytes(self) -> bool:
        """Tell whether the client has sent something that was not asked for yet, or not all of what was."""
        return self._read_buffer_size > 0

    def holds_garbage(self) -> bool:
        """Tell whether what the client has sent behind its last request cannot be the beginning of another one."""
        return self._read_buffer_size > 0 and not _REQUEST_LINE.match(self._read_buffer)

    def refuse_garbage(self) -> None:
        """Answer bytes that cannot begin a request with 400, as the parser would, and close the connection."""
        if not self.closed():
            self.write(BAD_REQUEST)
            self.close()

    def unsent(self) -> int:
        """Return how many bytes of responses the client has not taken yet."""
        return 0 if self.closed() else len(self._write_buffer)

    def held(self) -> int:
        """Return how many bytes of memory hold what the client has not taken: responses go as they are taken whole."""
        return 0 if self.closed() else len(self._write_buffer) + self._write_buffer._first_pos  # noqa: SLF001 - told nowhere else

    def taken(self) -> int:
        """Return how many bytes the client has taken so far, or the kernel for it."""
        return self._total_write_done_index

    def reset(self) -> None:
        """Close it and throw away what is unsent; the kernel would keep trying for minutes."""
        if not self.closed():
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    def _find_read_pos(self) -> int | None:
        try:
            return None if self._is_refused else super()._find_read_pos()
        except iostream.UnsatisfiableReadError:  # Tornado would close without an answer, and so reset the connection
            if self.on_large_head is None:
                raise
            self._is_refused = True
            self.on_large_head(self, self._read_buffer.decode("latin-1"))
            return None
        finally:
            if self._is_refused:
                self._read_buffer.clear()
                self._read_buffer_size = 0

    def _is_connreset(self, exc: BaseException) -> bool:
        return isinstance(exc, OSError)  # Tornado warns of each error that is none of these


class TLSStream(Stream, iostream.SSLIOStream):
    """A client's stream in TLS.

    Raises:
        OSError: the client is gone already, or has sent something and left before its handshake.

    """

    def __init__(self, connection: socket.socket, peer: str, context: ssl.SSLContext) -> None:
        wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        try:
            wrapped.getpeername()  # one that is gone would never be seen to be ready
            super().__init__(wrapped, peer, context)
        except OSError:
            wrapped.close()
            raise

    def common_name(self) -> str | None:
        """Return the common name of the client's certificate, which has been verified; None without exactly one."""
        subject: Any = (self.socket.getpeercert() or {}).get("subject", ())
        names: list[str] = [value for attributes in subject for name, value in attributes if name == "commonName"]
        return names[0] if len(names) == 1 else None

    def close_fd(self) -> None:
        """Send close_notify (RFC 8446, 6.1), if it can be sent at once, and close the socket."""
        with suppress(OSError, ValueError):
            self.socket.unwrap()
        super().close_fd()

    def _do_ssl_handshake(self) -> None:
        # Tornado's own logs a warning for each client that does not speak TLS, or only versions that are refused.
        self._handshake_reading = self._handshake_writing = False
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            self._handshake_reading = True
        except ssl.SSLWantWriteError:
            self._handshake_writing = True
        except OSError as error:
            self.close(exc_info=error)
        else:
            self._ssl_accepting = False
            self._finish_ssl_connect()
