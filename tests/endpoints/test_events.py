"""Streams as server-sent events, by the standard library's client of HTTP and raw sockets."""

import asyncio
import http.client
import json
import time
import xmlrpc.client
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from gateway import Fault, Registry
from gateway.codecs.jsonrpc import JSONRPC
from gateway.endpoints import events
from tests.endpoints.test_streams import count, lines
from tests.hosts.test_websocket import call
from tests.raw_http import Wire, post, request
from tests.scraping import until
from tests.serving import Server, eventually, serving

registry = Registry()
registry.register(count)
registry.register(lines)
log: list[str] = []
produced: list[int] = []
EVENTS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


@registry.register
async def ticks(pause: float = 0.01) -> AsyncIterator[int]:
    log.append("begins")
    try:
        number = 0
        while True:
            yield number
            number += 1
            await asyncio.sleep(pause)
    finally:
        log.append("ends")


@registry.register
async def fails() -> AsyncIterator[int]:
    yield 1
    raise Fault(7, "no more")


@registry.register
async def bulk() -> AsyncIterator[str]:
    for number in range(400):
        produced.append(number)
        yield f"{number:06}" + "x" * 100_000


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    log.append("add")
    return a + b


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, {"limits.timeout": 2}) as found:
        yield found


@pytest.fixture(autouse=True)
def fresh() -> None:
    log.clear()
    produced.clear()


