"""One measurement: wrk makes calls of one kind at a server, while processor time is taken.

    driven(running, case, path, seconds) -> Round

An answer is looked at before there is any load. Under load each must be as long as that one, so that a server that
answers with faults is not taken for a fast one.
"""

import json
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any

from msgspec import Struct

from benchmarks.machine import busy, spent
from benchmarks.running import Running
from benchmarks.speed.cases import Case, asked, request, result

_SCRIPT = Path(__file__).with_name("load.lua")
_PATIENCE = 30.0  # seconds for an answer
_LONGER = 0.02  # by how much the answers of a run may be longer or shorter than the first one
_IDS = 8  # bytes by which they may be in any case: ids of requests count, so they grow


class Round(Struct, frozen=True, kw_only=True):
    """What one run came to.

    Attributes:
        rate: calls per second.
        per_cpu: calls per second of processor time of the server's processes.
        p50: median of the time of a call, in milliseconds.
        p99: what 99 of 100 calls do not exceed, in milliseconds.
        others: the share of the machine's processors that went to neither server nor client, from 0 to 1.

    """

    rate: float
    per_cpu: float
    p50: float
    p99: float
    others: float


class WrongAnswer(Exception):
    """A server does not answer as it must; the message says how."""


class _Recorded:
    """A socket for http.client that gives what has been received."""

    def __init__(self, received: bytes) -> None:
        self._file = BytesIO(received)

    def makefile(self, *_: object) -> BytesIO:
        return self._file


def checked(running: Running, case: Case, path: str) -> int:
    """Make a call, see that the answer is right, and return how many bytes it has, with its head.

    Raises:
        WrongAnswer: it is wrong, or there is none.

    """
    try:
        received = _received(running.port, request(case, path))
        response = HTTPResponse(_Recorded(received))  # type: ignore[arg-type] # makefile is all that it uses
        response.begin()
        found = result(case, response.read())
    except Exception as error:
        raise WrongAnswer(f"{error!r} instead of an answer") from error
    if found != asked(case)[1]:
        raise WrongAnswer(f"a wrong answer, {str(found)[:100]!r}")
    return len(received)


def _received(port: int, sent: bytes) -> bytes:
    """Send a request, and return all bytes of its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as connection:
        connection.sendall(sent)
        received = bytearray()
        while not _whole(received):
            piece = connection.recv(1 << 20)
            if not piece:
                raise ConnectionError("the connection ends within the answer")
            received += piece
    return bytes(received)


def _whole(received: bytearray) -> bool:
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(received[:end]).lower()
    if b"transfer-encoding: chunked" in head:
        return received.endswith(b"\r\n0\r\n\r\n")
    return len(received) >= end + 4 + int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])


def driven(running: Running, case: Case, path: str, length: int, seconds: int) -> Round:
    """Load a server for some seconds; ``length`` is of a right answer.

    Raises:
        WrongAnswer: calls fail, or their answers are not of this length.

    """
    with tempfile.NamedTemporaryFile(prefix="bench-") as file:
        file.write(request(case, path))
        file.flush()
        before, began = (busy(), spent(running.pid), _own()), time.perf_counter()
        said = _wrk(running.port, case.connections, seconds, file.name)
        wall = time.perf_counter() - began
        total, server, own = (
            now - then for now, then in zip((busy(), spent(running.pid), _own()), before, strict=True)
        )
    see(said, case.connections, length)
    return Round(
        rate=said["requests"] / said["seconds"],
        per_cpu=said["requests"] / max(server, 0.01),
        p50=said["p50"],
        p99=said["p99"],
        others=min(max(total - server - own, 0) / (wall * (os.cpu_count() or 1)), 1),
    )


def _wrk(port: int, connections: int, seconds: int, file: str) -> dict[str, Any]:
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{_PATIENCE:.0f}s", "-s", str(_SCRIPT)]
    run = subprocess.run(
        [shutil.which("wrk") or "wrk", *options, f"http://127.0.0.1:{port}/", "--", file],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if run.returncode:
        raise WrongAnswer("wrk cannot connect: the server has ended")
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def _own() -> float:
    """Return the processor seconds of this process and of the clients that it has run."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def see(said: dict[str, Any], connections: int, length: int) -> None:
    """See that all answers were right, by what wrk says and the length of a right answer.

    Raises:
        WrongAnswer: there are none, some have failed, or they are longer or shorter.

    """
    if said["errors"] or not said["requests"]:
        raise WrongAnswer(f"{said['requests']} answers, {said['errors']} errors")
    expected = said["requests"] * length
    on_their_way = connections * length
    if abs(said["read"] - expected) > on_their_way + said["requests"] * max(length * _LONGER, _IDS):
        raise WrongAnswer(f"answers of {said['read'] / said['requests']:.0f} bytes instead of {length}")
