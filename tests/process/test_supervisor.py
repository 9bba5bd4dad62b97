"""Workers under their supervisor: real processes, real signals, and callers that must not notice."""

import contextlib
import fcntl
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Self

import msgspec
import pytest
from msgspec import Struct

from tests.certificates import PAST, Authority
from tests.raw_http import Wire, post, request
from tests.scraping import until
from tests.serving import children, eventually

SERVE = (sys.executable, "-m", "gateway", "serve")
HANDLERS = """
import asyncio
import gc
import os
import time
from pathlib import Path

from gateway import method

VERSION = {version}


@method(run="inline")
def version() -> int:
    return VERSION


@method(run="inline")
def process() -> int:
    return os.getpid()


@method(run="inline")
def frozen() -> int:
    return gc.get_freeze_count()


@method(run="inline")
def crash() -> None:
    os.kill(os.getpid(), 11)


@method(run="inline")
def spin(file: str) -> None:
    Path(file).touch()
    while True:
        pass


@method
def block(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@method(timeout=60)
def wait_for(file: str) -> str:
    Path(file + ".started").touch()
    while not Path(file).exists():
        time.sleep(0.01)
    return "done"
"""


class Fleet(Struct, kw_only=True):
    """A running gateway: its parent process, its ports (0 for one that is not open), and its log so far."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int
    metrics: int
    tcp: int

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        return self.process.wait(30)


def write_handlers(folder: Path, text: str | None = None, version: int = 1) -> None:
    """Put a module into the folder; an older file's bytecode would do for a file of the same second and size."""
    file = folder / "handlers" / "some.py"
    file.parent.mkdir(exist_ok=True)
    (file.parent / "__init__.py").touch()
    file.write_text(text or HANDLERS.replace("{version}", str(version)))
    moment = time.time() + version * 10
    os.utime(file, (moment, moment))


@contextmanager
def fleet(
    folder: Path, *settings: str, workers: int | None = 2, bind: str = "127.0.0.1:0", **variables: str
) -> Iterator[Fleet]:
    (folder / "conf").mkdir(exist_ok=True)
    chosen = [f"server.bind={bind}"] if bind else []
    chosen += [f"server.workers={workers}"] if workers else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*SERVE, *(word for setting in (*chosen, *settings) for word in ("--set", setting))],
            cwd=folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables},
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    try:
        said = b"".join(process.stdout.readline() for _ in range(5)).decode()
        match = re.match(
            r"gateway: ready at https?://127\.0\.0\.1:(\d+)/.*http://127\.0\.0\.1:(\d+)/metrics", said, re.DOTALL
        )
        assert match is not None, (said, (folder / "log").read_text())
        tcp = re.search(r" and tcp://127\.0\.0\.1:(\d+)", said)
        yield Fleet(
            process=process,
            folder=folder,
            port=int(match[1]),
            metrics=int(match[2]),
            tcp=int(tcp[1]) if tcp is not None else 0,
        )
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def call(port: int, method: str, *params: object) -> object:
    """Call a method on a connection of its own."""
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
    return msgspec.json.decode(post(port, body).body)["result"]


def processes(fleet: Fleet) -> set[int]:
    """Return the workers' process ids."""
    return children(fleet.process.pid)


