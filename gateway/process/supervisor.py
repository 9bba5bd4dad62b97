"""Worker processes under one supervisor.

    supervise(plan, ready)    forks the workers of a generation, replaces those that crash, and reloads and stops them

The supervisor opens the sockets, forks, and then only waits: it loads no handlers, runs no event loop and has no
threads, so there is nothing in it that a fork could harm or a method could crash. A worker reports once that it is
ready, or what keeps it from being so, and serves when it is told to. Both hold an end of a socket pair, and see on it
when the other is gone.

    SIGTERM, SIGINT    all workers stop: they are not ready for the configured grace, then accept nothing more, and have
                       the configured drain to finish running calls; then the supervisor ends with 0. At a second
                       signal all of them end at once
    SIGHUP             a new generation is planned and forked beside the old one. Once all of it is ready, it serves,
                       and the old one accepts nothing more and ends when its calls and connections have; if any of it
                       fails, it is ended again before it has served, the log says why, and nothing has changed

The sockets are the supervisor's and shared by all, so connections that wait to be accepted outlive any worker. A worker
that has served is replaced at once; only what ends again and again by itself is tried more and more slowly
(gateway/process/worker.py). One that hangs is killed and replaced (gateway/process/watchdog.py). Nothing that a worker
does, and no lack of processes, ends the supervisor.
"""

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from gateway.process.control import (
    RETIRE,
    START,
    STOP,
    Assignment,
    ForcedShutdown,
    Generation,
    Report,
    StartupError,
)
from gateway.process.record import WorkerRecord
from gateway.process.registrar import Publishing, Registrar
from gateway.process.systemd import notify
from gateway.process.worker import Pace, UnreadableReportError, Worker

_log = logging.getLogger("gateway")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_FORK_PAUSE = 1.0  # seconds to wait where the system has no process left
MERCY = 5.0  # seconds that a worker has beyond what is configured, before it is killed


class _Forked(BaseException):
    """Leaves the supervisor's code in a worker, so that nothing of it is on the worker's stack."""

    def __init__(self, work: Callable[[], int]) -> None:
        self.work = work
        super().__init__()


def supervise(plan: Callable[..., Generation], ready: Callable[[Generation, Report], Publishing | None]) -> None:
    """Run generations of workers until a signal ends them. In a worker it raises SystemExit, with its exit code.

    Arguments:
        plan: makes the next generation, given those that exist; it may take over their sockets.
        ready: told of each generation when all of it is ready, with a worker's report; returns how the gateway is
            published from then on, None for not at all.

    Raises:
        StartupError: the first generation cannot be planned or started.
        ForcedShutdown: a second signal has come.

    """
    try:
        _Supervisor(plan, ready).run()
    except _Forked as forked:
        work = forked.work
    else:
        return
    sys.exit(work())


