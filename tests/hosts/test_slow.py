"""The HTTP host's clocks, its number of connections, and how it retires."""

import asyncio
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from gateway import Registry
from gateway.hosts.http import HTTPHost
from gateway.hosts.listening import Listener, bind
from gateway.model.http import HTTPRequest, HTTPResponse
from gateway.model.limits import Limits
from tests.conftest import Logged
from tests.raw_http import Wire, exchange, request
from tests.serving import Server, serving

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

JSON = {"Content-Type": "application/json"}
ADD = request("/api", JSON, b'{"jsonrpc":"2.0","method":"add","params":[2,3],"id":1}')
BLOCK = request("/api", JSON, b'{"jsonrpc":"2.0","method":"block","id":1}')
LARGE = request("/api", JSON, b'{"jsonrpc":"2.0","method":"large","params":[12000000],"id":1}')
HEAD = b"POST /api HTTP/1.1\r\nHost: a\r\n"
CAPACITY = 20

registry = Registry()
release = threading.Event()
running = threading.Semaphore(0)


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register
def block() -> str:
    running.release()
    release.wait(20)
    return "done"


@registry.register(run="inline")
def large(size: int) -> str:
    return "x" * size


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Serve with limits that tell which of them has struck: the others are far away."""
    limits = {"limits.head_timeout": 1, "limits.body_timeout": 2, "limits.write_timeout": 1, "limits.linger": 1}
    with serving(registry, limits) as started:
        yield started


@pytest.fixture
def small() -> Iterator[Server]:
    while running.acquire(blocking=False):
        pass
    with serving(registry, {"limits.connections": CAPACITY, "server.drain": 0}) as started:
        yield started


def is_open(wire: Wire) -> bool:
    """Tell whether the server has not closed a connection on which nothing is to be read."""
    return not select.select([wire.socket], [], [], 0)[0]


async def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never comes true")


def seconds_until_closed(wire: Wire, piece: bytes) -> float:
    """Send a piece each tenth of a second, until the server ends the connection."""
    began = time.monotonic()
    while is_open(wire):
        assert time.monotonic() - began < 15, "it is never closed"
        wire.send(piece)
        time.sleep(0.1)
    return time.monotonic() - began


# The clocks


@pytest.mark.parametrize("piece", [b"X", b"X-a: b\r\n"])
def test_a_head_that_trickles_is_ended_however_alive_it_is(piece: bytes, server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(HEAD)
        assert seconds_until_closed(wire, piece) > 0.9


@pytest.mark.parametrize(
    ("framing", "piece"), [(b"Content-Length: 1000", b"x"), (b"Transfer-Encoding: chunked", b"1\r\nx\r\n")]
)
def test_a_body_that_trickles_is_ended_however_alive_it_is(framing: bytes, piece: bytes, server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(HEAD + b"Content-Type: text/xml\r\n" + framing + b"\r\n\r\n")
        assert seconds_until_closed(wire, piece) > 1.9


def test_the_time_of_a_head_begins_with_its_first_byte(server: Server) -> None:
    with Wire(server.port) as wire:
        for _ in range(2):  # a kept connection begins again
            time.sleep(1.6)
            assert is_open(wire)
            wire.send(ADD[:20])
            time.sleep(0.2)
            wire.send(ADD[20:])
            response = wire.read()
            assert response is not None
            assert response.status == 200


def test_a_client_that_never_reads_its_answer_is_ended(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(LARGE)
        ended = select.poll()
        ended.register(wire.socket, 0)  # errors and hang-ups only
        began = time.monotonic()
        assert ended.poll(15000), "it is never closed"
        assert time.monotonic() - began > 0.9


def test_a_client_that_pipelines_and_never_reads_is_ended(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.socket.setblocking(False)
        ended = select.poll()
        ended.register(wire.socket, 0)
        calls = request("/api", JSON, b'{"jsonrpc":"2.0","method":"large","params":[20000],"id":1}') * 100
        end = time.monotonic() + 15
        while not ended.poll(20):
            assert time.monotonic() < end, "it is never closed"
            if select.select([], [wire.socket], [], 0)[1]:
                try:
                    wire.socket.send(calls)
                except (ConnectionError, BlockingIOError):
                    continue


def test_a_client_that_reads_slowly_but_surely_gets_its_whole_answer(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(LARGE)
        began, got = time.monotonic(), 0
        while got < 12_000_000:
            time.sleep(0.1)
            piece = wire.socket.recv(2**18, socket.MSG_WAITALL if got < 11_000_000 else 0)
            assert piece, f"closed after {got} bytes"
            got += len(piece)
        assert time.monotonic() - began > 3  # three times what a client has that takes nothing


def test_a_call_that_runs_has_no_clock_of_its_connection(server: Server) -> None:
    release.clear()
    with Wire(server.port) as wire:
        wire.send(BLOCK)
        time.sleep(3.2)
        release.set()
        response = wire.read()
    assert response is not None
    assert b'"done"' in response.body


@pytest.mark.parametrize("options", ["close", "keep-alive"])
def test_a_refused_upload_hears_why_whatever_becomes_of_the_connection(options: str, server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/api", {**JSON, "Connection": options}, b" " * (40 * 2**20)))
        response = wire.read()
        assert response is not None
        assert response.status == 413
        assert response.headers["connection"] == "close"
        assert wire.is_closed()


# The number of connections


def test_at_one_more_the_one_that_was_idle_for_longest_is_closed(small: Server) -> None:
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(small.port)) for _ in range(CAPACITY)]
        wires[0].send(ADD)
        assert wires[0].read() is not None  # so it is the one that has been idle for the shortest time
        newest = stack.enter_context(Wire(small.port))
        assert wires[1].is_closed()
        newest.send(ADD)
        assert newest.read() is not None
        assert [is_open(wire) for wire in (wires[0], *wires[2:])] == [True] * (CAPACITY - 1)


def test_who_has_begun_a_head_stays_as_long_as_somebody_is_idle(small: Server) -> None:
    with ExitStack() as stack:
        begun = stack.enter_context(Wire(small.port))
        begun.send(ADD[:20])
        wires = [stack.enter_context(Wire(small.port)) for _ in range(CAPACITY)]
        assert wires[0].is_closed()
        begun.send(ADD[20:])
        assert begun.read() is not None


def test_half_a_head_keeps_nobody_out(small: Server) -> None:
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(small.port)) for _ in range(CAPACITY)]
        for wire in wires:
            wire.send(HEAD)
        time.sleep(1.2)  # so it is known of all that they are not idle
        assert exchange(small.port, ADD).status == 200
        assert [is_open(wire) for wire in wires] == [False] + [True] * (CAPACITY - 1)


def test_calls_that_run_are_never_closed_and_who_comes_then_waits(small: Server) -> None:
    release.clear()
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(small.port)) for _ in range(CAPACITY)]
        for wire in wires:
            wire.send(BLOCK)
        assert all(running.acquire(timeout=10) for _ in wires)
        waiting = stack.enter_context(Wire(small.port))
        waiting.send(ADD)
        time.sleep(1)
        assert is_open(waiting)
        release.set()
        response = waiting.read()
        assert response is not None
        assert b'"result":5' in response.body
        for wire in wires:
            response = wire.read()
            assert response is not None
            assert b'"done"' in response.body


def test_a_client_that_leaves_makes_room(small: Server) -> None:
    release.clear()
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(small.port)) for _ in range(CAPACITY)]
        for wire in wires:
            wire.send(BLOCK)
        assert all(running.acquire(timeout=10) for _ in wires)
        with Wire(small.port) as waiting:
            waiting.send(ADD)
            time.sleep(0.5)
            wires[0].socket.close()
            assert waiting.read() is not None
        release.set()


# Accepting


def test_a_burst_is_accepted_in_small_portions_so_that_workers_share_it() -> None:
    async def accept_all() -> list[int]:
        sockets = bind("127.0.0.1", 0, 64)
        clients = [socket.create_connection(sockets[0].getsockname()) for _ in range(40)]
        turns, taken = [], list[socket.socket]()
        listener = Listener(sockets, lambda: True, lambda accepted, _: taken.append(accepted))
        while len(taken) < 40:
            before = len(taken)
            await asyncio.sleep(0)
            turns.append(len(taken) - before)
        listener.close()
        for each in (*clients, *taken):
            each.close()
        return turns

    turns = asyncio.run(accept_all())
    assert sum(turns) == 40
    assert max(turns) <= 16


def test_without_descriptors_nothing_is_accepted_until_there_are_some_again(logged: Logged) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def run_out() -> bytes:
        host = HTTPHost(lambda _: HTTPResponse(body=b"seen"), Limits())
        sockets = bind("127.0.0.1", 0, 64)
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        writer.write(request("/api", {"Connection": "close"}, b""))
        host.serve(sockets)
        lowest = os.dup(0)  # the next one that is free; those above it may be taken
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            await eventually(lambda: bool(logged.lines))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        answer = await reader.read()
        writer.close()
        host.retire()
        await host.close()
        return answer

    assert asyncio.run(run_out()).endswith(b"seen")
    assert logged.take("no connection can be accepted for the moment: too many open files")


# Retiring


def test_a_host_that_retires_closes_each_connection_with_its_next_answer() -> None:
    async def retire() -> tuple[bytes, bytes]:
        host, (address, port) = await started()
        reader, writer = await asyncio.open_connection(address, port)
        writer.write(request("/api", {}, b""))
        before = await reader.readuntil(b"seen")
        host.retire()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(address, port)
        writer.write(request("/api", {}, b""))
        after = await reader.read()
        writer.close()
        await eventually(lambda: not host.connected())
        await host.close()
        return before, after

    before, after = asyncio.run(retire())
    assert b"Connection:" not in before
    assert b"Connection: close\r\n" in after
    assert after.endswith(b"seen")


async def started(
    admit: Callable[[HTTPRequest], HTTPResponse] = lambda _: HTTPResponse(body=b"seen"),
) -> tuple[HTTPHost, tuple[str, int]]:
    host = HTTPHost(admit, Limits())
    sockets = bind("127.0.0.1", 0, 64)
    name: tuple[str, int] = sockets[0].getsockname()
    host.serve(sockets)
    return host, name


def test_who_waits_to_be_accepted_when_it_retires_is_answered() -> None:
    async def retire() -> list[bytes]:
        host, name = await started()
        waiting = [socket.create_connection(name) for _ in range(30)]
        for each in waiting:
            each.sendall(request("/api", {}, b""))
        host.retire()  # the loop has had no turn to accept them
        await host.drain(10)
        streams = [await asyncio.open_connection(sock=each) for each in waiting]
        answers = [await reader.read() for reader, _ in streams]
        for _, writer in streams:
            writer.close()
        await host.close()
        return answers

    assert [answer[-4:] for answer in asyncio.run(retire())] == [b"seen"] * 30


def test_an_answer_that_is_being_taken_is_waited_for_at_the_end() -> None:
    with serving(registry, {"server.drain": 60}) as stopped:  # serving waits for its end, but not for so long
        wire = Wire(stopped.port)
        wire.send(LARGE)
        assert wire.socket.recv(1, socket.MSG_PEEK)
        got: list[int] = []

        def read_late() -> None:
            time.sleep(0.5)
            response = wire.read()
            got.append(0 if response is None else len(response.body))

        reader = threading.Thread(target=read_late)
        reader.start()
    reader.join()
    wire.socket.close()
    assert got
    assert got[0] > 12_000_000


def test_idle_clients_and_half_heads_do_not_keep_it_from_ending() -> None:
    with serving(registry, {"server.drain": 60}) as stopped:  # serving waits for its end, but not for so long
        idle, begun = Wire(stopped.port), Wire(stopped.port)
        begun.send(HEAD)
        assert exchange(stopped.port, ADD).status == 200
    assert idle.is_closed()
    assert begun.is_closed()
    idle.socket.close()
    begun.socket.close()
