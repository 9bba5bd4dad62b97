"""JSON-RPC over WebSocket, by raw frames, the library websockets, and aiohttp."""

import asyncio
import gc
import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
import websockets
from websockets.sync.client import connect

from gateway import Context, Registry
from gateway.core.access import make_key as make_api_key
from gateway.hosts.http import HTTPHost
from gateway.wire import websocket
from gateway.wire.websocket import Closed, Event, Message, MessageReader, Ping, Pong
from tests.certificates import Authority
from tests.raw_http import Wire, exchange, request
from tests.scraping import scrape
from tests.serving import Server, eventually, serving

ON: dict[str, Any] = {"websocket.enabled": True}
SETTINGS = ON | {
    "limits.max_body": 4096,
    "limits.in_flight": 4,
    "limits.body_timeout": 1,
    "limits.write_timeout": 1,
    "limits.linger": 1,
}
UPGRADE = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
registry = Registry()
running: list[int] = []
most: list[int] = []
begun: list[int] = []
ended: list[str] = []


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register
async def wait(seconds: float) -> float:
    running.append(1)
    most.append(len(running))
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise
    finally:
        running.pop()
    return seconds


@registry.register(run="inline")
def large() -> str:
    begun.append(1)
    return "x" * 300_000


@registry.register(run="inline")
def told(context: Context) -> list[Any]:
    return [context.client, context.protocol, context.key, context.headers.get("authorization"), context.request_id]


class Client:
    """A connection of raw frames."""

    def __init__(self, server: Server, headers: dict[str, str] | None = None, path: str = "/ws") -> None:
        self.wire = Wire(server.port, timeout=20)
        self.wire.send(request(path, UPGRADE | (headers or {}), b"", "GET"))
        response = self.wire.read()
        assert response is not None
        self.response = response
        self.reader = MessageReader(2**20, is_client=True)
        self.events: list[Event] = list(self.reader.feed(self.wire.received))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.socket.close()

    def send(self, *calls: Any) -> None:
        self.raw(*(websocket.write(websocket.TEXT, json.dumps(call).encode(), is_client=True) for call in calls))

    def raw(self, *frames: bytes) -> None:
        self.wire.send(b"".join(frames))

    def event(self) -> Event | None:
        """Read the next event; None where the connection is closed instead."""
        while not self.events:
            try:
                data = self.wire.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.events += self.reader.feed(data)
        return self.events.pop(0)

    def read(self) -> Any:
        event = self.event()
        assert isinstance(event, Message), event
        assert event.is_text
        return json.loads(event.data)


def call(method: str, *params: Any, call_id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": list(params), "id": call_id}


def frame(first: int, payload: bytes = b"") -> bytes:
    return bytes([first, 0x80 | len(payload)]) + b"abcd" + websocket.masked(payload, b"abcd")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, SETTINGS) as found:
        yield found


@pytest.fixture(autouse=True)
def fresh() -> None:
    for seen in (begun, ended, most):
        seen.clear()


def test_calls_batches_notifications_and_nonsense(server: Server) -> None:
    with Client(server) as client:
        assert client.response.status == 101
        assert client.response.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        client.send(call("add", 1, 2))
        assert client.read() == {"jsonrpc": "2.0", "result": 3, "id": 1}
        client.send([call("add", 1, 2), call("add", 3, 4, call_id="b")])
        assert [answer["result"] for answer in client.read()] == [3, 7]
        client.send({"jsonrpc": "2.0", "method": "add", "params": [1, 2]}, call("nothing"))
        assert client.read()["error"]["code"] == -32601  # a notification is not answered
        client.raw(frame(0x81, b"nonsense"), frame(0x82, json.dumps(call("add", 5, 6)).encode()))
        assert client.read()["error"]["code"] == -32700
        assert client.read()["result"] == 11  # bytes are as good as a text


def test_answers_come_when_they_are_ready(server: Server) -> None:
    with Client(server) as client:
        client.send(call("wait", 0.2, call_id="late"), call("add", 1, 1, call_id="soon"))
        assert [client.read()["id"], client.read()["id"]] == ["soon", "late"]


def test_each_message_has_an_id_and_the_context_of_the_upgrade(server: Server) -> None:
    with Client(server, {"X-Request-ID": "mine", "Accept-Encoding": "gzip"}) as client:
        assert client.response.headers["x-request-id"] == "mine"
        client.send(call("told"), call("told"))
        first, second = client.read()["result"], client.read()["result"]
    assert first[:4] == ["127.0.0.1", "jsonrpc", None, None]
    assert len({first[4], second[4], "mine"}) == 3


