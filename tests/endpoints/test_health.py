"""/healthz and /readyz at the endpoint: for balancers, which are no callers."""

from collections.abc import Iterator

import pytest

from gateway import Registry
from tests.raw_http import Response, Wire, exchange, post, request
from tests.serving import Server, serving

pytestmark = pytest.mark.unmeasured

CALL = b'{"jsonrpc":"2.0","method":"add","params":[2,3],"id":1}'
CLOSED = {
    "access.allow": "192.0.2.0/24",
    "access.hosts": "rpc.example.com",
    "access.keys": '{"odoo": "sha256:' + "0" * 64 + '"}',
}

registry = Registry()


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(registry) as started:
        yield started


def get(port: int, path: str, method: str = "GET") -> Response:
    return exchange(port, request(path, {}, b"", method), head=method == "HEAD")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/readyz?from=balancer"])
def test_a_gateway_that_serves_is_well_and_ready(path: str, server: Server) -> None:
    response = get(server.port, path)
    assert (response.status, response.body) == (200, b"ok\n")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_head_is_answered_without_a_body(path: str, server: Server) -> None:
    with Wire(server.port) as wire:
        for _ in range(2):  # on one connection: a body would be taken for the next response
            wire.send(request(path, {}, b"", "HEAD"))
            response = wire.read(head=True)
            assert response is not None
            assert (response.status, response.headers["content-length"]) == (200, "3")


def test_one_that_is_about_to_stop_is_well_but_not_ready_and_still_serves(server: Server) -> None:
    server.gateway.rpc.closing = True
    assert get(server.port, "/healthz").status == 200
    response = get(server.port, "/readyz")
    assert (response.status, response.body) == (503, b"closing\n")
    assert response.headers["cache-control"] == "no-store"
    assert get(server.port, "/readyz", "HEAD").status == 503
    assert b'"result":5' in post(server.port, CALL).body
    assert get(server.metrics, "/readyz").status == 503
    assert get(server.metrics, "/healthz").status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_the_access_policy_keeps_callers_out_and_balancers_not(path: str) -> None:
    with serving(registry, CLOSED) as server:
        assert post(server.port, CALL).status == 403
        assert get(server.port, path).status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("method", ["POST", "OPTIONS", "DELETE"])
def test_they_are_read_only(method: str, path: str, server: Server) -> None:
    assert get(server.port, path, method).status == 404


@pytest.mark.parametrize("path", ["/healthz/", "/readyz/x", "//healthz", "/HEALTHZ", "/health"])
def test_only_these_names_are_theirs(path: str, server: Server) -> None:
    assert get(server.port, path).status == 404


def test_an_endpoint_of_that_name_is_an_endpoint() -> None:
    with serving(registry, {"server.paths": "/healthz,/api"}) as server:
        assert get(server.port, "/healthz").status == 405
        assert b'"result":5' in post(server.port, CALL, path="/healthz").body
        assert get(server.port, "/readyz").status == 200
