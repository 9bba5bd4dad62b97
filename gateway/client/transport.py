"""What the core asks of sockets: two flavours of one small interface.

    blocking.py    nothing is ever awaited, so that ``run`` goes through a coroutine of the core in one step
    loop.py        asyncio, or uvloop

All deadlines are on the clock of ``time.monotonic()``; TimeoutError says that one is over. Other errors are OSError.
"""

import ssl
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from gateway.client.address import Address

T = TypeVar("T")


class Stream(Protocol):
    """A connection that one call has at a time.

    ``written`` is set where some byte may have been sent; the core clears it before a call.
    """

    written: bool

    def is_clean(self) -> bool:
        """Tell whether it is open, and nothing has come that nobody has asked for."""

    async def send(self, data: bytes, deadline: float) -> None:
        """Send. Where the connection breaks, a response may be there all the same; if not, ``receive`` says why."""

    async def receive(self, deadline: float) -> bytes:
        """Return what has come, at least a byte; nothing where the other side has closed."""

    def close(self) -> None:
        """Close at once; twice is once."""


class Places(Protocol):
    """So many calls have a connection at once."""

    def take_now(self) -> bool:
        """Take a place if there is one."""

    async def take(self, deadline: float) -> None:
        """Wait for a place."""

    def give_back(self) -> None:
        """Let the next one have it."""


class IO(Protocol):
    """What makes connections."""

    def home(self) -> object:
        """Return what connections belong to: a process, an event loop. They are not used elsewhere."""

    def places(self, count: int) -> Places:
        """Make places."""

    async def connect(self, address: Address, tls: ssl.SSLContext | None, deadline: float) -> Stream:
        """Connect."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits for anything but blocking calls."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    coroutine.close()
    raise RuntimeError("a blocking client has waited for an event loop")
