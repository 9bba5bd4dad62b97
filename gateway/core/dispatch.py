"""The dispatcher: find the method, bind the arguments, run it.

    Call -> Reply(value)   what the method returned
         -> Reply(fault)   MethodNotFound, InvalidParams, the method's own Fault, or InternalError for all else

This is the one place where an exception of a method becomes a fault. Of what nobody expected, the caller gets "Internal
error" with an error id; the log has the traceback under that id.
"""

import asyncio
import logging
import secrets
import types
import xmlrpc.client
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from math import inf
from operator import contains
from types import SimpleNamespace
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from gateway.core.forks import end_child
from gateway.core.running import Running
from gateway.core.threads import ThreadPool
from gateway.methods import Method, Registry
from gateway.model.calls import CURRENT, Call, CallHandler, Context, Reply, WaitingHandler
from gateway.model.faults import DeadlineExceeded, Fault, InternalError, InvalidParams, MethodNotFound, detached
from gateway.telemetry import tracing
from gateway.telemetry.log import traced
from gateway.wire.http_grammar import PRINTABLE

log = logging.getLogger("gateway.errors")

FaultMaker: TypeAlias = Callable[[BaseException, Context], Fault]
"""Makes the fault of an exception that a method has raised."""


class Known(Struct, frozen=True, kw_only=True):
    """A method, and how its calls are answered.

    Attributes:
        method: the method.
        timeout: how many seconds a call has, from the arrival of its request, unless the caller says less.
        handler: answers its calls.
        at_once: does the same, where it never waits for anything; else None.
        later: does the same, where nothing has to be waited for but the method; else None.

    """

    method: Method
    timeout: float
    handler: CallHandler
    at_once: Callable[[Call, Context], Reply] | None = None
    later: "Later | None" = None


class Later(Protocol):
    """What begins the calls of a method, see gateway/core/begun.py."""

    def has_room(self) -> bool:
        """Tell whether a call would run at once."""

    def begin(
        self, call: Call, context: Context, ended: Callable[[Reply], None], /, *, has_wish: bool
    ) -> "Cancellable | Reply":
        """Begin a call that has room, and may have less time than the others."""


class Cancellable(Protocol):
    """A call that runs."""

    def cancel(self) -> None:
        """Stop waiting for it."""


class Finder(Protocol):
    """What finds methods, as the Dispatcher does."""

    def find(self, name: str, protocol: str) -> Known | None:
        """Find the method that is registered under a name and offered on a protocol."""


class Dispatcher:
    """The handler that finds a call's method and hands it to the method's own handler.

    Arguments:
        registry: the methods.
        compose: folds the layers around a method; it is asked once for each method.
        absent: may know more of a name that is not registered than that there is no such method: a fault, or the
            method of a pattern, which the call is logged and counted under, because callers can invent names that fit
            it.

    """

    def __init__(
        self,
        registry: Registry,
        compose: Callable[[Method], Known],
        absent: Callable[[str], Method | Fault | None] = lambda _: None,
    ) -> None:
        self._registry = registry
        self._compose = compose
        self._absent = absent
        self._known: dict[int, Known] = {}

    def __call__(self, call: Call, context: Context) -> Reply | Awaitable[Reply]:
        """Answer a call."""
        known = self.find(call.method, context.protocol)
        if known is None:
            name = call.method
            fitting = self._absent(name)
            if not isinstance(fitting, Method):
                missing = MethodNotFound(f"there is no method {name}" if PRINTABLE.fullmatch(name) else "")
                return Reply(fault=fitting or missing)
            known, context.called, context.method = self._know(fitting), name, fitting.name
        if context.streaming != "no":
            if context.streaming == "must" and not known.method.streams:
                return Reply(fault=InvalidParams(f"{call.method} does not stream: call it"))
            if context.inbox is not None and known.method.message is None:
                return Reply(
                    fault=InvalidParams(f"{call.method} takes no messages while it runs: subscribe without them")
                )
            context.until = min(context.deadline, context.arrival + (known.method.options.timeout or inf))
        context.deadline = min(context.deadline, context.arrival + known.timeout)
        return known.handler(call, context)

    def find(self, name: str, protocol: str) -> Known | None:
        """Find the method that is registered under a name and offered on a protocol."""
        found = self._registry.get(name, protocol)
        return None if found is None else self._known.get(id(found)) or self._know(found)

    def _know(self, method: Method) -> Known:
        known = self._known.get(id(method))
        if known is None:
            known = self._known[id(method)] = self._compose(method)
        return known


def fault_of(error: BaseException, context: Context) -> Fault:
    """Make the fault of an exception that was raised in a call: a Fault is its own, and all else is a crash."""
    if isinstance(error, Fault):
        return detached(error)
    if isinstance(error, xmlrpc.client.Fault):
        return _foreign(detached(error))
    return crash(error, context)


