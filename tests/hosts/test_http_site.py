"""An application of Tornado beside the calls: what its handlers are promised, over real sockets."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httputil import HTTPHeaders, ResponseStartLine
from tornado.web import Application, HTTPError, RequestHandler, StaticFileHandler, stream_request_body

from gateway import Registry
from gateway.app import build
from gateway.config import load
from gateway.methods.loading import LoadError
from tests.certificates import Authority
from tests.conftest import Logged
from tests.raw_http import Response, Wire, exchange, request
from tests.serving import Server, eventually, serving

CALL = b'{"jsonrpc":"2.0","method":"add","params":[2,3],"id":1}'
JSON = {"Content-Type": "application/json"}
STATIC = Path(__file__).parent

registry = Registry()
seen: list[Any] = []


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


class Echo(RequestHandler):
    """Tells what it was asked."""

    def get(self) -> None:
        self.write(
            {"who": self.get_argument("who", "nobody"), "all": self.get_arguments("n"), "ip": self.request.remote_ip}
        )

    def post(self) -> None:
        self.set_header("X-Body", str(len(self.request.body)))
        self.write(
            {"name": self.get_body_argument("name", ""), "protocol": self.request.protocol, "uri": self.request.uri}
        )

    head = get


class Cookies(RequestHandler):
    def get(self) -> None:
        self.set_cookie("seen", self.get_cookie("seen", "0") + "1")
        self.set_cookie("other", "x")
        self.set_signed_cookie("signed", "value")
        self.write((self.get_signed_cookie("signed") or b"none").decode())


class Elsewhere(RequestHandler):
    def get(self) -> None:
        self.redirect("/echo?who=redirected")


class Chunks(RequestHandler):
    async def get(self) -> None:
        for number in range(3):
            self.write(f"piece {number}\n")
            await self.flush()


class Broken(RequestHandler):
    def get(self, what: str) -> None:
        if what == "http":
            raise HTTPError(418, "a detail for the log")
        if what == "short":
            self.set_header("Content-Length", "10")
            self.write("five!")
        elif what == "long":
            self.set_header("Content-Length", "2")
            self.write("five!")
        else:
            raise RuntimeError("a bug of theirs")


class Split(RequestHandler):
    def get(self) -> None:
        line = ResponseStartLine("HTTP/1.1", 200, "OK\r\nX-Theirs: yes")
        try:
            self.request.connection.write_headers(line, HTTPHeaders())  # type: ignore[union-attr]
        except ValueError:
            self.write("refused")


class Nothing(RequestHandler):
    def get(self) -> None:
        self.set_status(204)


class Tagged(RequestHandler):
    def get(self) -> None:
        self.write("the same each time")


@stream_request_body
class Upload(RequestHandler):
    """Takes a body piece by piece."""

    def prepare(self) -> None:
        self.request.connection.set_max_body_size(2**22)  # type: ignore[union-attr]
        if self.request.headers.get("X-Refuse"):
            raise HTTPError(403)
        self.size = self.pieces = 0

    async def data_received(self, chunk: bytes) -> None:
        await asyncio.sleep(0)
        self.size += len(chunk)
        self.pieces += 1

    def put(self) -> None:
        self.write({"size": self.size, "several": self.pieces > 1})

    def on_connection_close(self) -> None:
        seen.append("upload")


class Forever(RequestHandler):
    async def get(self) -> None:
        seen.append("begun")
        self.write("begun\n")
        await self.flush()
        await asyncio.sleep(60)

    def on_connection_close(self) -> None:
        seen.append("gone")


class Large(RequestHandler):
    async def get(self) -> None:
        for _ in range(64):
            self.write(b"x" * 2**18)
            await self.flush()
        seen.append("taken")


application = Application(
    [
        ("/", Echo),
        ("/echo", Echo),
        ("/api", Echo),
        ("/cookies", Cookies),
        ("/elsewhere", Elsewhere),
        ("/chunks", Chunks),
        ("/broken/(.*)", Broken),
        ("/nothing", Nothing),
        ("/split", Split),
        ("/tagged", Tagged),
        ("/upload", Upload),
        ("/forever", Forever),
        ("/large", Large),
        ("/static/(.*)", StaticFileHandler, {"path": str(STATIC)}),
    ],
    cookie_secret="a secret of the tests",  # noqa: S106 - of nobody else
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = {"server.app": f"{__name__}:application", "limits.linger": 1, "access.trusted_proxies": "127.0.0.9"}
    with serving(registry, settings) as started:
        yield started


@pytest.fixture(autouse=True)
def quiet(logged: Logged) -> Iterator[None]:
    seen.clear()
    yield
    logged.lines = [line for line in logged.lines if "WARNING tornado" not in line]  # of 404 and the like
    logged.take("ERROR tornado.access")


def get(server: Server, path: str, *headers: tuple[str, str], method: str = "GET") -> Response:
    return exchange(server.port, request(path, headers, b"", method), head=method == "HEAD")


def test_calls_stay_at_their_paths_and_everything_else_is_the_applications(server: Server) -> None:
    assert b'"result":5' in exchange(server.port, request("/api", JSON, CALL)).body
    assert exchange(server.port, request("/", JSON, CALL)).body.endswith(b'"id":1}')
    assert get(server, "/?who=me").body == b'{"who": "me", "all": [], "ip": "127.0.0.1"}'
    assert b'"who"' in get(server, "/api").body
    assert get(server, "/healthz").body == b"ok\n"
    assert get(server, "/nowhere").status == 404
    assert get(server, "/api", method="PUT").headers["allow"] == "POST"


def test_arguments_of_the_query_and_of_forms(server: Server) -> None:
    assert b'"who": "\\u00e9 b", "all": ["1", "2"]' in get(server, "/echo?who=%C3%A9+b&n=1&n=2").body
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"name=Ada", b"name=" + b"x" * 100_000):
        response = exchange(server.port, request("/echo", form, body))
        assert response.headers["x-body"] == str(len(body))
        assert body.partition(b"=")[2] in response.body


def test_cookies_come_back_each_in_a_header_of_its_own(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/cookies", {"Cookie": "seen=1"}, b"", "GET"))
        data = wire.socket.recv(65536)
    assert data.count(b"\r\nSet-Cookie: ") == 3
    assert b"Set-Cookie: seen=11;" in data
    signed = data.partition(b"signed=")[2].partition(b";")[0].decode()
    assert get(server, "/cookies", ("Cookie", f"signed={signed}")).body == b"value"


def test_redirects_statuses_without_a_body_and_etags(server: Server) -> None:
    response = get(server, "/elsewhere")
    assert (response.status, response.headers["location"]) == (302, "/echo?who=redirected")
    assert get(server, "/nothing").status == 204
    tag = get(server, "/tagged").headers["etag"]
    with Wire(server.port) as wire:
        for _ in range(2):
            wire.send(request("/tagged", {"If-None-Match": tag}, b"", "GET"))
            answer = wire.read(head=True)
            assert answer is not None
            assert answer.status == 304


def test_a_response_is_not_split_by_a_line_break(server: Server) -> None:
    response = get(server, "/split")
    assert response.body == b"refused"
    assert "x-theirs" not in response.headers


def test_head_has_the_length_and_no_body(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/echo", {}, b"", "HEAD") + request("/echo", {}, b"", "GET"))
        response, next_one = wire.read(head=True), wire.read()
    assert response is not None
    assert next_one is not None
    assert response.headers["content-length"] == next_one.headers["content-length"] == str(len(next_one.body))


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_response_without_a_length_comes_in_chunks_or_up_to_the_end(version: str, server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(f"GET /chunks HTTP/{version}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".encode())
        data = b""
        while not data.endswith(b"0\r\n\r\n" if version == "1.1" else b"piece 2\n"):
            more = wire.socket.recv(65536)
            assert more, data
            data += more
        if version == "1.0":
            assert wire.is_closed()
            assert data.endswith(b"\r\n\r\npiece 0\npiece 1\npiece 2\n")
        else:
            assert data.endswith(b"8\r\npiece 0\n\r\n8\r\npiece 1\n\r\n8\r\npiece 2\n\r\n0\r\n\r\n")
            wire.send(request("/nothing", {}, b"", "GET"))
            assert wire.read() is not None


def test_static_files_and_ranges(server: Server) -> None:
    text = Path(__file__).read_bytes()
    assert get(server, f"/static/{Path(__file__).name}").body == text
    part = get(server, f"/static/{Path(__file__).name}", ("Range", "bytes=3-12"))
    assert (part.status, part.body) == (206, text[3:13])
    assert get(server, "/static/../conftest.py").status in (403, 404)


def test_errors_are_the_applications(server: Server, logged: Logged) -> None:
    assert get(server, "/broken/http").status == 418
    assert get(server, "/broken/bug").status == 500
    assert logged.take("a bug of theirs")
    assert get(server, "/upload").status == 405


@pytest.mark.parametrize("what", ["short", "long"])
def test_a_body_that_is_not_as_long_as_it_says_ends_the_connection(what: str, server: Server, logged: Logged) -> None:
    with Wire(server.port) as wire:
        wire.send(request(f"/broken/{what}", {}, b"", "GET") + request("/echo", {}, b"", "GET"))
        while not wire.is_closed():
            pass
        assert b'"who"' not in wire.received
    eventually(lambda: logged.lines, "no line in the log")
    logged.lines.clear()


def test_a_body_is_streamed_and_may_be_larger_than_that_of_a_call(server: Server) -> None:
    body = b"x" * (3 * 2**20)
    assert b'"size": 3145728, "several": true' in exchange(server.port, request("/upload", {}, body, "PUT")).body
    chunks = b"PUT /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with Wire(server.port) as wire:
        for step in (1, len(chunks)):
            wire.send_slowly(chunks[start : start + step] for start in range(0, len(chunks), step))
            response = wire.read()
            assert response is not None
            assert b'"size": 5' in response.body


def test_what_is_too_large_or_malformed_ends_the_request(server: Server) -> None:
    assert exchange(server.port, request("/echo", {}, b"x" * (2**20 + 1))).status == 413
    assert exchange(server.port, request("/upload", {}, b"x" * (2**22 + 1), "PUT")).status == 413
    bad = b"PUT /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd"
    assert exchange(server.port, bad).status == 400
    assert exchange(server.port, request("/echo?a=%", {"Content-Type": "multipart/form-data"}, b"x")).status in (
        200,
        400,
    )
    eventually(lambda: seen == ["upload", "upload"], "the handlers are told")


def test_expect_is_answered_when_the_handler_wants_the_body(server: Server) -> None:
    head = request("/upload", {"Expect": "100-continue"}, b"hello", "PUT")[:-5]
    with Wire(server.port) as wire:
        wire.send(head)
        assert wire.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(b"hello")
        response = wire.read()
        assert response is not None
        assert b'"size": 5' in response.body
        wire.send(head.replace(b"Expect", b"X-Refuse: 1\r\nExpect"))
        refused = wire.read()
        assert refused is not None
        assert refused.status == 403


def test_a_response_before_the_end_of_the_body_arrives(server: Server) -> None:
    response = exchange(server.port, request("/upload", {"X-Refuse": "1"}, b"x" * (2**22 - 1), "PUT"))
    assert response.status == 403


def test_a_client_that_hangs_up_is_told_to_the_handler(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/forever", {}, b"", "GET"))
        assert wire.socket.recv(100)
    eventually(lambda: "gone" in seen, "it is never told")
    with Wire(server.port) as wire:
        wire.send(request("/upload", {}, b"x" * 100, "PUT")[:-50])
    eventually(lambda: "upload" in seen, "it is never told")


def test_a_handler_waits_for_a_client_that_reads_late(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/large", {}, b"", "GET"))
        wire.socket.recv(1)
        assert b'"result":5' in exchange(server.port, request("/api", JSON, CALL)).body
        assert seen == []
        got = 1
        while got < 64 * 2**18:
            got += len(wire.socket.recv(2**20))
    eventually(lambda: seen == ["taken"], "it is never told")


def test_requests_are_answered_in_order_however_they_are_mixed(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(
            (request("/echo?who=1", {}, b"", "GET") + request("/api", JSON, CALL) + request("/echo", {}, b"a=b")) * 10
        )
        for _ in range(10):
            bodies = [response.body for response in (wire.read(), wire.read(), wire.read()) if response is not None]
            assert [b'"who": "1"' in bodies[0], b'"result":5' in bodies[1], b'"protocol"' in bodies[2]] == [True] * 3


@pytest.mark.parametrize("options", ["close", "TE, close"])
def test_connection_close_is_kept(options: str, server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/echo", {"Connection": options}, b"", "GET"))
        response = wire.read()
        assert response is not None
        assert response.headers["connection"] == "close"
        assert wire.is_closed()


def test_a_trusted_proxy_names_client_and_scheme_and_nobody_else_does(server: Server) -> None:
    told = request("/echo", {"X-Forwarded-For": "10.0.0.7", "X-Forwarded-Proto": "https"}, b"", "GET")
    for source, client in (("127.0.0.9", b"10.0.0.7"), ("127.0.0.1", b"127.0.0.1")):
        with Wire(server.port, source=source) as wire:
            wire.send(told)
            response = wire.read()
            assert response is not None
            assert b'"ip": "' + client in response.body


@pytest.mark.parametrize(("setting", "value"), [("access.allow", "10.0.0.0/8"), ("access.hosts", "example.org")])
def test_the_rules_for_addresses_and_hosts_hold_for_the_application_and_keys_do_not(setting: str, value: str) -> None:
    with serving(registry, {"server.app": f"{__name__}:application", setting: value}) as guarded:
        assert get(guarded, "/echo").status == 403
        assert exchange(guarded.port, request("/echo", {}, b"x" * (2**20 + 1))).status == 403


def test_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue()
    settings = {"server.app": f"{__name__}:application", "tls.certificate": certificate, "tls.key": key}
    with serving(registry, settings) as secured, Wire(secured.port, tls=authority.client()) as wire:
        assert isinstance(wire.socket, ssl.SSLSocket)
        wire.send(request("/echo", {}, b"a=b"))
        response = wire.read()
        assert response is not None
        assert b'"protocol": "https"' in response.body
        wire.send(request("/large", {}, b"", "GET"))
        got = 0
        while got < 64 * 2**18:
            got += len(wire.socket.recv(2**20))


def test_the_command_serves_an_application(tmp_path: Path) -> None:
    page = "from tornado.web import Application, RequestHandler\n\n\nclass Home(RequestHandler):\n"
    page += "    def get(self):\n        self.write('at home')\n\n\napplication = Application([('/', Home)])\n"
    (tmp_path / "pages.py").write_text(page)
    (tmp_path / "own.py").write_text("from gateway import method\n\n\n@method\ndef one() -> int:\n    return 1\n")
    command = [sys.executable, "-m", "gateway", "serve", "--bind", "127.0.0.1:0", "--app", "pages:application", "own"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])
        assert exchange(port, request("/", {}, b"", "GET")).body == b"at home"
        assert b'"result":1' in exchange(port, request("/", JSON, b'{"jsonrpc":"2.0","method":"one","id":1}')).body
        process.terminate()
        process.communicate(timeout=20)


@pytest.mark.parametrize(
    ("app", "problem"),
    [
        ("tests.hosts.test_http_site:get", "it is not an application of Tornado"),
        ("tests.hosts.test_http_site:nothing", "the module has no function named nothing"),
    ],
)
def test_what_is_not_an_application_is_told_at_the_start(app: str, problem: str) -> None:
    with pytest.raises(LoadError, match=problem):
        build(load(None, {}, [f"server.app={app}"]), registry)
