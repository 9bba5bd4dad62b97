"""One call to an upstream: its arguments, its deadline, a second attempt, and one way to fail.

    calls = UpstreamCalls(name, upstream, options, limits, status, counts, instances)
    value = await calls.call(signature, args, kwargs)      Fault: what the caller is told
    begun = calls.begin(signature, args, kwargs, context, outcome)       the same without a coroutine, if it can be

What an adapter raises becomes the caller's fault here: a Fault as it is, an exception by the adapter's own table. A
call that was certainly not sent is sent once more, and so is one that may have been, if its method is idempotent;
nothing else ever is. Where there are several instances, spreading.py says which call goes where. ``data["sent"]`` of
Unavailable, BadUpstream and DeadlineExceeded tells the caller how far it came. The reason is in the log: when the
upstream goes down, and for responses that do not follow the protocol.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, cast

from gateway.model.calls import Context, Params, current_context
from gateway.model.durations import Durations
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
from gateway.model.streams import Whole
from gateway.model.tracing import CallSpan, Peer
from gateway.model.values import with_int_texts
from gateway.upstreams import Beginner, Invocation, Options, Signature, Streamer, Upstream
from gateway.upstreams.arguments import arranged
from gateway.upstreams.begun import BegunCall, BegunSpread, Sent, Told
from gateway.upstreams.counting import Counts, verdict
from gateway.upstreams.faults import reason
from gateway.upstreams.instances import Instances
from gateway.upstreams.naming import may_run_twice
from gateway.upstreams.spreading import Course, Spread
from gateway.upstreams.status import Status, log
from gateway.upstreams.streaming import from_one, over_instances
from gateway.upstreams.transport.along import along_of, passes_credentials

_MARGIN = 0.005  # seconds before the caller's deadline, so that it hears from here how far the call has come
_OF_TRACES = frozenset({"traceparent", "tracestate"})
_TOLD_HOW_FAR = (Unavailable, BadUpstream, DeadlineExceeded)


class UpstreamCalls:
    """The calls of one upstream; ``instances`` is None where there is one, which its adapter calls by itself.

    Attributes:
        running: how many run, those that wait for a connection too.
        counts: what has happened.

    """

    def __init__(  # noqa: PLR0913, PLR0917 - only its frame makes it
        self,
        name: str,
        upstream: Upstream,
        options: Options,
        limits: Limits,
        status: Status,
        counts: Counts,
        instances: Instances | None = None,
    ) -> None:
        self.running = 0
        self.counts = counts
        self._name = name
        self._upstream = upstream
        self._beginner = upstream if isinstance(upstream, Beginner) else None  # to ask takes as long as to send a call
        self._options = options
        self._status = status
        self._retry_after = limits.retry_after
        self._along = along_of(options)
        self._is_ours = not passes_credentials(options)
        self._peer = _peer(name, options)
        self._instances = instances
        self._spread = None if instances is None else Spread(instances, options, self.tell)

    async def call(self, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the upstream with arguments that fit.

        Raises:
            Fault: what the caller is told.

        """
        params = arranged(signature, args, kwargs, self._upstream.takes)
        context = current_context()
        self._check_room()
        self.running += 1
        try:
            if self._spread is None:
                value = await self._twice(signature, params, context)
            else:
                value = await self._spread.call(self._course(self._spread, signature, params, context))
            return self.shaped(signature, value, context)
        finally:
            self.running -= 1

    async def stream(self, signature: Signature, /, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        """Call the upstream for values one by one.

        Raises:
            Fault: what the caller is told.

        """
        params = arranged(signature, args, kwargs, self._upstream.takes)
        context = current_context()
        self._check_room()
        self.running += 1
        try:
            async with aclosing(self._values(signature, params, context)) as values:
                async for value in values:
                    if isinstance(value, Whole):
                        yield Whole(self.shaped(signature, value.value, context))
                    else:
                        yield self.shaped(signature, value, context)
        finally:
            self.running -= 1

    def _values(self, signature: Signature, params: Params, context: Context) -> AsyncGenerator[Any, None]:
        if self._spread is not None and self._instances is not None:
            return over_instances(self._instances, self._spread, self._course(self._spread, signature, params, context))
        return from_one(self, cast("Streamer", self._upstream), self.invocation(signature, params, context))

    def _check_room(self) -> None:
        if self.running >= self._options.calls:
            raise Overloaded(
                f"the upstream has {self.running} calls, and may have no more", retry_after=self._retry_after
            )

    def begin(
        self, signature: Signature, args: Sequence[Any], kwargs: dict[str, Any], context: Context, outcome: Told
    ) -> Sent | None:
        """Call the upstream with arguments that fit, without a coroutine; the outcome is told later.

        Returns:
            None where that is not possible now, and nothing was done: use ``call``.

        Raises:
            Fault: what the caller is told.

        """
        if self._beginner is None or self.running >= self._options.calls:
            return None
        spread = self._spread
        if spread is not None and self._options.hedge and spread.is_hedged(signature):
            return None
        params = arranged(signature, args, kwargs, self._upstream.takes)
        invocation = self.invocation(signature, params, context)
        if spread is not None:
            return BegunSpread(self, spread, signature, invocation, context, outcome).counted()
        begun = BegunCall(self, signature, invocation, context, outcome)
        try:
            cancel = self._beginner.begin(invocation, begun)
        except Exception as error:  # noqa: BLE001 - what is in no table is raised as it is
            raise self.failure(error, invocation) from None
        return None if cancel is None else begun.counted(cancel)

    def invocation(self, signature: Signature, params: Params, context: Context) -> Invocation:
        """Make what is sent."""
        invocation = Invocation(
            method=signature.name,
            params=params,
            deadline=context.deadline - _MARGIN,
            request_id=context.request_id,
            along=() if self._along is None else self._along(context),
            start=time.monotonic(),
            more=context.inbox,
        )
        if context.span is not None:
            self._trace(invocation, context.span)
        return invocation

    def _trace(self, invocation: Invocation, span: CallSpan) -> None:
        """Begin the span of an attempt, and have it go along in the place of the caller's own."""
        invocation.span = own = span.attempt(self._peer, invocation.method)
        if own.along:
            invocation.along = (*(each for each in invocation.along if each[0].lower() not in _OF_TRACES), *own.along)

    def measured(self) -> dict[tuple[str, ...], float | Durations]:
        """Measure how many calls and connections there are now, and take what was counted, as the metrics have it."""
        name, instances = self._name, self._instances
        connections, waiting = (instances or self._upstream).connections()
        states = {} if instances is None else instances.states()
        return {
            **self.counts.take(name),
            **{("upstream_instances", name, state): count for state, count in states.items()},
            ("upstream_calls_running", name): self.running,
            ("upstream_connections", name): connections,
            ("upstream_waiting", name): waiting,
            ("upstream_no_connection", name): self._status.take_no_connection(),
        }

    def _course(self, spread: Spread, signature: Signature, params: Params, context: Context) -> Course:
        make = partial(self.invocation, signature, params, context)
        return spread.course(signature, make, make(), context)

    def shaped(self, signature: Signature, value: Any, context: Context) -> Any:
        """Return a result as the caller gets it."""
        value = _unwrapped(signature, value) if self._options.bare else value
        is_textual = self._options.int64 == "text" and bytes not in context.native
        return with_int_texts(value) if is_textual else value

    async def _twice(self, signature: Signature, params: Params, context: Context) -> Any:
        """Call once, and once more if that can do no harm."""
        invocation = self.invocation(signature, params, context)
        try:
            return await self.once(invocation)
        except Unavailable as fault:
            if not self.may_repeat(signature, invocation, fault):
                raise
        return await self.once(self.invocation(signature, params, context))

    def may_repeat(self, signature: Signature, invocation: Invocation, fault: Fault) -> bool:
        """Tell whether a call that has failed may be sent once more, because that can do no harm."""
        if not isinstance(fault, Unavailable) or "retry_after" in fault.data:
            return False
        return invocation.sent == "no" or (invocation.sent == "maybe" and may_run_twice(signature, self._options))

    async def once(self, invocation: Invocation) -> Any:
        """Call the upstream, and note how it is.

        Raises:
            Fault: what the caller is told.

        """
        scope = asyncio.timeout(invocation.time_left)
        try:
            async with scope:
                value = await self._upstream.call(invocation)
        except Exception as error:  # noqa: BLE001 - likewise
            raise self.failure(error, invocation, is_late=scope.expired()) from None
        except asyncio.CancelledError:
            self.counts.note("cancelled", invocation, time.monotonic())
            raise
        finally:
            del scope  # it has the task, which has the traceback of what is raised, if this is all that the task does
        self.note_result(invocation)
        return value

    def note_result(self, invocation: Invocation) -> None:
        """Note that the upstream has responded with a result."""
        self.counts.note("ok", invocation, time.monotonic())
        self._status.note_up()

    def failure(self, error: Exception, invocation: Invocation, *, is_late: bool = False) -> Exception:
        """Note how the upstream is, and return what the caller is told; what is in no table is returned as it is."""
        told, why = self.tell(error, invocation, is_late=is_late)
        self.counts.note(verdict(told, invocation, is_late=is_late), invocation, time.monotonic())
        if isinstance(told, Unavailable):
            self._status.note_down(why)
        elif isinstance(told, Fault) and invocation.sent == "yes":
            self._status.note_up()
        return told

    def late(self, invocation: Invocation) -> Exception:
        """Return what the caller is told of a call whose time is over."""
        return self.failure(TimeoutError(), invocation, is_late=True)

    def tell(self, error: Exception, invocation: Invocation, *, is_late: bool = False) -> tuple[Exception, str]:
        """Return what the caller is told of an exception, and the reason for operators, who are warned where they must.

        What is in no table is returned as it is.
        """
        told, why = self._tell(error, invocation, is_late=is_late)
        if invocation.span is not None:
            invocation.span.failed(error, told)
        return told, why

    def _tell(self, error: Exception, invocation: Invocation, *, is_late: bool) -> tuple[Exception, str]:
        if isinstance(error, Fault):
            fault, why = error, error.message
        elif is_late:
            fault = self._late(invocation)
            why = fault.detail
        else:
            found = self.translated(error)
            if found is None:
                return error, reason(error)
            fault, why = found, reason(detached(error))
        if not isinstance(fault, GatewayFault):
            return fault, why
        if getattr(error, "is_unauthenticated", False):
            if self._is_ours:
                self._status.note_unauthenticated(why)
        elif isinstance(fault, BadUpstream) or ("http_status" in fault.data and not isinstance(fault, Unavailable)):
            self._status.error = why
            log.warning("upstream %s: %s (request %s)", self._name, why, invocation.request_id)
        if not isinstance(fault, _TOLD_HOW_FAR):
            return fault, why
        self._status.error = why
        return type(fault)(fault.detail, **{**fault.data, "sent": invocation.sent}), why

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


def _peer(name: str, options: Options) -> Peer:
    system = options.form.partition(":")[0].lower().partition("+")[0]
    address = "" if options.is_spread else options.first.address
    service = getattr(options, "service", None) or ""
    return Peer(name, "grpc" if system == "grpcs" else system, address, service)


def _unwrapped(signature: Signature, value: Any) -> Any:
    return value if signature.only is None else value.get(signature.only[0])
