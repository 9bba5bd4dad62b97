"""The systemd units: systemd's own judgement of them, and that what they say of the gateway is so."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config import Config, load
from gateway.process.supervisor import MERCY
from tests.cli.running import environment, run
from tests.process.fleets import call, write_handlers
from tests.process.test_sockets import post_unix
from tests.serving import activated, eventually, free_port

pytestmark = pytest.mark.unmeasured

CONF = Path(__file__).parents[2] / "conf"
UNITS = ("callgate.service", "callgate.socket")


def lines(unit: str) -> list[tuple[str, str]]:
    found = [line for line in (CONF / unit).read_text().splitlines() if "=" in line and not line.startswith("#")]
    return [(name, value) for name, _, value in (line.partition("=") for line in found)]


def options() -> dict[str, str]:
    return dict(lines("callgate.service"))


def test_systemd_finds_nothing_wrong_with_them(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    assert program is not None, "systemd-analyze is needed: install the package systemd"
    installed = [tmp_path / unit for unit in UNITS]
    for file in installed:
        file.write_text((CONF / file.name).read_text().replace("/opt/callgate/venv/bin/gateway", sys.executable))
    judged = subprocess.run(
        [program, "verify", *map(str, installed)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (judged.returncode, judged.stderr) == (0, "")


def test_its_command_and_its_environment_are_the_gateway_s(tmp_path: Path) -> None:
    _, *command = options()["ExecStart"].split()
    assert command[:2] == ["serve", "--config"]
    assert "--config FILE" in run(tmp_path, "serve", "--help").out
    variables = dict(setting.split("=") for setting in options()["Environment"].split())
    config = load(None, variables, ())
    assert config.server.pid_file == f"/run/{options()['RuntimeDirectory']}/pid"
    assert config.log.format == "json"


def test_it_waits_for_running_calls() -> None:
    server = Config().server
    assert int(options()["TimeoutStopSec"]) > server.grace + server.drain + MERCY


def test_what_the_socket_unit_opens_is_what_the_gateway_serves(tmp_path: Path) -> None:
    """A program of systemd opens the unit's addresses, but with a port that is free and in a folder of the test's."""
    write_handlers(tmp_path)
    opened = [value for name, value in lines("callgate.socket") if name == "ListenStream"]
    port, path = free_port(), tmp_path / Path(opened[1]).name
    assert opened[0] == Config().server.bind[0]
    (tmp_path / "gateway.toml").write_text('[server]\nbind = "systemd"\n[metrics]\nbind = ""\n')
    command = [sys.executable, "-m", *options()["ExecStart"].split()[1:-1], str(tmp_path / "gateway.toml")]
    command.insert(2, "gateway")
    addresses = [opened[0].replace("8000", str(port)), str(path)]
    with activated(addresses, command, tmp_path / "log", tmp_path, environment({})) as process:
        assert call(port, "version") == 1  # this connection has waited for the gateway to start
        assert post_unix(path, "version") == 1
        write_handlers(tmp_path, version=2)
        process.send_signal(signal.SIGHUP)
        eventually(lambda: post_unix(path, "version") == 2, "it is reloaded")
        assert call(port, "version") == 2
        process.terminate()
        assert process.wait(30) == 0
    assert path.exists()  # it is systemd's


def test_the_socket_unit_is_for_what_the_gateway_is_told() -> None:
    unit = dict(lines("callgate.socket"))
    assert int(unit["Backlog"]) == Config().limits.backlog
    page = (CONF.parent / "docs" / "deployment.md").read_text("utf-8")
    shown = page.partition("```ini\n[Socket]\n")[2].partition("```")[0].splitlines()
    assert shown == [f"{name}={value}" for name, value in lines("callgate.socket") if f"{name}={value}" in shown]
    folder = Path(f"/run/{options()['RuntimeDirectory']}")
    assert folder not in Path(unit["ListenStream"]).parents  # it goes with the gateway
