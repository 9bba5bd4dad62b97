"""The interface between a host that speaks WebSocket and the gateway: one Session for each connection.

host: head of an upgrade -> HTTPRequest -> admit ->       HTTPResponse, which refuses it
-> Session: ``await session.answer(message)`` for each message
"""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from gateway.model.http import HTTPRequest, HTTPResponse


class Outlet(Protocol):
    """What a session asks of its connection."""

    def send(self, message: bytes) -> None:
        """Send a message that answers none; nothing, where the connection is closed."""

    def is_blocked(self) -> bool:
        """Tell whether the client has not taken all that was written."""

    def changed(self) -> None:
        """Take note that a subscription has ended."""


class Session(Protocol):
    """One connection that was let in.

    Attributes:
        headers: further headers of the response to the upgrade.

    """

    headers: tuple[tuple[str, str], ...]

    @property
    def client(self) -> str:
        """Whose connection it is: the address that a trusted proxy has named, or the peer's."""

    async def answer(self, message: bytes) -> bytes:
        """Answer a message; empty for no answer. Raises nothing. The host sends the answer at once."""

    def open(self, outlet: Outlet) -> None:
        """Begin."""

    def is_open(self) -> bool:
        """Tell whether there are subscriptions: the connection is not idle."""

    def drained(self) -> None:
        """Go on, now that the client has taken all that was written."""

    def retire(self) -> None:
        """End the subscriptions, because the gateway ends."""

    def close(self) -> None:
        """End the subscriptions, because the client is gone."""


class WebSockets(Struct, frozen=True, kw_only=True):
    """What a host speaks WebSocket for.

    Attributes:
        path: where.
        admit: judges an upgrade by its head.
        ping_interval: seconds of silence after which the client is asked whether it is there; 0 for never.
        ping_timeout: seconds that it has to answer.
        idle_timeout: seconds without a message after which the connection is closed.

    """

    path: str
    admit: Callable[[HTTPRequest], HTTPResponse | Session]
    ping_interval: float
    ping_timeout: float
    idle_timeout: float
