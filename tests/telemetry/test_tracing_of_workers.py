"""Traces of ``gateway serve``, as a receiver of OTLP over HTTP gets them; and the program of docs/traces.md."""

import gzip
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.cli.running import fill, serving
from tests.raw_http import exchange, post, request
from tests.serving import free_port
from tests.test_programs import BLOCK

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[2]
JSON = {"Content-Type": "application/json"}


class Received(Struct):
    """What a receiver has got: spans, and the attributes of what they come from."""

    port: int
    spans: list[Any]
    resources: list[dict[str, str]]

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


@contextmanager
def receiver() -> Iterator[Received]:
    """Receive traces in OTLP over HTTP."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            if self.headers.get("Content-Encoding") == "gzip":
                data = gzip.decompress(data)
            for each in ExportTraceServiceRequest.FromString(data).resource_spans:
                received.resources.append({pair.key: pair.value.string_value for pair in each.resource.attributes})
                for scope in each.scope_spans:
                    received.spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received = Received(server.server_address[1], [], [])
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield received
        finally:
            server.shutdown()


def body(method: str, *params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()


def variables(port: int, **more: str) -> dict[str, str]:
    return {"GATEWAY_TRACES_ENABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", **more}


@pytest.mark.parametrize("form", ["text", "json"])
def test_all_spans_of_workers_arrive_and_the_log_has_their_traces(form: str, tmp_path: Path) -> None:
    fill(tmp_path)
    settings = {"GATEWAY_LOG_FORMAT": form, "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}
    with (
        receiver() as received,
        serving(tmp_path, "--workers", "2", **variables(received.port, **settings)) as running,
    ):
        for _ in range(40):
            post(running.port, body("add", 1, 2))
        post(running.port, b"[%b,%b]" % (body("add", 1, 2), body("refuse")))
        error_id = json.loads(post(running.port, body("crash")).body)["error"]["data"]["error_id"]
        log = running.stop().err
    assert len(received.named("add")) == 41
    (batch,) = received.named("jsonrpc")
    assert batch.kind == Span.SPAN_KIND_SERVER
    assert [span.parent_span_id for span in received.named("refuse")] == [batch.span_id]
    assert {each["service.name"] for each in received.resources} == {"gateway"}
    assert len(received.spans) == 44
    calls = [line for line in log.splitlines() if 'event":"call' in line or " call method=" in line]
    told = [re.search(r'trace_id(?:":"|=)([0-9a-f]{32})', line) for line in calls]
    assert sorted(found[1] for found in told if found) == sorted(
        span.trace_id.hex() for span in received.spans if span is not batch
    )
    (crash,) = received.named("crash")
    (line,) = [line for line in log.splitlines() if f"error {error_id}" in line]
    assert crash.trace_id.hex() in line
    assert "tracing.py" not in log


def test_the_environment_says_how_many_are_sampled_and_who_they_are(tmp_path: Path) -> None:
    fill(tmp_path)
    settings = {
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0",
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    sampled = f"00-{'ab' * 16}-{'cd' * 8}-01"
    with receiver() as received, serving(tmp_path, **variables(received.port, **settings)) as running:
        post(running.port, body("add", 1, 2))
        exchange(running.port, request("/api", {**JSON, "traceparent": sampled}, body("add", 1, 2)))
        running.stop()
    (span,) = received.spans
    assert span.trace_id.hex() == "ab" * 16
    assert received.resources[0].items() >= {"service.name": "shop", "deployment.environment.name": "test"}.items()


def test_a_receiver_that_is_not_there_costs_calls_nothing_and_the_end_a_few_seconds(tmp_path: Path) -> None:
    fill(tmp_path)
    with serving(tmp_path, **variables(free_port())) as running:
        assert b'"result":3' in post(running.port, body("add", 1, 2)).body
        ended = running.stop()
    assert ended.code == 0


def test_the_program_of_the_page_prints_what_it_says(tmp_path: Path) -> None:
    """It sets the TracerProvider of its process, so it has one of its own."""
    expected: list[str] = []
    for block in BLOCK.finditer((ROOT / "docs" / "traces.md").read_text("utf-8")):
        if block["file"]:
            file = tmp_path / block["file"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block["text"])
        elif block["language"] == "text":
            expected.append(block["text"])
    ended = subprocess.run([sys.executable, "traced.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [ended.stdout] == expected
