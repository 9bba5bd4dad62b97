"""The spans of calls over real sockets: what they say, where they belong, and what upstreams are told of them."""

import asyncio
import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from opentelemetry import trace
from opentelemetry.context import attach, detach, get_value, set_value
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from gateway import Call, ConfigError, Context, Fault, Registry, app, asgi, current_context, endpoint
from gateway.config import load
from gateway.hosts.wsgi import WSGIHost
from gateway.model.calls import CURRENT, CallRecord
from gateway.model.tracing import AttemptSpan, Peer
from gateway.telemetry import tracing
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.spans import Spans, _text, parent_of
from tests.conftest import Logged
from tests.endpoints.test_events import Caller
from tests.hosts.test_asgi import SCOPE, ask
from tests.hosts.test_websocket import Client
from tests.hosts.test_wsgi import ask as wsgi_ask
from tests.hosts.test_wsgi import environ
from tests.raw_http import Wire, exchange, request
from tests.serving import Server, eventually, free_port, serving
from tests.tracing import ON, attributes, collect, exporter, own, parent, spans, trace_id

JSON = {"Content-Type": "application/json"}
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
registry = Registry()
started: list[str] = []


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register(run="inline")
def refuse() -> None:
    raise Fault(7, "not today")


def current() -> str:
    with trace.get_tracer("shop").start_as_current_span("inside"):
        return f"{trace.get_current_span().get_span_context().trace_id:032x}"


@registry.register(run="inline")
def inline() -> str:
    return current()


@registry.register
def blocking() -> str:
    return current()


@registry.register
async def waiting() -> str:
    await asyncio.sleep(0)
    return current()


