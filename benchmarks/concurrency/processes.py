"""Programs that are started, watched and always stopped, with all that they start themselves.

    with started(command, log) as program: ...      ended at the exit, whatever happens
    with sampled(program) as memory: ...            memory.idle, memory.peak: bytes

A program leads a session of its own. Its family are the processes of that session, what they have started, and the
sessions of these. What processes share (the interpreter, the modules that were loaded before a fork) counts once, not
once for each of them: memory is the kernel's proportional set size, from /proc/PID/smaps_rollup (proc(5)).
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

ROOT = Path(__file__).parent.parent.parent
_MERCY = 4.0  # seconds from the signal that asks a program to end to the one that ends it
_INTERVAL = 0.5  # seconds between two looks at the memory; one at 40 processes takes some 20 ms of a core


Member: TypeAlias = tuple[int, str]  # the process id, which may be used again, and when it began


class Memory(Struct):
    """Bytes, before the load and at the most."""

    idle: int
    peak: int


@contextmanager
def started(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
    errors: int = subprocess.STDOUT,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the project's folder, and write what it says to a file; ``errors`` is its stderr."""
    with log.open("wb") as output:
        program = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
    try:
        yield program
    finally:
        members = family(program.pid)
        program.send_signal(stop)
        with suppress(subprocess.TimeoutExpired):
            program.wait(_MERCY)
        _kill(program.pid, members)
        program.wait()


def family(leader: int) -> set[Member]:
    """Return the processes of a program that have not ended."""
    fields = list(_all_processes())
    known = {leader}
    while more := {pid for pid, parent, session, _ in fields if parent in known or session in known} - known:
        known |= more
    return {(pid, began) for pid, _, _, began in fields if pid in known}


def _all_processes() -> Iterator[tuple[int, int, int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it has ended meanwhile
                # pid (name) state ppid pgrp session ... and, as number 22, starttime; the name may hold anything
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    yield int(entry.name), int(fields[1]), int(fields[3]), fields[19]


def _kill(leader: int, members: set[Member]) -> None:
    """Kill a family, and those who belonged to it before its leader ended, and wait until they are gone."""
    while left := family(leader) | {(pid, began) for pid, _, _, began in _all_processes() if (pid, began) in members}:
        _kill_once(left)


def end_descendants() -> None:
    """Kill whatever this process has started; a signal may have come between a start and the first line after it."""
    while left := {(pid, began) for pid, began in family(os.getpid()) if pid != os.getpid()}:
        _kill_once(left)


def _kill_once(members: set[Member]) -> None:
    for pid, _ in members:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.01)


def used(leader: int) -> int:
    """Return the bytes that a program uses now."""
    return sum(_used_by_one(pid) for pid, _ in family(leader))


def _used_by_one(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has ended meanwhile
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


@contextmanager
def sampled(program: subprocess.Popen[bytes]) -> Iterator[Memory]:
    """Watch a program's memory from the entry, when it is idle, to the exit."""
    idle = used(program.pid)
    memory = Memory(idle, idle)
    done = threading.Event()

    def sample() -> None:
        while not done.wait(_INTERVAL):
            memory.peak = max(memory.peak, used(program.pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield memory
    finally:
        done.set()
        sampler.join()