def test_messages_in_pieces_with_pings_between(server: Server) -> None:
    text = json.dumps(call("add", 20, 22)).encode()
    with Client(server) as client:
        client.raw(frame(0x01, text[:5]), frame(0x89, b"1"), frame(0x00), frame(0x89, b"2"), frame(0x80, text[5:]))
        assert [client.event(), client.event()] == [Pong(b"1"), Pong(b"2")]
        assert client.read()["result"] == 42
        for byte in frame(0x81, text):
            client.raw(bytes([byte]))
        assert client.read()["result"] == 42


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (frame(0xC1, b"[]"), 1002),
        (b"\x81\x02[]", 1002),
        (frame(0x81, b'"\xff"'), 1007),
        (b"\x89\xfe\x00\x7e" + bytes(130), 1002),
        (b"\x81\xff" + struct.pack("!Q", 2**40), 1009),
        (b"\x81\xfe" + struct.pack("!H", 4097), 1009),
    ],
)
def test_what_is_not_websocket_ends_it_with_a_code(server: Server, frames: bytes, code: int) -> None:
    with Client(server) as client:
        client.send(call("wait", 30))
        eventually(lambda: running, "the call does not begin")
        client.raw(frames)
        event = client.event()
        assert isinstance(event, Closed)
        assert event.code == code
        client.send(call("large"))  # it is not read any more
        assert client.event() is None
        eventually(lambda: ended, "the call is not cancelled")
        assert not begun


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_a_close_is_answered_with_its_code(server: Server, code: int) -> None:
    with Client(server) as client:
        client.raw(websocket.write_close(code, "bye", is_client=True), frame(0x81, b"[]"))
        assert [client.event(), client.event()] == [Closed(code, ""), None]


def test_a_client_that_is_gone_has_its_calls_cancelled(server: Server) -> None:
    with Client(server) as client:
        client.send(call("wait", 30), call("wait", 30))
        eventually(lambda: len(running) == 2, "they do not begin")
    eventually(lambda: len(ended) == 2, "they run on")


def test_no_more_calls_run_than_may_and_the_others_wait(server: Server) -> None:
    with Client(server) as client:
        client.send(*(call("wait", 0.05, call_id=number) for number in range(9)))
        assert sorted(client.read()["id"] for _ in range(9)) == list(range(9))
    assert max(most) == 4


def test_a_client_that_reads_nothing_is_not_read_and_then_closed(server: Server) -> None:
    with Client(server) as client:
        client.wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(*(call("large", call_id=number) for number in range(50)))
        eventually(lambda: begun, "nothing begins")
        eventually(lambda: not scrape(server.metrics).of("gateway_connections"), "it is not closed")
        assert len(begun) < 50


def test_a_message_that_does_not_end_is_closed(server: Server) -> None:
    with Client(server) as client:
        client.raw(frame(0x01, b"["))
        assert [client.event(), client.event()] == [Closed(1001, ""), None]


@pytest.mark.parametrize(
    ("headers", "status", "more"),
    [
        ({"Upgrade": "h2c"}, 426, ("upgrade", "websocket")),
        ({"Connection": "keep-alive"}, 426, ("sec-websocket-version", "13")),
        ({"Sec-WebSocket-Version": "8"}, 426, ("sec-websocket-version", "13")),
        ({"Sec-WebSocket-Key": "short"}, 400, ("x-content-type-options", "nosniff")),
        ({"Origin": "https://evil.example"}, 403, ("x-content-type-options", "nosniff")),
        ({"Content-Length": "3"}, 400, ("content-length", "0")),
    ],
)
def test_what_is_not_an_upgrade_is_refused(
    server: Server, headers: dict[str, str], status: int, more: tuple[str, str]
) -> None:
    sent = request("/ws", UPGRADE | headers, b"", "GET")
    response = exchange(server.port, sent + b"abc" * ("Content-Length" in headers))
    assert response.status == status
    assert response.headers[more[0]] == more[1]


def test_other_verbs_versions_and_paths(server: Server) -> None:
    response = exchange(server.port, request("/ws", UPGRADE, b""))
    assert (response.status, response.headers["allow"]) == (405, "GET")
    old = request("/ws", UPGRADE, b"", "GET").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert exchange(server.port, old).status == 400
    assert exchange(server.port, request("/api", UPGRADE, b"", "GET")).status == 405
    with Client(server, path="/ws?token=1") as client:
        assert client.response.status == 101


