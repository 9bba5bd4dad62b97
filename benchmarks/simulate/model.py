"""Instances that answer calls, and workers that send them there, on a clock that is a number.

    outcome = simulated(Case(...), "ewma", workers=16)
    outcome.p99, outcome.failed

The workers use gateway/fleet/seats.py as it is, each with a view of its own. A call that has an instance waits there
for one of its places; the instance goes on with it even if its caller has gone.
"""

import random
import statistics
from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush

from msgspec import Struct, field

from gateway.fleet.listing import Instance
from gateway.fleet.seats import Balance, Budget, Ended, Seat, Seats

_CLIENTS = 1000  # of which each call is one's, for hash
_KEPT = 0.2  # of the run, before which nothing counts: everybody is new then


class Server(Struct, frozen=True, kw_only=True):
    """What one instance is like.

    Attributes:
        places: calls that run at once.
        slower: how many times longer calls take; until ``heals``, in seconds.
        fails: the share of calls that fail at once.
        hangs: whether it takes calls and answers none.
        weight: its weight.
        cold: seconds after its start in which calls take up to ten times longer; it starts in the middle of the run.

    """

    places: int = 4
    slower: float = 1.0
    fails: float = 0.0
    hangs: bool = False
    weight: int = 100
    cold: float = 0.0


class Case(Struct, frozen=True, kw_only=True):
    """A fleet, and the calls that it gets.

    Attributes:
        load: the share of all places that are busy, if all instances were as they should be.
        seconds: that a call takes; of several kinds each is as frequent.
        deadline: seconds that a caller waits.
        attempts: of a call that fails, within the budget.
        slow_start: seconds.
        length: of the run, in seconds.

    """

    servers: tuple[Server, ...]
    load: float = 0.6
    seconds: tuple[float, ...] = (0.01,)
    deadline: float = 1.0
    attempts: int = 1
    slow_start: float = 0.0
    length: float = 10.0


class Outcome(Struct, kw_only=True):
    """What has become of the calls.

    Attributes:
        p99: seconds within which 99 of 100 of the shortest kind were answered.
        failed: the share of all calls.

    """

    p99: float
    failed: float


class _Call(Struct, eq=False):
    seconds: float
    key: bytes
    start: float
    attempts: int = 0
    tried: list[Seat] = field(default_factory=list)
    is_over: bool = False


class _Instance:
    """An instance at work."""

    def __init__(self, server: Server, run: "_Run") -> None:
        self.server = server
        self._run = run
        self._busy = 0
        self._queue: deque[tuple[float, Callable[[Ended], None]]] = deque()

    def take(self, seconds: float, ended: Callable[[Ended], None]) -> None:
        """Take a call, and tell at its end how it has ended."""
        run = self._run
        if self.server.hangs:
            return
        if self.server.fails and run.random.random() < self.server.fails:
            run.at(run.now + 0.001, partial(ended, "bad"))
        elif self._busy < self.server.places:
            self._begin(seconds, ended)
        else:
            self._queue.append((seconds, ended))

    def _begin(self, seconds: float, ended: Callable[[Ended], None]) -> None:
        run, server = self._run, self.server
        self._busy += 1
        age = run.now - run.case.length / 2
        warming = max(1.0, 10.0 * (1 - age / server.cold)) if server.cold and age >= 0 else 1.0
        taken = seconds * server.slower * warming * run.random.gammavariate(4, 0.25)
        run.at(run.now + taken, partial(self._end, ended))

    def _end(self, ended: Callable[[Ended], None]) -> None:
        self._busy -= 1
        if self._queue:
            self._begin(*self._queue.popleft())
        ended("ok")


class _Run:
    def __init__(self, case: Case, balance: Balance, workers: int, seed: int) -> None:
        self.case = case
        self.now = 0.0
        self.random = random.Random(seed)  # noqa: S311 - the same seed has the same figures
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._instances = {f"10.0.0.{number}:1": _Instance(each, self) for number, each in enumerate(case.servers)}
        self._workers = [(Seats(balance, case.slow_start, self.random), Budget(0.2)) for _ in range(workers)]
        self._times: list[float] = []
        self._calls = self._failed = 0

    def at(self, time: float, do: Callable[[], None]) -> None:
        """Do something later."""
        self._count += 1
        heappush(self._events, (time, self._count, do))

    def outcome(self) -> Outcome:
        """Run it."""
        case = self.case
        self._list(cold=False)
        if any(server.cold for server in case.servers):
            self.at(case.length / 2, partial(self._list, cold=True))
        places = sum(server.places for server in case.servers)
        rate = case.load * places / statistics.mean(case.seconds)
        time = 0.0
        while time < case.length:
            self.at(time, self._arrive)
            time += self.random.expovariate(rate)
        while self._events:
            self.now, _, do = heappop(self._events)
            do()
        p99 = statistics.quantiles(self._times, n=100)[98] if len(self._times) > 1 else 0.0
        return Outcome(p99=p99, failed=self._failed / max(1, self._calls))

    def _list(self, *, cold: bool) -> None:
        """List the instances, those that start in the middle of the run only then."""
        listing = tuple(
            Instance(address=address, weight=each.server.weight)
            for address, each in self._instances.items()
            if cold or not each.server.cold
        )
        for seats, _ in self._workers:
            seats.update(listing, self.now, 0.0)

    def _arrive(self) -> None:
        seconds = self.random.choice(self.case.seconds)
        call = _Call(seconds, b"%d" % self.random.randrange(_CLIENTS), self.now)
        worker = self.random.choice(self._workers)
        worker[1].earn()
        self._send(call, *worker)

    def _send(self, call: _Call, seats: Seats, budget: Budget) -> None:
        seat = seats.pick(self.now, call.tried, call.key)
        if seat is None:
            self._answer(call, has_failed=True)
            return
        call.attempts += 1
        call.tried.append(seat)
        attempt = object()
        seats.begin(seat, attempt, self.now)

        def end(ended: Ended) -> None:
            if attempt not in seat.running:
                return
            if seats.end(seat, attempt, ended, self.now) == "out":
                self.at(seat.until, lambda: seats.back(seat) and None)
            if ended != "bad":
                self._answer(call, has_failed=ended != "ok")
            elif call.attempts < self.case.attempts and budget.spend():
                self._send(call, seats, budget)
            else:
                self._answer(call, has_failed=True)

        self.at(call.start + self.case.deadline, partial(end, "late"))
        self._instances[seat.instance.address].take(call.seconds, end)

    def _answer(self, call: _Call, *, has_failed: bool) -> None:
        if call.start < _KEPT * self.case.length:
            return
        self._calls += 1
        self._failed += has_failed
        if not has_failed and call.seconds == min(self.case.seconds):
            self._times.append(self.now - call.start)


def simulated(case: Case, balance: Balance, workers: int, seed: int = 1) -> Outcome:
    """Run a case; the same arguments have the same outcome."""
    return _Run(case, balance, workers, seed).outcome()