def alive(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


class Callers:
    """Callers that never pause, half of them on connections that they keep."""

    body = '{"jsonrpc":"2.0","method":"version","id":1}'

    def __init__(self, port: int, number: int = 4) -> None:
        self.answers: list[object] = []
        self.failures: list[str] = []
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(kept % 2 == 0,)) for kept in range(number)]

    def _call(self, keeps: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._over.is_set():
            try:
                connection.request("POST", "/api", self.body, {"Content-Type": "application/json"})
                self.answers.append(msgspec.json.decode(connection.getresponse().read())["result"])
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
                self.failures.append(repr(error))
                connection.close()
            if not keeps:
                connection.close()
        connection.close()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_handlers(tmp_path)
    return tmp_path


def test_as_many_workers_serve_as_are_asked_for(project: Path) -> None:
    with fleet(project, workers=3) as running:
        assert len(processes(running)) == 3
        assert call(running.port, "process") in processes(running)
        assert call(running.port, "frozen"), "a collection writes to what a worker shares with the supervisor"
        running.signal(signal.SIGTERM)
        assert running.end() == 0


def test_auto_is_one_worker_for_each_core(project: Path) -> None:
    (project / "conf").mkdir()
    (project / "conf" / "gateway.toml").write_text('[server]\nworkers = "auto"')
    with fleet(project, workers=None) as running:
        assert len(processes(running)) == len(os.sched_getaffinity(0))


def test_a_crashed_worker_is_replaced_and_only_its_own_calls_fail(project: Path) -> None:
    with fleet(project) as running, Callers(running.port) as callers:
        before = processes(running)
        with Wire(running.port) as wire:
            wire.send(request("/api", {"Content-Type": "application/json"}, _json("wait_for", str(project / "go"))))
            eventually((project / "go.started").exists, "the call does not run")
            victim = next(iter(before))
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: len(processes(running) - before) == 1, "the worker is not replaced")
            eventually(lambda: "was killed by signal 9" in running.log, "it is not told")
            (project / "go").touch()
            answered = wire.read()
        answers = len(callers.answers)
        eventually(lambda: len(callers.answers) > answers + 50, "callers are not served")
    assert len(callers.failures) <= len(callers._threads), "one call of each caller may have been in it"
    assert answered is None or b"done" in answered.body


def _json(method: str, *params: object) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})


def test_a_reload_takes_handlers_and_configuration_anew_and_loses_no_call(project: Path) -> None:
    with fleet(project) as running, Callers(running.port) as callers, Wire(running.port) as wire:
        before = processes(running)
        wire.send(request("/api", {"Content-Type": "application/json"}, _json("wait_for", str(project / "go"))))
        eventually((project / "go.started").exists, "the call does not run")
        for version in (2, 3):
            write_handlers(project, version=version)
            running.signal(signal.SIGHUP)
            eventually(lambda version=version: version in callers.answers[-20:], "it does not reload")  # type: ignore[misc]
        (project / "go").touch()
        response = wire.read()
        assert response is not None
        assert b"done" in response.body
        assert response.headers["connection"] == "close"
        eventually(lambda: len(processes(running)) == 2, "the old workers do not end")
        assert not processes(running) & before
    assert callers.failures == []
    assert callers.answers[0] == 1
    assert callers.answers[-1] == 3


class Line:
    """A connection over plain TCP."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.answers = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.answers.close()
        self.socket.close()

    def send(self, method: str, *params: object) -> None:
        self.socket.sendall(_json(method, *params) + b"\n")

    def read(self) -> object:
        """Return the next result; None where the connection has ended."""
        line = self.answers.readline()
        return msgspec.json.decode(line)["result"] if line else None


def test_a_reload_keeps_the_address_of_plain_tcp_and_loses_no_call(project: Path) -> None:
    def answered_now() -> object:
        with Line(running.tcp) as late:
            late.send("version")
            return late.read()

    with (
        fleet(project, "server.tcp=127.0.0.1:0") as running,
        Line(running.tcp) as busy,
        Line(running.tcp) as idle,
    ):
        before = processes(running)
        idle.send("version")
        assert idle.read() == 1
        busy.send("wait_for", str(project / "go"))
        eventually((project / "go.started").exists, "the call does not run")
        write_handlers(project, version=2)
        running.signal(signal.SIGHUP)
        eventually(lambda: [answered_now() for _ in range(10)] == [2] * 10, "it does not reload")
        idle.send("version")
        assert [idle.read(), idle.read()] == [1, None], "what is connected stays with its worker, for one more answer"
        (project / "go").touch()
        assert [busy.read(), busy.read()] == ["done", None]
        eventually(lambda: not processes(running) & before, "the old workers do not end")


@pytest.mark.parametrize(
    ("toml", "handlers", "problem"),
    [
        ("[limits]\ntimout = 5", None, "there is no option limits.timout; did you mean limits.timeout?"),
        ("", "from nowhere import nothing", "No module named 'nowhere'"),
        ("[server]\nbind = '192.0.2.1:1'", None, ""),
    ],
)
def test_a_reload_of_what_is_wrong_changes_nothing_and_says_what_is(
    toml: str, handlers: str | None, problem: str, project: Path
) -> None:
    with fleet(project) as running:
        before = processes(running)
        (project / "conf" / "gateway.toml").write_text(toml)
        write_handlers(project, handlers, version=2)
        running.signal(signal.SIGHUP)
        if problem:
            eventually(lambda: "not reloaded, nothing has changed: " in running.log, "it is not told")
            assert problem in running.log
            eventually(lambda: processes(running) == before, "the workers are others")
            assert call(running.port, "version") == 1
        else:  # the address of the command line wins over the file's
            eventually(lambda: "reloaded" in running.log, "it does not reload")
        write_handlers(project, version=3)
        (project / "conf" / "gateway.toml").write_text("")
        running.signal(signal.SIGHUP)
        eventually(lambda: call(running.port, "version") == 3, "it does not reload what is right again")


ONLY_THE_FIRST = """
from pathlib import Path

