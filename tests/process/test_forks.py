"""os.fork in a method: the child serves nobody, keeps nothing open, and does not return into the gateway."""

import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.process.fleets import alive, call, fleet, processes, write_handlers
from tests.raw_http import Wire, request
from tests.serving import eventually

pytestmark = pytest.mark.unmeasured

FORKING = """
import asyncio
import os
import sys
import time

from gateway import method


def fork() -> int:
    return os.fork() or os.getpid()


@method
def in_thread() -> int:
    return fork()


@method(run="inline")
def inline() -> int:
    return fork()


@method
async def on_loop() -> int:
    return fork()


@method
async def on_loop_and_wait() -> int:
    child = fork()
    for _ in range(3):
        await asyncio.sleep(0.01)
    return child


@method
def leave() -> int:
    child = os.fork()
    if not child:
        sys.exit(0)
    return child


@method
def live_on() -> int:
    child = os.fork()
    if not child:
        time.sleep(600)
    return child


@method(run="inline")
def live_on_inline() -> int:
    child = os.fork()
    if not child:
        time.sleep(600)
    return child


@method
def compute_in_child() -> int:
    reading, writing = os.pipe()
    if not os.fork():
        os.write(writing, b"42")
        os._exit(0)
    return int(os.read(reading, 10))


@method(run="inline")
def process() -> int:
    return os.getpid()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_handlers(tmp_path, FORKING)
    return tmp_path


@pytest.mark.parametrize("method", ["in_thread", "inline", "on_loop", "on_loop_and_wait", "leave"])
def test_a_child_that_comes_back_is_ended(method: str, project: Path) -> None:
    with fleet(project, workers=1) as running:
        (worker,) = processes(running)
        child = call(running.port, method)
        assert isinstance(child, int)
        assert child != worker
        eventually(lambda: not alive(child), "the child lives on")
        assert f"{method} has forked a process that did not end by itself" in running.log
        assert {call(running.port, "process") for _ in range(20)} == {worker}
        assert running.log.count(f"method={method} ") == 1


def test_a_child_that_ends_by_itself_is_left_alone(project: Path) -> None:
    with fleet(project, workers=1) as running:
        assert call(running.port, "compute_in_child") == 42
        assert "did not end by itself" not in running.log


@pytest.mark.parametrize("method", ["live_on", "live_on_inline"])
def test_a_child_that_lives_on_keeps_no_port_and_no_connection_open(method: str, project: Path) -> None:
    with fleet(project, "server.tcp=127.0.0.1:0", workers=1) as running, Wire(running.port) as idle:
        body = f'{{"jsonrpc":"2.0","method":"{method}","id":1}}'.encode()
        idle.send(request("/api", {"Content-Type": "application/json"}, b'{"jsonrpc":"2.0","method":"process","id":1}'))
        assert idle.read() is not None
        with Wire(running.port) as wire:
            wire.send(request("/api", {"Content-Type": "application/json", "Connection": "close"}, body))
            answered = wire.read()
            assert answered is not None
            child = int(answered.body.partition(b'"result":')[2].partition(b",")[0])
            try:
                assert wire.read() is None, "the connection is closed"
                assert call(running.port, "process") in processes(running)
                running.signal(signal.SIGTERM)
                assert running.end() == 0
                assert idle.read() is None
                assert alive(child)
                for port in (running.port, running.metrics, running.tcp):
                    with contextlib.suppress(ConnectionRefusedError):
                        socket.create_connection(("127.0.0.1", port), timeout=5).close()
                        pytest.fail("the port is still open")
            finally:
                os.kill(child, signal.SIGKILL)
