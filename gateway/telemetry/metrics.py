"""What Prometheus reads: what became of calls, how long they took, and how much is going on.

    Metrics.calls, refusal, traffic   observers of exchanges (gateway/endpoints/rpc.py), which count
    Metrics.update(levels)            once a second, and before the next: writes down what they have counted, and levels
    Metrics.expose(accept)            -> a Content-Type, and the text: of all workers, whichever of them is asked
    forget(directory, slot)           for the supervisor: the levels of a worker vanish when it has ended

A call is only added to plain numbers, which costs a tenth of what prometheus_client takes for it.

One process keeps its numbers in memory. Several keep them in files of one directory, in the multiprocess mode of
prometheus_client, but by slot and not by process id: a worker that takes a slot over goes on counting where the last
one has ended, so files do not pile up and counters do not go back. A worker may be killed while it writes: a file that
cannot be read is left out, and the next worker of its slot starts it again. Where no file can be written, the worker
serves all the same, and its numbers are missing (gateway/telemetry/allocated.py says why files are never sparse).

No caller can make labels: names that are not registered become ``-``, and only so many fault codes of methods are told
apart. prometheus_client is imported when the first Metrics is made: in a worker, after the fork.
"""

import logging
import os
import platform
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct, field

from gateway.model.calls import CallRecord
from gateway.model.durations import BUCKETS, Durations
from gateway.model.faults import CATALOGUE
from gateway.model.http import Refusal
from gateway.telemetry.exemplars import Exemplars

Levels: TypeAlias = Mapping[tuple[str, ...], float | Durations]
"""Values by the name of a gauge, without its prefix, and its labels: ``{("calls_running", "thread"): 3}``.

Of a counter or a histogram it is what has come since the last time.
"""

_log = logging.getLogger("gateway")

_CANCELLED = "cancelled"
_Outcome: TypeAlias = int | str | None  # a fault's code, _CANCELLED, or None if all went well
_NONE = "-"  # the label of a method that is not registered, and of a fault that there was none
_FOLDED = "application"
_CODES = 20  # of methods' own fault codes, in a slot; each is a series for each method that it comes from
_OWN_CODES = frozenset(str(entry.code) for entry in CATALOGUE.values())
_WITH_EXEMPLARS = "gateway_call_duration_seconds"
_OPENMETRICS = "application/openmetrics-text"
_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client takes it from the environment alone
_Key: TypeAlias = tuple[str, str, dict[str, str], str]  # as it stands in the files: metric, sample, labels, help


