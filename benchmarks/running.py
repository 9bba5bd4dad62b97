"""Servers that are measured: each says on which port it is ready, and has the cores that it is given."""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from benchmarks.concurrency.processes import started

_START = 30.0  # seconds that a server has until it is ready
_READY = re.compile(r"http://127\.0\.0\.1:(\d+)/")


class Running(Struct, frozen=True):
    """A server that runs: the process that was started, and the port."""

    pid: int
    port: int


class CannotStart(Exception):
    """A server does not start; the message says what to do about it."""


def cores() -> list[int]:
    """Return the cores that this process may have, the one for servers first."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def serving(
    command: Sequence[str], on: Sequence[int], environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run a server on some cores; what it writes to stderr, which may be its log, is written and not kept.

    Raises:
        CannotStart: it does not say where it is ready.

    """
    pinned = ["taskset", "--cpu-list", ",".join(map(str, on)), *command]
    variables = os.environ | (environment or {})
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        said = Path(folder) / "said"
        with started(pinned, said, environment=variables, errors=subprocess.DEVNULL) as process:
            yield Running(process.pid, _port(process, said, command))


def _port(process: subprocess.Popen[bytes], said: Path, command: Sequence[str]) -> int:
    end = time.monotonic() + _START
    while time.monotonic() < end:
        ended = process.poll() is not None
        if ready := _READY.search(said.read_text()):
            return int(ready[1])
        if ended:
            break
        time.sleep(0.02)
    raise CannotStart(f"{' '.join(command)} does not start; run it by hand to see why")
