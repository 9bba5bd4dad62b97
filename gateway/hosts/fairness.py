"""What one client may take of a host: connections, and memory for responses that it does not read.

Crowd    connections and proxied requests by client; one too many is refused
Debts    bytes of responses that clients have not taken; above the budget, the slowest readers are closed
"""

import time
from collections.abc import Callable
from typing import Protocol

from gateway.model.networks import client_of

_LOCAL = frozenset({"127.0.0.1", "::1"})  # a proxy on this machine brings the connections of many clients
_RESTED = 1.0  # seconds that a client has to take something before it counts as slow


class Crowd:
    """The connections of each client.

    A client is an IPv4 address or the /64 of an IPv6 address, because one customer has all of a /64. Peers for which
    ``is_proxy`` is true, and those on this machine, are not counted: they bring the connections of many clients.
    """

    def __init__(self, most: int, is_proxy: Callable[[str], bool]) -> None:
        self._most = most
        self._is_proxy = is_proxy
        self._counts: dict[str, int] = {}  # a Counter takes three times as long, for each request that a proxy brings

    def enter(self, peer: str) -> bool:
        """Count a connection; False where the client has too many already, and nothing is counted."""
        if self.brings_many(peer):
            return True
        name = client_of(peer)
        count = self._counts.get(name, 0)
        if count >= self._most:
            return False
        self._counts[name] = count + 1
        return True

    def leave(self, peer: str) -> None:
        """Stop counting a connection."""
        if self.brings_many(peer):
            return
        name = client_of(peer)
        count = self._counts[name] - 1
        if count:
            self._counts[name] = count
        else:
            del self._counts[name]

    def brings_many(self, peer: str) -> bool:
        """Tell whether a peer brings the connections of many clients."""
        return peer in _LOCAL or self._is_proxy(peer)


class Debtor(Protocol):
    """A connection whose client may read slowly."""

    def held(self) -> int:
        """Return how many bytes of memory hold what the client has not taken.

        A response that is partly taken is still held as a whole.
        """

    def taken(self) -> int:
        """Return how many bytes the client has taken so far."""

    def reset(self) -> None:
        """Close the connection, and throw away what is unsent."""


class Debts:
    """Memory for what clients have not taken of their responses: at most ``budget`` bytes and one response more."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._since: dict[Debtor, tuple[float, int]] = {}  # when it was first seen to owe, and what it had taken then
        self._estimate = 0

    def wrote(self, debtor: Debtor) -> None:
        """Note that an answer was written; close the slowest of the others where too much is unsent."""
        held = debtor.held()
        if not held:
            return
        self._since.setdefault(debtor, (time.monotonic(), debtor.taken()))
        self._estimate += held
        if self._estimate <= self._budget:
            return
        self._forget_paid()
        while self._estimate > self._budget and len(self._since) > 1:
            self._close_slowest(debtor)

    def forget(self, debtor: Debtor) -> None:
        """Drop a connection that is closed; not to know it is fine."""
        self._since.pop(debtor, None)

    def _forget_paid(self) -> None:
        self._since = {debtor: since for debtor, since in self._since.items() if debtor.held()}
        self._estimate = sum(debtor.held() for debtor in self._since)

    def _close_slowest(self, writer: Debtor) -> None:
        now = time.monotonic()

        def speed(debtor: Debtor) -> tuple[bool, float, float]:
            since, taken = self._since[debtor]
            return now - since < _RESTED, (debtor.taken() - taken) / max(now - since, _RESTED), since

        slowest = min((debtor for debtor in self._since if debtor is not writer), key=speed)
        self._estimate -= slowest.held()
        del self._since[slowest]
        slowest.reset()