@registry.register
async def many(count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield current()


@registry.register
def several(count: int) -> Iterator[str]:
    for _ in range(count):
        yield current()


@registry.register
async def forever() -> None:
    started.append(current_context().method)
    await asyncio.Event().wait()


@registry.register
def passed_on() -> dict[str, str]:
    return {name: value for name, value in current_context().headers.items() if name.lower().startswith("trace")}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    collect()
    with serving(registry, ON | {"websocket.enabled": True, "server.tcp": "127.0.0.1:0"}) as found:
        yield found


@pytest.fixture(autouse=True)
def fresh() -> None:
    collect()
    exporter.clear()


def body(method: str, *params: Any, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params, "id": 1, **more}


def call(port: int, asked: Any, **headers: str) -> Any:
    response = exchange(port, request("/api", {**JSON, **headers}, json.dumps(asked).encode()))
    return json.loads(response.body) if response.body else None


def xml(port: int, method: str, *params: Any, **headers: str) -> bytes:
    sent = xmlrpc.client.dumps(params, method).encode()
    return exchange(port, request("/api", {"Content-Type": "text/xml", **headers}, sent)).body


USUAL = {"server.address": "localhost"}
OF_JSON = USUAL | {"rpc.system.name": "jsonrpc", "jsonrpc.protocol.version": "2.0", "jsonrpc.request.id": "1"}


@pytest.mark.parametrize("times", [1, 4])
def test_the_span_of_a_call(times: int, server: Server) -> None:
    """From the third time on, requests with the same head go the plain way."""
    asked = json.dumps(body("add", 2, 3)).encode()
    with Wire(server.port) as wire:
        for _ in range(times):
            wire.send(request("/api", {**JSON, "traceparent": PARENT, "X-Request-ID": "mine"}, asked))
            assert wire.read() is not None
    for span in spans(times):
        assert (span.name, span.kind, span.status.status_code) == ("add", SpanKind.SERVER, StatusCode.UNSET)
        assert attributes(span) == OF_JSON | {"rpc.method": "add"}
        assert span.attributes is not None
        assert span.attributes["client.address"] == "127.0.0.1"
        assert span.attributes["gateway.request_id"] == "mine"
        assert (trace_id(span), parent(span)) == (TRACE, SPAN)
        assert span.parent is not None
        assert span.parent.is_remote
        assert span.start_time is not None
        assert span.end_time is not None
        assert 0 <= span.end_time - span.start_time < 10**10


def test_the_span_of_a_call_in_xmlrpc(server: Server) -> None:
    assert b"<int>5</int>" in xml(server.port, "add", 2, 3)
    (span,) = spans(1)
    assert (span.name, span.parent) == ("add", None)
    assert attributes(span) == USUAL | {"rpc.system.name": "xmlrpc", "rpc.method": "add"}


@pytest.mark.parametrize(
    ("method", "params", "code"), [("refuse", [], "7"), ("add", ["x", 1], "-32602"), ("add", [], "-32602")]
)
def test_a_fault_is_an_error(method: str, params: list[Any], code: str, server: Server) -> None:
    call(server.port, body(method, *params))
    xml(server.port, method, *params)
    for span in spans(2):
        assert (span.name, span.status.status_code) == (method, StatusCode.ERROR)
        assert attributes(span).items() >= {"rpc.response.status_code": code, "error.type": code}.items()


@pytest.mark.parametrize("name", ["nothing", "\x00 é", "x" * 5000])
def test_what_a_caller_invents_names_no_span_and_can_be_exported(name: str, server: Server) -> None:
    call(server.port, body(name, id=f"{name}-id"))
    (span,) = spans(1)
    assert span.name == "jsonrpc"
    said = attributes(span)
    assert (said["rpc.method"], said["error.type"]) == ("_OTHER", "-32601")
    original = str(said["rpc.method_original"])
    assert original == name[:200]
    assert said["jsonrpc.request.id"] == f"{name}-id"[:200]
    assert encode_spans([span]).SerializeToString()


def test_a_text_that_cannot_be_encoded_is_spelt_out() -> None:
    """Where one span cannot be encoded, all that are exported with it are lost."""
    assert [_text(text) for text in ("plain", "é", "\ud800x")] == ["plain", "é", "\\ud800x"]


def test_what_is_no_call_has_a_span_without_a_method(server: Server) -> None:
    exchange(server.port, request("/api", JSON, b"{"))
    (span,) = spans(1)
    assert (span.name, attributes(span)["error.type"]) == ("jsonrpc", "-32700")
    assert "rpc.method_original" not in attributes(span)


def test_a_notification_has_no_id(server: Server) -> None:
    call(server.port, {"jsonrpc": "2.0", "method": "add", "params": [1, 2]})
    assert attributes(spans(1)[0]) == {name: value for name, value in OF_JSON.items() if "id" not in name} | {
        "rpc.method": "add"
    }


def test_a_batch_is_one_request_with_a_span_for_each_call(server: Server) -> None:
    call(server.port, [body("add", 1, 2), body("refuse", id="b"), 7], traceparent=PARENT)
    batch, *inner = spans(4)
    assert (batch.name, batch.kind, trace_id(batch), parent(batch)) == ("jsonrpc", SpanKind.SERVER, TRACE, SPAN)
    shared = {"rpc.system.name": "jsonrpc", "jsonrpc.protocol.version": "2.0"}
    assert attributes(batch) == USUAL | shared | {"gateway.batch.size": 3}
    assert {(span.name, span.kind, parent(span), trace_id(span)) for span in inner} == {
        (name, SpanKind.INTERNAL, own(batch), TRACE) for name in ("add", "refuse", "jsonrpc")
    }
    positions = {span.name: attributes(span)["gateway.batch.position"] for span in inner}
    assert positions == {"add": 0, "refuse": 1, "jsonrpc": 2}


def test_a_multicall_is_a_call_with_a_span_for_each_call_in_it(server: Server) -> None:
    entries = [{"methodName": "add", "params": [1, 2]}, {"methodName": "refuse", "params": []}]
    xml(server.port, "system.multicall", entries)
    multicall, *inner = spans(3)
    assert (multicall.name, multicall.kind) == ("system.multicall", SpanKind.SERVER)
    assert attributes(multicall)["rpc.method"] == "system.multicall"
    assert [(span.name, span.kind, parent(span)) for span in inner] == [
        ("add", SpanKind.INTERNAL, own(multicall)),
        ("refuse", SpanKind.INTERNAL, own(multicall)),
    ]


@pytest.mark.parametrize("method", ["inline", "blocking", "waiting"])
@pytest.mark.parametrize("times", [1, 4])
def test_spans_of_a_method_belong_to_its_call(method: str, times: int, server: Server) -> None:
    with Wire(server.port) as wire:
        for _ in range(times):
            wire.send(request("/api", JSON, json.dumps(body(method)).encode()))
            assert wire.read() is not None
    found = spans(2 * times)
    calls = {own(span): span for span in found if span.kind is SpanKind.SERVER}
    assert len(calls) == times
    for inside in (span for span in found if span.name == "inside"):
        assert trace_id(inside) == trace_id(calls.pop(parent(inside)))


@pytest.mark.parametrize("method", ["many", "several"])
def test_spans_of_a_generator_belong_to_its_call(method: str, server: Server) -> None:
    ids = call(server.port, body(method, 3))["result"]
    found, *inside = spans(4)
    assert ids == [trace_id(found)] * 3
    assert {parent(span) for span in inside} == {own(found)}


def test_a_stream_of_events_is_one_span(server: Server) -> None:
    with Caller(server.port) as caller:
        assert b'"result":null' in caller.ask(body("many", 2)).read()
    found, *inside = spans(3)
    assert (found.name, found.kind) == ("many", SpanKind.SERVER)
    assert {parent(span) for span in inside} == {own(found)}
    exporter.clear()
    with Caller(server.port) as caller:
        assert b"-32602" in caller.ask(body("many", "x")).read()
    assert attributes(spans(1)[0])["error.type"] == "-32602"


def test_a_subscription_is_a_span_in_that_of_its_call(server: Server) -> None:
    with Client(server) as client:
        client.send(body("rpc.subscribe", "many", 2))
        subscribed, stream, *inside = sorted(spans(4), key=lambda span: span.name, reverse=True)
    assert subscribed.name == "rpc.subscribe"
    assert (subscribed.kind, stream.name, parent(stream)) == (SpanKind.SERVER, "many", own(subscribed))
    assert {parent(span) for span in inside} == {own(stream)}


def test_calls_over_tcp_and_websocket_have_spans(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.tcp_port)) as raw, Client(server) as client:
        raw.sendall(json.dumps(body("add", 1, 2)).encode())
        assert b'"result":3' in raw.recv(1000)
        client.send(body("add", 1, 2))
        first, second = spans(2)
    assert first.name == second.name == "add"
    assert trace_id(first) != trace_id(second)


