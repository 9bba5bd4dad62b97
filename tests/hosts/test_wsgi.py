"""The WSGI host: the corpus by calling the application, what it makes of environ, and real servers around it."""

import errno
import io
import json
import os
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.validate import validator

import pytest

from gateway import Context, Registry
from gateway.app import mounted
from gateway.config import load
from gateway.hosts import wsgi
from gateway.hosts.wsgi import WSGIHost
from gateway.model.http import Admission, Admitted, Endpoint, HTTPRequest, HTTPResponse
from gateway.model.limits import Limits
from tests import corpus_methods
from tests.conftest import CORPUS_SETTINGS, Logged
from tests.deploy.test_uwsgi import edge_cases
from tests.raw_http import Response, Wire, request
from tests.serving import eventually
from tests.test_corpus import PLAIN, body_of, check, named

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parent.parent.parent
ADD = b'{"jsonrpc":"2.0","method":"add","params":[2,3],"id":1}'
JSON: dict[str, Any] = {"CONTENT_TYPE": "application/json"}

registry = Registry()
seen: list[Context] = []


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register
def block(name: str) -> str:
    started[name].set()
    assert release[name].wait(20)
    return name


@registry.register(run="inline")
def see(context: Context) -> None:
    seen.append(context)


started = {name: threading.Event() for name in "abc"}
release = {name: threading.Event() for name in "abc"}


def host(served: Registry = registry, settings: Mapping[str, Any] | None = None) -> WSGIHost:
    chosen = [f"{name}={value}" for name, value in (settings or {}).items()]
    return WSGIHost(mounted.endpoint_of(load(None, {}, chosen), served))


