"""Recordings of calls that came over a socket, in both protocols: what is in them, what is not, and what goes wrong."""

import asyncio
import gzip
import json
import threading
import time
import urllib.request
import xmlrpc.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gateway import Fault, Registry
from gateway.client import AsyncClient
from gateway.core.access import make_key
from gateway.telemetry import recording
from gateway.telemetry.recording.entry import Entry, read
from gateway.telemetry.recording.files import Files
from tests.conftest import Logged
from tests.raw_http import exchange, request
from tests.scraping import scrape
from tests.serving import Server, eventually, serving

KEY, STORED = make_key()
JSON = {"Content-Type": "application/json"}
registry = Registry()


@registry.register(run="inline")
def echo(*values: Any) -> list[Any]:
    return list(values)


@registry.register
def sort(values: list[Any]) -> list[Any]:
    values.sort()
    return values


@registry.register
async def named(**values: Any) -> dict[str, Any]:
    return values


@registry.register
def login(user: str, password: str) -> dict[str, str]:
    if user == "nobody":
        raise Fault(7, f"wrong password: {password}", {"given": password})
    return {"user": user, "token": "t0ken-of-the-result", "said": f"{user}:{password}"}


@registry.register
async def hang() -> None:
    await asyncio.Event().wait()


@registry.register
def crash() -> None:
    raise RuntimeError("inside")


@registry.register
async def count(until: int) -> Any:
    for number in range(until):
        yield number


@contextmanager
def recorded(folder: Path, **options: Any) -> Iterator[Server]:
    given = {name.replace("_", ".", 1).replace("__", "_"): value for name, value in options.items()}
    settings = {"record.methods": "*", "record.folder": folder, **given}
    with serving(registry, settings) as server:
        yield server


def entries(folder: Path) -> list[Entry]:
    lines = [line for path in folder.iterdir() for line in path.read_bytes().splitlines(keepends=True)]
    assert all(line.endswith(b"\n") for line in lines)
    return sorted(map(read, lines), key=lambda entry: (entry.at, entry.id, entry.position or 0))


def dropped(server: Server, reason: str) -> float:
    return scrape(server.metrics).of("gateway_records_dropped_total", reason=reason)


def code_of(entry: Entry) -> Any:
    assert entry.fault is not None
    return entry.fault.code


def call(server: Server, method: str, params: Any, headers: Mapping[str, str] = {}, **more: Any) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1, **more}).encode()
    return exchange(server.port, request("/api", {**JSON, **headers}, body))


def test_nothing_is_recorded_by_default(tmp_path: Path) -> None:
    with serving(registry, {"record.folder": tmp_path / "a"}) as server:
        assert server.gateway.rpc.recorder is None
        call(server, "echo", [1])
    assert not list(tmp_path.iterdir())


def test_values_of_both_protocols_come_back_as_they_were(tmp_path: Path) -> None:
    given: list[Any] = [None, True, -5, 2**40, 2.0, "ä<\n", [[], {}], {"$int": 1, "a b": [1.5]}]
    natives: list[Any] = [b"\x00\xff", datetime(2026, 1, 2, 3, 4, 5), -(2**63)]
    with recorded(tmp_path) as server:
        call(server, "echo", [*given, 2**70, -0.0])
        call(server, "named", {"a": given, "self": 1})
        with xmlrpc.client.ServerProxy(server.url, allow_none=True, use_builtin_types=True) as proxy:
            proxy.echo(*given[:3], *given[4:])
            proxy.echo(*natives[:2])
        body = xmlrpc.client.dumps((5,), "echo").replace("<int>5</int>", "<i8>-9223372036854775808</i8>")
        exchange(server.port, request("/api", {"Content-Type": "text/xml"}, body.encode()))
    first, second, third, fourth, fifth = entries(tmp_path)
    assert repr(first.params) == repr(first.result) == repr([*given, 2**70, -0.0])
    assert (second.params, second.result) == ({"a": given, "self": 1},) * 2
    assert repr(third.params) == repr(third.result) == repr([*given[:3], *given[4:]])
    assert fourth.params == fourth.result == natives[:2]
    assert fifth.params == fifth.result == natives[2:]
    assert [each.protocol for each in (first, second, third, fourth, fifth)] == ["jsonrpc"] * 2 + ["xmlrpc"] * 3
    assert {each.outcome for each in (first, second, third, fourth, fifth)} == {"result"}