def test_a_caller_that_hangs_up_ends_the_span(server: Server) -> None:
    started.clear()
    with Wire(server.port) as wire:
        wire.send(request("/api", JSON, json.dumps([body("forever"), body("add", 1, 2)]).encode()))
        eventually(lambda: started, "it does not run")
    batch, *inner = spans(2, lambda span: span.name != "add")
    for span in (batch, *inner):
        assert (attributes(span)["error.type"], span.status.status_code) == ("cancelled", StatusCode.ERROR)


HOSTILE = [
    "",
    "00",
    PARENT.upper(),
    f"ff{PARENT[2:]}",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"{PARENT}-more",
    f"{PARENT},{PARENT}",
    f"00-{TRACE}-{SPAN}-0g",
    "00-" + "9" * 4000,
    "\u0660\u0660" + PARENT[2:],
]


@pytest.mark.parametrize("value", HOSTILE)
def test_what_is_no_traceparent_is_left_alone(value: str, server: Server) -> None:
    assert parent_of({"traceparent": value}) is None
    if value.isascii():
        assert call(server.port, body("add", 1, 2), traceparent=value)["result"] == 3
        assert spans(1)[0].parent is None


@pytest.mark.parametrize("value", [f"cc{PARENT[2:]}-more", f"01{PARENT[2:]}", f"\t{PARENT} ", f"{PARENT[:-2]}ff"])
def test_later_versions_of_traceparent_are_read_as_far_as_they_are_known(value: str) -> None:
    found = parent_of({"traceparent": value})
    assert found is not None
    assert (f"{found.trace_id:032x}", f"{found.span_id:016x}") == (TRACE, SPAN)
    assert found.trace_flags <= 3


