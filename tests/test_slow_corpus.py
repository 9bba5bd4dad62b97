"""The corpus' category ``slow``: clients that trickle, stall, leave, or never read, against a gateway in a process.

Each case is a script. A delay of the corpus is a fortieth here and the limits are some seconds, so that they relate
as they do in a deployment. What is held of a thousand such clients at once, in the clear and over TLS: others are
served meanwhile, all connections end in time, and neither a descriptor nor memory is left behind.
"""

import asyncio
import functools
import json
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from msgspec import Struct

from tests.certificates import Authority
from tests.raw_http import Wire, request
from tests.serving import children

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

CORPUS = Path(__file__).parent / "corpus"
METHODS = """
from gateway import method


@method(run="inline")
def get_data() -> list:
    return ["hello", 5]


@method(run="inline")
def large(size: int) -> str:
    return "x" * size
"""
LIMITS = {"idle_timeout": 6, "head_timeout": 4, "body_timeout": 4, "write_timeout": 4}
SHORTEST = min(LIMITS.values())
LONGEST = max(LIMITS.values())
MARGIN = 30  # seconds, for a machine that is busy with a thousand clients on both ends, over TLS, and with other work
CLIENTS = 1000
PROBES = 0.1  # seconds between the calls of a client that does nothing wrong
MEMORY = 32 * 2**20  # bytes; what an allocator may keep of what a thousand clients took
CALL = request("/RPC2", {"Content-Type": "text/xml"}, b"<methodCall><methodName>get_data</methodName></methodCall>")
ANSWER = b"<value><int>5</int></value>"


def _cases() -> dict[str, dict[str, Any]]:
    cases = map(json.loads, (CORPUS / "hostile.jsonl").read_text("utf-8").splitlines())
    return {case["id"]: case for case in cases if case.get("category") == "slow"}


def _calls() -> dict[str, bytes]:
    cases = map(json.loads, (CORPUS / "xmlrpc_valid.jsonl").read_text("utf-8").splitlines())
    return {
        case["id"]: request(case["request"]["path"], case["request"]["headers"], case["request"]["body"].encode())
        for case in cases
        if case["id"] == "xv-003"
    }


CASES = _cases()
CALLS = _calls()
CROWDS = {"h-249"}  # a case of ten thousand clients at once
BUSY = {"h-250"}  # one that makes work, a thousand calls; a thousand of those would measure the machine
STEPS = {"send", "repeat", "delay", "close", "reset", "tls", "send_case", "send_many", "read"}


_openings = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]()


