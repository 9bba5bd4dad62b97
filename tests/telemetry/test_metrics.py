"""/metrics, as Prometheus reads it, of gateways on real sockets; test_metrics_of_workers.py has those of processes."""

import asyncio
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import prometheus_client
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

from gateway import Fault, Registry
from gateway.codecs import IMPLEMENTATION
from gateway.telemetry.metrics import FAMILIES, Metrics
from tests.raw_http import Response, Wire, exchange, post, request
from tests.scraping import scrape, until
from tests.serving import Server, serving

ROOT = Path(__file__).parents[2]
JSON = {"Content-Type": "application/json"}

registry = Registry()
release = threading.Event()


@registry.register(run="inline", aliases="plus")
def add(a: int, b: int) -> int:
    return a + b


@registry.register(run="inline")
def refuse(code: int) -> None:
    raise Fault(code, "no")


@registry.register(run="inline", protocols=["jsonrpc"])
def half() -> None:
    """Exist for one protocol only."""


@registry.register
def block() -> str:
    release.wait(20)
    return "done"


@registry.register(concurrency=1)
def block_alone() -> str:
    release.wait(20)
    return "done"


@registry.register
async def wait(seconds: float) -> None:
    await asyncio.sleep(seconds)


@pytest.fixture(autouse=True)
def held() -> Iterator[None]:
    release.clear()
    yield
    release.set()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(registry) as started:
        yield started
        release.set()


def json(method: str, *params: Any, **more: Any) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": 1, **more})


def xml(method: str, *params: int) -> bytes:
    values = "".join(f"<param><value><int>{param}</int></value></param>" for param in params)
    text = f"<methodCall><methodName>{method}</methodName><params>{values}</params></methodCall>"
    return text.encode()


def post_xml(port: int, body: bytes) -> Response:
    return post(port, body, "text/xml")


def get(port: int, path: str, **headers: str) -> Response:
    return exchange(port, request(path, headers, b"", "GET"))


@contextmanager
def calling(port: int, *bodies: bytes) -> Iterator[list[Wire]]:
    """Send calls on connections of their own, and hold the connections."""
    wires = [Wire(port) for _ in bodies]
    try:
        for wire, body in zip(wires, bodies, strict=True):
            wire.send(request("/api", JSON, body))
        yield wires
    finally:
        for wire in wires:
            wire.socket.close()


def test_calls_are_counted_by_method_protocol_outcome_and_code(server: Server) -> None:
    for _ in range(3):
        post(server.port, json("add", 2, 3))
    post_xml(server.port, xml("add", 2, 3))
    post_xml(server.port, xml("plus", 2, 3))
    post(server.port, json("add", "two", 3))
    post(server.port, json("refuse", 42))
    numbers = scrape(server.metrics)
    counted = {
        (
            sample.labels["method"],
            sample.labels["protocol"],
            sample.labels["outcome"],
            sample.labels["code"],
        ): sample.value
        for sample in numbers.samples
        if sample.name == "gateway_calls_total"
    }
    assert counted == {
        ("add", "jsonrpc", "ok", "-"): 3,
        ("add", "xmlrpc", "ok", "-"): 1,
        ("plus", "xmlrpc", "ok", "-"): 1,
        ("add", "jsonrpc", "fault", "-32602"): 1,
        ("refuse", "jsonrpc", "fault", "42"): 1,
    }


def test_every_call_of_a_batch_and_of_a_multicall_counts_and_notifications_do(server: Server) -> None:
    notification = b'{"jsonrpc":"2.0","method":"add","params":[1,1]}'
    post(server.port, b"[%b,%b,%b,7]" % (json("add", 1, 2), json("add", 1), notification))
    numbers = scrape(server.metrics)
    assert numbers.of("gateway_calls_total", protocol="jsonrpc") == 4
    assert numbers.of("gateway_calls_total", method="add", outcome="ok") == 2
    assert numbers.of("gateway_calls_total", method="add", code="-32602") == 1
    assert numbers.of("gateway_calls_total", method="-", code="-32600") == 1
    entry = (
        "<value><struct><member><name>methodName</name><value>add</value></member><member><name>params</name>"
        "<value><array><data><value><int>1</int></value><value><int>2</int></value></data></array></value></member>"
        "</struct></value>"
    )
    multicall = (
        "<methodCall><methodName>system.multicall</methodName><params><param><value><array><data>"
        f"{entry * 5}</data></array></value></param></params></methodCall>"
    )
    assert post_xml(server.port, multicall.encode()).body.count(b"<int>3</int>") == 5
    assert scrape(server.metrics).of("gateway_calls_total", protocol="xmlrpc", method="add", outcome="ok") == 5


