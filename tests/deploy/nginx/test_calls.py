"""Calls through nginx, over TLS: what reaches the gateway, what comes back, and what stands in the access log."""

import ssl
import time
import xmlrpc.client
from pathlib import Path

import pytest

from benchmarks.edge import Edge, edge, nginx
from tests.deploy.nginx.edging import (
    ADD,
    FREE,
    KINDS,
    METHODS,
    Upstream,
    answer_five,
    ask,
    calling,
    curl_2,
    logged_lines,
    result,
)
from tests.raw_http import Wire, request

pytestmark = pytest.mark.unmeasured


def test_both_protocols_are_answered_over_tls_1_2_and_1_3(proxied: Edge) -> None:
    for version in ("TLSv1_2", "TLSv1_3"):
        context = proxied.client()
        context.maximum_version = context.minimum_version = getattr(ssl.TLSVersion, version)
        for kind, body in ADD.items():
            with Wire(proxied.port, tls=context) as wire:
                wire.send(request("/api", {"Content-Type": kind}, body))
                response = wire.read()
            assert response is not None
            assert response.status == 200
            assert b"5" in response.body
            assert response.headers["content-type"] == KINDS[kind]
            assert response.headers["content-length"] == str(len(response.body))


def test_older_versions_of_tls_are_not_spoken(proxied: Edge) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(proxied.certificate)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        Wire(proxied.port, tls=old)


def test_what_a_client_says_of_where_it_comes_from_is_not_passed_on(proxied: Edge) -> None:
    forged = {"X-Forwarded-For": "10.0.0.5", "X-Real-IP": "10.0.0.5", "Forwarded": "for=10.0.0.5", "Connection": "x"}
    assert result(ask(proxied, calling("who", headers=forged))) == {
        "client": "127.0.0.1",
        "Host": "localhost",
        "X-Forwarded-For": "127.0.0.1",
        "X-Real-IP": None,
        "Forwarded": None,
        "Connection": None,
    }


def test_a_client_of_http_1_0_without_a_host(proxied: Edge) -> None:
    body = ADD["text/xml"]
    head = b"POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n" % len(body)
    with Wire(proxied.port, tls=proxied.client()) as wire:
        wire.send(head + body)
        response = wire.read()
        assert response is not None
        assert response.headers["content-length"] == str(len(response.body))
        assert wire.is_closed()


def test_connections_are_kept_on_both_sides(proxied: Edge) -> None:
    with Wire(proxied.port, tls=proxied.client()) as wire:
        for number in range(50):
            wire.send(calling("add", number, 1))
            response = wire.read()
            assert response is not None
            assert result(response) == number + 1
            assert "connection" not in response.headers or response.headers["connection"] == "keep-alive"


def test_answers_are_compressed_only_where_the_caller_asks_and_never_chunked(proxied: Edge) -> None:
    plain = ask(proxied, calling("big", 5000))
    short = ask(proxied, calling("big", 500, headers={"Accept-Encoding": "gzip"}))
    assert "content-encoding" not in {*plain.headers, *short.headers}
    packed = ask(proxied, calling("big", 5000, headers={"Accept-Encoding": "gzip"}))
    assert packed.headers["content-encoding"] == "gzip"
    for response in (plain, short, packed):
        assert response.headers["content-length"] == str(len(response.body))
        assert "transfer-encoding" not in response.headers


def test_the_standard_library_s_client_and_a_body_and_an_answer_that_fit_into_no_buffer(proxied: Edge) -> None:
    with xmlrpc.client.ServerProxy(proxied.url, context=proxied.client()) as proxy:
        assert proxy.add(2, 3) == 5
        assert proxy.size("x" * 1_000_000) == 1_000_000
        assert proxy.big(3_000_000) == "x" * 3_000_000
        together = xmlrpc.client.MultiCall(proxy)
        together.add(1, 2)
        together.size("four")
        answers = together()
        assert (answers[0], answers[1]) == (3, 4)


@pytest.mark.parametrize(("kind", "expected"), [("text/xml", "<int>5</int>"), ("application/json", '"result":5')])
def test_http_2(kind: str, expected: str, proxied: Edge, tmp_path: Path) -> None:
    told = curl_2(proxied, kind, ADD[kind].ljust(900_000), tmp_path)
    assert told.startswith("HTTP/2 200")
    assert told.endswith(" version=2")
    assert expected in told
    assert "x-rpc-" not in told.lower()


def test_the_access_log_says_what_was_called_and_clients_do_not_see_it(tmp_path: Path) -> None:
    multicall = xmlrpc.client.dumps(
        ([{"methodName": "nap", "params": [0]}, {"methodName": "gone", "params": []}],), "system.multicall"
    )
    sent = [
        calling("add", 2, 3),
        calling("gone"),
        request("/api", {"Content-Type": "text/xml"}, multicall.encode()),
        request(
            "/api", {"Content-Type": "application/json"}, b'[{"jsonrpc":"2.0","method":"add","params":[1,"x"],"id":1}]'
        ),
        request("/none", {}, b"", "GET"),
        request("/api", {"Content-Type": "text/xml", "Content-Length": "2000000"}, b"", "PUT"),
        request("/api", {"Content-Type": 'text/xml"\\'}, b"\xff"),
    ]
    with edge(tmp_path, METHODS, FREE) as running:
        responses = [ask(running, data) for data in sent]
        logged = {line["request_id"]: line for line in logged_lines(running, len(sent))}
    lines = [logged[response.headers["x-request-id"]] for response in responses]  # each worker writes its own
    assert not [name for response in responses for name in response.headers if name.startswith("x-rpc-")]
    assert [(line["verb"], line["status"], line["method"], line["batch"], line["fault"]) for line in lines] == [
        ("POST", "200", "add", "", ""),
        ("POST", "200", "gone", "", "-32601"),
        ("POST", "200", "nap", "2", "-32601"),
        ("POST", "200", "add", "1", "-32602"),
        ("GET", "404", "", "", ""),
        ("PUT", "413", "", "", ""),
        ("POST", "415", "", "", ""),
    ]
    for line in lines:
        assert line["client"] == "127.0.0.1"
        assert line["tls"].startswith("TLSv1.")
        assert (line["gateway"] == "") == (line["status"] == "413")
        assert {type(line[name]) for name in ("seconds", "received", "sent")} <= {int, float}


def test_with_a_balancer_in_front_the_client_is_the_one_that_it_names(tmp_path: Path) -> None:
    with edge(tmp_path, METHODS, [*FREE, "nginx.proxies=127.0.0.1"]) as running:
        named = {"X-Forwarded-For": "203.0.113.9, 10.0.0.5, 127.0.0.1"}
        assert result(ask(running, calling("who", headers=named)))["client"] == "10.0.0.5"
        with Wire(running.port, source="127.0.0.9", tls=running.client()) as wire:
            wire.send(calling("who", headers=named))
            response = wire.read()
        assert response is not None
        assert result(response)["client"] == "127.0.0.9"


def test_bodies_are_held_back_until_they_are_complete_where_the_gateway_needs_it(tmp_path: Path) -> None:
    with Upstream(answer_five) as upstream:
        settings = [f"nginx.servers={upstream.address}", "nginx.buffer_bodies=true"]
        data = calling("add", 2, 3)
        with nginx(tmp_path, settings, METHODS) as running, Wire(running.port, tls=running.client()) as wire:
            wire.send(data[:-1])
            time.sleep(0.2)
            assert upstream.requests == []
            wire.send(data[-1:])
            response = wire.read()
            assert response is not None
            assert result(response) == 5
