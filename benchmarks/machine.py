"""On which machine something is measured, with which programs, and how much of its processors goes where.

machine() -> what it is, versions(packages, programs) -> of what runs, busy() and spent(leader) -> processor seconds
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from xml.parsers import expat

from benchmarks.concurrency.processes import family

_TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds
_FIRST_NUMBER = re.compile(r"\d+(?:\.\d+)+")


def machine() -> dict[str, str]:
    """Say what there is to say of this machine."""
    processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": processor[1].strip() if processor else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "net.core.somaxconn": Path("/proc/sys/net/core/somaxconn").read_text().strip(),
    }


def versions(packages: Sequence[str], programs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the versions of CPython and expat, of Python packages, and of programs by the command that tells it.

    What is not installed is left out.
    """
    found = {"CPython": platform.python_version(), "expat": expat.EXPAT_VERSION.removeprefix("expat_")}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    for name, command in programs.items():
        if shutil.which(command[0]):
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            number = _FIRST_NUMBER.search(run.stdout + run.stderr)
            found[name] = number[0] if number else "unknown"
    return found


def busy() -> float:
    """Return the processor seconds that were spent since the machine started, by anybody, on all cores (proc(5))."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * _TICK


def spent(leader: int) -> float:
    """Return the processor seconds that the processes of a program have spent, which are those that have not ended."""
    return sum(_spent_by_one(pid) for pid, _ in family(leader))


def _spent_by_one(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0  # it has ended meanwhile
    return (int(fields[11]) + int(fields[12])) * _TICK
