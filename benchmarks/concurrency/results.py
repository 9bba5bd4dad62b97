"""What results.json holds, and on which machine it was measured.

read(file) -> Results, write(file, results)
"""

import os
import platform
import re
import shutil
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from xml.parsers import expat

import msgspec
from msgspec import Struct

from benchmarks.concurrency.driving import Pace, Step

_PACKAGES = ("callgate", "tornado", "uvloop", "flask", "pyuwsgi", "locust", "gevent")


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
        taken=time.strftime("%Y-%m-%d"), machine=_machine(), versions=_versions(), pace=pace, steps=steps, many=many
    )


def read(file: Path) -> Results:
    """Read results.json."""
    return msgspec.json.decode(file.read_bytes(), type=Results)


def write(file: Path, results: Results) -> None:
    """Write results.json."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def _machine() -> dict[str, str]:
    processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": processor[1].strip() if processor else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "net.core.somaxconn": Path("/proc/sys/net/core/somaxconn").read_text().strip(),
    }


def _versions() -> dict[str, str]:
    found = {"CPython": platform.python_version(), "expat": expat.EXPAT_VERSION.removeprefix("expat_")}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    nginx = shutil.which("nginx")
    if nginx:
        said = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=False).stderr
        found["nginx"] = said.partition("/")[2].strip()
    return found
