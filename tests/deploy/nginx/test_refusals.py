"""What nginx refuses by itself reaches callers as a fault of their protocol, with its status."""

import signal
from pathlib import Path

import msgspec
import pytest

from benchmarks.edge import Edge, edge, nginx
from tests.deploy.nginx.edging import (
    ADD,
    KINDS,
    METHODS,
    Upstream,
    answer_five,
    ask,
    calling,
    check_refusal,
    closed_port,
    curl_2,
    result,
)
from tests.raw_http import Wire, request
from tests.serving import children, eventually

pytestmark = pytest.mark.unmeasured


@pytest.mark.parametrize("kind", KINDS)
def test_bodies_above_the_limit_are_413(kind: str, proxied: Edge) -> None:
    declared = b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\nContent-Length: 1048577\r\n\r\n" % kind.encode()
    check_refusal(ask(proxied, declared), 413, -32006, kind)
    chunked = b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % kind.encode()
    check_refusal(ask(proxied, chunked + b"100001\r\n" + b" " * 1_048_577 + b"\r\n"), 413, -32006, kind)


def test_a_body_of_exactly_the_limit_is_read(proxied: Edge) -> None:
    body = ADD["application/json"]
    assert result(ask(proxied, request("/api", {"Content-Type": "application/json"}, body.ljust(2**20)))) == 5


