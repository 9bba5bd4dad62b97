"""The spans of calls, by the conventions of OpenTelemetry for RPC.

This imports the SDK, and is itself imported only where calls are traced. Of what callers write, spans have the name of
a method that is not known, and the id of a call. Both are cut, and what cannot be encoded is spelt out: it would cost
all spans that are exported with it. A traceparent that is not one is left alone, without a line in the log.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from gateway.model.calls import Call, CallRecord, Context, Entry
from gateway.model.faults import Fault, GatewayFault
from gateway.model.tracing import Peer

_SCHEMA = "https://opentelemetry.io/schemas/1.45.0"
_OTHER = "_OTHER"
_LONGEST = 200  # characters that callers choose
_TRACEPARENT = re.compile(r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*", re.ASCII)
_KNOWN_FLAGS = 0x03  # sampled, and random trace id
_LONGEST_STATE = 512  # characters of a tracestate that are passed on (Trace Context, 3.3.1.5)
_MOST_MEMBERS = 32
_MEMBER = re.compile(
    r"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=([ -+\--<>-~]{0,255}[!-+\--<>-~])"
)
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?", re.ASCII)
_FAILED = Status(StatusCode.ERROR)
_NOWHERE = contexts.Context()
_setting = threading.Lock()


def provider(points: Sequence[EntryPoint], version: str, *, at_exit: bool) -> Any:
    """Return the program's TracerProvider; where it has none, make one by the variables OTEL_*."""
    with _setting:
        found = trace.get_tracer_provider()
        if not isinstance(found, trace.ProxyTracerProvider):
            return found
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "gateway", SERVICE_VERSION: version}))
        made = TracerProvider(resource=resource, shutdown_on_exit=at_exit)
        for point in points:
            made.add_span_processor(BatchSpanProcessor(point.load()()))
        trace.set_tracer_provider(made)
        return made


def parent_of(headers: Mapping[str, str]) -> SpanContext | None:
    """Read what a caller says of its span (W3C Trace Context); None where it says nothing, or nothing sensible."""
    given = headers.get("traceparent")
    found = None if given is None else _TRACEPARENT.fullmatch(given)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    known = TraceFlags(int(flags, 16) & _KNOWN_FLAGS)
    state = _state(headers.get("tracestate"))
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=known, trace_state=state)


def _state(given: str | None) -> TraceState | None:
    """Read a tracestate; None where any of it is wrong: the SDK would write that into the log."""
    if not given or len(given) > _LONGEST_STATE:
        return None
    members: dict[str, str] = {}
    for member in filter(None, (each.strip(" \t") for each in given.split(","))):
        found = _MEMBER.fullmatch(member)
        if found is None or found[1] in members or len(members) == _MOST_MEMBERS:
            return None
        members[found[1]] = found[2]
    return TraceState(list(members.items()))


