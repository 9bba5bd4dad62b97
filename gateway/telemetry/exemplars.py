"""Exemplars: for each bucket of the time of calls, the trace of one call that is in it, the last one.

    exemplars.note(method, protocol, seconds, span)    counts nothing, and costs nothing where calls are not traced
    exemplars.write()                                  once a second: for the other workers, in a file of its own
    exemplars.put(metric)                              what the buckets of a metric are told, of all workers

prometheus_client has exemplars in one process only. What is kept is bounded as the series are: by the names of methods
that callers cannot invent.
"""

import time
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

from gateway.model.durations import BUCKETS
from gateway.model.tracing import CallSpan

_NAME = "exemplars_{}.json"
_Place: TypeAlias = tuple[str, str, int]  # method, protocol, and the number of the bucket


class _Exemplar(NamedTuple):
    """A call.

    Attributes:
        trace_id: of its span.
        span_id: likewise.
        seconds: how long it took.
        time: when it ended, in seconds since 1970.

    """

    trace_id: str
    span_id: str
    seconds: float
    time: float


class Exemplars:
    """The exemplars of one worker.

    Arguments:
        directory: where all workers write theirs; None for one that is alone.
        slot: the worker's own number in it.

    """

    def __init__(self, directory: Path | None, slot: int) -> None:
        self._directory = directory
        self._file = None if directory is None else directory / _NAME.format(slot)
        self._own: dict[_Place, _Exemplar] = {}
        self._is_new = False

    def note(self, method: str, protocol: str, seconds: float, span: CallSpan) -> None:
        """Take a call that has ended now; its span is exported."""
        place = method, protocol, bisect_left(BUCKETS, seconds)
        self._own[place] = _Exemplar(span.trace_id, span.span_id, seconds, time.time())
        self._is_new = True

    def write(self) -> None:
        """Write them down, if there are new ones, so that nobody reads half of a file. It may fail."""
        if self._file is None or not self._is_new:
            return
        self._is_new = False
        made = self._file.with_suffix(".new")
        with suppress(OSError):
            made.write_bytes(msgspec.json.encode([(*place, *found) for place, found in self._own.items()]))
            made.replace(self._file)

    def put(self, metric: Any, make: Any) -> None:
        """Give the buckets of a metric their exemplars; ``make`` is prometheus_client's class of them."""
        found = self._found()
        if not found:
            return
        for number, sample in enumerate(metric.samples):
            bound = sample.labels.get("le")
            if bound is not None:
                place = sample.labels["method"], sample.labels["protocol"], bisect_left(BUCKETS, float(bound))
                one = found.get(place)
                if one is not None:
                    ids = {"trace_id": one.trace_id, "span_id": one.span_id}
                    metric.samples[number] = sample._replace(exemplar=make(ids, one.seconds, one.time))

    def _found(self) -> dict[_Place, _Exemplar]:
        """Return the last one of each bucket, of all workers."""
        found = dict(self._own)
        for place, one in self._others():
            if place not in found or found[place].time < one.time:
                found[place] = one
        return found

    def _others(self) -> Iterable[tuple[_Place, _Exemplar]]:
        for file in () if self._directory is None else sorted(self._directory.glob(_NAME.format("*"))):
            with suppress(OSError, msgspec.MsgspecError):
                rows = msgspec.json.decode(file.read_bytes(), type=list[tuple[str, str, int, str, str, float, float]])
                yield from (((row[0], row[1], row[2]), _Exemplar(*row[3:])) for row in rows)