STATES = {
    "a=1,b=2": "a=1,b=2",
    " a=1 ,\t,b=2": "a=1,b=2",
    "t1@v=x y": "t1@v=x y",
    "a=1,a=2": "",
    "A=1": "",
    "a=1,b": "",
    "a=\x7f": "",
    "a==": "",
    ",".join(f"k{number}=1" for number in range(32)): ",".join(f"k{number}=1" for number in range(32)),
    ",".join(f"k{number}=1" for number in range(33)): "",
    "a=" + "x" * 256 + ",b=" + "x" * 252: "a=" + "x" * 256 + ",b=" + "x" * 251,
}


@pytest.mark.parametrize("state", STATES)
def test_a_tracestate_is_taken_as_a_whole_or_not_at_all(state: str) -> None:
    state = state if len(state) < 513 else state[:512]
    found = parent_of({"traceparent": PARENT, "tracestate": state})
    assert found is not None
    assert found.trace_state.to_header() == next(STATES[each] for each in STATES if each[:512] == state)
    too_long = parent_of({"traceparent": PARENT, "tracestate": f"{state},".ljust(513)})
    assert too_long is not None
    assert not too_long.trace_state


def told(port: int) -> dict[str, str]:
    """Return what an upstream is told of the trace of a call."""
    found = call(port, body("up.passed_on"), traceparent=PARENT, tracestate="shop=1")["result"]
    return {name.lower(): value for name, value in found.items()}


@pytest.mark.parametrize("kind", ["jsonrpc", "xmlrpc"])
@pytest.mark.parametrize("forward", [[], ["traceparent", "tracestate"]])
def test_an_attempt_is_a_span_which_the_upstream_continues(kind: str, forward: list[str], server: Server) -> None:
    settings = ON | {
        "upstreams.up.url": f"{kind}+http://127.0.0.1:{server.port}/api",
        "upstreams.up.methods": '["passed_on", "refuse"]',
        "upstreams.up.forward": json.dumps(forward),
    }
    with serving(Registry(), settings) as front:
        received = told(front.port)
        outer, attempt, inner = spans(3)
        assert received == {"traceparent": f"00-{TRACE}-{own(attempt)}-01", "tracestate": "shop=1"}
        assert [(span.name, span.kind) for span in (outer, attempt, inner)] == [
            ("up.passed_on", SpanKind.SERVER),
            ("passed_on", SpanKind.CLIENT),
            ("passed_on", SpanKind.SERVER),
        ]
        assert [parent(span) for span in (outer, attempt, inner)] == [SPAN, own(outer), own(attempt)]
        assert attributes(attempt) == {
            "rpc.system.name": kind,
            "rpc.method": "passed_on",
            "gateway.upstream": "up",
            "gateway.sent": "yes",
            "server.address": "127.0.0.1",
        }
        assert (attempt.attributes or {})["server.port"] == server.port
        exporter.clear()
        call(front.port, body("up.refuse"))
        outer, attempt, _ = spans(3)
        assert attempt.status.status_code == StatusCode.ERROR
        assert attributes(attempt).items() >= {"rpc.response.status_code": "7", "error.type": "7"}.items()
        assert attributes(outer)["error.type"] == "7"


def test_upstreams_are_told_nothing_without_propagate(server: Server) -> None:
    settings = ON | {
        "traces.propagate": False,
        "upstreams.up.url": f"jsonrpc+http://127.0.0.1:{server.port}/api",
        "upstreams.up.methods": '["passed_on"]',
    }
    with serving(Registry(), settings) as front:
        assert told(front.port) == {}
        assert len({trace_id(span) for span in spans(3)}) == 2


def test_each_attempt_at_an_instance_is_a_span(server: Server, logged: Logged) -> None:
    dead = free_port()
    urls = [f"jsonrpc+http://127.0.0.1:{port}/api" for port in (dead, server.port)]
    settings = ON | {"upstreams.up.url": json.dumps(urls), "upstreams.up.methods": '["add"]'}
    with serving(Registry(), settings) as front:
        for _ in range(20):
            assert call(front.port, body("up.add", 1, 2))["result"] == 3
        attempts = [span for span in exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]
        refused = [span for span in attempts if span.status.status_code is StatusCode.ERROR]
        assert refused
        for span in refused:
            assert attributes(span).items() >= {"error.type": "Unavailable", "gateway.sent": "no"}.items()
            assert (span.attributes or {})["server.port"] == dead
            following = next(each for each in attempts if each is not span and parent(each) == parent(span))
            assert (following.attributes or {})["server.port"] == server.port
            assert own(following) != own(span)
    logged.take("is out of service")


