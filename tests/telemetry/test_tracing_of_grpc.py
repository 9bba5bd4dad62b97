"""The spans of calls to gRPC, and the metadata by which the upstream continues the trace."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from opentelemetry.trace import SpanKind

from tests.tracing import ON, attributes, collect, exporter, own, parent, spans, trace_id
from tests.upstreams.running import Program, serve_upstream
from tests.upstreams.test_grpc import GRPC, PROTO, service

pytestmark = pytest.mark.unmeasured


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    collect()
    with Program(GRPC) as program:
        yield program.port


def test_an_attempt_has_the_names_of_grpc_and_its_ids_are_in_the_metadata(port: int, tmp_path: Path) -> None:
    with serve_upstream(service("Failing"), port, tmp_path, settings=ON) as up:
        exporter.clear()
        told, still_there = up.call("Told", "traceparent").split()
        outer, attempt = spans(2)
        assert still_there == "True"
        assert told == f"00-{trace_id(outer)}-{own(attempt)}-03"
        assert (attempt.name, attempt.kind, parent(attempt)) == ("programs.Failing/Told", SpanKind.CLIENT, own(outer))
        usual = {"rpc.system.name": "grpc", "gateway.upstream": "up", "server.address": "127.0.0.1"}
        usual["gateway.sent"] = "yes"
        assert attributes(attempt) == usual | {"rpc.method": attempt.name, "rpc.response.status_code": "OK"}
        exporter.clear()
        up.fault("End", 5, "no such pen")
        _, attempt = spans(2)
        failed = {"rpc.response.status_code": "NOT_FOUND", "error.type": "NOT_FOUND"}
        assert attributes(attempt) == usual | failed | {"rpc.method": "programs.Failing/End"}


def test_the_service_of_a_method_is_that_of_its_full_name(port: int, tmp_path: Path) -> None:
    with serve_upstream(replace(GRPC, options=PROTO), port, tmp_path, settings=ON) as up:
        exporter.clear()
        name = next(name for name, _ in up.server.gateway.offered() if name.endswith("Failing.Told"))
        up.call(name.removeprefix("up."), "x-request-id")
        assert spans(2)[1].name == "programs.Failing/Told"


def test_a_stream_is_one_attempt(port: int, tmp_path: Path) -> None:
    with serve_upstream(service("Streams"), port, tmp_path, settings=ON) as up:
        exporter.clear()
        assert len(up.call("Count", 3)) == 3
        outer, attempt = spans(2)
        assert (attempt.name, parent(attempt)) == ("programs.Streams/Count", own(outer))
        assert attributes(attempt).items() >= {"rpc.response.status_code": "OK", "gateway.sent": "yes"}.items()
