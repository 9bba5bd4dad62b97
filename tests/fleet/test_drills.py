"""What becomes of calls when instances die, hang, lie and come back: real processes, and a list of what has run."""

import json
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Logged
from tests.fleet.load import Fleet, Load
from tests.raw_http import post
from tests.scraping import scrape
from tests.serving import Server
from tests.upstreams.running import until

UNAVAILABLE, LATE, BAD = -32002, -32001, -32004


def wait(load: Load, calls: int = 60) -> None:
    """Wait until so many more calls have ended."""
    before = load.count()
    until(lambda: load.count() >= before + calls)


def states(server: Server) -> set[str]:
    instances = server.gateway.upstreams[0].instances
    assert instances is not None
    return {row.state for row in instances.rows()}


def answer(server: Server, method: str, key: str) -> dict[str, object]:
    call = {"jsonrpc": "2.0", "method": f"up.{method}", "params": [key], "id": 1}
    said: dict[str, object] = json.loads(post(server.port, json.dumps(call).encode()).body)
    return said


def test_one_is_killed_and_comes_back(tmp_path: Path, logged: Logged) -> None:
    with Fleet(tmp_path, 3) as fleet, fleet.gateway() as server:
        with Load(server.port) as load:
            wait(load)
            fleet.programs[0].kill()
            wait(load)
            fleet.programs[0].start()
            until(lambda: "out" not in states(server))
            wait(load)
        load.judge(fleet.executed())
    assert not load.failed("get")
    assert set(load.failed("put")) <= {(UNAVAILABLE, "maybe")}
    assert load.failed("put").total() <= 8  # those that it had when it was killed
    logged.take("is out of service")


def test_all_but_one_are_killed_at_once(tmp_path: Path, logged: Logged) -> None:
    """They are killed one after the other, and a call may run at each of them just then: it has an attempt for each."""
    with Fleet(tmp_path, 4) as fleet, fleet.gateway("attempts = 4") as server:
        with Load(server.port) as load:
            wait(load)
            for program in fleet.programs[1:]:
                program.kill()
            wait(load)
        load.judge(fleet.executed())
    assert not load.failed("get")
    assert set(load.failed("put")) <= {(UNAVAILABLE, "maybe")}
    assert len(logged.take("is out of service")) <= 3


def test_all_are_gone_for_a_while(tmp_path: Path, logged: Logged) -> None:
    with Fleet(tmp_path, 2) as fleet, fleet.gateway() as server:
        with Load(server.port) as load:
            wait(load)
            for program in fleet.programs:
                program.kill()
            wait(load)
            for program in fleet.programs:
                program.start()
            until(lambda: "result" in answer(server, "get", "probe"))
            wait(load)
            after = dict(list(load.outcomes.items())[-30:])
        load.judge(fleet.executed())
    assert set(after.values()) == {None}
    failures = load.failed("get") + load.failed("put")
    assert failures[UNAVAILABLE, "no"] > 0
    assert set(failures) <= {(UNAVAILABLE, "no"), (UNAVAILABLE, "maybe")}
    assert logged.take("is out of service")
    assert len(logged.take("is down")) == 1


@pytest.mark.parametrize("hedge", [0.0, 0.05])
def test_one_is_stopped(hedge: float, tmp_path: Path, logged: Logged) -> None:
    with Fleet(tmp_path, 3) as fleet, fleet.gateway(f"hedge = {hedge}") as server:
        with Load(server.port, timeout=0.6) as load:
            wait(load)
            fleet.programs[0].signal(signal.SIGSTOP)
            time.sleep(0.8)  # longer than callers wait
            fleet.programs[0].signal(signal.SIGCONT)
            wait(load)
        load.judge(fleet.executed())
    assert not hedge or not load.failed("get")
    assert set(load.failed("get") + load.failed("put")) <= {(LATE, "maybe")}
    assert load.failed("put").total() <= 8
    logged.take("is out of service")


@pytest.mark.parametrize("mode", ["garbage", "reset"])
def test_one_lies(mode: str, tmp_path: Path, logged: Logged) -> None:
    with Fleet(tmp_path, 3, (mode,)) as fleet, fleet.gateway() as server:
        with Load(server.port) as load:
            wait(load, 200)
        load.judge(fleet.executed())
    assert not load.failed("get")
    assert set(load.failed("put")) <= {(BAD, "maybe"), (UNAVAILABLE, "maybe")}
    assert load.failed("put").total() <= 12
    logged.take("is out of service")
    logged.take("the response is not")