def test_a_caller_that_hangs_up_is_a_cancelled_call(server: Server) -> None:
    with calling(server.port, json("wait", 20)):
        until(server.metrics, lambda numbers: numbers.of("gateway_requests_in_flight") == 1)
    numbers = until(server.metrics, lambda numbers: numbers.of("gateway_calls_total") == 1)
    assert numbers.of("gateway_calls_total", method="wait", outcome="cancelled", code="-") == 1
    assert numbers.of("gateway_call_duration_seconds_count", method="wait") == 1


def test_what_callers_invent_is_never_a_label() -> None:
    rules = '[{"methods": ["secret.*"], "networks": ["192.0.2.0/24"]}]'
    with serving(registry, {"access.rules": rules}) as server:
        for name in ("invented", "secret.invented", "add.invented", "_invented", 'quoted"invented', "invented\n"):
            assert b'"error"' in post(server.port, json(name)).body
        post_xml(server.port, xml("invented"))
        post_xml(server.port, xml("half"))
        for body in (b"{", b"[]", b'{"invented":1}', b'{"jsonrpc":"2.0","method":7,"id":1}'):
            post(server.port, body)
        post(server.port, b"<invented/>", "text/xml")
        get(server.port, "/invented")
        exchange(server.port, request("/api", {**JSON, "X-Request-ID": "invented"}, json("add", 1, 1), "POST"))
        exchange(server.port, request("/api", {"Content-Type": "invented/invented"}, b"invented", "POST"))
        numbers = scrape(server.metrics)
    assert numbers.labels("gateway_calls_total", "method") == {"-", "add"}
    assert numbers.of("gateway_calls_total", method="-", code="-32005") == 1
    assert numbers.of("gateway_calls_total", method="-", code="-32601") == 7
    assert "invented" not in numbers.text


def test_methods_of_one_protocol_are_known_on_that_one(server: Server) -> None:
    post(server.port, json("half"))
    post_xml(server.port, xml("half"))
    numbers = scrape(server.metrics)
    assert numbers.of("gateway_calls_total", method="half", protocol="jsonrpc", outcome="ok") == 1
    assert numbers.of("gateway_calls_total", method="-", protocol="xmlrpc", code="-32601") == 1


def test_methods_fault_codes_are_told_apart_until_there_are_too_many(server: Server) -> None:
    for code in range(1, 31):
        for _ in range(2):
            post(server.port, json("refuse", code))
    post(server.port, json("invented"))
    post(server.port, json("refuse", 7))
    numbers = scrape(server.metrics)
    codes = {str(code) for code in range(1, 21)} | {"application"}
    assert numbers.labels("gateway_calls_total", "code") == codes | {"-32601"}
    assert numbers.of("gateway_calls_total", method="refuse", code="application") == 20
    assert numbers.of("gateway_calls_total", method="refuse", code="7") == 3


def test_what_callers_or_methods_invent_is_not_kept(server: Server) -> None:
    for number in range(50):
        post(server.port, json(f"invented.{number}"))
        post(server.port, json("refuse", number + 1))
    metrics = server.gateway.metrics
    assert metrics is not None
    assert scrape(server.metrics).of("gateway_calls_total") == 100
    assert len(metrics._usual) == 20
    assert len(metrics._tallies) == 22


def test_times_fall_into_buckets(server: Server) -> None:
    for _ in range(4):
        post(server.port, json("add", 2, 3))
    post(server.port, json("wait", 0.3))
    numbers = scrape(server.metrics)
    assert numbers.of("gateway_call_duration_seconds_count", method="add", protocol="jsonrpc") == 4
    assert numbers.of("gateway_call_duration_seconds_bucket", method="add", le="+Inf") == 4
    assert 0 < numbers.of("gateway_call_duration_seconds_sum", method="add") < 4
    assert numbers.of("gateway_call_duration_seconds_bucket", method="wait", le="0.25") == 0
    assert numbers.of("gateway_call_duration_seconds_bucket", method="wait", le="10.0") == 1
    assert 0.3 <= numbers.of("gateway_call_duration_seconds_sum", method="wait") < 10
    bounds = sorted(float(bound) for bound in numbers.labels("gateway_call_duration_seconds_bucket", "le"))
    assert (bounds[0], bounds[-2], bounds[-1]) == (0.001, 60, float("inf"))


