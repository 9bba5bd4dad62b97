"""The processes: nginx as a user without rights, and ``make edge``."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import edge as edges
from benchmarks.edge import Edge, certified, nginx, own_files, program
from tests.deploy.nginx.edging import (
    ask,
    calling,
    check_refusal,
    children,
    closed_port,
    rendered,
)
from tests.serving import eventually

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[3]


def as_nobody(folder: Path) -> dict[str, Any]:
    """Return who is to run a program that needs no rights: nobody, where the tests are root's."""
    if os.geteuid() != 0:
        return {}
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    return {"user": "nobody"}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Make a folder that anybody can reach, which those of tmp_path are not."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder)


def test_nginx_runs_as_a_user_without_rights_and_writes_nowhere_else(open_folder: Path) -> None:
    certificate, key = certified(open_folder)
    who = as_nobody(open_folder)
    key.chmod(0o644)
    address = closed_port()
    settings = [*own_files(open_folder), f"nginx.listen={address}", f"nginx.certificate={certificate}"]
    (open_folder / "nginx.conf").write_text(rendered(*settings, f"nginx.key={key}", "nginx.user="))
    errors = str(open_folder / "error.log")
    command = [program("nginx"), "-e", errors, "-c", str(open_folder / "nginx.conf"), "-g", "daemon off;"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **who) as process:
        running = Edge(port=int(address[10:]), folder=open_folder, certificate=certificate, nginx=process)
        try:
            eventually((open_folder / "nginx.pid").exists, "nginx does not start")
            body = calling("size", "x" * 500_000)
            check_refusal(ask(running, body), 502, -32002, "application/json")
        finally:
            process.terminate()
            process.wait(10)
    log = Path(errors).read_text()
    assert not any(f"[{level}]" in log for level in ("emerg", "alert", "crit", "warn")), log


@contextmanager
def start_edge(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.edge", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def printed(process: subprocess.Popen[str], lines: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(lines)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_make_edge_prints_what_to_call_and_stops_both(number: int) -> None:
    with start_edge() as process:
        told = printed(process, 5)
        assert told[0].startswith("edge: nginx is ready at https://localhost:")
        for command in told[1:4]:
            run = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, timeout=30, check=False)
            assert "system.listMethods" in run.stdout, run.stderr
        folder = Path(told[4].partition("write into ")[2].partition(":")[0])
        pids = [int((folder / "nginx.pid").read_text()), *children(process.pid)]
        process.send_signal(number)
        assert process.wait(40) == 0
    assert not folder.exists()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_make_edge_ends_when_one_of_both_does() -> None:
    with start_edge() as process:
        told = printed(process, 5)
        folder = Path(told[4].partition("write into ")[2].partition(":")[0])
        nginx = int((folder / "nginx.pid").read_text())
        pids = children(nginx)
        os.kill(nginx, signal.SIGKILL)
        assert process.wait(40) == 1
        assert pids
        eventually(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "its workers go on")
        assert process.stderr is not None
        assert process.stderr.read().startswith("edge: nginx has ended")


def test_make_edge_says_why_it_does_not_start() -> None:
    with start_edge("no_such_package") as process:
        _, told = process.communicate(timeout=40)
        assert process.returncode == 1
        assert told.startswith("edge: the gateway does not start: ")
        assert "no_such_package" in told
    with start_edge("--set", "nginx.burst=7", "--set", "nginx.tls_protocols=TLSv1.4") as process:
        _, told = process.communicate(timeout=40)
        assert process.returncode == 1
        assert "expected TLSv1.2 or TLSv1.3" in told


def test_an_nginx_that_does_not_start_says_why(tmp_path: Path) -> None:
    _, key = certified(tmp_path)
    key.write_text("no key")
    with (
        pytest.raises(RuntimeError, match=r"nginx does not start: (?:.|\n)*cannot load certificate key"),
        nginx(tmp_path, []),
    ):
        pass


def test_a_machine_without_nginx_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "_PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="nginx is needed; on Debian: apt-get install nginx"), nginx(tmp_path, []):
        pass
