"""Traces of OpenTelemetry: when they are on, and what they need.

    tracing = Tracing(known, version)     TracingError: the extra is missing, or OTEL_TRACES_EXPORTER names something
                                          that is not there
    tracing.begin(context, entry)         the span of a request that is one call
    tracing.batch(...)                    the span of a request that is several; begin(..., parent) makes those in it
    tracing.calls(records)                an observer of calls: ends their spans
    tracing.within(function, ...)         a method's function, with the span of its call as the current one
    await tracing.flush()                 at the end of a process

The SDK is imported, and its thread is started, by ``start`` or at the first call: after the fork. Where the program has
set a TracerProvider of its own before that, spans go there.
"""

import asyncio
import functools
import importlib.util
import os
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from gateway.model.calls import CURRENT, CallRecord, Context, Entry
from gateway.model.tracing import CallSpan

_FLUSH = 3.0  # seconds that the last spans have to reach whoever collects them
_GROUP = "opentelemetry_traces_exporter"
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


class TracingError(Exception):
    """Calls cannot be traced; the message says what to do."""


def is_disabled(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether OTEL_SDK_DISABLED turns all of it off."""
    return environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def exporters(environment: Mapping[str, str] = os.environ) -> list[EntryPoint]:
    """Find the exporters that OTEL_TRACES_EXPORTER names; otlp by default.

    Raises:
        TracingError: one is not installed, or none can be, because the extra is missing.

    """
    if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.sdk") is None:
        raise TracingError("traces need the package opentelemetry-sdk: pip install '.[otel]' in the gateway's clone")
    names = [name.strip() for name in environment.get("OTEL_TRACES_EXPORTER", "").split(",") if name.strip()] or [
        "otlp"
    ]
    known = {point.name: point for point in entry_points(group=_GROUP)}
    found = []
    for name in names:
        if name == "none":
            continue
        chosen = _otlp(environment) if name == "otlp" else name
        if chosen not in known:
            raise TracingError(
                f"OTEL_TRACES_EXPORTER: there is no exporter {chosen!r}; installed are {', '.join(sorted(known))}"
            )
        found.append(known[chosen])
    return found


def _otlp(environment: Mapping[str, str]) -> str:
    """Return the name of the exporter for a protocol of OTLP; the protocol's own where it is not known."""
    given = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = (given or "http/protobuf").strip()
    return _OTLP.get(protocol, protocol)


class Tracing:
    """The spans of one gateway.

    Arguments:
        known: tells whether a name is one that callers cannot invent, given the name and the protocol.
        version: of the gateway.
        propagate: whether upstreams are told the trace.

    Raises:
        TracingError: calls cannot be traced as the environment says.

    """

    def __init__(self, known: Callable[[str, str], object], version: str, *, propagate: bool = True) -> None:
        self._known = known
        self._version = version
        self._propagate = propagate
        self._exporters = exporters()
        self._lock = threading.Lock()
        self._spans: Any = None

    def start(self, *, at_exit: bool = True) -> Any:
        """Load the SDK, if that has not been done; ``at_exit`` has it flushed when the process ends, too."""
        with self._lock:
            if self._spans is None:
                from gateway.telemetry import spans  # noqa: PLC0415 - it takes as long to import as all of the gateway

                provider = spans.provider(self._exporters, self._version, at_exit=at_exit)
                self._spans = spans.Spans(provider, self._known, self._version, propagate=self._propagate)
            return self._spans

    def begin(self, context: Context, entry: Entry, parent: CallSpan | None = None) -> CallSpan:
        """Begin the span of a call: that of its request, or one in the span of a batch."""
        span: CallSpan = (self._spans or self.start()).begin(context, entry, parent)
        return span

    @contextmanager
    def batch(self, protocol: str, method: str, size: int, context: Mapping[str, Any]) -> Iterator[CallSpan]:
        """Have a span for a request that is several calls, or a call of ``method`` that stands for several."""
        span = (self._spans or self.start()).begin_batch(protocol, method, size, context)
        try:
            yield span
        except BaseException:
            span.end_cancelled()
            raise
        span.end_now()

    def calls(self, records: Iterable[CallRecord]) -> None:
        """End the spans of calls."""
        for record in records:
            span: Any = record.span
            if span is not None:
                span.end(record)

    def within(
        self, function: Callable[..., Any], run: Literal["inline", "thread", "async"], *, streams: bool
    ) -> Callable[..., Any]:
        """Wrap the function of a method, so that spans which are begun in it belong to that of its call."""
        return _WRAPPERS["async" if run == "async" else "thread", streams](self, function)

    def enter(self) -> Any:
        """Make the span of the call that runs here the current one; what is returned is for ``leave``."""
        context = CURRENT.get(None)
        span: Any = None if context is None else context.span
        return None if span is None else self._spans.enter(span)

    def leave(self, token: Any) -> None:
        """Make the one before the current one."""
        if token is not None:
            self._spans.leave(token)

    async def flush(self) -> None:
        """Export what has not been; after some seconds it is lost."""
        if self._spans is None:
            return
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def work() -> None:
            self._spans.flush()
            try:
                loop.call_soon_threadsafe(_end, done)
            except RuntimeError:  # the loop has not waited, and is closed
                return

        threading.Thread(target=work, name="gateway-traces", daemon=True).start()
        await asyncio.wait((done,), timeout=_FLUSH)


def _end(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _plain(tracing: Tracing, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        token = tracing.enter()
        try:
            return function(*args, **kwargs)
        finally:
            tracing.leave(token)

    return call


def _coroutine(tracing: Tracing, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        token = tracing.enter()
        try:
            return await function(*args, **kwargs)
        finally:
            tracing.leave(token)

    return call


def _generator(tracing: Tracing, function: Callable[..., Generator[Any, None, None]]) -> Callable[..., Any]:
    @functools.wraps(function)
    def generate(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        values = function(*args, **kwargs)
        try:
            while True:
                token = tracing.enter()
                try:
                    value = next(values)
                except StopIteration:
                    return
                finally:
                    tracing.leave(token)
                yield value
        finally:
            values.close()

    return generate


def _async_generator(tracing: Tracing, function: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        values = function(*args, **kwargs)
        try:
            while True:
                token = tracing.enter()
                try:
                    value = await anext(values)
                except StopAsyncIteration:
                    return
                finally:
                    tracing.leave(token)
                yield value
        finally:
            await values.aclose()

    return generate


_WRAPPERS: dict[tuple[str, bool], Callable[[Tracing, Callable[..., Any]], Callable[..., Any]]] = {
    ("thread", False): _plain,
    ("thread", True): _generator,
    ("async", False): _coroutine,
    ("async", True): _async_generator,
}