def test_refusals_are_counted_by_kind_and_status() -> None:
    settings = {"limits.max_body": 1024, "limits.client_rate": 0.001, "limits.client_burst": 4}
    with serving(registry, settings) as server:
        get(server.port, "/nowhere")
        get(server.port, "/api")
        post(server.port, b"?", "image/png")
        exchange(server.port, request("/api", {**JSON, "Content-Encoding": "br"}, b"", "POST"))
        post(server.port, b"?" * 2000)
        exchange(server.port, request("/api", {**JSON, "Content-Encoding": "gzip"}, b"no gzip", "POST"))
        for _ in range(2):
            post(server.port, json("add", 1, 1))
        assert [post(server.port, json("add", 1, 1)).status for _ in range(3)] == [429] * 3
        numbers = scrape(server.metrics)
    refused = {
        (sample.labels["kind"], sample.labels["status"]): sample.value
        for sample in numbers.samples
        if sample.name == "gateway_refusals_total"
    }
    assert refused == {
        ("path", "404"): 1,
        ("verb", "405"): 1,
        ("type", "415"): 1,
        ("coding", "415"): 1,
        ("size", "413"): 1,
        ("coding", "400"): 1,
        ("rate", "429"): 3,
    }
    assert numbers.of("gateway_calls_total") == 2


def test_a_refused_peer_may_watch_all_the_same() -> None:
    with serving(registry, {"access.allow": "192.0.2.0/24"}) as server:
        assert post(server.port, json("add", 1, 1)).status == 403
        assert scrape(server.metrics).of("gateway_refusals_total", kind="access", status="403") == 1


def test_bytes_are_those_of_bodies(server: Server) -> None:
    received, sent = 0, 0
    for body in (json("add", 2, 3), json("invented"), b"[]"):
        received += len(body)
        sent += len(post(server.port, body).body)
    answer = post_xml(server.port, xml("add", 2, 3)).body
    numbers = scrape(server.metrics)
    assert numbers.of("gateway_received_bytes_total", protocol="jsonrpc") == received
    assert numbers.of("gateway_sent_bytes_total", protocol="jsonrpc") == sent
    assert numbers.of("gateway_received_bytes_total", protocol="xmlrpc") == len(xml("add", 2, 3))
    assert numbers.of("gateway_sent_bytes_total", protocol="xmlrpc") == len(answer)


def test_what_goes_on_is_measured_and_comes_to_rest() -> None:
    with serving(registry, {"limits.threads": 2}) as server:
        wanted = {
            ("gateway_calls_running", "thread"): 2,
            ("gateway_calls_waiting", "thread"): 2,
            ("gateway_calls_running", "method"): 1,
            ("gateway_calls_waiting", "method"): 1,
            ("gateway_calls_running", "async"): 1,
            ("gateway_calls_waiting", "async"): 0,
        }
        bodies = [json("block")] * 3 + [json("block_alone")] * 2 + [json("wait", 20)]
        with calling(server.port, *bodies) as wires:
            numbers = until(
                server.metrics, lambda numbers: {key: numbers.of(key[0], kind=key[1]) for key in wanted} == wanted
            )
            assert numbers.of("gateway_requests_in_flight") == 6
            assert numbers.of("gateway_threads_busy") == 2
            assert numbers.of("gateway_threads_overdue") == 0
            assert numbers.of("gateway_connections") == 6
            release.set()
            for wire in wires[:-1]:
                assert wire.read() is not None
        levels = ("requests_in_flight", "calls_running", "calls_waiting", "threads_busy", "connections")
        until(server.metrics, lambda numbers: not any(numbers.of(f"gateway_{name}") for name in levels))


def test_a_thread_that_nobody_waits_for_is_overdue() -> None:
    with serving(registry, {"limits.timeout": 0.2}) as server:
        assert b"-32001" in post(server.port, json("block")).body
        numbers = until(server.metrics, lambda numbers: numbers.of("gateway_threads_overdue") == 1)
        assert numbers.of("gateway_threads_busy") == 1
        assert numbers.of("gateway_calls_total", method="block", code="-32001") == 1
        release.set()
        until(server.metrics, lambda numbers: numbers.of("gateway_threads_overdue") == 0)


def test_it_says_what_runs_and_since_when(server: Server) -> None:
    numbers = scrape(server.metrics)
    python = ".".join(str(part) for part in sys.version_info[:3])
    assert numbers.labels("gateway_build_info", "python") == {python}
    assert numbers.labels("gateway_build_info", "codec") == {IMPLEMENTATION}
    assert numbers.labels("gateway_build_info", "version") == {server.gateway.describe()["info"]["version"]}
    assert 0 <= time.time() - numbers.of("gateway_start_time_seconds") < 60
    assert (numbers.of("gateway_workers"), numbers.of("gateway_worker_starts_total")) == (1, 1)


def test_openmetrics_is_spoken_to_those_who_ask_for_it(server: Server) -> None:
    post(server.port, json("add", 2, 3))
    asked = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    response = get(server.metrics, "/metrics", Accept=asked)
    assert response.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = read_openmetrics(response.body.decode())  # type: ignore[no-untyped-call]
    samples = [sample for family in families for sample in family.samples]
    assert [sample.value for sample in samples if sample.name == "gateway_calls_total"] == [1]