def test_it_is_off_by_default() -> None:
    with serving(registry) as server:
        assert exchange(server.port, request("/ws", UPGRADE, b"", "GET")).status == 404


def test_keys_in_a_header_or_a_subprotocol_and_origins() -> None:
    key, stored = make_api_key()
    settings = ON | {"access.keys": json.dumps({"page": stored}), "access.origins": "https://app.example"}
    with serving(registry, settings) as server:
        refused = exchange(server.port, request("/ws", UPGRADE, b"", "GET"))
        assert (refused.status, "www-authenticate" in refused.headers) == (401, True)
        wrong = {"Sec-WebSocket-Protocol": "jsonrpc, bearer.wrong"}
        assert exchange(server.port, request("/ws", UPGRADE | wrong, b"", "GET")).status == 401
        page = {"Sec-WebSocket-Protocol": f"jsonrpc, bearer.{key}", "Origin": "https://app.example"}
        with Client(server, page) as client:
            assert client.response.headers["sec-websocket-protocol"] == "jsonrpc"
            client.send(call("told"))
            assert client.read()["result"][2:4] == ["page", f"Bearer {key}"]
        with Client(server, {"Authorization": f"Bearer {key}"}) as client:
            assert "sec-websocket-protocol" not in client.response.headers
            client.send(call("told"))
            assert client.read()["result"][2] == "page"


def test_rules_and_rates_hold_for_each_message() -> None:
    rules = json.dumps([{"methods": ["add"], "networks": ["10.0.0.0/8"]}])
    settings = ON | {"access.rules": rules, "limits.client_rate": 0.001, "limits.client_burst": 2}
    with serving(registry, settings) as server, Client(server) as client:
        client.send(call("add", 1, 2), call("told"), call("told"))
        codes = [client.read().get("error", {}).get("code") for _ in range(3)]
    assert sorted(codes, key=str) == [-32003, -32005, None]


def test_the_clocks_of_silence() -> None:
    clocks = {"websocket.ping_interval": 0.2, "websocket.ping_timeout": 0.5, "limits.idle_timeout": 1}
    with serving(registry, ON | clocks) as server:
        with Client(server) as client:
            for _ in range(8):  # it answers, and stays longer than limits.idle_timeout
                assert client.event() == Ping(b"")
                client.raw(frame(0x8A))
            assert client.event() == Ping(b"")
            assert client.event() is None
        with Client(server) as client:
            client.send(call("wait", 30))
            assert client.event() == Ping(b"")
            client.raw(frame(0x8A))
            assert client.event() == Ping(b"")  # a call that runs does not show that somebody waits for it
            assert client.event() is None


def test_a_connection_without_messages_ends() -> None:
    with serving(registry, ON | {"websocket.idle_timeout": 0.6}) as server, Client(server) as client:
        begin = time.monotonic()
        client.send(call("wait", 1))
        assert client.read()["result"] == 1  # a call that runs keeps it open
        assert [client.event(), client.event()] == [Closed(1001, ""), None]
        assert time.monotonic() - begin > 1.5


def test_a_server_that_stops_ends_the_calls_and_says_so() -> None:
    with serving(registry, ON | {"server.drain": 5, "limits.linger": 0.5}) as server:
        idle, busy = Client(server), Client(server)
        busy.send(call("wait", 0.5))
        eventually(lambda: running, "the call does not begin")
    assert busy.read()["result"] == 0.5
    for client in (idle, busy):
        event = client.event()
        assert isinstance(event, Closed)
        assert event.code == 1001
        client.wire.socket.close()


def test_a_server_that_stops_waits_for_the_answer_to_its_close() -> None:
    with serving(registry, ON | {"server.drain": 5, "limits.linger": 60}) as server:
        client = Client(server)
        server.loop.call_soon_threadsafe(next(iter(_hosts())).retire)
        assert isinstance(client.event(), Closed)
        client.send(call("large"))  # sent before it knew: not run
        client.raw(websocket.write_close(1001, is_client=True))
        assert client.event() is None
        client.wire.socket.close()
    assert not begun