class _Supervisor:
    def __init__(
        self, plan: Callable[..., Generation], ready: Callable[[Generation, Report], Publishing | None]
    ) -> None:
        self._plan = plan
        self._ready = ready
        self._workers: dict[int, Worker] = {}
        self._serving: Generation | None = None
        self._trial: Generation | None = None
        self._due: list[tuple[float, int, Generation]] = []  # when to start a worker in which slot
        self._pace = Pace()
        self._registrar = Registrar()
        self._stop_listening_at = float("inf")
        self._is_stopping = False
        self._signals, self._wake = socket.socketpair()
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Start, and do what signals and workers ask for, until all workers have ended."""
        for end in (self._signals, self._wake):
            end.settimeout(0)
        self._selector.register(self._signals, selectors.EVENT_READ, self._read_signals)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _note)
        try:
            self._try(self._plan())
            while self._workers or self._due or self._registrar.pid:
                for key, _ in self._selector.select(self._pause()):
                    if self._selector.get_map().get(key.fd) is key:  # else the one before has dropped it
                        key.data()
                self._do_what_is_due()
        finally:
            signal.set_wakeup_fd(-1)  # a signal after this must not be written to a closed socket
        self._stop_listening()

    def _pause(self) -> float | None:
        times = [
            self._stop_listening_at,
            self._registrar.due,
            *(due for due, _, _ in self._due),
            *(worker.due for worker in self._workers.values()),
        ]
        soonest = min(times)
        return None if soonest == float("inf") else max(0.0, soonest - time.monotonic())

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._stop_listening_at <= now:
            self._stop_listening()
        for worker in self._workers.values():
            worker.look_after(now)
        due = [entry for entry in self._due if entry[0] <= now]
        self._due = [entry for entry in self._due if entry[0] > now]
        for _, slot, generation in due:
            self._fork(generation, slot)
        if self._registrar.is_due(now):
            self._fork_registrar()

    def _read_signals(self) -> None:
        for number in self._signals.recv(4096):
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGHUP:
                self._reload()
            elif self._is_stopping:
                self._end_at_once(number)
            else:
                self._stop()

    def _try(self, generation: Generation) -> None:
        self._trial = generation
        for _ in range(generation.workers):
            taken = {worker.slot for worker in self._workers.values()} | {slot for _, slot, _ in self._due}
            self._fork(generation, next(slot for slot in range(len(taken) + 1) if slot not in taken))

    def _fork(self, generation: Generation, slot: int) -> None:
        links: tuple[socket.socket, ...] = ()
        record = None
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            links = ours, theirs = socket.socketpair()
            record = WorkerRecord()
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            _close(set(links))
            if record is not None:
                record.close()
            self._due.append((time.monotonic() + _FORK_PAUSE, slot, generation))
            reason = str(error.strerror).lower()
            _log.error("worker %d cannot be started: %s; another attempt in %g s", slot, reason, _FORK_PAUSE)
            return
        if pid == 0:
            self._leave(ours)
            _close(set() if self._serving is None else set(self._serving.listeners) - set(generation.listeners))
            raise _Forked(partial(generation.work, Assignment(slot=slot, link=theirs, record=record)))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        theirs.close()
        ours.settimeout(0)
        worker = Worker(pid, slot, generation, ours, record)
        self._workers[pid] = worker
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._read(worker))

    def _fork_registrar(self) -> None:
        work = self._registrar.fork(_SIGNALS, self._leave)
        if work is not None:
            for generation in (self._serving, self._trial):  # held open there, they would take connections for nobody
                _close(set() if generation is None else set(generation.listeners))
            raise _Forked(work)

    def _leave(self, ours: socket.socket) -> None:
        """Close what belongs to the supervisor, in a worker: held open here, it would look alive to the others."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the supervisor tells the workers
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        self._selector.close()
        for end in (ours, self._signals, self._wake, *(worker.link for worker in self._workers.values())):
            end.close()
        for worker in self._workers.values():
            worker.record.close()
        self._registrar.leave()

    def _read(self, worker: Worker) -> None:
        if not worker.read():
            self._selector.unregister(worker.link)
        try:
            report = worker.report()
        except UnreadableReportError:
            worker.kill()
            _log.error("%s sent an unreadable report, and was killed", worker)
        else:
            if report is not None:
                self._hear(worker, report)

    def _hear(self, worker: Worker, report: Report) -> None:
        if report.problems:
            self._fail(worker, report.problems)
            return
        worker.is_ready = True
        generation = worker.generation
        if generation is not self._trial:
            worker.send(START)
        elif all(other.is_ready for other in self._of(generation)):
            self._promote(generation, report)

    def _of(self, generation: Generation) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.generation is generation]

    def _promote(self, generation: Generation, report: Report) -> None:
        before, self._serving, self._trial = self._serving, generation, None
        self._due = [entry for entry in self._due if entry[2] is generation]
        for worker in self._workers.values():
            if worker.generation is generation:
                worker.send(START)
            elif not worker.is_ending:
                self._order(worker, RETIRE, worker.generation.drain)
        if before is not None:
            _close(set(before.listeners) - set(generation.listeners))
            _log.info("reloaded; workers: %d", generation.workers)
        notify("READY=1")
        self._registrar.want(self._ready(generation, report))

    def _fail(self, worker: Worker, problems: list[str]) -> None:
        """Give a generation up that cannot start; a worker in the place of a crashed one is only tried again."""
        generation = worker.generation
        if generation is not self._trial:
            for problem in problems:
                _log.error("worker %d: %s", worker.slot, problem)
            return
        self._give_up(generation)
        if self._serving is None:
            raise StartupError(problems)
        _close(set(generation.listeners) - set(self._serving.listeners))
        _tell_unchanged(problems)

    def _reload(self) -> None:
        if self._serving is None or self._is_stopping:
            return
        _log.info("reloading")
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        abandoned = self._trial
        if abandoned is not None:
            self._give_up(abandoned)
        existing = [self._serving] if abandoned is None else [self._serving, abandoned]
        problems: list[str] = []
        generation = None
        try:
            generation = self._plan(*existing)
        except StartupError as failed:
            problems = failed.problems
        if abandoned is not None:  # before the fork: a worker that inherited its sockets would keep them open
            kept = self._serving if generation is None else generation
            _close(set(abandoned.listeners) - {*self._serving.listeners, *kept.listeners})
        if generation is None:
            _tell_unchanged(problems)
        else:
            self._try(generation)

    def _give_up(self, generation: Generation) -> None:
        self._trial = None
        self._due = [entry for entry in self._due if entry[2] is not generation]
        for worker in self._of(generation):
            worker.is_ending = True
            worker.kill()

    def _stop(self) -> None:
        notify("STOPPING=1")
        self._is_stopping = True
        self._registrar.stop()  # before anything else: from now on no caller should come
        self._due.clear()
        grace = 0.0 if self._serving is None else self._serving.grace
        self._stop_listening_at = time.monotonic() + grace
        if not grace:
            self._stop_listening()
        for worker in self._workers.values():
            self._order(worker, STOP, grace + worker.generation.drain)

    def _stop_listening(self) -> None:
        self._stop_listening_at = float("inf")
        for generation in (self._serving, self._trial):
            _close(set() if generation is None else set(generation.listeners))

    def _order(self, worker: Worker, order: bytes, seconds: float) -> None:
        worker.is_ending = True
        worker.killed_at = time.monotonic() + seconds + MERCY
        worker.send(order)
        if not worker.is_ready:  # it does not listen yet
            os.kill(worker.pid, signal.SIGTERM)

    def _end_at_once(self, number: int) -> NoReturn:
        for worker in self._workers.values():
            worker.kill()
        raise ForcedShutdown(number)

    def _reap(self) -> None:
        self._registrar.reap()
        for worker in list(self._workers.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._read_last(worker)
                del self._workers[pid]
                worker.link.close()
                worker.generation.ended(worker.slot)
                self._bury(worker, os.waitstatus_to_exitcode(status))
                worker.record.close()

    def _read_last(self, worker: Worker) -> None:
        """Hear what a worker has said before it ended."""
        if worker.link in self._selector.get_map():
            self._read(worker)
        if worker.link in self._selector.get_map():
            self._selector.unregister(worker.link)

    def _bury(self, worker: Worker, code: int) -> None:
        if worker.is_ending or self._is_stopping:
            return
        how = worker.end_of(code)
        if worker.generation is self._trial:
            self._fail(worker, [f"a worker {how} while it started{worker.stack()}"])
            return
        pause = self._pace.pause(worker)
        self._due.append((time.monotonic() + pause, worker.slot, worker.generation))
        _log.warning("%s %s; another one starts in %g s%s", worker, how, pause, worker.stack())


def _tell_unchanged(problems: list[str]) -> None:
    for problem in problems:
        _log.error("not reloaded, nothing has changed: %s", problem)
    notify("READY=1")


def _close(listeners: set[socket.socket]) -> None:
    for listener in listeners:
        listener.close()


def _note(*_: object) -> None:
    """Let a signal interrupt the wait; its number is read from the wakeup descriptor."""