from gateway import method

Path(__file__).with_name("loaded").touch(exist_ok=False)


@method(run="inline")
def version() -> int:
    return 2
"""


def test_a_reload_that_only_some_workers_survive_changes_nothing(project: Path) -> None:
    with fleet(project, workers=2) as running, Callers(running.port) as callers:
        write_handlers(project, ONLY_THE_FIRST, version=2)
        running.signal(signal.SIGHUP)
        eventually(lambda: "not reloaded, nothing has changed: " in running.log, "it is not told")
        answers = len(callers.answers)
        eventually(lambda: len(callers.answers) > answers + 50, "callers are not served")
    assert callers.failures == []
    assert set(callers.answers) == {1}


def test_reloads_that_come_faster_than_workers_start(project: Path) -> None:
    with fleet(project) as running, Callers(running.port) as callers:
        for version in range(2, 8):
            write_handlers(project, version=version)
            running.signal(signal.SIGHUP)
            time.sleep(0.03 * version)
        eventually(lambda: 7 in callers.answers[-20:], "it does not reload")
        eventually(lambda: len(processes(running)) == 2, "the old workers do not end")
    assert callers.failures == []


def test_a_signal_while_the_handlers_are_loaded_ends_it(project: Path) -> None:
    write_handlers(project, "from pathlib import Path\nimport time\nPath('loading').touch()\ntime.sleep(600)")
    command = [*SERVE, "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        eventually((project / "loading").exists, "it does not load them")
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "was killed" not in err


def test_a_reload_can_change_the_number_of_workers_and_the_address(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (project / "conf").mkdir()
    configured = project / "conf" / "gateway.toml"
    configured.write_text(f"[server]\nbind = '127.0.0.1:{port}'\nworkers = 1")
    with fleet(project, workers=None, bind="") as running:
        configured.write_text("[server]\nbind = '127.0.0.2:0'\nworkers = 3")
        running.signal(signal.SIGHUP)
        eventually(lambda: len(processes(running)) == 3, "there are not three workers")
        eventually(lambda: _is_refused(port), "the old address still answers")


def _is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_first_start_that_fails_is_told_and_leaves_nothing(project: Path) -> None:
    write_handlers(project, "1 / 0")
    command = [*SERVE, "--bind", "127.0.0.1:0", "--workers", "3"]
    ended = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("gateway: handlers.some: cannot be imported:\n")
    assert ended.stderr.count("ZeroDivisionError") == 1


def test_a_worker_that_dies_while_it_starts_ends_the_start(project: Path) -> None:
    write_handlers(project, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    command = [*SERVE, "--bind", "127.0.0.1:0"]
    ended = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "gateway: a worker was killed by signal 9 while it started\n"


def test_a_worker_that_a_method_crashes_is_replaced_at_once_however_often(project: Path) -> None:
    with fleet(project, workers=1) as running:
        for crash in range(1, 5):
            (victim,) = processes(running)
            assert call(running.port, "process") == victim
            with Wire(running.port) as wire:
                wire.send(request("/api", {"Content-Type": "application/json"}, _json("crash")))
                assert wire.read() is None
            eventually(partial(_has_started_at_once, running, crash), "it is not replaced")
        assert running.log.count("was killed by signal 11 while it ran crash; another one starts in 0 s") == 4
        assert running.log.count(" in crash\n") == 4, "the log does not show where"


def _has_started_at_once(running: Fleet, times: int) -> bool:
    return running.log.count("another one starts in 0 s") == times and len(processes(running)) == 1


def test_a_worker_that_never_starts_is_tried_again_more_and_more_slowly(project: Path) -> None:
    with fleet(project, workers=1) as running:
        (victim,) = processes(running)
        write_handlers(project, "1 / 0", version=2)
        os.kill(victim, signal.SIGSEGV)
        eventually(lambda: "another one starts in 0.8 s" in running.log, "it is not tried again")
        assert re.findall(r"another one starts in (\S+) s", running.log)[:4] == ["0", "0.2", "0.4", "0.8"]
        write_handlers(project, version=3)
        assert call(running.port, "version") == 3


ENDING = """
import os
import threading
import time
from pathlib import Path

