"""JSON-RPC over plain TCP towards upstreams: one connection for many calls, and when it is given up."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.model.limits import Limits
from gateway.upstreams import Invocation
from gateway.upstreams.jsonrpc.tcp import JSONRPCOverTCP, TCPOptions
from tests.conftest import Logged
from tests.upstreams.kinds import KINDS
from tests.upstreams.running import serve_upstream, until

TCP = KINDS[2]


class Peer:
    """The server's end of a connection: what has come on it, and whether the gateway has closed it."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        self.connection = connection
        self.number = number
        self.calls: list[dict[str, Any]] = []
        self.closed = False

    def answer(self, call: dict[str, Any], result: Any) -> None:
        self.say({"jsonrpc": "2.0", "id": call["id"], "result": result})

    def say(self, message: Any) -> None:
        self.connection.sendall(json.dumps(message).encode() + b"\n")


@contextmanager
def server(receive: Callable[[Peer, dict[str, Any]], None], at: int = 0) -> Iterator[tuple[int, list[Peer]]]:
    """Give each call to ``receive``; yield the port, and the connections as they come."""
    peers: list[Peer] = []

    def serve(peer: Peer) -> None:
        with suppress(OSError, ValueError), peer.connection, peer.connection.makefile("rb") as lines:
            for line in lines:
                peer.calls.append(json.loads(line))
                receive(peer, peer.calls[-1])
        peer.closed = True

    def accept(bound: socket.socket) -> None:
        with suppress(OSError):
            while True:
                peers.append(Peer(bound.accept()[0], len(peers)))
                threading.Thread(target=serve, args=(peers[-1],), daemon=True).start()

    with socket.create_server(("127.0.0.1", at)) as bound:
        threading.Thread(target=accept, args=(bound,), daemon=True).start()
        yield bound.getsockname()[1], peers
        bound.shutdown(socket.SHUT_RDWR)


def test_a_connection_without_a_sign_of_life_is_not_used_again(tmp_path: Path) -> None:
    def receive(peer: Peer, call: dict[str, Any]) -> None:
        if peer.number:
            peer.answer(call, peer.number)

    with server(receive) as (port, peers), serve_upstream(TCP, port, tmp_path, "timeout = { '*' = 0.4 }") as up:
        assert up.fault("echo", 1) == (-32001, "maybe")
        assert [up.call("echo", 1), up.call("echo", 1)] == [1, 1]
        until(lambda: peers[0].closed)
        assert not peers[1].closed


def test_a_connection_that_has_said_something_since_is_kept(tmp_path: Path) -> None:
    def receive(peer: Peer, call: dict[str, Any]) -> None:
        if call["method"] == "pause":
            peer.say({"jsonrpc": "2.0", "method": "alive", "params": []})
        else:
            peer.answer(peer.calls[0], "late")
            peer.answer(call, "right")

    with server(receive) as (port, peers), serve_upstream(TCP, port, tmp_path, "timeout = { pause = 0.3 }") as up:
        assert up.fault("pause", 1) == (-32001, "maybe")
        assert [up.call("echo", 1), up.call("echo", 1)] == ["right", "right"]
        assert len(peers) == 1


def test_answers_come_in_any_order(tmp_path: Path) -> None:
    def receive(peer: Peer, _: dict[str, Any]) -> None:
        if len(peer.calls) == 20:
            for call in sorted(peer.calls, key=lambda call: call["params"][0] * 7 % 20):
                peer.answer(call, call["params"])

    with (
        server(receive) as (port, peers),
        serve_upstream(TCP, port, tmp_path, "connections = 1") as up,
        ThreadPoolExecutor(20) as pool,
    ):
        assert list(pool.map(lambda number: up.call("echo", number), range(20))) == [[number] for number in range(20)]
        assert len(peers) == 1


def test_what_was_not_asked_for_closes_an_idle_connection_at_once(tmp_path: Path) -> None:
    with (
        server(lambda peer, call: peer.answer(call, peer.number)) as (port, peers),
        serve_upstream(TCP, port, tmp_path) as up,
    ):
        assert up.call("echo", 1) == 0
        peers[0].say({"jsonrpc": "2.0", "id": 1, "result": "again"})  # the id is over
        assert up.call("echo", 1) == 0
        peers[0].connection.sendall(b"rubbish\n")
        until(lambda: peers[0].closed)
        assert up.call("echo", 1) == 1


def test_an_error_without_an_id_fails_all_calls_of_its_connection(tmp_path: Path, logged: Logged) -> None:
    def receive(peer: Peer, _: dict[str, Any]) -> None:
        if len(peer.calls) == 3:
            peer.say({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}})

    with (
        server(receive) as (port, peers),
        serve_upstream(TCP, port, tmp_path, "connections = 1") as up,
        ThreadPoolExecutor(3) as pool,
    ):
        assert [code for code, _ in pool.map(lambda number: up.fault("echo", number), range(3))] == [-32700] * 3
        until(lambda: peers[0].closed)
    assert logged.lines == []


