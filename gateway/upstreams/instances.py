"""The instances of one upstream in this process: their adapters, which are in service, and what was counted.

    instances = Instances(name, upstream, options, status, counts, directory)
    await instances.follow()                        watch the directory, if there is one
    instances.listed(listing)                       which there are, now and after each change
    instances.seats.begin(seat, attempt, now)       a call runs there ...
    instances.succeed(attempt)                      ... and has ended with a result
    instances.end(attempt, "bad", why)              ... or in another way
    instances.adapter(seat)                         what calls it

Seats (gateway/fleet/seats.py) choose and judge. An instance out of service is tried by a connection, in the background.
The adapter of an instance is made at its first call, and closed when no call has come for a minute and it keeps no
session, or when the instance is no longer listed and its last call has ended, which it has ``drain`` seconds for.
"""

import asyncio
import contextvars
import copy
import functools
import os
import platform
import random
import time
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Literal, NamedTuple, Protocol, cast
from zlib import crc32

from gateway.fleet.listing import Directory, DirectoryStatus, Listing, Watch, fitting
from gateway.fleet.seats import Budget, Ended, Seat, Seats, subset
from gateway.model.faults import BadUpstream
from gateway.upstreams import HealthChecked, Invocation, Options, Stateful, Upstream, UpstreamConfigError
from gateway.upstreams.counting import Counts
from gateway.upstreams.faults import reason
from gateway.upstreams.status import Status, log

_DOUBT = 1.0  # seconds from a failure to a try of the instance, which may get no other call for long
_KEPT = 60.0  # seconds after its last call that connections to an instance are kept
_MOST = 100  # instances that one worker has connections to, where there are at least twice as many


class Running(Protocol):
    """What stands for a call that runs at an instance."""

    seat: Any
    invocation: Invocation


class Attempt:
    """A call at an instance.

    Attributes:
        seat: of the instance.
        invocation: what was sent there.

    """

    __slots__ = ("invocation", "seat")

    def __init__(self, seat: Seat, invocation: Invocation) -> None:
        self.seat = seat
        self.invocation = invocation


class Row(NamedTuple):
    """How an instance is.

    Attributes:
        state: "out" of service, "serving", or "drained": by its weight of 0 it takes no calls.
        seconds: that calls take.
        running: calls that run there.
        error: the last failure.

    """

    address: str
    version: str
    weight: int
    state: Literal["out", "serving", "drained"]
    seconds: float
    running: int
    error: str