from gateway import method


@method(run="inline")
def process() -> int:
    return os.getpid()


def end() -> None:
    while not Path("go").exists():
        time.sleep(0.01)
    Path("chosen").unlink()
    os._exit(7)


try:
    Path("chosen").touch(exist_ok=False)
except FileExistsError:
    pass
else:
    threading.Thread(target=end, daemon=True).start()
"""


def test_a_worker_that_ends_by_itself_again_and_again_is_held_back_and_no_other_is(project: Path) -> None:
    def paused() -> list[str]:
        return re.findall(r"ended with exit code 7; another one starts in (\S+) s", running.log)

    write_handlers(project, ENDING)
    with fleet(project, workers=2) as running:
        (project / "go").touch()
        eventually(lambda: len(paused()) >= 4, "it is not tried again")
        assert paused()[:4] == ["0", "0.2", "0.4", "0.8"]
        os.kill(next(iter(processes(running))), signal.SIGKILL)
        eventually(lambda: "was killed by signal 9; another one starts in 0 s" in running.log, "it is held back")
        (project / "go").unlink()
        eventually(lambda: len(processes(running)) == 2, "there are not two workers")


def _descriptors(process: int) -> list[str]:
    """Return what a process has open, as far as it can be told apart: the files, and the kinds of everything else."""
    links = []
    for entry in list(Path(f"/proc/{process}/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):
            links.append(re.sub(r"\d+", "N", str(entry.readlink())))
    return sorted(links)


def _records(worker: int) -> int:
    return sum("gateway-stacks" in link for link in _descriptors(worker))


def test_workers_that_end_leave_no_descriptor_behind_and_know_only_their_own_record(project: Path) -> None:
    with fleet(project, workers=2) as running:
        before, first = _descriptors(running.process.pid), processes(running)
        for worker in first:
            os.kill(worker, signal.SIGKILL)
        eventually(lambda: len(processes(running)) == 2 and not processes(running) & first, "they are not replaced")
        eventually(lambda: _descriptors(running.process.pid) == before, "descriptors are left")
        eventually(lambda: all(_records(worker) == 1 for worker in processes(running)), "one knows another's record")


def test_where_a_worker_crashes_while_it_starts_is_told(project: Path) -> None:
    write_handlers(project, "import os\n\n\ndef load() -> None:\n    os.abort()\n\n\nload()")
    command = [*SERVE, "--bind", "127.0.0.1:0"]
    ended = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("gateway: a worker was killed by signal 6 while it started\n")
    assert 'some.py", line 5 in load' in ended.stderr


def _fail_to_start(running: Fleet, project: Path) -> None:
    """Have the only worker end, and those after it fail, until the pause is long enough to do something in it."""
    (victim,) = processes(running)
    write_handlers(project, "1 / 0", version=2)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: "another one starts in 3.2 s" in running.log, "it is not tried again")


def test_a_stop_starts_nothing_more(project: Path) -> None:
    with fleet(project, workers=1) as running:
        _fail_to_start(running, project)
        starts = running.log.count("ZeroDivisionError")
        running.signal(signal.SIGTERM)
        assert running.end() == 0
        assert running.log.count("ZeroDivisionError") == starts


def test_a_reload_while_a_worker_is_held_back_takes_its_place_and_not_its_slot(project: Path) -> None:
    with fleet(project, workers=1) as running:
        _fail_to_start(running, project)
        write_handlers(project, version=3)
        running.signal(signal.SIGHUP)
        eventually(lambda: "reloaded; workers: 1" in running.log, "it does not reload")
        time.sleep(3.5)  # until the one that was held back would have started
        (worker,) = processes(running)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: f"worker 1 (process {worker}) was killed by signal 9" in running.log, "it is not told")
        assert call(running.port, "version") == 3


def test_a_reload_while_it_stops_is_none(project: Path) -> None:
    with fleet(project) as running, Wire(running.port) as wire:
        wire.send(request("/api", {"Content-Type": "application/json"}, _json("wait_for", str(project / "go"))))
        eventually((project / "go.started").exists, "the call does not run")
        running.signal(signal.SIGTERM)
        eventually(lambda: _is_refused(running.port), "it still lets callers in")
        running.signal(signal.SIGHUP)
        (project / "go").touch()
        assert running.end() == 0
        assert "reloading" not in running.log


NOISY = """
import os
import socket

