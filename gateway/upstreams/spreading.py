"""One call on its way over the instances of an upstream.

    spread = Spread(instances, options, told)
    value = await spread.call(course)       Fault: what the caller is told
    cancel = spread.launch(first, signature, context, outcome)      without a coroutine; then ``succeeded`` or ``ended``

A call that was certainly not sent goes on to the next instance, which costs nothing. One that may have run goes on
only if its method is idempotent, as far as ``attempts`` and the budget reach. What the caller is told of ``sent`` is
the worst of all attempts. An attempt has all of the caller's time: what is given up early runs all the same, and calls
that are slow because of load would only become more.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, Protocol

from gateway.fleet.seats import Seat
from gateway.model.calls import Context, Params
from gateway.model.faults import BadUpstream, Fault, GatewayFault, Overloaded, Unavailable
from gateway.upstreams import Cancel, Invocation, Options, Outcome, Sent, Signature
from gateway.upstreams.counting import verdict
from gateway.upstreams.instances import Attempt, Instances, Running
from gateway.upstreams.naming import may_run_twice
from gateway.upstreams.transport.sessions import caller_of

_MOST_REFUSALS = 8  # instances that a call is refused by before it fails
_NONE = "no instance of the upstream is known"
_PAUSE = 0.05  # seconds before the same instance is called again, twice as long each time
_WORSE: dict[Sent, int] = {"no": 0, "maybe": 1, "yes": 2}


class Tells(Protocol):
    """Who knows what an exception means."""

    def __call__(self, error: Exception, invocation: Invocation, *, is_late: bool = False) -> tuple[Exception, str]:
        """Return what the caller is told of it, and the reason for operators."""


class Course:
    """A call, and where it has been.

    Attributes:
        make: makes what is sent, once more for each attempt.
        invocation: of the last attempt.
        attempts: how many instances were called, those too that refused.
        may_have_run: how many of these attempts may have run.
        tried: the instances.
        seat: of the last attempt.
        worst: how far the call has come in any of its attempts.

    """

    __slots__ = (
        "attempts",
        "context",
        "invocation",
        "is_idempotent",
        "key",
        "make",
        "may_have_run",
        "seat",
        "tried",
        "worst",
    )

    def __init__(
        self,
        make: Callable[[], Invocation],
        invocation: Invocation,
        context: Context,
        key: bytes,
        *,
        is_idempotent: bool,
    ) -> None:
        self.make = make
        self.context = context
        self.key = key
        self.is_idempotent = is_idempotent
        self.invocation = invocation
        self.attempts = 0
        self.may_have_run = 0
        self.tried: list[Seat] = []
        self.seat: Seat | None = None
        self.worst: Sent = "no"

    def note(self, sent: Sent) -> None:
        """Take note of how far an attempt has come."""
        if _WORSE[sent] > _WORSE[self.worst]:
            self.worst = sent

    def told(self, error: Exception) -> Exception:
        """Tell with a fault how far the call has come in all of its attempts."""
        if isinstance(error, GatewayFault) and "sent" in error.data and error.data["sent"] != self.worst:
            return type(error)(error.detail, **{**error.data, "sent": self.worst})
        return error


class Spread:
    """The calls of one upstream over its instances.

    Arguments:
        instances: the instances.
        options: of the upstream.
        tells: knows what an exception means.

    """

    def __init__(self, instances: Instances, options: Options, tells: Tells) -> None:
        self._instances = instances
        self._options = options
        self._tells = tells
        self._is_by_key = instances.seats.is_by_key

    def course(
        self, signature: Signature, make: Callable[[], Invocation], invocation: Invocation, context: Context
    ) -> Course:
        """Begin the course of a call."""
        is_idempotent = may_run_twice(signature, self._options)
        key = self._key(signature, invocation.params, context) if self._is_by_key else b""
        return Course(make, invocation, context, key, is_idempotent=is_idempotent)

    def gone(self, course: Course, first: Running) -> Course:
        """Take note of the first attempt, which was made by ``launch``."""
        course.attempts = 1
        course.seat = first.seat
        course.tried.append(first.seat)
        return course

    def is_hedged(self, signature: Signature) -> bool:
        """Tell whether the calls of a method may run at two instances at once."""
        return bool(self._options.hedge) and may_run_twice(signature, self._options)

    def launch(self, first: Running, signature: Signature, context: Context, outcome: Outcome) -> Cancel | None:
        """Make the first attempt of a call without a coroutine; its seat is set here.

        Returns:
            what stops waiting for it; None where ``on`` must call it.

        Raises:
            Unavailable: there is no instance.
            Exception: the call cannot be sent, and is to be told to ``ended``.

        """
        instances, invocation = self._instances, first.invocation
        seats = instances.seats
        key = self._key(signature, invocation.params, context) if self._is_by_key else b""
        seat = seats.pick(invocation.start, (), key)
        if seat is None:
            raise Unavailable(_NONE, sent="no")
        instances.budget.earn()
        context.instance, context.attempts = seat.instance.address, 1
        if invocation.span is not None:
            invocation.span.at(seat.instance.address)
        first.seat = seat
        seats.begin(seat, first, invocation.start)
        adapter: Any = seat.held or instances.adapter(seat)
        cancel: Cancel | None = adapter.begin(invocation, outcome)  # it is a Beginner, as its template is
        return cancel

    def begin(self, course: Course) -> Attempt | None:
        """Choose an instance, and note that the call runs there; None where there is none left."""
        home = self._instances.home(caller_of(course.context)) if self._instances.is_sticky else None
        seat = home or self._instances.seats.pick(time.monotonic(), course.tried, course.key)
        return None if seat is None else self._at(seat, course)

    def first(self, course: Course) -> Attempt:
        """Begin the first attempt of a call.

        Raises:
            Unavailable: there is no instance.

        """
        self._instances.budget.earn()
        attempt = self.begin(course)
        if attempt is None:
            raise Unavailable(_NONE, sent="no")
        return attempt

    def after_refusal(self, course: Course, told: Exception, sent: Sent) -> Attempt | None:
        """Begin an attempt at another instance, if this one has certainly not begun with the call, and there is one."""
        if sent != "no" or not isinstance(told, Unavailable) or not self.may_go_on(course, told, sent):
            return None
        attempt = self.begin(course)
        self._instances.counts.extra["refused"] += attempt is not None
        return attempt

    def ended(self, course: Course, attempt: Running, error: Exception, *, is_late: bool = False) -> Exception:
        """Judge the instance by a failure, and return what the caller is to be told of it."""
        invocation = attempt.invocation
        told, why = self._tells(error, invocation, is_late=is_late)
        course.note(invocation.sent)
        course.may_have_run += invocation.sent != "no"
        self._instances.end(attempt, verdict(told, invocation, is_late=is_late), why)
        return told

    def succeeded(self, attempt: Running) -> None:
        """Judge the instance by a result."""
        self._instances.succeed(attempt)

    def cancelled(self, course: Course, attempt: Running) -> None:
        """Let an attempt end that nobody waits for, because the caller has gone, or its time is over."""
        course.note(attempt.invocation.sent)
        self._instances.end(attempt, "cancelled" if attempt.invocation.time_left else "late", "no response in time")

    def may_go_on(self, course: Course, told: Exception, sent: Sent) -> bool:
        """Tell whether another attempt after a failure can do no harm."""
        if isinstance(told, Unavailable) and sent == "no":
            return len(course.tried) < _MOST_REFUSALS
        return course.is_idempotent and self._is_worth(told, sent) and course.may_have_run < self._options.attempts

    async def call(self, course: Course) -> Any:
        """Call an instance, and others where that can do no harm.

        Raises:
            Fault: what the caller is told.

        """
        return await self.on(course, self.first(course))

    async def on(self, course: Course, attempt: Running) -> Any:
        """Call the instance of an attempt, and go on from there.

        Raises:
            Fault: what the caller is told.

        """
        one = self._hedged if self._options.hedge and course.is_idempotent else self._one
        while True:
            try:
                return await one(course, attempt)
            except _Failed as failed:
                told, sent = failed.told, failed.sent
            following = await self._following(course, told, sent)
            if following is None:
                raise course.told(told) from None
            attempt = following

    async def go_on(self, course: Course, told: Exception, sent: Sent) -> Any:
        """Make further attempts after a failure; where there are none, raise it.

        Raises:
            Fault: what the caller is told.

        """
        attempt = await self._following(course, told, sent)
        if attempt is None:
            raise course.told(told) from None
        return await self.on(course, attempt)

    async def _following(self, course: Course, told: Exception, sent: Sent) -> Attempt | None:
        """Begin the attempt that follows a failure: at another instance, or at the only one after a pause."""
        if not self.may_go_on(course, told, sent):
            return None
        seat, pause = self._instances.seats.pick(time.monotonic(), course.tried, course.key), 0.0
        if seat is None:
            seat = course.seat if self._may_repeat(course, told) else None
            pause = 0.0 if isinstance(told, Unavailable) else _pause(course)
        if seat is None or pause >= course.invocation.time_left:
            return None
        if isinstance(told, Unavailable) and sent == "no":
            self._instances.counts.extra["refused"] += 1
        elif not self._spend("failed"):
            return None
        if pause:
            await asyncio.sleep(pause)
        return self._at(seat, course)

    def _may_repeat(self, course: Course, told: Exception) -> bool:
        """Tell whether the only instance may be called again: once where its connection has broken."""
        if any(each is not course.seat for each in course.tried):
            return False
        return not isinstance(told, Unavailable) or (course.attempts == 1 and "retry_after" not in told.data)

    def _at(self, seat: Seat, course: Course) -> Attempt:
        if course.attempts:
            course.invocation = course.make()
        course.attempts += 1
        course.seat = seat
        course.tried.append(seat)
        course.context.instance, course.context.attempts = seat.instance.address, course.attempts
        if course.invocation.span is not None:
            course.invocation.span.at(seat.instance.address)
        attempt = Attempt(seat, course.invocation)
        self._instances.seats.begin(seat, attempt, time.monotonic())
        return attempt

    async def _one(self, course: Course, attempt: Running) -> Any:
        """Call an instance.

        Raises:
            _Failed: with what the caller would be told.

        """
        invocation = attempt.invocation
        try:
            async with asyncio.timeout(invocation.time_left) as scope:
                value = await self._instances.adapter(attempt.seat).call(invocation)
        except Exception as error:  # noqa: BLE001 - what is in no table is raised as it is
            told = self.ended(course, attempt, error, is_late=scope.expired())
            raise _Failed(told, invocation.sent) from None
        except BaseException:
            self.cancelled(course, attempt)
            raise
        self.succeeded(attempt)
        return value

    async def _hedged(self, course: Course, attempt: Running) -> Any:
        """Call an instance, and after a while another one beside it; the first response counts.

        Raises:
            _Failed: neither has one.

        """
        running = {asyncio.ensure_future(self._one(course, attempt)): attempt}
        is_over = False
        try:
            done, _ = await asyncio.wait(running, timeout=self._options.hedge)
            if not done and (beside := self._beside(course)) is not None:
                running[asyncio.ensure_future(self._one(course, beside))] = beside
            while True:
                done, waiting = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                ended = min(done, key=lambda task: task.exception() is not None)
                failure = ended.exception()
                if isinstance(failure, _Failed) and waiting and self._is_failure(failure):
                    del running[ended]
                    continue
                is_over = True
                course.context.instance = running[ended].seat.instance.address
                return ended.result()
        finally:
            for task, each in running.items():
                if is_over:
                    self._instances.end(each, "lost")
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _is_failure(self, failed: "_Failed") -> bool:
        return self._is_worth(failed.told, failed.sent) or isinstance(failed.told, Unavailable)

    def _beside(self, course: Course) -> Attempt | None:
        """Choose another instance for a call that waits, if there is one, and the budget has it."""
        if course.may_have_run + 2 > self._options.attempts:
            return None
        seat = self._instances.seats.pick(time.monotonic(), course.tried, course.key)
        if seat is None or not self._spend("hedge"):
            return None
        return self._at(seat, course)

    def _is_worth(self, told: Exception, sent: Sent) -> bool:
        """Tell whether an idempotent call that has failed so is worth another attempt."""
        if isinstance(told, (Unavailable, BadUpstream)):
            return sent == "maybe"
        if isinstance(told, Overloaded):
            return sent == "yes"
        return isinstance(told, Fault) and not isinstance(told, GatewayFault) and told.code in self._options.retry_on

    def _spend(self, why: str) -> bool:
        counts = self._instances.counts
        if not self._instances.budget.spend():
            counts.no_budget += 1
            return False
        counts.extra[why] += 1
        return True

    def _key(self, signature: Signature, params: Params, context: Context) -> bytes:
        """Return what decides which instance has a call; where that is not there, the client's address does."""
        if self._instances.is_sticky:
            caller = caller_of(context)
            return repr(caller if isinstance(caller, str) else id(context.connection)).encode()
        kind, _, name = self._options.hash_by.partition(".")
        found: Any = None
        if kind == "key":
            found = context.key
        elif kind == "params" and isinstance(params, dict):
            found = params.get(name)
        elif kind == "params":
            pairs = zip(signature.params or (), params, strict=False)
            found = next((value for each, value in pairs if each.name == name), None)
        return repr(context.client if found is None else found).encode()


def _pause(course: Course) -> float:
    return _PAUSE * 2.0 ** (course.attempts - 1) * random.uniform(0.5, 1)  # noqa: S311 - so that not all come at once


class _Failed(Exception):
    """An attempt has failed: what the caller would be told, and how far it had come."""

    def __init__(self, told: Exception, sent: Sent) -> None:
        super().__init__()
        self.told = told
        self.sent = sent
