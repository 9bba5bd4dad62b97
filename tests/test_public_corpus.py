"""The cases of public bug reports (tests/corpus/public.jsonl) that concern the server, over real sockets.

Cases of the command line are replayed in tests/cli/test_command.py. Those of upstreams are not replayed here, nor are
those of ELSEWHERE. docs/conformance.md says why DECIDED differ.
"""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import Registry
from tests import corpus_methods
from tests.raw_http import Wire, request
from tests.serving import Server, serving
from tests.test_corpus import body_of, is_value, raw_bytes

pytestmark = pytest.mark.unmeasured

ELSEWHERE = {"pb-057"}  # xmlrpc.none, below
DECIDED: dict[str, dict[str, Any]] = {
    "pb-020": {"http": 200, "kind": "error", "code": -32602, "id": 1},
    "pb-037": {"http": 200, "kind": "result", "value_xml_re": "<value><string>.+</string></value>"},
}
FILE = Path(__file__).parent / "corpus" / "public.jsonl"
CASES = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
TCP = [case for case in CASES if case["proto"] == "jsonrpc-tcp"]
SERVED = [case for case in CASES if case["proto"] in ("xmlrpc", "jsonrpc") and case["id"] not in ELSEWHERE]

registry = Registry()


@registry.register
def addf(a: float, b: float) -> float:
    return a + b


@registry.register
def flag(on: bool) -> str:
    return str(on)


@registry.register
def mapping(members: dict[str, Any]) -> list[str]:
    return list(members)


@registry.register
def blob(data: bytes) -> int:
    return len(data)


@registry.register
def event(interface: str, address: str, key: str, value: Any) -> None:
    del interface, address, key, value


@registry.register
def opt(a: int, b: str | None = None) -> str:
    return f"{a}:{b}"


@registry.register
def add(a: int, b: int) -> int:
    return a + b


for name, served in corpus_methods.registry.methods():
    if name not in set(registry):
        registry.add(msgspec.structs.replace(served, name=name))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, {"server.tcp": "127.0.0.1:0"}) as running:
        yield running


@pytest.mark.parametrize("case", SERVED, ids=[case["id"] for case in SERVED])
def test_a_case_of_a_public_report(case: dict[str, Any], server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(raw_bytes(case["request"]) or request_of(case))
        response = wire.read()
    assert response is not None
    expect = DECIDED.get(case["id"], case["expect"])
    assert response.status == expect["http"]
    if case["proto"] == "xmlrpc":
        check_xml(expect, response.body.decode())
    elif "kind" in expect:
        check_json(expect, json.loads(response.body))


@pytest.mark.parametrize("case", TCP, ids=[case["id"] for case in TCP])
def test_a_case_of_a_public_report_over_tcp(case: dict[str, Any], server: Server) -> None:
    """Each text is answered when it is whole, with nothing behind it, and the connection stays open."""
    body = body_of(case)
    with (
        socket.create_connection(("127.0.0.1", server.tcp_port), timeout=20) as client,
        client.makefile("rb") as answers,
    ):
        client.sendall(body)
        for _ in range(body.count(b'"method"')):
            check_json(case["expect"], json.loads(answers.readline()))


def request_of(case: dict[str, Any]) -> bytes:
    sent = case["request"]
    data = request(sent["path"], sent["headers"], body_of(case))
    return (
        data.replace(b"HTTP/1.1", f"HTTP/{sent['version'].removeprefix('HTTP/')}".encode(), 1)
        if "version" in sent
        else data
    )


def check_xml(expect: dict[str, Any], text: str) -> None:
    if expect.get("kind") == "fault":
        assert f"<name>faultCode</name><value><int>{expect['code']}</int>" in text
    elif "kind" in expect:
        assert "<fault>" not in text
        assert re.search(expect.get("value_xml_re", ""), text)


def check_json(expect: dict[str, Any], answer: dict[str, Any]) -> None:
    assert is_value(answer["id"], expect["id"])
    if expect["kind"] == "result":
        assert is_value(answer["result"], expect["result"])
    else:
        assert answer["error"]["code"] == expect["code"]


def test_a_void_method_answers_a_client_without_nil() -> None:
    case = next(case for case in CASES if case["id"] == "pb-057")
    with serving(registry, {"xmlrpc.none": "empty"}) as strict, Wire(strict.port) as wire:
        wire.send(request_of(case))
        response = wire.read()
    assert response is not None
    assert b"<param><value><string></string></value></param>" in response.body


@pytest.mark.parametrize("kind", ["text/plain", "text/plain;charset=UTF-8", "application/octet-stream", None])
@pytest.mark.parametrize("origin", [(), (("Origin", "https://app.example"),)], ids=["program", "page"])
def test_a_type_that_says_nothing_is_told_by_the_body_but_not_for_pages(
    kind: str | None, origin: tuple[tuple[str, str], ...]
) -> None:
    headers = [*origin, *([] if kind is None else [("Content-Type", kind)])]
    body = b'{"jsonrpc":"2.0","method":"noparams","id":1}'
    settings = {"access.origins": "https://app.example"}
    with serving(registry, settings) as running, Wire(running.port) as wire:
        wire.send(request("/api", headers, body))
        response = wire.read()
    assert response is not None
    assert response.status == (415 if origin else 200)


@pytest.mark.parametrize("kind", ["application/json; charset='utf-8'", "application/json; charset=US-ASCII"])
def test_a_charset_of_json_may_be_ascii_or_in_single_quotes(kind: str, server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/api", {"Content-Type": kind}, b'{"jsonrpc":"2.0","method":"noparams","id":1}'))
        response = wire.read()
    assert response is not None
    assert response.status == 200