def test_what_is_refused_while_it_is_sent_is_answered_all_the_same(proxied: Edge) -> None:
    with Wire(proxied.port, tls=proxied.client()) as wire:
        wire.send(b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: 3000000\r\n\r\n")
        wire.send(b"x" * 3_000_000)
        response = wire.read()
        assert response is not None
        check_refusal(response, 413, -32006, "text/xml")


HEADS = {  # name: what comes before the Content-Type and after it, the status and the code
    "a long target": (b"POST /%b HTTP/1.1\r\nHost: a\r\n" % (b"a" * 20_000), b"", 414, -32006),
    "a long header": (b"POST /api HTTP/1.1\r\nHost: a\r\n", b"X-A: %b\r\n" % (b"a" * 20_000), 431, -32006),
    "many headers": (b"POST /api HTTP/1.1\r\nHost: a\r\n", b"X-A: b\r\n" * 4000, 431, -32006),
    "two hosts": (b"POST /api HTTP/1.1\r\nHost: a\r\n", b"Host: a\r\n", 400, -32600),
    "a coding": (b"POST /api HTTP/1.1\r\nHost: a\r\n", b"Transfer-Encoding: gzip\r\n", 400, -32600),
    "another HTTP": (b"POST /api HTTP/3.0\r\nHost: a\r\n", b"", 400, -32600),
}


@pytest.mark.parametrize("kind", ["text/xml", "application/json"])
@pytest.mark.parametrize("name", HEADS)
def test_heads_that_are_too_long_or_no_http(name: str, kind: str, proxied: Edge) -> None:
    before, after, status, code = HEADS[name]
    data = before + b"Content-Type: %b\r\n" % kind.encode() + after + b"\r\n"
    untold = name in ("a long target", "another HTTP")  # they are refused before the Content-Type is read
    check_refusal(ask(proxied, data), status, code, "application/x-www-form-urlencoded" if untold else kind)


def test_the_longest_head_that_nginx_takes_is_taken_by_the_gateway(proxied: Edge) -> None:
    for count in range(60, 120):
        head = {f"X-{number}": "a" * 150 for number in range(count)}
        response = ask(proxied, calling("add", 2, 3, headers=head))
        if response.status != 200:
            break
        assert result(response) == 5
    check_refusal(response, 431, -32006, "application/json")
    assert count * 160 > 13_000


def test_the_longest_line_of_a_head(proxied: Edge) -> None:
    assert result(ask(proxied, calling("add", 2, 3, headers={"X-A": "a" * 6500}))) == 5
    check_refusal(ask(proxied, calling("add", 2, 3, headers={"X-A": "a" * 6700})), 431, -32006, "application/json")


@pytest.mark.parametrize("kind", ["text/xml", "application/json"])
def test_plain_http_is_refused(kind: str, proxied: Edge) -> None:
    with Wire(proxied.port) as wire:
        wire.send(request("/api", {"Content-Type": kind}, ADD[kind]))
        response = wire.read()
    assert response is not None
    check_refusal(response, 400, -32600, kind)


def test_what_nginx_answers_without_a_fault_is_plain_text(proxied: Edge) -> None:
    for method, path, status in (
        ("TRACE", "/api", 405),
        ("POST", "/_fault/", 404),
        ("POST", "/_fault/text/xml", 404),
        ("POST", "/_fault/application/json", 404),
    ):
        response = ask(proxied, request(path, {"Content-Type": "text/xml"}, b"", method))
        check_refusal(response, status, 0, "application/x-www-form-urlencoded")
        assert response.headers.get("allow") == ("POST" if status == 405 else None)


@pytest.mark.parametrize("kind", ["text/xml", "application/json"])
def test_who_is_not_allowed_is_403_and_the_gateway_is_not_asked(kind: str, tmp_path: Path) -> None:
    with Upstream(answer_five) as upstream:
        with nginx(tmp_path, ["access.allow=10.0.0.0/8", f"nginx.servers={upstream.address}"], METHODS) as running:
            check_refusal(ask(running, request("/api", {"Content-Type": kind}, ADD[kind])), 403, -32005, kind)
            forged = {"Content-Type": kind, "X-Forwarded-For": "10.0.0.5"}
            check_refusal(ask(running, request("/api", forged, ADD[kind])), 403, -32005, kind)
        assert upstream.requests == []


@pytest.mark.parametrize("kind", ["text/xml", "application/json"])
def test_who_calls_too_often_is_429(kind: str, tmp_path: Path) -> None:
    settings = ["nginx.rate=1", "nginx.burst=1", "limits.retry_after=7"]
    with edge(tmp_path, METHODS, settings) as running:
        responses = [ask(running, request("/api", {"Content-Type": kind}, ADD[kind])) for _ in range(8)]
    assert [response.status for response in responses[:2]] == [200, 200]
    refused = [response for response in responses if response.status != 200]
    assert refused
    for response in refused:
        check_refusal(response, 429, -32003, kind)
        assert response.headers["retry-after"] == "7"


def test_who_has_too_many_calls_that_run_is_429(tmp_path: Path) -> None:
    with edge(tmp_path, METHODS, ["nginx.rate=0", "nginx.connections=2"]) as running:
        with Wire(running.port, tls=running.client()) as one, Wire(running.port, tls=running.client()) as other:
            for wire in (one, other):
                wire.send(calling("nap", 6))
            eventually(lambda: ask(running, calling("add", 2, 3)).status == 429, "more than two run", seconds=5)
            check_refusal(ask(running, calling("add", 2, 3)), 429, -32003, "application/json")
            for wire in (one, other):
                response = wire.read()
                assert response is not None
                assert result(response) == "slept"
        assert result(ask(running, calling("add", 2, 3))) == 5


@pytest.mark.parametrize("kind", ["text/xml", "application/json"])
def test_a_gateway_that_is_not_there_is_502(kind: str, tmp_path: Path) -> None:
    with nginx(tmp_path, [f"nginx.servers={closed_port()}"], METHODS) as running:
        check_refusal(ask(running, request("/api", {"Content-Type": kind}, ADD[kind])), 502, -32002, kind)


@pytest.mark.parametrize("kind", ["text/xml", "application/json"])
def test_a_gateway_that_does_not_answer_is_504(kind: str, tmp_path: Path) -> None:
    with Upstream(lambda _, __: None) as upstream:
        settings = [f"nginx.servers={upstream.address}", "limits.timeout=0.2", "nginx.margin=1"]
        with nginx(tmp_path, settings, METHODS) as running:
            check_refusal(ask(running, request("/api", {"Content-Type": kind}, ADD[kind])), 504, -32001, kind)
        assert len(upstream.requests) == 1


def test_the_gateway_s_own_deadline_is_told_by_the_gateway(proxied: Edge) -> None:
    response = ask(proxied, calling("stuck"))
    assert response.status == 200
    assert msgspec.json.decode(response.body)["error"]["code"] == -32001


@pytest.mark.parametrize("kind", ["text/xml", "application/json"])
def test_what_nginx_is_told_to_refuse_by_hand_after_a_reload(kind: str, tmp_path: Path) -> None:
    """503 and 500 are nginx's only where somebody has it say so, or its own resources end."""
    with nginx(tmp_path, [f"nginx.servers={closed_port()}"], METHODS) as running:
        file = running.folder / "nginx.conf"
        added = "".join(f"location = /{status} {{ return {status}; }}\n" for status in (500, 503))
        file.write_text(file.read_text().replace("        location / {", added + "        location / {"))
        before = children(running.nginx.pid)
        running.nginx.send_signal(signal.SIGHUP)
        eventually(lambda: not before & children(running.nginx.pid), "nginx does not reload")
        eventually(lambda: ask(running, request("/503", {}, b"")).status == 503, "the new workers do not answer")
        for status, code in ((503, -32002), (500, -32603)):
            check_refusal(ask(running, request(f"/{status}", {"Content-Type": kind}, b"")), status, code, kind)


@pytest.mark.parametrize("is_declared", [True, False])
@pytest.mark.parametrize(("kind", "code"), [("text/xml", "<int>-32006</int>"), ("application/json", '"code":-32006')])
def test_bodies_above_the_limit_over_http_2(
    kind: str, code: str, is_declared: bool, proxied: Edge, tmp_path: Path
) -> None:
    """Told by their length or not: then they are counted."""
    told = curl_2(
        proxied, kind, b" " * 2_000_000, tmp_path, *([] if is_declared else ["-H", "Transfer-Encoding: chunked"])
    )
    assert told.startswith("HTTP/2 413")
    assert code in told


@pytest.mark.parametrize(("kind", "code"), [("text/xml", "<int>{}</int>"), ("application/json", '"code":{}')])
def test_other_refusals_over_http_2(kind: str, code: str, tmp_path: Path) -> None:
    settings = [f"nginx.servers={closed_port()}", "nginx.rate=1", "nginx.burst=1"]
    with nginx(tmp_path, settings, METHODS) as running:
        told = curl_2(running, kind, ADD[kind], tmp_path)
        assert told.startswith("HTTP/2 502")
        assert code.format(-32002) in told
        for _ in range(3):
            told = curl_2(running, kind, ADD[kind], tmp_path)
        assert told.startswith("HTTP/2 429")
        assert code.format(-32003) in told
        assert "retry-after: 1" in told
    with nginx(tmp_path, [*settings, "access.allow=10.0.0.0/8"], METHODS) as running:
        told = curl_2(running, kind, ADD[kind], tmp_path)
        assert told.startswith("HTTP/2 403")
        assert code.format(-32005) in told