def test_one_fails_inside(tmp_path: Path) -> None:
    with Fleet(tmp_path, 3, ("failing",)) as fleet, fleet.gateway() as server:
        with Load(server.port) as load:
            wait(load, 200)
        load.judge(fleet.executed())
        assert "out" not in states(server)
    assert (load.failed("get") + load.failed("put")).total() <= 12  # what fails fast attracts no calls


@pytest.mark.parametrize(
    ("mode", "options", "get", "put"),
    [
        ("busy", "", 77, 77),
        ("busy", "retry_on = [77]", None, 77),
        ("busy", "retry_on = [77]\nretry_ratio = 0.0", 77, 77),
        ("busy", "retry_on = [77]\nattempts = 1", 77, 77),
        ("garbage", "", None, BAD),
        ("garbage", "retry_ratio = 0.0", BAD, BAD),
        ("reset", "", None, UNAVAILABLE),
        ("reset", "attempts = 1", UNAVAILABLE, UNAVAILABLE),
    ],
)
def test_what_goes_to_another_one(  # noqa: PLR0917 - a row of the table
    mode: str, options: str, get: int | None, put: int | None, tmp_path: Path, logged: Logged
) -> None:
    """By turns, so that of two calls one comes to each instance, unless it goes on."""
    with Fleet(tmp_path, 2, (mode,)) as fleet, fleet.gateway(f"balance = 'round-robin'\n{options}") as server:
        for method, expected in (("get", get), ("put", put)):
            codes = {code_of(answer(server, method, f"{method}{number}")) for number in range(2)}
            assert codes == ({None} if expected is None else {None, expected})
        executed = fleet.executed()
    assert max(count for key, count in executed.items() if key.startswith("put")) == 1
    logged.take("the response is not")


def code_of(said: dict[str, object]) -> object:
    error = said.get("error")
    return error["code"] if isinstance(error, dict) else None


def test_the_only_one_is_called_again_after_a_pause(tmp_path: Path) -> None:
    with Fleet(tmp_path, 1, ("busy",)) as fleet, fleet.gateway("retry_on = [77]") as server:
        assert code_of(answer(server, "get", "a")) == code_of(answer(server, "put", "b")) == 77
        assert fleet.executed() == {"a": 3, "b": 1}


def test_the_worst_of_all_attempts_is_told(tmp_path: Path, logged: Logged) -> None:
    with Fleet(tmp_path, 2, ("reset",)) as fleet:
        fleet.programs[1].kill()
        with fleet.gateway() as server:
            for _ in range(4):
                error = answer(server, "get", "a")["error"]
                assert isinstance(error, dict)
                assert error["data"]["sent"] == "maybe"
    logged.take("is out of service")


def test_the_faster_of_two_answers_and_writes_have_none_beside_them(tmp_path: Path) -> None:
    with Fleet(tmp_path, 2, ("0.5",)) as fleet, fleet.gateway("hedge = 0.02\nbalance = 'round-robin'") as server:
        pids = {answer(server, method, f"{method}{number}")["result"] for method in ("get",) for number in range(4)}
        assert len(pids) == 1
        assert {answer(server, "put", f"put{number}")["result"] for number in range(2)} > pids
        executed = fleet.executed()
    assert executed["put0"] == executed["put1"] == 1
    assert max(executed[f"get{number}"] for number in range(4)) == 2


@pytest.mark.parametrize("options", ["attempts = 1", "retry_ratio = 0.0"])
def test_nothing_runs_beside_a_call_that_may_have_no_other_attempt(options: str, tmp_path: Path) -> None:
    with Fleet(tmp_path, 2, ("0.2", "0.2")) as fleet, fleet.gateway(f"hedge = 0.02\n{options}") as server:
        assert "result" in answer(server, "get", "a")
        assert fleet.executed() == {"a": 1}


def test_the_line_of_a_call_names_its_instance_and_the_attempts(
    tmp_path: Path, logged: Logged, caplog: pytest.LogCaptureFixture
) -> None:
    with Fleet(tmp_path, 2) as fleet, fleet.gateway("balance = 'round-robin'") as server:
        fleet.programs[0].kill()
        with caplog.at_level("INFO", "gateway.calls"):
            answer(server, "put", "a")
            answer(server, "put", "b")
            until(lambda: sum(line.startswith("call ") for line in caplog.messages) == 2)
        port = fleet.programs[1].port
    lines = [line for line in caplog.messages if line.startswith("call ")]
    assert all(f" instance=127.0.0.1:{port} attempts=" in line for line in lines)
    assert sorted(line[-1] for line in lines) == ["1", "2"]
    assert len(logged.take("is out of service: connection refused")) == 1


