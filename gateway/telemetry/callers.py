"""Who still calls which method: counts that outlive a worker, a reload and a restart, for ``gateway callers``.

    callers = Callers(folder, slot, known)      takes over what the worker before it in this slot has counted
    callers.calls(records)                      an observer of calls
    callers.keep()                              writes them down every few seconds, on the running loop, until close()
    callers.write()                             the same once
    callers = claimed(folder, known)            in a process that has no slot: the first that no living process has
    callers.close()                             writes them down, and gives the slot back
    read(folder)                                -> Tally, the sum over all slots

Each worker has a file of its own, by its slot, so nothing is locked and no count is lost to another process. What
callers choose cannot let it grow: only names that are registered or mapped by a table of versions are told apart, and
only so many callers; for one more, the counts of the one that has not called for longest go to the others.
"""

import asyncio
import fcntl
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

from gateway.model.calls import CallRecord

_log = logging.getLogger("gateway")

_MOST = 4096  # callers of methods, in a worker: some 400 KB
_LONGEST = 100  # characters of a caller's name
_PERIOD = 5.0  # seconds
_Key: TypeAlias = tuple[str, str, str, str]  # as in Row, up to the name


class Row(Struct, array_like=True):
    """One caller of one method.

    Attributes:
        method: the name that was served.
        called: the name that was called, where it is another one.
        kind: ``key``, ``certificate``, ``address``, or ``others`` for those who are no longer told apart.
        name: of the key or the certificate, or the address.
        calls: how many.
        last: when it has called last, in seconds since 1970.

    """

    method: str
    called: str
    kind: str
    name: str
    calls: int = 0
    last: float = 0.0


class Tally(Struct):
    """What was counted.

    Attributes:
        since: when that was begun, in seconds since 1970.
        rows: one for each caller of a method.

    """

    since: float
    rows: list[Row]


class Callers:
    """The counts of one worker.

    Arguments:
        folder: where all workers keep them.
        slot: the worker's own number, which no other living process has; or a name, where there are no numbers.
        known: tells whether a name is one that callers cannot invent, given the name and the protocol.
        most: callers of methods that are told apart.

    Where the folder cannot be written to, they are counted for nobody, and the log says so once.

    """

    def __init__(self, folder: Path, slot: int | str, known: Callable[[str, str], object], most: int = _MOST) -> None:
        self._file = folder / f"{slot}.json"
        self._known = known
        self._most = most
        before = _read(self._file) or Tally(time.time(), [])
        self._since = before.since
        self._rows: dict[_Key, Row] = {}  # in the order of their last calls
        self._others: dict[_Key, Row] = {}
        for row in sorted(before.rows, key=lambda row: row.last):
            self._row(row.method, row.called, row.kind, row.name, row)
        self._is_new = True
        self._has_failed = False
        self._timer: asyncio.TimerHandle | None = None
        self._lock = -1  # a file that only this process holds; -1 where somebody else gives numbers

    def calls(self, records: Iterable[CallRecord]) -> None:
        """Count calls."""
        now = time.time()
        for record in records:
            caller = record.caller
            if caller is None or not self._known(record.method, record.protocol):
                continue
            called = record.called if record.called and self._known(record.called, record.protocol) else ""
            if caller.key is not None:
                row = self._row(record.method, called, "key", caller.key[:_LONGEST])
            elif caller.certificate is not None:
                row = self._row(record.method, called, "certificate", caller.certificate[:_LONGEST])
            else:
                row = self._row(record.method, called, "address", caller.client[:_LONGEST])
            row.calls += 1
            row.last = now
            self._is_new = True

    def keep(self) -> None:
        """Write the counts down every few seconds, on the running loop. A program may end that without a word."""
        self.write()
        self._timer = asyncio.get_running_loop().call_later(_PERIOD, self.keep)

    def write(self) -> None:
        """Write the counts down, if there are new ones, so that nobody ever reads half of a file."""
        if not self._is_new:
            return
        self._is_new = False
        document = msgspec.json.encode(Tally(self._since, [*self._rows.values(), *self._others.values()]))
        made = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(document)
            made.replace(self._file)
        except OSError as error:
            if not self._has_failed:
                _log.error("server.callers: %s cannot be written: %s", self._file, str(error.strerror).lower())
            self._has_failed = True

    def hold(self, lock: int) -> None:
        """Hold a file descriptor as long as they are counted: the lock of the slot."""
        self._lock = lock

    def close(self) -> None:
        """Write the counts down, and let another process go on with them."""
        self.write()
        if self._timer is not None:
            self._timer.cancel()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _row(self, method: str, called: str, kind: str, name: str, before: Row | None = None) -> Row:
        """Find a row, and put it to the end; make it in the place of the one that has been idle for longest."""
        key = method, called, kind, name
        if kind == "others":
            return self._others.setdefault(key, before or Row(*key))
        row = self._rows.pop(key, None) or before or Row(*key)
        if len(self._rows) >= self._most:
            gone = self._rows.pop(next(iter(self._rows)))
            others = self._row(gone.method, gone.called, "others", "")
            others.calls += gone.calls
            others.last = max(others.last, gone.last)
        self._rows[key] = row
        return row


def claimed(folder: Path, known: Callable[[str, str], object]) -> Callers:
    """Count in a process that nobody has given a slot, as one of another server's: in the first one that is free.

    A slot is held by a lock on a file, which ends with the process. Arguments are those of Callers.
    """
    with suppress(OSError):  # it cannot be written, which is told when it is to be
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in itertools.count():
            lock = os.open(folder / f"mounted-{number}.lock", os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            callers = Callers(folder, f"mounted-{number}", known)
            callers.hold(lock)
            return callers
    return Callers(folder, "mounted-0", known)


def read(folder: Path) -> Tally | None:
    """Add up what the workers have counted; None where nothing was."""
    found = [tally for file in sorted(folder.glob("*.json")) if (tally := _read(file)) is not None]
    if not found:
        return None
    rows: dict[_Key, Row] = {}
    for row in _rows(found):
        added = rows.setdefault((row.method, row.called, row.kind, row.name), row)
        if added is not row:
            added.calls += row.calls
            added.last = max(added.last, row.last)
    return Tally(min(tally.since for tally in found), list(rows.values()))


def _rows(tallies: Iterable[Tally]) -> Iterator[Row]:
    for tally in tallies:
        yield from tally.rows


def _read(file: Path) -> Tally | None:
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(file.read_bytes(), type=Tally)
    return None
