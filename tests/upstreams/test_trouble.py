"""Trouble behind the gateway, the same for every kind of upstream.

Down at the start, killed, restarted, silent, too late; and callers who hang up. In none of these does a later call get
an earlier call's answer, a call run twice, anything leak, or anything of the inside reach the caller (``Served.answer``
looks at each fault). What comes without sense or without an end is in test_garbage.py.
"""

import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Logged
from tests.raw_http import Wire, request
from tests.serving import free_port
from tests.upstreams.kinds import KINDS, TYPED, Kind
from tests.upstreams.running import Program, Served, Wires, descriptors, serve_upstream, until

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

UNAVAILABLE, DEADLINE = -32002, -32001
HURRY = "timeout = { pause = 0.3, mark = 0.3 }"


@pytest.fixture(params=(*KINDS, *TYPED), ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def program(kind: Kind) -> Iterator[Program]:
    with Program(kind) as running:
        yield running


def runs(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def assert_in_place(up: Served) -> None:
    """Make calls whose answers cannot be mistaken for others', one after the other and at once."""
    for number in range(5):
        assert up.call("add", number, 1000) == number + 1000
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: up.call("add", number, 5000), range(24))) == list(range(5000, 5024))


@pytest.mark.parametrize("named", [True, False], ids=["named", "asked"])
def test_not_running_at_the_start(kind: Kind, named: bool, tmp_path: Path, logged: Logged) -> None:
    program = Program(kind, free_port())
    with serve_upstream(kind, program.port, tmp_path, kind.named if named else "") as up:
        assert up.fault("add", 1, 2) == (UNAVAILABLE, "no")
        assert up.fault("add", 1, 2) == (UNAVAILABLE, "no")
        with program:
            until(lambda: up.offers("add"))
            assert_in_place(up)
            assert up.upstream.status.state == "up"
    assert len(logged.take("is down")) == 1


def test_killed_in_the_middle_of_a_call(kind: Kind, program: Program, tmp_path: Path, logged: Logged) -> None:
    path = tmp_path / "marks"
    with serve_upstream(kind, program.port, tmp_path) as up, ThreadPoolExecutor(1) as pool:
        until(lambda: up.offers("mark"))
        running = pool.submit(up.fault, "mark", str(path), 60)
        until(lambda: runs(path) == 1)
        program.kill()
        assert running.result(20) == (UNAVAILABLE, "maybe")
        assert up.fault("add", 1, 2) == (UNAVAILABLE, "no")
        program.start()
        assert_in_place(up)
        assert runs(path) == 1, "it has run twice"
    assert logged.take("is down")


def test_an_idempotent_call_is_sent_again_and_no_other(
    kind: Kind, program: Program, tmp_path: Path, logged: Logged
) -> None:
    for idempotent, more in ((True, "idempotent = ['m*']"), (False, "idempotent = ['add']")):
        path = tmp_path / f"marks-{idempotent}"
        with (
            Wires(program.port) as wires,
            serve_upstream(kind, wires.port, tmp_path, more) as up,
            ThreadPoolExecutor(1) as pool,
        ):
            until(lambda: up.offers("mark"))
            running = pool.submit(up.answer, "mark", str(path), 0.5)
            until(lambda: runs(path) == 1)  # noqa: B023 - likewise
            wires.cut()
            said = running.result(20)
        if idempotent:
            assert (said["result"], runs(path)) == (2, 2)
        else:
            assert (said["error"]["data"]["sent"], runs(path)) == ("maybe", 1)
    assert logged.take("is down")


def test_restarted_between_calls(kind: Kind, program: Program, tmp_path: Path) -> None:
    with serve_upstream(kind, program.port, tmp_path) as up:
        until(lambda: up.offers("add"))
        for _ in range(3):
            assert_in_place(up)
            program.kill()
            program.start()
        assert_in_place(up)


def test_silent_until_the_deadline(kind: Kind, program: Program, tmp_path: Path, logged: Logged) -> None:
    with serve_upstream(kind, program.port, tmp_path, "timeout = { subtract = 0.5 }") as up:
        until(lambda: up.offers("add"))
        assert_in_place(up)
        program.signal(signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(6) as pool:
                faults = list(pool.map(lambda number: up.fault("subtract", number, 1), range(6)))
        finally:
            program.signal(signal.SIGCONT)
        assert {code for code, _ in faults} <= {DEADLINE, UNAVAILABLE}  # its backlog may be full by then
        assert DEADLINE in {code for code, _ in faults}
        assert_in_place(up)
    logged.take("is down")
    logged.take("no connection became free")


def test_too_late(kind: Kind, program: Program, tmp_path: Path) -> None:
    with serve_upstream(kind, program.port, tmp_path, HURRY) as up:
        until(lambda: up.offers("add"))
        for _ in range(3):
            assert up.fault("pause", 0.8) == (DEADLINE, "maybe")
            assert_in_place(up)


def test_a_caller_who_hangs_up(kind: Kind, program: Program, tmp_path: Path) -> None:
    path = tmp_path / "marks"
    with serve_upstream(kind, program.port, tmp_path) as up:
        until(lambda: up.offers("mark"))
        for number in range(1, 4):
            call = {"jsonrpc": "2.0", "method": "up.mark", "params": [str(path), 0.5], "id": number}
            with Wire(up.server.port) as wire:
                wire.send(request("/api", {"Content-Type": "application/json"}, json.dumps(call).encode()))
                until(lambda: runs(path) == number)  # noqa: B023 - until is over when the loop goes on
            until(lambda: up.upstream.running == 0)
            assert_in_place(up)
        assert runs(path) == 3


def test_nothing_leaks(kind: Kind, program: Program, tmp_path: Path, logged: Logged) -> None:
    def trouble(up: Served) -> None:
        with ThreadPoolExecutor(8) as pool:
            assert {code for code, _ in pool.map(lambda _: up.fault("pause", 1), range(8))} == {DEADLINE}
        program.kill()
        assert up.fault("add", 1, 2)[0] == UNAVAILABLE
        program.start()
        assert_in_place(up)

    with serve_upstream(kind, program.port, tmp_path, HURRY) as up:
        until(lambda: up.offers("add"))
        trouble(up)
        before, threads = descriptors(), threading.active_count()
        for _ in range(4):
            trouble(up)
        most = before + up.upstream.options.connections
        until(lambda: descriptors() <= most and threading.active_count() <= threads)
        assert up.upstream.running == 0
    until(lambda: descriptors() < before)
    assert logged.take("is down")
    logged.take("no connection became free")
