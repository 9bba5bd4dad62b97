"""Calls of upstreams on the plain way: the same outcome as on the full way, and as few executions.

A head with ``Connection: keep-alive`` is never known, so requests with it take the full way.
"""

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from xmlrpc.client import Fault, dumps, loads

import pytest

from gateway import Registry
from gateway.core import begun
from tests.conftest import Logged
from tests.raw_http import Wire
from tests.serving import Server, eventually, serving

FULL, PLAIN = "Connection: keep-alive\r\n", ""
OUTCOMES = ("echo", "fault", "garbage", "close", "twice", "late", "wide")
executed: Counter[str] = Counter()
released = threading.Event()


def outcome(method: str, params: Any) -> Any:
    """Run a method; None where the connection is to be closed without a response."""
    executed[method] += 1
    if method == "close" or (method == "twice" and executed[method] % 2):
        return None
    if method == "late":
        released.wait(20)
    return {"garbage": b"{<", "fault": Fault(7, "no"), "wide": 2**60}.get(method, params)


class JSON(StreamRequestHandler):
    """JSON-RPC, one call on each line."""

    def handle(self) -> None:
        for line in self.rfile:
            call = json.loads(line)
            found = outcome(call["method"], call["params"])
            if found is None:
                return
            self.wfile.write((found if isinstance(found, bytes) else as_json(call["id"], found)) + b"\n")


class HTTP(BaseHTTPRequestHandler):
    """JSON-RPC and XML-RPC in POSTs, on connections that stay open."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/json":
            call = json.loads(body)
            method, params = call["method"], call["params"]
        else:
            params, method = loads(body)
        found = outcome(method, list(params))
        if found is None:
            self.close_connection = True
            return
        if not isinstance(found, bytes):
            found = as_json(call["id"], found) if self.path == "/json" else as_xml(found)
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if self.path == "/json" else "text/xml")
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        with suppress(OSError):  # the gateway has given the call up
            self.wfile.write(found)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def as_json(number: int, found: Any) -> bytes:
    told = (
        {"error": {"code": found.faultCode, "message": found.faultString}}
        if isinstance(found, Fault)
        else {"result": found}
    )
    return json.dumps({"jsonrpc": "2.0", "id": number, **told}).encode()


def as_xml(found: Any) -> bytes:
    if found == 2**60:
        return b"<methodResponse><params><param><value><i8>%d</i8></value></param></params></methodResponse>" % found
    return dumps(found if isinstance(found, Fault) else (found,), methodresponse=True).encode()


class Threads(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128  # for connections that come at once


class Posts(ThreadingHTTPServer):
    request_queue_size = 128  # for connections that come at once


KINDS = {
    "jsonrpc+tcp": (Threads, JSON, ""),
    "jsonrpc+http": (Posts, HTTP, "/json"),
    "xmlrpc+http": (Posts, HTTP, "/xml"),
}


@pytest.fixture(scope="module", params=KINDS)
def up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind, handler, path = KINDS[request.param]
    with kind(("127.0.0.1", 0), handler) as peer:
        thread = threading.Thread(target=peer.serve_forever, args=(0.05,))
        thread.start()
        file = tmp_path_factory.mktemp("up") / "gateway.toml"
        file.write_text(
            f"[upstreams.up]\nurl = '{request.param}://127.0.0.1:{peer.server_address[1]}{path}'\n"
            f"methods = {list(OUTCOMES)}\nidempotent = ['twice']\ntimeout = {{ late = 0.3 }}\nint64 = 'text'\n"
        )
        try:
            with serving(Registry(), None, file) as server:
                yield server
        finally:
            released.set()
            peer.shutdown()
            thread.join()
            released.clear()


def request(method: str, params: list[Any], way: str = PLAIN) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "method": f"up.{method}", "params": params, "id": 1})
    head = "POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}{way}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def answers(server: Server, method: str, way: str) -> list[Any]:
    """Call three times on one connection: on the plain way the head is known from the third time on at the latest."""
    with Wire(server.port) as wire:
        said = []
        for _ in range(3):
            wire.send(request(method, ["a", 1], way))
            response = wire.read()
            assert response is not None
            said.append(json.loads(response.body))
        return said


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Count the calls that are begun at an upstream without a coroutine."""
    made: list[object] = []
    original = begun._Outcome.__init__

    def count(self: Any, *args: Any) -> None:
        made.append(self)
        original(self, *args)

    monkeypatch.setattr(begun._Outcome, "__init__", count)
    yield made
    monkeypatch.undo()


