"""What results.json holds, and on which machine it was measured.

read(file) -> Results, write(file, results)
"""

import time
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.concurrency.driving import Pace, Step
from benchmarks.machine import machine, versions

_PACKAGES = ("callgate", "tornado", "uvloop", "flask", "pyuwsgi", "locust", "gevent")
_PROGRAMS = {"nginx": ("nginx", "-v")}


class Results(Struct, frozen=True, kw_only=True):
    """A whole comparison.

    Attributes:
        taken: the day, as 2026-11-21.
        machine: what it was measured on, by name.
        versions: of the programs, by name.
        steps: in the order in which they were taken.
        many: what was done beyond the reach of Locust; None where it was left out.

    """

    taken: str
    machine: dict[str, str]
    versions: dict[str, str]
    pace: Pace
    steps: list[Step]
    many: Step | None = None


def gathered(pace: Pace, steps: list[Step], many: Step | None) -> Results:
    """Put the steps together with what there is to say of this machine."""
    return Results(
        taken=time.strftime("%Y-%m-%d"),
        machine=machine(),
        versions=versions(_PACKAGES, _PROGRAMS),
        pace=pace,
        steps=steps,
        many=many,
    )


def read(file: Path) -> Results:
    """Read results.json."""
    return msgspec.json.decode(file.read_bytes(), type=Results)


def write(file: Path, results: Results) -> None:
    """Write results.json."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
