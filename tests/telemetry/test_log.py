"""The log of a gateway that runs as a program, in both forms: what its lines say, and what they never say."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import replace

from gateway.model.calls import Caller, CallRecord
from gateway.telemetry.log import CallLine, Format, _line_of, configure_own, log_calls
from tests.cli.running import Serving, serving, start
from tests.raw_http import Response, Wire, exchange, request

pytestmark = pytest.mark.unmeasured

HANDLERS = """
import asyncio
import logging
import warnings
from pathlib import Path

from gateway import Fault, method


@method(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@method(run="inline", name="größe")
def size() -> int:
    return 1


@method
def refuse() -> None:
    raise Fault(7, "not today")


@method
def crash(text: str) -> None:
    raise ValueError(text)


@method(run="inline")
def speak(text: str) -> None:
    warnings.warn(text)
    logging.getLogger("shop").warning("a line about %s", text)


@method
async def forever() -> None:
    Path("started").write_text(".")
    await asyncio.Event().wait()
"""
CALL_FIELDS = [
    *("time", "level", "event", "method", "protocol", "client", "outcome", "code", "ms", "bytes", "request_id"),
    "position",
]
ARGUMENT, TOKEN, ODD_ID = "argument-of-a-client", "token-of-a-client", "id of a client"
FORGED = "2026-01-01T00:00:00.000Z info    call method=forged"
EVIL = f"{ARGUMENT}\n{FORGED}\r\x1b[31m\x00\u202e\u2028"
MARGIN = re.compile(r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (?P<level>[a-z]+) +(?P<text>.*)")


class Logged(Struct, frozen=True, kw_only=True):
    """What a gateway has answered to each exchange, and its log: as it stands, and line by line."""

    form: str
    responses: dict[str, Response]
    raw: str
    lines: list[dict[str, Any]]

    def of(self, request_id: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("request_id") == request_id]


def json_call(method: str, params: Any, call_id: str = ', "id": 1') -> str:
    return f'{{"jsonrpc": "2.0", "method": {text(method)}, "params": {text(params)}{call_id}}}'


def text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def headers(request_id: str, content_type: str = "application/json") -> dict[str, str]:
    return {
        "Content-Type": content_type,
        "X-Request-ID": request_id,
        "Authorization": f"Bearer {TOKEN}",
        "Cookie": TOKEN,
        "User-Agent": TOKEN,
    }


REFUSE = "<methodCall><methodName>refuse</methodName></methodCall>"
REQUESTS = {
    "ok": request("/api", headers("ok"), json_call("add", [1, 2]).encode()),
    "named": request("/api", headers("named"), json_call("größe", []).encode()),
    "fault": request("/api", headers("fault", "text/xml"), REFUSE.encode()),
    "batch": request("/api", headers("batch"), f"[{json_call('add', [1, 2])}, 1, {json_call('refuse', [])}]".encode()),
    "notification": request("/api", headers("notification"), json_call("add", [1, 2], "").encode()),
    "params": request("/api", headers("params"), json_call("add", [ARGUMENT, ARGUMENT]).encode()),
    "evil-name": request("/api", headers("evil-name"), json_call(EVIL, [ARGUMENT]).encode()),
    "long-name": request("/api", headers("long-name"), json_call("x" * 500, []).encode()),
    "unknown": request("/api", headers("unknown"), json_call("nothing.of:this", []).encode()),
    "no-json": request("/api", headers("no-json"), ARGUMENT.encode()),
    "path": request(f"/{ARGUMENT}%0a?{TOKEN}", headers("path"), b"{}"),
    "verb": request("/api", headers("verb"), b"", method="PUT"),
    "type": request("/api", headers("type", f"text/{TOKEN}"), b"{}"),
    "body": request("/api", headers("body") | {"Content-Encoding": "gzip"}, ARGUMENT.encode()),
    "crash": request("/api", headers("crash"), json_call("crash", [EVIL]).encode()),
    "speak": request("/api", headers("speak"), json_call("speak", [EVIL]).encode()),
    "odd-id": request("/api", headers(ODD_ID), json_call("add", [1, 2]).encode()),
}


@pytest.fixture(scope="module", params=["text", "json"])
def logged_by(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """Run all exchanges against a gateway, and one whose client hangs up."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "handlers.py").write_text(HANDLERS)
    with serving(folder, GATEWAY_LOG_FORMAT=request.param) as running:
        responses = {name: exchange(running.port, sent) for name, sent in REQUESTS.items()}
        hang_up(running, folder)
        raw = running.stop().err
    return Logged(form=request.param, responses=responses, raw=raw, lines=list(read(raw, request.param)))


def hang_up(running: Serving, folder: Path) -> None:
    with Wire(running.port) as wire:
        start(wire, "forever", folder)
    running.until_logged("cancelled")


def read(raw: str, form: str) -> Iterator[dict[str, Any]]:
    """Read each line of a log, with what is indented below it, into fields."""
    if form == "json":
        yield from map(msgspec.json.decode, raw.splitlines())
        return
    for line in re.split(r"\n(?! {4})", raw.removesuffix("\n")):
        margin = MARGIN.match(line)
        assert margin is not None, line
        event, _, rest = margin["text"].partition(" ")
        fields: dict[str, Any] = {"method": None, "code": None, "position": None} if event == "call" else {}
        if event in ("call", "refused"):
            fields |= dict(re.findall(r"(\w+)=('[^']*'|\S+)", rest))
        for name in ("code", "bytes", "position", "status"):
            if isinstance(fields.get(name), str):
                fields[name] = int(fields[name])
        yield {"time": margin["time"], "level": margin["level"], "event": event, "message": line, **fields}


CALLS: dict[str, list[tuple[str, str, str, int | None, int | None]]] = {
    "ok": [("add", "jsonrpc", "ok", None, None)],
    "named": [("größe", "jsonrpc", "ok", None, None)],
    "fault": [("refuse", "xmlrpc", "fault", 7, None)],
    "batch": [
        ("add", "jsonrpc", "ok", None, 0),
        ("-", "jsonrpc", "fault", -32600, 1),
        ("refuse", "jsonrpc", "fault", 7, 2),
    ],
    "notification": [("add", "jsonrpc", "ok", None, None)],
    "params": [("add", "jsonrpc", "fault", -32602, None)],
    "evil-name": [("-", "jsonrpc", "fault", -32601, None)],
    "long-name": [("-", "jsonrpc", "fault", -32601, None)],
    "unknown": [("nothing.of:this", "jsonrpc", "fault", -32601, None)],
    "no-json": [("-", "jsonrpc", "fault", -32700, None)],
    "crash": [("crash", "jsonrpc", "fault", -32603, None)],
}


@pytest.mark.parametrize(("request_id", "calls"), CALLS.items())
def test_each_call_has_a_line(
    request_id: str, calls: list[tuple[str, str, str, int | None, int | None]], logged_by: Logged
) -> None:
    lines = [line for line in logged_by.of(request_id) if line["event"] == "call"]
    said = [(line["method"], line["protocol"], line["outcome"], line["code"], line["position"]) for line in lines]
    assert said == calls
    for line in lines:
        assert (line["level"], line["client"]) == ("info", "127.0.0.1")
        assert float(line["ms"]) >= 0
        assert MARGIN.match(f"{line['time']} info x")
    if lines[0]["protocol"] == "jsonrpc" and len(lines) == 1:
        assert lines[0]["bytes"] == len(logged_by.responses[request_id].body)


def test_a_call_in_json_has_the_same_fields_always(logged_by: Logged) -> None:
    calls = [line for line in logged_by.lines if line["event"] == "call"]
    assert len(calls) > len(CALLS)
    if logged_by.form == "json":
        assert all(list(line) == CALL_FIELDS for line in calls)


def test_a_caller_who_hangs_up_is_a_cancelled_call(logged_by: Logged) -> None:
    (line,) = [line for line in logged_by.lines if line.get("method") == "forever"]
    assert (line["outcome"], line["code"], line["bytes"]) == ("cancelled", None, 0)


@pytest.mark.parametrize(("request_id", "status"), [("path", 404), ("verb", 405), ("type", 415), ("body", 400)])
def test_each_refusal_at_the_endpoint_has_a_line(request_id: str, status: int, logged_by: Logged) -> None:
    assert logged_by.responses[request_id].status == status
    (line,) = logged_by.of(request_id)
    assert (line["level"], line["event"], line["status"], line["client"]) == ("info", "refused", status, "127.0.0.1")
    assert line["reason"].strip("'")


def test_a_request_id_that_is_not_plain_is_replaced(logged_by: Logged) -> None:
    given = logged_by.responses["odd-id"].headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{6}-[0-9a-f]+", given)
    (line,) = logged_by.of(given)
    assert line["method"] == "add"
    assert ODD_ID not in logged_by.raw


def test_the_error_id_on_the_wire_finds_the_traceback(logged_by: Logged) -> None:
    response = logged_by.responses["crash"]
    error = msgspec.json.decode(response.body)["error"]
    assert error == {"code": -32603, "message": "Internal error", "data": {"error_id": error["data"]["error_id"]}}
    (line,) = [line for line in logged_by.lines if error["data"]["error_id"] in line.get("message", "")]
    assert line["level"] == "error"
    assert "in crash (request crash)" in line["message"]
    traceback = line["traceback"] if logged_by.form == "json" else line["message"]
    assert re.search(r'Traceback \(most recent call last\):\n +File ".*handlers\.py", line \d+, in crash\n', traceback)
    assert "dispatch.py" not in traceback
    assert f"ValueError: {ARGUMENT}" in traceback
    for told in ("ValueError", ARGUMENT, "handlers", "Traceback"):
        assert told not in response.body.decode()
        assert told not in str(response.headers)


def test_nothing_of_a_client_stands_in_the_lines_of_calls_and_refusals(logged_by: Logged) -> None:
    assert TOKEN not in logged_by.raw
    for line in logged_by.lines:
        if line["event"] in ("call", "refused"):
            assert ARGUMENT not in str(line)
            assert "x" * 101 not in str(line)


def test_what_others_log_of_a_client_begins_no_line_and_commands_no_terminal(logged_by: Logged) -> None:
    assert not re.search(f"^{re.escape(FORGED)}", logged_by.raw, re.MULTILINE)
    assert all(c.isprintable() or c == "\n" for c in logged_by.raw)
    lines = [line for line in logged_by.lines if ARGUMENT in str(line)]
    crash, warning, own = lines
    assert [line["level"] for line in lines] == ["error", "warning", "warning"]
    assert "UserWarning" in warning["message"]
    assert "a line about" in own["message"]
    if logged_by.form == "json":
        assert EVIL in crash["traceback"]
        assert own["message"].endswith(EVIL)
        assert [line["event"] for line in lines] == ["errors", "py.warnings", "shop"]


@pytest.mark.parametrize(("level", "lines"), [("warning", 0), ("error", 0), ("info", 2)])
def test_below_its_level_nothing_is_logged(level: str, lines: int, tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    with serving(tmp_path, "--set", f"log.level={level}") as running:
        exchange(running.port, REQUESTS["ok"])
        assert len(running.stop().err.splitlines()) == lines


RECORDS = [
    CallRecord(
        method=method,
        protocol="xmlrpc",
        client="127.0.0.1",
        outcome=outcome,  # type: ignore[arg-type]
        bytes=number,
        request_id=f"id-{number}",
        position=number or None,
        seconds=number / 7,
    )
    for number, (method, outcome) in enumerate(
        [("add", None), ("größe", 7), ("x" * 100, -32601), ("", -32700), ("a b", "cancelled"), ("a\nb", None)]
    )
]


def test_a_line_tells_the_callers_key_and_the_name_that_was_called() -> None:
    record = replace(RECORDS[0], caller=Caller(client="127.0.0.1", key="odoo"), called="sum")
    assert str(_line_of(record)).endswith(" request_id=id-0 key=odoo called=sum")
    assert msgspec.json.decode(msgspec.json.encode(_line_of(record)))["key"] == "odoo"
    forged = replace(record, caller=Caller(client="127.0.0.1", key="a\nb"), called="x y")
    assert str(_line_of(forged)).endswith(" key=- called=-")
    nobody = _line_of(replace(RECORDS[0], caller=Caller(client="127.0.0.1")))
    assert not {"key", "called"} & msgspec.json.decode(msgspec.json.encode(nobody)).keys()


@contextmanager
def own_log(form: Format) -> Iterator[Callable[[], list[str]]]:
    """Have the gateway's lines in a pipe, as in a program that leaves the log alone; yield what reads them."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    loggers = [logging.getLogger("gateway.calls"), logging.getLogger("gateway"), logging.getLogger()]
    before = [(logger.level, logger.handlers.copy()) for logger in loggers]
    for logger in loggers:
        logger.handlers.clear()
    with os.fdopen(writing, "w") as file, pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stderr", file)
        configure_own("info", form)
        try:
            yield lambda: re.sub(r"\d{4}-.*?Z", "", read_all(reading)).splitlines()
        finally:
            ours().close()
            for logger, (level, handlers) in zip(loggers, before, strict=True):
                logger.setLevel(level)
                logger.handlers[:] = handlers
                logger.filters.clear()
                logger.propagate = True
            logging.setLogRecordFactory(logging.LogRecord)
    os.close(reading)


def read_all(pipe: int) -> str:
    pieces = []
    with suppress(BlockingIOError):
        while piece := os.read(pipe, 2**16):
            pieces.append(piece)
    return b"".join(pieces).decode()


class Told(logging.Handler):
    """A handler of a program's own, and a filter, which keep the records that they see."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def sees(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        return True


def ours() -> logging.Handler:
    return logging.getLogger("gateway").handlers[0]


def propagating(told: Told) -> None:
    logging.getLogger("gateway").propagate = True
    logging.getLogger().addHandler(told)


@pytest.mark.parametrize(
    "own",
    [
        lambda told: logging.getLogger("gateway.calls").addHandler(told),
        lambda told: logging.getLogger("gateway").addHandler(told),
        propagating,
        lambda told: logging.getLogger("gateway.calls").addFilter(told.sees),
        lambda told: ours().addFilter(told.sees),
        lambda told: ours().setFormatter(formatting(told)),
        lambda told: logging.setLogRecordFactory(making(told)),
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_what_a_program_does_to_the_log_holds_for_the_lines_of_calls(
    own: Callable[[Told], object], form: Format
) -> None:
    with own_log(form) as written:
        log_calls(RECORDS)
        as_usual = written()
        assert len(as_usual) == len(RECORDS)
        told = Told()
        own(told)
        log_calls(RECORDS)
        assert written() == as_usual
    seen: list[Any] = [record.msg for record in told.records]
    assert [line.request_id for line in seen] == [record.request_id for record in RECORDS]
    assert {type(line) for line in seen} == {CallLine}


def formatting(told: Told) -> logging.Formatter:
    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            told.emit(record)
            return formatter.format(record)

    formatter = ours().formatter or Formatter()
    return Formatter()


def making(told: Told) -> Callable[..., logging.LogRecord]:
    def make(*args: Any, **options: Any) -> logging.LogRecord:
        record = logging.LogRecord(*args, **options)
        told.emit(record)
        return record

    return make


def test_a_handler_that_takes_warnings_only_takes_no_lines_of_calls() -> None:
    with own_log("text") as written:
        ours().setLevel(logging.WARNING)
        log_calls(RECORDS)
        logging.getLogger("gateway.calls").warning("the only line")
        (line,) = written()
        assert "the only line" in line


def test_lines_that_standard_error_does_not_accept_are_counted_and_none_is_cut() -> None:
    other = "a line of another process"
    with own_log("text") as written:
        log_calls(RECORDS)
        usual = set(written())
        for _ in range(15):
            log_calls(RECORDS * 20)
        lines = written()
        os.write(sys.stderr.fileno(), f"{other}\n".encode())
        log_calls(RECORDS)
        lines += written()
    counts = [int(found[0]) for line in lines if (found := re.search(r"\d+(?= lines of the log were lost)", line))]
    assert len(lines) - 1 - len(counts) + sum(counts) == 301 * len(RECORDS)
    assert {line for line in lines if "were lost" not in line} == usual | {other}