class Process(Struct, frozen=True):
    """A gateway that runs: what is told of it from outside."""

    process: subprocess.Popen[str]
    port: int
    log: Path
    tls: ssl.SSLContext | None = None

    @property
    def worker(self) -> Path:
        """What the system tells of the one worker."""
        (worker,) = children(self.process.pid)
        return Path(f"/proc/{worker}")

    def descriptors(self) -> int:
        return len(list((self.worker / "fd").iterdir()))

    def memory(self) -> int:
        """Return the bytes that it has in memory."""
        pages = (self.worker / "statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    def threads(self) -> int:
        return len(list((self.worker / "task").iterdir()))


@contextmanager
def serving(
    folder: Path, settings: dict[str, Any], tls: ssl.SSLContext | None = None, limit: int = 0
) -> Iterator[Process]:
    """Run ``gateway serve``, with at most so many descriptors, and hold that its log has nothing to complain of."""
    (folder / "slow_methods.py").write_text(METHODS)
    log = folder / "log"
    chosen = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    serve = [sys.executable, "-m", "gateway", "serve", "--bind", "127.0.0.1:0", *chosen, "slow_methods"]
    limited = ["/bin/sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh", *serve] if limit else serve
    with log.open("w") as errors:
        process = subprocess.Popen(limited, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        match = re.search(r":(\d+)/", process.stdout.readline())
        assert match is not None, log.read_text()
        started = Process(process, int(match[1]), log, tls)
        call_once(started)  # the worker has all its descriptors then
        yield started
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
    assert not re.search(r"Traceback|WARNING|ERROR|CRITICAL|never retrieved", log.read_text()), log.read_text()[-5000:]


@pytest.fixture(scope="module", params=["plain", "tls"])
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("slow")
    settings: dict[str, Any] = {f"limits.{name}": value for name, value in LIMITS.items()} | {"log.level": "warning"}
    client = None
    if request.param == "tls":
        authority = Authority(folder)
        certificate, key = authority.issue()
        settings |= {"tls.certificate": certificate, "tls.key": key}
        client = authority.client()
    with serving(folder, settings, client) as started:
        yield started


@pytest.fixture
def many() -> Iterator[int]:
    """Let this process open as many files as it may, and tell how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# The scripts


class Outcome(Struct, frozen=True):
    """What has become of a client: the seconds until its connection ended, and what it has read."""

    seconds: float
    received: bytes


async def play(case: dict[str, Any], gateway: Process) -> Outcome:
    """Play a script to its end, which is the end of the connection."""
    script = case["script"]
    handshake = gateway.tls if not any("tls" in step for step in script) else None
    began = time.monotonic()
    received = bytearray()
    async with _opening():
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", gateway.port, ssl=handshake, server_hostname="localhost" if handshake else None
        )
    reading = [asyncio.ensure_future(_read_all(reader, received))]
    if any(step.get("read") is False for step in script):
        reading.pop().cancel()
    try:
        with suppress(ConnectionError):  # it has been ended, and when is what counts
            for step in script:
                await _take(step, writer, reading)
            if not reading:
                reading.append(asyncio.ensure_future(_read_all(reader, received)))
            await reading[0]
    finally:
        for task in reading:
            task.cancel()
        writer.transport.abort()
    return Outcome(time.monotonic() - began, bytes(received))


def _opening() -> asyncio.Semaphore:
    """Return what this loop's clients have to hold while they shake hands: all at once, they would be slow indeed."""
    return _openings.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(10))


async def _take(step: dict[str, Any], writer: asyncio.StreamWriter, reading: list[asyncio.Task[None]]) -> None:
    assert set(step) <= STEPS, f"an unknown step: {step}"
    for data in _bytes_of(step):
        writer.write(data)
        await writer.drain()
        if "delay" in step:
            await _pause(step["delay"], reading)
        if writer.transport.is_closing() or any(task.done() for task in reading):
            return
    if "delay" in step and "send" not in step:
        await _pause(step["delay"], reading)
    if "close" in step or "reset" in step:
        connection = writer.get_extra_info("socket")
        if "reset" in step:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def _pause(seconds: float, reading: list[asyncio.Task[None]]) -> None:
    """Wait for a fortieth of the time that is written, or until the connection ends."""
    await asyncio.wait(reading, timeout=seconds / 40)


def _bytes_of(step: dict[str, Any]) -> Iterator[bytes]:
    if "send" in step:
        for _ in range(step.get("repeat", 1)):
            yield step["send"].encode()
    elif "send_case" in step:
        yield CALLS[step["send_case"]]
    elif "send_many" in step:
        yield CALLS[step["send_many"]["case"]] * step["send_many"]["count"]
    elif "tls" in step:
        assert step["tls"] == "ClientHello only"
        yield _client_hello()


@functools.cache
def _client_hello() -> bytes:
    sent = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    return sent.read()


async def _read_all(reader: asyncio.StreamReader, received: bytearray) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            received += data


def check(case: dict[str, Any], outcome: Outcome) -> None:
    """Hold what a client has seen against what its case expects: answers to its calls, and then the end."""
    answers = sum(step.get("send_many", {}).get("count", "send_case" in step) for step in case["script"])
    if any("close" in step for step in case["script"]):
        answers = 0
    assert outcome.received.count(b"HTTP/1.1 200 OK\r\n") == answers
    assert outcome.received.count(ANSWER) == answers
    others = set(re.findall(rb"HTTP/1.1 (\d+)", outcome.received)) - {b"200"}
    assert others <= {str(status).encode() for status in case["expect"].get("also_http", [])}


@pytest.fixture(scope="module")
def outcomes(gateway: Process) -> dict[str, Outcome]:
    """Play all cases, at the same time."""

    async def play_all() -> dict[str, Outcome]:
        names = [name for name in CASES if name not in CROWDS]
        playing = [asyncio.ensure_future(play(CASES[name], gateway)) for name in names]
        await all_ended(playing)
        return dict(zip(names, (task.result() for task in playing), strict=True))

    return asyncio.run(play_all())


@pytest.mark.parametrize("name", [name for name in CASES if name not in CROWDS])
def test_a_slow_client_is_ended_and_not_too_soon(name: str, outcomes: dict[str, Outcome], gateway: Process) -> None:
    case, outcome = CASES[name], outcomes[name]
    check(case, outcome)
    if "within_s" in case["expect"] and not (name == "h-248" and gateway.tls is None):  # what is no HTTP ends soon
        assert outcome.seconds > 0.9 * SHORTEST


# A thousand of them


def test_a_thousand_slow_clients_leave_nothing_behind_and_others_are_served(gateway: Process, many: int) -> None:
    assert many > CLIENTS + 500
    descriptors, threads = gateway.descriptors(), gateway.threads()
    slow = [case for name, case in CASES.items() if name not in CROWDS | BUSY]
    crowd = [slow[number % len(slow)] for number in range(CLIENTS)] + [CASES[name] for name in BUSY] * 10
    memory = []
    for _ in range(2):
        outcomes, calls = asyncio.run(at_once([play(case, gateway) for case in crowd], gateway))
        for case, outcome in zip(crowd, outcomes, strict=True):
            check(case, outcome)
        assert calls > 5
        until(lambda: gateway.descriptors() <= descriptors, "its descriptors are back")
        memory.append(gateway.memory())
    assert gateway.threads() <= threads
    assert memory[1] - memory[0] < MEMORY


async def all_ended(clients: list[asyncio.Task[Outcome]]) -> None:
    """Wait for the ends of all, as long as one ends after the other: how long that takes is the machine's matter."""
    left, since = len(clients), time.monotonic()
    while left:
        await asyncio.sleep(PROBES)
        waiting = sum(not client.done() for client in clients)
        if waiting < left:
            left, since = waiting, time.monotonic()
        assert time.monotonic() - since < LONGEST + MARGIN, f"{left} are never ended"


async def at_once(playing: list[Coroutine[Any, Any, Outcome]], gateway: Process) -> tuple[list[Outcome], int]:
    """Play all scripts, and call like a normal client meanwhile: what became of them, and how many of its calls."""
    clients = [asyncio.ensure_future(script) for script in playing]
    ending = asyncio.ensure_future(all_ended(clients))
    calls = 0
    while not ending.done():
        await asyncio.to_thread(call_once, gateway)
        calls += 1
        await asyncio.wait([ending], timeout=PROBES)
    await ending
    return [client.result() for client in clients], calls


def call_once(gateway: Process) -> None:
    """Call on a connection of its own."""
    with Wire(gateway.port, timeout=MARGIN, tls=gateway.tls) as wire:
        wire.send(CALL)
        response = wire.read()
        assert response is not None
        assert ANSWER in response.body


def until(condition: Callable[[], bool], what: str, seconds: float = MARGIN) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


# Ten thousand that say nothing


def test_ten_thousand_idle_connections_are_ended_in_time(many: int, tmp_path: Path) -> None:
    with serving(tmp_path, {"limits.idle_timeout": 25, "log.level": "warning"}) as gateway:
        before, memory = gateway.descriptors(), gateway.memory()
        with connect_idle(gateway, many) as idle:
            until(lambda: gateway.descriptors() > len(idle), "they are accepted", 3 * MARGIN)
            assert gateway.memory() - memory < 20_000 * len(idle)
            call_once(gateway)
            until(lambda: gateway.descriptors() <= before, "they are closed", 25 + 3 * MARGIN)


def test_of_more_idle_connections_than_there_is_room_for_the_oldest_go(many: int, tmp_path: Path) -> None:
    with serving(tmp_path, {"limits.connections": 500, "log.level": "warning"}) as gateway:
        before = gateway.descriptors()
        with Wire(gateway.port) as normal, connect_idle(gateway, many):
            for _ in range(20):
                call_once(gateway)
            assert before + 490 < gateway.descriptors() <= before + 500
            assert normal.is_closed()
        until(lambda: gateway.descriptors() <= before, "its descriptors are back")


@contextmanager
def connect_idle(gateway: Process, many: int) -> Iterator[list[socket.socket]]:
    """Open as many connections as the corpus says, or as this process can."""
    count = min(CASES["h-249"]["script"][0]["connections"], many * 3 // 4)
    with ExitStack() as opened:
        address = ("127.0.0.1", gateway.port)
        yield [opened.enter_context(socket.create_connection(address)) for _ in range(count)]


def test_with_few_descriptors_there_are_fewer_connections_and_accepting_never_fails(tmp_path: Path) -> None:
    with serving(tmp_path, {"log.level": "warning"}, limit=128) as gateway:
        idle = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(500)]
        for _ in range(20):
            call_once(gateway)
        assert 80 <= gateway.descriptors() < 128
        for each in idle:
            each.close()


# What nobody reads


@pytest.mark.parametrize("size", [20_000, 2_000_000])
def test_answers_that_nobody_reads_are_not_piled_up(size: int, gateway: Process) -> None:
    body = b'{"jsonrpc":"2.0","method":"large","params":[%d],"id":1}' % size
    calls = request("/api", {"Content-Type": "application/json"}, body) * (200_000_000 // size)
    before, descriptors, most = gateway.memory(), gateway.descriptors(), 0
    wires = [Wire(gateway.port, tls=gateway.tls) for _ in range(5)]
    for wire in wires:
        wire.socket.setblocking(False)
    end = time.monotonic() + LONGEST + MARGIN
    while gateway.descriptors() > descriptors:
        assert time.monotonic() < end, "they are not ended"
        for wire in wires:
            with suppress(OSError):  # it is full, or ended
                wire.socket.send(calls)
        most = max(most, gateway.memory() - before)
        time.sleep(0.02)
    for wire in wires:
        wire.socket.close()
    assert most < len(wires) * (3 * size + 2**20) + MEMORY  # all answers of one of them have 200 MB