@pytest.mark.parametrize("method", OUTCOMES)
def test_both_ways_have_the_same_outcome(
    method: str, up: Server, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    released.clear()
    executed.clear()
    full = answers(up, method, FULL)
    ran = executed[method]
    with counted(monkeypatch) as begun_calls:
        answers(up, "echo", PLAIN)
        executed.clear()
        assert answers(up, method, PLAIN) == full
        assert executed[method] == ran == (6 if method == "twice" else 3)
        assert len(begun_calls) >= 4
    released.set()
    eventually(lambda: up.gateway.upstreams[0].running == 0, "a call is still counted")
    logged.lines.clear()  # that the upstream is down, and up again


def test_what_the_caller_asks_for_ends_a_call_on_both_ways(up: Server, logged: Logged) -> None:
    released.clear()
    wish = "X-Request-Timeout: 0.15\r\n"
    full = answers(up, "late", FULL + wish)
    assert answers(up, "late", PLAIN + wish) == full
    assert full[0]["error"]["data"]["sent"] == "maybe"
    released.set()
    logged.lines.clear()


def test_a_call_whose_caller_hangs_up_is_forgotten(up: Server, logged: Logged) -> None:
    released.clear()
    executed.clear()
    answers(up, "echo", PLAIN)
    service = up.gateway.upstreams[0]
    with Wire(up.port) as wire:
        wire.send(request("late", []))
        eventually(lambda: executed["late"] == 1, "it does not run")
        assert service.running == 1
    eventually(lambda: service.running == 0, "it is still counted")
    released.set()
    assert answers(up, "echo", PLAIN)[0]["result"] == ["a", 1]


def test_many_calls_at_once_get_their_own_results(up: Server) -> None:
    answers(up, "echo", PLAIN)
    wires = [Wire(up.port) for _ in range(40)]
    try:
        for round_ in range(5):
            for number, wire in enumerate(wires):
                wire.send(request("echo", [round_, number]))
            for number, wire in enumerate(wires):
                response = wire.read()
                assert response is not None
                assert json.loads(response.body)["result"] == [round_, number]
    finally:
        for wire in wires:
            wire.socket.close()


class Doubled(StreamRequestHandler):
    """Sends two responses to the fourth call of a connection in one segment."""

    def handle(self) -> None:
        for number in itertools.count(1):
            length = 0
            while (line := self.rfile.readline()) not in (b"", b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if not self.rfile.read(length):
                return
            bodies = [
                dumps((said,), methodresponse=True).encode() for said in ("its own", "forged")[: 1 + (number == 4)]
            ]
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%b"
            self.wfile.write(b"".join(head % (len(body), body) for body in bodies))


def test_a_second_response_is_not_that_of_the_next_call(tmp_path: Path) -> None:
    """The next call is sent as soon as the first response is handed over, when the second one is here already."""
    with Threads(("127.0.0.1", 0), Doubled) as peer:
        thread = threading.Thread(target=peer.serve_forever, args=(0.05,))
        thread.start()
        file = tmp_path / "gateway.toml"
        url = f"xmlrpc+http://127.0.0.1:{peer.server_address[1]}/"
        file.write_text(f"[upstreams.up]\nurl = '{url}'\nmethods = ['echo']\nconnections = 1\n")
        with serving(Registry(), None, file) as server, Wire(server.port) as wire:
            for calls in (1, 1, 1, 2):
                wire.send(request("echo", []) * calls)
                for _ in range(calls):
                    response = wire.read()
                    assert response is not None
                    assert json.loads(response.body)["result"] == "its own"
        peer.shutdown()
        thread.join()