@pytest.mark.parametrize(
    "asked", ["*/*", "text/html", "text/plain; version=1.0.0; escaping=dots", "x;version=?;;,", ""]
)
def test_everybody_else_reads_plain_text(asked: str, server: Server) -> None:
    response = get(server.metrics, "/metrics", Accept=asked)
    assert (response.status, response.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert response.headers["cache-control"] == "no-store"


def test_callers_and_watchers_have_addresses_of_their_own(server: Server) -> None:
    assert server.port != server.metrics
    assert get(server.port, "/metrics").status == 404
    for path in ("/", "/api", "/RPC2", "/metrics/", "/metrics.json"):
        assert get(server.metrics, path).status == 404
        assert post(server.metrics, json("add", 2, 3), path=path).status == 404
    for path in ("/metrics", "/healthz", "/readyz"):
        refused = post(server.metrics, json("add", 2, 3), path=path)
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert scrape(server.metrics).of("gateway_calls_total") == 0
    assert get(server.metrics, "/healthz").body == get(server.metrics, "/readyz?now").body == b"ok\n"


def test_a_watcher_may_keep_its_connection_ask_for_heads_and_send_a_body(server: Server) -> None:
    with Wire(server.metrics) as wire:
        for method, body in (("HEAD", b""), ("GET", b"some body"), ("GET", b"")):
            wire.send(request("/metrics?x=1", {"Content-Length": str(len(body))}, b"", method) + body)
            response = wire.read(head=method == "HEAD")
            assert response is not None
            assert (response.status, b"gateway_workers 1.0" in response.body) == (200, method == "GET")


def test_a_body_beyond_the_limit_is_refused_here_too() -> None:
    with serving(registry, {"limits.max_body": 1024}) as server:
        sent = request("/metrics", {"Content-Length": "2000"}, b"", "GET") + b"x" * 2000
        assert exchange(server.metrics, sent).status == 413


def test_many_scrape_at_once_while_calls_are_made(server: Server) -> None:
    wires = [Wire(server.metrics) for _ in range(20)]
    for wire in wires:
        wire.send(request("/metrics", {}, b"", "GET"))
    assert b'"result":5' in post(server.port, json("add", 2, 3)).body
    for wire in wires:
        response = wire.read()
        assert response is not None
        assert response.status == 200
        wire.socket.close()


def test_every_metric_is_described(server: Server) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| `(gateway_\w+)` \| (\w+) \|([^|]*)\|", page, re.MULTILINE)
    described = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    served = {
        f"gateway_{name}{'_total' * (family.kind == 'Counter')}": (family.kind.lower(), family.labels)
        for name, family in FAMILIES.items()
    }
    assert described == served | {"gateway_metrics_torn_files": ("gauge", ())}
    types = {name + "_total" * (kind == "counter"): kind for name, kind in scrape(server.metrics).families.items()}
    assert types == {name: kind for name, (kind, _) in described.items()}
    labels = {label for _, labels in described.values() for label in labels}
    queries = "".join(re.findall(r"```(?:promql|yaml)\n(.*?)```", page, re.DOTALL))
    assert set(re.findall(r"gateway_\w+?(?=_bucket\b|_count\b|_sum\b|\b)", queries)) <= set(described)
    assert set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", queries)) <= labels


def test_a_directory_that_is_not_there_costs_the_numbers_and_nothing_else(tmp_path: Path, logged: Any) -> None:
    metrics = Metrics(registry.get, ("xmlrpc",), "1", tmp_path / "nowhere", 0)
    assert logged.take("nowhere: no such file or directory; this worker serves without them")
    metrics.update({})
    assert b"gateway_metrics_torn_files 0" in metrics.expose("")[1]
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    assert prometheus_client.values.ValueClass.__name__ == "MutexValue"
    assert prometheus_client.values.MmapedDict is prometheus_client.mmap_dict.MmapedDict  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9100", 200),
        ("[::1]:9100", 200),
        ("localhost", 200),
        ("gateway:9100", 200),
        ("RPC.internal.example", 200),
        ("page.example:9100", 403),
        ("127.0.0.1.page.example", 403),
        ("1.2.3.4.5", 403),
    ],
)
def test_a_page_whose_name_points_here_does_not_read_the_metrics(host: str, status: int) -> None:
    """DNS rebinding: its Host is the page's own name."""
    with serving(Registry(), {"access.hosts": "rpc.internal.example"}) as server:
        sent = f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        assert exchange(server.metrics, sent).status == status


def test_ipv6_is_an_address_too() -> None:
    with (
        serving(registry, {"metrics.bind": "[::1]:0"}) as server,
        socket.create_connection(("::1", server.metrics), timeout=10) as connection,
    ):
        connection.sendall(request("/metrics", {"Connection": "close"}, b"", "GET"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
