"""A worker as its supervisor sees it, and how soon another one takes its place.

worker.read(), worker.report()      what it says of itself when it starts
worker.send(order)                  START, and then STOP or RETIRE
Pace().pause(worker)                seconds until another one starts in the place of one that has ended
"""

import logging
import os
import signal
import socket
import time

import msgspec

from gateway.process.control import START, Generation, Report
from gateway.process.record import WorkerRecord
from gateway.process.watchdog import Watchdog, state

_log = logging.getLogger("gateway")
_LONGEST_REPORT = 1 << 20  # bytes
_NEVER = float("inf")
_WRITING = 1.0  # seconds that a worker which hangs has to write its stacks
_SHORT = 5.0  # seconds of serving below which a worker that ends has not served well
_LONGEST_PAUSE = 30.0  # seconds between two attempts to start a worker
_LONGEST_PAUSE_OF_SERVING = 1.0  # the same where workers serve calls before they end
_MOST_DOUBLINGS = 10


class UnreadableReportError(Exception):
    """What a worker has sent is not a report."""


class Worker:
    """A living worker.

    Arguments:
        pid: its process id.
        slot: the smallest number that no other living worker had when it was forked.
        generation: what it belongs to.
        link: the supervisor's end of their socket pair.
        record: what it writes down.

    Attributes:
        is_ready: it has reported that it can serve.
        is_ending: it has been told to end, or killed for good.
        killed_at: when it is to be killed, on the clock of time.monotonic().

    """

    def __init__(self, pid: int, slot: int, generation: Generation, link: socket.socket, record: WorkerRecord) -> None:
        self.pid, self.slot, self.generation, self.link, self.record = pid, slot, generation, link, record
        self.is_ready = self.is_ending = False
        self.killed_at = _NEVER
        self.started_at = _NEVER
        self._reason = "did not end"
        self._watchdog = Watchdog(record, generation.watchdog)
        self._received = b""

    def __str__(self) -> str:
        return f"worker {self.slot} (process {self.pid})"

    @property
    def due(self) -> float:
        """When to look after it next."""
        return min(self.killed_at, self._watchdog.due)

    def send(self, order: bytes) -> None:
        """Send an order; it is not an error that it has ended already."""
        if order == START:
            self.started_at = time.monotonic()
            self._watchdog.start(self.started_at)
        try:
            self.link.send(order)
        except OSError:
            _log.debug("%s ends already", self)

    def read(self) -> bool:
        """Take in what it has sent; False at the end of its link."""
        try:
            data = self.link.recv(65536)
        except BlockingIOError:  # it has ended, and left children that hold its end
            return True
        except ConnectionResetError:  # it has ended, and not read all that it was sent
            data = b""
        self._received += data
        return bool(data)

    def report(self) -> Report | None:
        """Return its report, when all of it is here.

        Raises:
            UnreadableReportError: it is not one.

        """
        if self.is_ready:  # it has reported, so this is a method's
            self._received = b""
        line, end, rest = self._received.partition(b"\n")
        if not end and len(self._received) <= _LONGEST_REPORT:
            return None
        try:
            report = msgspec.json.decode(line, type=Report)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreadableReportError from error
        self._received = rest
        return report

    def look_after(self, now: float) -> None:
        """Kill it if its time is up; if it hangs, have it write its stacks first."""
        if not self.is_ending and self._watchdog.hangs(now):
            stopped = state(self.pid)
            self._reason = f"has not run its event loop for {self.generation.watchdog:g} s"
            self._reason += f" ({stopped})" if stopped else ""
            self.record.ask(self.pid)
            self.killed_at = now + _WRITING
        if self.killed_at <= now:
            self.killed_at = _NEVER
            self.kill()
            _log.warning("%s %s, and was killed%s", self, self._reason, self.stack())

    def kill(self) -> None:
        """End it at once."""
        os.kill(self.pid, signal.SIGKILL)

    def stack(self) -> str:
        """Return the stacks that it has written, to be put behind a line of the log; empty for none."""
        stack = self.record.take_stack()
        return stack and f"\n{stack}"

    def end_of(self, code: int) -> str:
        """Say how it has ended, given its exit code, and which methods ran."""
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        methods = self.record.methods()
        return f"{how} while it ran {methods}" if methods else how


class Pace:
    """How soon a worker starts in the place of one that has ended, for each slot by itself.

    At once, if the one before has served for a while, or was ended by a method: a caller who can crash a worker must
    not keep others waiting. What ends again and again by itself, before or soon after it serves, is tried more and more
    slowly.
    """

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}

    def pause(self, worker: Worker) -> float:
        """Return seconds."""
        if time.monotonic() - worker.started_at >= _SHORT or worker.record.methods():
            self._ends[worker.slot] = 0
        ends = self._ends.get(worker.slot, 0)
        self._ends[worker.slot] = ends + 1
        longest = _LONGEST_PAUSE_OF_SERVING if worker.record.has_served() else _LONGEST_PAUSE
        return min(longest, 0.1 * 2 ** min(ends, _MOST_DOUBLINGS)) if ends else 0.0
