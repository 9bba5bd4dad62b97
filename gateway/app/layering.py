"""The layers around each method."""

from collections.abc import Callable, Mapping

from msgspec import structs

from gateway.core.begun import Beginner, at_upstream, in_task, in_thread
from gateway.core.dispatch import Known, fault_of, invoke, invoke_inline
from gateway.core.hooks import Everywhere, around, catching
from gateway.core.layers import ConcurrencyLimiter, deadline, limited
from gateway.core.running import Running
from gateway.core.streams import either, invoke_stream
from gateway.core.threads import ThreadPool
from gateway.methods import Method
from gateway.model.limits import Limits
from gateway.telemetry.tracing import Tracing


def composer(  # noqa: PLR0913, PLR0917 - only build gives them
    limits: Limits,
    pool: ThreadPool,
    limiters: Mapping[str, list[ConcurrencyLimiter]],
    running: Running,
    everywhere: Everywhere,
    tracing: Tracing | None = None,
) -> Callable[[Method], Known]:
    """Return what puts the layers around a method. The deadline is the outermost of those that may wait."""

    def compose(method: Method) -> Known:
        method = _traced(method, tracing)
        timeout = method.options.timeout or limits.timeout
        state, middleware = everywhere.state, everywhere.middleware + method.hooks.middleware
        handlers = method.hooks.exception_handlers
        fault = catching(handlers) if handlers else fault_of
        if method.run == "inline":  # it has returned before anything could be limited
            inline = invoke_inline(method, running, state, fault)
            if middleware:
                return Known(method=method, timeout=timeout, handler=deadline(around(inline, middleware, state)))
            return Known(method=method, timeout=timeout, handler=inline, at_once=inline)
        is_generator = method.streams and method.stream is None
        if is_generator:
            invoked = invoke_stream(method, pool, running, state, fault, limits.max_reply)
        else:
            invoked = invoke(method, pool, running, state, fault)
        handler = invoked
        if method.stream is not None:
            handler = either(invoked, invoke_stream(method, pool, running, state, fault, limits.max_reply))
        places = [limiters[method.run][0]]
        if method.options.concurrency is not None:
            places.append(ConcurrencyLimiter(method.options.concurrency, limits.waiting))
            limiters["method"].append(places[-1])
        for limiter in places:
            handler = limited(handler, limiter, limits.retry_after)
        if middleware or is_generator:
            return Known(method=method, timeout=timeout, handler=deadline(around(handler, middleware, state)))
        launch = in_thread(method, pool, running, state, fault) if method.run == "thread" else in_task(invoked)
        if method.begin is not None:
            launch = at_upstream(method, running, state, fault, launch)
        later = Beginner(launch, tuple(places))
        return Known(method=method, timeout=timeout, handler=deadline(handler), later=later)

    return compose


def _traced(method: Method, tracing: Tracing | None) -> Method:
    """Have the spans that a method of ours begins belong to that of its call."""
    if tracing is None or method.published is not None:
        return method
    return structs.replace(method, function=tracing.within(method.function, method.run, streams=method.streams))
