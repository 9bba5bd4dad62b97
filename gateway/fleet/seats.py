"""Which instance of an upstream a call goes to, and which are out of service, judged by how calls have ended.

    seats = Seats("ewma", slow_start=20.0)
    seats.update(listing, now, since_1970)          the instances that there are
    seat = seats.pick(now)                          None: there is none
    seats.begin(seat, attempt, now)                 ``attempt`` is whatever stands for this call
    seats.end(seat, attempt, "refused", now)        whether this has put it out of service, or back

There is no clock in here: ``now`` is an argument, in seconds of any clock that only grows. Nothing is shared between
workers: each learns what it must know from its own calls.
"""

import random
from bisect import bisect_right
from collections.abc import Collection, Sequence
from functools import lru_cache
from hashlib import blake2b
from heapq import heapify, heapreplace
from itertools import chain
from math import exp, inf
from struct import Struct
from typing import Any, Literal, TypeAlias

from gateway.fleet.listing import Instance, Listing

Balance: TypeAlias = Literal["ewma", "round-robin", "random", "least", "hash"]
Ended: TypeAlias = Literal["ok", "failed", "bad", "late", "refused", "lost", "cancelled"]
"""How a call has ended at an instance.

``ok``: with a result, or a fault of the service's own; ``failed``: the service has failed inside; ``bad``: the
connection broke, or the response is not one, or the instance is overloaded; ``late``: no response in time; ``refused``:
it cannot be reached; ``lost``: another instance was faster; ``cancelled``: it tells nothing.
"""
Turn: TypeAlias = Literal["out", "back"]

_DECAY = 10.0  # seconds in which what was seen counts for a third
_PENALTY = 1.0  # seconds that a failure counts for at least; less, and an instance that fails fast would attract calls
_UNKNOWN = 1.0  # seconds that a call is expected to take where none has ended yet
_ROW = 5  # failures one after the other that put an instance out of service
_IMPATIENT = 0.25  # seconds; a caller who waits for less than that, and than usual, tells nothing of the instance
_FIRST_PAUSE, _LAST_PAUSE = 1.0, 30.0  # seconds out of service
_LEAST_SHARE = 0.1  # of the weight of an instance that has just begun
_SCANNED = 16  # seats of which the least busy one is looked for; of more, the less busy one of two
_POINTS = 160  # of each instance on the ring
_EIGHT = Struct(">8Q")  # the points in a digest
_MOST_LEFT = 100.0  # attempts that a budget has at most
_MOST_LOAD = 1.25  # of the mean of running calls, that an instance may have by its keys


class Seat:
    """What is known of one instance.

    Attributes:
        instance: the instance.
        running: the calls that run there, and when they began, the oldest first.
        streams: those that have begun to respond, and go on for as long as they like.
        ewma: seconds that calls take, the last ones counting most; 0 where none has ended yet.
        seen: when the last one of these ended.
        failures: one after the other, since the last success.
        is_out: whether it is out of service.
        until: when a connection is to be tried, where it is.
        error: the last failure, for operators.
        is_gone: whether the present listing has it no more.
        held: whatever is kept with it by who calls the instance.

    """

    __slots__ = (
        "error",
        "ewma",
        "failures",
        "held",
        "instance",
        "is_gone",
        "is_out",
        "pause",
        "running",
        "seen",
        "since",
        "streams",
        "until",
    )

    def __init__(self, instance: Instance, since: float) -> None:
        self.instance = instance
        self.since = since
        self.running: dict[object, float] = {}
        self.streams: set[object] = set()
        self.ewma = 0.0
        self.seen = 0.0
        self.failures = 0
        self.is_out = False
        self.until = 0.0
        self.pause = _FIRST_PAUSE
        self.error = ""
        self.is_gone = False
        self.held: Any = None

    def cost(self, now: float) -> float:
        """Return what one more call would cost here: seconds that it would take, by all that run."""
        expected = self.ewma * exp((self.seen - now) / _DECAY)
        running = self.running
        if not running:
            return expected if not self.streams else (expected or _UNKNOWN) * (len(self.streams) + 1)
        age = now - next(iter(running.values()))
        expected = expected or _UNKNOWN
        return (expected if expected > age else age) * (len(running) + len(self.streams) + 1)  # noqa: FURB136 - max() takes longer

    def load(self) -> int:
        """Count the calls that run there, streams among them."""
        return len(self.running) + len(self.streams)

    def see(self, seconds: float, now: float) -> None:
        """Take note that a call took so long: more at once, less by and by."""
        old = exp((self.seen - now) / _DECAY)
        self.ewma = seconds if seconds > self.ewma else self.ewma * old + seconds * (1 - old)
        self.seen = now

    def weight(self, now: float, slow_start: float) -> float:
        """Return its share of the calls; one that has begun less than ``slow_start`` seconds ago has less."""
        if not slow_start or now - self.since >= slow_start:
            return self.instance.weight
        return self.instance.weight * max(_LEAST_SHARE, (now - self.since) / slow_start)


