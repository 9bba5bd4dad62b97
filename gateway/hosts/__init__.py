"""Hosts: sockets on one side, the messages of gateway/model/http.py on the other."""

import socket
from collections.abc import Iterable
from typing import Protocol


class Host(Protocol):
    """What serves one endpoint on sockets of this process."""

    def serve(self, sockets: Iterable[socket.socket]) -> None:
        """Accept on sockets that are bound (gateway/hosts/listening.py), which are the host's own from now on."""

    def retire(self) -> None:
        """Accept nothing more. Each connection ends with its next response."""

    async def drain(self, seconds: float) -> None:
        """Wait until all requests are answered, and the answers read; for so long at most. Retire it first."""

    async def close(self) -> None:
        """Close all connections. Retire it first."""

    def connected(self) -> int:
        """Count the connections."""

    def running(self) -> int:
        """Count the requests whose calls run."""
