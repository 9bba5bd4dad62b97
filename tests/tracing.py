"""The spans that gateways in this process make, in the memory of OpenTelemetry's own exporter for tests."""

from collections.abc import Callable
from functools import cache

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.serving import eventually

ON = {"traces.enabled": True}
exporter = InMemorySpanExporter()


@cache
def collect() -> None:
    """Have all spans of this process in memory, from now on: a TracerProvider cannot be replaced."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def spans(count: int, of: Callable[[ReadableSpan], bool] = lambda _: True) -> list[ReadableSpan]:
    """Wait until so many spans have ended, and return all that have, in the order of their beginnings."""

    def found() -> list[ReadableSpan]:
        return sorted(filter(of, exporter.get_finished_spans()), key=lambda span: span.start_time or 0)

    eventually(lambda: len(found()) >= count, f"there are no {count} spans, but {found()}", 10)
    assert len(found()) == count, [span.name for span in found()]
    return found()


def attributes(span: ReadableSpan) -> dict[str, object]:
    """Return the attributes of a span, without those that differ from run to run."""
    varying = ("gateway.request_id", "client.address", "server.port")
    return {name: value for name, value in (span.attributes or {}).items() if name not in varying}


def parent(span: ReadableSpan) -> str:
    return "" if span.parent is None else f"{span.parent.span_id:016x}"


def own(span: ReadableSpan) -> str:
    return f"{span.context.span_id:016x}"


def trace_id(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}"
