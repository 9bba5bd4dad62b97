"""TLS between a socket and a connection of HTTP: a protocol to its transport, and a transport to the connection.

The loops have TLS of their own, but do not tell how much of a response the client has not taken, give up a handshake
and a slow client by clocks of theirs, and wait for the other side when they close. Here all of that is up to the host,
as it is in the clear.

Whatever goes wrong closes the connection and is not logged: anybody may send anything.
"""

import asyncio
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol

_PIECE = 2**16  # bytes that are decrypted or encrypted at once


class Secured(Protocol):
    """What speaks through TLS."""

    certificate: str | None

    def handshake_begun(self, transport: Any) -> None:
        """Take note of what may be closed from now on."""

    def connection_made(self, transport: Any) -> None:
        """Begin, now that the handshake is over."""

    def data_received(self, data: bytes) -> None:
        """Take what has come."""

    def eof_received(self) -> bool | None:
        """Take note that nothing more comes; true to keep the other direction open."""

    def connection_lost(self, error: Exception | None) -> None:
        """End."""

    def pause_writing(self) -> None:
        """Take note that the client has not taken all that was written."""

    def resume_writing(self) -> None:
        """Take note that it has."""


class TLS(asyncio.Protocol):
    """One connection in TLS."""

    __slots__ = ("_incoming", "_inner", "_is_blocked", "_is_shaken", "_outgoing", "_tls", "_transport")

    def __init__(self, inner: Secured, context: ssl.SSLContext) -> None:
        self._inner = inner
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._is_shaken = False
        self._is_blocked = False
        self._transport: Any = None

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the client to begin."""
        self._transport = transport
        self._transport.set_write_buffer_limits(0)
        self._inner.handshake_begun(self)

    def data_received(self, data: bytes) -> None:
        """Decrypt, and pass on what was said."""
        self._incoming.write(data)
        if self._is_shaken or self._shakes_hands():
            self._read()

    def eof_received(self) -> bool | None:
        """Pass on that nothing more comes."""
        return self._is_shaken and self._inner.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """Pass on that it is over."""
        self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        """Pass on that the client has not taken all that was written; not while it shakes hands."""
        self._is_blocked = True
        if self._is_shaken:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it has."""
        self._is_blocked = False
        if self._is_shaken:
            self._inner.resume_writing()

    # What the connection calls

    def write(self, data: bytes) -> None:
        """Encrypt and write."""
        left = memoryview(data)
        with suppress(ssl.SSLError):  # it is broken already
            while left:
                left = left[self._tls.write(left[:_PIECE]) :]
        self._flush()

    def writelines(self, pieces: Iterable[bytes]) -> None:
        """Encrypt and write several pieces, as if they were one."""
        self.write(b"".join(pieces))

    def write_eof(self) -> None:
        """Say that nothing more is written (RFC 8446, 6.1)."""
        self._say_goodbye()
        self._transport.write_eof()

    def close(self) -> None:
        """Say so, and close; at once where it still shakes hands."""
        if not self._is_shaken:
            self._transport.abort()
            return
        self._say_goodbye()
        self._transport.close()

    def is_closing(self) -> bool:
        """Tell whether it was closed."""
        closing: bool = self._transport.is_closing()
        return closing

    def abort(self) -> None:
        """Close at once, and throw away what is unsent."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """Leave in the kernel what still comes."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the client has not taken."""
        size: int = self._transport.get_write_buffer_size()
        return size

    def set_write_buffer_limits(self, high: int) -> None:
        """Leave them at 0."""

    def _shakes_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except (OSError, ValueError):  # an SSLError is an OSError
            self._flush()  # it may tell the client why
            self._transport.close()
            return False
        self._flush()
        self._is_shaken = True
        self._inner.certificate = self._common_name()
        self._inner.connection_made(self)
        if self._is_blocked:
            self._inner.pause_writing()
        return True

    def _read(self) -> None:
        pieces, is_over = [], False
        try:
            while piece := self._tls.read(_PIECE):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except OSError:  # also SSLZeroReturnError: the client has said that nothing more comes
            is_over = True
        self._flush()
        if pieces:
            self._inner.data_received(b"".join(pieces))
        if is_over and not self._transport.is_closing() and not self._inner.eof_received():
            self.close()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())

    def _say_goodbye(self) -> None:
        with suppress(OSError, ValueError):
            self._tls.unwrap()
        self._flush()

    def _common_name(self) -> str | None:
        """Return the common name of the client's certificate, which has been verified; None without exactly one."""
        subject: Any = (self._tls.getpeercert() or {}).get("subject", ())
        names: list[str] = [value for attributes in subject for name, value in attributes if name == "commonName"]
        return names[0] if len(names) == 1 else None