def test_the_short_way_and_the_full_way_record_the_same(tmp_path: Path, logged: Logged) -> None:
    calls: dict[str, list[Any]] = {"echo": [1, "a"], "sort": [[3, 1, 2]], "login": ["nobody", "abcdef"], "crash": []}
    with recorded(tmp_path) as server:
        for method, params in calls.items():
            body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()
            exchange(server.port, request("/api", {**JSON, "X-Request-ID": f"{method}-1"}, body))
            packed = {**JSON, "X-Request-ID": f"{method}-2", "Content-Encoding": "gzip"}
            exchange(server.port, request("/api", packed, gzip.compress(body)))
    assert len(logged.take("RuntimeError: inside")) == 2
    found: dict[str, list[Entry]] = {}
    for each in entries(tmp_path):
        found.setdefault(each.method, []).append(each)
        assert 0 < each.seconds < 10
        assert abs(datetime.fromisoformat(each.at).timestamp() - time.time()) < 60
        each.at, each.seconds, each.id = "", 0.0, each.id[:-2]
        if each.method == "crash":
            assert code_of(each) == -32603
            assert each.fault is not None
            assert set(each.fault.data) == {"error_id"}
            each.fault = None
    assert {len(each) for each in found.values()} == {2}
    assert all(one == other for one, other in found.values())
    assert (found["sort"][0].params, found["sort"][0].result) == ([[3, 1, 2]], [1, 2, 3])  # before the method sorted it


def test_a_record_for_each_call_of_a_batch_and_of_a_multicall(tmp_path: Path, logged: Logged) -> None:
    calls = [
        {"jsonrpc": "2.0", "method": "echo", "params": [1], "id": 1},
        {"jsonrpc": "2.0", "method": "named", "params": {"a": 1}},
        {"jsonrpc": "2.0", "method": "none", "id": 2},
        5,
        {"jsonrpc": "2.0", "method": "echo", "params": [2], "id": 3},
    ]
    with recorded(tmp_path) as server:
        exchange(server.port, request("/api", {**JSON, "X-Request-ID": "batch"}, json.dumps(calls).encode()))
        with xmlrpc.client.ServerProxy(server.url) as proxy:
            multi: Any = xmlrpc.client.MultiCall(proxy)
            multi.echo(b"3")
            multi.login("nobody", "abcdef")
            with pytest.raises(xmlrpc.client.Fault):
                list(iter(multi()))
    found = [(each.protocol, each.method, each.position, each.outcome) for each in entries(tmp_path)]
    assert found == [
        ("jsonrpc", "echo", 0, "result"),
        ("jsonrpc", "named", 1, "result"),
        ("jsonrpc", "none", 2, "fault"),
        ("jsonrpc", "echo", 4, "result"),
        ("xmlrpc", "echo", 0, "result"),
        ("xmlrpc", "login", 1, "fault"),
    ]
    first, notification, missing, *_, echoed, failed = entries(tmp_path)
    assert [first.id, notification.notification, first.notification] == ["batch", True, False]
    assert (missing.params, code_of(missing)) == ([], -32601)
    assert echoed.result == [b"3"]
    assert code_of(failed) == 7


SECRETS = (b"hunter2", b"t0ken-of-the-result", b"s3cr3t", b"eyJhbGciOiJIUzI1NiJ9", b"p4th", KEY.encode(), b"MIIEvQIB")


def test_no_secret_is_in_any_byte_of_the_folder(tmp_path: Path) -> None:
    options = {"record_redact": "params.user.code,named:result.*.code,echo:params[0]"}
    keys = {"access_keys": json.dumps({"odoo": STORED}), "access_anonymous": "true"}
    with recorded(tmp_path, **options, **keys) as server:
        call(server, "login", ["ann", "hunter2"], {"Authorization": f"Bearer {KEY}"})
        call(server, "login", {"user": "nobody", "password": "hunter2"})
        call(server, "named", {"user": {"code": "p4th", "n": 1}, "x": {"api_key": ["s3cr3t"]}})
        call(server, "echo", ["p4th", 5])
        call(server, "echo", [1, "a eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x", KEY], {"X-Request-ID": "with.s3cr3t"})
        call(server, "named", {"secret": "s3cr3t", "again": "s3cr3t"}, {"X-Request-ID": "with.s3cr3t"})
        call(server, "hunter2", [{"password": "hunter2"}])
        with xmlrpc.client.ServerProxy(server.url) as proxy:
            proxy.login("bob", "hunter2")
            proxy.echo({}, b"-----BEGIN PRIVATE KEY-----\nMIIEvQIB")
            with pytest.raises(xmlrpc.client.Fault):
                proxy.login("nobody", "hunter2")
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    left = [secret for secret in SECRETS if secret in written.replace(b'"method":"hunter2"', b"")]
    assert left == [b"s3cr3t"]  # as the request id of a call that says nowhere that it is one
    assert written.count(b"s3cr3t") == 1
    first, second, third, *_ = entries(tmp_path)
    assert (first.caller, second.caller) == ("odoo", "")
    assert first.redacted == ["params[1]", "result.token", "result.said"]
    assert second.redacted == ["params.password", "fault.message", "fault.data.given"]
    assert code_of(second) == 7
    assert third.redacted == ["params.user.code", "params.x.api_key", "result.user.code", "result.x.api_key"]
    assert b'"n":1' in written


