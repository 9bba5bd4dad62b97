"""HTTP towards upstreams: what is sent, what is taken for an answer, TLS, and connections that are out of place."""

import contextlib
import gzip
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme
from httptools.parser import errors
from msgspec.structs import replace

from gateway.config import ConfigError
from gateway.upstreams.transport.http import FAILURES
from tests.conftest import Logged
from tests.scraping import scrape
from tests.upstreams.kinds import KINDS, Kind, http
from tests.upstreams.running import serve_upstream, until

XML, JSON = (replace(kind, options="") for kind in KINDS[:2])
NAMED = "methods = ['add', 'echo']"
Answer = Callable[[bytes, socket.socket], None]


@contextmanager
def server(answer: Answer, context: ssl.SSLContext | None = None, *, bodiless: bool = False) -> Iterator[int]:
    """Give each whole request on each connection to ``answer``; with ``bodiless``, one without a length, too."""
    with socket.create_server(("127.0.0.1", 0)) as bound:

        def serve(connection: socket.socket) -> None:
            with contextlib.suppress(OSError, ValueError), connection:
                secured = context.wrap_socket(connection, server_side=True) if context else connection
                received = b""
                with secured:
                    while data := secured.recv(65536):
                        received += data
                        head, end, body = received.partition(b"\r\n\r\n")
                        length = re.search(rb"(?i)content-length: (\d+)", head)
                        if end and (len(body) >= int(length[1]) if length else bodiless):
                            answer(received, secured)
                            received = b""

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(bound.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield bound.getsockname()[1]
        finally:
            bound.shutdown(socket.SHUT_RDWR)


def said(value: int) -> bytes:
    return http(
        b"<methodResponse><params><param><value><int>%d</int></value></param></params></methodResponse>" % value
    )


def test_what_is_sent(tmp_path: Path) -> None:
    heads: list[bytes] = []

    def answer(request: bytes, connection: socket.socket) -> None:
        heads.append(request)
        connection.sendall(said(len(heads)))

    more = f"{NAMED}\nheaders = {{ Authorization = 'Bearer abc', Content-Type = 'x' }}\ntimeout = {{ add = 7 }}"
    with server(answer) as port, serve_upstream(XML, port, tmp_path, more) as up:
        assert up.call("add", 1, 2) == 1
        head, _, body = heads[0].partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        assert head.startswith(b"POST /RPC2 HTTP/1.1\r\n")
        assert (lines["Authorization"], lines["Content-Type"]) == ("Bearer abc", "text/xml")
        assert (lines["Accept-Encoding"], lines["User-Agent"]) == ("identity", "callgate")
        assert 5 < float(lines["X-Request-Timeout"]) < 7
        assert re.fullmatch(r"[0-9a-f]{6}-[0-9a-f]+", lines["X-Request-ID"])
        assert body.startswith(b'<?xml version="1.0" encoding="utf-8"?><methodCall><methodName>add</methodName>')


def test_connections_are_kept_and_bounded(tmp_path: Path) -> None:
    peers: set[Any] = set()
    together: list[int] = []
    lock = threading.Semaphore(0)

    def answer(request: bytes, connection: socket.socket) -> None:
        peers.add(connection.getpeername())
        together.append(1)
        lock.acquire(timeout=10)
        connection.sendall(said(1))

    with server(answer) as port, serve_upstream(XML, port, tmp_path, f"{NAMED}\nconnections = 2") as up:
        calls = [threading.Thread(target=up.call, args=("add", 1, 2)) for _ in range(6)]
        for call in calls:
            call.start()
        until(lambda: up.upstream.running == 6)
        until(lambda: len(together) == 2)
        time.sleep(0.1)
        assert len(together) == 2, "more calls than connections"
        lock.release(6)
        for call in calls:
            call.join()
        assert len(peers) == 2


def test_an_answer_that_nobody_asked_for_answers_nobody(tmp_path: Path) -> None:
    """A server that answers twice is broken; the second answer would be the next call's, if it were kept."""
    calls: list[bytes] = []

    def answer(request: bytes, connection: socket.socket) -> None:
        calls.append(request)
        connection.sendall(said(len(calls)))
        threading.Timer(0.1, connection.sendall, [said(-1)]).start()

    with server(answer) as port, serve_upstream(XML, port, tmp_path, NAMED) as up:
        for number in range(1, 4):
            assert up.call("add", 1, 2) == number
            time.sleep(0.3)  # so that the second answer is there


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.0 200 OK\r\n\r\n%b",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%b",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\nHTTP/1.0 200 OK\r\n\r\n%b",
        CHUNKED + b"%x\r\n%b\r\n0\r\nContent-Encoding: gzip\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset="UTF-8"\r\nContent-Length: %d\r\n\r\n%b',
    ],
    ids=["1.0", "close", "1xx", "trailers", "length"],
)
def test_bodies_end_in_several_ways(sent: bytes, tmp_path: Path) -> None:
    body = said(7).partition(b"\r\n\r\n")[2]

    def answer(_: bytes, connection: socket.socket) -> None:
        whole = sent % ((len(body), body) if b"%d" in sent or b"%x" in sent else (body,))
        for byte in whole:
            connection.sendall(bytes((byte,)))
        if b"Length: %d" not in sent and CHUNKED not in sent:
            connection.shutdown(socket.SHUT_RDWR)

    with server(answer) as port, serve_upstream(XML, port, tmp_path, NAMED) as up:
        for _ in range(3):
            assert up.call("add", 1, 2) == 7


