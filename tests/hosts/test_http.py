"""The HTTP host: what it answers before there is a call, and how it treats connections."""

import asyncio
import logging
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from gateway import Registry
from gateway.hosts.http import HTTPHost
from gateway.hosts.http.connection import Connection
from gateway.hosts.http.requests import Requests
from gateway.hosts.listening import bind
from gateway.model.http import HTTPRequest, HTTPResponse
from gateway.model.limits import Limits
from tests.conftest import Logged
from tests.raw_http import Wire, exchange, request
from tests.scraping import scrape
from tests.serving import Server, serving
from tests.upstreams.running import until

XML = {"Content-Type": "text/xml"}
CALL = b"<methodCall><methodName>add</methodName><params><param><value><int>2</int></value></param><param><value><int>3</int></value></param></params></methodCall>"  # noqa: E501 - one line on the wire, too
FIVE = b"<value><int>5</int></value>"

registry = Registry()
made: list[int] = []
release = threading.Event()
running = threading.Event()


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register
def block() -> str:
    running.set()
    release.wait(20)
    return "done"


@registry.register(run="inline")
def counted(size: int) -> str:
    made.append(size)
    return "x" * size


@registry.register(run="inline")
def large(size: int) -> str:
    return "x" * size


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, {"limits.linger": 1}) as started:
        yield started


@pytest.fixture(scope="module")
def hasty_server() -> Iterator[Server]:
    limits = ("limits.idle_timeout", "limits.head_timeout", "limits.body_timeout")
    with serving(registry, dict.fromkeys(limits, 0.3)) as started:
        yield started


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "post", "CONNECT"])
def test_other_verbs_are_405_and_say_which_is_allowed(method: str, server: Server) -> None:
    response = exchange(server.port, request("/api", {}, b"", method), head=method == "HEAD")
    assert response.status == 405
    assert response.headers["allow"] == "POST"
    assert "content-length" in response.headers


@pytest.mark.parametrize(
    "target",
    [
        "/nope",
        "/api/",
        "/apis",
        "/API",
        "//api",
        "/../api",
        "*",
        "ftp://localhost/api",
        "http:///api",
        "/api%00",
        "/%61pi",
    ],
)
def test_other_paths_are_404(target: str, server: Server) -> None:
    response = exchange(server.port, request(target, XML, CALL))
    assert response.status == 404
    assert b"Calls are POSTed to /" in response.body


@pytest.mark.parametrize(
    "path",
    ["/api", "/RPC2", "/jsonrpc", "/", "/api?debug=1", "http://a/api", "HTTPS://[::1]:8/api?debug=1", "http://a"],
)
def test_the_endpoint_has_several_paths(path: str, server: Server) -> None:
    assert FIVE in exchange(server.port, request(path, XML, CALL)).body


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/api", 200),
        ("http://LOCALHOST:80/api", 200),
        ("http://evil.example/api", 403),
        ("http://localhost@evil.example/api", 400),
        ("http://localhost,evil.example/api", 400),
    ],
)
def test_the_host_in_the_target_counts_and_not_the_header(target: str, status: int) -> None:
    with serving(registry, {"access.hosts": "localhost"}) as guarded:
        assert exchange(guarded.port, request(target, XML, CALL)).status == status


