"""The lines of the log: one for each call, one for each refused request, for people (text) or machines (JSON).

No such line carries arguments, results, headers or bytes of a client; a method name that is not plain is left out. What
others write, tracebacks above all, may quote a client: it cannot begin a line, and its control characters are escaped.
The loggers are ``gateway`` (start and stop), ``gateway.calls``, ``gateway.endpoint``, and ``gateway.errors`` (the
tracebacks, under the error ids that callers are told).
"""

import json
import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway.model.calls import CURRENT, CallRecord, Context
from gateway.model.faults import Fault
from gateway.model.http import Refusal
from gateway.telemetry.stderr import StandardError
from gateway.wire.http_grammar import LOGGABLE

Format: TypeAlias = Literal["text", "json"]

_calls = logging.getLogger("gateway.calls")
_refusals = logging.getLogger("gateway.refusals")
_errors = logging.getLogger("gateway.errors")
_agents = logging.getLogger("gateway")

_TRACE_ID = "gateway_trace_id"  # the attribute of a record
_MOST_SAID = 60  # characters of what an agent calls itself


class CallLine(Struct, frozen=True, kw_only=True):
    """What the log says of one call.

    ``bytes`` are those of its answer, ``position`` is its place in a batch. Where its upstream has several instances,
    ``instance`` is the one that was called last, and ``attempts`` says how many were called. ``key`` is the name of the
    caller's key, and ``called`` what was called where another method, a version or a pattern, has answered. Where calls
    are traced, ``trace_id`` is that of the trace.
    """

    event: str = "call"
    method: str
    protocol: str
    client: str
    outcome: Literal["ok", "fault", "cancelled"]
    code: int | None
    ms: float
    bytes: int
    request_id: str
    position: int | None
    instance: str | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    key: str | UnsetType = UNSET
    called: str | UnsetType = UNSET
    trace_id: str | UnsetType = UNSET

    def __str__(self) -> str:
        where = "" if self.instance is UNSET else f" instance={self.instance} attempts={self.attempts}"
        where += "" if self.key is UNSET else f" key={self.key}"
        where += "" if self.called is UNSET else f" called={self.called}"
        where += "" if self.trace_id is UNSET else f" trace_id={self.trace_id}"
        code = "" if self.code is None else f" code={self.code}"
        position = "" if self.position is None else f" position={self.position}"
        return (
            f"call method={self.method} protocol={self.protocol} client={self.client} outcome={self.outcome}{code}"
            f" ms={self.ms} bytes={self.bytes} request_id={self.request_id}{position}{where}"
        )


class RefusalLine(Struct, frozen=True, kw_only=True):
    """What the log says of a request that was refused before it was a call."""

    event: str = "refused"
    status: int
    reason: str
    client: str
    request_id: str

    def __str__(self) -> str:
        client = self.client if LOGGABLE.fullmatch(self.client) else ascii(self.client)
        return f"refused status={self.status} client={client} request_id={self.request_id} reason={self.reason!r}"


def log_calls(records: Iterable[CallRecord]) -> None:
    """Write the lines of calls.

    Where nobody but our own handler would have them, all are written at once, without the records of the standard
    library, which take longer than the call of an inline method.
    """
    if not _calls.isEnabledFor(logging.INFO):
        return
    lines = [_line_of(record) for record in records]
    sole = _sole_handler()
    if sole is None:
        for line in lines:
            _calls.info(line)
    else:
        handler, formatter = sole
        begin = formatter.begin(_stamp(time.time()), "info")
        handler.write([f"{begin}{formatter.say(line)}" for line in lines])


def _line_of(record: CallRecord) -> CallLine:
    code = record.outcome if isinstance(record.outcome, int) else None
    return CallLine(
        method=_loggable(record.method),
        protocol=record.protocol,
        client=record.client,
        outcome="ok" if record.outcome is None else "cancelled" if code is None else "fault",
        code=code,
        ms=int(record.seconds * 1e6 + 0.5) / 1000,  # as round has it, in a third of the time
        bytes=record.bytes,
        request_id=record.request_id,
        position=record.position,
        instance=record.instance or UNSET,
        attempts=record.attempts or UNSET,
        key=UNSET if record.caller is None or record.caller.key is None else _loggable(record.caller.key),
        called=_loggable(record.called) if record.called else UNSET,
        trace_id=UNSET if record.span is None else record.span.trace_id,
    )


def log_agent(name: str, version: str, revision: str, client: str, request_id: str) -> None:
    """Say which agent has begun to speak MCP, as far as it says so itself."""
    said = " ".join(ascii(each[:_MOST_SAID]) for each in (name, version))
    _agents.info("agent %s speaks MCP %s (client %s, request %s)", said, ascii(revision[:20]), client, request_id)


@lru_cache(maxsize=1024)
def _loggable(name: str) -> str:
    return name if LOGGABLE.fullmatch(name) else "-"