@pytest.mark.parametrize(
    ("sent", "again"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (CHUNKED + b"0\r\n", b"X: y\r\n" * 100),
        (CHUNKED + b"1;", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", b"x"),
    ],
    ids=["header", "headers", "1xx", "trailers", "extension", "length", "lengths", "both", "upgrade"],
)
def test_an_answer_that_has_no_end_or_two_is_none(sent: bytes, again: bytes, tmp_path: Path, logged: Logged) -> None:
    def answer(_: bytes, connection: socket.socket) -> None:
        connection.sendall(sent)
        while again:
            connection.sendall(again)

    with server(answer) as port, serve_upstream(XML, port, tmp_path, NAMED) as up:
        assert up.fault("add", 1, 2) == (-32004, "maybe")
    assert logged.take("upstream up: ")


def test_half_an_answer_is_none(tmp_path: Path, logged: Logged) -> None:
    def answer(request: bytes, connection: socket.socket) -> None:
        connection.sendall(said(7)[: -5 if b"echo" in request else 20])
        connection.shutdown(socket.SHUT_RDWR)

    with server(answer) as port, serve_upstream(XML, port, tmp_path, NAMED) as up:
        for method in ("add", "echo"):
            assert up.fault(method, 1) == (-32002, "maybe")
    assert logged.take("is down")


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ("{ 'Bad Name' = 'x' }", "'Bad Name' in headers is not the name of a header"),
        ("{ '' = 'x' }", "'' in headers is not the name of a header"),
        ("{ content-length = '5' }", "content-length in headers cannot be chosen"),
        ("{ Transfer-Encoding = 'chunked' }", "Transfer-Encoding in headers cannot be chosen"),
    ],
)
def test_headers_that_cannot_be_sent_are_told_at_the_start(headers: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)), serve_upstream(XML, 1, tmp_path, f"headers = {headers}"):
        pass


def test_a_url_is_sent_as_it_is_meant(tmp_path: Path) -> None:
    heads: list[bytes] = []

    def answer(request: bytes, connection: socket.socket) -> None:
        heads.append(request)
        connection.sendall(said(1))

    kind = replace(XML, url="xmlrpc+http://localhost:{port}/a%20b/\u00e9?q=\u00e9&r=%2F+")
    with (
        server(answer) as port,
        serve_upstream(kind, port, tmp_path, f"{NAMED}\nheaders = {{ Host = 'erp.example' }}") as up,
    ):
        assert up.call("add", 1, 2) == 1
    lines = heads[0].split(b"\r\n")
    assert lines[0] == b"POST /a%20b/%C3%A9?q=%C3%A9&r=%2F+ HTTP/1.1"
    assert [line for line in lines if line.lower().startswith(b"host:")] == [b"Host: erp.example"]