class Seats:
    """The seats of one upstream in one process.

    Arguments:
        balance: how one is chosen. ``ewma``: of two drawn by weight the one with the lower cost; ``least``: the one
            with the fewest calls for its weight; ``hash``: by a key.
        slow_start: seconds until a new instance has its full share.
        source: of random numbers in [0, 1).
        is_sticky: whether a key stays with its instance however many calls run there.

    Attributes:
        all: the seats, in the order of the listing.
        running: the calls that run on all of them.
        is_by_key: whether a key decides, and so must decide alike in all workers.

    """

    def __init__(
        self,
        balance: Balance = "ewma",
        slow_start: float = 0.0,
        source: random.Random | None = None,
        *,
        is_sticky: bool = False,
    ) -> None:
        self.all: list[Seat] = []
        self.running = 0
        self._balance = balance
        self._slow_start = slow_start
        self._random = (source or random.Random()).random  # noqa: S311 - nothing depends on who could guess it
        self._candidates: list[Seat] = []
        self._members: set[Seat] = set()
        self._weights: list[float] = []
        self._sums: list[float] = []
        self._turns: list[tuple[float, int, Seat, float]] = []
        self._ring: list[int] = []
        self._owners: list[Seat] = []
        self._is_even = True
        self._choose = {
            "ewma": self._cheaper,
            "random": self._drawn,
            "round-robin": self._in_turn,
            "least": self._least_busy,
            "hash": self._hashed,
        }[balance]
        self.is_by_key = balance == "hash"
        self._most_load = inf if is_sticky else _MOST_LOAD
        self._until = -inf  # when the candidates are to be gathered again

    def update(self, listing: Listing, now: float, since_1970: float) -> tuple[list[Seat], list[Seat]]:
        """Take the instances that there are from now on; what is known of those that stay is kept.

        Args:
            listing: no address twice.
            now: the time.
            since_1970: the same time, as ``Instance.started`` has it.

        Returns:
            the seats that are new, and those that are gone. Calls that run on the latter have to be ended as always.

        """
        known = {_identity(seat.instance): seat for seat in self.all}
        seats: list[Seat] = []
        added: list[Seat] = []
        for instance in listing:
            seat = known.pop(_identity(instance), None)
            if seat is None:
                started = instance.started
                first = now if self.all else -inf  # of a whole list, none is newer than the others
                seat = Seat(instance, first if started is None else now - max(0.0, since_1970 - started))
                added.append(seat)
            seat.instance = instance
            seats.append(seat)
        self.all = seats
        self._until = -inf
        if self._balance == "hash":
            self._ring, self._owners = _ring(seats)
        for seat in known.values():
            seat.is_gone = True
        return added, list(known.values())

    def in_service(self) -> int:
        """Count the seats that are in service."""
        return sum(not seat.is_out for seat in self.all)

    def pick(self, now: float, tried: Sequence[Seat] = (), key: bytes = b"") -> Seat | None:
        """Choose the seat of a call. Where all are out of service, all are candidates.

        Args:
            now: the time.
            tried: the seats that it must not be.
            key: what decides with ``hash``.

        """
        if now >= self._until:
            self._gather(now)
        if tried and not self.is_by_key:
            return self._next(now, tried)
        return self._choose(now, tried, key)

    def begin(self, seat: Seat, attempt: object, now: float) -> None:
        """Let a call run there."""
        seat.running[attempt] = now
        self.running += 1

    def end(self, seat: Seat, attempt: object, ended: Ended, now: float) -> Turn | None:
        """Take note of how a call has ended, and of what that means for its instance.

        Raises:
            KeyError: it does not run there.

        """
        seconds = now - seat.running.pop(attempt)
        self.running -= 1
        if ended == "ok":
            turn = self._recovered(seat) if seat.failures else None
            seat.see(seconds, now)
            return turn
        if ended == "cancelled" or (ended == "late" and seconds < min(seat.ewma, _IMPATIENT)):
            return None
        seat.see(seconds if ended == "lost" else max(seconds, _PENALTY), now)
        if ended in ("bad", "late", "refused"):
            seat.failures += 1
            if not seat.is_out and (ended == "refused" or self._may_go(seat)):
                return self._out(seat, now)
        return None

    def flow(self, seat: Seat, attempt: object, now: float) -> Turn | None:
        """Take note that a call has begun to respond with a stream: as a call, it has ended well."""
        turn = self.end(seat, attempt, "ok", now)
        seat.streams.add(attempt)
        self.running += 1
        return turn

    def ebb(self, seat: Seat, attempt: object) -> None:
        """Take note that a stream has ended."""
        seat.streams.discard(attempt)
        self.running -= 1

    def refuse(self, seat: Seat, now: float) -> Turn | None:
        """Put a seat out of service, because no connection to it could be made."""
        seat.failures += 1
        return None if seat.is_out else self._out(seat, now)

    def back(self, seat: Seat) -> Turn | None:
        """Put a seat back into service, because a connection to it could be made; its next failure ends that."""
        seat.failures = _ROW - 1
        return self._back(seat) if seat.is_out else None

    def stay_out(self, seat: Seat, now: float) -> None:
        """Leave a seat out of service, because no connection to it could be made."""
        seat.pause = min(2 * seat.pause, _LAST_PAUSE)
        seat.until = now + seat.pause * (0.9 + 0.2 * self._random())

    def _may_go(self, seat: Seat) -> bool:
        """Tell whether failures put it out: half of the seats stay, for overload looks like failure."""
        return seat.failures >= _ROW and 2 * (len(self.all) - self.in_service() + 1) <= len(self.all)

    def _out(self, seat: Seat, now: float) -> Turn:
        seat.is_out = True
        seat.until = now + seat.pause * (0.9 + 0.2 * self._random())
        self._until = -inf
        return "out"

    def _recovered(self, seat: Seat) -> Turn | None:
        """Forget the failures of a seat, which has some where it is out, or was until now."""
        seat.failures, seat.pause = 0, _FIRST_PAUSE
        return self._back(seat) if seat.is_out else None

    def _back(self, seat: Seat) -> Turn:
        seat.is_out = False
        seat.ewma = 0.0  # one call at a time until there is news of it
        self._until = -inf
        return "back"

    def _gather(self, now: float) -> None:
        """Note who may be picked, with which weight, until something changes; for a second while one starts slowly."""
        willing = [seat for seat in self.all if seat.instance.weight > 0]
        serving = [seat for seat in willing if not seat.is_out]
        first = min((seat.instance.priority for seat in serving), default=0)
        self._candidates = [seat for seat in serving if seat.instance.priority == first] or willing
        self._members = set(self._candidates)
        self._weights = [seat.weight(now, self._slow_start) for seat in self._candidates]
        self._sums = _sums(self._weights)
        self._is_even = len(set(self._weights)) == 1
        warming = self._slow_start and any(now - seat.since < self._slow_start for seat in self._candidates)
        self._until = now + 1.0 if warming else inf
        if self._balance == "round-robin":
            draw = self._random  # so that workers do not begin with the same one
            turns = zip(self._candidates, self._weights, strict=True)
            self._turns = [(draw() / weight, index, seat, 1 / weight) for index, (seat, weight) in enumerate(turns)]
            heapify(self._turns)

    def _cheaper(self, now: float, _: Sequence[Seat], __: bytes) -> Seat | None:
        """Draw two, and choose the one with the lower cost."""
        seats = self._candidates
        count = len(seats)
        if count < 2:
            return seats[0] if seats else None
        if self._is_even:
            first, second = int(self._random() * count), int(self._random() * (count - 1))
            second += second >= first
        else:
            first = self._draw()
            second = self._draw_other(first)
        one, other = seats[first], seats[second]
        return other if other.cost(now) < one.cost(now) else one

    def _drawn(self, _: float, __: Sequence[Seat], ___: bytes) -> Seat | None:
        return self._candidates[self._draw()] if self._candidates else None

    def _in_turn(self, _: float, __: Sequence[Seat], ___: bytes) -> Seat | None:
        if not self._turns:
            return None
        due, index, seat, step = self._turns[0]
        heapreplace(self._turns, (due + step, index, seat, step))
        return seat

    def _least_busy(self, _: float, __: Sequence[Seat], ___: bytes) -> Seat | None:
        seats = self._candidates
        if len(seats) < 2:
            return seats[0] if seats else None
        first = self._draw()
        if len(seats) <= _SCANNED:
            return self._least(first)
        one, other = seats[first], seats[self._draw_other(first)]
        return other if other.load() < one.load() else one

    def _draw(self) -> int:
        sums = self._sums
        return min(bisect_right(sums, self._random() * sums[-1]), len(sums) - 1)

    def _draw_other(self, first: int) -> int:
        """Draw one of the others."""
        sums, weight = self._sums, self._weights[first]
        drawn = self._random() * (sums[-1] - weight)
        if drawn >= sums[first] - weight:
            drawn += weight
        found = min(bisect_right(sums, drawn), len(sums) - 1)
        return found if found != first else first - 1  # by rounding alone

    def _least(self, first: int) -> Seat:
        """Find the least busy one, looking at each, beginning with one that was drawn."""
        seats, weights = self._candidates, self._weights
        order = [*range(first, len(seats)), *range(first)]
        return seats[min(order, key=lambda index: (seats[index].load() + 1) / weights[index])]

    def _next(self, now: float, tried: Sequence[Seat]) -> Seat | None:
        """Choose among those that were not tried."""
        left = [seat for seat in self._candidates if seat not in tried]
        if not left:
            return None
        sums = _sums([seat.weight(now, self._slow_start) for seat in left])
        drawn = (left[min(bisect_right(sums, self._random() * sums[-1]), len(left) - 1)] for _ in range(2))
        return min(drawn, key=lambda seat: seat.cost(now))

    def _hashed(self, _: float, tried: Sequence[Seat], key: bytes) -> Seat | None:
        """Go around the ring from the key on, to the first instance that has not more than its share of calls."""
        candidates, owners = self._members, self._owners
        most = self._most_load * (self.running + 1) / max(1, len(candidates))
        start = bisect_right(self._ring, int.from_bytes(blake2b(key, digest_size=8).digest()))
        passed: Seat | None = None
        for index in range(start - len(owners), start):
            seat = owners[index]
            if seat in candidates and seat not in tried:
                if seat.load() < most:
                    return seat
                passed = passed or seat
        return passed