class Caller:
    """A connection of http.client, which reads chunks."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(source, 0))
        self.responses: list[http.client.HTTPResponse] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for response in self.responses:  # each holds the socket until it is closed, or read to its end
            response.close()
        self.connection.close()

    def ask(self, body: Any, path: str = "/api", **headers: str) -> http.client.HTTPResponse:
        self.connection.request("POST", path, json.dumps(body), EVENTS | headers)
        self.responses.append(self.connection.getresponse())
        return self.responses[-1]


def event(response: http.client.HTTPResponse) -> Any:
    """Read an event; None at the end."""
    line = response.readline()
    if not line:
        return None
    assert response.readline() == b"\n"
    return json.loads(line.removeprefix(b"data: ")) if line != b":\n" else "comment"


def test_each_value_is_an_event_and_the_answer_is_the_last_one(server: Server) -> None:
    with Caller(server.port) as caller:
        for method, given, values in (("count", [2], [0, 1]), ("lines", ["a b"], ["a", "b"])):
            response = caller.ask(call(method, *given, call_id="id"), **{"X-Request-ID": "mine"})
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/event-stream"
            assert response.headers["X-Accel-Buffering"] == "no"
            assert response.headers["X-Request-ID"] == "mine"
            for value in values:
                params = {"subscription": "id", "result": value}
                assert event(response) == {"jsonrpc": "2.0", "method": "rpc.subscription", "params": params}
            assert event(response) == {"jsonrpc": "2.0", "result": None, "id": "id"}
            assert event(response) is None  # and the connection goes on


def test_a_fault_is_the_last_event(server: Server) -> None:
    with Caller(server.port) as caller:
        response = caller.ask(call("fails"))
        assert event(response)["params"]["result"] == 1
        assert event(response) == {"jsonrpc": "2.0", "error": {"code": 7, "message": "no more"}, "id": 1}
        assert event(response) is None


def test_what_is_no_stream_is_answered_as_ever(server: Server) -> None:
    with Caller(server.port) as caller:
        for body, result in (
            (call("add", 1, 2), 3),
            ([call("count", 1), call("add", 1, 2)], [[0], 3]),
            ({"jsonrpc": "2.0", "method": "count", "params": [1]}, None),
        ):
            response = caller.ask(body)
            assert response.headers["Content-Type"] == "application/json"
            said = response.read()
            answer = json.loads(said) if said else {"result": None}
            found = [each["result"] for each in answer] if isinstance(answer, list) else answer["result"]
            assert found == result
        for body, code in ((call("ticks", "x"), -32602), (call("nothing"), -32601)):
            assert json.loads(caller.ask(body).read())["error"]["code"] == code
        assert json.loads(caller.ask(call("count", 1), **{"X-Request-Timeout": "x"}).read())["error"]["code"] == -32600
        assert json.loads(caller.ask(call("count", 1), Accept="application/json").read())["result"] == [0]
        xml = xmlrpc.client.dumps((1,), "count")
        caller.connection.request("POST", "/api", xml, EVENTS | {"Content-Type": "text/xml"})
        assert xmlrpc.client.loads(caller.connection.getresponse().read())[0][0] == [0]
    assert log == ["add", "add"]


def test_a_body_is_read_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    decode = JSONRPC.decode

    def counted(codec: JSONRPC, body: bytes, charset: str | None) -> Any:
        read.append(len(body))
        return decode(codec, body, charset)

    monkeypatch.setattr(JSONRPC, "decode", counted)
    with Caller(server.port) as caller:
        for body in (call("nothing"), [call("add", 1, 2)], call("count", 1)):
            caller.ask(body).read()
    assert len(read) == 3


def test_another_name_of_a_version_streams_too(tmp_path: Path) -> None:
    versioned = Registry()
    versioned.register(lines, name="shop.v2.lines")
    file = tmp_path / "gateway.toml"
    file.write_text("[versions.shop]\ndefault = 'v2'\n")
    with serving(versioned, {}, file) as server, Caller(server.port) as caller:
        response = caller.ask(call("shop.lines", "a"))
        assert response.headers["Content-Type"] == "text/event-stream"
        assert event(response)["params"]["result"] == "a"


def test_who_hangs_up_ends_the_stream_which_is_counted(server: Server) -> None:
    with Caller(server.port) as caller:
        assert event(caller.ask(call("ticks")))["params"]["result"] == 0
    eventually(lambda: log == ["begins", "ends"], "it runs on")
    eventually(lambda: not server.gateway.running(), "it keeps its place")
    labels = {"method": "ticks", "outcome": "cancelled"}
    until(server.metrics, lambda numbers: numbers.of("gateway_calls_total", **labels) > 0)


def test_a_method_waits_for_a_client_that_reads_slowly(server: Server) -> None:
    with Caller(server.port) as caller:
        response = caller.ask(call("bulk"))
        before = -1
        while before != len(produced):
            before = len(produced)
            time.sleep(0.3)
        assert 0 < before < 300
        values = [event(response)["params"]["result"][:6] for _ in range(400)]
        assert values == [f"{number:06}" for number in range(400)]
        assert event(response)["result"] is None


def test_the_time_of_a_stream_is_what_its_caller_asks_for(server: Server) -> None:
    with Caller(server.port) as caller:
        response = caller.ask(call("ticks"), **{"X-Request-Timeout": "0.2"})
        while "params" in (said := event(response)):
            pass
        assert said["error"]["code"] == -32001
        assert event(response) is None
        response = caller.ask(call("ticks"))
        begin = time.monotonic()
        while time.monotonic() < begin + 2.3:  # longer than limits.timeout
            assert "params" in event(response)


def test_comments_are_sent_in_silence(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_SILENCE", 0.1)
    with Caller(server.port) as caller:
        response = caller.ask(call("ticks", 0.3))
        said = [event(response) for _ in range(4)]
    assert said[1:3] == ["comment", "comment"]


def test_a_gateway_that_stops_ends_its_streams() -> None:
    with serving(registry, {"server.drain": 60}) as server:
        caller = Caller(server.port)
        response = caller.ask(call("ticks"))
        event(response)
    while "params" in (said := event(response)):
        pass
    assert said["error"]["code"] == -32002
    assert event(response) is None
    caller.close()


def test_an_old_client_gets_no_chunks(server: Server) -> None:
    with Wire(server.port) as wire:
        sent = request("/api", EVENTS, json.dumps(call("count", 1)).encode())
        wire.send(sent.replace(b"HTTP/1.1", b"HTTP/1.0"))
        received = b""
        while data := wire.socket.recv(65536):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"Connection: close" in head
    assert body.startswith(b"data: {")
    assert body.count(b"\n\n") == 2


def test_a_client_that_asks_for_the_end_of_the_connection_gets_it(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/api", EVENTS | {"Connection": "close"}, json.dumps(call("count", 1)).encode()))
        received = b""
        while data := wire.socket.recv(65536):
            received += data
    assert received.endswith(b"\r\n0\r\n\r\n")


def test_without_accept_the_values_are_collected(server: Server) -> None:
    assert json.loads(post(server.port, json.dumps(call("count", 2)).encode()).body)["result"] == [0, 1]