def test_statuses_with_an_answer_in_them_are_answers(tmp_path: Path) -> None:
    body = b'{"jsonrpc": "2.0", "id": %d, "error": {"code": 5, "message": "no such person"}}'
    statuses = iter(["404 Not Found", "500 Internal Server Error", "200 OK"])

    def answer(request: bytes, connection: socket.socket) -> None:
        call_id = re.search(rb'"id":(\d+)', request)
        assert call_id is not None
        connection.sendall(http(body % int(call_id[1]), next(statuses)))

    with server(answer) as port, serve_upstream(JSON, port, tmp_path, NAMED) as up:
        for _ in range(3):
            assert up.answer("add")["error"] == {"code": 5, "message": "no such person"}


def test_an_error_without_an_id_is_the_calls_own(tmp_path: Path) -> None:
    body = b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "not like this"}}'
    with (
        server(lambda _, connection: connection.sendall(http(body))) as port,
        serve_upstream(JSON, port, tmp_path, NAMED) as up,
    ):
        assert up.answer("add")["error"]["data"] == {"detail": "not like this"}


def test_tls_with_a_ca_of_ones_own(tmp_path: Path, logged: Logged) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    kind = replace(XML, url="xmlrpc+https://localhost:{port}/")

    def answer(request: bytes, connection: socket.socket) -> None:
        connection.sendall(said(7))

    with server(answer, context) as port:
        with serve_upstream(kind, port, tmp_path, f"{NAMED}\nca = '{tmp_path}/ca.pem'") as up:
            assert up.call("add", 1, 2) == 7
        with serve_upstream(kind, port, tmp_path, NAMED) as up:
            assert up.fault("add", 1, 2) == (-32002, "no")
    assert logged.take("CERTIFICATE_VERIFY_FAILED")


def test_every_exception_of_the_parser_is_in_the_table() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert kinds
    assert [kind for kind in kinds if not issubclass(kind, tuple(FAILURES))] == []


@pytest.mark.parametrize("kind", [XML, JSON], ids=lambda kind: kind.name)
def test_a_server_that_closes_idle_connections_loses_no_idempotent_call(
    kind: Kind, tmp_path: Path, logged: Logged
) -> None:
    def answer(request: bytes, connection: socket.socket) -> None:
        call_id = re.search(rb'"id":(\d+)', request)
        connection.sendall(http(b'{"jsonrpc": "2.0", "id": %b, "result": 1}' % call_id[1]) if call_id else said(1))
        connection.shutdown(socket.SHUT_RDWR)

    with server(answer) as port, serve_upstream(kind, port, tmp_path, f"{NAMED}\nidempotent = ['add']") as up:
        for _ in range(20):
            assert up.call("add", 1, 2) == 1
    logged.take("is down")  # where the call and the end of the connection have crossed


HTML = b"<html><title>127.0.0.1 says no</title></html>"
STATUSES: list[tuple[str, bytes, tuple[int, str | None], dict[str, Any]]] = [
    ("401 Unauthorized", b"", (-32005, None), {"http_status": 401}),
    ("403 Forbidden", b"", (-32005, None), {"http_status": 403}),
    ("404 Not Found", b"", (-32004, "yes"), {"http_status": 404}),
    ("405 Method Not Allowed", b"", (-32004, "yes"), {"http_status": 405}),
    ("429 Too Many Requests", b"Retry-After: 7\r\n", (-32003, None), {"http_status": 429, "retry_after": 7}),
    ("429 Too Many Requests", b"Retry-After: soon\r\n", (-32003, None), {"http_status": 429}),
    ("429 Too Many Requests", b"Retry-After: 99999999999\r\n", (-32003, None), {"http_status": 429}),
    ("500 Internal Server Error", b"", (-32004, "yes"), {"http_status": 500}),
    ("502 Bad Gateway", b"", (-32002, "maybe"), {"http_status": 502}),
    ("503 Service Unavailable", b"Retry-After: 7\r\n", (-32002, "maybe"), {"http_status": 503, "retry_after": 7}),
    ("504 Gateway Timeout", b"", (-32002, "maybe"), {"http_status": 504}),
    ("302 Found", b"Location: http://127.0.0.1:1/\r\n", (-32004, "yes"), {"http_status": 302}),
    ("204 No Content", b"", (-32004, "yes"), {"http_status": 204}),
]