def test_a_refusal_keeps_the_connection(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/nope", XML, CALL))
        refused = wire.read()
        wire.send(request("/api", XML, CALL))
        answered = wire.read()
    assert refused is not None
    assert answered is not None
    assert (refused.status, answered.status) == (404, 200)


@pytest.mark.parametrize(
    ("content_type", "part"),
    [("text/xml", b"<name>faultCode</name><value><int>-32006</int>"), ("application/json", b'"code":-32006')],
)
def test_a_body_that_is_too_large_is_413_though_the_client_sends_all_of_it_first(
    content_type: str, part: bytes, server: Server
) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/api", {"Content-Type": content_type}, b" " * (3 * 2**20)))
        response = wire.read()
        assert response is not None
        assert response.status == 413
        assert response.headers["connection"] == "close"
        assert part in response.body
        assert wire.is_closed()


def test_a_chunked_body_that_grows_too_large_is_413(server: Server) -> None:
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    with Wire(server.port) as wire:
        wire.send(b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(64):
            wire.send(chunk)
        wire.send(b"0\r\n\r\n")
        response = wire.read()
        assert response is not None
        assert response.status == 413
        assert wire.is_closed()


def test_a_refused_upload_that_goes_on_is_cut_off(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: 999999999\r\n\r\n")
        response = wire.read()
        assert response is not None
        assert response.status == 413
        assert wire.is_closed()


def test_a_large_body_to_nowhere_is_not_read_to_its_end(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(b"POST /nope HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: 999999999\r\n\r\n")
        response = wire.read()
        assert response is not None
        assert response.status == 404
        assert wire.is_closed()


def test_an_endless_body_to_nowhere_is_not_read_to_its_end(server: Server) -> None:
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    with Wire(server.port) as wire:
        wire.send(b"POST /nope HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(chunk * 40)
        response = wire.read()
        assert response is not None
        assert response.status == 404
        assert wire.is_closed()


def test_expect_gets_a_100_before_the_body(server: Server) -> None:
    head = request("/api", {**XML, "Expect": "100-continue"}, CALL)[: -len(CALL)]
    with Wire(server.port) as wire:
        wire.send(head)
        interim = wire.read()
        wire.send(CALL)
        final = wire.read()
    assert interim is not None
    assert interim.status == 100
    assert final is not None
    assert FIVE in final.body


@pytest.mark.parametrize("expects", ["100-continue", "100-Continue", " 100-CONTINUE "])
def test_the_interim_response_reads_as_the_specification_has_it(expects: str, server: Server) -> None:
    head = request("/api", {**XML, "Expect": expects}, CALL)[: -len(CALL)]
    with Wire(server.port) as wire:
        wire.send(head)
        assert wire.socket.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(CALL)
        response = wire.read()
    assert response is not None
    assert FIVE in response.body


@pytest.mark.parametrize(
    ("version", "expects"), [(b"HTTP/1.0", b"100-continue"), (b"HTTP/1.1", b"200-ok"), (b"HTTP/1.1", b"")]
)
def test_other_expectations_and_those_of_http_1_0_are_ignored(version: bytes, expects: bytes, server: Server) -> None:
    head = request("/api", XML, CALL)[: -len(CALL)].replace(
        b"HTTP/1.1\r\n", version + b"\r\nExpect: " + expects + b"\r\n"
    )
    with Wire(server.port) as wire:
        wire.send(head + CALL)
        response = wire.read()
    assert response is not None
    assert response.status == 200
    assert FIVE in response.body


BOTH = pytest.mark.parametrize(
    ("content_type", "part"),
    [
        ("text/xml", b"<int>-32006</int>"),
        ("application/json", b'"code":-32006'),
        ("", b"the head has more bytes than are read"),
    ],
)


@BOTH
@pytest.mark.parametrize("rest", [b"X: " + b"x" * 17_000, b"X: y\r\n" * 500_000, b"X: " + b"x" * 40_000 + b"\r\n\r\n"])
def test_a_head_that_is_too_large_is_told_so_and_counted(
    content_type: str, part: bytes, rest: bytes, server: Server
) -> None:
    before = scrape(server.metrics).of("gateway_refusals_total", kind="size", status="431")
    with Wire(server.port) as wire:
        wire.send(b"POST /api HTTP/1.1\r\nHost: a\r\n")
        wire.send(f"Content-Type: {content_type}\r\nX-Request-ID: mine\r\n".encode() * bool(content_type) + rest)
        response = wire.read()
        assert response is not None
        assert response.status == 431
        assert response.headers["connection"] == "close"
        assert response.headers["x-request-id"] == "mine" or not content_type
        assert part in response.body
        assert wire.is_closed()
    until(lambda: scrape(server.metrics).of("gateway_refusals_total", kind="size", status="431") == before + 1)


def test_a_head_that_is_too_large_is_a_line_of_the_log(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        exchange(server.port, b"POST /api HTTP/1.1\r\nX-Request-ID: mine\r\nX: " + b"x" * 17_000)
        until(
            lambda: [record for record in caplog.records if "431" in str(vars(record)) and "mine" in str(vars(record))]
        )


@pytest.mark.parametrize("line", [b"GET /" + b"x" * 17_000, b"x" * 17_000, b"HEAD / HTTP/1.1\r\nX: " + b"x" * 17_000])
def test_a_request_line_that_is_too_large_is_told_so(line: bytes, server: Server) -> None:
    response = exchange(server.port, line, head=line.startswith(b"HEAD"))
    assert response.status == 431


def test_garbage_that_is_larger_than_a_head_is_400(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(b"\x80" * 200_000)
        response = wire.read()
        assert response is not None
        assert response.status == 400
        assert wire.is_closed()


def test_an_endpoint_that_lets_a_large_head_in_is_not_asked_again() -> None:
    async def serve_one() -> bytes:
        host = HTTPHost(lambda _: HTTPResponse(body=b"in"), Limits(max_header=1024))
        sockets = bind("127.0.0.1", 0, 1)
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        host.serve(sockets)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 1000)
        answer = await reader.readuntil(b"\r\n\r\n")
        (stream,) = host.connections._clocks
        for _ in range(100):
            writer.write(b"X: y\r\n" * 10_000)
            await writer.drain()
        assert len(stream.input) < 2**20, "what still comes is thrown away"
        writer.close()
        await writer.wait_closed()
        host.retire()
        await host.close()
        return answer

    assert asyncio.run(serve_one()).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/nope", XML, 404),
        ("/api", {"Content-Type": "image/png"}, 415),
        ("/api", {**XML, "Content-Encoding": "br"}, 415),
        ("/api", {**XML, "Content-Length": "9999999"}, 413),
    ],
)
def test_what_is_refused_by_its_head_gets_no_100(
    path: str, headers: dict[str, str], status: int, server: Server
) -> None:
    lines = {"Content-Length": "10", **headers, "Expect": "100-continue"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with Wire(server.port) as wire:
        wire.send(f"POST {path} HTTP/1.1\r\nHost: a\r\n{head}\r\n".encode())
        response = wire.read()
        assert response is not None
        assert response.status == status
        assert wire.is_closed()


def test_http_1_0_gets_an_answer_without_chunks_and_a_closed_connection(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(b"POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%b" % (len(CALL), CALL))
        response = wire.read()
        assert response is not None
        assert FIVE in response.body
        assert "transfer-encoding" not in response.headers
        assert wire.is_closed()


def test_http_1_0_may_keep_the_connection(server: Server) -> None:
    call = b"POST /RPC2 HTTP/1.0\r\nConnection: Keep-Alive\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%b"
    with Wire(server.port) as wire:
        for _ in range(2):
            wire.send(call % (len(CALL), CALL))
            response = wire.read()
            assert response is not None
            assert response.headers["connection"] == "keep-alive"


@pytest.mark.parametrize("options", ["close", "Close", "TE, close", "close ,TE"])
def test_connection_close_is_kept(options: str, server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/api", {**XML, "Connection": options}, CALL))
        response = wire.read()
        assert response is not None
        assert response.headers["connection"] == "close"
        assert wire.is_closed()


@pytest.mark.parametrize("options", ["close", "TE, close"])
def test_a_large_answer_arrives_whole_before_the_connection_closes(options: str, server: Server) -> None:
    body = b'{"jsonrpc":"2.0","method":"large","params":[8000000],"id":1}'
    response = exchange(server.port, request("/api", {"Content-Type": "application/json", "Connection": options}, body))
    assert len(response.body) > 8_000_000


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    bodies = [b'{"jsonrpc":"2.0","method":"add","params":[%d,0],"id":%d}' % (n, n) for n in range(50)]
    with Wire(server.port) as wire:
        wire.send(b"".join(request("/api", {"Content-Type": "application/json"}, body) for body in bodies))
        for number in range(50):
            response = wire.read()
            assert response is not None
            assert response.body == b'{"jsonrpc":"2.0","result":%d,"id":%d}' % (number, number)


def test_a_client_that_reads_late_gets_every_answer_whole_and_in_order(server: Server) -> None:
    bodies = [b'{"jsonrpc":"2.0","method":"large","params":[20000],"id":%d}' % number for number in range(600)]
    with Wire(server.port) as wire:
        wire.send(b"".join(request("/api", {"Content-Type": "application/json"}, body) for body in bodies))
        assert FIVE in exchange(server.port, request("/api", XML, CALL)).body
        for number in range(600):
            response = wire.read()
            assert response is not None
            assert response.body.endswith(b'x","id":%d}' % number)
            assert len(response.body) > 20000


def test_requests_that_are_followed_by_the_end_of_the_stream_are_answered(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/api", XML, CALL) * 40)
        wire.socket.shutdown(socket.SHUT_WR)
        for _ in range(40):
            response = wire.read()
            assert response is not None
            assert FIVE in response.body
        assert wire.is_closed()


def test_a_client_that_does_not_read_gets_no_more_calls(server: Server) -> None:
    made.clear()
    body = b'{"jsonrpc":"2.0","method":"counted","params":[200000],"id":1}'
    with Wire(server.port) as wire:
        wire.send(request("/api", {"Content-Type": "application/json"}, body) * 400)
        for _ in range(20):
            assert FIVE in exchange(server.port, request("/api", XML, CALL)).body
        assert 0 < len(made) < 200


def test_requests_that_came_together_wait_for_the_turn_of_their_connection() -> None:
    told: list[str] = []

    class Transport(asyncio.Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            pass

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            pass

        def is_closing(self) -> bool:
            return False

        def pause_reading(self) -> None:
            told.append("pause")

        def resume_reading(self) -> None:
            told.append("resume")

        def close(self) -> None:
            pass

    async def test() -> None:
        seen: list[HTTPRequest] = []

        def admit(head: HTTPRequest) -> HTTPResponse:
            seen.append(head)
            return HTTPResponse(body=b"seen")

        host = HTTPHost(admit, Limits())
        host.serve([])
        with socket.socket() as unused:
            connection = Connection(host, unused, "10.0.0.1")
            connection.reader = Requests(host, connection)
            assert host.connections._crowd.enter(connection.peer)
            host.connections.add(connection)
            connection.connection_made(Transport())
            connection.data_received(request("/api", XML, CALL) * 100)
            connection.data_received(request("/api", XML, CALL))
            assert (len(seen), told) == (8, ["pause"])
            await asyncio.sleep(0)
            assert len(seen) == 16
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(seen) == 101
            assert told == ["pause", "resume"]
            host.connections.forget(connection)
        host.retire()
        await host.close()

    asyncio.run(test())


def test_answers_have_a_date_a_length_and_no_sniffing(server: Server) -> None:
    response = exchange(server.port, request("/api", XML, CALL))
    assert response.headers["date"].endswith(" GMT")
    assert int(response.headers["content-length"]) == len(response.body)
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /api HTT",
        b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: 10\r\n\r\n<",
        b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n<",
    ],
)
def test_a_connection_on_which_nothing_comes_is_closed(sent: bytes, hasty_server: Server) -> None:
    with Wire(hasty_server.port) as wire:
        wire.send(sent)
        assert wire.is_closed()


def test_a_call_that_takes_its_time_is_not_idle(hasty_server: Server) -> None:
    release.clear()
    with Wire(hasty_server.port) as wire:
        wire.send(request("/api", {"Content-Type": "application/json"}, b'{"jsonrpc":"2.0","method":"block","id":1}'))
        with Wire(hasty_server.port) as idle:
            assert idle.is_closed()
        release.set()
        response = wire.read()
    assert response is not None
    assert b'"done"' in response.body


@pytest.mark.parametrize("broken", [b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n", b"\r\n\r\n\r\n\r\n", b"GET\r\n\r\n"])
def test_bytes_that_are_no_request_close_the_connection(broken: bytes, server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(broken)
        response = wire.read()
        assert response is None or response.status == 400
        assert wire.is_closed()


def test_bytes_that_cannot_begin_a_request_are_answered_with_400_soon(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # TLS, at a port that does not speak it
        response = wire.read()
        assert response is not None
        assert response.status == 400
        assert wire.is_closed()


def test_a_client_that_resets_the_connection_leaves_nothing_behind(server: Server) -> None:
    for _ in range(50):
        with Wire(server.port) as wire:
            wire.send(request("/api", XML, CALL)[:-5])
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert FIVE in exchange(server.port, request("/api", XML, CALL)).body


def test_a_running_call_ends_before_the_gateway_does() -> None:
    running.clear()
    release.clear()
    with serving(registry) as started:
        wire = Wire(started.port)
        wire.send(request("/api", {"Content-Type": "application/json"}, b'{"jsonrpc":"2.0","method":"block","id":1}'))
        assert running.wait(10)
        threading.Timer(0.2, release.set).start()
    response = wire.read()
    wire.socket.close()
    assert response is not None
    assert b'"done"' in response.body


def test_a_call_that_does_not_end_in_time_does_not_keep_the_gateway_from_ending() -> None:
    running.clear()
    release.clear()
    with serving(registry, {"server.drain": 0.1}) as started:
        wire = Wire(started.port)
        wire.send(request("/api", {"Content-Type": "application/json"}, b'{"jsonrpc":"2.0","method":"block","id":1}'))
        assert running.wait(10)
    assert wire.is_closed()
    wire.socket.close()
    release.set()


def test_an_endpoint_that_raises_is_answered_with_500_and_logged(logged: Logged) -> None:
    class Broken:
        async def answer(self, body: bytes) -> HTTPResponse:
            raise RuntimeError(f"a bug of ours: {body!r}")

        client = "127.0.0.1"

        def too_large(self) -> HTTPResponse:
            return HTTPResponse(status=413)

        def too_many(self) -> HTTPResponse:
            return HTTPResponse(status=429)

        def unreadable(self, status: int, reason: str) -> HTTPResponse:
            return HTTPResponse(status=status, body=reason.encode())

    async def serve_one() -> bytes:
        host = HTTPHost(lambda _: Broken(), Limits())
        sockets = bind("127.0.0.1", 0, 1)
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        host.serve(sockets)
        writer.write(request("/api", {**XML, "Connection": "close"}, CALL))
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        host.retire()
        await host.close()
        return answer

    answer = asyncio.run(serve_one())
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"a bug of ours" not in answer
    assert len(logged.take("the endpoint raised")) == 1


def test_a_client_that_never_stops_sending_does_not_keep_others_waiting(server: Server) -> None:
    flood = request("/api", XML, CALL) * 200
    stop = threading.Event()

    def send_for_ever() -> None:
        with Wire(server.port) as wire:
            while not stop.is_set():
                wire.send(flood)
                for _ in range(200):
                    wire.read()

    senders = [threading.Thread(target=send_for_ever) for _ in range(2)]
    for sender in senders:
        sender.start()
    try:
        for _ in range(20):
            assert FIVE in exchange(server.port, request("/api", XML, CALL)).body
    finally:
        stop.set()
        for sender in senders:
            sender.join()