def test_a_server_that_stops_takes_no_more_messages() -> None:
    with serving(registry, ON | {"server.drain": 5}) as server, Client(server) as client:
        client.send(call("wait", 0.5))
        eventually(lambda: running, "the call does not begin")
        server.loop.call_soon_threadsafe(next(iter(_hosts())).retire)
        time.sleep(0.1)
        client.send(call("large"))
        assert client.read()["result"] == 0.5
        assert isinstance(client.event(), Closed)
        client.raw(websocket.write_close(1001, is_client=True))
        assert client.event() is None
    assert not begun


def test_a_client_that_is_not_read_need_not_answer_pings() -> None:
    clocks = {"websocket.ping_interval": 0.2, "websocket.ping_timeout": 0.2, "limits.in_flight": 1}
    with serving(registry, ON | clocks) as server, Client(server) as client:
        client.send(call("wait", 1.2))
        assert client.read()["result"] == 1.2


def test_an_upgrade_on_a_connection_of_a_server_that_stops_is_refused() -> None:
    with serving(registry, ON | {"server.drain": 0}) as server, Wire(server.port) as wire:
        wire.send(request("/ws", {}, b"", "GET"))
        assert wire.read() is not None
        hosts = [each for each in gc.get_objects() if type(each) is HTTPHost and each.websockets and each.connections]
        server.loop.call_soon_threadsafe(hosts[0].retire)
        eventually(lambda: hosts[0].connections.retired, "it does not retire")
        wire.send(request("/ws", UPGRADE, b"", "GET"))
        response = wire.read()
        assert response is not None
        assert response.status == 503


def test_what_a_proxy_brings_is_counted_for_as_long_as_it_is_open() -> None:
    settings = ON | {"access.trusted_proxies": "127.0.0.1", "limits.client_connections": 1}
    forwarded = {"X-Forwarded-For": "10.0.0.5"}
    with serving(registry, settings) as server:
        with Client(server, forwarded) as client:
            client.send(call("add", 1, 2))
            assert client.read()["result"] == 3
            assert exchange(server.port, request("/ws", UPGRADE | forwarded, b"", "GET")).status == 429
            other = request("/ws", UPGRADE | {"X-Forwarded-For": "10.0.0.6"}, b"", "GET")
            assert exchange(server.port, other).status == 101
        eventually(lambda: not server.gateway.running(), "calls run on")
        eventually(
            lambda: exchange(server.port, request("/ws", UPGRADE | forwarded, b"", "GET")).status == 101, "it counts on"
        )


def test_calls_are_cancelled_at_once_where_what_comes_is_not_websocket() -> None:
    with serving(registry, ON | {"limits.linger": 60}) as server, Client(server) as client:
        client.send(call("wait", 30))
        eventually(lambda: running, "the call does not begin")
        client.raw(frame(0xC1))
        eventually(lambda: ended, "the call is not cancelled")


def _hosts() -> Iterator[Any]:
    return (each for each in gc.get_objects() if type(each) is HTTPHost and each.sockets)


def test_the_library_websockets_calls(server: Server) -> None:
    with connect(f"ws://127.0.0.1:{server.port}/ws", subprotocols=[websockets.Subprotocol("jsonrpc")]) as client:
        assert client.subprotocol == "jsonrpc"
        client.send(["[", json.dumps(call("add", 1, 2)), "]"])  # in fragments
        assert json.loads(client.recv())[0]["result"] == 3
        assert client.ping(b"there?").wait(10)
        client.close(1000)
        assert client.close_code == 1000


def test_aiohttp_calls(server: Server) -> None:
    async def talk() -> list[Any]:
        async with aiohttp.ClientSession() as session, session.ws_connect(server.at("/ws"), compress=15) as client:
            await client.send_json(call("wait", 0.1, call_id="late"))
            await client.send_json(call("add", 1, 2, call_id="soon"))
            answers = [await client.receive_json(timeout=10) for _ in range(2)]
            await client.close()
            return [*(answer["id"] for answer in answers), client.compress, client.close_code]

    assert asyncio.run(talk()) == ["soon", "late", 0, 1000]


def test_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue()
    settings = SETTINGS | {"tls.certificate": certificate, "tls.key": key}
    with (
        serving(registry, settings) as server,
        connect(f"wss://localhost:{server.port}/ws", ssl=authority.client()) as client,
    ):
        client.send(json.dumps(call("add", 1, 2)))
        assert json.loads(client.recv())["result"] == 3
        client.send(json.dumps(call("large")))
        assert len(json.loads(client.recv())["result"]) == 300_000
