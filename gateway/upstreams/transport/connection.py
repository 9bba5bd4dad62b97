"""What the connections of all upstreams over a stream have in common: the transport, its pauses, and their end.

class Connection(StreamConnection):
    def data_received(self, data): ...     self._fail(error) ends it, and all of its calls
    def _pending(self): ...                what waits for the outcomes of calls
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from typing import cast

from gateway.upstreams import Outcome

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux has it; it holds until the next acknowledgement


class StreamConnection(asyncio.Protocol):
    """A connection that a Pool can lend."""

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport

    def usable(self) -> bool:
        """Tell whether a new call can be sent."""
        return self._error is None and not self._transport.is_closing()

    def close(self) -> None:
        """Close at once; what is unsent is never sent."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (called by the event loop)."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the same methods, but another class

    def pause_writing(self) -> None:
        """Let calls wait, unsent (called by the event loop)."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let calls go on (called by the event loop)."""
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the calls that wait (called by the event loop)."""
        self._fail(error or EOFError())

    def _pending(self) -> Iterable[Outcome]:
        """Return what waits for the outcomes of calls; what is done does not matter."""
        raise NotImplementedError

    def _fail(self, error: Exception) -> None:
        """Close, and fail all calls; the first error counts."""
        self._error = self._error or error
        self._writable.set()
        self._transport.abort()
        for waiting in list(self._pending()):
            if not waiting.done():
                waiting.set_exception(self._error)

    def _acknowledge(self) -> None:
        """Have the kernel acknowledge at once: a server that waits for it before it writes again loses 40 ms."""
        connected = self._transport.get_extra_info("socket")
        if _QUICKACK is not None and connected is not None:
            with contextlib.suppress(OSError):  # it has just been closed
                connected.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