class _Family(NamedTuple):
    """A metric: the name of its class in prometheus_client, its help, its labels, and its class' own options."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()
    options: Mapping[str, Any] = {}


class _Tally(Struct, eq=False):
    """Calls of one kind since they were written down."""

    counter: Any
    histogram: Any
    calls: int = 0
    durations: Durations = field(default_factory=Durations)

    def write(self) -> None:
        """Add them to the series."""
        self.counter.inc(self.calls)
        _write(self.histogram, self.durations)
        self.calls, self.durations = 0, Durations()


def _write(histogram: Any, durations: Durations) -> None:
    """Add durations to a series; prometheus_client itself would have them one by one."""
    histogram._sum.inc(durations.seconds)  # noqa: SLF001 - see above
    for bucket, count in zip(histogram._buckets, durations.buckets, strict=True):  # noqa: SLF001 - likewise
        if count:
            bucket.inc(count)


class _Volume(Struct, eq=False):
    """Bytes since they were written down."""

    received: int = 0
    sent: int = 0


_SUM: Mapping[str, Any] = {"multiprocess_mode": "livesum"}  # over the workers that live

# The help stands in the files beside every value, so it is short; docs/metrics.md says more.
FAMILIES: dict[str, _Family] = {
    "calls": _Family("Counter", "Calls", ("method", "protocol", "outcome", "code")),
    "call_duration_seconds": _Family("Histogram", "Time of calls", ("method", "protocol"), {"buckets": BUCKETS}),
    "refusals": _Family("Counter", "Requests refused before a call", ("kind", "status")),
    "received_bytes": _Family("Counter", "Bytes of bodies", ("protocol",)),
    "sent_bytes": _Family("Counter", "Bytes of answers", ("protocol",)),
    "requests_in_flight": _Family("Gauge", "Requests that await their answers", (), _SUM),
    "calls_running": _Family("Gauge", "Calls that run", ("kind",), _SUM),
    "calls_waiting": _Family("Gauge", "Calls that wait to run", ("kind",), _SUM),
    "threads_busy": _Family("Gauge", "Threads that run a method", (), _SUM),
    "threads_overdue": _Family("Gauge", "Threads nobody waits for", (), _SUM),
    "connections": _Family("Gauge", "Connections of clients", (), _SUM),
    "upstream_no_connection": _Family("Counter", "Calls that got no connection in time", ("upstream",)),
    "upstream_attempts": _Family("Counter", "Attempts of calls", ("upstream", "outcome", "sent")),
    "upstream_extra": _Family("Counter", "Attempts beside the first", ("upstream", "why")),
    "upstream_budget_empty": _Family("Counter", "Attempts not made", ("upstream",)),
    "upstream_duration_seconds": _Family("Histogram", "Time of answers", ("upstream",), {"buckets": BUCKETS}),
    "upstream_calls_running": _Family("Gauge", "Calls that run", ("upstream",), _SUM),
    "upstream_connections": _Family("Gauge", "Connections", ("upstream",), _SUM),
    "upstream_waiting": _Family("Gauge", "Calls that wait for a connection", ("upstream",), _SUM),
    "upstream_instances": _Family("Gauge", "Instances", ("upstream", "state"), {"multiprocess_mode": "livemax"}),
    "directory_up": _Family("Gauge", "Lists are current", ("directory",), {"multiprocess_mode": "livemin"}),
    "directory_age_seconds": _Family("Gauge", "Age of lists", ("directory",), {"multiprocess_mode": "livemax"}),
    "records": _Family("Counter", "Calls recorded"),
    "records_dropped": _Family("Counter", "Calls not recorded", ("reason",)),
    "workers": _Family("Gauge", "Workers that live", (), _SUM),
    "worker_starts": _Family("Counter", "Workers started"),
    "start_time_seconds": _Family("Gauge", "Start of the oldest worker", (), {"multiprocess_mode": "livemin"}),
    "build_info": _Family("Gauge", "Versions", ("version", "python", "codec"), {"multiprocess_mode": "livemax"}),
}


class Metrics:
    """The numbers of one worker.

    Arguments:
        known: tells whether a name is registered, given the name and the protocol.
        protocols: the names of those that are spoken.
        version: of the gateway.
        directory: where all workers keep their numbers; None for one that is alone, and keeps them in memory.
        slot: the worker's own number in the directory, which no other living process has.
        codec: which implementation of the codecs runs, "compiled" or "pure".

    Nothing that happens to the directory is an error: what cannot be written there is kept in memory, and not exposed.

    """

    def __init__(  # noqa: PLR0913 - most of them have a default
        self,
        known: Callable[[str, str], object],
        protocols: Iterable[str],
        version: str,
        directory: Path | None = None,
        slot: int = 0,
        *,
        codec: str = "pure",
    ) -> None:
        import prometheus_client  # noqa: PLC0415 - not before the fork, and not where nobody watches
        from prometheus_client import exposition, metrics_core, multiprocess, samples, values  # noqa: PLC0415 - likewise

        self._known = known
        self._directory = directory
        self._exemplars = Exemplars(directory, slot)
        self._exemplar_class = samples.Exemplar
        self._codes: set[str] = set()
        self._choose_encoder: Any = exposition.choose_encoder
        self._merge: Any = multiprocess.MultiProcessCollector.merge
        self._gauge_family = metrics_core.GaugeMetricFamily
        self._values: Any = values
        self._value_class: Any = values.MutexValue
        self._file_class: Any = None
        if directory is not None:
            from gateway.telemetry.allocated import AllocatedDict  # noqa: PLC0415 - likewise

            self._file_class = AllocatedDict
            self._value_class = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]
        self._families: dict[str, Any] = {}
        if directory is not None:
            try:
                self._codes = _take_over(directory, slot)
                self._make_families(prometheus_client)
            except OSError as error:
                self._keep_in_memory(error)
        if not self._families:
            self._make_families(prometheus_client)
        self._series: dict[tuple[str, ...], Any] = {}
        self._tallies: dict[tuple[str, ...], _Tally] = {}
        self._usual: dict[tuple[str, str, _Outcome], _Tally] = {}
        self._volumes: defaultdict[str, _Volume] = defaultdict(_Volume)
        self._one("worker_starts").inc()
        for protocol in protocols:  # so that every file is open from now on, and calls take no more descriptors
            self._one("call_duration_seconds", _NONE, protocol)
        self.update(
            {
                ("workers",): 1,
                ("start_time_seconds",): time.time(),
                ("build_info", version, platform.python_version(), codec): 1,
            }
        )

    def _make_families(self, library: Any) -> None:
        self._registry = library.CollectorRegistry()
        with self._at_home():
            self._families = {
                name: getattr(library, family.kind)(
                    f"gateway_{name}", family.help, family.labels, registry=self._registry, **family.options
                )
                for name, family in FAMILIES.items()
            }

    def _keep_in_memory(self, error: OSError) -> None:
        """Count in this process's memory from now on: nothing that happens to the files may end a call."""
        self._value_class = self._values.MutexValue
        reason = str(error.strerror or error).lower()
        _log.error("metrics cannot be written to %s: %s; this worker serves without them", self._directory, reason)

    def calls(self, records: Iterable[CallRecord]) -> None:
        """Count calls."""
        for record in records:
            key = record.method, record.protocol, record.outcome
            tally = self._usual.get(key) or self._tally(*key)
            tally.calls += 1
            tally.durations.add(record.seconds)
            span = record.span
            if span is not None and span.is_sampled:
                label = record.method if self._known(record.method, record.protocol) else _NONE
                self._exemplars.note(label, record.protocol, record.seconds, span)

    def refusal(self, refused: Refusal) -> None:
        """Count a request that was refused before it was a call."""
        self._one("refusals", refused.kind, str(refused.status)).inc()

    def traffic(self, protocol: str, received: int, sent: int) -> None:
        """Count the bytes of a request and of its answer."""
        volume = self._volumes[protocol]
        volume.received += received
        volume.sent += sent

    def update(self, levels: Levels) -> None:
        """Write down what has been counted since the last time, and what was measured now."""
        self._exemplars.write()
        for tally in self._tallies.values():
            if tally.calls:
                tally.write()
        for protocol, volume in self._volumes.items():
            self._one("received_bytes", protocol).inc(volume.received)
            self._one("sent_bytes", protocol).inc(volume.sent)
            volume.received = volume.sent = 0
        for key, value in levels.items():
            if isinstance(value, Durations):
                _write(self._one(*key), value)
            elif FAMILIES[key[0]].kind == "Counter":
                self._one(*key).inc(value)
            else:
                self._one(*key).set(value)

    def expose(self, accept: str) -> tuple[str, bytes]:
        """Write down the numbers of all workers, in the format that an Accept header asks for, from any thread.

        Returns:
            the Content-Type, and the text: OpenMetrics 1.0 if it is asked for, else Prometheus' text format 0.0.4.

        """
        encode, content_type = self._choose_encoder(_OPENMETRICS if _OPENMETRICS in accept.lower() else "")
        return content_type, encode(self)  # the older format has no exemplars: its encoder leaves them out

    def collect(self) -> Iterator[Any]:
        """Iterate over the metrics of all workers (called by prometheus_client's encoders)."""
        for metric in self._collected():
            if metric.name == _WITH_EXEMPLARS:
                self._exemplars.put(metric, self._exemplar_class)
            yield metric

    def _collected(self) -> Iterator[Any]:
        torn = 0
        if self._directory is None:
            for metric in self._registry.collect():
                metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
                yield metric
        else:
            files = sorted(self._directory.glob("*.db"))
            whole = [str(file) for file in files if _keys(file) is not None]
            torn = len(files) - len(whole)
            yield from self._merge(whole)
        yield self._gauge_family("gateway_metrics_torn_files", "Files of workers that cannot be read", torn)

    def _tally(self, method: str, protocol: str, outcome: _Outcome) -> _Tally:
        """Find where calls are counted that have come to this, and keep it at hand if callers cannot invent the key."""
        known = self._known(method, protocol)
        label = method if known else _NONE
        if outcome is None or outcome == _CANCELLED:
            labels = (label, protocol, outcome or "ok", _NONE)
        else:
            labels = (label, protocol, "fault", self._code(str(outcome)))
        tally = self._tallies.get(labels)
        if tally is None:
            histogram = self._one("call_duration_seconds", *labels[:2])
            tally = self._tallies[labels] = _Tally(self._one("calls", *labels), histogram)
        if known and labels[3] != _FOLDED:
            self._usual[method, protocol, outcome] = tally
        return tally

    def _code(self, code: str) -> str:
        if code in _OWN_CODES or code in self._codes:
            return code
        if len(self._codes) >= _CODES:
            return _FOLDED
        self._codes.add(code)
        return code

    def _one(self, name: str, *labels: str) -> Any:
        """Return the series with these labels; looking it up in prometheus_client costs more than to count."""
        key = (name, *labels)
        found = self._series.get(key)
        if found is None:
            try:
                found = self._labelled(name, labels)
            except OSError as error:
                self._keep_in_memory(error)
                found = self._labelled(name, labels)
            self._series[key] = found
        return found

    def _labelled(self, name: str, labels: tuple[str, ...]) -> Any:
        family = self._families[name]
        with self._at_home():
            return family.labels(*labels) if labels else family

    @contextmanager
    def _at_home(self) -> Iterator[None]:
        """Let what is made here keep its values where ours belong, and nothing else: methods may have metrics too.

        prometheus_client has one place for the whole process to say this.
        """
        before, directory = (self._values.ValueClass, self._values.MmapedDict), os.environ.get(_DIRECTORY)
        self._values.ValueClass = self._value_class
        if self._directory is not None:
            self._values.MmapedDict = self._file_class
            os.environ[_DIRECTORY] = str(self._directory)
        try:
            yield
        finally:
            self._values.ValueClass, self._values.MmapedDict = before
            if directory is not None:
                os.environ[_DIRECTORY] = directory
            else:
                os.environ.pop(_DIRECTORY, None)