def test_secrets_can_be_recorded_on_purpose(tmp_path: Path) -> None:
    with recorded(tmp_path, record_redact__secrets="false") as server:
        call(server, "login", ["ann", "hunter2"])
    (entry,) = entries(tmp_path)
    assert (entry.params, entry.redacted) == (["ann", "hunter2"], [])


def test_only_chosen_methods_are_recorded_and_only_a_share(tmp_path: Path) -> None:
    with recorded(tmp_path, record_methods="ec*,login", record_share="0.5") as server:
        for number in range(100):
            call(server, "echo", [number])
        for _ in range(20):
            call(server, "sort", [[1]])
    found = entries(tmp_path)
    assert {each.method for each in found} == {"echo"}
    assert 20 < len(found) < 80


def test_a_call_whose_caller_hangs_up_and_one_that_takes_too_long(tmp_path: Path) -> None:
    with recorded(tmp_path) as server:
        call(server, "hang", [], {"X-Request-Timeout": "0.05"})

        async def give_up() -> None:
            async with AsyncClient(server.url) as client:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.hang(), 0.1)

        asyncio.run(give_up())
        eventually(lambda: not server.gateway.running(), "the call ends")
    late, cancelled = entries(tmp_path)
    assert (late.outcome, code_of(late)) == ("fault", -32001)
    assert (cancelled.outcome, cancelled.params) == ("cancelled", [])


def test_of_streams_only_the_outcome_is_recorded(tmp_path: Path) -> None:
    with recorded(tmp_path, websocket_enabled="true") as server:
        body = json.dumps({"jsonrpc": "2.0", "method": "count", "params": [3], "id": 1}).encode()
        asked = urllib.request.Request(server.url, body, {**JSON, "Accept": "text/event-stream"})
        with urllib.request.urlopen(asked) as response:
            assert response.read().count(b"data: ") == 4

        async def subscribe() -> list[int]:
            async with AsyncClient(f"ws://127.0.0.1:{server.port}/ws") as client:
                assert await client.call("echo", 1) == [1]
                async with client.subscribe("count", 2) as values:
                    return [value async for value in values]

        assert asyncio.run(subscribe()) == [0, 1]
        call(server, "count", [2])
    events, echoed, subscribed, collected = entries(tmp_path)
    assert (events.method, events.stream, events.outcome) == ("count", True, "result")
    assert (subscribed.method, subscribed.stream, subscribed.outcome) == ("count", True, "result")
    assert b'"params"' not in b"".join(
        line for path in tmp_path.iterdir() for line in path.read_bytes().splitlines() if b'"stream":true' in line
    )
    assert (echoed.method, echoed.result) == ("echo", [1])
    assert (collected.params, collected.result, collected.stream) == ([2], [0, 1], False)


def test_what_agents_call_is_recorded_with_its_values(tmp_path: Path) -> None:
    with recorded(tmp_path, mcp_expose="echo,login", mcp_read__only="echo") as server:
        tools: dict[str, Any] = {"echo": {"values": [1, "2"]}, "login": {"user": "nobody", "password": "hunter2"}}
        for name, arguments in tools.items():
            params = {"name": name, "arguments": arguments}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            head = {**JSON, "Accept": "application/json, text/event-stream"}
            exchange(server.port, request("/mcp", head, json.dumps(message).encode()))
    echoed, failed = entries(tmp_path)
    assert (echoed.protocol, echoed.params, echoed.result, echoed.idempotent) == ("mcp", [1, "2"], [1, "2"], True)
    assert (failed.outcome, code_of(failed), failed.idempotent) == ("fault", 7, False)


