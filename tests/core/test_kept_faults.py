"""Faults that are kept hold neither a call's arguments nor its result: nothing here needs the garbage collector."""

import gc
import json
import logging
import re
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import weakref
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import gateway
from gateway import Fault, Registry
from gateway.core.begun import Begun
from gateway.upstreams.begun import BegunCall
from tests.conftest import Logged
from tests.raw_http import post
from tests.serving import Server, children, eventually, serving

pytestmark = pytest.mark.unmeasured

ALWAYS = Fault(7, "always the same")
ALWAYS_CRASHED = RuntimeError("always the same")
GATEWAY = str(Path(gateway.__file__).parent)
ALIVE: weakref.WeakSet["Values"] = weakref.WeakSet()
RUNS = ("thread", "async", "inline")


class Values(list[float]):
    """A result whose life can be followed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


def made() -> Values:
    values = Values([0.5] * 10_000)
    ALIVE.add(values)
    return values


def too_large() -> Any:
    return made()


def too_large_inside() -> Any:
    return {"a": [made()]}


def unencodable() -> Any:
    return [made(), object()]


def faulty() -> Any:
    values = made()
    raise Fault(3, f"{len(values)} values")


def faulty_twice() -> Any:
    values = made()
    try:
        values.remove(2)
    except ValueError as error:
        raise Fault(3, "text") from error


def always() -> Any:
    values = made()
    raise ALWAYS if values else Fault("")


def foreign() -> Any:
    values = made()
    raise xmlrpc.client.Fault(5, f"{len(values)} values")


def crashing() -> Any:
    values = made()
    raise KeyError(len(values))


def crashing_alike() -> Any:
    values = made()
    raise ALWAYS_CRASHED if values else KeyError


METHODS = (
    too_large,
    too_large_inside,
    unencodable,
    faulty,
    faulty_twice,
    always,
    foreign,
    crashing,
    crashing_alike,
)


def waiting(function: Callable[[], Any]) -> Callable[[], Any]:
    async def wait() -> Any:
        return function()

    return wait


def gone() -> int:
    """Count what is still alive of the calls before this one, once they have had the time to end."""
    eventually(lambda: not ALIVE, "the values of an earlier call are still alive", 8)
    return len(ALIVE)


@pytest.fixture(scope="module")
def hanging_up() -> Iterator[int]:
    """Run a server that resets each connection as soon as it is sent something."""

    class Closing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1)
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.request.close()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Closing) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening.server_address[1]
        listening.shutdown()


@pytest.fixture(scope="module")
def server(hanging_up: int) -> Iterator[Server]:
    registry = Registry()
    for function in METHODS:
        registry.register(function, name=f"{function.__name__}.thread")
        registry.register(function, name=f"{function.__name__}.inline", run="inline")
        registry.register(waiting(function), name=f"{function.__name__}.async")
    registry.register(gone)
    upstream = {
        "upstreams.gone.url": "jsonrpc+tcp://127.0.0.1:9",
        "upstreams.gone.methods": '["call"]',
        "upstreams.broken.url": f"jsonrpc+tcp://127.0.0.1:{hanging_up}",
        "upstreams.broken.methods": '["call"]',
    }
    with serving(registry, {"log.level": "error", "limits.max_reply": 4096, **upstream}) as served:
        yield served


def written(record: logging.LogRecord) -> bool:
    """Write a line as a log does, and keep it from pytest, which keeps each record until its test has ended."""
    return not logging.Formatter().format(record)


@pytest.fixture
def uncollected(only_new: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Do without the garbage collector, so that only what nobody holds is freed."""
    monkeypatch.setattr(logging.getLogger("gateway.errors"), "filters", [written])
    gc.disable()
    yield
    gc.enable()
    ALIVE.clear()


def tracebacks() -> list[TracebackType]:
    """Return the tracebacks with functions of the gateway."""
    found = [each for each in gc.get_objects() if type(each) is TracebackType]
    return [each for each in found if each.tb_frame.f_code.co_filename.startswith(GATEWAY)]