from gateway import method


@method(run="inline")
def noise() -> int:
    found = 0
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            with socket.socket(fileno=os.dup(number)) as link:
                peer = int.from_bytes(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
                if link.family == socket.AF_UNIX and peer == os.getppid():
                    found += link.send(b'garbage\\n{"problems": ["no"]}\\n')
        except OSError:
            pass
    return found


@method(run="inline")
def process() -> int:
    return os.getpid()
"""


def test_garbage_that_a_method_writes_to_the_control_socket_ends_nothing(project: Path) -> None:
    write_handlers(project, NOISY)
    with fleet(project, workers=1) as running:
        before = processes(running)
        assert call(running.port, "noise") == 29
        assert call(running.port, "process") in before
        running.signal(signal.SIGHUP)
        eventually(lambda: "reloaded; workers: 1" in running.log, "the supervisor does not reload")
        eventually(lambda: len(processes(running) - before) == 1, "there is no new worker")


def test_an_unreadable_report_is_a_start_that_fails(project: Path) -> None:
    write_handlers(project, NOISY + "\n\nnoise()")
    command = [*SERVE, "--bind", "127.0.0.1:0"]
    ended = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "sent an unreadable report, and was killed" in ended.stderr
    assert "Traceback" not in ended.stderr


WITHOUT_PROCESSES = """
import errno
import os
import sys
from pathlib import Path

from gateway.cli import main

fork = os.fork


def scarce() -> int:
    if Path("scarce").exists():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()


os.fork = scarce
sys.argv[0] = "gateway"
main()
"""


def test_a_fork_that_fails_is_tried_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "program.py").write_text(WITHOUT_PROCESSES)
    monkeypatch.setattr(sys.modules[__name__], "SERVE", (sys.executable, "program.py", "serve"))
    with fleet(project) as running:
        first, _ = before = processes(running)
        descriptors = _descriptors(running.process.pid)
        (project / "scarce").touch()
        os.kill(first, signal.SIGKILL)
        eventually(lambda: "cannot be started: resource temporarily unavailable" in running.log, "it is not told")
        assert call(running.port, "version") == 1
        (project / "scarce").unlink()
        eventually(lambda: len(processes(running) - before) == 1, "it is not tried again")
        eventually(lambda: _descriptors(running.process.pid) == descriptors, "descriptors are left")


SLOW = (
    HANDLERS
    + """

import pathlib

while pathlib.Path("slow").exists():
    time.sleep(0.01)
"""
)


def test_a_reload_before_the_first_start_is_none(project: Path) -> None:
    (project / "slow").touch()
    write_handlers(project, "from pathlib import Path\nPath('loading').touch()\n" + SLOW.replace("{version}", "1"))
    command = [*SERVE, "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        eventually((project / "loading").exists, "it does not load them")
        process.send_signal(signal.SIGHUP)
        (project / "slow").unlink()
        assert "ready at" in process.stdout.readline()
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, "reload" in err, "Traceback" in err) == (0, False, False), err


WITHOUT_A_SECOND_PROCESS = WITHOUT_PROCESSES.replace(
    """    if Path("scarce").exists():
""",
    """    if Path("short").exists():
        Path("short").rename("scarce")
        return fork()
    if Path("scarce").exists():
""",
)


def test_a_start_that_waits_for_a_process_is_given_up_with_its_reload(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "program.py").write_text(WITHOUT_A_SECOND_PROCESS)
    monkeypatch.setattr(sys.modules[__name__], "SERVE", (sys.executable, "program.py", "serve"))
    with fleet(project) as running:
        write_handlers(project, "1 / 0", version=2)
        (project / "short").touch()
        running.signal(signal.SIGHUP)
        eventually(lambda: "not reloaded, nothing has changed" in running.log, "it is not told")
        assert "cannot be started: resource temporarily unavailable" in running.log
        (project / "scarce").unlink()
        time.sleep(1.5)  # the time of the start that must not be
        assert len(processes(running)) == 2
        assert running.log.count("ZeroDivisionError") == 1


@pytest.mark.parametrize("last", ["the new address", "the old address"])
def test_a_reload_to_another_address_that_is_repeated_before_it_was_ready(last: str, project: Path) -> None:
    def free() -> int:
        with socket.create_server(("127.0.0.1", 0)) as found:
            return int(found.getsockname()[1])

    old, new = free(), free()
    (project / "conf").mkdir()
    configured = project / "conf" / "gateway.toml"
    configured.write_text(f"[server]\nbind = '127.0.0.1:{old}'\n")
    with fleet(project, workers=2, bind="") as running:
        (project / "slow").touch()
        write_handlers(project, SLOW.replace("{version}", "2"), version=2)
        configured.write_text(f"[server]\nbind = '127.0.0.1:{new}'\n")
        running.signal(signal.SIGHUP)
        eventually(lambda: not _is_refused(new), "the new address is not opened")
        wanted, other = (new, old) if last == "the new address" else (old, new)
        configured.write_text(f"[server]\nbind = '127.0.0.1:{wanted}'\n")
        running.signal(signal.SIGHUP)
        eventually(lambda: running.log.count("reloading") == 2, "it does not reload again")
        (project / "slow").unlink()
        eventually(lambda: "reloaded; workers: 2" in running.log, "it is not reloaded")
        eventually(lambda: call(wanted, "version") == 2, "it does not answer there")
        eventually(lambda: _is_refused(other), "the other address still accepts")
        assert "not reloaded" not in running.log


def test_sigterm_to_a_worker_only_replaces_it(project: Path) -> None:
    with fleet(project, workers=1) as running:
        (victim,) = processes(running)
        assert call(running.port, "process") == victim
        os.kill(victim, signal.SIGTERM)
        eventually(lambda: processes(running) not in ({victim}, set()), "it is not replaced")
        assert "ended with exit code 0; another one starts" in running.log
        assert call(running.port, "version") == 1


def test_the_grace_before_the_end(project: Path) -> None:
    with fleet(project, "server.grace=2") as running, Callers(running.port) as callers:
        assert _readiness(running.port) == 200
        running.signal(signal.SIGTERM)
        eventually(lambda: _readiness(running.port) == 503, "it stays ready")
        answers = len(callers.answers)
        eventually(lambda: len(callers.answers) > answers + 20, "it serves nobody in its grace")
        callers.__exit__()
        assert callers.failures == []
        assert running.end() == 0


def _readiness(port: int) -> int:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", "/readyz")
        return connection.getresponse().status


def test_running_calls_end_before_their_worker_does(project: Path) -> None:
    with fleet(project) as running, Wire(running.port) as wire:
        wire.send(request("/api", {"Content-Type": "application/json"}, _json("wait_for", str(project / "go"))))
        eventually((project / "go.started").exists, "the call does not run")
        running.signal(signal.SIGTERM)
        eventually(lambda: _is_refused(running.port), "it still lets callers in")
        (project / "go").touch()
        response = wire.read()
        assert response is not None
        assert b"done" in response.body
        assert running.end() == 0


@pytest.mark.parametrize("signals", [1, 2])
def test_nothing_is_left_in_the_file_system(signals: int, project: Path) -> None:
    (project / "temporary").mkdir()
    with fleet(project, "server.pid_file=gateway.pid", TMPDIR=str(project / "temporary")) as running:
        eventually((project / "gateway.pid").exists, "there is no file")
        left = processes(running)
        with Wire(running.port) as wire:
            wire.send(request("/api", {"Content-Type": "application/json"}, _json("wait_for", str(project / "go"))))
            eventually((project / "go.started").exists, "the call does not run")
            running.signal(signal.SIGTERM)
            eventually(lambda: _is_refused(running.port), "it still lets callers in")
            if signals == 2:
                running.signal(signal.SIGTERM)
            (project / "go").touch()
        assert running.end() == (0 if signals == 1 else -signal.SIGTERM)
    assert not (project / "gateway.pid").exists()
    assert list((project / "temporary").iterdir()) == []
    eventually(lambda: not any(map(alive, left)), "the workers stay")


def test_workers_end_when_their_parent_is_killed(project: Path) -> None:
    with fleet(project) as running:
        left = processes(running)
        running.signal(signal.SIGKILL)
        running.end()
        eventually(lambda: not any(map(alive, left)), "the workers stay")
        assert _is_refused(running.port)


def test_a_worker_that_does_not_end_is_killed(project: Path) -> None:
    with fleet(project, "server.drain=0", workers=1) as running:
        (stuck,) = processes(running)
        os.kill(stuck, signal.SIGSTOP)
        running.signal(signal.SIGTERM)
        assert running.end() == 0
        assert "did not end, and was killed" in running.log
        assert not alive(stuck)


def test_the_pid_file_and_the_command_that_reloads(project: Path) -> None:
    with fleet(project, "server.pid_file=gateway.pid") as running:
        eventually((project / "gateway.pid").exists, "there is no file")
        assert (project / "gateway.pid").read_text() == f"{running.process.pid}\n"
        write_handlers(project, version=2)
        told = _reload(project)
        assert told.stdout == (
            f"gateway: process {running.process.pid} reads configuration and methods again; its log has the result\n"
        )
        eventually(lambda: call(running.port, "version") == 2, "it does not reload")
        write_handlers(project, "1 / 0", version=3)
        told = _reload(project)
        assert told.returncode == 1
        assert "ZeroDivisionError" in told.stderr
        running.signal(signal.SIGTERM)
        assert running.end() == 0
    assert not (project / "gateway.pid").exists()
    write_handlers(project)
    assert _reload(project).stderr == "gateway: gateway.pid: no such file or directory; is the gateway running?\n"


def _reload(project: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gateway", "reload", "--set", "server.pid_file=gateway.pid"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=30, check=False)


def test_systemd_is_told_what_happens(project: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(project / "notify"))
        told.settimeout(30)
        with fleet(project, NOTIFY_SOCKET=str(project / "notify")) as running:
            assert told.recv(4096) == b"READY=1"
            running.signal(signal.SIGHUP)
            assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", told.recv(4096))
            assert told.recv(4096) == b"READY=1"
            running.signal(signal.SIGTERM)
            assert told.recv(4096) == b"STOPPING=1"
            assert running.end() == 0


def test_rates_hold_over_all_workers(project: Path) -> None:
    with fleet(project, "limits.client_rate=0.01", "limits.client_burst=10", workers=3) as running:
        statuses = [post(running.port, _json("version")).status for _ in range(20)]
    assert statuses == [200] * 10 + [429] * 10


def test_metrics_are_those_of_all_workers_over_crashes_and_reloads(project: Path) -> None:
    with fleet(project, workers=2) as running:
        answered = {call(running.port, "process") for _ in range(50)}
        assert answered <= processes(running)
        until(running.metrics, lambda seen: seen.of("gateway_calls_total", method="process", outcome="ok") == 50)
        before = processes(running)
        os.kill(next(iter(before)), signal.SIGKILL)
        eventually(lambda: len(processes(running) - before) == 1, "the worker is not replaced")
        until(running.metrics, lambda seen: seen.of("gateway_worker_starts_total") == 3)
        running.signal(signal.SIGHUP)
        until(running.metrics, lambda seen: seen.of("gateway_worker_starts_total") == 5)
        eventually(lambda: len(processes(running)) == 2, "the old workers do not end")
        seen = until(running.metrics, lambda seen: seen.of("gateway_workers") == 2)
        assert seen.of("gateway_calls_total", method="process", outcome="ok") == 50
        running.signal(signal.SIGTERM)
        assert running.end() == 0


def test_a_reload_takes_a_new_certificate_and_keeps_the_old_one_where_the_new_one_is_bad(project: Path) -> None:
    authority = Authority(project)
    files = (project / "server.pem", project / "server.key")

    def renew(end: datetime | None = None) -> None:
        for file, made in zip(files, authority.issue(end=end), strict=True):
            file.write_bytes(made.read_bytes())

    renew()
    with fleet(project, f"tls.certificate={files[0]}", f"tls.key={files[1]}") as running:
        first = _serial(running, authority)
        renew(end=PAST)
        running.signal(signal.SIGHUP)
        expired = f"not reloaded, nothing has changed: tls.certificate: {files[0]}: certificate has expired"
        eventually(lambda: expired in running.log, "it is not told")
        assert _serial(running, authority) == first
        renew()
        running.signal(signal.SIGHUP)
        eventually(lambda: _serial(running, authority) != first, "it keeps the old one")


def _serial(fleet: Fleet, authority: Authority) -> object:
    """Shake hands, and return the number of the certificate that is shown."""
    with Wire(fleet.port, tls=authority.client()) as wire:
        assert isinstance(wire.socket, ssl.SSLSocket)
        return (wire.socket.getpeercert() or {})["serialNumber"]


def test_a_log_that_nobody_reads_blocks_neither_calls_nor_the_supervisor(project: Path) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    command = [*SERVE, "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=writing) as process:
        os.close(writing)
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().split(b":")[3].partition(b"/")[0])
            fill = partial(_call_often, port)
            fill()
            lines = os.read(reading, 65536)
            while b"lines of the log were lost, because standard error did not accept them" not in lines:
                assert call(port, "version") == 1
                lines += os.read(reading, 65536)
            fill()
            before = children(process.pid)
            os.kill(next(iter(before)), signal.SIGKILL)
            eventually(lambda: len(children(process.pid) - before) == 1, "the worker is not replaced")
            fill()
        finally:
            process.kill()
            os.close(reading)


def _call_often(port: int) -> None:
    for _ in range(100):
        assert call(port, "version") == 1


def test_a_start_that_fails_leaves_no_descriptor_for_signals() -> None:
    """A worker that ends later sends SIGCHLD; written to a closed socket, it would be a traceback for the operator."""
    program = (
        "import signal\n"
        "from gateway.process.control import StartupError\n"
        "from gateway.process.supervisor import supervise\n"
        "def plan(*_):\n"
        "    raise StartupError(['no'])\n"
        "try:\n"
        "    supervise(plan, lambda *_: None)\n"
        "except StartupError:\n"
        "    print(signal.set_wakeup_fd(-1))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (run.stdout, run.stderr) == ("-1\n", "")
