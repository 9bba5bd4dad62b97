"""A worker that hangs is killed and replaced, and the log says where it hung."""

import os
import signal
from pathlib import Path

import pytest

from tests.process.fleets import Fleet, call, fleet, processes, write_handlers
from tests.raw_http import Wire, request
from tests.serving import eventually

pytestmark = pytest.mark.unmeasured

HANGING = """
import os
import re
import signal
import time

from gateway import method

signal.signal(signal.SIGALRM, signal.SIG_IGN)


@method(run="inline")
def spin() -> None:
    while True:
        pass


@method
async def sleep_on_the_loop() -> None:
    time.sleep(600)


@method
def hold_the_interpreter() -> None:
    re.match("(a+)+$", "a" * 60 + "b")


@method(run="inline")
def process() -> int:
    return os.getpid()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_handlers(tmp_path, HANGING)
    return tmp_path


def is_replaced(running: Fleet, before: set[int]) -> bool:
    return len(processes(running)) == 2 and len(processes(running) & before) == 1


@pytest.mark.parametrize("method", ["spin", "sleep_on_the_loop", "hold_the_interpreter"])
def test_a_method_that_holds_the_loop_is_shown_and_ended(method: str, project: Path) -> None:
    with fleet(project, "server.watchdog=0.8", workers=2) as running, Wire(running.port) as wire:
        before = processes(running)
        body = f'{{"jsonrpc":"2.0","method":"{method}","id":1}}'.encode()
        wire.send(request("/api", {"Content-Type": "application/json"}, body))
        eventually(lambda: is_replaced(running, before), "it is not replaced")
        assert wire.read() is None
        log = running.log
        assert "has not run its event loop for 0.8 s, and was killed\n" in log
        assert f" in {method}\n" in log
        assert f"was killed by signal 9 while it ran {method}; another one starts in 0 s\n" in log
        assert {call(running.port, "process") for _ in range(20)} <= processes(running)


def test_a_stopped_worker_is_replaced_and_said_to_be_stopped(project: Path) -> None:
    with fleet(project, "server.watchdog=0.8", workers=2) as running:
        before = processes(running)
        os.kill(next(iter(before)), signal.SIGSTOP)
        eventually(lambda: is_replaced(running, before), "it is not replaced")
        assert "has not run its event loop for 0.8 s (it is stopped), and was killed\n" in running.log


def test_a_reload_switches_the_watchdog_on(project: Path) -> None:
    (project / "conf").mkdir()
    with fleet(project, workers=2) as running:
        (project / "conf" / "gateway.toml").write_text("[server]\nwatchdog = 0.8\n")
        running.signal(signal.SIGHUP)
        eventually(lambda: "reloaded" in running.log and len(processes(running)) == 2, "it does not reload")
        before = processes(running)
        os.kill(next(iter(before)), signal.SIGSTOP)
        eventually(lambda: is_replaced(running, before), "it is not replaced")


@pytest.mark.parametrize("method", ["spin", "sleep_on_the_loop"])
def test_a_worker_that_hangs_does_not_outlive_its_supervisor(method: str, project: Path) -> None:
    with fleet(project, "server.drain=0", "server.grace=0", workers=2) as running, Wire(running.port) as wire:
        workers = processes(running)
        body = f'{{"jsonrpc":"2.0","method":"{method}","id":1}}'.encode()
        wire.send(request("/api", {"Content-Type": "application/json"}, body))
        running.process.kill()
        running.process.wait()
        eventually(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), "one is still there")
