"""Who calls which method: what is counted, what it is bounded by, and what outlives a reload."""

import logging
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from gateway import Registry, running
from gateway.cli import main
from gateway.config import load
from gateway.core.access import make_key
from gateway.model.calls import Caller, CallRecord
from gateway.telemetry.callers import Callers, read
from tests.conftest import Logged
from tests.hosts.mounting import asgi_app, endpoint_of, served, uvicorn_of
from tests.raw_http import post

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


registry = Registry()


@registry.register
def get() -> int:
    return 1


GET = b'{"jsonrpc":"2.0","method":"get","id":1}'
MINE = ("get", "", "address", "127.0.0.1")


def test_they_are_counted_in_another_programs_server_and_the_next_process_goes_on(tmp_path: Path) -> None:
    def mounted() -> Any:
        return served(uvicorn_of(asgi_app(endpoint_of(registry, {"server.callers": tmp_path}))))

    with mounted() as one, mounted() as other:
        for server in (one, one, other):
            assert post(server.port, GET).status == 200
    assert {file.name for file in tmp_path.glob("*.json")} == {"mounted-0.json", "mounted-1.json"}
    with mounted() as again:
        assert post(again.port, GET).status == 200
    assert rows(tmp_path) == [(*MINE, 4)]
    assert len([*tmp_path.glob("*.json")]) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_they_are_counted_in_a_server_inside_of_a_program(tmp_path: Path) -> None:
    config = load(None, {}, [f"server.callers={tmp_path}"])
    for _ in range(2):
        with running(registry, config=config) as server:
            assert post(server.port, GET).status == 200
    assert rows(tmp_path) == [(*MINE, 2)]


def test_a_mount_whose_folder_cannot_be_written_serves(tmp_path: Path, logged: Logged) -> None:
    (tmp_path / "file").touch()
    with served(uvicorn_of(asgi_app(endpoint_of(registry, {"server.callers": tmp_path / "file"})))) as server:
        assert post(server.port, GET).status == 200
    assert len(logged.take("server.callers:")) == 1


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
