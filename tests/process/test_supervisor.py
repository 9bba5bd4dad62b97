"""Workers under their supervisor: real processes, real signals, and callers that must not notice."""

import contextlib
import fcntl
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.process import fleets
from tests.process.fleets import (
    SERVE,
    SLOW,
    WITHOUT_PROCESSES,
    Callers,
    Fleet,
    alive,
    call,
    fail_to_start,
    fleet,
    is_refused,
    json_call,
    processes,
    write_handlers,
)
from tests.raw_http import Wire, post, request
from tests.scraping import until
from tests.serving import children, eventually


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
            wire.send(request("/api", {"Content-Type": "application/json"}, json_call("wait_for", str(project / "go"))))
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


def test_a_signal_while_the_handlers_are_loaded_ends_it(project: Path) -> None:
    write_handlers(project, "from pathlib import Path\nimport time\nPath('loading').touch()\ntime.sleep(600)")
    command = [*SERVE, "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        eventually((project / "loading").exists, "it does not load them")
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "was killed" not in err


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
                wire.send(request("/api", {"Content-Type": "application/json"}, json_call("crash")))
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


@pytest.mark.processes
def test_a_stop_starts_nothing_more(project: Path) -> None:
    with fleet(project, workers=1) as running:
        fail_to_start(running, project)
        starts = running.log.count("ZeroDivisionError")
        running.signal(signal.SIGTERM)
        assert running.end() == 0
        assert running.log.count("ZeroDivisionError") == starts


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


@pytest.mark.processes
def test_an_unreadable_report_is_a_start_that_fails(project: Path) -> None:
    write_handlers(project, NOISY + "\n\nnoise()")
    command = [*SERVE, "--bind", "127.0.0.1:0"]
    ended = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "sent an unreadable report, and was killed" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.processes
def test_a_fork_that_fails_is_tried_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "program.py").write_text(WITHOUT_PROCESSES)
    monkeypatch.setattr(fleets, "SERVE", (sys.executable, "program.py", "serve"))
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


@pytest.mark.processes
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
        wire.send(request("/api", {"Content-Type": "application/json"}, json_call("wait_for", str(project / "go"))))
        eventually((project / "go.started").exists, "the call does not run")
        running.signal(signal.SIGTERM)
        eventually(lambda: is_refused(running.port), "it still lets callers in")
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
            wire.send(request("/api", {"Content-Type": "application/json"}, json_call("wait_for", str(project / "go"))))
            eventually((project / "go.started").exists, "the call does not run")
            running.signal(signal.SIGTERM)
            eventually(lambda: is_refused(running.port), "it still lets callers in")
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
        assert is_refused(running.port)


@pytest.mark.processes
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


@pytest.mark.processes
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
        statuses = [post(running.port, json_call("version")).status for _ in range(20)]
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


@pytest.mark.processes
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
