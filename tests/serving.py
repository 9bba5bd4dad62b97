"""A gateway in this process, on a real socket, with an event loop in a thread of its own."""

import asyncio
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvloop
from msgspec import Struct

from gateway import app
from gateway.config import load
from gateway.methods import Registry
from gateway.process import server, sockets, tls
from gateway.process.control import STOP
from gateway.telemetry.metrics import Metrics


class Server(Struct, frozen=True, kw_only=True):
    """A gateway that runs: its URL, and what a test may want to look at inside."""

    url: str
    port: int
    metrics: int  # the port of /metrics; 0 without one
    tcp_port: int  # likewise
    console: int  # likewise
    gateway: app.Gateway
    loop: asyncio.AbstractEventLoop

    def at(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


def eventually(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Wait until something is true, or fail and say what is not."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


_GIVEN: set[int] = set()
_DRAWN = random.SystemRandom()  # what tests do to the other generator makes two processes draw the same


def free_port() -> int:
    """Return a port where nobody listens, for a server that is to be started, and started again, later.

    It is none of those that the system gives to clients, or one of them might have it by then; and none twice.
    """
    while True:
        port = _DRAWN.randrange(20_000, 32_000)
        with socket.socket() as bound, suppress(OSError):
            bound.bind(("127.0.0.1", port))
            if port not in _GIVEN:
                _GIVEN.add(port)
                return port


def children(process: int) -> set[int]:
    """Return the ids of a process' children: of ``gateway serve`` they are the workers."""
    return set(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


@contextmanager
def serving(
    registry: Registry, settings: Mapping[str, Any] | None = None, file: Path | None = None
) -> Iterator[Server]:
    """Serve a registry on a free port; settings are options of gateway.toml by their full names, beside a file."""
    chosen = [f"{name}={value}" for name, value in (settings or {}).items()]
    config = load(file, {}, ["server.bind=127.0.0.1:0", *chosen])
    gateway = app.build(config, registry, make_metrics=Metrics)
    listeners = sockets.listen(config, tls.load(config.tls))
    urls = sockets.urls_of(config, listeners)
    loop = uvloop.new_event_loop()
    ending: asyncio.Future[bytes] = loop.create_future()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(server.run(gateway, listeners, ending)), daemon=True
    )
    thread.start()
    try:
        yield Server(
            url=urls.calls,
            port=_port(urls.calls),
            metrics=_port(urls.metrics),
            tcp_port=_port(urls.tcp),
            console=_port(urls.console),
            gateway=gateway,
            loop=loop,
        )
    finally:
        loop.call_soon_threadsafe(ending.set_result, STOP)
        thread.join(15)
        assert not thread.is_alive(), "the gateway does not stop"
        loop.close()


def _port(url: str | None) -> int:
    return int(url.rpartition(":")[2].partition("/")[0]) if url else 0


@contextmanager
def activated(
    addresses: Sequence[str], command: Sequence[str], log: Path, folder: Path, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Have systemd's own program open addresses, and start a command in its place with the first connection."""
    program = shutil.which("systemd-socket-activate")
    assert program is not None, "systemd-socket-activate is needed: install the package systemd"
    listen = [f"--listen={address}" for address in addresses]
    given = [f"--setenv={name}={value}" for name, value in {**os.environ, **variables}.items()]
    with (
        log.open("wb") as errors,
        subprocess.Popen([program, *listen, *given, *command], cwd=folder, stdout=errors, stderr=errors) as process,
    ):
        try:
            eventually(lambda: log.read_text().count("Listening on ") == len(addresses), "it listens")
            yield process
        finally:
            process.terminate()
            process.wait(30)