def _sole_handler() -> "tuple[StandardError, _Formatter] | None":
    """Return our handler and its formatter, if a line of a call would go there as it is, and nowhere else."""
    handlers: list[logging.Handler] = []
    logger: logging.Logger | None = _calls
    while logger is not None:
        handlers += logger.handlers
        logger = logger.parent if logger.propagate else None
    if len(handlers) != 1 or _calls.filters or logging.getLogRecordFactory() is not logging.LogRecord:
        return None
    handler = handlers[0]
    formatter = handler.formatter
    if type(handler) is not StandardError or handler.filters or handler.level > logging.INFO:
        return None
    return (handler, formatter) if isinstance(formatter, _Formatter) else None


def log_refusal(refused: Refusal) -> None:
    """Write the line of a request that was refused before it was a call."""
    _refusals.info(
        RefusalLine(status=refused.status, reason=refused.reason, client=refused.client, request_id=refused.request_id)
    )


def log_unencodable(context: Context, fault: Fault) -> None:
    """Warn of a result that cannot be encoded, or is too large: the method must be corrected."""
    text = "%s in %s (request %s): %s"
    _errors.warning(text, fault.title, context.method, context.request_id, fault.detail, extra=traced(context))


def traced(context: Context) -> dict[str, str] | None:
    """Return what a record of the log is given beside its text, so that its line has the id of the call's trace."""
    return None if context.span is None else {_TRACE_ID: context.span.trace_id}


def _trace_id(record: logging.LogRecord) -> str | None:
    """Return the id of the trace that a record belongs to: as it says, or that of the call that runs here."""
    given: str | None = record.__dict__.get(_TRACE_ID)
    if given is None:
        context = CURRENT.get(None)
        given = None if context is None or context.span is None else context.span.trace_id
    return given


class _Formatter(logging.Formatter):
    """A form of lines: how one begins, and how one of our own goes on."""

    begin: Callable[[str, str], str]
    say: Callable[[Struct], str]


class _TextFormatter(_Formatter):
    begin = staticmethod("{} {:7} ".format)
    say = staticmethod(str)

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if not isinstance(record.msg, Struct):
            trace_id = _trace_id(record)
            if trace_id is not None:
                first, line_end, rest = text.partition("\n")
                text = f"{first} trace_id={trace_id}{line_end}{rest}"
            text = _indented(f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text)
        return f"{self.begin(_stamp(record.created), record.levelname.lower())}{text}"


def _indented(text: str) -> str:
    """Leave only the first line of a text at the margin, and nothing in it that a terminal obeys."""
    return "\n    ".join(
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        for line in text.split("\n")
    )


class _JSONFormatter(_Formatter):
    begin = staticmethod('{{"time":"{}","level":"{}",'.format)

    @staticmethod
    def say(line: Struct) -> str:
        return msgspec.json.encode(line)[1:].decode()

    def format(self, record: logging.LogRecord) -> str:
        now, level = _stamp(record.created), record.levelname.lower()
        if isinstance(record.msg, Struct):
            return f"{self.begin(now, level)}{self.say(record.msg)}"
        fields: dict[str, Any] = {"time": now, "level": level}
        fields |= {"event": record.name.removeprefix("gateway."), "message": _unicode(record.getMessage())}
        trace_id = _trace_id(record)
        if trace_id is not None:
            fields["trace_id"] = trace_id
        if record.exc_info:
            fields["traceback"] = _unicode(self.formatException(record.exc_info))
        return json.dumps(fields)  # all ASCII, so that nothing in it ends a line or commands a terminal


def _unicode(text: str) -> str:
    """Spell out lone surrogates, which many a reader of JSON refuses."""
    return text.encode("utf-8", "backslashreplace").decode()


def _stamp(seconds: float) -> str:
    return f"{_second(int(seconds))}.{int(seconds % 1 * 1000):03}Z"


@lru_cache(maxsize=1)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).replace(tzinfo=None).isoformat()


_FORMATTERS: dict[Format, type[logging.Formatter]] = {"text": _TextFormatter, "json": _JSONFormatter}


def configure_own(level: str, form: Format) -> None:
    """Send the gateway's lines to standard error, unless the program has configured its log; change nothing else."""
    own = logging.getLogger("gateway")
    own.setLevel(level.upper())
    if not logging.getLogger().handlers and not own.handlers:
        handler = StandardError()
        handler.setFormatter(_FORMATTERS[form]())
        own.addHandler(handler)
        own.propagate = False


def configure(level: str, form: Format) -> None:
    """Send this process' log lines to standard error, in the given form."""
    handler = StandardError()
    handler.setFormatter(_FORMATTERS[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("tornado.general").setLevel(max(logging.WARNING, logging.getLogger().level))
    # What no line shows is not looked up (the logging HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - the HOWTO has no other way
