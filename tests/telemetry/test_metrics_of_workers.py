"""/metrics of processes: the command, programs, and workers that share a directory, some of which are killed."""

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from gateway.telemetry.metrics import FAMILIES, forget
from tests.raw_http import Wire, post, request
from tests.scraping import scrape, until
from tests.serving import eventually
from tests.telemetry.test_metrics import JSON, ROOT, calling, get, json, post_xml, xml

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]


class Started(Struct, frozen=True):
    """A gateway in a process of its own."""

    process: subprocess.Popen[str]
    port: int
    metrics: int

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(15)


@contextmanager
def program(folder: Path, arguments: list[str], lines: int, **variables: str) -> Iterator[Started]:
    """Run a program until it has said in so many lines where it serves, and end it."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), **variables},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        said = "".join(process.stdout.readline() for _ in range(lines))
        port, metrics = (re.search(rf"http://127\.0\.0\.1:(\d+)/{path}\s", said) for path in ("api", "metrics"))
        assert port is not None, said
        yield Started(process, int(port[1]), int(metrics[1]) if metrics else 0)
    finally:
        process.kill()
        process.communicate(timeout=15)


def serve(folder: Path, *arguments: str, lines: int = 5, **variables: str) -> Any:
    return program(folder, ["-m", "gateway", "serve", "--bind", "127.0.0.1:0", *arguments], lines, **variables)


WORKER = """
import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

import prometheus_client

from gateway import Registry, app
from gateway.process import server
from gateway.process import sockets
from gateway.config import load
from gateway.model.faults import Fault
from gateway.telemetry.metrics import Metrics
from gateway.process.control import STOP

registry = Registry()
of_a_method = prometheus_client.Counter("some_of_a_method", "A metric that is not the gateway's", ["number"])


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    of_a_method.labels(a).inc()
    return a + b


@registry.register(run="inline")
def refuse(code: int) -> None:
    raise Fault(code, "no")


@registry.register
async def wait(seconds: float) -> None:
    import asyncio
    await asyncio.sleep(seconds)


@registry.register(run="inline")
def surroundings() -> list[str | None]:
    path = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return [path, prometheus_client.values.ValueClass.__name__]


metrics = partial(Metrics, directory=Path(sys.argv[1]), slot=int(sys.argv[2]))
config = load(None, {}, ["server.bind=127.0.0.1:0"])
gateway = app.build(config, registry, make_metrics=metrics)
listeners = sockets.listen(config, None)
print(*sockets.urls_of(config, listeners), "", flush=True)
loop = asyncio.new_event_loop()
ending = loop.create_future()
loop.add_signal_handler(signal.SIGTERM, ending.set_result, STOP)
loop.run_until_complete(server.run(gateway, listeners, ending))
"""


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Make the directory that workers share."""
    (tmp_path / "shelf").mkdir()
    (tmp_path / "worker.py").write_text(WORKER)
    return tmp_path / "shelf"


def worker(shelf: Path, slot: int, **variables: str) -> Any:
    return program(shelf.parent, ["worker.py", str(shelf), str(slot)], 1, **variables)


def test_the_command_says_where_the_metrics_are(tmp_path: Path) -> None:
    with serve(tmp_path, "handlers") as started:
        assert b'"result":5' in post(started.port, json("add", 2, 3)).body
        assert scrape(started.metrics).of("gateway_calls_total", method="add", outcome="ok") == 1


def test_a_program_that_serves_its_own_functions_says_it_too(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from gateway import Registry, serve\n\nregistry = Registry()\n\n\n"
        "@registry.register\ndef three() -> int:\n    return 3\n\n\nserve(registry, '127.0.0.1:0')\n"
    )
    with program(tmp_path, ["own.py"], 2) as started:
        assert b'"result":3' in post(started.port, json("three")).body
        assert scrape(started.metrics).of("gateway_calls_total", method="three") == 1