class Body(io.BytesIO):
    """A body that counts what is read of it."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(size)
        self.taken += len(piece)
        return piece


def environ(body: bytes = b"", method: str = "POST", path: str = "/api", **variables: Any) -> dict[str, Any]:
    """Make what a server hands over; None takes a variable out."""
    made = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": Body(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **variables,
    }
    return {name: value for name, value in made.items() if value is not None}


def ask(application: Any, asked: dict[str, Any]) -> Response:
    """Call an application as a server does."""
    told: list[Any] = []
    answered = application(asked, lambda status, headers: told.extend((status, headers)))
    try:
        body = b"".join(answered)
    finally:
        getattr(answered, "close", lambda: None)()
    names = [name.lower() for name, _ in told[1]]
    assert len(names) == len(set(names))
    headers = {name.lower(): value for name, value in told[1]}
    return Response(status=int(told[0][:3]), version="HTTP/1.1", headers=headers, body=body)


# ---- the corpus ------------------------------------------------------------------------------------------------------


def asked_by(case: dict[str, Any]) -> dict[str, Any]:
    """Make the environ of a case, as servers do: names that come twice are joined."""
    sent = case["request"]
    variables: dict[str, Any] = {}
    for name, value in sent["headers"]:
        key = name.upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        variables[key] = f"{variables[key]}, {value}" if key in variables else value
    path, _, query = sent["path"].partition("?")
    variables |= {"QUERY_STRING": query, "REMOTE_ADDR": case.get("peer", "127.0.0.1")}
    return environ(body_of(case), sent["method"], path, **variables)


@pytest.fixture(scope="module")
def corpus() -> Any:
    return host(corpus_methods.registry, CORPUS_SETTINGS)


@pytest.mark.parametrize("case", PLAIN, ids=named)
def test_case(case: dict[str, Any], corpus: WSGIHost, logged: Logged) -> None:
    check(case, ask(corpus, asked_by(case)))
    logged.take("secret-internal-detail")
    logged.take("cannot be encoded as")


@pytest.fixture(scope="module")
def fenced() -> Any:
    settings = {"access.trusted_proxies": "127.0.0.1", "access.allow": "10.0.0.0/8"}
    return host(corpus_methods.registry, {**CORPUS_SETTINGS, **settings})


@pytest.mark.parametrize("case", edge_cases("allowlist"), ids=named)
def test_allowlist_case(case: dict[str, Any], fenced: WSGIHost) -> None:
    check(case, ask(fenced, asked_by(case)))


# ---- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"CONTENT_LENGTH": "-5"}, "the Content-Length is not a number"),
        ({"CONTENT_LENGTH": "+5"}, "the Content-Length is not a number"),
        ({"CONTENT_LENGTH": "5, 5"}, "the Content-Length is not a number"),
        ({"CONTENT_LENGTH": "5\u00b2"}, "the Content-Length is not a number"),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, "the only Transfer-Encoding is chunked, and without a Content-Length"),
        ({"HTTP_TRANSFER_ENCODING": "gzip, chunked", "CONTENT_LENGTH": None}, "the only Transfer-Encoding is chunked"),
        ({"HTTP_TRANSFER_ENCODING": "\x0bchunked", "CONTENT_LENGTH": None}, "the only Transfer-Encoding is chunked"),
        ({"HTTP_X": "a\r\n b"}, "a header has a line break in it"),
        ({"HTTP_X A": "b"}, "the name of a header is not a token"),
        ({"HTTP_CONTENT_LENGTH ": "5"}, "the name of a header is not a token"),
        ({"HTTP_HOST": None}, "one Host header is needed"),
        ({"HTTP_HOST": "a, b"}, "one Host header is needed"),
        ({"HTTP_HOST": "a b"}, "one Host header is needed"),
        ({"REQUEST_METHOD": "G<T"}, "the method is not a token"),
        ({"REQUEST_METHOD": None}, "the method is not a token"),
    ],
    ids=str,
)
def test_a_head_that_a_server_should_have_refused_is_400(variables: dict[str, Any], problem: str) -> None:
    response = ask(host(), environ(ADD, **{**JSON, **variables}))
    assert response.status == 400
    assert problem in response.body.decode()
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_http_1_0_needs_no_host() -> None:
    assert ask(host(), environ(ADD, **JSON, HTTP_HOST=None, SERVER_PROTOCOL="HTTP/1.0")).status == 200


def test_headers_are_found_in_any_case_and_outlive_the_environ() -> None:
    asked = environ(b'{"jsonrpc":"2.0","method":"see"}', **JSON, HTTP_X_REQUEST_ID="r-1", HTTP_CONTENT_TYPE="text/html")
    assert ask(host(), asked).headers["x-request-id"] == "r-1"
    asked.clear()
    headers = seen.pop().headers
    assert headers["x-request-id"] == headers["X-Request-ID"] == "r-1"
    assert headers["content-TYPE"] == "application/json"
    assert set(headers) == {"Content-Type", "Content-Length", "Host", "X-Request-Id"}
    assert len(headers) == 4
    assert "X-Other" not in headers


@pytest.mark.parametrize(
    ("path", "status"), [("/api", 200), ("/", 200), ("/api?x", 404), ("/api/", 404), ("", 404), ("//api", 404)]
)
def test_the_path_is_matched_exactly(path: str, status: int) -> None:
    assert ask(host(), environ(ADD, path=path, **JSON)).status == status


def test_a_peer_that_is_no_address_is_refused() -> None:
    assert ask(host(), environ(ADD, **JSON, REMOTE_ADDR="")).status == 403
    assert ask(host(), environ(ADD, **JSON, REMOTE_ADDR=None)).status == 403


def test_head_has_the_length_and_no_body_and_a_preflight_has_neither() -> None:
    response = ask(host(), environ(method="HEAD"))
    assert (response.status, response.body) == (405, b"")
    assert int(response.headers["content-length"]) > 0
    variables: dict[str, Any] = {"HTTP_ORIGIN": "https://app.example", "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST"}
    response = ask(host(settings={"access.origins": "https://app.example"}), environ(method="OPTIONS", **variables))
    assert response.status == 204
    assert "content-length" not in response.headers


# ---- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "variables", "status"),
    [
        ({"access.allow": "10.0.0.0/8"}, {}, 403),
        ({}, {"CONTENT_TYPE": "image/png"}, 415),
        ({}, {"PATH_INFO": "/other"}, 404),
        ({"limits.max_body": 1024}, {"CONTENT_LENGTH": "1025"}, 413),
        ({"limits.max_body": 1024}, {"CONTENT_LENGTH": "9" * 18}, 413),
    ],
    ids=str,
)
def test_nothing_is_read_for_what_the_head_has_refused(
    settings: dict[str, Any], variables: dict[str, Any], status: int
) -> None:
    asked = environ(b"x" * 2000, **{**JSON, **variables})
    told: list[str] = []
    assert all(host(settings=settings)(asked, lambda line, _: told.append(line)))
    assert told[0].startswith(str(status))
    assert asked["wsgi.input"].taken == 0


class Connected(io.RawIOBase):
    """A body that shows its connection, as those of the standard library's server and of Werkzeug do."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def read(self, size: int = -1) -> bytes:
        raise AssertionError(f"{size} bytes are asked for")

    def fileno(self) -> int:
        return self._connection.fileno()


