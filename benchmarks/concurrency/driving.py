"""One step of the comparison: start a server, see that it answers correctly, load it with users, stop it.

drive(contender, users, pace) -> Step
"""

import json
import os
import random
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

from msgspec import Struct

from benchmarks.concurrency.contenders import Contender
from benchmarks.concurrency.figures import WARM_UP, Figures, figures
from benchmarks.concurrency.processes import Memory, sampled, started

_LOCUST = (sys.executable, "-m", "locust", "-f", "locustfile.py,benchmarks/concurrency/record.py")
PATH = "/RPC2"
_START = 30.0  # seconds that a server has until it answers
_SPARE = 20.0  # seconds that Locust has to start and to write its file


class Pace(Struct, frozen=True, kw_only=True):
    """How long a call takes and how many call times count, and in how many of them a caller loses patience."""

    call_seconds: float
    rounds: int
    patience: float = 3.0

    @property
    def lengths(self) -> int:
        """Return over how many call times the most calls at once are sought."""
        return max(self.rounds, 2)

    @property
    def seconds(self) -> float:
        """Return how long the load lasts."""
        return (WARM_UP + self.rounds) * self.call_seconds


class Step(Struct, frozen=True, kw_only=True):
    """What became of a server with so many users.

    Attributes:
        ideal: calls per second, if none waits for anything.
        memory: of the server, without the clients.
        survived: whether the server still ran at the end.

    """

    server: str
    users: int
    ideal: float
    figures: Figures
    memory: Memory
    survived: bool


class Served(Struct, frozen=True, kw_only=True):
    """A server that runs: its process, its URL without a path, and the certificate to trust, if it speaks TLS."""

    process: subprocess.Popen[bytes]
    url: str
    certificate: str = ""


class CannotStart(Exception):
    """A server or Locust does not work; the message says what it wrote."""


def drive(contender: Contender, users: int, pace: Pace) -> Step:
    """Load a server that is started for it, and take the figures.

    Raises:
        CannotStart: the server does not answer, or answers wrongly, before there is any load; or Locust breaks down.

    """
    with tempfile.TemporaryDirectory(prefix="concurrency-") as name:
        folder = Path(name)
        with serving(contender, folder) as served, sampled(served.process) as memory:
            calls = _locust(served, contender, users, pace, folder)
            survived = served.process.poll() is None
    return Step(
        server=contender.key,
        users=users,
        ideal=users / pace.call_seconds,
        figures=figures(calls, pace.call_seconds, pace.rounds, pace.lengths),
        memory=memory,
        survived=survived,
    )


@contextmanager
def serving(contender: Contender, folder: Path) -> Iterator[Served]:
    """Run a server that answers correctly.

    Raises:
        CannotStart: it does not answer, or answers wrongly.

    """
    port, log = _free_port(), folder / "server.log"
    command = [part.replace("{port}", str(port)) for part in contender.command]
    with started(command, log, stop=contender.stop) as server:
        served = Served(process=server, url=f"http://127.0.0.1:{port}")
        if contender.announces:
            served = _announced(contender, server, log)
        _wait_until_right(contender, served, log)
        yield served


def _free_port() -> int:
    """Return one that is none of those that the system gives to clients, or one of them might have it by then."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def _announced(contender: Contender, server: subprocess.Popen[bytes], log: Path) -> Served:
    """Wait until the server says where it is."""
    for _ in _polls(server):
        said = re.search(contender.announces, log.read_text("utf-8", "replace"))
        if said:
            return Served(process=server, url=said["url"], certificate=said["certificate"])
    raise CannotStart(f"{contender.name} does not start; it wrote:\n{_end_of(log)}")


def _wait_until_right(contender: Contender, served: Served, log: Path) -> None:
    """Call the method until its answer is right."""
    body = xmlrpc.client.dumps((0,), contender.method).encode()
    request = urllib.request.Request(f"{served.url}{PATH}", body, {"Content-Type": "text/xml"})  # noqa: S310 - ours
    context = ssl.create_default_context(cafile=served.certificate) if served.certificate else None
    problem = ""
    for _ in _polls(served.process):
        try:
            with urllib.request.urlopen(request, timeout=5, context=context) as response:  # noqa: S310
                (answer,), _ = xmlrpc.client.loads(response.read())
        except (urllib.error.URLError, HTTPException, OSError, xmlrpc.client.Error, ValueError) as error:
            problem = f"{contender.method}(0) gives {error}"
            continue
        if answer == "done":
            return
        raise CannotStart(f"{contender.name}: {contender.method}(0) gives {answer!r} instead of 'done'")
    problem = problem if served.process.poll() is None else "it has ended"
    raise CannotStart(f"{contender.name} does not work: {problem}; it wrote:\n{_end_of(log)}")


def _polls(server: subprocess.Popen[bytes]) -> Iterator[None]:
    """Give turns while the server runs and has time to start."""
    deadline = time.monotonic() + _START
    while server.poll() is None and time.monotonic() < deadline:
        yield
        time.sleep(0.05)


def _locust(
    served: Served, contender: Contender, users: int, pace: Pace, folder: Path
) -> list[tuple[float, float, str]]:
    """Let users call, and return every call."""
    record, log = folder / "calls", folder / "locust.log"
    options = {
        "--host": served.url,
        "--tls-verify": served.certificate or "yes",
        "--path": PATH,
        "--protocol": "xmlrpc",
        "--blocking-method": contender.method,
        "--blocking-arguments": json.dumps([pace.call_seconds]),
        "--blocking-expect": '"done"',
        "--call-timeout": str(pace.patience * pace.call_seconds),
        "--users": str(users),
        "--spawn-rate": str(users),
        "--seconds": str(pace.seconds),
        "--record": str(record),
        "--max-failures": "1",
    }
    words = [word for option in options.items() for word in option]
    command = [*_LOCUST, "--headless", "--only-summary", "--loglevel", "WARNING", *words, "BlockingUser"]
    # The host is a number, so there is nothing to resolve; gevent's usual resolver would ask a thread all the same.
    environment = {**os.environ, "GEVENT_RESOLVER": "block"}
    with started(command, log, environment=environment) as locust:
        try:
            locust.wait(pace.seconds + _SPARE)
        except subprocess.TimeoutExpired:
            raise CannotStart(f"Locust does not end; it wrote:\n{_end_of(log)}") from None
    if not record.exists():
        raise CannotStart(f"Locust does not work; it wrote:\n{_end_of(log)}")
    return [(began, took, failure) for began, took, failure in map(json.loads, record.read_text("utf-8").splitlines())]


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-15:])
