"""Recorded calls that are made again, and what has become of them.

    records(paths)                                   entries of recordings, in the order in which the calls began
    reason_to_skip(entry, asked)                     why a call cannot be made again, or is not to be
    await Replay(asked, client_for).run(entries)     makes them, and compares

A line that is not a record is None among the entries.
"""

import asyncio
import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Any

from msgspec import UNSET, Struct, field

from gateway.cli.comparing import MISSING, Comparison, Difference, is_redacted
from gateway.client import AsyncClient, CallError
from gateway.client.errors import ArgumentError
from gateway.model.faults import Fault
from gateway.telemetry.recording.entry import Entry, read

_PASSING = {-32001, -32002, -32003}  # faults that depend on how busy a gateway is
_MOST_ROWS = 1000
_MOST_PLACES = 20  # of one call
_IN_VAIN = 5  # calls without a response, and none with one, after which there is no server

NO_RECORD = "a line that is not a record"
SKIPPED: dict[str, Callable[[Entry], bool]] = {  # why a call is not made again, and the first of them that is true
    "the outcome of a stream": lambda entry: entry.stream,
    "a notification, which has no response": lambda entry: entry.notification,
    "the caller has hung up": lambda entry: entry.outcome == "cancelled",
    "too large to be recorded": lambda entry: entry.params is UNSET or (entry.result is UNSET and entry.fault is None),
    "the arguments are redacted": lambda entry: is_redacted(entry.params) or entry.method == "(redacted)",
    "the fault says that the gateway was busy, or too slow": lambda entry: (
        entry.fault is not None and entry.fault.code in _PASSING
    ),
}
NOT_IDEMPOTENT = "not known as idempotent: use --all, or --idempotent"
NOT_SENDABLE = "cannot be sent in the protocol"


class Asked(Struct, frozen=True, kw_only=True):
    """What is asked for.

    Attributes:
        methods: patterns of methods to be called; all if there are none.
        idempotent: patterns of methods that may be called again.
        everything: whether all methods may be.
        rate: calls in a second, at most; None for as many as there can be.
        concurrency: calls at once.
        comparison: what counts as the same.

    """

    methods: tuple[str, ...] = ()
    idempotent: tuple[str, ...] = ()
    everything: bool = False
    rate: float | None = None
    concurrency: int = 1
    comparison: Comparison = Comparison()


class Row(Struct, frozen=True):
    """A difference, and the call that it is in."""

    method: str
    request: str
    place: str
    recorded: Any
    now: Any


class Outcome(Struct):
    """What has become of all calls."""

    same: int = 0
    different: int = 0
    unanswered: int = 0
    partly: int = 0
    more: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    rows: list[Row] = []
    before: list[float] = []
    after: list[float] = []

    @property
    def compared(self) -> int:
        """How many calls were made, and had a response."""
        return self.same + self.different

    def medians(self) -> tuple[float, float] | None:
        """Return the median of the seconds that calls took when they were recorded, and now."""
        return (median(self.before), median(self.after)) if self.after else None

    def add(self, entry: Entry, found: Iterable[Difference]) -> bool:
        """Keep differences of a call, and tell whether there are any."""
        request = entry.id if entry.position is None else f"{entry.id}[{entry.position}]"
        number = 0
        for number, each in enumerate(found, 1):
            if number > _MOST_PLACES or len(self.rows) >= _MOST_ROWS:
                self.more += 1
            else:
                self.rows.append(Row(entry.method, request, each.place, each.recorded, each.now))
        return number > 0


def records(paths: Iterable[Path]) -> Iterator[Entry | None]:
    """Read files, and the files of folders; only those are open whose times overlap.

    Raises:
        OSError: one cannot be read.

    """
    files = [file for path in paths for file in (sorted(path.glob("*.jsonl")) if path.is_dir() else [path])]
    waiting = deque(sorted((_began(next(_lines(file), None)), number, file) for number, file in enumerate(files)))
    active: list[tuple[str, int, Entry | None, Iterator[Entry | None]]] = []
    while waiting or active:
        while waiting and (not active or waiting[0][0] < active[0][0]):
            _, number, file = waiting.popleft()
            _advance(active, number, _lines(file))
        if active:
            _, number, entry, lines = heapq.heappop(active)
            yield entry
            _advance(active, number, lines)


