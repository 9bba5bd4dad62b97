"""The interface between a host that speaks WebSocket and the gateway: one Session for each connection.

host: head of an upgrade -> HTTPRequest -> admit ->       HTTPResponse, which refuses it
-> Session: ``await session.answer(message)`` for each message
"""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from gateway.model.http import HTTPRequest, HTTPResponse


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
        """Answer a message; empty for no answer. Raises nothing."""


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
