"""``gateway replay``: calls that were recorded from a socket, made again at another server, and what is told of it."""

import asyncio
import json
import socket
import threading
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any
from xmlrpc.server import SimpleXMLRPCServer

import pytest
from msgspec import UNSET

from gateway import Fault, Registry
from gateway.cli.replays import records
from gateway.client import Client
from gateway.telemetry.recording import entry as recorded
from gateway.telemetry.recording.entry import Entry, line
from gateway.telemetry.recording.typed import REDACTED
from tests.cli.running import Run, here
from tests.conftest import Logged
from tests.serving import Server, free_port, serving

STOCK = {"apple": {"price": 1.25, "tags": ["a", "b"], "at": 1}, "pear": {"price": 2.0, "tags": [], "at": 2}}


def made(*, changed: bool) -> Registry:  # noqa: C901 - several small functions
    """Make methods, or those of a backend that is not quite the same."""
    registry = Registry()
    counter = count(100 if changed else 0)

    @registry.register
    def stock(name: str) -> dict[str, Any]:
        found: dict[str, Any] = {**STOCK[name], "at": next(counter)}
        return {**found, "price": found["price"] + 1e-12, "tags": found["tags"][::-1]} if changed else found

    @registry.register
    def echo(*values: Any) -> Any:
        return ["changed"] if changed and values == ("change",) else list(values)

    @registry.register
    def named(**values: Any) -> Any:
        return values

    @registry.register
    def fail(how: str) -> Any:
        if how == "crash":
            raise RuntimeError("inside")
        if how == "gone" and changed:
            return "found"
        raise Fault(8 if changed and how == "code" else 7, "not today", {"why": how})

    @registry.register
    def login(user: str, password: str) -> str:
        return user

    @registry.register
    async def meet(others: int) -> int:
        met.append(asyncio.Event())
        if len(met) == others:
            for each in met:
                each.set()
        await met[-1].wait()
        return others

    met: list[asyncio.Event] = []
    return registry


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    with serving(made(changed=True)) as server:
        yield server


