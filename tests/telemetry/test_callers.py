"""Who calls which method: what is counted, what it is bounded by, and what outlives a reload."""

import json
import logging
import os
import signal
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from gateway.cli import main
from gateway.core.access import make_key
from gateway.model.calls import Caller, CallRecord
from gateway.telemetry.callers import Callers, read
from tests.conftest import Logged
from tests.raw_http import exchange, request

ROOT = Path(__file__).parents[2]
KEY, STORED = make_key()


def record(method: str, called: str = "", client: str = "10.0.0.1", key: str | None = None) -> CallRecord:
    return CallRecord(
        method=method,
        protocol="jsonrpc",
        client=client,
        outcome=None,
        bytes=0,
        request_id="",
        position=None,
        seconds=0.0,
        called=called,
        caller=Caller(client=client, key=key),
    )


def known(name: str, protocol: str) -> bool:
    return not name.startswith("unknown") and protocol == "jsonrpc"


def rows(folder: Path) -> list[tuple[str, str, str, str, int]]:
    tally = read(folder)
    assert tally is not None
    return [(row.method, row.called, row.kind, row.name, row.calls) for row in tally.rows]


def test_a_caller_is_a_key_a_certificate_or_an_address(tmp_path: Path) -> None:
    callers = Callers(tmp_path / "a" / "b", 0, known)
    callers.calls([record("get", key="odoo"), record("get", "old", key="odoo"), record("get", client="::1")])
    certified = replace(record("get"), caller=Caller(client="10.0.0.1", certificate="tills"))
    callers.calls([certified, record("get", "unknown.name")])
    callers.calls([record("unknown"), replace(record("get"), caller=None)])
    callers.write()
    assert rows(tmp_path / "a" / "b") == [
        ("get", "", "key", "odoo", 1),
        ("get", "old", "key", "odoo", 1),
        ("get", "", "address", "::1", 1),
        ("get", "", "certificate", "tills", 1),
        ("get", "", "address", "10.0.0.1", 1),
    ]
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b" / "0.json").stat().st_mode) == 0o600


def test_callers_cannot_let_it_grow(tmp_path: Path) -> None:
    callers = Callers(tmp_path, 0, known, most=3)
    callers.calls([record("get", client=f"10.0.0.{n}") for n in (1, 2, 3, 1, 4, 5, 1)])
    callers.calls([record("get", key="k" * 500)])
    callers.write()
    assert rows(tmp_path) == [
        ("get", "", "address", "10.0.0.5", 1),
        ("get", "", "address", "10.0.0.1", 3),
        ("get", "", "key", "k" * 100, 1),
        ("get", "", "others", "", 3),
    ]


def test_the_next_worker_of_a_slot_goes_on_and_all_slots_are_added_up(tmp_path: Path) -> None:
    for slot in (0, 1, 0):
        callers = Callers(tmp_path, slot, known)
        callers.calls([record("get"), record("get")])
        callers.write()
    (tmp_path / "2.json").write_bytes(b"\xff{")
    assert rows(tmp_path) == [("get", "", "address", "10.0.0.1", 6)]


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path, logged: Logged) -> None:
    (tmp_path / "file").touch()
    callers = Callers(tmp_path / "file", 0, known)
    for _ in range(2):
        callers.calls([record("get")])
        callers.write()
    assert len(logged.take("server.callers:")) == 1
    assert read(tmp_path / "file") is None


def ran(*arguments: str) -> tuple[int, str]:
    logging.getLogger("gateway").setLevel(logging.NOTSET)
    result = CliRunner().invoke(main, ["callers", *arguments], catch_exceptions=False)
    return result.exit_code, result.output


def test_what_the_command_says_without_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ran("get") == (1, "gateway: server.callers is not set, so nobody is counted: name a folder, and reload\n")
    code, said = ran("get", "--set", "server.callers=here")
    assert (code, "nothing was counted in here yet" in said) == (1, True)
    assert ran("get", "--set", "server.callers=")[0] == 1
    assert ran("get", "--set", "server.caller=a")[1].startswith("gateway: command line: there is no option")


@pytest.mark.slow
@pytest.mark.unmeasured
def test_the_counts_outlive_a_reload(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "gateway.toml").write_text(
        f"""
        [server]
        bind = "127.0.0.1:0"
        workers = 2
        drain = 0.5
        callers = "callers"
        [access]
        keys = {{ odoo = "{STORED}" }}
        anonymous = true
        [versions.stock]
        default = "v1"
        """
    )
    (tmp_path / "served.py").write_text(
        "from gateway import method\n\n\n@method(name='stock.get', version='v1', run='inline')\n"
        "def get() -> int:\n    return 1\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "served"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        port = int(process.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])

        def call(name: str, **headers: str) -> None:
            body = json.dumps({"jsonrpc": "2.0", "method": name, "id": 1}).encode()
            assert exchange(port, request("/api", {"Content-Type": "application/json", **headers}, body)).status == 200

        for _ in range(3):
            call("stock.get", Authorization=f"Bearer {KEY}")
        call("stock.v1.get")
        call("stock.unknown")
        process.send_signal(signal.SIGHUP)
        for line in process.stderr:
            if "reloaded" in line:
                break
        call("stock.get", Authorization=f"Bearer {KEY}")
    finally:
        process.terminate()
        process.communicate(timeout=20)
    shown = partial(
        ran, "--config", str(tmp_path / "conf" / "gateway.toml"), "--set", f"server.callers={tmp_path}/callers"
    )
    table = [line.split() for line in shown("stock.get")[1].splitlines()]
    assert table[0][:2] == ["CALLED", "SERVED"]
    assert table[1][:5] == ["stock.get", "stock.v1.get", "key", "odoo", "4"]
    by_version = shown("*.v1.*")[1].splitlines()
    assert len(by_version) == 5
    assert "stock.v1.get  stock.v1.get  address 127.0.0.1  1" in shown("stock.v1.get")[1]
    assert shown("stock.unknown")[1].startswith("gateway: nobody has called stock.unknown since 20")
