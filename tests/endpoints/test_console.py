"""The console over sockets: who may read it and call with it, and what it tells. test_console_pages has its pages."""

import hashlib
import json
import xmlrpc.client
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.model.explained import EXPLAINED
from gateway.model.faults import CATALOGUE
from tests.endpoints.console_methods import registry
from tests.raw_http import Response, exchange, request
from tests.serving import Server, serving

KEY = "gw_" + "k" * 43
SETTINGS = {
    "console.bind": "127.0.0.1:0",
    "access.keys": json.dumps({"ada": f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"}),
    "access.rules": json.dumps([{"methods": ["guarded.*"], "keys": ["ada"], "networks": ["127.0.0.0/8"]}]),
    "access.anonymous": "true",
    "access.hosts": "rpc.example.com",
}
CALL = b'{"jsonrpc":"2.0","method":"math.add","params":[2,3],"id":1}'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, SETTINGS) as started:
        yield started


def get(server: Server, path: str, method: str = "GET", **headers: str) -> Response:
    return exchange(server.console, _request(path, headers, b"", method), head=method == "HEAD")


def call(server: Server, body: bytes = CALL, **headers: str) -> Response:
    return exchange(server.console, _request("/call", {"Content-Type": "application/json", **headers}, body))


def _request(path: str, headers: dict[str, str], body: bytes, method: str = "POST") -> bytes:
    host = headers.pop("Host", "localhost")
    return request(path, headers, body, method).replace(b"Host: localhost", f"Host: {host}".encode(), 1)


def view(server: Server) -> Any:
    return json.loads(get(server, "/data/methods").body)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/console.js", "text/javascript; charset=utf-8"),
        ("/console.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/data/methods", "application/json"),
        ("/nothing", "text/plain; charset=utf-8"),
        ("/data/nothing", "text/plain; charset=utf-8"),
        ("/../catalogue.py", "text/plain; charset=utf-8"),
    ],
)
def test_what_is_read_is_guarded(path: str, kind: str, server: Server) -> None:
    response = get(server, path)
    assert response.headers["content-type"] == kind
    assert response.status == (404 if kind.startswith("text/plain") else 200)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
    assert response.headers["cache-control"] == "no-store"


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(server: Server) -> None:
    page = get(server, "/").body.decode()
    assert "style=" not in page
    assert "http" not in page
    assert all(tag.startswith(' type="module" src=') for tag in page.split("<script")[1:])


@pytest.mark.parametrize("path", ["/", "/data/methods"])
def test_what_is_only_read_takes_no_other_verb(path: str, server: Server) -> None:
    assert get(server, path, "HEAD").status == 200
    response = get(server, path, "DELETE")
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/data/methods", "/call"])
@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1:1", 200), ("[::1]", 200), ("localhost", 200), ("rpc.example.com", 200)]
)
def test_a_host_that_names_this_machine(path: str, host: str, status: int, server: Server) -> None:
    response = call(server, Host=host) if path == "/call" else get(server, path, Host=host)
    assert response.status == status


@pytest.mark.parametrize("path", ["/", "/data/methods", "/call"])
def test_a_page_whose_name_was_made_to_point_here_reads_nothing(path: str, server: Server) -> None:
    response = call(server, Host="evil.example") if path == "/call" else get(server, path, Host="evil.example")
    assert response.status == 403
    assert b"console.bind" in response.body


def test_a_call_is_answered_by_the_gateway(server: Server) -> None:
    assert json.loads(call(server).body)["result"] == 5
    assert json.loads(call(server, Host="127.0.0.1", Origin="http://127.0.0.1").body)["result"] == 5
    body = xmlrpc.client.dumps((2,), "math.add").encode()
    response = call(server, body, **{"Content-Type": "text/xml"})
    assert xmlrpc.client.loads(response.body)[0] == (3,)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_no_other_page_may_call(origin: str, server: Server) -> None:
    response = call(server, Host="127.0.0.1", Origin=origin)
    assert response.status == 403


def test_a_call_is_posted(server: Server) -> None:
    response = get(server, "/call")
    assert (response.status, response.headers["allow"]) == (405, "POST")


def test_the_rules_hold_for_calls_from_the_console(server: Server) -> None:
    body = b'{"jsonrpc":"2.0","method":"guarded.who","params":[],"id":1}'
    assert json.loads(call(server, body).body)["error"]["code"] == -32005
    assert json.loads(call(server, body, Authorization=f"Bearer {KEY}").body)["result"] == "ada"
    assert call(server, body, Authorization="Bearer wrong").status == 401


def test_an_address_that_may_not_call_may_not_call_from_the_console_either() -> None:
    with serving(registry, {"console.bind": "127.0.0.1:0", "access.allow": "192.0.2.0/24"}) as started:
        assert call(started).status == 403
        assert get(started, "/").status == 200


def test_what_is_told_of_a_method(server: Server) -> None:
    shown = view(server)
    about = shown["methods"]["math.half"]
    assert about["deprecated"] == "use math.divide"
    assert about["others"] == ["math.halve"]
    assert about["signatures"] == [["double", "double"]]
    assert about["protocols"] == ["xmlrpc", "jsonrpc"]
    assert about["callers"] == []
    assert about["upstream"] is None
    assert shown["methods"]["kinds.all"]["types"]["at"] == "dateTime.iso8601"
    assert shown["methods"]["shop.order"]["timeout"] == 5
    assert shown["methods"]["system.multicall"]["protocols"] == ["xmlrpc"]
    assert shown["urls"] == [server.url]
    assert {each["name"] for each in shown["openrpc"]["methods"]} == set(shown["methods"])


def test_who_may_call_is_told_with_the_rule_that_decides(server: Server) -> None:
    assert view(server)["methods"]["guarded.who"]["callers"] == ["networks 127.0.0.0/8; keys ada (access.rules[0])"]


def test_no_key_and_no_hash_is_told(server: Server) -> None:
    assert b"sha256" not in get(server, "/data/methods").body


def test_each_fault_of_the_gateway_is_explained(server: Server) -> None:
    assert set(EXPLAINED) == set(CATALOGUE)
    assert {each["code"] for each in view(server)["faults"]} == {row.code for row in CATALOGUE.values()}


def test_there_is_no_console_unless_it_has_an_address() -> None:
    with serving(registry) as started:
        assert started.console == 0
        assert exchange(started.port, request("/console.js", {}, b"", "GET")).status == 404