def test_the_metrics_tell_of_instances_attempts_and_what_came_beside(tmp_path: Path, logged: Logged) -> None:
    with Fleet(tmp_path, 3, ("garbage",)) as fleet:
        fleet.programs[1].kill()
        with fleet.gateway("balance = 'round-robin'\nretry_ratio = 0.0") as server:
            codes = [code_of(answer(server, "put", str(number))) for number in range(6)]
            scraped = scrape(server.metrics)
    attempts = partial(scraped.of, "gateway_upstream_attempts_total", upstream="up")
    assert codes.count(BAD) == attempts(outcome="bad", sent="maybe") > 0
    assert codes.count(None) == attempts(outcome="ok", sent="yes") > 0
    assert attempts(outcome="refused", sent="no") == 1
    assert scraped.of("gateway_upstream_extra_total", upstream="up", why="refused") == 1
    assert scraped.of("gateway_upstream_duration_seconds_count", upstream="up") == codes.count(None)
    states = {
        state: scraped.of("gateway_upstream_instances", upstream="up", state=state) for state in ("listed", "out")
    }
    assert states == {"listed": 3, "out": 1}
    assert scraped.of("gateway_upstream_connections", upstream="up") >= 1
    assert scraped.of("gateway_upstream_waiting", upstream="up") == 0
    logged.take("is out of service")
    logged.take("the response is not")


def test_the_metrics_tell_when_the_budget_is_empty(tmp_path: Path) -> None:
    options = "retry_ratio = 0.0\nretry_on = [77]"
    with Fleet(tmp_path, 2, ("busy", "busy")) as fleet, fleet.gateway(options) as server:
        answer(server, "get", "a")
        scraped = scrape(server.metrics)
    assert scraped.of("gateway_upstream_budget_empty_total", upstream="up") == 1
    assert scraped.of("gateway_upstream_attempts_total", upstream="up", outcome="ok", sent="yes") == 1


def test_one_instance_is_counted_too(tmp_path: Path, logged: Logged) -> None:
    with Fleet(tmp_path, 1) as fleet, fleet.gateway() as server:
        for number in range(3):
            answer(server, "put", str(number))
        before = scrape(server.metrics)
        fleet.programs[0].kill()
        answer(server, "put", "x")
        after = scrape(server.metrics)
    attempts = partial(after.of, "gateway_upstream_attempts_total", upstream="up")
    assert before.of("gateway_upstream_attempts_total", upstream="up", outcome="ok", sent="yes") == 3
    assert before.of("gateway_upstream_duration_seconds_count", upstream="up") == 3
    assert before.of("gateway_upstream_connections", upstream="up") == 1
    assert attempts(outcome="refused", sent="no") == 2  # it was sent once more
    assert logged.take("is down")


def test_what_refuses_is_passed_eight_times(tmp_path: Path, logged: Logged) -> None:
    with Fleet(tmp_path, 10) as fleet:
        for program in fleet.programs[:-1]:
            program.kill()
        alive = f"127.0.0.1:{fleet.programs[-1].port}"
        with fleet.gateway("balance = 'round-robin'") as server:
            instances = server.gateway.upstreams[0].instances
            assert instances is not None
            seats = instances.seats
            pick, order = seats.pick, sorted(seats.all, key=lambda seat: seat.instance.address == alive)
            seats.pick = lambda now, tried=(), key=b"": next((each for each in order if each not in tried), None)  # type: ignore[method-assign]
            assert code_of(answer(server, "put", "a")) == UNAVAILABLE
            scraped = scrape(server.metrics)
            seats.pick = pick  # type: ignore[method-assign]
            assert "result" in answer(server, "put", "b")
    assert scraped.of("gateway_upstream_attempts_total", outcome="refused") == 8
    logged.take("is out of service")


def test_an_attempt_that_hangs_leaves_time_for_no_other_without_hedge(tmp_path: Path) -> None:
    with Fleet(tmp_path, 2, ("0.6", "0.6")) as fleet, fleet.gateway("timeout = { get = 0.2 }") as server:
        assert code_of(answer(server, "get", "a")) == LATE
        assert fleet.executed() == {"a": 1}
