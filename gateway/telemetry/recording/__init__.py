"""Recordings of calls, with their arguments and results, for ``gateway replay``. Nothing is recorded by default.

    recorder = Recorder(plan, protocols, describe)
    taken = recorder.begin(call, context)          before the method runs, which may change its arguments
    taken.end(record, reply, answer)               once it is known what has become of it
    recorder.streamed(record)                      the same for a stream, of which only the outcome is recorded
    await recorder.end()                           write what waits, and end

No call waits for any of it: what is noted on the event loop is a copy of the arguments, and the bytes of the response
as they are. A thread reads these, leaves out what is secret (redaction.py), and writes the lines (entry.py, files.py).
What it cannot write in time, or at all, is dropped and counted.
"""

import asyncio
import atexit
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from msgspec import UNSET, Struct

from gateway.model.calls import Answer, Call, CallRecord, Context, Params, Reply
from gateway.model.places import Place
from gateway.telemetry.recording.copying import Left, TooLargeError
from gateway.telemetry.recording.entry import VERSION, Entry, Fault, line
from gateway.telemetry.recording.files import Files
from gateway.telemetry.recording.redaction import Redactor

_log = logging.getLogger("gateway")

DROPPED = ("slow", "disk", "failed")  # why a call is not recorded after all
_LONGEST_NAME = 200  # characters; a longer one is not that of a method
_MOST_HELD = 16 * 2**20  # bytes that may wait to be written
_OVERHEAD = 1000  # bytes of an entry in memory, beside its values
_WIRE = 8  # times max_record: bytes of a response that is not even looked at
_GATHER = 0.1  # seconds between two writes
_PATIENCE = 2.0  # seconds that the last write has at the end of a program
_LOOK = 0.005  # seconds between two looks at whether it has been written
_SILENCE = 300.0  # seconds between two lines of the log about the same


class Plan(Struct, frozen=True, kw_only=True):
    """What is recorded, and where.

    Attributes:
        methods: patterns of the names that are called.
        share: of their calls, from 0 to 1.
        folder: where to.
        max_folder: bytes of all files there.
        max_record: bytes of a line.
        redact: what is left out.
        secrets: whether what looks like a secret is left out, too.
        prefix: what the gateway's own API keys begin with.
        never: names that are not recorded as they are called, because they make a stream.

    """

    methods: tuple[str, ...]
    share: float
    folder: Path
    max_folder: int
    max_record: int
    redact: tuple[Place, ...]
    secrets: bool
    prefix: str
    never: frozenset[str] = frozenset()


class Spoken(Struct, frozen=True):
    """How the responses of a protocol are read.

    Attributes:
        document: makes the document of a reply and its answer, on the event loop.
        read: reads it, in the thread.

    """

    document: Callable[[Reply, Answer], bytes]
    read: Callable[[bytes], Reply]


class Described(Protocol):
    """What is known of methods."""

    def __call__(self, method: str, called: str, protocol: str, /) -> tuple[Sequence[str], bool]:
        """Return the names of parameters that can be given by position, and whether it may run twice."""