@pytest.mark.parametrize("name", ['a"b\n{"v":1}\r\n', "<&>]]>", "\u2028\u0000ä", "../../etc/hosts", "n" * 200])
def test_hostile_names_stay_on_their_line(name: str, tmp_path: Path) -> None:
    with recorded(tmp_path) as server:
        call(server, name, [name])
        call(server, "named", {name: name})
    assert [(each.method, each.params) for each in entries(tmp_path)] == [(name, [name]), ("named", {name: name})]


def test_what_is_nested_as_deep_as_can_be_is_recorded(tmp_path: Path) -> None:
    arrays: list[Any] = []
    objects: dict[str, Any] = {"password": "hunter2"}
    for _ in range(195):
        arrays, objects = [arrays], {"a": objects}
    with recorded(tmp_path, limits_max__depth="200") as server:
        call(server, "echo", arrays)
        call(server, "named", objects)
    first, second = entries(tmp_path)
    assert first.params == first.result == arrays
    assert second.redacted == [f"params{'.a' * 195}.password", f"result{'.a' * 195}.password"]
    assert b"hunter2" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_what_is_too_large_is_left_out(tmp_path: Path) -> None:
    with recorded(tmp_path, record_max__record="2000") as server:
        call(server, "n" * 201, [])
        call(server, "echo", ["x" * 900])
        call(server, "echo", ["x" * 700_000])
        call(server, "sort", [[5] * 3000])
        call(server, "named", {"a": "\u0000" * 1000, "password": "p"})
        call(server, "login", ["nobody", "p" * 1100])
        call(server, "named", {f"p{n}." * 20: {"token": n} for n in range(20)})
    found = entries(tmp_path)
    assert [(each.method, each.omitted) for each in found] == [
        ("echo", []),
        ("echo", ["result", "params"]),
        ("sort", ["params", "result"]),
        ("named", ["result", "params"]),
        ("login", []),
        ("named", ["result", "params"]),
    ]
    for path in tmp_path.iterdir():
        assert max(map(len, path.read_bytes().splitlines())) <= 2000


def test_a_folder_that_cannot_be_written_is_told_once_and_no_call_fails(tmp_path: Path, logged: Logged) -> None:
    (tmp_path / "file").touch()
    with recorded(tmp_path / "file") as server:
        for number in range(3):
            assert b"result" in call(server, "echo", [number]).body
            time.sleep(0.15)
        eventually(lambda: dropped(server, "disk") == 3, "3 dropped")
        assert scrape(server.metrics).of("gateway_records_total") == 0
        (tmp_path / "file").unlink()
        call(server, "echo", [4])
        eventually(lambda: scrape(server.metrics).of("gateway_records_total") == 1, "one is written")
    (line,) = logged.take("record.folder")
    assert line.endswith(f"record.folder: {tmp_path}/file cannot be written: not a directory; calls are dropped")
    assert [each.params for each in entries(tmp_path / "file")] == [[4]]


def test_a_slow_disk_delays_no_call_and_not_the_end(
    tmp_path: Path, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on, write = threading.Event(), Files.write

    def slowly(self: Files, lines: Any) -> None:
        going_on.wait()
        write(self, lines)

    monkeypatch.setattr(Files, "write", slowly)
    monkeypatch.setattr(recording, "_MOST_HELD", 5000)
    monkeypatch.setattr(recording, "_PATIENCE", 0.05)
    with recorded(tmp_path) as server:
        call(server, "echo", ["first"])
        recorder = server.gateway.recorder
        assert recorder is not None
        eventually(lambda: not recorder._waiting, "the first one is being written")
        for number in range(10):
            assert call(server, "echo", [number]).status == 200
        eventually(lambda: dropped(server, "slow") == 6, "6 dropped")
    (line,) = logged.take("record.share")
    assert line.endswith(f"calls come faster than {tmp_path} takes records; some are dropped: lower record.share")
    going_on.set()
    eventually(lambda: not recorder.is_writing(), "it ends")
    assert [each.params for each in entries(tmp_path)] == [["first"], [0], [1], [2], [3]]


def test_a_bug_loses_one_record_and_says_so(tmp_path: Path, logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    with recorded(tmp_path) as server:
        recorder = server.gateway.recorder
        assert recorder is not None
        fitting = recorder._fitting
        monkeypatch.setattr(recorder, "_fitting", lambda *args: 1 / 0 if args[0].method == "sort" else fitting(*args))
        call(server, "sort", [[1]])
        call(server, "echo", [1])
    assert len(logged.take("a call cannot be recorded, which is a bug")) == 1
    assert [each.method for each in entries(tmp_path)] == ["echo"]
    assert recorder.counted() == {"failed": 1, "written": 1} or recorder.counted() == {}