def test_without_an_address_nothing_is_counted_nor_imported(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text(
        "import sys\nfrom gateway import method\n\n\n@method\ndef loaded() -> bool:\n"
        "    return 'prometheus_client' in sys.modules\n"
    )
    for bind, answer, lines in (("", b"false", 4), ("127.0.0.1:0", b"true", 5)):
        with serve(tmp_path, "some", "--set", f"metrics.bind={bind}", lines=lines) as started:
            assert b'"result":' + answer in post(started.port, json("loaded")).body
            assert (started.metrics == 0) is (not bind)


def test_an_address_in_use_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ["-m", "gateway", "serve", "handlers", "--bind", "127.0.0.1:0", "--set", f"metrics.bind={bind}"]
        ended = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
    assert (ended.returncode, ended.stdout) == (1, "")
    problem = f"gateway: cannot listen on {bind}: address already in use; choose another address with metrics.bind"
    assert ended.stderr.splitlines()[-1] == problem


def test_whichever_worker_is_asked_tells_of_all(shelf: Path) -> None:
    with worker(shelf, 0) as first, worker(shelf, 1) as second:
        for started, calls in ((first, 3), (second, 4)):
            for _ in range(calls):
                post(started.port, json("add", 1, 2))
            get(started.port, "/nowhere")
        with calling(first.port, json("wait", 20), json("wait", 20)), calling(second.port, json("wait", 20)):
            for started in (first, second):
                numbers = until(
                    started.metrics,
                    lambda numbers: (numbers.of("gateway_calls_running"), numbers.of("gateway_calls_total")) == (3, 7),
                )
                assert numbers.of("gateway_requests_in_flight") == 3
                assert numbers.of("gateway_connections") == 3
                assert numbers.of("gateway_call_duration_seconds_count", method="add") == 7
                assert numbers.of("gateway_call_duration_seconds_bucket", method="add", le="+Inf") == 7
                assert numbers.of("gateway_received_bytes_total") == 7 * len(json("add", 1, 2))
                assert numbers.of("gateway_refusals_total", kind="path") == 2
                assert (numbers.of("gateway_workers"), numbers.of("gateway_worker_starts_total")) == (2, 2)
                assert numbers.of("gateway_build_info") == 1
                assert 0 <= time.time() - numbers.of("gateway_start_time_seconds") < 60
                assert numbers.families.keys() <= scrape_families()


def test_what_a_killed_worker_has_counted_stays_and_what_went_on_in_it_vanishes(shelf: Path) -> None:
    with worker(shelf, 0) as first:
        with worker(shelf, 1) as second:
            for _ in range(5):
                post(second.port, json("add", 1, 2))
            with calling(second.port, json("wait", 20)):
                until(first.metrics, lambda numbers: numbers.of("gateway_requests_in_flight") == 1)
                until(first.metrics, lambda numbers: numbers.of("gateway_calls_total", method="add") == 5)
                second.kill()
        forget(shelf, 1)
        numbers = scrape(first.metrics)
        assert (numbers.of("gateway_requests_in_flight"), numbers.of("gateway_workers")) == (0, 1)
        assert numbers.of("gateway_calls_total", method="add") == 5
        with worker(shelf, 1) as third:
            post(third.port, json("add", 1, 2))
            numbers = until(first.metrics, lambda numbers: numbers.of("gateway_calls_total", method="add") == 6)
            assert (numbers.of("gateway_workers"), numbers.of("gateway_worker_starts_total")) == (2, 3)
            assert numbers.of("gateway_call_duration_seconds_count", method="add") == 6


def test_a_slot_that_is_taken_over_unasked_has_nothing_of_its_last_worker_but_counts(shelf: Path) -> None:
    before = (
        "import pathlib, sys, gateway.telemetry.metrics as m\n"
        "m.Metrics(str, ('xmlrpc',), '0.0.1', pathlib.Path(sys.argv[1]), 1).update({('connections',): 5})"
    )
    subprocess.run([sys.executable, "-c", before, str(shelf)], cwd=ROOT, check=True, timeout=30)
    with worker(shelf, 0) as first:
        numbers = scrape(first.metrics)
        assert (numbers.of("gateway_build_info", version="0.0.1"), numbers.of("gateway_connections")) == (1, 5)
        with worker(shelf, 1):
            numbers = scrape(first.metrics)
    assert "0.0.1" not in numbers.labels("gateway_build_info", "version")
    assert (numbers.of("gateway_connections"), numbers.of("gateway_worker_starts_total")) == (0, 3)


def test_calls_take_no_descriptors(shelf: Path) -> None:
    with worker(shelf, 0) as started:
        scrape(started.metrics)
        opened = Path(f"/proc/{started.process.pid}/fd")
        before = len(list(opened.iterdir()))
        for code in range(5):
            post(started.port, json("refuse", code))
            post_xml(started.port, xml("add", 1, 2))
        assert scrape(started.metrics).of("gateway_calls_total") == 10
        eventually(lambda: len(list(opened.iterdir())) <= before, "descriptors are left behind")


def test_files_do_not_pile_up_and_neither_do_fault_codes(shelf: Path) -> None:
    for start in range(4):
        with worker(shelf, 0) as started:
            for code in range(start * 10 + 1, start * 10 + 11):
                post(started.port, json("refuse", code))
            numbers = scrape(started.metrics)
            files = {file.name for file in shelf.iterdir()}
        kinds = ("counter", "histogram", "gauge_livesum", "gauge_livemin", "gauge_livemax")
        assert files == {f"{kind}_0.db" for kind in kinds}
    assert numbers.of("gateway_calls_total") == 40
    assert numbers.of("gateway_calls_total", code="application") == 20
    assert len(numbers.labels("gateway_calls_total", "code")) == 21


def test_a_worker_that_leaves_writes_down_what_it_has_counted(shelf: Path) -> None:
    with worker(shelf, 0) as first:
        with worker(shelf, 1) as second:
            post(second.port, json("add", 1, 2))
            second.process.terminate()
            assert second.process.wait(15) == 0
        assert scrape(first.metrics).of("gateway_calls_total", method="add") == 1


def test_workers_killed_at_any_moment_never_break_a_scrape(shelf: Path) -> None:
    with worker(shelf, 0) as first:
        post(first.port, json("add", 1, 2))
        for delay in range(6):
            with worker(shelf, 1) as second, calling(second.port, *[json("add", 1, 2)] * 10):
                time.sleep(delay / 100)
                second.process.send_signal(signal.SIGKILL)
                assert scrape(first.metrics).of("gateway_calls_total") >= 1
                second.kill()
            scrape(first.metrics)
        with worker(shelf, 1):
            numbers = scrape(first.metrics)
            assert (numbers.of("gateway_metrics_torn_files"), numbers.of("gateway_workers")) == (0, 2)


GARBAGE = {
    "empty": b"",
    "shorter than a number": b"\1",
    "cut off": struct.pack("ii", 4096, 0) + struct.pack("i", 20),
    "longer than it is": struct.pack("ii", 2**31 - 1, 0) + bytes(100),
    "not text": struct.pack("iii4sdd", 40, 0, 4, b"\xff\xfe\xfd\xfc", 1, 1) + bytes(100),
    "no key": struct.pack("iii4sdd", 40, 0, 4, b"[1] ", 1, 1) + bytes(100),
    "noise": bytes(range(1, 256)) * 300,
    "a length below 0": struct.pack("iiii", 400, 0, -28, 0) + bytes(400),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_torn_file_is_left_out_until_its_slot_is_taken(garbage: bytes, shelf: Path) -> None:
    with worker(shelf, 0) as first:
        post(first.port, json("add", 1, 2))
        for name in ("counter_1.db", "histogram_1.db", "gauge_livesum_1.db"):
            (shelf / name).write_bytes(garbage)
        numbers = scrape(first.metrics)
        assert numbers.of("gateway_metrics_torn_files") == 3
        assert numbers.of("gateway_calls_total", method="add") == 1
        with worker(shelf, 1) as second:
            post(second.port, json("add", 1, 2))
            numbers = until(first.metrics, lambda numbers: numbers.of("gateway_calls_total", method="add") == 2)
            assert numbers.of("gateway_metrics_torn_files") == 0
            assert numbers.of("gateway_workers") == 2


def test_metrics_of_methods_and_of_the_gateway_do_not_mix(shelf: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for variables, name in (({}, "MutexValue"), ({"PROMETHEUS_MULTIPROC_DIR": str(own)}, "MmapedValue")):
        with worker(shelf, 0, **variables) as started:
            post(started.port, json("add", 1, 2))
            answer = msgspec.json.decode(post(started.port, json("surroundings")).body)["result"]
            assert answer == [variables.get("PROMETHEUS_MULTIPROC_DIR"), name]
            assert "some_of_a_method" not in scrape(started.metrics).text
    assert not [file for file in own.iterdir() if b"gateway_" in file.read_bytes()]
    assert b"some_of_a_method" in b"".join(file.read_bytes() for file in own.iterdir())


LONG = "m" * 60
MANY = "\n\n".join(
    f"@registry.register(run='inline')\ndef {LONG}{number}() -> int:\n    return {number}" for number in range(100)
)


def with_many_methods(folder: Path, before: str = "") -> None:
    """Let the worker have so many methods that its files must grow."""
    text = WORKER.replace("metrics = partial", f"{MANY}\n\n\nmetrics = partial")
    (folder / "worker.py").write_text(before + text)


def call_many(port: int) -> None:
    for number in range(100):
        assert f'"result":{number}'.encode() in post(port, json(f"{LONG}{number}")).body


def test_files_are_never_sparse_also_when_they_grow(shelf: Path, tmp_path: Path) -> None:
    """Writing to a block that is not allocated is a SIGBUS where the file system is full."""
    with_many_methods(tmp_path)
    with worker(shelf, 0) as started:
        assert sparse(shelf) == []
        call_many(started.port)
        until(started.metrics, lambda numbers: numbers.of("gateway_calls_total") == 100)
        assert (shelf / "histogram_0.db").stat().st_size > 1 << 16
        assert sparse(shelf) == []


def sparse(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if file.stat().st_blocks * 512 < file.stat().st_size]


@pytest.mark.parametrize("kib", [32, 96])
def test_a_worker_without_space_for_its_metrics_serves(kib: int, shelf: Path, tmp_path: Path) -> None:
    """With 32 KiB it cannot make its files, with 96 KiB they cannot grow."""
    with_many_methods(tmp_path, f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({kib << 10},) * 2)\n")
    with worker(shelf, 0, PYTHONDONTWRITEBYTECODE="1") as started:
        for _ in range(2):
            call_many(started.port)
        assert "gateway_metrics_torn_files" in scrape(started.metrics).text
    log = (tmp_path / "log").read_text()
    assert log.count("file too large; this worker serves without them") == 1
    assert "Traceback" not in log


HANDLERS = """
import os

from gateway import method


@method(run="inline")
def process() -> int:
    return os.getpid()


@method
async def wait(seconds: float) -> None:
    import asyncio
    await asyncio.sleep(seconds)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project with handlers, a configuration that can change, and a place for temporary files."""
    for name in ("handlers", "conf", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "handlers" / "__init__.py").touch()
    (tmp_path / "handlers" / "some.py").write_text(HANDLERS)
    return tmp_path


def configure(project: Path, bind: str) -> None:
    (project / "conf" / "gateway.toml").write_text(f'[server]\nworkers = 2\n[metrics]\nbind = "{bind}"\n')


def fleet(project: Path, bind: str = "127.0.0.1:0") -> Any:
    configure(project, bind)
    return serve(project, TMPDIR=str(project / "tmp"))


def log_of(project: Path) -> str:
    return (project / "log").read_text()


def processes(port: int) -> set[int]:
    """Ask for process ids until two workers have answered."""
    found: set[int] = set()
    end = time.monotonic() + 20
    while len(found) < 2:
        assert time.monotonic() < end, f"only {found} answer"
        found.add(msgspec.json.decode(post(port, json("process")).body)["result"])
    return found


def test_a_worker_that_is_killed_under_its_parent_leaves_its_counts_and_nothing_else(project: Path) -> None:
    with fleet(project) as running, Wire(running.port) as wire:
        for _ in range(3):
            wire.send(request("/api", JSON, json("process")))
            response = wire.read()
        assert response is not None
        victim = msgspec.json.decode(response.body)["result"]
        wire.send(request("/api", JSON, json("wait", 20)))
        numbers = until(running.metrics, lambda numbers: numbers.of("gateway_requests_in_flight") == 1)
        assert (numbers.of("gateway_calls_total"), numbers.of("gateway_workers")) == (3, 2)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{victim}").exists(), "it does not die")
        numbers = until(running.metrics, lambda numbers: numbers.of("gateway_worker_starts_total") == 3)
        assert (numbers.of("gateway_calls_total"), numbers.of("gateway_metrics_torn_files")) == (3, 0)
        assert (numbers.of("gateway_requests_in_flight"), numbers.of("gateway_connections")) == (0, 0)
        until(running.metrics, lambda numbers: numbers.of("gateway_workers") == 2)
        assert victim not in processes(running.port)


def test_a_reload_goes_on_counting_at_the_same_address(project: Path) -> None:
    with fleet(project) as running:
        post(running.port, json("process"))
        for starts in (4, 6, 8):
            running.process.send_signal(signal.SIGHUP)
            eventually(partial(has_started, running.metrics, starts), "it does not reload")
            numbers = until(running.metrics, lambda numbers: numbers.of("gateway_workers") == 2)
            assert numbers.of("gateway_calls_total", method="process") == 1
        (directory,) = (project / "tmp").iterdir()
        assert {file.stem.rpartition("_")[2] for file in directory.iterdir()} <= {"0", "1", "2", "3"}


def has_started(port: int, workers: int) -> bool:
    return scrape(port).of("gateway_worker_starts_total") == workers


def test_the_address_can_change_with_a_reload_and_be_given_up(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        with fleet(project) as running:
            configure(project, f"127.0.0.1:{busy}")
            running.process.send_signal(signal.SIGHUP)
            eventually(lambda: f"cannot listen on 127.0.0.1:{busy}" in log_of(project), "it is not told")
            assert scrape(running.metrics).of("gateway_workers") == 2
            taken.close()
            running.process.send_signal(signal.SIGHUP)
            eventually(lambda: "reloaded; workers: 2" in log_of(project), "it is not reloaded")
            until(busy, lambda numbers: numbers.of("gateway_workers") == 2)
            eventually(lambda: not listens(running.metrics), "the old address is kept")
            configure(project, "")
            running.process.send_signal(signal.SIGHUP)
            eventually(lambda: not listens(busy), "the address is not given up")
            assert processes(running.port)


def listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def test_the_directory_goes_with_the_parent(project: Path) -> None:
    with fleet(project) as running:
        (directory,) = (project / "tmp").iterdir()
        assert directory.stat().st_mode & 0o777 == 0o700
        running.process.terminate()
        assert running.process.wait(20) == 0
    assert not list((project / "tmp").iterdir())
    (project / "handlers" / "some.py").write_text("import nothing_of_this_name")
    command = [sys.executable, "-m", "gateway", "serve", "--bind", "127.0.0.1:0"]
    environment = {**os.environ, "TMPDIR": str(project / "tmp")}
    ended = subprocess.run(command, cwd=project, env=environment, capture_output=True, timeout=30, check=False)
    assert (ended.returncode, b"nothing_of_this_name" in ended.stderr) == (1, True)
    assert not list((project / "tmp").iterdir())


def test_what_a_killed_gateway_has_left_goes_and_what_a_living_one_has_stays(project: Path) -> None:
    def age(directory: Path) -> Path:
        os.utime(directory, (1, 1))
        return directory

    folder = project / "tmp"
    with fleet(project) as killed:
        (left,) = folder.iterdir()
        workers = processes(killed.port)
        os.kill(killed.process.pid, signal.SIGKILL)
        eventually(lambda: not [each for each in workers if Path(f"/proc/{each}").exists()], "its workers go on")
    age(left)
    with fleet(project):
        (living,) = folder.iterdir()
        assert living != left
        age(living)
        recent, other = folder / "gateway-metrics-recent", folder / "gateway-metrics-file"
        recent.mkdir()
        other.touch()
        age(other)
        with fleet(project):
            assert {living, recent, other} < set(folder.iterdir())


def test_a_directory_that_vanishes_keeps_no_worker_from_starting_and_is_made_again_at_a_reload(project: Path) -> None:
    with fleet(project) as running:
        (directory,) = (project / "tmp").iterdir()
        shutil.rmtree(directory)
        victim = processes(running.port).pop()
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: "this worker serves without them" in log_of(project), "it is not told")
        eventually(lambda: victim not in processes(running.port), "it is not replaced")
        running.process.send_signal(signal.SIGHUP)
        until(running.metrics, lambda numbers: numbers.of("gateway_workers") == 2)
        assert list((project / "tmp").iterdir())


def test_no_place_for_a_directory_is_told_and_the_gateway_serves(project: Path) -> None:
    program_text = (
        "import tempfile\nfrom gateway.process.prefork import Source, serve_modules\n"
        "tempfile.tempdir = '/dev/null/nowhere'\n"
        "def ready(urls, *_):\n    print(*urls[:2], '', flush=True)\n"
        "serve_modules(Source(file=None, settings=('server.bind=127.0.0.1:0',), modules=('handlers',)), ready)\n"
    )
    (project / "program.py").write_text(program_text)
    with program(project, ["program.py"], 1) as started:
        assert b'"result"' in post(started.port, json("process")).body
        assert scrape(started.metrics).of("gateway_workers") == 1
    assert "the directory for the metrics cannot be made: not a directory; set TMPDIR to another one" in log_of(project)


def scrape_families() -> set[str]:
    return {f"gateway_{name}" for name in FAMILIES} | {"gateway_metrics_torn_files"}