def begun() -> list[object]:
    """Return what stands for calls that run, or were sent to an upstream."""
    return [each for each in gc.get_objects() if type(each) in (Begun, BegunCall)]


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("function", METHODS)
def test_no_value_of_a_call_outlives_it(function: Callable[[], Any], run: str, server: Server) -> None:
    name = f"{function.__name__}.{run}"
    call = {"jsonrpc": "2.0", "method": name, "id": 1}
    assert "error" in json.loads(post(server.port, json.dumps(call).encode()).body)
    eventually(lambda: not ALIVE, "the values of a JSON-RPC call are still alive", 8)
    with xmlrpc.client.ServerProxy(server.url) as proxy, pytest.raises(xmlrpc.client.Fault):
        proxy.__getattr__(name)()
    eventually(lambda: not ALIVE, "the values of an XML-RPC call are still alive", 8)
    eventually(lambda: not tracebacks(), "a traceback is still alive", 8)


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("function", METHODS)
def test_no_value_outlives_its_call_of_a_batch(function: Callable[[], Any], server: Server) -> None:
    """The faults themselves are kept until the whole batch is answered."""
    names = [f"{function.__name__}.{run}" for run in RUNS]
    batch = [{"jsonrpc": "2.0", "method": name, "id": name} for name in (*names, "gone")]
    answers = json.loads(post(server.port, json.dumps(batch).encode()).body)
    assert ["error" in answer for answer in answers] == [True, True, True, False]
    assert answers[-1]["result"] == 0
    with xmlrpc.client.ServerProxy(server.url) as proxy:
        calls = [{"methodName": name, "params": []} for name in (*names, "gone")]
        assert proxy.system.multicall(calls)[-1] == [0]  # type: ignore[index]


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"jsonrpc": "2.0", "method": "x", "params": [1e999], "id": 1}', "application/json"),
        (b'{"jsonrpc": "2.0", "method": "gone", "params": {"a": 1}, "id": 1}', "application/json"),
        (b'{"jsonrpc": "2.0", "method": "gone.call", "params": [[1, 2]], "id": 1}', "application/json"),
        (b'{"jsonrpc": "2.0", "method": "broken.call", "params": [[1, 2]], "id": 1}', "application/json"),
        (b"<methodCall><methodName>x</methodName><params><param/></params></methodCall>", "text/xml"),
        (b"<?xml version='1.0' encoding='utf-7'?><methodCall/>", "text/xml"),
    ],
)
def test_no_traceback_outlives_a_refused_call(body: bytes, content_type: str, server: Server, logged: Logged) -> None:
    answered = post(server.port, body, content_type).body
    assert re.search(b"error|faultCode", answered)
    assert (b"-32002" in answered) is (b".call" in body)
    eventually(lambda: not tracebacks(), "a traceback is still alive", 8)
    eventually(lambda: not begun(), "a call that was begun is still alive", 8)
    logged.take("upstream gone")
    logged.take("upstream broken")


PROGRAM = """
from gateway import method

@method
def large():
    return [0.5] * 2_000_000
"""


def test_a_process_gives_back_what_too_large_results_took(tmp_path: Path) -> None:
    """In a process of its own: 20 results of 16 MB, each of which exceeds the limit, and 20 in one batch."""
    (tmp_path / "large.py").write_text(PROGRAM)
    command = [
        sys.executable,
        "-m",
        "gateway",
        "serve",
        "--bind",
        "127.0.0.1:0",
        "large",
        "--set",
        "limits.max_reply=1048576",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        try:
            assert run.stdout is not None
            port = int(run.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])
            (worker,) = children(run.pid)
            before = resident(worker)
            call = {"jsonrpc": "2.0", "method": "large", "id": 1}
            for _ in range(20):
                assert b"-32007" in post(port, json.dumps(call).encode()).body
            post(port, json.dumps([call] * 20).encode())
            assert resident(worker) < before + 80 * 2**20  # the results of the batch have 320 MB
        finally:
            run.terminate()


def resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096