class Recorder:
    """Records calls of one process."""

    def __init__(self, plan: Plan, protocols: Mapping[str, Spoken], describe: Described) -> None:
        self._plan = plan
        self._protocols = protocols
        self._describe = describe
        self._redactor = Redactor(plan.redact, secrets=plan.secrets, prefix=plan.prefix)
        self._files = Files(plan.folder, plan.max_folder)
        self._fits = lru_cache(maxsize=4096)(self._find_out)
        self._told: dict[str, float] = {}
        self._is_finished = False
        self._process = 0
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._wake, self._end = threading.Event(), threading.Event()
        self._waiting: list[tuple[_Taken, CallRecord, bytes | None]] = []
        self._held = 0
        self._counts: Counter[str] = Counter()
        self._thread: threading.Thread | None = None

    def begin(self, call: Call, context: Context) -> "_Taken | None":
        """Take the arguments of a call, if it is to be recorded."""
        if not self._is_wanted(call.method):
            return None
        left = Left(self._plan.max_record)
        try:
            params: Params | None = left.copy(call.params)
        except TooLargeError:
            params = None
        return _Taken(self, call.method, params, left.taken, time.time(), is_notification=call.notification)

    def streamed(self, record: CallRecord) -> None:
        """Record what became of a stream."""
        method = record.called or record.method
        if self._is_wanted(method):
            self.offer(_Taken(self, method, None, 0, time.time() - record.seconds, is_stream=True), record, None)

    def document(self, protocol: str, reply: Reply | None, answer: Answer | None) -> bytes | None:
        """Return the bytes of a response; None where they are too many, or there are none."""
        if reply is None or answer is None or len(answer.wire) > _WIRE * self._plan.max_record:
            return None
        return self._protocols[protocol].document(reply, answer)

    def offer(self, taken: "_Taken", record: CallRecord, document: bytes | None) -> None:
        """Have a call written, if there is room."""
        if self._thread is None or self._process != os.getpid():
            self._start()
        size = taken.size + (0 if document is None else len(document)) + _OVERHEAD
        with self._lock:
            if self._is_finished or self._held + size > _MOST_HELD:
                self._counts["slow"] += 1
                is_dropped = True
            else:
                self._held += size
                self._waiting.append((taken, record, document))
                is_dropped = False
        if is_dropped:
            self._tell(
                "slow",
                "calls come faster than %s takes records; some are dropped: lower record.share",
                self._plan.folder,
            )
        elif not self._wake.is_set():
            self._wake.set()

    def counted(self) -> Mapping[str, int]:
        """Return how many calls were written ("written") or dropped, by reason, since the last time."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return counts

    def finish(self) -> None:
        """Write what waits, and end the thread; nothing is recorded after that."""
        self._is_finished = True
        self._end.set()
        self._wake.set()

    async def end(self) -> None:
        """Write what waits, and end the thread, in two seconds at most: a disk may hang."""
        self.finish()
        until = time.monotonic() + _PATIENCE
        while self.is_writing() and time.monotonic() < until:  # noqa: ASYNC110 - it ends in a thread
            await asyncio.sleep(_LOOK)

    def is_writing(self) -> bool:
        """Tell whether there is still something that is being written after ``finish``."""
        return self._thread is not None and self._process == os.getpid() and self._thread.is_alive()

    def _is_wanted(self, method: str) -> bool:
        if len(method) > _LONGEST_NAME or not self._fits(method):
            return False
        return self._plan.share >= 1 or random.random() < self._plan.share  # noqa: S311 - it is only a sample

    def _find_out(self, method: str) -> bool:
        plan = self._plan
        return method not in plan.never and any(fnmatchcase(method, pattern) for pattern in plan.methods)

    def _start(self) -> None:
        """Start the thread, in a child of this process, too."""
        if self._process:
            self._files = Files(self._plan.folder, self._plan.max_folder)
            self._reset()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)  # a disk may hang for ever
        self._thread.start()
        atexit.register(self._finish_at_exit)

    def _finish_at_exit(self) -> None:
        self.finish()
        if self.is_writing():
            assert self._thread is not None  # noqa: S101 - it is alive
            self._thread.join(_PATIENCE)

    def _work(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            self._write()
            if self._is_finished and not self._waiting:
                self._files.close()
                return
            self._end.wait(_GATHER)

    def _write(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._held = 0
        lines = []
        for taken, record, document in waiting:
            try:
                lines.append(self._line(taken, record, document))
            except Exception:  # noqa: BLE001 - whatever is wrong with one call, others are recorded
                self._count("failed", 1)
                _log.exception("a call cannot be recorded, which is a bug")
        before = self._files.lines
        try:
            self._files.write(lines)
        except OSError as error:
            reason = str(error.strerror or error).lower()
            self._tell("disk", "record.folder: %s cannot be written: %s; calls are dropped", self._plan.folder, reason)
        written = self._files.lines - before
        self._count("written", written)
        self._count("disk", len(lines) - written)

    def _line(self, taken: "_Taken", record: CallRecord, document: bytes | None) -> bytes:
        called = taken.method
        entry = Entry(
            v=VERSION,
            at=datetime.fromtimestamp(taken.at, UTC).isoformat(timespec="milliseconds"),
            id="",
            position=record.position,
            protocol=record.protocol,
            method=self._shown(called),
            served="" if record.method == called else self._shown(record.method),
            seconds=round(record.seconds, 6),
            outcome="cancelled" if record.outcome == "cancelled" else "result" if record.outcome is None else "fault",
            notification=taken.is_notification,
            stream=taken.is_stream,
        )
        names, entry.idempotent = self._describe(record.method, called, record.protocol)
        outcome: dict[str, Any] = {}
        if document is not None:
            reply = self._protocols[record.protocol].read(document)
            fault = reply.fault
            if (fault is None) != (record.outcome is None):
                raise ValueError("the response has become another one")
            outcome = (
                {"result": reply.value}
                if fault is None
                else {"fault": {"code": fault.code, "message": fault.message, "data": fault.data}}
            )
        elif entry.outcome != "cancelled" and not taken.is_stream:
            entry.omitted.append(entry.outcome)
        if taken.params is None and not taken.is_stream:
            entry.omitted.append("params")
        params, outcome, left = self._redactor.redact(called, names, taken.params, outcome)
        entry.redacted = left.told()
        entry.id, entry.caller = (
            "(redacted)" if left.has(text) or self._redactor.is_secret(text) else text
            for text in (record.request_id, _name_of(record))
        )
        return self._fitting(entry, params, outcome)

    def _fitting(self, entry: Entry, params: Any, outcome: dict[str, Any]) -> bytes:
        """Write an entry, without what has more bytes than a line may have."""
        if "result" in outcome:
            entry.result = outcome["result"]
        elif "fault" in outcome:
            said = outcome["fault"]
            entry.fault = Fault(**said) if isinstance(said, dict) else Fault(code=said, message=said)
        if params is not None:
            entry.params = params
        for part in ("result", "fault", "params"):
            text = line(entry)
            if len(text) <= self._plan.max_record:
                return text
            if getattr(entry, part) not in (None, UNSET) or part in outcome:
                setattr(entry, part, None if part == "fault" else UNSET)
                entry.omitted.append(part)
        entry.redacted = []
        return line(entry)

    def _shown(self, text: str) -> str:
        return "(redacted)" if self._redactor.is_secret(text) else text

    def _count(self, what: str, number: int) -> None:
        with self._lock:
            self._counts[what] += number

    def _tell(self, what: str, text: str, *values: object) -> None:
        """Say what goes wrong once; the metrics say how often."""
        now = time.monotonic()
        if now - self._told.get(what, -_SILENCE) >= _SILENCE:
            self._told[what] = now
            _log.error(text, *values)


class _Taken:
    """A call that is recorded."""

    __slots__ = ("_recorder", "at", "is_notification", "is_stream", "method", "params", "size")

    def __init__(  # noqa: PLR0913 - what is known of one call
        self,
        recorder: Recorder,
        method: str,
        params: Params | None,
        size: int,
        at: float,
        *,
        is_notification: bool = False,
        is_stream: bool = False,
    ) -> None:
        self._recorder = recorder
        self.method = method
        self.params = params
        self.size = size
        self.at = at
        self.is_notification = is_notification
        self.is_stream = is_stream

    def end(self, record: CallRecord, reply: Reply | None, answer: Answer | None) -> None:
        """Note what became of it."""
        self._recorder.offer(self, record, self._recorder.document(record.protocol, reply, answer))


def _name_of(record: CallRecord) -> str:
    caller = record.caller
    return "" if caller is None else (caller.key or caller.certificate or "")[:_LONGEST_NAME]
