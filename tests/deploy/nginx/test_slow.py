"""Slow and broken clients before nginx: the corpus' category ``slow``, its waits shortened, and a thousand at once.

Each is ended within the time that is configured for what it does; others are served meanwhile, and afterwards neither
nginx nor the gateway holds anything of them.
"""

import json
import resource
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.edge import Edge, edge
from tests.deploy.nginx.edging import ADD, FREE, METHODS, ask, calling, logged_lines, result
from tests.raw_http import Wire, request
from tests.serving import eventually

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

HEAD, BODY, IDLE, WRITE = 1.0, 2.0, 3.0, 1.0  # seconds
LATE = 40.0  # seconds that an end may come late on a machine that is busy; nginx's own defaults are 60 and more
PAUSE = 0.1  # seconds in the place of the corpus' 5; what trickles like this is never idle for long
LIMITS = {"head_timeout": HEAD, "body_timeout": BODY, "idle_timeout": IDLE, "write_timeout": WRITE, "linger": 0.5}
SETTINGS = [*FREE, *(f"limits.{name}={value}" for name, value in LIMITS.items()), "server.workers=2"]
GOOD = request("/RPC2", {"Content-Type": "text/xml"}, ADD["text/xml"])
TIMES = {"header_timeout + 2": HEAD, "body_timeout + 2": BODY, "idle_timeout + 2": IDLE, "handshake timeout + 2": HEAD}


def cases() -> dict[str, dict[str, Any]]:
    lines = (Path(__file__).parents[2] / "corpus" / "hostile.jsonl").read_text("utf-8").splitlines()
    return {case["id"]: case for case in map(json.loads, lines) if case["category"] == "slow"}