def refused_upload(linger: float) -> socket.socket:
    """Have an upload refused, close its connection as the server does, and return the client's end."""
    client, server = socket.socketpair()
    with server:
        asked = {**environ(**JSON, CONTENT_LENGTH="9" * 15), "wsgi.input": Connected(server)}
        assert ask(host(settings={"limits.linger": linger}), asked).status == 413
    client.settimeout(20)
    return client


def test_the_rest_of_a_refused_upload_is_thrown_away_while_no_thread_waits() -> None:
    with refused_upload(linger=60) as client:
        client.sendall(b"x" * 20_000_000)  # more than any buffer takes, so somebody reads it
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b"", "the connection is still open behind the end of the upload"


def test_what_is_thrown_away_after_a_response_ends_with_its_time() -> None:
    with refused_upload(linger=0.3) as client, pytest.raises(BrokenPipeError):  # noqa: PT012 - it ends some time
        while True:
            client.sendall(b"x" * 1000)
            time.sleep(0.01)


def test_so_many_refused_uploads_are_read_on_at_once() -> None:
    """One more is closed with its response, so that uploads cannot take all descriptors of the process."""
    clients = [refused_upload(linger=60) for _ in range(256)]
    with refused_upload(linger=60) as one_more:
        assert one_more.recv(1) == b""
    for client in clients:
        client.close()
    eventually(lambda: not is_closed_at_once(), "there is no room again")


def is_closed_at_once() -> bool:
    with refused_upload(linger=60) as client:
        client.settimeout(0.1)
        try:
            return client.recv(1) == b""
        except TimeoutError:
            return False


