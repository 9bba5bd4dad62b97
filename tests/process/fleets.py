"""Gateways of several processes: workers under their supervisor, and callers that never pause."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct

from tests.raw_http import post
from tests.serving import children, eventually

SERVE = (sys.executable, "-m", "gateway", "serve")


HANDLERS = """
import asyncio
import gc
import os
import time
from pathlib import Path

from gateway import method

VERSION = {version}


@method(run="inline")
def version() -> int:
    return VERSION


@method(run="inline")
def process() -> int:
    return os.getpid()


@method(run="inline")
def frozen() -> int:
    return gc.get_freeze_count()


@method(run="inline")
def crash() -> None:
    os.kill(os.getpid(), 11)


@method(run="inline")
def spin(file: str) -> None:
    Path(file).touch()
    while True:
        pass


@method
def block(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@method(timeout=60)
def wait_for(file: str) -> str:
    Path(file + ".started").touch()
    while not Path(file).exists():
        time.sleep(0.01)
    return "done"
"""


SLOW = (
    HANDLERS
    + """

import pathlib

while pathlib.Path("slow").exists():
    time.sleep(0.01)
"""
)


WITHOUT_PROCESSES = """
import errno
import os
import sys
from pathlib import Path

from gateway.cli import main

fork = os.fork


def scarce() -> int:
    if Path("scarce").exists():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()


os.fork = scarce
sys.argv[0] = "gateway"
main()
"""


class Fleet(Struct, kw_only=True):
    """A running gateway: its parent process, its ports (0 for one that is not open), and its log so far."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int
    metrics: int
    tcp: int

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        return self.process.wait(30)


def write_handlers(folder: Path, text: str | None = None, version: int = 1) -> None:
    """Put a module into the folder; an older file's bytecode would do for a file of the same second and size."""
    file = folder / "handlers" / "some.py"
    file.parent.mkdir(exist_ok=True)
    (file.parent / "__init__.py").touch()
    file.write_text(text or HANDLERS.replace("{version}", str(version)))
    moment = time.time() + version * 10
    os.utime(file, (moment, moment))


@contextmanager
def fleet(
    folder: Path, *settings: str, workers: int | None = 2, bind: str = "127.0.0.1:0", **variables: str
) -> Iterator[Fleet]:
    (folder / "conf").mkdir(exist_ok=True)
    chosen = [f"server.bind={bind}"] if bind else []
    chosen += [f"server.workers={workers}"] if workers else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*SERVE, *(word for setting in (*chosen, *settings) for word in ("--set", setting))],
            cwd=folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables},
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    try:
        said = b"".join(process.stdout.readline() for _ in range(5)).decode()
        match = re.match(
            r"gateway: ready at https?://127\.0\.0\.1:(\d+)/.*http://127\.0\.0\.1:(\d+)/metrics", said, re.DOTALL
        )
        assert match is not None, (said, (folder / "log").read_text())
        tcp = re.search(r" and tcp://127\.0\.0\.1:(\d+)", said)
        yield Fleet(
            process=process,
            folder=folder,
            port=int(match[1]),
            metrics=int(match[2]),
            tcp=int(tcp[1]) if tcp is not None else 0,
        )
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def call(port: int, method: str, *params: object) -> object:
    """Call a method on a connection of its own."""
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
    return msgspec.json.decode(post(port, body).body)["result"]


def json_call(method: str, *params: object) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})


def processes(fleet: Fleet) -> set[int]:
    """Return the workers' process ids."""
    return children(fleet.process.pid)


def alive(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def fail_to_start(running: Fleet, project: Path) -> None:
    """Have the only worker end, and those after it fail, until the pause is long enough to do something in it."""
    (victim,) = processes(running)
    write_handlers(project, "1 / 0", version=2)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: "another one starts in 3.2 s" in running.log, "it is not tried again")


class Callers:
    """Callers that never pause, half of them on connections that they keep."""

    body = '{"jsonrpc":"2.0","method":"version","id":1}'

    def __init__(self, port: int, number: int = 4) -> None:
        self.answers: list[object] = []
        self.failures: list[str] = []
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(kept % 2 == 0,)) for kept in range(number)]

    def _call(self, keeps: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._over.is_set():
            try:
                connection.request("POST", "/api", self.body, {"Content-Type": "application/json"})
                self.answers.append(msgspec.json.decode(connection.getresponse().read())["result"])
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
                self.failures.append(repr(error))
                connection.close()
            if not keeps:
                connection.close()
        connection.close()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
