"""The systemd unit: systemd's own judgement of it, and that what it says of the gateway is so."""

import shutil
import subprocess
import sys
from pathlib import Path

from gateway.config import Config, load
from gateway.process.supervisor import MERCY
from tests.cli.running import run

UNIT = Path(__file__).parents[2] / "conf" / "callgate.service"


def options() -> dict[str, str]:
    lines = [line for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    assert program is not None, "systemd-analyze is needed: install the package systemd"
    installed = tmp_path / "callgate.service"
    installed.write_text(UNIT.read_text().replace("/opt/callgate/venv/bin/gateway", sys.executable))
    judged = subprocess.run(
        [program, "verify", str(installed)], capture_output=True, text=True, timeout=60, check=False
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
