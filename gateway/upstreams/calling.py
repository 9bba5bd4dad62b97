"""One call to an upstream: its arguments, its deadline, a second attempt, and one way to fail.

    calls = UpstreamCalls(name, upstream, options, limits, status)
    value = await calls.call(signature, args, kwargs)      Fault: what the caller is told
    begun = calls.begin(signature, args, kwargs, context, outcome)       the same without a coroutine, if it can be

What an adapter raises becomes the caller's fault here: a Fault as it is, an exception by the adapter's own table. A
call that was certainly not sent is sent once more, and so is one that may have been, if its method is idempotent;
nothing else ever is. ``data["sent"]`` of Unavailable, BadUpstream and DeadlineExceeded tells the caller how far it
came. The reason is in the log: when the upstream goes down, and for responses that do not follow the protocol.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol, cast

from gateway.model.calls import Context, Params, current_context
from gateway.model.faults import (
    BadUpstream,
    DeadlineExceeded,
    Fault,
    GatewayFault,
    Overloaded,
    Unavailable,
    detached,
)
from gateway.model.limits import Limits
from gateway.model.values import with_int_texts
from gateway.upstreams import Beginner, Cancel, Invocation, Options, Signature, Upstream
from gateway.upstreams.arguments import arranged
from gateway.upstreams.faults import reason
from gateway.upstreams.naming import fits
from gateway.upstreams.status import Status, log

_MARGIN = 0.005  # seconds before the caller's deadline, so that it hears from here how far the call has come
_TOLD_HOW_FAR = (Unavailable, BadUpstream, DeadlineExceeded)


class Told(Protocol):
    """Who is told what becomes of a call."""

    def set_result(self, value: Any, /) -> None:
        """Take the result."""

    def set_exception(self, error: Exception, /) -> None:
        """Take what ``UpstreamCalls.call`` would raise."""


class UpstreamCalls:
    """The calls of one upstream.

    Attributes:
        running: how many run, those that wait for a connection too.

    """

    def __init__(self, name: str, upstream: Upstream, options: Options, limits: Limits, status: Status) -> None:
        self.running = 0
        self._name = name
        self._upstream = upstream
        self._options = options
        self._status = status
        self._retry_after = limits.retry_after

    async def call(self, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the upstream with arguments that fit.

        Raises:
            Fault: what the caller is told.

        """
        params = arranged(signature, args, kwargs, self._upstream.takes)
        context = current_context()
        if self.running >= self._options.calls:
            raise Overloaded(
                f"the upstream has {self.running} calls, and may have no more", retry_after=self._retry_after
            )
        self.running += 1
        try:
            return self.shaped(signature, await self._twice(signature, params, context), context)
        finally:
            self.running -= 1

    def begin(
        self, signature: Signature, args: Sequence[Any], kwargs: dict[str, Any], context: Context, outcome: Told
    ) -> "BegunCall | None":
        """Call the upstream with arguments that fit, without a coroutine; the outcome is told later.

        Returns:
            None where that is not possible now, and nothing was done: use ``call``.

        Raises:
            Fault: what the caller is told.

        """
        if not isinstance(self._upstream, Beginner) or self.running >= self._options.calls:
            return None
        invocation = _invocation(signature, arranged(signature, args, kwargs, self._upstream.takes), context)
        begun = BegunCall(self, signature, invocation, context, outcome)
        try:
            cancel = self._upstream.begin(invocation, begun)
        except Exception as error:  # noqa: BLE001 - what is in no table is raised as it is
            raise self.failure(error, invocation) from None
        return None if cancel is None else begun.counted(cancel)

    def shaped(self, signature: Signature, value: Any, context: Context) -> Any:
        """Return a result as the caller gets it."""
        value = _unwrapped(signature, value) if self._options.bare else value
        is_textual = self._options.int64 == "text" and bytes not in context.native
        return with_int_texts(value) if is_textual else value

    async def _twice(self, signature: Signature, params: Params, context: Context) -> Any:
        """Call once, and once more if that can do no harm."""
        invocation = _invocation(signature, params, context)
        try:
            return await self.once(invocation)
        except Unavailable as fault:
            if not self.may_repeat(invocation, fault):
                raise
        return await self.once(_invocation(signature, params, context))

    def may_repeat(self, invocation: Invocation, fault: Fault) -> bool:
        """Tell whether a call that has failed may be sent once more, because that can do no harm."""
        if not isinstance(fault, Unavailable) or "retry_after" in fault.data:
            return False
        return invocation.sent == "no" or (
            invocation.sent == "maybe" and fits(invocation.method, self._options.idempotent)
        )

    async def once(self, invocation: Invocation) -> Any:
        """Call the upstream, and note how it is.

        Raises:
            Fault: what the caller is told.

        """
        try:
            async with asyncio.timeout(invocation.time_left) as scope:
                value = await self._upstream.call(invocation)
        except Exception as error:  # noqa: BLE001 - likewise
            raise self.failure(error, invocation, is_late=scope.expired()) from None
        self.note_up()
        return value

    def note_up(self) -> None:
        """Note that the upstream has responded."""
        self._status.note_up()

    def failure(self, error: Exception, invocation: Invocation, *, is_late: bool = False) -> Exception:
        """Return what the caller is told of an exception; the exception itself where it is in no table."""
        if isinstance(error, Fault):
            return self._judged(error, error.message, invocation)
        if is_late:
            return self.late(invocation)
        told = self.translated(error)
        return error if told is None else self._judged(told, reason(detached(error)), invocation)

    def late(self, invocation: Invocation) -> Fault:
        """Return what the caller is told of a call whose time is over."""
        fault = self._late(invocation)
        return self._judged(fault, fault.detail, invocation)

    def _late(self, invocation: Invocation) -> DeadlineExceeded:
        if invocation.waits:
            self._status.note_no_connection(self._options.connections)
            return DeadlineExceeded("no connection to the upstream became free in time")
        if invocation.sent == "no":
            return DeadlineExceeded("the request could not be sent to the upstream in time")
        return DeadlineExceeded("no response from the upstream in time")

    def translated(self, error: Exception) -> Fault | None:
        """Look an exception up in the adapter's table."""
        found = next((kind for kind in type(error).__mro__ if kind in self._upstream.failures), None)
        return None if found is None else self._upstream.failures[found](error)

    def _judged(self, fault: Fault, why: str, invocation: Invocation) -> Fault:
        """Note what a failure means for the state of the upstream, and tell the caller how far the call has come."""
        if isinstance(fault, Unavailable):
            self._status.note_down(why)
        elif invocation.sent == "yes":
            self._status.note_up()
        if not isinstance(fault, GatewayFault):
            return fault
        if isinstance(fault, BadUpstream) or ("http_status" in fault.data and not isinstance(fault, Unavailable)):
            self._status.error = why
            log.warning("upstream %s: %s (request %s)", self._name, why, invocation.request_id)
        if not isinstance(fault, _TOLD_HOW_FAR):
            return fault
        self._status.error = why
        return type(fault)(fault.detail, **{**fault.data, "sent": invocation.sent})