def test_an_attempt_that_is_made_again_at_the_same_upstream_has_another_span(logged: Logged) -> None:
    port = free_port()
    settings = ON | {"upstreams.up.url": f"jsonrpc+http://127.0.0.1:{port}/api", "upstreams.up.methods": '["add"]'}
    with serving(Registry(), settings) as front:
        assert call(front.port, body("up.add", 1, 2))["error"]["code"] == -32002
        attempts = spans(2, lambda span: span.kind is SpanKind.CLIENT)
        assert len({own(span) for span in attempts}) == 2
        assert len({parent(span) for span in attempts}) == 1
    assert logged.take("is down")


def test_what_the_caller_has_not_sampled_is_not_exported_and_passed_on(server: Server) -> None:
    settings = ON | {
        "upstreams.up.url": f"jsonrpc+http://127.0.0.1:{server.port}/api",
        "upstreams.up.methods": '["passed_on"]',
    }
    with serving(Registry(), settings) as front:
        asked = [body("up.passed_on")]
        (answer,) = call(front.port, asked, traceparent=f"00-{TRACE}-{SPAN}-00")
        received = {name.lower(): value for name, value in answer["result"].items()}
        assert received["traceparent"].startswith(f"00-{TRACE}-")
        assert received["traceparent"].endswith("-00")
        assert SPAN not in received["traceparent"]
    assert exporter.get_finished_spans() == ()


def test_nothing_is_made_for_the_calls_of_a_batch_that_is_not_sampled() -> None:
    made = Spans(TracerProvider(ALWAYS_OFF, shutdown_on_exit=False), registry.get, "1", propagate=True)
    context = Context.fake("add", headers={"traceparent": PARENT})
    asked = Call(method="add", params=[])
    outer = made.begin(context, asked, None)
    assert made.begin(context, asked, outer) is outer
    assert (outer.trace_id, outer.is_sampled) == (TRACE, False)


def test_what_a_program_has_in_its_context_stays_there(server: Server) -> None:
    tracer = server.gateway.tracing
    assert tracer is not None
    context = Context.fake("add")
    context.span = tracer.begin(context, Call(method="add", params=[]))
    before, running = attach(set_value("shop", 1)), CURRENT.set(context)
    token = tracer.enter()
    assert get_value("shop") == 1
    assert trace.get_current_span() is getattr(context.span, "made")  # noqa: B009 - it is a Protocol here
    tracer.leave(token)
    CURRENT.reset(running)
    detach(before)


def test_a_span_of_the_surrounding_program_is_the_parent() -> None:
    mounted = asgi(registry, config=load(None, {}, ["traces.enabled=true"]))
    with trace.get_tracer("shop").start_as_current_span("request"):
        scope = SCOPE | {"headers": [*SCOPE["headers"], (b"traceparent", PARENT.encode())]}
        assert ask(mounted, scope)[0]["status"] == 200
    outer, inner = spans(2)
    assert (outer.name, inner.name, parent(inner)) == ("request", "add", own(outer))


def test_a_wsgi_application_traces_calls_too() -> None:
    mounted = WSGIHost(endpoint(registry, config=load(None, {}, ["traces.enabled=true"])))
    answer = wsgi_ask(mounted, environ(json.dumps(body("blocking")).encode(), HTTP_TRACEPARENT=PARENT))
    outer, inner = spans(2)
    assert json.loads(answer.body)["result"] == trace_id(outer) == trace_id(inner) == TRACE
    assert (outer.kind, parent(outer), parent(inner)) == (SpanKind.SERVER, SPAN, own(outer))