class Budget:
    """How many attempts may be made beside the first ones, so that no storm of them follows a failure.

    Arguments:
        ratio: extra attempts for each call, in the long run.

    """

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._left = 10.0 if ratio else 0.0
        self._earned = 0  # calls since the last look at what is left

    def earn(self) -> None:
        """Count a call."""
        self._earned += 1

    def spend(self) -> bool:
        """Take an extra attempt, if one is left."""
        self._left = min(_MOST_LEFT, self._left + self._earned * self._ratio)
        self._earned = 0
        if self._left < 1:
            return False
        self._left -= 1
        return True


def subset(listing: Listing, most: int, slot: int, seed: int) -> Listing:
    """Take the part of a long listing that one worker has connections to; workers together have all of it.

    Args:
        listing: the instances.
        most: how many are taken; up to twice as many are left as they are.
        slot: the number of the worker.
        seed: the same for all workers that share the calls.

    """
    parts = len(listing) // most
    if parts < 2:
        return listing
    turn, part = divmod(slot, parts)
    salt = b"%d %d" % (seed, turn)
    mixed = sorted(listing, key=lambda each: blake2b(each.address.encode(), digest_size=8, key=salt[:64]).digest())
    taken = mixed[part * len(mixed) // parts : (part + 1) * len(mixed) // parts]
    return tuple(sorted(taken, key=lambda each: each.address))


def _identity(instance: Instance) -> tuple[str, str]:
    return instance.address, instance.server_name


def _sums(weights: Sequence[float]) -> list[float]:
    total = 0.0
    return [total := total + weight for weight in weights]


@lru_cache(maxsize=4096)
def _points(address: str) -> tuple[int, ...]:
    digests = (blake2b(f"{address} {number}".encode()).digest() for number in range(_POINTS // 8))
    return tuple(chain.from_iterable(map(_EIGHT.unpack, digests)))


def _ring(seats: Collection[Seat]) -> tuple[list[int], list[Seat]]:
    """Place each instance on a ring by its address alone, so that all workers agree."""
    placed: dict[int, Seat] = {}
    for seat in seats:
        for point in _points(seat.instance.address):
            placed[point] = seat
    points = sorted(placed)
    return points, [placed[point] for point in points]