CASES = cases()


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with edge(tmp_path_factory.mktemp("edge"), METHODS, SETTINGS) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def descriptors() -> Iterator[None]:
    """Let the tests have thousands of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connected(running: Edge) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=10)


def shaken(running: Edge, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(connected(running), server_hostname="localhost")


def client_hello(context: ssl.SSLContext) -> bytes:
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    return sent.read()


def has_ended(connection: socket.socket, wait: float) -> bool:
    """Read for a moment what comes, and tell whether it was the end."""
    connection.settimeout(wait)
    try:
        return not connection.recv(65536)
    except TimeoutError:
        return False
    except OSError:
        return True


def seconds_to_end(connection: socket.socket, trickle: bytes = b"") -> float:
    """Go on sending, if there is anything to send, until the other side ends the connection."""
    start = time.monotonic()
    while time.monotonic() - start < 60:
        try:
            connection.sendall(trickle)
        except OSError:
            break
        if has_ended(connection, PAUSE):
            break
    return time.monotonic() - start


@pytest.mark.parametrize("name", ["h-239", "h-240", "h-241", "h-242"])
def test_what_trickles_is_ended_by_the_time_that_the_whole_has(name: str, proxied: Edge) -> None:
    start, more = CASES[name]["script"]
    with shaken(proxied, proxied.client()) as connection:
        connection.sendall(start["send"].encode())
        seconds = seconds_to_end(connection, more["send"].encode())
        assert seconds < TIMES[CASES[name]["expect"]["within_s"]] + LATE
        assert result(ask(proxied, calling("add", 2, 3))) == 5


def test_a_body_that_trickles_for_too_long_is_told_so(proxied: Edge) -> None:
    with Wire(proxied.port, tls=proxied.client()) as wire:
        wire.send(b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(int((BODY + LATE) / PAUSE)):
            wire.send(b" ")
            wire.socket.settimeout(PAUSE)
            try:
                response = wire.read()
            except TimeoutError:
                continue
            break
        assert response is not None
        assert response.status == 502
        assert b"<int>-32002</int>" in response.body


def test_who_connects_and_says_nothing(proxied: Edge) -> None:
    with connected(proxied) as silent, shaken(proxied, proxied.client()) as polite:
        assert seconds_to_end(silent) < HEAD + LATE
        assert seconds_to_end(polite) < HEAD + LATE


def test_who_is_idle_after_a_good_request(proxied: Edge) -> None:
    with Wire(proxied.port, tls=proxied.client()) as wire:
        wire.send(GOOD)
        assert wire.read() is not None
        assert not has_ended(wire.socket, HEAD), "it has the time of the idle"
        assert seconds_to_end(wire.socket) < IDLE + LATE


def test_a_handshake_that_never_ends(proxied: Edge) -> None:
    with connected(proxied) as connection:
        connection.sendall(client_hello(proxied.client()))
        connection.settimeout(10)
        assert connection.recv(65536)
        assert seconds_to_end(connection) < HEAD + LATE


def test_who_closes_or_resets_leaves_no_trace(proxied: Edge) -> None:
    reset = CASES["h-247"]["script"][0]["send"].encode()
    before = len((proxied.folder / "gateway.log").read_text().splitlines())
    for _ in range(20):
        with shaken(proxied, proxied.client()) as connection:
            connection.sendall(GOOD)
        with shaken(proxied, proxied.client()) as connection:
            connection.sendall(reset)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert result(ask(proxied, calling("add", 2, 3))) == 5
    log = (proxied.folder / "gateway.log").read_text().splitlines()[before:]
    assert not [line for line in log if "ERROR" in line or "Traceback" in line]


@pytest.mark.parametrize("padding", [0, 100, 3000])
def test_who_sends_a_thousand_requests_before_it_reads(padding: int, proxied: Edge) -> None:
    headers = {"X-Padding": "x" * padding}
    data = b"".join(calling("add", number, 0, headers=headers) for number in range(1000))
    with Wire(proxied.port, tls=proxied.client()) as wire:
        wire.send(data)  # all of the answers fit into the buffers of the kernel
        for number in range(1000):
            response = wire.read()
            assert response is not None
            assert result(response) == number


def test_who_never_reads_its_answer(tmp_path: Path) -> None:
    with edge(tmp_path, METHODS, SETTINGS) as running, socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(10)
        raw.connect(("127.0.0.1", running.port))
        with running.client().wrap_socket(raw, server_hostname="localhost") as connection:
            connection.sendall(calling("big", 12_000_000))
            (line,) = logged_lines(running, 1)
            assert line["method"] == "big"
            assert line["seconds"] < WRITE + LATE
            assert 0 < line["sent"] < 12_000_000
        assert result(ask(running, calling("add", 2, 3))) == 5


def processes(running: Edge) -> list[int]:
    """Return all processes of both, parents first."""
    assert running.gateway is not None
    parents = [running.nginx.pid, running.gateway.pid]
    children = [Path(f"/proc/{pid}/task/{pid}/children").read_text().split() for pid in parents]
    return [*parents, *(int(child) for found in children for child in found)]


def descriptors_of(running: Edge) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in processes(running))


def kibibytes_of(running: Edge) -> int:
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in processes(running)]
    return sum(int(text.partition("VmRSS:")[2].split()[0]) for text in texts)


def ready(clients: list[socket.socket]) -> list[tuple[socket.socket, int]]:
    """Wait until something comes for one of them, however long the machine takes for it."""
    poll = select.poll()
    by_descriptor = {client.fileno(): client for client in clients}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    return [(by_descriptor[descriptor], event) for descriptor, event in poll.poll(60_000)]


def test_a_thousand_slow_clients_leave_nothing_behind(proxied: Edge) -> None:
    context = proxied.client()
    hello = client_hello(context)
    body = b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: 1000\r\n\r\nx"

    def begin(data: bytes) -> Callable[[], socket.socket]:
        def connect() -> socket.socket:
            connection = shaken(proxied, context)
            with suppress(OSError):  # this process was so slow that it has been ended already
                connection.sendall(data)
            return connection

        return connect

    def stall() -> socket.socket:
        connection = connected(proxied)
        connection.sendall(hello[:-50])
        return connection

    kinds = [lambda: connected(proxied), stall, begin(body[:30]), begin(body), begin(GOOD)]
    for _ in range(20):
        assert result(ask(proxied, calling("add", 2, 3))) == 5
    eventually(lambda: descriptors_of(proxied) < 150, "descriptors before", IDLE + LATE)
    before, kibibytes = descriptors_of(proxied), kibibytes_of(proxied)
    with ExitStack() as stack:
        clients = [stack.enter_context(kinds[number % len(kinds)]()) for number in range(1000)]
        for number in range(20):
            assert result(ask(proxied, calling("add", number, 3))) == number + 3
        waiting = clients  # those who have one more event before them: bytes, or the end
        while waiting:
            readable = [each for each, _ in ready(waiting)]
            assert readable, f"{len(waiting)} are never ended"
            ended = {client for client in readable if has_ended(client, 0.001)}
            waiting = [client for client in waiting if client not in ended]
    eventually(lambda: descriptors_of(proxied) <= before, f"descriptors: {before} before", IDLE + LATE)
    assert kibibytes_of(proxied) - kibibytes < 64 * 1024


def test_more_idle_connections_than_there_is_room_for(tmp_path: Path) -> None:
    with edge(tmp_path, METHODS, [*FREE, "nginx.clients=1"]) as running, ExitStack() as stack:
        for _ in range(3000):  # a worker of nginx has room for 514
            stack.enter_context(connected(running))
        for number in range(20):
            assert result(ask(running, calling("add", number, 3))) == number + 3