@pytest.mark.parametrize("kind", [XML, JSON], ids=lambda kind: kind.name)
@pytest.mark.parametrize(("status", "headers", "told", "data"), STATUSES, ids=[each[0] for each in STATUSES])
def test_a_status_is_told_where_the_body_says_nothing(  # noqa: PLR0917
    kind: Kind,
    status: str,
    headers: bytes,
    told: tuple[int, str | None],
    data: dict[str, Any],
    tmp_path: Path,
    logged: Logged,
) -> None:
    body = b"" if status.startswith("204") else HTML
    said = http(body, status, headers)
    named = replace(kind, url=kind.url.rstrip("/") + "?key=secret")
    with (
        server(lambda _, connection: connection.sendall(said)) as port,
        serve_upstream(named, port, tmp_path, NAMED) as up,
    ):
        error = up.answer("add", 1, 2)["error"]
        assert (error["code"], error["data"].get("sent")) == told
        assert {name: error["data"][name] for name in data} == data
        assert error["data"].keys() - {"sent", "detail"} == data.keys()
        path = "/RPC2" if kind is XML else "/"
        assert up.upstream.status.error == f"HTTP status {status[:3]} for {path}"
        assert f"HTTP status {status[:3]}" in error["message"]
        assert up.upstream.status.state == ("down" if told[0] == -32002 else "up")
    assert logged.take(f"HTTP status {status[:3]} for {path}")


def test_a_date_tells_when_to_try_again(tmp_path: Path, logged: Logged) -> None:
    when = [time.time() + 100, time.time() - 100]

    def answer(_: bytes, connection: socket.socket) -> None:
        header = f"Retry-After: {formatdate(when.pop(0), usegmt=True)}\r\n"
        connection.sendall(http(HTML, "429 Too Many Requests", header.encode()))

    with server(answer) as port, serve_upstream(XML, port, tmp_path, NAMED) as up:
        assert 90 <= up.answer("add")["error"]["data"]["retry_after"] <= 101
        assert up.answer("add")["error"]["data"]["retry_after"] == 0
    logged.take("HTTP status 429")


@pytest.mark.parametrize(("status", "headers", "runs"), [(502, b"", 2), (503, b"", 2), (503, b"Retry-After: 1\r\n", 1)])
def test_an_idempotent_call_is_sent_again_unless_the_upstream_says_when(
    status: int, headers: bytes, runs: int, tmp_path: Path, logged: Logged
) -> None:
    requests: list[bytes] = []

    def answer(request: bytes, connection: socket.socket) -> None:
        requests.append(request)
        connection.sendall(http(HTML, f"{status} No", headers))

    more = f"{NAMED}\nidempotent = ['add']"
    with server(answer) as port, serve_upstream(XML, port, tmp_path, more) as up:
        assert up.fault("add") == (-32002, "maybe")
        assert len(requests) == runs
        assert up.fault("echo") == (-32002, "maybe")
        assert len(requests) == runs + 1
    logged.take("is down")


def test_upstreams_shows_the_status_of_the_one_attempt(tmp_path: Path, logged: Logged) -> None:
    with (
        server(lambda _, connection: connection.sendall(http(HTML, "404 Not Found"))) as port,
        serve_upstream(XML, port, tmp_path) as up,
    ):
        until(lambda: up.upstream.status.error)
        assert (up.upstream.status.state, up.upstream.status.error) == ("down", "HTTP status 404 for /RPC2")
    logged.take("is down: HTTP status 404 for /RPC2")


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "GZip"])
def test_compressed_responses_are_unpacked(coding: str, tmp_path: Path) -> None:
    plain = said(7).partition(b"\r\n\r\n")[2]
    packed = zlib.compress(plain) if coding == "deflate" else gzip.compress(plain)
    answer = http(packed, headers=f"Content-Encoding: {coding}\r\n".encode())
    with (
        server(lambda _, connection: connection.sendall(answer)) as port,
        serve_upstream(XML, port, tmp_path, NAMED) as up,
    ):
        assert up.call("add", 1, 2) == 7