@pytest.mark.parametrize("gone", [True, False])
def test_a_body_in_a_file_or_of_a_client_that_has_gone_is_not_read_on(gone: bool, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    file = (tmp_path / "body").open("wb+", buffering=0)
    with file, theirs:
        ours.close()
        body = Connected(theirs) if gone else file
        asked = {**environ(**JSON, CONTENT_LENGTH="9" * 15), "wsgi.input": body}
        assert ask(host(), asked).status == 413


@pytest.mark.parametrize("content_type", ["application/json", "text/xml"])
def test_a_body_that_ends_too_early_is_no_call(content_type: str) -> None:
    response = ask(host(), environ(ADD, CONTENT_TYPE=content_type, CONTENT_LENGTH="80"))
    assert response.status == 400
    assert b"-32600" in response.body


@pytest.mark.parametrize("error", [OSError, ValueError, EOFError])
def test_a_body_that_cannot_be_read_is_not_a_call(error: type[Exception]) -> None:
    class Gone(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise error(f"nobody sends {size} bytes")

    asked = {**environ(ADD, **JSON), "wsgi.input": Gone()}
    assert ask(host(), asked).status == 400


def test_a_body_without_a_length_is_read_to_its_end_where_the_server_knows_it() -> None:
    ends = {**JSON, "CONTENT_LENGTH": None, "wsgi.input_terminated": True}
    for coding in (None, "chunked", " Chunked"):
        response = ask(host(), environ(ADD, HTTP_TRANSFER_ENCODING=coding, **ends))
        assert json.loads(response.body)["result"] == 5
    asked = environ(b" " * 5000, HTTP_TRANSFER_ENCODING="chunked", **ends)
    assert ask(host(settings={"limits.max_body": 1024}), asked).status == 413


@pytest.mark.parametrize(("content_type", "told"), [("application/json", b'"code":-32600'), ("text/xml", b"-32600")])
def test_chunks_are_refused_where_the_server_does_not_read_them(content_type: str, told: bytes) -> None:
    asked = environ(ADD, CONTENT_TYPE=content_type, CONTENT_LENGTH=None, HTTP_TRANSFER_ENCODING="chunked")
    response = ask(host(), asked)
    assert response.status == 411
    assert told in response.body
    assert b"a Content-Length is needed" in response.body
    assert asked["wsgi.input"].taken == 0


def test_without_a_length_there_is_no_body() -> None:
    for length in (None, ""):
        asked = environ(ADD, **JSON, CONTENT_LENGTH=length)
        assert json.loads(ask(host(), asked).body)["error"]["code"] == -32700
        assert asked["wsgi.input"].taken == 0


# ---- the loop --------------------------------------------------------------------------------------------------------


def test_first_requests_may_come_at_once_and_calls_wait_beside_each_other() -> None:
    application = host()
    answers: dict[str, Any] = {}

    def call(name: str) -> None:
        body = json.dumps({"jsonrpc": "2.0", "method": "block", "params": [name], "id": 1}).encode()
        answers[name] = json.loads(ask(application, environ(body, **JSON)).body)["result"]

    threads = [threading.Thread(target=call, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for name in "abc":
        assert started[name].wait(20)
    for name in "cba":
        release[name].set()
    for thread in threads:
        thread.join(20)
    assert answers == {"a": "a", "b": "b", "c": "c"}
    assert sum(thread.name == "gateway-loop" for thread in threading.enumerate()) == 1


def test_an_endpoint_that_did_not_open_is_tried_again(logged: Logged) -> None:
    tried: list[int] = []
    whole = host()

    async def open_here() -> Admission:
        tried.append(len(tried))
        if len(tried) == 1:
            raise OSError("too many open files")
        return await whole._endpoint.open()

    application = WSGIHost(Endpoint(open=open_here, limits=Limits(), paths=("/api",)))
    assert [ask(application, environ(ADD, **JSON)).status for _ in range(3)] == [500, 200, 200]
    assert len(tried) == 2
    assert logged.take("the endpoint raised")


def test_an_endpoint_that_raises_is_told_as_500_and_logged(logged: Logged) -> None:
    def admit(head: HTTPRequest) -> HTTPResponse | Admitted:
        raise RuntimeError(f"a bug of ours: {head.target}")

    async def open_here() -> Admission:
        return admit

    response = ask(WSGIHost(Endpoint(open=open_here, limits=Limits(), paths=("/api",))), environ(ADD, **JSON))
    assert (response.status, response.body) == (500, b"Internal error\n")
    assert logged.take("the endpoint raised")


def printed(program: str) -> list[str]:
    """Run a program of its own, and return the lines that it prints."""
    head = """
        import os, sys, threading, time
        from gateway import Registry, endpoint
        from gateway.hosts.wsgi import WSGIHost
        from tests.hosts.test_wsgi import ADD, JSON, ask, environ

        registry = Registry()

        @registry.register
        def add(a, b):
            return a + b

        @registry.register
        def hang():
            print("hangs", flush=True)
            time.sleep(600)

        application = WSGIHost(endpoint(registry))
    """
    code = f"{textwrap.dedent(head)}\n{textwrap.dedent(program)}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],  # 3.12 warns of any fork beside threads
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_processes_that_were_forked_before_or_after_a_call_answer_for_themselves() -> None:
    program = """
        def call(name):
            print(name, ask(application, environ(ADD, **JSON)).body.decode(), flush=True)

        def fork(name):
            child = os.fork()
            if not child:
                call(name)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0

        fork("before")
        call("parent")
        fork("after")
        call("parent")
    """
    answer = '{"jsonrpc":"2.0","result":5,"id":1}'
    assert printed(program) == [f"{name} {answer}" for name in ("before", "parent", "after", "parent")]


def test_a_call_that_hangs_does_not_keep_the_process() -> None:
    program = """
        body = b'{"jsonrpc":"2.0","method":"hang","id":1}'
        threading.Thread(target=ask, args=(application, environ(body, **JSON)), daemon=True).start()
        time.sleep(1)
    """
    assert printed(program) == ["hangs"]


# ---- real servers ----------------------------------------------------------------------------------------------------


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(application: Any) -> Iterator[int]:
    """Serve an application with the standard library's server, and yield the port."""
    with make_server("127.0.0.1", 0, application, _Server, _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(10)


@pytest.mark.parametrize("wrapped", [lambda application: application, validator], ids=["bare", "validated"])
def test_the_standard_librarys_server_serves_it(wrapped: Callable[[Any], Any]) -> None:
    with serving(wrapped(host())) as port:
        server = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{port}/api")
        assert server.add(2, 3) == 5
        multicall = xmlrpc.client.MultiCall(server)
        multicall.add(1, 2)
        multicall.add(3, 4)
        assert tuple(multicall()) == (3, 7)  # type: ignore[arg-type]  # it is iterated by index


def test_a_refused_upload_sees_its_answer() -> None:
    with serving(host()) as port, Wire(port) as wire:
        wire.send(request("/api", {"Content-Type": "text/xml"}, b"<" * 30_000_000))
        response = wire.read()
    assert response is not None
    assert response.status == 413
    assert b"-32006" in response.body


@pytest.mark.parametrize("missing", ["the client", "a descriptor"])
def test_what_cannot_be_taken_from_gunicorn_leaves_no_descriptor(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        lent, _ = server.accept()
        with lent, client:
            if missing == "the client":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                with pytest.raises(ConnectionResetError):
                    lent.recv(1)
            else:
                monkeypatch.setattr(socket, "socketpair", none_left)
            before = set(Path("/proc/self/fd").iterdir())
            assert wsgi._taken_from(lent) is None
            assert set(Path("/proc/self/fd").iterdir()) == before


# ---- the end of a process --------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, io, os, warnings
from wsgiref.util import setup_testing_defaults
from gateway import endpoint
from gateway.hosts import wsgi
from tests.lifespan_methods import note, registry

if SLOW:
    wsgi._CLOSING = 0.1
    registry.on_shutdown(lambda: asyncio.sleep(60))
application = wsgi.WSGIHost(endpoint(registry))
for _ in range(2):
    body = b'{"jsonrpc":"2.0","method":"process","id":1}'
    asked = {"REQUEST_METHOD": "POST", "PATH_INFO": "/api", "REMOTE_ADDR": "127.0.0.1", "wsgi.input": io.BytesIO(body)}
    asked |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body))}
    setup_testing_defaults(asked)
    application(asked, lambda *_: None)
with warnings.catch_warnings(action="ignore"):  # of threads, from 3.12 on
    child = os.fork()
if child:
    os.waitpid(child, 0)
    note("ends")
"""


@pytest.mark.parametrize("is_slow", [False, True])
def test_what_methods_have_opened_is_closed_once_and_by_the_process_that_has_opened_it(
    *, is_slow: bool, tmp_path: Path
) -> None:
    said = tmp_path / "lifespan"
    with subprocess.Popen(
        [sys.executable, "-c", f"SLOW = {is_slow}\n{PROGRAM}"],
        cwd=ROOT,
        env=os.environ | {"LIFESPAN": str(said)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        errors = process.communicate(timeout=30)[1]
    expected = [f"{what} {process.pid}" for what in ("opened", "ends", "closed")][: 2 if is_slow else 3]
    assert said.read_text().splitlines() == expected
    assert errors == (
        "what methods have opened is not closed after 0.1 s; the process ends all the same\n" if is_slow else ""
    )
