"""Reloads: configuration and methods are read again, and callers must not notice."""

import os
import signal
import socket
import ssl
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Self

import msgspec
import pytest

from tests.certificates import PAST, Authority
from tests.process import fleets
from tests.process.fleets import (
    SLOW,
    WITHOUT_PROCESSES,
    Callers,
    Fleet,
    call,
    fail_to_start,
    fleet,
    is_refused,
    json_call,
    processes,
    write_handlers,
)
from tests.raw_http import Wire, request
from tests.serving import eventually

pytestmark = pytest.mark.unmeasured


def test_a_reload_takes_handlers_and_configuration_anew_and_loses_no_call(project: Path) -> None:
    with fleet(project) as running, Callers(running.port) as callers, Wire(running.port) as wire:
        before = processes(running)
        wire.send(request("/api", {"Content-Type": "application/json"}, json_call("wait_for", str(project / "go"))))
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
        self.socket.sendall(json_call(method, *params) + b"\n")

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
        eventually(lambda: is_refused(port), "the old address still answers")


def test_a_reload_while_a_worker_is_held_back_takes_its_place_and_not_its_slot(project: Path) -> None:
    with fleet(project, workers=1) as running:
        fail_to_start(running, project)
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
        wire.send(request("/api", {"Content-Type": "application/json"}, json_call("wait_for", str(project / "go"))))
        eventually((project / "go.started").exists, "the call does not run")
        running.signal(signal.SIGTERM)
        eventually(lambda: is_refused(running.port), "it still lets callers in")
        running.signal(signal.SIGHUP)
        (project / "go").touch()
        assert running.end() == 0
        assert "reloading" not in running.log


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
    monkeypatch.setattr(fleets, "SERVE", (sys.executable, "program.py", "serve"))
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
        eventually(lambda: not is_refused(new), "the new address is not opened")
        wanted, other = (new, old) if last == "the new address" else (old, new)
        configured.write_text(f"[server]\nbind = '127.0.0.1:{wanted}'\n")
        running.signal(signal.SIGHUP)
        eventually(lambda: running.log.count("reloading") == 2, "it does not reload again")
        (project / "slow").unlink()
        eventually(lambda: "reloaded; workers: 2" in running.log, "it is not reloaded")
        eventually(lambda: call(wanted, "version") == 2, "it does not answer there")
        eventually(lambda: is_refused(other), "the other address still accepts")
        assert "not reloaded" not in running.log


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
