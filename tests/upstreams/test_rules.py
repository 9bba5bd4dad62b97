"""What the endpoint holds of its own methods, it holds of those of upstreams: rules, rates, metrics."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from gateway import Registry
from tests.raw_http import post
from tests.scraping import scrape
from tests.serving import Server, serving
from tests.upstreams.running import until

behind = Registry()


@behind.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture(scope="module")
def upstream() -> Iterator[Server]:
    with serving(behind, {"server.tcp": "127.0.0.1:0"}) as server:
        yield server


def settings(upstream: Server) -> dict[str, Any]:
    return {"upstreams.far.url": f"jsonrpc+tcp://127.0.0.1:{upstream.tcp_port}", "upstreams.far.prefix": "far."}


def call(server: Server, method: str) -> dict[str, Any]:
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": [2, 3], "id": 1})
    answer: dict[str, Any] = msgspec.json.decode(post(server.port, body).body)
    return answer


def test_rules_hold_for_methods_that_are_found_later(upstream: Server) -> None:
    rules = json.dumps([{"methods": ["far.*"], "keys": []}])
    with serving(Registry(), settings(upstream) | {"access.rules": rules}) as server:
        until(lambda: "far.add" in list(server.gateway.registry))
        for method in ("far.add", "far.nothing"):
            assert call(server, method)["error"] == {"code": -32005, "message": "Denied"}


def test_calls_are_counted_under_the_names_that_they_have_here(upstream: Server) -> None:
    with serving(Registry(), settings(upstream) | {"limits.client_rate": 0.01, "limits.client_burst": 2}) as server:
        until(lambda: "far.add" in list(server.gateway.registry))
        assert [call(server, "far.add").get("result") for _ in range(3)] == [5, 5, None]
        seen = scrape(server.metrics)
        assert seen.of("gateway_calls_total", method="far.add", outcome="ok") == 2
        assert seen.of("gateway_refusals_total", kind="rate", status="429") == 1