def test_off_nothing_of_it_is_imported() -> None:
    code = "import sys, gateway; from gateway import app, Registry, Config; app.build(Config(), Registry())\n"
    code += "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("setting", ["true", "TRUE"])
def test_the_environment_turns_it_off(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", setting)
    assert app.build(load(None, {}, ["traces.enabled=true"]), Registry()).tracing is None


def problem() -> str:
    with pytest.raises(ConfigError) as error:
        app.build(load(None, {}, ["traces.enabled=true"]), Registry())
    return error.value.problems[0]


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert problem() == (
        "traces.enabled: traces need the package opentelemetry-sdk: pip install '.[otel]' in the gateway's clone"
    )


@pytest.mark.parametrize(
    ("variable", "value", "wrong"),
    [
        ("OTEL_TRACES_EXPORTER", "otlp,zipkin", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "otlp_proto_grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "carrier-pigeon", "carrier-pigeon"),
    ],
)
def test_an_exporter_that_is_not_there_is_an_error(
    variable: str, value: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert problem().startswith(f"traces.enabled: OTEL_TRACES_EXPORTER: there is no exporter {wrong!r}; installed are ")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none, console")
    assert [point.name for point in tracing.exporters()] == ["console"]


def exposed(server: Server, accept: str = "application/openmetrics-text") -> str:
    return exchange(server.metrics, request("/metrics", {"Accept": accept}, b"", "GET")).body.decode()


EXEMPLAR = re.compile(
    r'^gateway_call_duration_seconds_bucket\{le="(?P<le>\S+)",method="(?P<method>\S+)",protocol="\w+"\} \S+'
    r' # \{span_id="(?P<span>\w+)",trace_id="(?P<trace>\w+)"\} (?P<seconds>\S+) (?P<time>\S+)$',
    re.MULTILINE,
)


def test_a_bucket_has_the_trace_of_its_last_call() -> None:
    with serving(registry, ON) as server:
        call(server.port, body("add", 1, 2))
        spans(1)
        exporter.clear()
        call(server.port, body("add", 1, 2), traceparent=PARENT)
        call(server.port, body("invented"))
        call(server.port, body("waiting"), traceparent=f"00-{TRACE}-{SPAN}-00")
        found = [span for span in spans(2) if trace_id(span) == TRACE]
        told = [match for match in EXEMPLAR.finditer(exposed(server)) if match["method"] == "add"]
        assert [(match["trace"], match["span"]) for match in told if match["trace"] == TRACE] == [
            (TRACE, own(found[0]))
        ]
        for match in told:
            assert float(match["seconds"]) <= float(match["le"])
            assert abs(float(match["time"]) - time.time()) < 60
        assert {match["method"] for match in EXEMPLAR.finditer(exposed(server))} == {"add", "-"}
        assert " # {" not in exposed(server, "text/plain")


def test_workers_tell_the_exemplars_of_each_other(tmp_path: Path) -> None:
    spans_of = [Ids("a" * 32, "b" * 16), Ids("c" * 32, "d" * 16)]
    one, other = (Metrics(registry.get, ("jsonrpc",), "1", tmp_path, slot) for slot in (0, 1))
    for metrics, span, seconds in ((other, spans_of[1], 0.0021), (one, spans_of[0], 0.002), (other, spans_of[1], 0.2)):
        record = CallRecord(
            method="add",
            protocol="jsonrpc",
            client="",
            outcome=None,
            bytes=1,
            request_id="",
            position=None,
            seconds=seconds,
            span=span,
        )
        metrics.calls([record])
        metrics.update({})
    (tmp_path / "exemplars_2.json").write_text("[[torn")
    for metrics in (one, other):
        told = EXEMPLAR.finditer(metrics.expose("application/openmetrics-text")[1].decode())
        assert [(match["le"], match["trace"]) for match in told] == [("0.0025", "a" * 32), ("0.25", "c" * 32)]
    shutil.rmtree(tmp_path)
    one.calls([record])
    one.update({})


class Ids(Struct):
    """As much of a span as metrics look at."""

    trace_id: str
    span_id: str
    is_sampled: bool = True

    def attempt(self, peer: Peer, method: str) -> AttemptSpan:
        raise NotImplementedError
