"""Names that do not resolve, and addresses that do not answer."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.hosts.loops import new_event_loop
from gateway.upstreams.transport.addresses import connect, resolve
from tests.conftest import Logged
from tests.upstreams.kinds import KINDS
from tests.upstreams.running import ROOT, serve_upstream, until

JSON = KINDS[1]
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [new_event_loop, asyncio.new_event_loop]
UNRESOLVED = '[upstreams.up]\nurl = "jsonrpc+tcp://no.such.host.invalid:1"\nmethods = ["add"]\n'
SERVE = """
import socket, sys, threading, time

real = socket.getaddrinfo

def slow(host, *args, **kwargs):
    if host == "no.such.host.invalid" and not kwargs.get("flags"):
        print("asked", flush=True)
        time.sleep(60)
    return real(host, *args, **kwargs)

socket.getaddrinfo = slow
from gateway import Registry, serve
serve(Registry(), "127.0.0.1:0")
"""


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], threading.Event]]:
    """Hold all look-ups of names until the event is set, and fail them then."""
    asked: list[str] = []
    held = threading.Event()
    real = socket.getaddrinfo

    def look_up(host: str, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("flags") or not host.endswith(".invalid"):
            return real(host, *args, **kwargs)
        asked.append(host)
        held.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield asked, held
    held.set()


@pytest.mark.parametrize("make", LOOPS, ids=["uvloop", "asyncio"])
def test_a_lookup_that_nobody_waits_for_any_more_is_not_reported(
    make: Callable[[], asyncio.AbstractEventLoop], lookups: tuple[list[str], threading.Event], logged: Logged
) -> None:
    asked, held = lookups
    reported: list[dict[str, Any]] = []

    async def two_callers_give_up() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await resolve("no.such.host.invalid", 1)
        assert asked == ["no.such.host.invalid"], "they share a look-up"
        held.set()
        with pytest.raises(socket.gaierror):
            await resolve("no.such.host.invalid", 1)

    loop = make()
    loop.run_until_complete(two_callers_give_up())
    loop.close()
    assert reported == []


@pytest.mark.parametrize("make", LOOPS, ids=["uvloop", "asyncio"])
def test_a_silent_address_does_not_hide_the_next_one(make: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, socket.create_server(("127.0.0.1", 0)) as alive:
        filling = [socket.socket() for _ in range(8)]
        for each in filling:  # beyond its backlog the kernel drops what asks for a connection
            each.setblocking(False)
            each.connect_ex(silent.getsockname())
        infos = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", bound.getsockname()) for bound in (silent, alive)]

        async def peer() -> Any:
            async with asyncio.timeout(10):
                with await connect([(int(f), int(k), p, n, a) for f, k, p, n, a in infos]) as connected:
                    return connected.getpeername()

        loop = make()
        assert loop.run_until_complete(peer()) == alive.getsockname()
        loop.close()
        for each in filling:
            each.close()


def test_a_name_that_does_not_resolve_is_unavailable(
    tmp_path: Path, logged: Logged, lookups: tuple[list[str], threading.Event]
) -> None:
    lookups[1].set()
    kind = type("Kind", (), {"url": "jsonrpc+http://no.such.host.invalid:{port}/", "options": ""})
    with serve_upstream(kind, 1, tmp_path, "methods = ['add']") as up:  # type: ignore[arg-type]
        assert up.fault("add", 1, 2) == (-32002, "no")
    assert logged.take("is down: gaierror: ")


@pytest.mark.processes
def test_a_process_does_not_wait_for_a_lookup_when_it_ends(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "gateway.toml").write_text(UNRESOLVED.replace('methods = ["add"]\n', ""))
    with subprocess.Popen(
        [sys.executable, "-c", SERVE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True).start()
        until(lambda: any("ready" in line for line in lines) and "asked\n" in lines)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, "it waits for the look-up"
        assert process.stderr is not None
        assert "never retrieved" not in process.stderr.read()