class Instances:
    """The instances of one upstream.

    Attributes:
        seats: what is known of each.
        budget: of second attempts.
        counts: see Counts.
        known: set when there has been a list.
        is_sticky: whether a caller stays with the instance that keeps its session.
        list_status: how the directory's list is; None where there is no directory, or it is not watched yet.

    Raises:
        UpstreamConfigError: the upstream cannot have several.

    """

    def __init__(  # noqa: PLR0913, PLR0917 - only the frame makes it
        self,
        name: str,
        upstream: Upstream,
        options: Options,
        status: Status,
        counts: Counts,
        directory: Directory | None = None,
        *,
        drain: float,
    ) -> None:
        if directory is not None and (problem := directory.problem_of(options.directory_service)):
            raise UpstreamConfigError(f"directory_service: {problem}")
        self.is_sticky = getattr(options, "session", "shared") == "caller"
        if self.is_sticky and (options.balance != "ewma" or options.hash_by != "client" or options.hedge):
            raise UpstreamConfigError(
                'session = "caller" decides which instance has a call: leave balance, hash_by and hedge out'
            )
        balance = "hash" if self.is_sticky else options.balance
        self.seats = Seats(balance, options.slow_start, is_sticky=self.is_sticky)
        self.budget = Budget(options.retry_ratio)
        self.counts = counts
        self._name = name
        self._upstream = upstream
        self._options = options
        self._drain = drain
        self._directory = directory
        self._watch: Watch | None = None
        self.known = asyncio.Event()
        self.list_status: DirectoryStatus | None = None
        self._status = status
        self._seed = crc32(f"{platform.node()} {os.getppid()}".encode())  # the same for all workers
        self._slot: int | None = None
        self._listing: Listing = ()
        self._adapters: dict[Seat, Upstream] = {}
        self._probes: dict[Seat, asyncio.TimerHandle] = {}
        self._leaving: dict[Seat, asyncio.TimerHandle] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._checking: asyncio.Task[None] | None = None
        self._late: set[Seat] = set()  # those that did not answer the last question for their health
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False
        self._succeeded: list[tuple[Running, float]] = []  # calls of this turn of the event loop, and when they ended
        if directory is None:
            self.listed(options.instances)

    async def follow(self) -> None:
        """Begin to be told the instances by the directory, if there is one, and wait for the first list."""
        self._is_closed = False
        if self._directory is not None and self._watch is None:
            self._watch = self._directory.watch(self._options.directory_service, self.listed)
            self.list_status = self._watch.status
        if self._options.health and self._checking is None:
            self._checking = asyncio.get_running_loop().create_task(self._check_all(), context=contextvars.Context())
        await self.known.wait()

    def listed(self, listing: Listing) -> None:
        """Take the instances that there are from now on, as far as they are for this upstream."""
        is_first = not self.known.is_set()
        self.known.set()
        scheme = self._options.form.partition(":")[0].lower()
        self._listing = listing = fitting(listing, scheme, self._options.version, self._options.group)
        slot = os.getpid() if self._slot is None else self._slot  # of another server's workers we know no number
        taken = listing if self.seats.is_by_key else subset(listing, _MOST, slot, self._seed)
        added, gone = self.seats.update(taken, time.monotonic(), time.time())
        if (added or gone) and not is_first:
            self._status.came_back()
        for seat in gone:
            self._forget_probe(seat)
            self._late.discard(seat)
            if seat.load():
                self._leaving[seat] = _later(self._drain, functools.partial(self._close, seat))
            else:
                self._close(seat)

    def serve(self, slot: int) -> None:
        """Begin in a process; its slot is a number that no other process of this gateway has."""
        self._slot = slot
        if self.known.is_set():
            self.listed(self._listing)  # another part of it, if it is long

    def adapter(self, seat: Seat) -> Upstream:
        """Return what calls an instance."""
        found: Upstream | None = seat.held
        if found is None:
            found = seat.held = self._adapters[seat] = copy.copy(self._upstream)
            found.aim(seat.instance)
            if self._sweep is None:
                self._sweep = _later(_KEPT, self._close_idle)
        return found

    def home(self, caller: Any) -> Seat | None:
        """Return the instance in service that keeps the session of a caller; a session elsewhere is over."""
        kept = [(used, seat) for seat in self._adapters if (used := self._stateful(seat).used(caller)) is not None]
        serving = [(used, seat) for used, seat in kept if not seat.is_out and not seat.is_gone]
        home = max(serving, key=itemgetter(0))[1] if serving else None
        for _, seat in kept:
            if seat is not home:
                self._stateful(seat).leave(caller)
        return home

    def _stateful(self, seat: Seat) -> Stateful:
        return cast("Stateful", self._adapters[seat])

    def succeed(self, attempt: Running) -> None:
        """Take note that a call has ended with a result, which is judged in the next turn of the event loop.

        All results of a turn together take less time than each by itself, between other work.
        """
        if not self._succeeded:
            asyncio.get_running_loop().call_soon(self._settle, context=contextvars.Context())
        self._succeeded.append((attempt, time.monotonic()))

    def _settle(self) -> None:
        """Judge the instances by the results of this turn."""
        succeeded, self._succeeded = self._succeeded, []
        for attempt, now in succeeded:
            self._end(attempt, "ok", "", now)

    def end(self, attempt: Running, ended: Ended, why: str = "") -> None:
        """Take note of how a call has ended, and why for operators; it is written down if it ends the service."""
        self._settle()  # what was before it
        self._end(attempt, ended, why, time.monotonic())

    def _end(self, attempt: Running, ended: Ended, why: str, now: float) -> None:
        seat: Seat = attempt.seat
        try:
            turn = self.seats.end(seat, attempt, ended, now)
        except KeyError:  # it streams, or it has ended
            if attempt in seat.streams:
                self._end_stream(seat, attempt, ended, why)
            return
        self.counts.note(ended, attempt.invocation, now)
        if why:
            seat.error = why
        if seat.is_gone:
            if not seat.load():
                self._close(seat)
        elif turn is not None:
            (self._note_out if turn == "out" else self._note_back)(seat)
        elif ended == "bad" and seat not in self._probes:
            self._try_in(_DOUBT, seat, self._doubt)
        if ended == "ok" and self._status.state != "up":
            self._status.note_up()

    def flows(self, attempt: Running) -> None:
        """Take note that a value of a stream has come: its instance is judged by how soon the first one does."""
        seat: Seat = attempt.seat
        if attempt in seat.running:
            turn = self.seats.flow(seat, attempt, time.monotonic())
            if turn is not None:
                self._note_back(seat)
            if self._status.state != "up":
                self._status.note_up()

    def _end_stream(self, seat: Seat, attempt: Running, ended: Ended, why: str) -> None:
        """Take note of how a stream has ended that had values; only a failure tells something of the instance."""
        self.seats.ebb(seat, attempt)
        if ended in ("ok", "cancelled", "late"):  # late: its time is over, as its caller wished
            self.counts.note("ok" if ended == "ok" else "cancelled", attempt.invocation, time.monotonic())
            if seat.is_gone and not seat.load():
                self._close(seat)
            return
        self.seats.begin(seat, attempt, time.monotonic())
        self.end(attempt, ended, why)

    async def describe(self, deadline: float) -> Any:
        """Ask any one for its methods.

        Raises:
            Exception: as the last one that was asked has raised it.

        """
        tried: list[Seat] = []
        failure: Exception = ConnectionRefusedError("there is no instance")
        while (seat := self.seats.pick(time.monotonic(), tried)) is not None:
            tried.append(seat)
            try:
                return await self.adapter(seat).describe(deadline)
            except Exception as error:
                if not isinstance(error, (*self._upstream.failures, BadUpstream)):
                    raise  # it is an answer, or the adapter's own
                failure = error
        raise failure

    def connections(self) -> tuple[int, int]:
        """Count the connections to all instances, and the calls that wait for one."""
        loads = [adapter.connections() for adapter in self._adapters.values()]
        return sum(made for made, _ in loads), sum(waiting for _, waiting in loads)

    def states(self) -> dict[str, int]:
        """Count the instances by how they are."""
        out = len(self.seats.all) - self.seats.in_service()
        return {"listed": len(self.seats.all), "serving": self.seats.in_service(), "out": out}

    def rows(self) -> list[Row]:
        """Tell how each instance is."""
        return [
            Row(
                seat.instance.address,
                seat.instance.version,
                seat.instance.weight,
                "out" if seat.is_out else "serving" if seat.instance.weight else "drained",
                seat.ewma,
                seat.load(),
                seat.error,
            )
            for seat in self.seats.all
        ]

    async def reach_all(self) -> None:
        """Try a connection to each instance, and judge it by that."""
        await asyncio.gather(*(self._try(seat) for seat in self.seats.all))

    async def close(self) -> None:
        """Close all connections, watch the directory no longer, and try no instance because of calls that this ends."""
        self._is_closed = True
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None
        if self._watch is not None:
            await self._watch.close()
            self._watch = None
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for seat in list(self._probes):
            self._forget_probe(seat)
        for timer in self._leaving.values():
            timer.cancel()
        self._leaving = {}
        for task in list(self._tasks):
            task.cancel()
        adapters, self._adapters = self._adapters, {}
        for seat in adapters:
            seat.held = None
        await asyncio.gather(*(adapter.close() for adapter in adapters.values()))

    def _note_out(self, seat: Seat) -> None:
        log.warning("upstream %s: %s is out of service: %s", self._name, seat.instance.address, seat.error)
        self._probe_later(seat)
        if not self.seats.in_service():
            self._status.note_down(seat.error)

    def _note_back(self, seat: Seat) -> None:
        self._forget_probe(seat)
        log.info("upstream %s: %s is back in service", self._name, seat.instance.address)
        self._status.came_back()
        if self._status.state == "down":
            self._status.note_up()

    def _try_in(self, seconds: float, seat: Seat, begin: Callable[[Seat], None]) -> None:
        self._forget_probe(seat)
        if not self._is_closed:
            self._probes[seat] = _later(seconds, functools.partial(begin, seat))

    def _doubt(self, seat: Seat) -> None:
        """Try an instance in service whose last call has failed: others are preferred, so no call may show it dead."""
        del self._probes[seat]
        if seat.failures and not seat.is_out:
            self._start(self._try(seat))

    def _probe_later(self, seat: Seat) -> None:
        self._try_in(seat.until - time.monotonic(), seat, lambda seat: self._start(self._probe(seat)))

    def _forget_probe(self, seat: Seat) -> None:
        timer = self._probes.pop(seat, None)
        if timer is not None:
            timer.cancel()

    async def _probe(self, seat: Seat) -> None:
        """Put an instance back into service if a connection can be made, and else try again later."""
        if await self._try(seat) and seat.is_out:
            self._probe_later(seat)

    async def _try(self, seat: Seat) -> bool:
        """Try a connection to an instance, and its health; return whether it is out of service after that."""
        problem = await self._problem_of(seat)
        if seat.is_gone:  # meanwhile: nobody wants to know
            return False
        if problem is None:
            if seat.is_out and self.seats.back(seat) == "back":
                self._note_back(seat)
            return seat.is_out
        seat.error = reason(problem)
        if seat.is_out:
            self.seats.stay_out(seat, time.monotonic())
        elif self.seats.refuse(seat, time.monotonic()) == "out":
            self._note_out(seat)
        return seat.is_out

    async def _problem_of(self, seat: Seat) -> Exception | None:
        """Try a connection to an instance, ask for its health if that is wanted, and return what is wrong."""
        health = self._options.health
        try:
            async with asyncio.timeout(2 * self._options.connect_timeout) as scope:  # a greeting has its own
                adapter = self.adapter(seat)
                await adapter.reach()
                if not health:
                    return None
                deadline = time.monotonic() + 2 * self._options.connect_timeout
                params: Any = {} if adapter.takes == "dict" else []
                asked = Invocation(method=health, params=params, deadline=deadline, request_id="health")
                if isinstance(adapter, HealthChecked) and (health == "grpc" or health.startswith("/")):
                    await adapter.check(health, asked)
                else:
                    await adapter.call(asked)
        except Exception as error:  # noqa: BLE001 - whatever it is, the instance is not well
            return TimeoutError() if scope.expired() else error
        return None

    async def _check_all(self) -> None:
        """Ask all instances in service for their health, again and again."""
        await self.known.wait()
        while True:
            await asyncio.gather(*(self._check(seat) for seat in self.seats.all if not seat.is_out))
            await asyncio.sleep(self._options.health_interval * random.uniform(0.9, 1.1))  # noqa: S311 - not all at once

    async def _check(self, seat: Seat) -> None:
        """Ask an instance for its health; what is late may be so because of load, and is asked a second time."""
        problem = await self._problem_of(seat)
        is_late = isinstance(problem, TimeoutError)
        if is_late and seat not in self._late:
            self._late.add(seat)
            return
        self._late.discard(seat)
        if problem is None or seat.is_out or seat.is_gone:
            return
        seat.error = f"its health: {'no response in time' if is_late else reason(problem)}"
        if self.seats.refuse(seat, time.monotonic()) == "out":
            self._note_out(seat)

    def _close(self, seat: Seat) -> None:
        seat.held = None
        timer = self._leaving.pop(seat, None)
        if timer is not None:
            timer.cancel()
        adapter = self._adapters.pop(seat, None)
        if adapter is not None:
            self._start(adapter.close())

    def _close_idle(self) -> None:
        """Close the connections to instances that no call has come to for a while."""
        now = time.monotonic()
        for seat in [seat for seat in self._adapters if not seat.load() and now - seat.seen > _KEPT]:
            if not (self.is_sticky and self._adapters[seat].connections()[0]):  # sessions end by themselves
                self._close(seat)
        self._sweep = _later(_KEPT, self._close_idle) if self._adapters else None

    def _start(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _later(seconds: float, do: Any) -> asyncio.TimerHandle:
    """Call something later, and keep nothing of the call that runs now."""
    return asyncio.get_running_loop().call_later(max(0.0, seconds), do, context=contextvars.Context())
