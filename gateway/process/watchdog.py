"""A worker that hangs: its event loop has not run for so long that somebody must end it.

    beat(loop, record, seconds)         in the worker
    Watchdog(record, seconds).hangs()   in the supervisor, which looks when it is due
    end_after_supervisor(seconds)       in the worker, for the time when nobody looks any more

The supervisor does not compare times: where the whole machine was stopped or slow, so were its own looks.
"""

import asyncio
import ctypes
import signal
import sys
from functools import partial
from pathlib import Path

from gateway.process.record import WorkerRecord

_LOOKS = 4  # without a beat between them, before a worker hangs
_NEVER = float("inf")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ORPHANED = signal.SIGRTMIN + 14  # beside those of record.py


def beat(loop: asyncio.AbstractEventLoop, record: WorkerRecord, seconds: float) -> None:
    """Say that the loop runs, now and from now on, twice for each look of a watchdog with these seconds."""
    record.beat()
    loop.call_later(seconds / (2 * _LOOKS), beat, loop, record, seconds)


class Watchdog:
    """Looks at the beats of one worker.

    Arguments:
        record: the worker's.
        seconds: how long its event loop may not run; 0 for any time.

    Attributes:
        due: when to look next, on the clock of time.monotonic().

    """

    def __init__(self, record: WorkerRecord, seconds: float) -> None:
        self.due = _NEVER
        self._record = record
        self._seconds = seconds
        self._beats = record.beats
        self._missed = 0

    def start(self, now: float) -> None:
        """Look from now on."""
        if self._seconds:
            self.due = now + self._seconds / _LOOKS

    def hangs(self, now: float) -> bool:
        """Look, if that is due, and tell once when the worker hangs."""
        if now < self.due:
            return False
        beats = self._record.beats
        self._missed = self._missed + 1 if beats == self._beats else 0
        self._beats = beats
        self.due = now + self._seconds / _LOOKS if self._missed < _LOOKS else _NEVER
        return self._missed >= _LOOKS


def state(process: int) -> str:
    """Say what keeps a process from running, as far as the system knows it."""
    try:
        letter = Path(f"/proc/{process}/stat").read_text("latin-1").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
    return {"T": "it is stopped", "t": "a debugger has stopped it", "D": "it waits for a device"}.get(letter, "")


def end_after_supervisor(seconds: float) -> None:
    """Have the system kill this process so long after its supervisor has been killed, if it has not ended by itself.

    A worker whose supervisor is gone stops when its event loop hears of it. One that hangs in Python code never does,
    and would hold the port. (Code that holds the interpreter itself is not ended.)
    """
    if sys.platform == "linux":
        signal.signal(_ORPHANED, partial(_end_in, max(seconds, 0.001)))
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _ORPHANED)


def _end_in(seconds: float, *_: object) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process; a method may have a use of its own for it
    signal.setitimer(signal.ITIMER_REAL, seconds)
