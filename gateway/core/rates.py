"""How many calls a caller may make: token buckets in memory that all workers share.

    charge(caller) -> 0.0        the call may be made, and has been charged
                   -> seconds    it may not; after so many seconds it may

A bucket is the "generic cell rate algorithm" (ITU-T I.371): of each caller only one time is kept, at which its bucket
would be full again. So a bucket is 16 bytes of a table that is mapped before the workers are forked: every worker sees
what the others have charged, and a flood of addresses takes no memory. Nothing is locked, because a worker that is
killed would never unlock it; two workers that charge the same caller in the same microsecond may count one call less.
"""

import mmap
import time
from collections.abc import Iterator

from gateway.model.calls import Caller
from gateway.model.limits import Limits

_BUCKETS = 2**16
_NEIGHBOURS = 8  # places in which a caller's bucket may be; with 65,536 of them, collisions stay rare up to some 30,000
_MASK = 2**64 - 1
_ROUNDING = 1e-9  # seconds


class _Share:
    """A caller's bucket, and the place where it was last."""

    __slots__ = ("burst", "full_at", "name", "period", "place")

    def __init__(self, name: str, rate: float, burst: int) -> None:
        self.name = hash(name) & _MASK
        self.period = 1 / rate
        self.burst = burst / rate
        self.place = 0
        self.full_at = 0.0


class Buckets:
    """A table of buckets, to be made before the workers are forked that share it."""

    def __init__(self) -> None:
        table = memoryview(mmap.mmap(-1, _BUCKETS * 16))
        self._names = table[: _BUCKETS * 8].cast("Q")
        self._full_at = table[_BUCKETS * 8 :].cast("d")

    def charge(self, name: str, rate: float, burst: int) -> float:
        """Take one call out of a bucket; returns 0, or the seconds until there is one in it."""
        now = time.monotonic()
        place = self._place(hash(name) & _MASK, now)
        full_at = max(self._full_at[place], now) + 1 / rate
        wait = full_at - now - burst / rate
        if wait > _ROUNDING:
            return wait
        self._full_at[place] = full_at
        return 0.0

    def has_room(self, share: _Share, now: float) -> bool:
        """Tell whether there is a call in a bucket, and note when it will be full again without that."""
        if self._names[share.place] != share.name:
            share.place = self._place(share.name, now)
        share.full_at = max(self._full_at[share.place], now) + share.period
        return share.full_at - now - share.burst <= _ROUNDING

    def take(self, share: _Share) -> None:
        """Take out the call that ``has_room`` has found."""
        self._full_at[share.place] = share.full_at

    def _place(self, name: int, now: float) -> int:
        """Find a caller's bucket, or make one in the place of that which is full, or will be the soonest."""
        places = [(name + offset) % _BUCKETS for offset in range(_NEIGHBOURS)]
        for place in places:
            if self._names[place] == name:
                return place
        place = min(places, key=self._full_at.__getitem__)
        self._names[place], self._full_at[place] = name, now
        return place


class Meter:
    """The buckets of one caller. It remembers their places, and so takes a tenth of the time of ``charge``."""

    def __init__(self, buckets: Buckets, shares: tuple[_Share, ...]) -> None:
        self._buckets = buckets
        self._shares = shares

    def is_ready(self) -> bool:
        """Tell whether a call may be made now; nothing is charged yet."""
        now = time.monotonic()
        for share in self._shares:  # noqa: SIM110 - a generator would take longer than the loop
            if not self._buckets.has_room(share, now):
                return False
        return True

    def charge(self) -> None:
        """Charge the call that was just found to be allowed."""
        for share in self._shares:
            self._buckets.take(share)


class RateLimits:
    """The rates and bursts of the limits, for clients and for keys; a rate of 0 means no limit."""

    def __init__(self, limits: Limits, buckets: Buckets) -> None:
        self._limits = limits
        self._buckets = buckets

    def charge(self, caller: Caller) -> float:
        """Charge one call to the caller's address, and to its key where it has one."""
        for limit in self._limits_of(caller):
            wait = self._buckets.charge(*limit)
            if wait:
                return wait
        return 0.0

    def meter(self, caller: Caller) -> Meter | None:
        """Return what charges a caller often; None where it is never charged."""
        shares = tuple(_Share(*limit) for limit in self._limits_of(caller))
        return Meter(self._buckets, shares) if shares else None

    def _limits_of(self, caller: Caller) -> Iterator[tuple[str, float, int]]:
        """Iterate over the names, rates and bursts of the buckets that a call is taken out of."""
        limits = self._limits
        if limits.client_rate:
            yield f"client {_shared(caller.client)}", limits.client_rate, limits.client_burst
        if limits.key_rate and caller.key is not None:
            yield f"key {caller.key}", limits.key_rate, limits.key_burst


def _shared(client: str) -> str:
    """Return what shares a bucket: an IPv4 address, or the /64 of an IPv6 one, of which everybody has the whole."""
    return ":".join(_groups(client)[:4]) if ":" in client else client


def _groups(client: str) -> list[str]:
    head, gap, tail = client.partition("::")
    before, after = head.split(":") if head else [], tail.split(":") if tail else []
    return [*before, *(["0"] * (8 - len(before) - len(after)) if gap else []), *after]
