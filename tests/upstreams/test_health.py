"""Instances that are asked how they are: over HTTP, by gRPC's health service, and by a method."""

import asyncio
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway import ConfigError, Registry
from gateway.app import build
from gateway.config import load
from tests.conftest import Logged
from tests.serving import serving
from tests.upstreams.jsonrpc.test_tcp import Peer
from tests.upstreams.jsonrpc.test_tcp import server as lines
from tests.upstreams.kinds import http
from tests.upstreams.running import Served, until
from tests.upstreams.test_grpc import PROTO
from tests.upstreams.transport.test_http import said, server

OFTEN = "health_interval = 0.05\nconnect_timeout = 0.25\nmethods = ['add']"


class Node:
    """A server over HTTP that says how it is."""

    def __init__(self) -> None:
        self.status = "204 No Content"
        self.asked: list[bytes] = []
        self.calls = 0

    def answer(self, request: bytes, connection: Any) -> None:
        self.calls += 1
        connection.sendall(said(3))

    def receive(self, request: bytes, connection: Any) -> None:
        if request.startswith(b"GET"):
            self.asked.append(request)
            if self.status:
                connection.sendall(http(b"", self.status))
        else:
            self.answer(request, connection)


def served_by(folder: Path, text: str) -> Any:
    file = folder / "gateway.toml"
    file.write_text(f"[upstreams.up]\n{text}\n")
    return serving(Registry(), None, file)


def states(served: Served) -> list[str]:
    assert served.upstream.instances is not None
    return [row.state for row in served.upstream.instances.rows()]


def test_an_instance_that_is_not_well_gets_no_calls_until_it_is(tmp_path: Path, logged: Logged) -> None:
    one, other = Node(), Node()
    with gets(one) as port, gets(other) as other_port:
        urls = [f"xmlrpc+http://127.0.0.1:{each}/RPC2" for each in (port, other_port)]
        text = (
            f"url = {urls}\nhealth = '/healthz?deep=1'\nbalance = 'round-robin'\nheaders = {{ X-Key = 'k' }}\n{OFTEN}"
        )
        with served_by(tmp_path, text) as front:
            up = Served(front)
            until(lambda: one.asked and other.asked)
            head = one.asked[0]
            assert head.startswith(b"GET /healthz?deep=1 HTTP/1.1\r\nHost: 127.0.0.1")
            assert (b"X-Key: k" in head, b"Content-Type" in head, b"Content-Length" in head) == (True, False, False)
            one.status = "503 Service Unavailable"
            until(lambda: states(up) == ["out", "serving"])
            before = one.calls
            assert [up.call("add", 1, 2) for _ in range(4)] == [3] * 4
            assert one.calls == before
            one.status = "200 OK"
            until(lambda: states(up) == ["serving", "serving"])
            assert [up.call("add", 1, 2) for _ in range(4)] == [3] * 4
            assert one.calls > before
    assert logged.take("is out of service: its health: HTTP status 503 for /healthz?deep=1")


def gets(node: Node) -> Any:
    """Serve a node; the server of other tests waits for the body of each request."""
    return server(node.receive, bodiless=True)


def test_one_that_is_late_is_asked_again(tmp_path: Path, logged: Logged) -> None:
    node = Node()
    node.status = ""
    with gets(node) as port:
        text = f"url = 'xmlrpc+http://127.0.0.1:{port}/RPC2'\nhealth = '/'\n{OFTEN}"
        with served_by(tmp_path, text) as front:
            up = Served(front)
            until(lambda: states(up) == ["out"])
            assert len(node.asked) >= 2
            assert up.upstream.status.state == "down"
            assert up.call("add", 1, 2) == 3
    assert logged.take("is out of service: its health: no response in time")
    assert logged.take("is down: its health")


def test_a_method_tells(tmp_path: Path, logged: Logged) -> None:
    well = [True]

    def receive(peer: Peer, call: dict[str, Any]) -> None:
        if call["method"] == "ping" and not well[0]:
            peer.say({"jsonrpc": "2.0", "id": call["id"], "error": {"code": 7, "message": "the database is gone"}})
        else:
            peer.answer(call, call["params"])

    table = f"url = 'jsonrpc+tcp://127.0.0.1:{{}}'\nhealth = 'ping'\n{OFTEN}"
    with lines(receive) as (port, _), served_by(tmp_path, table.format(port)) as front:
        up = Served(front)
        assert states(up) == ["serving"]
        well[0] = False
        until(lambda: states(up) == ["out"])
        well[0] = True
        until(lambda: states(up) == ["serving"])
    assert logged.take("its health: the database is gone")


def test_the_health_service_of_grpc_tells(tmp_path: Path, logged: Logged) -> None:
    status, asked = [1], list[dict[str, Any]]()

    def check(_: bytes, context: Any) -> bytes:
        asked.append(dict(context.invocation_metadata()))
        return bytes([8, status[0]])

    handlers: Any = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    running = grpc.server(futures.ThreadPoolExecutor(4))
    running.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)])
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        often = OFTEN.replace("methods = ['add']", "")
        text = f"url = 'grpc://127.0.0.1:{port}'\nhealth = 'grpc'\nmetadata = {{ key = 'k' }}\n{PROTO}\n{often}"
        with served_by(tmp_path, text) as front:
            up = Served(front)
            until(lambda: asked)
            assert asked[0]["key"] == "k"
            assert states(up) == ["serving"]
            status[0] = 2
            until(lambda: states(up) == ["out"])
            status[0] = 1
            until(lambda: states(up) == ["serving"])
    finally:
        running.stop(0).wait(10)
    assert logged.take("the server says that it does not serve")


WRONG = {
    ("jsonrpc+tcp://a:1", "/healthz"): "health: a path is for a url with http",
    ("jsonrpc+http://a:1", "/a b"): "health: /a b is not a path",
    ("jsonrpc+http://a:1", "grpc"): 'health: a url with grpc or grpcs has health = "grpc", and no other has',
    ("grpc://a:1", "ping"): 'health: a url with grpc or grpcs has health = "grpc", and no other has',
}


@pytest.mark.parametrize(("url", "health"), WRONG)
def test_what_is_wrong_is_told(url: str, health: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(None, {}, [f"upstreams.up.url={url}", f"upstreams.up.health={health}"])
    assert WRONG[url, health] in error.value.problems[0]


def test_nobody_asks_any_more_when_it_is_closed() -> None:
    async def left() -> int:
        settings = ["upstreams.up.url=jsonrpc+tcp://127.0.0.1:1", "upstreams.up.health=ping"]
        (upstream,) = build(load(None, {}, settings), Registry()).upstreams
        await upstream.follow()
        await upstream.close()
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert asyncio.run(left()) == 1


def test_nothing_is_asked_without_it(tmp_path: Path) -> None:
    node = Node()
    with gets(node) as port, served_by(tmp_path, f"url = 'xmlrpc+http://127.0.0.1:{port}/'\n{OFTEN}") as front:
        assert Served(front).call("add", 1, 2) == 3
        time.sleep(0.2)
        assert not node.asked
