"""The comparison of benchmarks/concurrency, small: real servers, the real Locust, a report with pictures."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.concurrency.contenders import CONTENDERS, Contender
from benchmarks.concurrency.driving import CannotStart, Pace, drive
from benchmarks.concurrency.figures import figures, most_at_once
from benchmarks.concurrency.processes import family, sampled, started, used
from benchmarks.concurrency.results import Results, read

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

ROOT = Path(__file__).parent.parent
COMPARE = [sys.executable, "-m", "benchmarks.concurrency"]
SERVERS = (
    "threading-backlog",
    "uwsgi-8",
    "tornado-blocking",
    "gateway-threads",
    "gateway-async",
    "gateway-nginx",
)
SMALL_ONES = {"uwsgi-8": 8, "tornado-blocking": 1}  # which cannot take 20 calls at once
SMALL = ["--users", "20", "--call-seconds", "0.2", "--patience", "50", "--many", "50"]


class Compared(msgspec.Struct, frozen=True):
    """A small comparison: what it said, what it found, and where its report is."""

    said: str
    results: Results
    folder: Path


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """Compare one server of each family, started with few descriptors."""
    folder = tmp_path_factory.mktemp("report") / "new"
    command = [*COMPARE, *SMALL, "--servers", *SERVERS, "--output", str(folder)]
    done = subprocess.run(
        ["/bin/bash", "-c", 'ulimit -Sn 256; exec "$@"', "bash", *command],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Compared(done.stderr, read(folder / "results.json"), folder)


def test_one_server_of_each_family_is_taken() -> None:
    families = {contender.key: contender.family for contender in CONTENDERS}
    assert {families[key] for key in SERVERS} == set(families.values())


def test_the_gateway_and_threads_carry_what_blocks_a_loop(compared: Compared) -> None:
    found = {step.server: step for step in compared.results.steps}
    assert tuple(found) == SERVERS
    for key in set(SERVERS) - SMALL_ONES.keys():
        step = found[key]
        assert step.survived
        assert step.figures.failures == {}
        assert 5 <= step.figures.at_once <= 20
        assert 0 < step.figures.calls_per_second <= step.ideal * 1.34  # four rounds may end within three
        assert step.figures.median is not None
        assert 0.2 <= step.figures.median < 2
        assert 2**20 < step.memory.idle <= step.memory.peak
    for key, most in SMALL_ONES.items():
        blocked = found[key].figures
        assert blocked.at_once <= most
        assert blocked.calls_per_second < found[key].ideal * 0.8
    assert compared.results.many is not None
    assert compared.results.many.figures.completed == 50
    assert 25 <= compared.results.many.figures.at_once <= 50
    assert compared.results.many.figures.failures == {}


def test_it_says_how_it_goes(compared: Compared) -> None:
    assert "the limit of open files is raised from 256 to" in compared.said
    assert f"{len(SERVERS)} runs of 0.9 s, about 1 minute\n" in compared.said
    names = {contender.key: contender.name for contender in CONTENDERS}
    for number, key in enumerate(SERVERS, 1):
        assert f"{number}/{len(SERVERS)}  {names[key]}: 20 users - " in compared.said


def test_the_pictures_and_the_table_name_every_server(compared: Compared) -> None:
    report = (compared.folder / "README.md").read_text()
    pictures = set(re.findall(r"\]\((\w+)\.svg\)", report))
    assert pictures == {"calls_per_second", "p95", "memory"}
    names = {contender.key: contender.name for contender in CONTENDERS if contender.key in SERVERS}
    silent = {step.server for step in compared.results.steps if step.figures.p95 is None}
    assert silent <= SMALL_ONES.keys(), "on a busy machine these complete no call in the time, and have no line"
    for picture in pictures:
        drawing = (compared.folder / f"{picture}.svg").read_text()
        drawn = {key for key, name in names.items() if f"<!-- {name}: " in drawing}
        assert drawn == names.keys() - (silent if picture == "p95" else set())
        assert (compared.folder / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    for name in names.values():
        assert f"| {name} | 20 | " in report
    for text in ("CPython", "locust", "cores", "50 right answers"):
        assert text in " ".join(report.split())


def test_the_report_is_written_again_without_measuring(compared: Compared) -> None:
    report = compared.folder / "README.md"
    before = report.read_text()
    report.unlink()
    subprocess.run([*COMPARE, "--redraw", "--output", str(compared.folder)], cwd=ROOT, check=True, timeout=60)
    assert report.read_text() == before


def test_too_few_descriptors_are_reported_first(tmp_path: Path) -> None:
    command = [*COMPARE, "--users", "2000", "--many", "0", "--output", str(tmp_path)]
    done = subprocess.run(
        ["/bin/bash", "-c", 'ulimit -n 300; exec "$@"', "bash", *command],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "need 4,500 open files, and the system's limit is 300" in done.stderr
    assert "runs" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_server_behind(tmp_path: Path, number: signal.Signals) -> None:
    command = [*COMPARE, "--servers", "gateway-threads", "--users", "20", "--many", "0", "--output", str(tmp_path)]
    comparison = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        leaders = until_started(comparison.pid, 2)
        comparison.send_signal(number)
        assert comparison.wait(30) == 128 + number
    finally:
        comparison.kill()
        comparison.wait()
    assert [family(leader) for leader in leaders] == [set(), set()]
    assert not (tmp_path / "results.json").exists()


def until_started(parent: int, number: int) -> list[int]:
    """Wait until a process has so many children, and return them."""
    for _ in range(600):
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        if len(children) >= number:
            return [int(child) for child in children]
        time.sleep(0.05)
    raise AssertionError("the server and Locust do not start")


def contender(program: str) -> Contender:
    """Make a server of a program; its port is ``port``."""
    start = "import sys, os, time\nfrom xmlrpc.server import SimpleXMLRPCServer\nport = int(sys.argv[1])\n"
    command = (sys.executable, "-c", start + program, "{port}")
    return Contender(key="odd", name="odd server", family="odd", command=command, note="")


SERVE = """
server = SimpleXMLRPCServer(("127.0.0.1", port), logRequests=False)
server.register_function(sleep, "sleep")
server.serve_forever()
"""
PACE = Pace(call_seconds=0.2, rounds=2)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("sys.exit('no licence')", "odd server does not work: it has ended; it wrote:\nno licence"),
        (f"sleep = lambda seconds: 'never'{SERVE}", "odd server: sleep(0) gives 'never' instead of 'done'"),
    ],
)
def test_a_server_that_does_not_answer_correctly_is_not_measured(program: str, message: str) -> None:
    with pytest.raises(CannotStart, match=re.escape(message)):
        drive(contender(program), 5, PACE)


def test_a_server_that_breaks_down_is_a_result() -> None:
    step = drive(contender(f"sleep = lambda seconds: os._exit(1) if seconds else 'done'{SERVE}"), 5, PACE)
    assert not step.survived
    assert step.figures.completed == 0
    assert step.figures.failures.keys() <= {"refused", "reset"}
    assert step.figures.failures["refused"] > 0


def test_faults_and_wrong_answers_are_counted() -> None:
    wrong = "sleep = lambda seconds: 'nothing' if seconds else 'done'"
    assert drive(contender(wrong + SERVE), 2, PACE).figures.failures.keys() == {"wrong"}
    faulty = "sleep = lambda seconds: 1 / 0 if seconds else 'done'"
    assert drive(contender(faulty + SERVE), 2, PACE).figures.failures.keys() == {"fault"}


@contextmanager
def program(code: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with started([sys.executable, "-c", code], tmp_path / "log") as running:
        for _ in range(200):
            if "ready" in (tmp_path / "log").read_text():
                break
            time.sleep(0.05)
        yield running


GROW = "import os, time; os.fork(); print('ready', flush=True); time.sleep(1); a = b'x' * 40_000_000; time.sleep(60)"


def test_memory_is_that_of_all_processes(tmp_path: Path) -> None:
    with program(GROW, tmp_path) as running, sampled(running) as memory:
        for _ in range(200):
            if memory.peak > memory.idle + 78_000_000:
                break
            time.sleep(0.05)
    assert 78_000_000 < memory.peak - memory.idle < 95_000_000
    assert used(running.pid) == 0


SHARED = "import os, time; a = b'x' * 40_000_000; os.fork(); print('ready', flush=True); time.sleep(60)"


def test_memory_that_processes_share_counts_once(tmp_path: Path) -> None:
    with program(SHARED, tmp_path) as running:
        assert 40_000_000 < used(running.pid) < 75_000_000


def test_a_program_that_does_not_listen_is_ended_with_its_children(tmp_path: Path) -> None:
    deaf = "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.fork() or os.setsid()"
    with program(f"{deaf}; print('ready', flush=True); time.sleep(60)", tmp_path) as running:
        assert len(family(running.pid)) == 2
    assert family(running.pid) == set()
    assert os.WIFSIGNALED(-running.returncode)


def test_figures_of_calls() -> None:
    calls = [
        *((0.0, 5.0 + part / 100, "") for part in range(20)),  # of the first round, which does not count
        *((5.2, 5.0, "") for _ in range(30)),
        *((5.2, 15.0, "TransportError('timed out')") for _ in range(2)),
        (5.2, 0.0, "TransportError('refused')"),
        (5.2, 0.0, "TransportError('HTTP 502')"),
        (5.2, 1.0, "Fault(-32003)"),
    ]
    found = figures(calls, call_seconds=5, rounds=2, lengths=2)
    assert found.completed == 50
    assert found.calls_per_second == 3.0
    assert found.failures == {"timed out": 2, "refused": 1, "other": 1, "fault": 1}
    assert (found.median, found.p99) == (5.0, 15.0)
    assert found.at_once == 25


def test_no_call_gives_no_times() -> None:
    found = figures([], call_seconds=5, rounds=2, lengths=2)
    assert (found.completed, found.calls_per_second, found.median, found.at_once) == (0, 0.0, None, 0)


@pytest.mark.parametrize(
    ("ended", "most"),
    [
        ([], 0),
        ([1, 2, 3, 4], 1),
        ([3, 3, 3], 1),  # one after the other, and held back
        ([1, 1.2, 2, 2.3, 3.1, 3.4, 4.2, 4.5], 2),
        ([1, 1, 1, 5, 5, 5, 6, 6, 6, 7, 7, 7], 3),
    ],
)
def test_a_place_gives_one_answer_in_each_call_time(ended: list[float], most: int) -> None:
    assert most_at_once(ended, 1.0, 3) == most


@settings(deadline=None)  # the first example imports matplotlib
@given(st.lists(st.floats(0, 1), max_size=15))
def test_names_in_a_picture_keep_their_distance_and_their_order(wanted: list[float]) -> None:
    from benchmarks.concurrency.pictures import spread  # late, as matplotlib takes long

    found = spread(wanted, 0.05)
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in found)
    assert all(above - below >= 0.05 - 1e-9 for below, above in pairwise(sorted(found)))
    by_height = sorted(range(len(wanted)), key=lambda index: wanted[index])
    assert [found[index] for index in by_height] == sorted(found)