def invoke(
    method: Method, pool: ThreadPool, running: Running, state: SimpleNamespace, fault: FaultMaker = fault_of
) -> WaitingHandler:
    """Make the innermost handler of a method: bind first, call second, and turn what is raised into a fault.

    ``fault`` makes the fault of what the method raises, ``state`` is ``context.state``.
    """
    function, bind = method.function, method.bind
    threads = pool if method.run == "thread" else None
    counts, place = running.counts, running.place(method.name)

    async def call_method(call: Call, context: Context) -> Reply:
        try:
            args, kwargs = bind(call.params, context)
        except BaseException as error:  # noqa: BLE001 - InvalidParams, or whatever a type of the user's raises when made
            return Reply(fault=fault_of(error, context))
        context.state = state
        token = CURRENT.set(context)
        counts[place] += 1
        try:
            if threads is None:
                return Reply(value=await stepwise(function(*args, **kwargs)))
            return Reply(value=await threads.run(partial(function, *args, **kwargs)))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return Reply(fault=crash(error, context))
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt too are only the method's own
            return Reply(fault=fault(error, context))
        finally:
            counts[place] -= 1
            CURRENT.reset(token)

    return call_method


def invoke_inline(
    method: Method, running: Running, state: SimpleNamespace, fault: FaultMaker = fault_of
) -> Callable[[Call, Context], Reply]:
    """Make the handler of a method that never waits, which is a plain function like the method."""
    function, bind, fits = method.function, method.bind, _types_that_fit(method)
    counts, place = running.counts, running.place(method.name)

    def call_method(call: Call, context: Context) -> Reply:
        params = call.params
        kwargs: dict[str, Any] = {}
        args = params if type(params) is list and fits is not None and _all_fit(params, fits) else None
        if args is None:
            try:
                args, kwargs = bind(params, context)
            except BaseException as error:  # noqa: BLE001 - see invoke
                return Reply(fault=fault_of(error, context))
        context.state = state
        token = CURRENT.set(context)
        counts[place] += 1
        try:
            return Reply(value=function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - see invoke
            return Reply(fault=fault(error, context))
        finally:
            counts[place] -= 1
            CURRENT.reset(token)
            end_child()

    return call_method


def _types_that_fit(method: Method) -> tuple[frozenset[type], ...] | None:
    """Return the types of positional arguments that ``bind`` hands over as they are; None where it adds some."""
    if method.context is not None or len(method.positional) != len(method.params):
        return None
    return tuple([param.fits for param in method.positional])


def _all_fit(params: list[Any], fits: tuple[frozenset[type], ...]) -> bool:
    return len(params) == len(fits) and all(map(contains, fits, map(type, params)))


@types.coroutine
def stepwise(awaitable: Awaitable[Any]) -> Generator[Any, Any, Any]:
    """Await something like ``await``, and never let a forked child of it go on with the event loop."""
    steps: Any = awaitable.__await__()
    step, value = steps.send, None
    while True:
        try:
            awaited = step(value)
        except StopIteration as stop:
            return stop.value
        finally:
            value = None  # else what was thrown would hold this frame, and this frame what was thrown
            end_child()
        try:
            value = yield awaited
        except BaseException as error:  # noqa: BLE001 - whatever is thrown at the task is the method's
            step, value = steps.throw, error
        else:
            step = steps.send


def _foreign(error: xmlrpc.client.Fault) -> Fault:
    """Take over the standard library's fault, which programs written for its server raise."""
    try:
        return Fault(error.faultCode, str(error.faultString))
    except (TypeError, ValueError):
        return Fault(f"{error.faultString} (fault code {error.faultCode})")


def exceeded(context: Context) -> DeadlineExceeded:
    """Make the fault of a call whose time is over."""
    seconds = round(context.deadline - context.arrival, 6)  # the difference of two readings of a clock is not exact
    return DeadlineExceeded(f"no answer within {seconds:g} s")


def crash(error: BaseException, context: Context) -> InternalError:
    """Log an exception that nobody expected, and make the fault that tells its error id."""
    error_id = secrets.token_hex(6)
    log.error(
        "error %s in %s (request %s)",
        error_id,
        context.method,
        context.request_id,
        exc_info=_trimmed(error),
        extra=traced(context),
    )
    error.__traceback__ = None  # the log has it; see detached
    return InternalError(error_id=error_id)


def _trimmed(error: BaseException) -> BaseException:
    """Leave out the frames of this module, so that the traceback begins in the method."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename in (
        __file__,
        ThreadPool.run.__code__.co_filename,
        tracing.__file__,
    ):
        traceback = traceback.tb_next
    return error.with_traceback(traceback)