@pytest.mark.parametrize(
    ("body", "coding", "reason"),
    [
        (gzip.compress(b" " * 3_000_000, mtime=0), b"gzip", "has more than 1048576 bytes after unpacking"),
        (gzip.compress(b"{}", mtime=0)[:-3], b"gzip", "the response is damaged: it is not gzip"),
        (b"{}", b"br", "the response has an unknown Content-Encoding: 'br'"),
        (b"{}", b"x" * 99, f"the response has an unknown Content-Encoding: '{40 * 'x'}'"),
    ],
    ids=["bomb", "cut", "unknown", "long"],
)
def test_what_cannot_be_unpacked_within_the_limit(
    body: bytes, coding: bytes, reason: str, tmp_path: Path, logged: Logged
) -> None:
    answer = http(body, headers=b"Content-Encoding: %b\r\n" % coding)
    settings = {"limits.max_reply": 2**20}
    with (
        server(lambda _, connection: connection.sendall(answer)) as port,
        serve_upstream(XML, port, tmp_path, NAMED, settings) as up,
    ):
        error = up.answer("add", 1, 2)["error"]
        assert error["code"] == -32004
        assert reason in error["message"]
    assert logged.take(reason)


def test_32_connections_are_the_default(tmp_path: Path) -> None:
    for kind in (XML, JSON):
        with serve_upstream(kind, 1, tmp_path, NAMED) as up:
            assert up.upstream.options.connections == 32


def test_a_call_that_waited_in_vain_for_a_connection_says_so(tmp_path: Path, logged: Logged) -> None:
    go = threading.Event()

    def answer(request: bytes, connection: socket.socket) -> None:
        go.wait(20)
        connection.sendall(said(1))

    more = f"{NAMED}\nconnections = 1\ntimeout = {{ add = 0.3 }}"
    with (
        server(answer) as port,
        serve_upstream(XML, port, tmp_path, more, {"metrics.bind": "127.0.0.1:0"}) as up,
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(up.call, "echo", 1)
        until(lambda: up.upstream.running == 1)
        for _ in range(3):
            error = up.answer("add", 1, 2)["error"]
            assert (error["code"], error["data"]["sent"]) == (-32001, "no")
            assert "no connection to the upstream became free in time" in error["message"]
        go.set()
        assert running.result(20) == 1
        scraped = scrape(up.server.metrics)
        assert scraped.of("gateway_upstream_no_connection_total", upstream="up") == 3
        assert up.upstream.status.error == "no connection to the upstream became free in time"
    assert len(logged.take("no connection became free in time: all 1 are in use (calls: 1)")) == 1


def test_a_call_that_has_waited_for_a_connection_is_told_of_the_response_that_it_waited_for(tmp_path: Path) -> None:
    first, go = threading.Event(), threading.Event()

    def answer(request: bytes, connection: socket.socket) -> None:
        if b"echo" in request:
            first.set()
            go.wait(20)
            connection.sendall(said(1))

    more = f"{NAMED}\nconnections = 1\ntimeout = {{ add = 1 }}"
    with server(answer) as port, serve_upstream(XML, port, tmp_path, more) as up, ThreadPoolExecutor(2) as pool:
        running = pool.submit(up.call, "echo", 1)
        assert first.wait(20)
        waiting = pool.submit(up.answer, "add", 1, 2)
        until(lambda: up.upstream.running == 2)
        go.set()
        assert running.result(20) == 1
        error = waiting.result(20)["error"]
        assert (error["data"]["sent"], error["code"]) == ("maybe", -32001)
        assert "no response from the upstream in time" in error["message"]
        assert up.upstream.status.take_no_connection() == 0