def _text(text: str) -> str:
    """Return at most so much of a text, in which no character is one that protobuf has not."""
    text = text[:_LONGEST]
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class Spans:
    """What begins the spans of one gateway; see gateway/telemetry/tracing.py."""

    def __init__(self, source: Any, known: Callable[[str, str], object], version: str, *, propagate: bool) -> None:
        self.tracer = source.get_tracer("gateway", version, schema_url=_SCHEMA)
        self.propagate = propagate
        self._provider = source
        self._known = known
        self._usual: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}

    def begin(self, context: Context, entry: Entry, parent: "Span | None") -> "Span":
        """Begin the span of a call; in a batch of which nothing is recorded, that of the batch is its."""
        if parent is not None and not parent.is_recording:
            return parent
        is_known = True
        found = self._usual.get((context.protocol, context.method))
        if found is None:
            is_known = bool(context.method) and bool(self._known(context.method, context.protocol))
            found = self._named(context.protocol, context.method if is_known else "")
        name, usual = found
        if parent is None:
            kind, within = SpanKind.SERVER, _within(context.headers)
        else:
            kind, within = SpanKind.INTERNAL, parent.within
        start = time.time_ns()
        made = self.tracer.start_span(name, within, kind, usual, start_time=start)
        span = Span(self, made, start)
        if span.is_recording:
            told = _of_request(context.headers, context.client, context.request_id)
            made.set_attributes(told | _of_call(context, entry, is_known=is_known))  # at once: each time takes a lock
        return span

    def begin_batch(self, protocol: str, method: str, size: int, context: Mapping[str, Any]) -> "Span":
        """Begin the span of a request that is several calls."""
        name, usual = self._named(protocol, method)
        if not method:
            usual = {each: value for each, value in usual.items() if each != "rpc.method"}
        start = time.time_ns()
        made = self.tracer.start_span(name, _within(context["headers"]), SpanKind.SERVER, usual, start_time=start)
        if made.is_recording():
            made.set_attributes({**_of_request(**context), "gateway.batch.size": size})
        return Span(self, made, start)

    def enter(self, span: "Span") -> Any:
        """Make a span the current one."""
        return contexts.attach(trace.set_span_in_context(span.made) if contexts.get_current() else span.within)

    def leave(self, token: Any) -> None:
        """Make the one before the current one."""
        contexts.detach(token)

    def flush(self) -> None:
        """Export what has not been."""
        flush = getattr(self._provider, "force_flush", None)
        if flush is not None:
            flush()

    def _named(self, protocol: str, method: str) -> tuple[str, dict[str, Any]]:
        """Return the name of a span, and the attributes that a sampler sees; callers cannot invent the method."""
        found = self._usual.get((protocol, method))
        if found is None:
            usual = {"rpc.system.name": protocol, "rpc.method": method or _OTHER}
            if protocol == "jsonrpc":
                usual["jsonrpc.protocol.version"] = "2.0"
            found = self._usual[protocol, method] = (method or protocol, usual)
        return found


def _within(headers: Mapping[str, str]) -> contexts.Context:
    """Return where the span of a request belongs: to the program's own span, if there is one, or to the caller's."""
    current = contexts.get_current()
    if current and trace.get_current_span(current).get_span_context().is_valid:
        return current
    parent = parent_of(headers)
    return _NOWHERE if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), _NOWHERE)