@pytest.fixture(scope="module")
def same() -> Iterator[Server]:
    with serving(made(changed=False)) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record calls."""
    made_here = tmp_path_factory.mktemp("recordings")
    with serving(made(changed=False), {"record.methods": "*", "record.folder": made_here}) as server:
        with Client(server.url) as client:
            client.stock("apple")
            client.echo("change")
            client.echo(2**70, -0.0, None, "ä", {"$int": 1})
            client.call("named", a=1, self=2)
            client.system.listMethods()
            for how in ("code", "gone", "plain"):
                with pytest.raises(Fault):
                    client.fail(how)
        with xmlrpc.client.ServerProxy(server.url, use_builtin_types=True, allow_none=True) as proxy:
            proxy.echo(b"\x00\xff", datetime(2026, 1, 2), 1.5, None)
            proxy.login("ann", "hunter2")
    return made_here


def replayed(*arguments: object) -> Run:
    return here("replay", *map(str, arguments))


def write(file: Path, *entries: Entry | bytes) -> Path:
    file.write_bytes(b"".join(each if isinstance(each, bytes) else line(each) for each in entries))
    return file


def entry(method: str = "echo", params: Any = (1,), protocol: str = "jsonrpc", **more: Any) -> Entry:
    params = list(params) if isinstance(params, tuple) else params
    given = {"outcome": "result", "result": params} | more
    return Entry(v=1, at="", id="r1", protocol=protocol, method=method, seconds=0.5, params=params, **given)


def fault(code: int, message: str = "", data: Any = None) -> recorded.Fault:
    return recorded.Fault(code=code, message=message, data=data)


def test_the_same_backend_gives_the_same(folder: Path, same: Server) -> None:
    ended = replayed(folder, "--to", same.url, "--all", "--ignore", "stock:result.at")
    assert ended.err == ""
    lines = ended.out.splitlines()
    assert lines[0] == "gateway: 9 calls compared: 9 same, 0 different"
    assert lines[1].startswith("gateway: the median took ")
    assert lines[2:] == ["gateway: 1 skipped: the arguments are redacted"]
    assert ended.code == 0


def test_what_differs_is_told_in_a_table(folder: Path, other: Server) -> None:
    ended = replayed(folder, "--to", other.url, "--all", "--method", "[se]*", "--method", "fail")
    assert ended.code == 1
    table, summary = ended.out.split("\n\n")
    rows = [[part for part in line.split("  ") if part] for line in table.splitlines()]
    assert [[part.strip() for part in (row[0], *row[2:])] for row in rows] == [
        ["METHOD", "PLACE", "RECORDED", "NOW"],
        ["stock", "result.price", "1.25", "1.250000000001"],
        ["stock", "result.tags[0]", '"a"', '"b"'],
        ["stock", "result.tags[1]", '"b"', '"a"'],
        ["stock", "result.at", "0", "100"],
        ["echo", "result[0]", '"change"', '"changed"'],
        ["fail", "fault.code", "7", "8"],
        ["fail", "fault", '{"code":7,"message":"not today","data...', "-"],
        ["fail", "result", "-", '"found"'],
    ]
    assert summary.splitlines()[0] == "gateway: 8 calls compared: 4 same, 4 different"
    assert "gateway: 2 skipped: another method" in summary


def test_tolerances(folder: Path, other: Server) -> None:
    asked = (folder, "--to", other.url, "--method", "stock", "--idempotent", "st*")
    enough = ("--ignore", "result.at", "--any-order", "result.tags", "--tolerance", "1e-9")
    assert replayed(*asked, *enough).code == 0
    for left_out in range(0, 6, 2):
        assert replayed(*asked, *enough[:left_out], *enough[left_out + 2 :]).code == 1


def test_json_has_the_values(folder: Path, other: Server) -> None:
    ended = replayed(folder, "--to", other.url, "--all", "--method", "fail", "--json")
    told = json.loads(ended.out)
    assert (ended.code, told["compared"], told["same"], told["different"]) == (1, 3, 1, 2)
    assert told["differences"][1:] == [
        {
            "method": "fail",
            "request": told["differences"][1]["request"],
            "place": "fault",
            "recorded": {"code": 7, "message": "not today", "data": {"why": "gone"}},
        },
        {"method": "fail", "request": told["differences"][1]["request"], "place": "result", "now": "found"},
    ]
    assert told["skipped"] == {"another method": 7}
    assert set(told["median_seconds"]) == {"recorded", "now"}


def test_only_methods_that_may_run_twice_are_called(folder: Path, same: Server) -> None:
    ended = replayed(folder, "--to", same.url)
    assert ended.code == 0
    assert ended.out.splitlines()[0] == "gateway: 1 call compared: 1 same, 0 different"
    assert "gateway: 8 skipped: not known as idempotent: use --all, or --idempotent" in ended.out


def test_what_is_skipped(tmp_path: Path, same: Server) -> None:
    busy: dict[str, Any] = {"outcome": "fault", "result": UNSET}
    file = write(
        tmp_path / "a.jsonl",
        entry(stream=True, params=UNSET),
        entry(notification=True),
        entry(outcome="cancelled", result=UNSET),
        entry(params=UNSET, omitted=["params"]),
        entry(result=UNSET, omitted=["result"]),
        entry(params=[{"a": [REDACTED]}], result=1, redacted=["params[0].a[0]"]),
        entry(method="(redacted)"),
        *(entry(fault=fault(code), **busy) for code in (-32001, -32002, -32003)),
        b"{}\n",
        b"\xff\n",
        b"[" * 5000 + b"\n",
        line(entry())[:-20],
    )
    ended = replayed(file, "--to", same.url, "--all")
    assert ended.code == 1
    assert sorted(ended.out.splitlines()) == sorted(
        [
            "gateway: 0 calls compared: 0 same, 0 different",
            "gateway: 1 skipped: the outcome of a stream",
            "gateway: 1 skipped: a notification, which has no response",
            "gateway: 1 skipped: the caller has hung up",
            "gateway: 2 skipped: too large to be recorded",
            "gateway: 2 skipped: the arguments are redacted",
            "gateway: 3 skipped: the fault says that the gateway was busy, or too slow",
            "gateway: 4 skipped: a line that is not a record",
            "gateway: nothing was compared",
        ]
    )


def test_a_result_that_is_redacted_in_part_is_compared_in_part(tmp_path: Path, same: Server) -> None:
    one = entry(params=(1, 2), result=[REDACTED, 2], redacted=["result[0]"])
    ended = replayed(write(tmp_path / "a", one), "--to", same.url, "--all")
    assert (ended.code, ended.out.splitlines()[1]) == (
        0,
        "gateway: 1 call compared in part, because the results are redacted",
    )
    two = entry(params=(1, 2), result=[REDACTED, 3], redacted=["result[0]"])
    assert replayed(write(tmp_path / "a", two), "--to", same.url, "--all").code == 1


def test_of_a_crash_only_the_code_is_compared(tmp_path: Path, same: Server, logged: Logged) -> None:
    crash = entry("fail", ("crash",), outcome="fault", result=UNSET, fault=fault(-32603, data={"error_id": "a"}))
    assert replayed(write(tmp_path / "a", crash), "--to", same.url, "--all").code == 0
    assert logged.take("error ")


def test_another_protocol(tmp_path: Path, same: Server) -> None:
    natives = [b"\x00\xff", datetime(2026, 1, 2, 3, 4, 5), 2**60, 1.0, "x", None]
    file = write(
        tmp_path / "a",
        entry(params=tuple(natives), protocol="xmlrpc"),
        entry("fail", ("plain",), "xmlrpc", outcome="fault", result=UNSET, fault=fault(7, "not today [x]")),
    )
    texts = ["AP8=", "2026-01-02T03:04:05", str(2**60), 1, "x", None]
    jsons = write(tmp_path / "b", entry(params=tuple(natives), result=texts, protocol="mcp"), entry("named", {"a": 1}))
    assert replayed(file, "--to", same.url, "--all").code == 1  # the message is another one
    assert replayed(file, "--to", same.url, "--all", "--ignore", "fault.message", "--ignore", "fault.data").code == 0
    assert replayed(file, "--to", same.url, "--all", "--protocol", "jsonrpc").code == 0
    ended = replayed(jsons, "--to", f"xmlrpc+{same.url}", "--all")
    assert ended.out.splitlines()[0] == "gateway: 1 call compared: 1 same, 0 different"
    assert ended.out.splitlines()[-1] == "gateway: 1 skipped: cannot be sent in the protocol"
    assert ended.code == 0
    wrong = write(tmp_path / "c", entry(params=tuple(natives), result=["AP9=", "2026-01-02", "1", 1, "x", None]))
    assert replayed(wrong, "--to", same.url, "--all", "--protocol", "xmlrpc", "--json").out.count('"place"') == 3


def test_a_server_of_somebody_else(folder: Path) -> None:
    server = SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False, allow_none=True, use_builtin_types=True)
    server.register_function(lambda *values: list(values), "echo")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        ended = replayed(
            folder, "--to", f"http://127.0.0.1:{server.server_address[1]}/RPC2", "--all", "--protocol", "xmlrpc",
            "--method", "echo",
        )  # fmt: skip
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert ended.out.splitlines()[0] == "gateway: 2 calls compared: 2 same, 0 different"


def test_several_at_once(tmp_path: Path, same: Server) -> None:
    file = write(tmp_path / "a", *[entry("meet", (3,), result=3)] * 3)
    assert replayed(file, "--to", same.url, "--all", "--concurrency", "3", "--timeout", "20").code == 0


def test_no_more_in_a_second_than_are_asked_for(tmp_path: Path, same: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    file = write(tmp_path / "a", *[entry()] * 10)
    assert replayed(file, "--to", same.url, "--all", "--rate", "0.01").code == 0
    waits = [seconds for seconds in slept if seconds > 50]
    assert len(waits) == 9
    assert all(abs(wait - 100 * number) < 50 for number, wait in enumerate(waits, 1))


def test_a_server_that_is_not_there(folder: Path) -> None:
    ended = replayed(folder, "--to", f"http://127.0.0.1:{free_port()}/api", "--all")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("gateway: no response from http://127.0.0.1:")


@contextmanager
def closing(answers: int) -> Iterator[tuple[str, list[int]]]:
    """Answer so many requests with [1], and close all other connections; yield the URL, and what was accepted."""
    accepted: list[int] = []
    body = b'{"jsonrpc":"2.0","result":[1],"id":1}'
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    accepted.append(1)
                    with connection:
                        connection.recv(65536)
                        if len(accepted) <= answers:
                            connection.sendall(
                                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 37\r\n\r\n" + body
                            )

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/", accepted
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_call_without_a_response_is_not_the_same(tmp_path: Path) -> None:
    file = write(tmp_path / "a", *[entry()] * 3)
    with closing(1) as (url, accepted):
        ended = replayed(file, "--to", url, "--all")
    assert ended.code == 1
    assert "gateway: 1 call compared: 1 same, 0 different; 2 without a response" in ended.out
    assert ended.out.count("it closed the connection") + ended.out.count("no response from") == 2
    assert len(accepted) == 3  # none is sent twice


def test_a_server_that_never_responds_is_given_up(tmp_path: Path) -> None:
    file = write(tmp_path / "a", *[entry()] * 30)
    with closing(0) as (url, accepted):
        ended = replayed(file, "--to", url, "--all")
    assert (ended.code, ended.out, len(accepted)) == (1, "", 5)
    assert "no response from" in ended.err


def test_numbers_of_any_size_are_compared(tmp_path: Path, same: Server) -> None:
    for now, then, tolerance, code in (
        (1.5, 10**400, "1e-9", 1),
        (10**400, 10**400 + 1, "1e-9", 0),
        (10**400, 10**400 + 1, "0", 1),
        (1, 1.0, "0", 0),
        (1, True, "0", 1),
        (1e-10, 0, "1e-9", 0),
        (1e300, 1e300 * (1 + 1e-10), "1e-9", 0),
        (1e300, 1.1e300, "1e-9", 1),
    ):
        file = write(tmp_path / "a", entry(params=(now,), result=[then]))
        ended = replayed(file, "--to", same.url, "--all", "--tolerance", tolerance)
        assert (ended.code, ended.err) == (code, ""), (now, then)


WRONG: dict[tuple[str, ...], str] = {
    (): "Missing option '--to'",
    ("--to", "ftp://a"): "ftp://a is not a URL to call",
    ("--to", "xmlrpc+http://127.0.0.1:1/api", "--protocol", "jsonrpc"): "--protocol: the URL says xmlrpc",
    ("--to", "http://127.0.0.1:1", "--ignore", "a"): "--ignore: expected a place like",
    ("--to", "http://127.0.0.1:1", "--any-order", "result["): "--any-order: 'result[' is not a place",
    ("--to", "http://127.0.0.1:1", "--tolerance", "-1"): "-1",
    ("--to", "http://127.0.0.1:1", "--rate", "0"): "0",
    ("--to", "http://127.0.0.1:1", "--ca", "a.pem"): "--ca and --insecure need a URL that begins with https://",
    ("--to", "http://127.0.0.1:1", "nothing-here"): "'nothing-here' does not exist",
}


@pytest.mark.parametrize(("arguments", "problem"), WRONG.items())
def test_a_wrong_command_line(arguments: tuple[str, ...], problem: str, folder: Path) -> None:
    ended = replayed(folder, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert problem in ended.err


def test_hostile_recordings_write_nothing_to_the_terminal(tmp_path: Path, same: Server) -> None:
    file = write(
        tmp_path / "a", entry("echo", ("x",), result=["\x1b[2J\n\u202e"]), entry("\x1b]0;a\x07\n", (), result=1)
    )
    ended = replayed(file, "--to", same.url, "--all")
    assert ended.code == 1
    assert all(c.isprintable() or c == "\n" for c in ended.out)
    assert len(ended.out.splitlines()) == 7


def test_files_of_many_processes_are_read_in_turn_and_few_of_them_at_once(tmp_path: Path) -> None:
    def begun(second: int) -> Entry:
        call = entry()
        call.at = f"2026-11-29T10:00:{second:02}.000+00:00"
        return call

    for number in range(200):
        write(tmp_path / f"{number:03}.jsonl", begun(number % 50), begun(number % 50))
    write(tmp_path / "all.jsonl", begun(0), begun(20), begun(49))
    found, most, before = [], 0, len(list(Path("/proc/self/fd").iterdir()))
    for each in records([tmp_path]):
        assert each is not None
        found.append(each.at)
        most = max(most, len(list(Path("/proc/self/fd").iterdir())) - before)
    assert found == sorted(found)
    assert len(found) == 403
    assert most < 20


def test_values_that_are_nested_too_deep_are_no_records(tmp_path: Path, same: Server) -> None:
    nested = [
        line(entry(params=(1,))).replace(b'"params":[1]', b'"params":' + b"[" * depth + b"]" * depth)
        for depth in (300, 900, 5000)
    ]
    deep: list[Any] = []
    for _ in range(60):
        deep = [deep]
    ended = replayed(write(tmp_path / "a", *nested, entry(params=tuple(deep))), "--to", same.url, "--all")
    assert "gateway: 1 call compared: 1 same, 0 different" in ended.out
    assert "gateway: 3 skipped: " in ended.out


def test_many_differences_are_counted(tmp_path: Path, same: Server) -> None:
    file = write(tmp_path / "a", entry("echo", (list(range(30)),), result=[[-1] * 30]))
    assert "and 10 differences more" in replayed(file, "--to", same.url, "--all").out
