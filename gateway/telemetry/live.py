"""What goes on now, and went on in the last hour, over all workers: for the console.

    table = LiveTable(slots)       before the workers are forked
    live = Live(table, slot)       in each of them; live.calls and live.refusal observe
    live.keep(measure)             a task: writes down once a second what the others are to see
    live.view(since)               of all workers, whichever of them is asked

Each worker writes into a place of its own in memory that all share, and nothing is locked: a worker that is killed
would never unlock it. A place has rows, of numbers for each five seconds, and a text of JSON with what has names;
who reads the text while it is written takes the one before. There are no arguments and no results in it.
"""

import asyncio
import mmap
import os
import time
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import nlargest
from itertools import pairwise
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct, field

from gateway.model.calls import CallRecord
from gateway.model.http import Refusal

Measure: TypeAlias = Callable[[], Mapping[str, Any]]
"""Measures what goes up and down in this process: the numbers of LEVELS, and "upstreams" and "directories"."""

LEVELS = ("requests", "running", "waiting", "connections")
PERIOD = 5  # seconds of a row
_ROWS = 720  # an hour
_BOUNDS = tuple(0.0001 * 1.5**step for step in range(34))  # seconds, up to 64
_COUNTS = ("calls", "faults", "refusals")
_FIRST_BUCKET = 1 + len(_COUNTS) + len(LEVELS)
_WIDTH = _FIRST_BUCKET + len(_BOUNDS) + 1
_TEXT = 65536  # bytes
_HEAD = 16
_SIZE = -(-(_ROWS * _WIDTH * 8 + _HEAD + _TEXT) // mmap.PAGESIZE) * mmap.PAGESIZE
_MINUTES = 60
_RECENT = 5  # minutes
_MOST_METHODS = 200  # that are told apart in a minute
_MOST_SHOWN = 20
_LONGEST_NAME = 100  # characters
_OTHERS = "(others)"
_NOT_FOUND = -32601
_WRITING = 1.0  # seconds
_GONE = 10.0  # seconds after which a worker that writes nothing has ended


class LiveTable:
    """Places for workers. Memory is taken only by those that are used."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._memory = memoryview(mmap.mmap(-1, slots * _SIZE))

    def rows(self, slot: int) -> "memoryview[float]":
        """Return the rows of a place, one after the other."""
        return self._memory[slot * _SIZE : slot * _SIZE + _ROWS * _WIDTH * 8].cast("d")

    def write(self, slot: int, text: bytes) -> None:
        """Put a text into a place. While it changes, its number is odd."""
        head, room = self._text(slot)
        head[0] += 1 + head[0] % 2
        room[: len(text)] = text
        head[1] = len(text)
        head[0] += 1

    def read(self, slot: int) -> bytes | None:
        """Return the text of a place; None where there is none, or it was being written."""
        head, room = self._text(slot)
        number = head[0]
        text = bytes(room[: min(head[1], _TEXT)])
        return text if number and number % 2 == 0 and head[0] == number else None

    def _text(self, slot: int) -> tuple[memoryview, memoryview]:
        start = slot * _SIZE + _ROWS * _WIDTH * 8
        head = self._memory[start : start + _HEAD].cast("Q")
        return head, self._memory[start + _HEAD : start + _HEAD + _TEXT]


class _Minute(Struct):
    """What was counted in a minute: of methods their calls, faults and seconds; of methods and codes the faults."""

    number: int
    methods: dict[str, list[float]] = {}
    faults: dict[tuple[str, str], int] = {}
    slow: list[tuple[float, str]] = []  # in ms, with what is shown of the call


class _Shown(Struct):
    """What a worker tells of itself, as it is in the text."""

    process: int
    slot: int
    started: float
    at: float
    levels: dict[str, float]
    upstreams: list[Any] = []
    directories: list[Any] = []
    slow: list[tuple[float, dict[str, Any]]] = []
    failing: list[dict[str, Any]] = []
    faults: list[tuple[str, str, int]] = []
    methods: list[tuple[str, float, float, float]] = field(default_factory=list)


class Live:
    """What one worker has seen.

    Arguments:
        table: where it is written down.
        slot: which place is its own; beyond those that there are, nothing is written.

    """

    def __init__(self, table: LiveTable, slot: int) -> None:
        self._table = table
        self._slot = slot
        self._started = time.time()
        self._period = 0
        self._counts = [0.0] * (_WIDTH - 1)
        self._minute = _Minute(0)
        self._past: deque[_Minute] = deque(maxlen=_MINUTES - 1)
        self._failing: deque[dict[str, Any]] = deque(maxlen=_MOST_SHOWN)
        self._last: dict[int, _Shown] = {}

    def calls(self, records: Iterable[CallRecord]) -> None:
        """Count calls that have ended."""
        minute, counts = self._turned(time.time()), self._counts
        for record in records:
            counts[0] += 1
            counts[_FIRST_BUCKET - 1 + bisect_left(_BOUNDS, record.seconds)] += 1
            name = record.method[:_LONGEST_NAME]
            is_invented = record.outcome == _NOT_FOUND  # or it has no call in this minute that found it
            if name not in minute.methods and (is_invented or len(minute.methods) >= _MOST_METHODS):
                name = _OTHERS
            method = minute.methods.setdefault(name, [0.0, 0.0, 0.0])
            method[0] += 1
            method[2] += record.seconds
            if record.outcome is not None:
                counts[1] += 1
                method[1] += 1
                key = name, str(record.outcome)
                if key not in minute.faults and len(minute.faults) >= _MOST_METHODS:
                    key = _OTHERS, "other"
                minute.faults[key] = minute.faults.get(key, 0) + 1
                self._failing.append(_shown(record))
            slow = minute.slow
            if len(slow) < _MOST_SHOWN or record.seconds > slow[-1][0]:
                slow.append((record.seconds, msgspec.json.encode(_shown(record)).decode()))
                slow.sort(key=lambda entry: -entry[0])
                del slow[_MOST_SHOWN:]

    def refusal(self, refused: Refusal) -> None:
        """Count a request that was refused before it was a call."""
        self._counts[2] += 1

    async def keep(self, measure: Measure) -> None:
        """Write down what there is, once a second, until it is cancelled."""
        while True:
            self.write(measure())
            await asyncio.sleep(_WRITING)

    def write(self, measured: Mapping[str, Any]) -> None:
        """Write down what has been counted, and what was measured now."""
        now = time.time()
        minute = self._turned(now)
        if self._slot >= self._table.slots:
            return
        for index, name in enumerate(LEVELS):
            self._counts[len(_COUNTS) + index] = measured[name]
        start = self._period % _ROWS * _WIDTH
        rows = self._table.rows(self._slot)
        for index, value in enumerate((float(self._period), *self._counts)):
            rows[start + index] = value
        told = _Shown(
            process=os.getpid(),
            slot=self._slot,
            started=self._started,
            at=now,
            levels={name: measured[name] for name in LEVELS},
            upstreams=measured.get("upstreams", []),
            directories=measured.get("directories", []),
            slow=[(seconds, msgspec.json.decode(text)) for seconds, text in self._slowest(minute)],
            failing=list(self._failing),
            faults=_faults((*self._past, minute)),
            methods=_methods((*self._recent(), minute)),
        )
        self._table.write(self._slot, _fitting(told))

    def view(self, since: int = 0) -> dict[str, Any]:
        """Return what all workers have written down.

        Args:
            since: the last row that is known already; 0 for all of the hour.

        """
        now = time.time()
        workers = [each for each in self._workers() if now - each.at < _GONE]
        faults: defaultdict[tuple[str, str], int] = defaultdict(int)
        methods: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        for worker in workers:
            for name, code, count in worker.faults:
                faults[name, code] += count
            for name, *numbers in worker.methods:
                methods[name] = [have + more for have, more in zip(methods[name], numbers, strict=True)]
        return {
            "period": PERIOD,
            "now": int(now) // PERIOD,
            "rows": self._merged(since, int(now) // PERIOD),
            "workers": [
                {
                    "process": each.process,
                    "slot": each.slot,
                    "started": each.started,
                    "levels": each.levels,
                    "upstreams": each.upstreams,
                    "directories": each.directories,
                }
                for each in workers
            ],
            "slow": [entry for _, entry in nlargest(_MOST_SHOWN, _all(workers, "slow"), key=lambda entry: entry[0])],
            "failing": nlargest(_MOST_SHOWN, _all(workers, "failing"), key=lambda entry: entry["at"]),
            "faults": [[*key, count] for key, count in nlargest(50, faults.items(), key=lambda item: item[1])],
            "methods": [
                [name, *numbers] for name, numbers in nlargest(200, methods.items(), key=lambda item: item[1][0])
            ],
        }

    def _workers(self) -> Iterator[_Shown]:
        """Return what each worker tells of itself; where that is being written, what was there before."""
        for slot in range(self._table.slots):
            text = self._table.read(slot)
            try:
                if text:
                    self._last[slot] = msgspec.json.decode(text, type=_Shown)
            except msgspec.MsgspecError:  # it was written while it was read
                pass
            if slot in self._last:
                yield self._last[slot]

    def _merged(self, since: int, now: int) -> list[list[float | None]]:
        """Add up the rows of all workers that are complete; of the times, percentiles in ms."""
        first = max(since + 1, now - _ROWS + 1)
        nothing, sums = [0.0] * (_WIDTH - 1), dict[int, list[float]]()
        for slot in range(self._table.slots):
            if slot not in self._last:  # nobody has ever had this place
                continue
            rows = self._table.rows(slot)
            for period in range(first, now):
                start = period % _ROWS * _WIDTH
                if rows[start] == period:
                    own = list(map(float, rows[start + 1 : start + _WIDTH]))
                    sums[period] = [a + b for a, b in zip(sums.get(period, nothing), own, strict=True)]
        return [
            [period, *row[: _FIRST_BUCKET - 1], *(percentile(row[_FIRST_BUCKET - 1 :], q) for q in (0.5, 0.95, 0.99))]
            for period, row in sorted(sums.items())
        ]

    def _turned(self, now: float) -> _Minute:
        """Return the minute of a time; begin another one, and another row, where it is new."""
        period = int(now) // PERIOD
        if period != self._period:
            self._period = period
            self._counts = [0.0] * (_WIDTH - 1)
            if self._minute.number != period * PERIOD // 60:
                if self._minute.number:
                    self._past.append(self._minute)
                self._minute = _Minute(period * PERIOD // 60, {}, {}, [])
        return self._minute

    def _recent(self) -> list[_Minute]:
        return [minute for minute in self._past if minute.number > self._minute.number - _RECENT]

    def _slowest(self, minute: _Minute) -> list[tuple[float, str]]:
        entries = [entry for each in (*self._recent(), minute) for entry in each.slow]
        return nlargest(_MOST_SHOWN, entries, key=lambda entry: entry[0])


def percentile(buckets: list[float], share: float) -> float | None:
    """Return in ms what a share of calls took at most, from their numbers by _BOUNDS; None where there were none."""
    wanted = sum(buckets) * share
    if not wanted:
        return None
    before = 0.0
    for count, (low, high) in zip(buckets, pairwise((0.0, *_BOUNDS, 2 * _BOUNDS[-1])), strict=True):
        if before + count >= wanted:
            return round(1000 * (low + (high - low) * (wanted - before) / count), 3)
        before += count
    return round(1000 * _BOUNDS[-1], 3)


def _shown(record: CallRecord) -> dict[str, Any]:
    return {
        "method": record.method[:_LONGEST_NAME],
        "protocol": record.protocol,
        "client": record.client,
        "id": record.request_id,
        "outcome": record.outcome,
        "ms": round(1000 * record.seconds, 3),
        "at": round(time.time(), 1),
    }


def _all(workers: list[_Shown], name: str) -> Iterator[Any]:
    for worker in workers:
        yield from getattr(worker, name)


def _faults(minutes: Iterable[_Minute]) -> list[tuple[str, str, int]]:
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for minute in minutes:
        for key, count in minute.faults.items():
            counts[key] += count
    return [(*key, count) for key, count in nlargest(_MOST_METHODS, counts.items(), key=lambda item: item[1])]


def _methods(minutes: Iterable[_Minute]) -> list[tuple[str, float, float, float]]:
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for minute in minutes:
        for name, numbers in minute.methods.items():
            sums[name] = [have + more for have, more in zip(sums[name], numbers, strict=True)]
    most = nlargest(_MOST_METHODS, sums.items(), key=lambda item: item[1][0])
    return [(name, calls, faults, seconds) for name, (calls, faults, seconds) in most]


def _fitting(told: _Shown) -> bytes:
    """Write what a worker tells, without what does not fit."""
    text = msgspec.json.encode(told)
    for name in ("methods", "faults", "upstreams", "slow", "failing", "directories"):
        if len(text) <= _TEXT:
            break
        text = msgspec.json.encode(msgspec.structs.replace(told, **{name: getattr(told, name)[:20]}))
        if len(text) > _TEXT:
            told = msgspec.structs.replace(told, **{name: []})
            text = msgspec.json.encode(told)
    return text if len(text) <= _TEXT else b""
