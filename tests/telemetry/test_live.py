"""What the console shows of now and of the last hour: over workers, with limits, and without arguments."""

import os
from typing import Any

import pytest

from gateway.model.calls import CallRecord
from gateway.model.http import Refusal
from gateway.telemetry import live as module
from gateway.telemetry.live import PERIOD, Live, LiveTable, percentile

NOW = 1_800_000_000.0
MEASURED = {"requests": 1, "running": 2, "waiting": 3, "connections": 4}


class Clock:
    """The time, which goes on when a test says so."""

    def __init__(self) -> None:
        self.now = NOW

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def record(method: str = "add", seconds: float = 0.004, outcome: Any = None, number: int = 0) -> CallRecord:
    return CallRecord(
        method=method,
        protocol="jsonrpc",
        client="192.0.2.1",
        outcome=outcome,
        bytes=10,
        request_id=f"id-{number}",
        position=None,
        seconds=seconds,
    )


def test_what_two_workers_have_seen_is_added_up(clock: Clock) -> None:
    table = LiveTable(4)
    first, second = Live(table, 0), Live(table, 2)
    first.calls([record(), record(seconds=0.1)])
    second.calls([record(), record("fail", outcome=-32603)])
    second.refusal(Refusal(kind="access", status=403, reason="", client="", request_id=""))
    for each in (first, second):
        each.write(MEASURED)
    clock.now += PERIOD
    shown = first.view()
    (row,) = shown["rows"]
    assert row[:8] == [int(NOW) // PERIOD, 4, 1, 1, 2, 4, 6, 8]
    assert row[8] == pytest.approx(4, rel=0.3)
    assert 70 < row[9] <= row[10] < 160
    assert shown["faults"] == [["fail", "-32603", 1]]
    assert [name for name, *_ in shown["methods"]] == ["add", "fail"]
    assert shown["methods"][0][1:] == [3, 0, pytest.approx(0.108)]
    assert [each["slot"] for each in shown["workers"]] == [0, 2]
    assert {each["process"] for each in shown["workers"]} == {os.getpid()}
    assert shown["slow"][0] == {
        "method": "add",
        "protocol": "jsonrpc",
        "client": "192.0.2.1",
        "id": "id-0",
        "outcome": None,
        "ms": 100.0,
        "at": NOW,
    }
    assert [each["method"] for each in shown["failing"]] == ["fail"]


def test_only_rows_that_are_new_and_complete_are_sent_and_only_those_of_an_hour(clock: Clock) -> None:
    live = Live(LiveTable(1), 0)
    for _ in range(800):
        live.calls([record()])
        live.write(MEASURED)
        clock.now += PERIOD
    live.write(MEASURED)
    last = int(clock.now) // PERIOD
    periods = [row[0] for row in live.view()["rows"]]
    assert periods == list(range(last - 719, last))
    assert [row[0] for row in live.view(last - 3)["rows"]] == [last - 2, last - 1]


def test_a_worker_that_writes_nothing_more_is_gone_but_its_rows_stay(clock: Clock) -> None:
    table = LiveTable(2)
    gone, stays = Live(table, 0), Live(table, 1)
    gone.calls([record()])
    gone.write(MEASURED)
    clock.now += 60
    stays.write(MEASURED)
    clock.now += PERIOD - 1
    shown = stays.view()
    assert [each["slot"] for each in shown["workers"]] == [1]
    assert shown["rows"][0][1] == 1


def test_what_is_being_written_is_taken_as_it_was_before(clock: Clock) -> None:
    table = LiveTable(1)
    live = Live(table, 0)
    live.write(MEASURED)
    assert len(live.view()["workers"]) == 1
    head, _ = table._text(0)
    head[0] += 1
    assert table.read(0) is None
    assert len(live.view()["workers"]) == 1
    head[0] += 1
    table.write(0, b'{"torn')
    assert len(live.view()["workers"]) == 1
    assert clock.now == NOW


def test_callers_who_invent_names_fill_nothing(clock: Clock) -> None:
    live = Live(LiveTable(1), 0)
    live.calls([record("n" * 5000 + str(number), outcome=-32601, number=number) for number in range(3000)])
    live.calls([record(f"{number}\u2028\x00", outcome=number) for number in range(3000)])
    minute = live._minute
    assert max(map(len, minute.methods)) <= 100
    assert (len(minute.methods), len(minute.faults)) == (200, 201)
    assert minute.methods["(others)"][0] == 6000 - 199
    assert minute.faults["(others)", "other"] == 6000 - 3000 - 199
    live.write(MEASURED | {"upstreams": [{"name": "x" * 1000}] * 200})
    clock.now += PERIOD
    shown = live.view()
    assert shown["rows"][0][1] == 6000
    assert len(shown["workers"]) == 1
    assert all(len(name) <= 100 for name, *_ in shown["methods"])
    assert len(shown["methods"]) <= 201


def test_names_that_callers_invent_take_no_place_of_a_method(clock: Clock) -> None:
    table = LiveTable(1)
    live = Live(table, 0)
    live.calls([record(f"invented{number}", outcome=-32601) for number in range(500)])
    live.calls([record(), record(outcome=-32601)])
    live.write(MEASURED)
    shown = live.view()
    assert [(name, count) for name, count, *_ in shown["methods"]] == [("(others)", 500), ("add", 2)]
    assert shown["faults"] == [["(others)", "-32601", 500], ["add", "-32601", 1]]


def test_a_worker_beyond_the_places_writes_nothing(clock: Clock) -> None:
    table = LiveTable(1)
    live = Live(table, 1)
    live.calls([record()])
    live.write(MEASURED)
    clock.now += PERIOD
    assert live.view()["rows"] == []


@pytest.mark.parametrize("seconds", [0.00005, 0.0004, 0.003, 0.25, 5, 50, 3600])
def test_percentiles_are_near_what_calls_took(clock: Clock, seconds: float) -> None:
    live = Live(LiveTable(1), 0)
    live.calls([record(seconds=seconds)] * 100)
    live.write(MEASURED)
    clock.now += PERIOD
    (row,) = live.view()["rows"]
    expected = 1000 * min(seconds, 128)
    assert row[8] <= row[9] <= row[10]
    assert expected / 2 <= row[9] <= expected * 2 + 0.1 or seconds > 64


def test_without_calls_there_is_no_percentile() -> None:
    assert percentile([0.0, 0.0], 0.5) is None
