"""The benchmark runs, checks its answers, and writes its table; how fast is not a matter of tests."""

import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.bridges import UPSTREAMS
from benchmarks.callers import CALLERS, measured, table
from benchmarks.load import drive, http
from benchmarks.soak.calls import KINDS
from benchmarks.soak.report import Outcome, Sample, picture, report
from benchmarks.soak.running import run

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parent.parent


def test_the_benchmark_of_bridges_writes_a_row_for_each_protocol_and_number_of_calls() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.bridges", "--rounds", "1", "--seconds", "0.05", "--objects", "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    calls, objects = run.stdout.split("\n\n")
    rows = [line.split("|")[1].strip() for line in calls.splitlines()[2:]]
    assert rows == [each.name for each in UPSTREAMS.values() for _ in (1, 64)]
    assert len(objects.splitlines()) == 2 + 5
    assert "bridges: round 1 of 1" in run.stderr


def test_the_benchmark_of_clients_writes_a_row_for_each() -> None:
    found = measured(1, 0.02)
    lines = table(found).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(CALLERS)
    assert [lines[3].split("|")[place].strip()[-1] for place in (3, 5)] == [")", ")"]


def test_a_wrong_answer_is_no_fast_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def answer_wrongly() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n4")
                connection.recv(1000)

        server = threading.Thread(target=answer_wrongly)
        server.start()
        with pytest.raises(RuntimeError, match="a wrong answer"):
            drive(listening.getsockname()[1], http("/", "text/plain", b"", b"5"), 1, 5)
        server.join()


def test_a_soak_makes_calls_of_every_kind_and_looks_at_every_process() -> None:
    outcome = run(4)
    assert outcome.wrong == []
    assert outcome.calls.keys() == KINDS.keys()
    processes = {f"{name} {role}" for name in ("steady", "reloaded") for role in ("supervisor", "worker")}
    assert outcome.samples.keys() == processes
    lines, _ = report(outcome)
    assert len(lines) == 2 * len(processes) + 1


def soaked(*samples: tuple[float, float]) -> Outcome:
    return Outcome({"worker": [Sample(memory * 1024, descriptors) for memory, descriptors in samples]}, Counter(), [])


def test_a_soak_fails_when_the_second_half_grows() -> None:
    steady = [(50.0, 20.0)] * 4
    assert report(soaked((10, 5), (20, 10), *steady, *steady))[1] == []
    assert report(soaked(*steady, (50, 20), (50, 20), (51, 20), (51, 28)))[1] == []
    problems = report(soaked(*steady, (50, 20), (50, 20), (52, 20), (52, 20)))[1]
    assert problems == ["worker: memory grows by 4.0% in the second half"]
    peaks = [(50.0, 20.0), (90.0, 20.0), (90.0, 20.0), (90.0, 20.0)]  # large results on their way are not growth
    assert report(soaked(*steady * 12, *peaks * 4))[1] == []
    problems = report(soaked(*steady, (50, 20), (50, 20), (50, 30), (50, 90)))[1]
    assert problems == ["worker: descriptors grow by 50.0% in the second half"]


def test_a_soak_fails_once_for_each_wrong_response() -> None:
    outcome = soaked((50, 20))
    outcome.wrong.extend(["XML-RPC: no", "XML-RPC: no", "JSON-RPC: no"])
    assert report(outcome)[1] == ["XML-RPC: no", "JSON-RPC: no"]


def test_a_picture_begins_at_nothing_and_ends_at_the_largest() -> None:
    assert picture([0, 1, 2, 4, 8]) == " \u2581\u2582\u2584\u2588"
    assert len(picture([1.0] * 1000)) == 60