class BegunCall:
    """A call that was sent, and what becomes of it; at its deadline, ``late`` is for its caller to ask."""

    __slots__ = ("_calls", "_cancel", "_context", "_invocation", "_is_over", "_outcome", "_signature")

    def __init__(
        self, calls: UpstreamCalls, signature: Signature, invocation: Invocation, context: Context, outcome: Told
    ) -> None:
        self._calls = calls
        self._signature = signature
        self._invocation = invocation
        self._context = context
        self._outcome = outcome
        self._cancel: Cancel
        self._is_over = False

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
        self._end()
        self._calls.note_up()
        try:
            shaped = self._calls.shaped(self._signature, value, self._context)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome of this call
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(shaped)

    def set_exception(self, error: Exception) -> None:
        """Send it once more if that can do no harm, or tell the caller (called by the adapter)."""
        told = self._calls.failure(error, self._invocation)
        if isinstance(told, Fault) and self._calls.may_repeat(self._invocation, told):
            self._invocation = _invocation(self._signature, self._invocation.params, self._context)
            task = asyncio.get_running_loop().create_task(self._calls.once(self._invocation))
            task.add_done_callback(self._repeated)
            self._cancel = partial(_cancel, task)
        else:
            self._end()
            self._outcome.set_exception(told)

    def cancel(self) -> None:
        """End it, because nobody waits for it any more."""
        self._end()
        self._cancel()

    def late(self) -> Fault:
        """Make the fault of it when its time is over."""
        return self._calls.late(self._invocation)

    def _repeated(self, task: asyncio.Task[Any]) -> None:
        if self._is_over or task.cancelled():
            return
        error = task.exception()
        if error is None:
            self.set_result(task.result())
        else:
            self._end()
            self._outcome.set_exception(cast("Exception", error))

    def _end(self) -> None:
        self._is_over = True
        self._calls.running -= 1


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


def _invocation(signature: Signature, params: Params, context: Context) -> Invocation:
    return Invocation(
        method=signature.name, params=params, deadline=context.deadline - _MARGIN, request_id=context.request_id
    )


def _unwrapped(signature: Signature, value: Any) -> Any:
    return value if signature.only is None else value.get(signature.only[0])