def _advance(
    active: list[tuple[str, int, Entry | None, Iterator[Entry | None]]], number: int, lines: Iterator[Entry | None]
) -> None:
    """Have the next entry of a file wait for its turn, if there is one."""
    for entry in lines:
        heapq.heappush(active, (_began(entry), number, entry, lines))
        return


def _began(entry: Entry | None) -> str:
    return "" if entry is None else entry.at


def _lines(file: Path) -> Iterator[Entry | None]:
    with file.open("rb") as lines:
        for line in lines:
            try:
                yield read(line)
            except ValueError:
                yield None


def reason_to_skip(entry: Entry | None, asked: Asked) -> str | None:
    """Tell why a call is not made again; None where it is."""
    if entry is None:
        return NO_RECORD
    if asked.methods and not _fits(entry.method, asked.methods):
        return "another method"
    reason = next((reason for reason, is_so in SKIPPED.items() if is_so(entry)), None)
    may_run = asked.everything or entry.idempotent or _fits(entry.method, asked.idempotent)
    return reason or (None if may_run else NOT_IDEMPOTENT)


class Replay:
    """Makes calls again.

    Arguments:
        asked: what is asked for.
        client_for: returns the client for a protocol.

    """

    def __init__(self, asked: Asked, client_for: Callable[[str], AsyncClient]) -> None:
        self._asked = asked
        self._client_for = client_for
        self._outcome = Outcome()
        self._next = 0.0
        self._error: CallError | None = None

    async def run(self, entries: Iterable[Entry | None]) -> Outcome:
        """Make calls again, and compare.

        Raises:
            CallError: nobody responds.

        """
        waiting = iter(entries)

        async def work() -> None:
            for entry in waiting:
                reason = reason_to_skip(entry, self._asked)
                if reason is not None or entry is None:
                    self._outcome.skipped[reason or NO_RECORD] += 1
                    continue
                await self._pace()
                await self._call(entry)
                if self._outcome.unanswered >= _IN_VAIN and not self._outcome.compared:
                    return

        await asyncio.gather(*(work() for _ in range(self._asked.concurrency)))
        if self._error is not None and not self._outcome.compared:
            raise self._error
        return self._outcome

    async def _pace(self) -> None:
        if self._asked.rate is None:
            return
        now = time.monotonic()
        start = max(self._next, now)
        self._next = start + 1 / self._asked.rate
        await asyncio.sleep(start - now)

    async def _call(self, entry: Entry) -> None:
        client, outcome = self._client_for(entry.protocol), self._outcome
        is_across = client.protocol != entry.protocol.replace("mcp", "jsonrpc")
        by_name = entry.params if isinstance(entry.params, dict) else {}
        start = time.monotonic()
        try:
            result = await client.call(entry.method, *([] if by_name else entry.params), **by_name)
            found = self._compare_result(entry, result, is_across=is_across)
        except Fault as fault:
            found = self._compare_fault(entry, getattr(fault, "foreign", None) or fault, is_across=is_across)
        except ArgumentError:
            outcome.skipped[NOT_SENDABLE] += 1
            return
        except CallError as error:
            self._error = error
            outcome.unanswered += 1
            outcome.add(entry, [Difference("outcome", entry.outcome, str(error))])
            return
        outcome.before.append(entry.seconds)
        outcome.after.append(time.monotonic() - start)
        if any(place.startswith(("result", "fault")) for place in entry.redacted):
            outcome.partly += 1
        if outcome.add(entry, found):
            outcome.different += 1
        else:
            outcome.same += 1

    def _compare_result(self, entry: Entry, result: Any, *, is_across: bool) -> Iterator[Difference]:
        if entry.fault is not None:
            return iter([Difference("fault", _fault(entry.fault), MISSING), Difference("result", MISSING, result)])
        return self._asked.comparison.of(entry.method, "result", entry.result, result, is_across=is_across)

    def _compare_fault(self, entry: Entry, fault: Any, *, is_across: bool) -> Iterator[Difference]:
        if entry.fault is None:
            return iter([Difference("result", entry.result, MISSING), Difference("fault", MISSING, _fault(fault))])
        return self._asked.comparison.of_faults(entry.method, entry.fault, fault, is_across=is_across)


def _fault(fault: Any) -> dict[str, Any]:
    return {"code": fault.code, "message": fault.message} | ({} if fault.data is None else {"data": fault.data})


def _fits(method: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(method, pattern) for pattern in patterns)