def _of_request(headers: Mapping[str, str], client: str, request_id: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {"client.address": client, "gateway.request_id": request_id}
    host = _HOST.fullmatch(headers.get("Host", ""))
    if host is not None:
        attributes["server.address"] = host[1].strip("[]")
        if host[2]:
            attributes["server.port"] = int(host[2])
    return attributes


def _of_call(context: Context, entry: Entry, *, is_known: bool) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    is_notification = isinstance(entry, Call) and entry.notification
    if entry.id is not None and not is_notification:
        attributes["jsonrpc.request.id"] = _text(str(entry.id))
    if context.method and not is_known:
        attributes["rpc.method_original"] = _text(context.method)
    if context.position is not None:
        attributes["gateway.batch.position"] = context.position
    return attributes


class Span:
    """The span of a call or of a batch.

    Attributes:
        made: OpenTelemetry's own.
        is_recording: whether anything is to be said of it.

    """

    __slots__ = ("_is_over", "_spans", "_start", "_within", "is_recording", "made")

    def __init__(self, spans: Spans, made: trace.Span, start: int) -> None:
        self.made = made
        self.is_recording = made.is_recording()
        self._spans = spans
        self._start = start
        self._within: contexts.Context | None = None
        self._is_over = False

    @property
    def within(self) -> contexts.Context:
        """Where spans inside of it begin."""
        if self._within is None:
            self._within = trace.set_span_in_context(self.made, _NOWHERE)
        return self._within

    @property
    def trace_id(self) -> str:
        """The id of the trace, in hexadecimal digits."""
        return trace.format_trace_id(self.made.get_span_context().trace_id)

    @property
    def span_id(self) -> str:
        """The id of the span, in hexadecimal digits."""
        return trace.format_span_id(self.made.get_span_context().span_id)

    @property
    def is_sampled(self) -> bool:
        """Whether it is exported."""
        return self.made.get_span_context().trace_flags.sampled

    def attempt(self, peer: Peer, method: str) -> "Attempt":
        """Begin the span of an attempt at an upstream; where nothing is recorded, the attempt is in this one."""
        if not self.is_recording:
            return Attempt(self.made, self._along(self.made), peer, is_own=False)
        name = method
        if peer.system == "grpc":
            service, _, last = method.rpartition(".")
            name = f"{peer.service or service}/{last}".removeprefix("/")
        usual = {"rpc.system.name": peer.system, "rpc.method": name, "gateway.upstream": peer.upstream}
        made = self._spans.tracer.start_span(name, self.within, SpanKind.CLIENT, usual)
        attempt = Attempt(made, self._along(made), peer, is_own=True)
        if peer.address:
            attempt.at(peer.address)
        return attempt

    def _along(self, made: trace.Span) -> tuple[tuple[str, str], ...]:
        if not self._spans.propagate:
            return ()
        told = made.get_span_context()
        parent = f"00-{told.trace_id:032x}-{told.span_id:016x}-{told.trace_flags:02x}"
        if not told.trace_state:
            return (("traceparent", parent),)
        return (("traceparent", parent), ("tracestate", told.trace_state.to_header()))

    def end(self, record: CallRecord) -> None:
        """End it, as the call has."""
        if self._is_over or not self.is_recording:
            return
        self._is_over = True
        made, outcome = self.made, record.outcome
        if outcome is not None:
            if outcome != "cancelled":
                made.set_attribute("rpc.response.status_code", str(outcome))
            made.set_attribute("error.type", str(outcome))
            made.set_status(_FAILED)
        if record.called:
            made.update_name(record.method)
            made.set_attributes({"rpc.method": record.method, "rpc.method_original": _text(record.called)})
        made.end(self._start + int(record.seconds * 1e9))

    def end_now(self) -> None:
        """End it, where what becomes of the calls in it is in their spans."""
        self.made.end()

    def end_cancelled(self) -> None:
        """End it, because the caller has hung up."""
        self.made.set_attribute("error.type", "cancelled")
        self.made.set_status(_FAILED)
        self.made.end()


class Attempt:
    """The span of an attempt; ``is_own`` where it has one."""

    __slots__ = ("_has_failed", "_is_open", "_made", "_peer", "along")

    def __init__(self, made: trace.Span, along: tuple[tuple[str, str], ...], peer: Peer, *, is_own: bool) -> None:
        self.along = along
        self._made = made
        self._peer = peer
        self._is_open = is_own
        self._has_failed = False

    def at(self, address: str) -> None:
        """Note which instance has the attempt."""
        if not self._is_open:
            return
        host, colon, port = address.rpartition(":")
        if address.startswith("unix:") or not colon:
            self._made.set_attribute("server.address", address.removeprefix("unix:"))
            return
        self._made.set_attributes({"server.address": host.strip("[]"), "server.port": int(port)})

    def failed(self, error: Exception, told: Exception) -> None:
        """Note what was raised, and what the caller is told of it."""
        if not self._is_open:
            return
        self._has_failed = True
        status = getattr(getattr(error, "code", None), "name", None)  # of gRPC
        if not isinstance(status, str):
            status = str(told.code) if isinstance(told, Fault) and not isinstance(told, GatewayFault) else None
        if status is not None:
            self._made.set_attribute("rpc.response.status_code", status)
        self._made.set_attribute("error.type", status or type(told).__name__)
        self._made.set_status(_FAILED)

    def end(self, ended: str, sent: str) -> None:
        """End it: how the attempt has ended, and how far it had come."""
        if not self._is_open:
            return
        self._is_open = False
        if ended in {"cancelled", "lost"}:
            self._made.set_attribute("error.type", "cancelled")
        elif self._peer.system == "grpc" and not self._has_failed:
            self._made.set_attribute("rpc.response.status_code", "OK")
        self._made.set_attribute("gateway.sent", sent)
        self._made.end()
