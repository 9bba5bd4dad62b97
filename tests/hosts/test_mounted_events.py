"""Streams as server-sent events where the gateway is mounted in another server: the same bytes as on the front."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway import Fault, Registry
from gateway.hosts.wsgi import WSGIHost
from tests.endpoints.test_events import Caller, event
from tests.endpoints.test_streams import count, lines
from tests.hosts.mounting import MOUNTS, Mounted, endpoint_of, served
from tests.hosts.test_mounts import ASYNC
from tests.hosts.test_websocket import call
from tests.serving import eventually, serving

SETTINGS = {"limits.client_connections": 2, "limits.timeout": 2, "mcp.expose": "*"}
registry = Registry()
registry.register(count)
registry.register(lines)
log: list[str] = []
produced: list[int] = []


@registry.register
async def ticks(pause: float) -> AsyncIterator[int]:
    log.append("begins")
    try:
        while True:
            yield 1
            await asyncio.sleep(pause)
    finally:
        log.append("ends")


@registry.register
async def fails() -> AsyncIterator[int]:
    yield 1
    raise Fault(7, "no more")


@registry.register
async def bulk() -> AsyncIterator[str]:
    try:
        for number in range(400):
            produced.append(number)
            yield "x" * 100_000
    finally:
        log.append("bulk ends")


@pytest.fixture(scope="module", params=ASYNC)
def mounted(request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with served(MOUNTS[request.param](endpoint_of(registry, SETTINGS))) as server:
        yield server


@pytest.fixture(scope="module")
def front() -> Iterator[Any]:
    with serving(registry, SETTINGS) as server:
        yield server


@pytest.fixture(autouse=True)
def fresh() -> None:
    log.clear()
    produced.clear()


def asked(port: int, body: Any, path: str = "/api") -> tuple[int, dict[str, str | None], bytes]:
    with Caller(port, CLIENT) as caller:
        response = caller.ask(body, path, **{"X-Request-ID": "r"})
        return response.status, {name: response.headers.get(name) for name in HEADERS}, response.read()


CLIENT = "127.0.0.2"  # who is counted
HEADERS = ("content-type", "cache-control", "x-accel-buffering", "x-request-id", "content-length", "transfer-encoding")
PROGRESS = {
    "jsonrpc": "2.0",
    "id": 3,
    "method": "tools/call",
    "params": {"name": "count", "arguments": {"to": 2}, "_meta": {"progressToken": "p"}},
}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api", call("count", 3)),
        ("/api", call("lines", "a b")),
        ("/api", call("fails")),
        ("/api", call("count", "x")),
        ("/api", [call("count", 1)]),
        ("/mcp", PROGRESS),
    ],
)
def test_the_response_is_that_of_the_front(mounted: Mounted, front: Any, path: str, body: Any) -> None:
    found = asked(mounted.port, body, path)
    assert found == asked(front.port, body, path)
    assert found[0] == 200
    assert found[2]


def test_under_wsgi_a_stream_has_a_thread_for_as_long_as_a_call(front: Any) -> None:
    for kind in ("flask", "django"):
        with served(MOUNTS[kind](endpoint_of(registry, SETTINGS))) as server:
            if kind == "django":  # it is sent in one piece
                status, headers, body = asked(server.port, call("count", 2))
                assert (status, headers["content-type"], b'"result":[0,1]' in body) == (200, "application/json", True)
                continue
            for sent in (call("count", 3), call("lines", "a b"), call("fails"), [call("count", 1)], call("count", "x")):
                assert asked(server.port, sent) == asked(front.port, sent)
            with Caller(server.port, CLIENT) as caller:
                response = caller.ask(call("ticks", 0.5))
                said = [event(response) for _ in range(4)]
                assert said[0]["params"]["result"] == 1
                assert log == ["begins"]  # it has been sent while the method runs
                while "params" in said[-1] and len(said) < 20:
                    said.append(event(response))
                assert said[-1]["error"]["code"] == -32001
            assert log == ["begins", "ends"]
            with Caller(server.port, CLIENT) as caller:
                event(caller.ask(call("ticks", 0.01)))
            eventually(lambda: log.count("ends") == 2, "it runs on")


def test_a_wsgi_server_of_one_thread_is_not_held_up() -> None:
    body = json.dumps(call("count", 2)).encode()
    environ = {
        "REQUEST_METHOD": "POST",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "PATH_INFO": "/api",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "a",
        "HTTP_ACCEPT": "text/event-stream",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
    }
    host, said = WSGIHost(endpoint_of(registry, SETTINGS)), []
    for threads in (False, True):
        given = environ | {"wsgi.input": io.BytesIO(body), "wsgi.multithread": threads}
        said.append(b"".join(host(given, lambda *_: None)))
    assert json.loads(said[0])["result"] == [0, 1]
    assert said[1].count(b"data: ") == 3


def test_who_hangs_up_ends_the_stream_and_is_counted_no_longer(mounted: Mounted) -> None:
    for times in (1, 2, 3):  # a client may have two
        with Caller(mounted.port, CLIENT) as caller:
            response = caller.ask(call("ticks", 300))
            assert event(response)["params"]["result"] == 1
            assert log.count("begins") == times
        eventually(lambda: log.count("ends") == times, "it runs on")  # noqa: B023 - it is asked at once
    eventually(lambda: asked(mounted.port, call("count", 1))[0] == 200, "it is counted")


def test_a_client_has_so_many_streams_at_once(mounted: Mounted) -> None:
    with Caller(mounted.port, CLIENT) as one, Caller(mounted.port, CLIENT) as other:
        assert event(one.ask(call("ticks", 300)))["params"]["result"] == 1
        assert event(other.ask(call("ticks", 300)))["params"]["result"] == 1
        assert asked(mounted.port, call("count", 1))[0] == 429
    eventually(lambda: log.count("ends") == 2, "they run on")
    eventually(lambda: asked(mounted.port, call("count", 1))[0] == 200, "it is counted")


def test_a_method_waits_for_a_client_that_reads_slowly(mounted: Mounted) -> None:
    with Caller(mounted.port, CLIENT) as caller:
        response = caller.ask(call("bulk"))
        before = -1
        while before != len(produced):
            before = len(produced)
            time.sleep(0.3)
        assert 0 < before < 300
        assert [event(response)["params"]["result"][:1] for _ in range(400)] == ["x"] * 400
        assert event(response)["result"] is None
    with Caller(mounted.port, CLIENT) as caller:
        event(caller.ask(call("bulk")))
    eventually(lambda: log == ["bulk ends"] * 2, "it runs on")
