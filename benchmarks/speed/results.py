"""What results.json holds.

read(file) -> Results, write(file, results)
"""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.bridges import Bridged
from benchmarks.machine import machine, versions
from benchmarks.speed.codecs import Timing
from benchmarks.speed.driving import Round
from benchmarks.speed.memory import Memory
from benchmarks.speed.servers import NODE_MODULES

_PACKAGES = ("callgate", "tornado", "uvloop", "httptools", "msgspec", "aiohttp", "aiohttp-xmlrpc", "pjrpc", "grpcio")
_PROGRAMS = {
    "Go": ("go", "version"),
    "node": ("node", "--version"),
    "jayson": ("node", "--print", f"require('{NODE_MODULES}/jayson/package.json').version"),
    "wrk": ("wrk", "--version"),
}


class Run(Struct, frozen=True, kw_only=True):
    """The rounds of one server in one case, by their keys, in the order in which they were taken."""

    case: str
    server: str
    rounds: list[Round]

    def median(self, value: Callable[[Round], float]) -> float:
        """Return the median over the rounds of one of their figures."""
        return statistics.median(map(value, self.rounds))


class Results(Struct, kw_only=True):
    """A whole measurement, as far as it has come.

    Attributes:
        taken: the day, as 2026-11-21.
        machine: what it was measured on, by name.
        versions: of the programs, by name.
        seconds: of a round.
        missing: what the servers need that could not be had, by their keys.
        dropped: why a server is left out of a case, by both of them.
        objects: seconds of a number of calls, by who calls whom.
        object_calls: how many they were.

    """

    taken: str
    machine: dict[str, str]
    versions: dict[str, str]
    seconds: int
    missing: dict[str, str]
    dropped: dict[str, str] = {}
    runs: list[Run] = []
    codecs: list[Timing] = []
    memory: list[Memory] = []
    bridges: list[Bridged] = []
    objects: dict[str, float] = {}
    object_calls: int = 0

    def run(self, case: str, server: str) -> Run | None:
        """Return the run of a server in a case."""
        return next((each for each in self.runs if (each.case, each.server) == (case, server)), None)


def begun(seconds: int, missing: dict[str, str]) -> Results:
    """Return results that hold nothing but what there is to say of this machine."""
    return Results(
        taken=time.strftime("%Y-%m-%d"),
        machine=machine(),
        versions=versions(_PACKAGES, _PROGRAMS),
        seconds=seconds,
        missing=missing,
    )


def ratios(run: Run, reference: Run, value: Callable[[Round], float]) -> Sequence[float]:
    """Divide a figure of a server by that of another one, round by round."""
    return [value(ours) / value(theirs) for ours, theirs in zip(run.rounds, reference.rounds, strict=False)]


def read(file: Path) -> Results:
    """Read results.json."""
    return msgspec.json.decode(file.read_bytes(), type=Results)


def write(file: Path, results: Results) -> None:
    """Write results.json."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
