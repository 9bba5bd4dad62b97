"""Who is closed at the limit of connections, and who is not: by a clock of the test's own, and on the wire."""

import asyncio
import json
import select
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest

from gateway import Registry
from gateway.hosts import connections as module
from gateway.hosts.connections import Connections
from gateway.model.limits import Limits
from tests.conftest import Logged
from tests.raw_http import Response, Wire, request
from tests.serving import Server, eventually, serving
from tests.upstreams.running import until

JSON = {"Content-Type": "application/json"}
CAPACITY = 10

registry = Registry()
running = threading.Semaphore(0)
release = threading.Event()


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register(run="inline")
def hold_the_loop() -> None:
    running.release()
    release.wait(20)


@registry.register
def block() -> str:
    running.release()
    release.wait(20)
    return "done"


def call(method: str, *params: int, headers: dict[str, str] | None = None) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()
    return request("/api", JSON | (headers or {}), body)


ADD = call("add", 2, 3)
SLOW = b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n[ "


# By a clock of the test's own


class Fake:
    """A connection without a socket, or with one end of a pair."""

    def __init__(self, name: str, sock: socket.socket | None = None) -> None:
        self.peer = "10.0.0.1"
        self.name = name
        self.socket = sock
        self.owed = self.given = 0
        self.ended = ""

    def descriptor(self) -> int:
        return -1 if self.socket is None else self.socket.fileno()

    def unsent(self) -> int:
        return self.owed

    def held(self) -> int:
        return self.owed

    def taken(self) -> int:
        return self.given

    def close(self) -> None:
        self.ended = "closed"

    def reset(self) -> None:
        self.ended = "reset"


class Book(Connections[Fake]):
    """A book of three connections, whose time and arrivals the test makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **limits: float) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        super().__init__(Limits(connections=3, **limits), lambda _: False)  # type: ignore[arg-type]
        self.serve([], lambda *_: None)

    def come(self, name: str, sock: socket.socket | None = None) -> Fake:
        fake = Fake(name, sock)
        self._make_room()
        assert self._crowd.enter(fake.peer)
        self.add(fake)
        return fake

    def has_room(self) -> bool:
        return self._has_room()

    def look_around(self) -> None:
        self._sweeper.cancel()
        self._sweep()


def on_a_loop(test: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await test()

    asyncio.run(run())


def test_idle_ones_go_first_then_heads_then_bodies_and_each_only_after_a_while(
    monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    async def test() -> None:
        book = Book(monkeypatch)
        body, head, idle = (book.come(name) for name in ("body", "head", "idle"))
        book.note_body(body)
        book.note_idle(idle)
        assert not book.has_room()
        book.now += 0.9
        assert not book.has_room()
        book.now += 0.1
        assert book.has_room()
        book.note_busy(book.come("new"))
        assert (idle.ended, head.ended, body.ended) == ("closed", "", "")
        book.note_busy(book.come("newer"))
        assert (head.ended, body.ended) == ("closed", "")
        assert not book.has_room()
        book.now += 3.9
        assert not book.has_room()
        book.now += 0.1
        assert book.has_room()
        book.note_busy(book.come("newest"))
        assert body.ended == "closed"
        assert not book.has_room()
        assert len(book) == 3
        book.look_around()

    on_a_loop(test)
    assert logged.take("requests cut off because their bodies made no progress and others waited: 1")


def test_of_two_bodies_the_one_without_progress_goes(monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    async def test() -> None:
        book = Book(monkeypatch)
        fast, slow, busy = (book.come(name) for name in ("fast", "slow", "busy"))
        book.note_body(fast)
        book.note_body(slow, book.now)
        book.note_busy(busy)
        begun = book.now
        for _ in range(16):
            book.now += 0.5
            book.note_progress(fast, 600)
            book.note_progress(slow, 10)
            book.note_body(slow, begun)  # to be in this phase still is no progress
        assert book.has_room()
        book.note_busy(book.come("new"))
        assert (fast.ended, slow.ended, busy.ended) == ("", "closed", "")
        assert not book.has_room()
        book.look_around()

    on_a_loop(test)
    assert logged.take("requests cut off")


def test_a_body_that_makes_progress_is_still_ended_by_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        book = Book(monkeypatch, body_timeout=60)
        body = book.come("body")
        begun = book.now
        for _ in range(60):
            book.note_body(body, begun)
            book.note_progress(body, 5000)
            book.look_around()
            assert body.ended == ""
            book.now += 1
        book.now += 0.1
        book.look_around()
        assert body.ended == "closed"

    on_a_loop(test)


@pytest.mark.parametrize("phase", ["note_idle", "note_begun", "note_body"])
def test_who_has_sent_what_was_not_read_yet_stays(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        book = Book(monkeypatch)
        mine, theirs = socket.socketpair()
        with mine, theirs:
            late = book.come("late", mine)
            getattr(book, phase)(late)
            for name in ("busy", "too"):
                book.note_busy(book.come(name))
            book.now += 20
            theirs.send(b"x")
            assert not book.has_room()
            mine.recv(1)
            book.now += 20
            assert book.has_room()

    on_a_loop(test)


def test_who_takes_nothing_is_reset_and_who_takes_something_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        book = Book(monkeypatch, write_timeout=60, idle_timeout=75)
        stuck, slow = book.come("stuck"), book.come("slow")
        for each in (stuck, slow):
            book.note_idle(each)
            each.owed = 1000
        for _ in range(10):
            book.look_around()
            book.now += 10
            slow.given += 1
        assert (stuck.ended, slow.ended) == ("reset", "")

    on_a_loop(test)


def test_one_that_was_closed_for_another_changes_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        book = Book(monkeypatch)
        gone = book.come("gone")
        book.forget(gone)
        book.forget(gone)
        for note in (book.note_idle, book.note_begun, book.note_body, book.note_busy, book.note_linger):
            note(gone)
        book.note_progress(gone, 5000)
        assert book.count(gone, "10.9.9.9")
        assert len(book) == 0
        await asyncio.wait_for(book.drain(20), 10)

    on_a_loop(test)


def test_the_end_waits_for_what_an_idle_client_has_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        book = Book(monkeypatch)
        slow = book.come("slow")
        book.note_idle(slow)
        slow.owed = 5
        drained = asyncio.ensure_future(book.drain(60))
        await asyncio.sleep(0.1)
        assert not drained.done()
        slow.owed = 0
        await asyncio.wait_for(drained, 20)

    on_a_loop(test)


# On the wire


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    release.clear()
    while running.acquire(blocking=False):
        pass
    yield
    release.set()


@contextmanager
def small(**settings: object) -> Iterator[tuple[Server, ExitStack]]:
    with serving(registry, {"limits.connections": CAPACITY, "server.drain": 0, **settings}) as server:
        with ExitStack() as stack:
            yield server, stack
        release.set()


def answer(wire: Wire) -> Response:
    response = wire.read()
    assert response is not None, "closed without a response"
    return response


def test_requests_that_were_sent_at_the_limit_are_all_answered() -> None:
    """Four times as many as there is room for, all at once: those for whom there is none wait to be accepted."""
    with small() as (server, stack):
        wires = [stack.enter_context(Wire(server.port, timeout=60)) for _ in range(4 * CAPACITY)]
        for wire in wires:
            wire.send(ADD)
        assert [answer(wire).status for wire in wires] == [200] * len(wires)


def test_over_plain_tcp_too() -> None:
    message = ADD.partition(b"\r\n\r\n")[2]
    with small(**{"server.tcp": "127.0.0.1:0"}) as (server, stack):
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.tcp_port), timeout=60))
            for _ in range(2 * CAPACITY)
        ]
        for client in clients:
            client.sendall(message)
        assert [b'"result":5' in client.recv(1000) for client in clients] == [True] * len(clients)


@pytest.mark.parametrize("sent", [b"", ADD[:30]])
def test_who_has_just_come_is_not_closed_for_others(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RESTED", 3600)
    with small() as (server, stack):
        wires = [stack.enter_context(Wire(server.port, timeout=30)) for _ in range(CAPACITY)]
        for wire in wires:
            wire.send(sent)
        waiting = stack.enter_context(Wire(server.port, timeout=30))
        waiting.send(ADD)
        for wire in wires:
            wire.send(ADD[len(sent) :])
            assert answer(wire).status == 200
        wires[0].socket.close()
        assert answer(waiting).status == 200


def test_a_loop_that_is_late_closes_nobody_whose_request_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RESTED", 0)
    with small() as (server, stack):
        wires = [stack.enter_context(Wire(server.port, timeout=30)) for _ in range(CAPACITY)]
        for wire in wires:
            wire.send(ADD)
            assert answer(wire).status == 200
        wires[0].send(call("hold_the_loop"))
        assert running.acquire(timeout=20)
        late = stack.enter_context(Wire(server.port, timeout=30))  # it is accepted first
        late.send(ADD)
        for wire in wires[1:]:
            wire.send(ADD)
        release.set()
        assert [answer(wire).status for wire in (*wires, late)] == [200] * (CAPACITY + 1)


def test_bodies_that_make_no_progress_keep_nobody_out(monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    monkeypatch.setattr(module, "_STUCK", 0.5)
    with small() as (server, stack):
        slow = [stack.enter_context(Wire(server.port)) for _ in range(CAPACITY)]
        for wire in slow:
            wire.send(SLOW)
        for _ in range(3):
            other = stack.enter_context(Wire(server.port, timeout=30))
            other.send(call("block"))
            assert running.acquire(timeout=30)
        assert len(select.select([wire.socket for wire in slow], [], [], 0)[0]) == 3  # at their ends
        eventually(lambda: logged.lines, "no line in the log")
    assert logged.take("requests cut off because their bodies made no progress and others waited: ")


# Requests that a proxy brings


def forwarded(client: str, method: str = "block") -> bytes:
    return call(method, headers={"X-Forwarded-For": client})


def test_requests_of_a_proxy_are_counted_by_the_clients_that_it_names() -> None:
    settings = {"limits.client_connections": 2, "access.trusted_proxies": "127.0.0.0/8", "limits.retry_after": 7}
    with small(**settings, **{"limits.connections": 100}) as (server, stack):

        def begun(client: str) -> Wire:
            wire = stack.enter_context(Wire(server.port))
            wire.send(forwarded(client))
            return wire

        def refused(client: str) -> bool:
            with Wire(server.port) as wire:
                wire.send(forwarded(client, "nothing"))
                response = answer(wire)
                if response.status == 200:
                    return False
                assert response.status == 429
                assert response.headers["retry-after"] == "7"
                assert b'"code":-32003' in response.body
                return True

        first, second = begun("2001:db8::1"), begun("2001:db8::2")  # one client: a /64
        other = begun("10.0.0.1")
        assert all(running.acquire(timeout=20) for _ in range(3))
        assert refused("2001:db8::3")
        assert not refused("10.0.0.1")
        second.socket.close()  # hung up
        until(lambda: not refused("2001:db8::3"))
        release.set()
        assert [answer(wire).status for wire in (first, other)] == [200, 200]
        until(lambda: not refused("2001:db8::3"))
        for _ in range(5):  # the connections are kept, and hold no place
            first.send(forwarded("2001:db8::1", "nothing"))
            assert answer(first).status == 200


def test_a_slow_body_of_a_proxy_counts() -> None:
    settings = {"limits.client_connections": 1, "access.trusted_proxies": "127.0.0.0/8"}
    with small(**settings) as (server, stack):
        slow = stack.enter_context(Wire(server.port))
        slow.send(SLOW.replace(b"Host", b"X-Forwarded-For: 10.0.0.1\r\nHost"))

        def status(client: str) -> int:
            with Wire(server.port) as wire:
                wire.send(forwarded(client, "nothing"))
                return answer(wire).status

        until(lambda: status("10.0.0.1") == 429)
        assert status("10.0.0.2") == 200
        slow.socket.close()
        until(lambda: status("10.0.0.1") == 200)


@pytest.mark.parametrize("settings", [{}, {"access.trusted_proxies": "127.0.0.9"}])
def test_a_local_peer_that_is_not_trusted_is_not_counted(settings: dict[str, str]) -> None:
    with small(**{"limits.client_connections": 1}, **settings) as (server, stack):
        wires = [stack.enter_context(Wire(server.port)) for _ in range(4)]
        for wire in wires:
            wire.send(forwarded("10.0.0.1"))
        assert all(running.acquire(timeout=20) for _ in wires)
