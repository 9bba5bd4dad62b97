"""Every case of the corpus through nginx, over TLS, at a gateway of two workers.

DIFFERENCES are those whose framing nginx understands otherwise than the gateway by itself; docs/conformance.md names
them, too. ``slow`` is in test_slow.py.
"""

import json
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.edge import Edge, edge
from tests.conftest import CORPUS_SETTINGS
from tests.deploy.nginx.edging import FREE, ask
from tests.raw_http import Wire, request
from tests.test_corpus import PLAIN, RAW, SMALL, body_of, check, named, raw_bytes

pytestmark = pytest.mark.unmeasured

METHODS = ["tests.corpus_methods:registry"]
SETTINGS = [*(f"{name}={value}" for name, value in CORPUS_SETTINGS.items()), *FREE, "server.workers=2"]
DOCS = Path(__file__).parents[3] / "docs" / "conformance.md"
DIFFERENCES: dict[str, tuple[int | None, str]] = {  # None: closed, without a head that could have a status
    "h-159": (200, "the size of a chunk may end with a line feed alone"),
    "h-162": (None, "nginx waits for the end of a trailer, for `limits.body_timeout`"),
    "h-174": (None, "HTTP/0.9 is supported: the response to a GET without a version is the body of a 405 alone"),
    "h-178": (None, "to a line break in the request line that of a 400"),
    "h-180": (400, "two equal Content-Lengths are refused"),
    "h-182": (200, "chunk extensions are accepted, and not passed on"),
    "h-192": (413, "a chunk that announces more than a mebibyte beyond the limit is 413 with a fault"),
    "h-196": (431, "no line of a head may have more than two fifths"),
    "h-200": (400, "a path that leads above the root is 400"),
}
UNCHECKED = ("h-159", "h-162", "h-174", "h-178")  # what the corpus would rather have refused, or with a status


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    settings = [*SETTINGS, "limits.body_timeout=2", "limits.linger=1"]
    with edge(tmp_path_factory.mktemp("edge"), METHODS, settings) as running:
        yield running


@pytest.mark.parametrize("case", PLAIN, ids=named)
def test_case(case: dict[str, Any], proxied: Edge) -> None:
    sent = case["request"]
    with Wire(proxied.port, tls=proxied.client()) as wire:
        wire.send(request(sent["path"], sent["headers"], body_of(case), sent["method"]))
        check(case, wire.read(head=sent["method"] == "HEAD"))


@pytest.mark.parametrize("case", RAW, ids=named)
def test_raw_case(case: dict[str, Any], proxied: Edge) -> None:
    with Wire(proxied.port, tls=proxied.client()) as wire:
        wire.send(raw_bytes(case) or b"")
        response = wire.read()
        for status in case.get("expect_interim", []):
            assert response is not None
            assert response.status == status
            response = wire.read()
        if "forbid_interim" in case:
            assert response is None or response.status not in case["forbid_interim"]
        if case["id"] in DIFFERENCES:
            assert (None if response is None else response.status) == DIFFERENCES[case["id"]][0]
        if case["id"] in UNCHECKED:
            return
        check(case, response)
        for _ in range(case.get("expect_responses", 1) - 1):
            check(case, wire.read())
        if case.get("expect_close") or case["expect"].get("close"):
            while (later := wire.read()) is not None:
                assert later.status == 400
            assert wire.is_closed()


@pytest.mark.parametrize("case", SMALL, ids=named)
def test_case_byte_by_byte(case: dict[str, Any], proxied: Edge) -> None:
    sent, body = case["request"], body_of(case)
    head = request(sent["path"], sent["headers"], body)[: -len(body) or None]
    with Wire(proxied.port, tls=proxied.client()) as wire:
        wire.send(head)
        wire.send_slowly(body[i : i + 1] for i in range(len(body)))
        check(case, wire.read())


def test_what_differs_is_written_down() -> None:
    text = " ".join(DOCS.read_text("utf-8").partition("\n## Behind nginx\n")[2].partition("\n## ")[0].split())
    assert not [why for _, why in DIFFERENCES.values() if why not in text]


# the corpus of access


def hostile(category: str) -> list[dict[str, Any]]:
    lines = (Path(__file__).parents[2] / "corpus" / "hostile.jsonl").read_text("utf-8").splitlines()
    return [case for case in map(json.loads, lines) if case["category"] == category]


@pytest.fixture(scope="module")
def behind_a_balancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Run both behind the trusted proxy of the corpus: a balancer in front of nginx."""
    settings = [*SETTINGS, "access.allow=10.0.0.0/8", "nginx.proxies=127.0.0.1"]
    with edge(tmp_path_factory.mktemp("edge"), METHODS, settings) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Run both at the edge, where nobody is believed."""
    settings = [*SETTINGS, "access.allow=10.0.0.0/8"]
    with edge(tmp_path_factory.mktemp("edge"), METHODS, settings) as running:
        yield running


@pytest.mark.parametrize("case", hostile("allowlist"), ids=named)
def test_the_allowlist_with_the_proxy_of_the_corpus_in_front(case: dict[str, Any], behind_a_balancer: Edge) -> None:
    source = case["peer"] if case["peer"].startswith("127.") else "127.0.0.9"  # this machine has no other addresses
    with Wire(behind_a_balancer.port, source=source, tls=behind_a_balancer.client()) as wire:
        wire.send(request(case["request"]["path"], case["request"]["headers"], case["request"]["body"].encode()))
        response = wire.read()
    assert response is not None
    assert response.status == case["expect"]["http"]
    if response.status == 200:
        assert xmlrpc.client.loads(response.body) == ((case["expect"]["result"],), None)
    else:
        with pytest.raises(xmlrpc.client.Fault, match="Denied"):
            xmlrpc.client.loads(response.body)


@pytest.mark.parametrize("case", hostile("allowlist"), ids=named)
def test_the_allowlist_at_the_edge_itself(case: dict[str, Any], guarded: Edge) -> None:
    """Whatever a client says of itself, it is where it is, which is not allowed."""
    sent = case["request"]
    response = ask(guarded, request(sent["path"], sent["headers"], sent["body"].encode()))
    assert response.status == 403
    with pytest.raises(xmlrpc.client.Fault, match="Denied"):
        xmlrpc.client.loads(response.body)


@pytest.fixture(scope="module")
def named_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with edge(tmp_path_factory.mktemp("edge"), METHODS, [*SETTINGS, "access.hosts=localhost,127.0.0.1"]) as running:
        yield running


@pytest.mark.parametrize("case", hostile("browser"), ids=named)
def test_browsers(case: dict[str, Any], named_hosts: Edge) -> None:
    sent = case["request"]
    response = ask(named_hosts, raw_bytes(case) or request(sent["path"], sent["headers"], sent["body"].encode()))
    assert response.status == case["expect"]["http"] == 403


def test_a_host_that_is_named_is_served_on_any_port(named_hosts: Edge) -> None:
    case = next(case for case in hostile("browser") if raw_bytes(case))
    data = (raw_bytes(case) or b"").replace(b"evil.example", b"LOCALHOST:%d" % named_hosts.port)
    assert ask(named_hosts, data).status == 200