def test_what_waits_to_be_written_is_never_written_when_its_caller_has_gone(tmp_path: Path) -> None:
    """A stopped server runs no call later whose caller has long been told that it has failed."""
    go = threading.Event()

    def receive(peer: Peer, call: dict[str, Any]) -> None:
        go.wait(20)
        with suppress(OSError):
            peer.answer(call, len(call["params"][0]))

    large, more = "x" * 900_000, "timeout = { '*' = 1 }\nconnections = 1"
    with (
        server(receive) as (port, peers),
        serve_upstream(TCP, port, tmp_path, more) as up,
        ThreadPoolExecutor(12) as pool,
    ):
        faults = list(pool.map(lambda _: up.fault("echo", large), range(12)))
        assert {code for code, _ in faults} == {-32001}
        assert {sent for _, sent in faults} == {"no", "maybe"}
        go.set()
        until(lambda: peers[0].closed)
        assert len(peers[0].calls) <= sum(sent == "maybe" for _, sent in faults)
        assert up.call("echo", "abc") == 3


def test_a_last_response_without_its_newline_is_taken(tmp_path: Path) -> None:
    def receive(peer: Peer, call: dict[str, Any]) -> None:
        peer.connection.sendall(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": 7}).encode())
        peer.connection.shutdown(socket.SHUT_WR)

    with server(receive) as (port, _), serve_upstream(TCP, port, tmp_path) as up:
        assert up.call("echo", 1) == 7


def test_a_last_response_that_is_cut_off_is_none(tmp_path: Path, logged: Logged) -> None:
    def receive(peer: Peer, _: dict[str, Any]) -> None:
        peer.connection.sendall(b'{"jsonrpc": "2.0", "id": 1, "resu')
        peer.connection.shutdown(socket.SHUT_WR)

    with server(receive) as (port, _), serve_upstream(TCP, port, tmp_path) as up:
        assert up.fault("echo", 1) == (-32002, "maybe")
    assert logged.take("is down: EOFError")


@pytest.mark.parametrize("call_id", ["1", 99, 0, 1.0])
def test_an_id_that_was_never_sent_fails_the_only_call_at_once(call_id: Any, tmp_path: Path, logged: Logged) -> None:
    def receive(peer: Peer, _: dict[str, Any]) -> None:
        peer.say({"jsonrpc": "2.0", "id": call_id, "result": 7})

    with server(receive) as (port, _), serve_upstream(TCP, port, tmp_path) as up:
        assert up.fault("echo", 1) == (-32004, "maybe")
    assert logged.take("upstream up: Bad upstream: the response has an id that was never sent")


def test_an_id_that_was_never_sent_is_logged_where_several_calls_wait(tmp_path: Path, logged: Logged) -> None:
    def receive(peer: Peer, _: dict[str, Any]) -> None:
        if len(peer.calls) == 2:
            for number in range(3):
                peer.say({"jsonrpc": "2.0", "id": f"x{number}", "result": 7})
            for call in peer.calls:
                peer.answer(call, call["params"])

    with (
        server(receive) as (port, _),
        serve_upstream(TCP, port, tmp_path, "connections = 1") as up,
        ThreadPoolExecutor(2) as pool,
    ):
        assert list(pool.map(lambda number: up.call("echo", number), range(2))) == [[0], [1]]
    assert len(logged.take("a response has an id that was never sent")) == 1


class Told:
    """What is told of a call, and the call."""

    def __init__(self, *params: Any) -> None:
        self.said: list[Any] = []
        self.invocation = Invocation(method="echo", params=list(params), deadline=time.monotonic() + 20, request_id="")

    def done(self) -> bool:
        return bool(self.said)

    def set_result(self, value: Any) -> None:
        self.said.append(value)

    def set_exception(self, error: Exception) -> None:
        self.said.append(type(error))


def test_calls_are_held_back_while_a_connection_takes_no_more() -> None:
    """They are sent when it does; not if they were given up; and where it breaks they were certainly not sent."""

    async def told(each: Told) -> list[Any]:
        while not each.said:  # noqa: ASYNC110 - it is told by no event
            await asyncio.sleep(0.001)
        return each.said

    async def test(port: int) -> None:
        adapter = JSONRPCOverTCP(TCPOptions(url=f"jsonrpc+tcp://127.0.0.1:{port}", connections=1), Limits())
        first, held_back, given_up, broken = Told(1), Told(2), Told(3), Told(4)
        adapter.begin(first.invocation, first)
        assert await told(first) == [[1]]
        connection: Any = adapter._pool._held[0].connection
        connection.pause_writing()
        adapter.begin(held_back.invocation, held_back)
        adapter.begin(given_up.invocation, given_up)()
        await asyncio.sleep(0.05)
        assert (held_back.invocation.sent, held_back.said) == ("no", [])
        connection.resume_writing()
        assert await told(held_back) == [[2]]
        assert (held_back.invocation.sent, given_up.invocation.sent, connection.usable()) == ("yes", "no", True)
        connection.pause_writing()
        adapter.begin(broken.invocation, broken)
        connection.close()
        assert (await told(broken), broken.invocation.sent) == ([EOFError], "no")
        await adapter.close()

    with server(lambda peer, call: peer.answer(call, call["params"])) as (port, peers):
        asyncio.run(asyncio.wait_for(test(port), 20))
        assert [call["params"] for call in peers[0].calls] == [[1], [2]]
