"""Calls to upstreams that were begun without a coroutine, and what becomes of them."""

import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any, Protocol, cast

from gateway.model.calls import Context, Params
from gateway.model.faults import Fault, detached
from gateway.upstreams import Cancel, Invocation, Signature
from gateway.upstreams.counting import Counts
from gateway.upstreams.spreading import Course, Spread


class Told(Protocol):
    """Who is told what becomes of a call."""

    def set_result(self, value: Any, /) -> None:
        """Take the result."""

    def set_exception(self, error: Exception, /) -> None:
        """Take what ``UpstreamCalls.call`` would raise."""


class Sent(Protocol):
    """A call that was begun."""

    def cancel(self) -> None:
        """End it, because nobody waits for it any more."""

    def late(self) -> Fault:
        """Make the fault of it when its time is over."""


class Calls(Protocol):
    """What has the calls of an upstream; see calling.py."""

    running: int

    counts: Counts

    def note_result(self, invocation: Invocation, /) -> None:
        """Note that the upstream has responded with a result."""

    def invocation(self, signature: Signature, params: Params, context: Context, /) -> Invocation:
        """Make what is sent."""

    def shaped(self, signature: Signature, value: Any, context: Context, /) -> Any:
        """Return a result as the caller gets it."""

    def failure(self, error: Exception, invocation: Invocation, /) -> Exception:
        """Return what the caller is told of an exception."""

    def late(self, invocation: Invocation, /) -> Exception:
        """Return what the caller is told of a call whose time is over."""

    def tell(self, error: Exception, invocation: Invocation, *, is_late: bool = False) -> tuple[Exception, str]:
        """Return what the caller is told of an exception, and the reason for operators."""

    def may_repeat(self, signature: Signature, invocation: Invocation, fault: Fault, /) -> bool:
        """Tell whether a call that has failed may be sent once more."""

    async def once(self, invocation: Invocation, /) -> Any:
        """Call the upstream."""


class BegunCall:
    """A call that was sent to the only instance; at its deadline, ``late`` is for its caller to ask."""

    __slots__ = ("_calls", "_cancel", "_context", "_invocation", "_is_over", "_is_repeated", "_outcome", "_signature")

    def __init__(
        self, calls: Calls, signature: Signature, invocation: Invocation, context: Context, outcome: Told
    ) -> None:
        self._calls = calls
        self._signature = signature
        self._invocation = invocation
        self._context = context
        self._outcome = outcome
        self._cancel: Cancel
        self._is_over = False
        self._is_repeated = False

    def counted(self, cancel: Cancel) -> "BegunCall":
        """Count it as running, now that it was sent."""
        self._cancel = cancel
        self._calls.running += 1
        return self

    def done(self) -> bool:
        """Tell whether it has ended."""
        return self._is_over

    def set_result(self, value: Any) -> None:
        """Tell the caller the result (called by the adapter)."""
        self._calls.note_result(self._invocation)
        self.give(value)

    def give(self, value: Any) -> None:
        """Tell the caller the result."""
        self._end()
        try:
            shaped = self._calls.shaped(self._signature, value, self._context)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome of this call
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(shaped)

    def set_exception(self, error: Exception) -> None:
        """Send it once more if that can do no harm, or tell the caller (called by the adapter)."""
        told = self._calls.failure(error, self._invocation)
        if isinstance(told, Fault) and self._calls.may_repeat(self._signature, self._invocation, told):
            self._invocation = self._calls.invocation(self._signature, self._invocation.params, self._context)
            self._is_repeated = True
            task = asyncio.get_running_loop().create_task(_passed_on(self._calls.once(self._invocation), self))
            self._cancel = partial(_cancel, task)
        else:
            self.fail(told)

    def fail(self, told: Exception) -> None:
        """Tell the caller that it has failed."""
        self._end()
        self._outcome.set_exception(told)

    def cancel(self) -> None:
        """End it, because nobody waits for it any more."""
        cancel = self._cancel
        self._end()
        if not self._is_repeated and self._invocation.time_left:  # what is late is counted there, the rest in its task
            self._calls.counts.note("cancelled", self._invocation, time.monotonic())
        cancel()

    def late(self) -> Fault:
        """Make the fault of it when its time is over."""
        return cast("Fault", self._calls.late(self._invocation))

    def _end(self) -> None:
        self._is_over = True
        self._cancel = _nothing  # it holds what the call leaves behind: a task, and the traceback of that
        self._calls.running -= 1


