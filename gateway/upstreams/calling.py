"""One call to an upstream: its arguments, its deadline, a second attempt, and one way to fail.

    calls = UpstreamCalls(name, upstream, options, limits, status)
    value = await calls.call(signature, args, kwargs)      Fault: what the caller is told

What an adapter raises becomes the caller's fault here: a Fault as it is, an exception by the adapter's own table. A
call that was certainly not sent is sent once more, and so is one that may have been, if its method is idempotent;
nothing else ever is. ``data["sent"]`` of Unavailable, BadUpstream and DeadlineExceeded tells the caller how far it
came. The reason is in the log: when the upstream goes down, and for responses that do not follow the protocol.
"""

import asyncio
from typing import Any

from gateway.model.calls import Params, current_context
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
from gateway.upstreams import Invocation, Options, Signature, Upstream
from gateway.upstreams.arguments import arranged
from gateway.upstreams.faults import reason
from gateway.upstreams.naming import fits
from gateway.upstreams.status import Status, log

_MARGIN = 0.005  # seconds before the caller's deadline, so that it hears from here how far the call has come
_TOLD_HOW_FAR = (Unavailable, BadUpstream, DeadlineExceeded)


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
        if self.running >= self._options.calls:
            raise Overloaded(
                f"the upstream has {self.running} calls, and may have no more", retry_after=self._retry_after
            )
        self.running += 1
        try:
            value = await self._twice(signature, params)
        finally:
            self.running -= 1
        value = _unwrapped(signature, value) if self._options.bare else value
        is_textual = self._options.int64 == "text" and bytes not in current_context().native
        return with_int_texts(value) if is_textual else value

    async def _twice(self, signature: Signature, params: Params) -> Any:
        """Call once, and once more if that can do no harm."""
        context = current_context()
        idempotent = fits(signature.name, self._options.idempotent)
        for last in (False, True):
            invocation = Invocation(
                method=signature.name,
                params=params,
                deadline=context.deadline - _MARGIN,
                request_id=context.request_id,
            )
            try:
                return await self._once(invocation)
            except Unavailable as fault:
                is_safe = invocation.sent == "no" or (invocation.sent == "maybe" and idempotent)
                if last or not is_safe or "retry_after" in fault.data:
                    raise
        raise AssertionError  # the last attempt has returned or raised

    async def _once(self, invocation: Invocation) -> Any:
        """Call the upstream, and note how it is.

        Raises:
            Fault: what the caller is told.

        """
        try:
            async with asyncio.timeout(invocation.time_left) as scope:
                value = await self._upstream.call(invocation)
        except Fault as fault:
            raise self._judged(fault, fault.message, invocation) from None
        except Exception as error:
            late = self._late(invocation) if scope.expired() else None
            told = late or self.translated(error)
            if told is None:
                raise
            raise self._judged(told, late.detail if late else reason(detached(error)), invocation) from None
        self._status.note_up()
        return value

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


def _unwrapped(signature: Signature, value: Any) -> Any:
    return value if signature.only is None else value.get(signature.only[0])