def forget(directory: Path, slot: int) -> None:
    """Remove what goes up and down from the numbers of a worker that has ended; what it has counted stays."""
    for file in directory.glob(f"gauge_live*_{slot}.db"):
        with suppress(OSError):  # its last levels are shown for longer; that must not end the supervisor
            file.unlink(missing_ok=True)


def _take_over(directory: Path, slot: int) -> set[str]:
    """Make the files of a slot ready for another worker, and return the fault codes that are told apart in them."""
    forget(directory, slot)
    codes: set[str] = set()
    for file in directory.glob(f"*_{slot}.db"):
        keys = _keys(file)
        if keys is None:
            _log.warning("%s cannot be read: it is replaced, and its counts are lost", file)
            file.unlink()
        else:
            codes.update(labels["code"] for _, _, labels, _ in keys if "code" in labels)
    return codes - _OWN_CODES - {_NONE, _FOLDED}


def _keys(file: Path) -> list[_Key] | None:
    """Read a file's keys to its end; None if that fails, for its worker was killed while it wrote, or just begins."""
    from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415 - see the head

    try:
        entries: Iterable[tuple[str, Any, Any, Any]] = MmapedDict.read_all_values_from_file(str(file))  # type: ignore[no-untyped-call]
        return [msgspec.json.decode(key, type=_Key) for key, *_ in entries]
    except (OSError, RuntimeError, ValueError, struct.error, msgspec.MsgspecError):
        return None