class BegunSpread:
    """A call that was sent to one of several instances; it stands for its first attempt there.

    Attributes:
        seat: of the instance.
        invocation: what was sent.

    """

    __slots__ = (
        "_calls",
        "_cancel",
        "_context",
        "_course",
        "_is_over",
        "_outcome",
        "_signature",
        "_spread",
        "invocation",
        "seat",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - as UpstreamCalls.begin
        self,
        calls: Calls,
        spread: Spread,
        signature: Signature,
        invocation: Invocation,
        context: Context,
        outcome: Told,
    ) -> None:
        self.seat: Any = None
        self.invocation = invocation
        self._calls = calls
        self._spread = spread
        self._signature = signature
        self._context = context
        self._outcome = outcome
        self._is_over = False
        self._course: Course | None = None
        self._cancel: Cancel | None = None

    def counted(self) -> "BegunSpread":
        """Send it, and count it as running.

        Raises:
            Fault: what the caller is told.

        """
        try:
            self._cancel = self._spread.launch(self, self._signature, self._context, self)
        except Exception as error:
            if self.seat is None:
                raise
            raise self._spread.ended(self._gone(), self, error) from None
        self._calls.running += 1
        if self._cancel is None:
            self._wait(self._spread.on(self._gone(), self))
        return self

    def done(self) -> bool:
        """Tell whether it has ended."""
        return self._is_over

    def set_result(self, value: Any) -> None:
        """Tell the caller the result (called by the adapter)."""
        self._spread.succeeded(self)
        self.give(value)

    def set_exception(self, error: Exception) -> None:
        """Send it to another instance if that can do no harm, or tell the caller (called by the adapter)."""
        course = self._gone()
        told, sent = self._spread.ended(course, self, error), self.invocation.sent
        if self._spread.may_go_on(course, told, sent):
            self._wait(self._spread.go_on(course, told, sent))
        else:
            self.fail(course.told(told))

    def fail(self, told: Exception) -> None:
        """Tell the caller that it has failed."""
        self._end()
        self._outcome.set_exception(told)

    def cancel(self) -> None:
        """End it, because nobody waits for it any more."""
        cancel = self._cancel
        self._end()
        if self._course is None:
            self._spread.cancelled(self._gone(), self)
        if cancel is not None:
            cancel()

    def late(self) -> Fault:
        """Make the fault of it when its time is over."""
        course = self._course or self._gone()
        course.note(course.invocation.sent)  # a task that was cancelled has not yet
        told, _ = self._calls.tell(TimeoutError(), course.invocation, is_late=True)
        return cast("Fault", course.told(told))

    def _gone(self) -> Course:
        """Begin its course, now that more than one attempt may be needed."""
        make = partial(self._calls.invocation, self._signature, self.invocation.params, self._context)
        course = self._spread.course(self._signature, make, self.invocation, self._context)
        self._course = self._spread.gone(course, self)
        return course

    def give(self, value: Any) -> None:
        """Tell the caller the result."""
        self._end()
        try:
            shaped = self._calls.shaped(self._signature, value, self._context)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome of this call
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(shaped)

    def _wait(self, rest: Coroutine[Any, Any, Any]) -> None:
        """Let the rest of it run in a task, which judges its own attempts."""
        task = asyncio.get_running_loop().create_task(_passed_on(rest, self))
        self._cancel = partial(_cancel, task)

    def _end(self) -> None:
        self._is_over = True
        self._cancel = None  # as above
        self._calls.running -= 1


async def _passed_on(rest: Coroutine[Any, Any, Any], call: BegunCall | BegunSpread) -> None:
    """Await the rest of a call, and tell what becomes of it.

    What it raises stays in here: a task would keep it, with a traceback to the frame of a timeout, which has the task.
    """
    try:
        value = await rest
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome of this call
        if not call.done():
            call.fail(detached(error) if isinstance(error, Fault) else error)
    else:
        if not call.done():
            call.give(value)


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


def _nothing() -> None:
    """Stop nothing: it is over."""
