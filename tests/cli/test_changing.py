"""``gateway reload --diff`` and ``gateway rollback``, with a gateway that runs."""

import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from gateway import Registry
from gateway.config import Config
from gateway.process import state
from tests.raw_http import post
from tests.serving import eventually

FILE = """\
[server]
bind = "127.0.0.1:0"
pid_file = "gateway.pid"
modules = ["methods"]
[limits]
max_batch = {most}
[access]
anonymous = true
keys = {{ ada = "sha256:{digit}" }}
[metrics]
bind = ""
"""
METHODS = """\
from gateway import method

@method(run="inline")
def {name}(a: {kind}, *rest: int) -> {kind}:
    return a
"""


class Running(Struct, frozen=True):
    folder: Path
    port: int

    def write(self, most: int = 7, digit: str = "1", name: str = "first", kind: str = "int") -> None:
        (self.folder / "conf" / "gateway.toml").write_text(FILE.format(most=most, digit=digit * 64))
        (self.folder / "methods.py").write_text(METHODS.format(name=name, kind=kind))

    def command(self, *words: str) -> tuple[int, str]:
        ran = subprocess.run(
            [sys.executable, "-B", "-m", "gateway", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.returncode, ran.stdout + ran.stderr

    def batch(self, most: int) -> bool:
        """Tell whether so many calls are the most that a batch may have."""
        call = b'{"jsonrpc":"2.0","method":"system.methodExist","params":["x"],"id":1}'
        answers = [post(self.port, b"[" + b",".join([call] * number) + b"]").body for number in (most, most + 1)]
        return b"error" not in answers[0] and b"error" in answers[1]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("project")
    (folder / "conf").mkdir()
    Running(folder, 0).write()
    process = subprocess.Popen(
        [sys.executable, "-B", "-m", "gateway", "serve"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.search(r":(\d+)/api", said)
    assert found is not None, said
    yield Running(folder, int(found[1]))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=15)
    assert [each.name for each in folder.glob("gateway.pid*")] == []


@pytest.mark.processes
def test_what_would_change_is_shown_and_then_taken_back(running: Running) -> None:
    running.write()
    assert running.command("reload", "--diff") == (0, "gateway: nothing would change\n")
    code, said = running.command("rollback")
    assert (code, "it was not reloaded" in said or "was not reloaded since" in said) == (1, True)
    for file in running.folder.glob("gateway.pid.state*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    running.write(most=9, digit="2", name="second", kind="str")
    code, said = running.command("reload", "--diff")
    lines = said.splitlines()
    assert code == 0
    assert lines[0] == "limits.max_batch: 7 -> 9"
    assert re.fullmatch(r"access\.keys: \(hidden, [0-9a-f]{12}\) -> \(hidden, [0-9a-f]{12}\)", lines[1])
    assert lines[2:] == ["- first(a: int, *rest) -> int", "+ second(a: str, *rest) -> str"]
    assert "222222" not in said
    assert running.batch(7)

    assert running.command("reload")[0] == 0
    eventually(lambda: running.batch(9), "it is reloaded")
    (running.folder / "methods.py").write_text(METHODS.format(name="second", kind="float"))
    assert running.command("reload", "--diff")[1] == (
        "  second(a: str, *rest) -> str becomes second(a: float, *rest) -> float\n"
    )

    eventually((running.folder / "gateway.pid.state-before").exists, "both are written down")
    (running.folder / "conf" / "gateway.toml").write_text("[limits\n")  # what is broken can be taken back, too
    code, said = running.command("rollback", "--set", "server.pid_file=gateway.pid")
    assert code == 0, said
    eventually(lambda: running.batch(7), "it is what it was before")
    assert "max_batch = 7" in (running.folder / "conf" / "gateway.toml").read_text()
    assert (running.folder / "conf" / "gateway.toml.rolled-back").read_text() == "[limits\n"


@pytest.mark.processes
def test_without_a_gateway_that_runs_there_is_nothing_to_compare(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    stopped = Running(tmp_path, 0)
    stopped.write()
    for command in (("reload", "--diff"), ("rollback",)):
        code, said = stopped.command(*command)
        assert code == 1
        assert "is the gateway running?" in said


def test_signatures_take_no_more_room_than_a_report_has() -> None:
    many = Registry()
    many.register(lambda value: value, name="first")
    ((_, method),) = many.methods()
    told = state.signatures((f"{number:0500}", method) for number in range(5000))
    assert 900 < len(told) < 1100


def test_what_is_written_down_is_kept_once_more(tmp_path: Path) -> None:
    pid_file = str(tmp_path / "gateway.pid")
    for text in ("a", "b", "c"):
        state.write(pid_file, state.state_of(Config(), text, {}))
    assert (state.read(pid_file).text, state.read_before(pid_file).text) == ("c", "b")
    state.remove(pid_file)
    assert list(tmp_path.iterdir()) == []
