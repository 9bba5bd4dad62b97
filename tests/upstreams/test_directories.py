"""Upstreams whose instances a directory lists: the list, what is wrong with it, and what becomes of calls meanwhile."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway import Registry
from gateway.app import build
from gateway.config import ConfigError, load
from gateway.fleet.directories import file as module
from gateway.fleet.listing import Instance
from tests.conftest import Logged
from tests.serving import serving
from tests.upstreams.kinds import KINDS
from tests.upstreams.running import ROOT, Program, Served, until

LINES = next(kind for kind in KINDS if kind.name == "jsonrpc+tcp")
HTTP = next(kind for kind in KINDS if kind.name == "jsonrpc+http")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at files often."""
    monkeypatch.setattr(module, "_LOOK", 0.02)


def write(folder: Path, *rows: dict[str, Any]) -> None:
    (folder / "new").write_text(json.dumps(rows))
    (folder / "new").replace(folder / "list.json")


def at(*programs: Program, **more: Any) -> list[dict[str, Any]]:
    return [{"address": f"127.0.0.1:{program.port}", **more} for program in programs]


def written(folder: Path, options: str = "", url: str = "jsonrpc+tcp://", methods: str = "['add', 'echo']") -> Path:
    toml = folder / "gateway.toml"
    toml.write_text(
        f"[directories.list]\nkind = 'file'\npath = '{folder}/list.json'\n"
        f"[upstreams.up]\nurl = '{url}'\ndirectory = 'list'\nmethods = {methods}\n{options}\n"
    )
    return toml


def test_calls_follow_the_list(tmp_path: Path) -> None:
    with Program(LINES) as one, Program(LINES) as other:
        write(tmp_path, *at(one))
        with serving(Registry(), None, written(tmp_path)) as server:
            served = Served(server)
            assert served.call("add", 1, 2) == 3  # the start waits for the first list
            write(tmp_path, *at(other))
            rows = served.upstream.instances
            assert rows is not None
            until(lambda: [row.address for row in rows.rows()] == [f"127.0.0.1:{other.port}"])
            one.kill()
            assert [served.call("add", 1, 2) for _ in range(4)] == [3] * 4


def test_only_those_that_fit_are_called(tmp_path: Path) -> None:
    with Program(LINES) as one:
        nobody: list[dict[str, Any]] = [
            {"address": "127.0.0.1:1", "version": "2.0", "group": "a"},
            {"address": "127.0.0.1:2", "version": "1.4", "group": "b"},
            {"url": "thrift://127.0.0.1:3", "version": "1.4", "group": "a"},
            {"address": "127.0.0.1:4", "version": "1.4", "group": "a", "weight": 0},
        ]
        write(tmp_path, *nobody, *at(one, version="1.4", group="a"))
        with serving(Registry(), None, written(tmp_path, "version = '1.*'\ngroup = 'a'")) as server:
            assert [Served(server).call("add", 1, 2) for _ in range(9)] == [3] * 9


def test_before_there_is_a_list_calls_fail_as_never_sent(tmp_path: Path, logged: Logged) -> None:
    with serving(Registry(), None, written(tmp_path)) as server, Program(LINES) as one:
        served = Served(server)
        assert served.fault("add", 1, 2) == (-32002, "no")
        write(tmp_path, *at(one))
        until(lambda: "result" in served.answer("add", 1, 2))
        (tmp_path / "list.json").write_text("[{")
        until(lambda: logged.take("directory list"))
        assert served.call("add", 1, 2) == 3
    logged.take("directory list")


def test_methods_are_asked_for_when_there_is_a_list(tmp_path: Path, logged: Logged) -> None:
    toml = written(tmp_path, url="jsonrpc+http:///", methods="[]")
    with serving(Registry(), None, toml) as server, Program(HTTP) as one:
        write(tmp_path, {"address": "127.0.0.1:1"}, *at(one))
        until(lambda: Served(server).offers("add"))
        assert Served(server).call("add", 1, 2) == 3
    logged.take("directory list")
    logged.take("is out of service")


def test_the_name_in_the_certificate_is_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("stock.example").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "cert.pem"))
    monkeypatch.setenv("CERT", str(tmp_path / "cert.pem"))
    toml = written(tmp_path, f"ca = '{tmp_path}/ca.pem'", url="jsonrpc+tls://")
    with Program(LINES) as one:
        write(tmp_path, *at(one, server_name="stock.example"))
        with serving(Registry(), None, toml) as server:
            assert Served(server).call("add", 1, 2) == 3
        write(tmp_path, *at(one, server_name="other.example"))
        with serving(Registry(), None, toml) as server:
            assert Served(server).fault("add", 1, 2) == (-32002, "no")
    assert logged.take("CERTIFICATE_VERIFY_FAILED")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("url = 'jsonrpc+tcp://a:1'\ndirectory = 'list'", "the url has a host, and the directory lists hosts"),
        ("url = 'jsonrpc+tcp://'", "the url has no host; write it as scheme://host:port, or name a directory"),
        ("url = 'jsonrpc+tcp:///x'\ndirectory = 'list'", "the url must be jsonrpc+tcp://, with nothing after it"),
        ("url = ['jsonrpc+http://', 'jsonrpc+http://']\ndirectory = 'list'", "with a directory, url is one text"),
        (
            "url = 'jsonrpc+tcp://a:1'\nversion = '1'",
            "directory_service, version and group are for an upstream with a directory",
        ),
        (
            "url = 'jsonrpc+tcp://'\ndirectory = 'lost'",
            "upstreams.up.directory: there is no table [directories.lost]; did you mean list?",
        ),
    ],
)
def test_what_does_not_go_together_is_told(options: str, problem: str, tmp_path: Path) -> None:
    toml = tmp_path / "gateway.toml"
    toml.write_text(f"[directories.list]\nkind = 'file'\npath = 'x'\n[upstreams.up]\n{options}\n")
    with pytest.raises(ConfigError) as error:
        load(toml, {}, ())
    assert problem in str(error.value)


def test_a_parameter_that_decides_and_that_no_method_has_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    toml = written(tmp_path, "balance = 'hash'\nhash_by = 'params.item'", methods="{ get = ['items'] }")
    (upstream,) = build(load(toml, {}, ()), Registry()).upstreams
    assert upstream.unmatched == ["hash_by: none of its methods has a parameter item; did you mean items?"]


def test_the_same_parameter_goes_to_the_same_instance(tmp_path: Path) -> None:
    with Program(LINES) as one, Program(LINES) as other:
        write(tmp_path, *at(one, other))
        toml = written(
            tmp_path, "balance = 'hash'\nhash_by = 'params.data'", methods="{ sendObj = ['data'], getObj = ['data?'] }"
        )
        with serving(Registry(), None, toml) as server:
            served = Served(server)
            instances = served.upstream.instances
            assert instances is not None
            served.call("getObj")
            served.judged()
            for key in range(8):
                seen = [seat.seen for seat in instances.seats.all]
                for way in range(3):
                    served.answer("sendObj", key) if way else served.answer("sendObj", data=key)
                served.judged()
                assert sum(before != seat.seen for before, seat in zip(seen, instances.seats.all, strict=True)) == 1
            assert all(seat.seen for seat in instances.seats.all)


def test_of_thousands_a_worker_has_connections_to_some(tmp_path: Path) -> None:
    write(tmp_path)
    (upstream,) = build(load(written(tmp_path), {}, ()), Registry()).upstreams
    instances = upstream.instances
    assert instances is not None
    many = tuple(Instance(address=f"10.0.{number // 250}.{number % 250}:1") for number in range(1000))
    instances.listed(many)
    assert len(instances.rows()) == 100
    instances.serve(0)
    first = {row.address for row in instances.rows()}
    instances.serve(1)
    second = {row.address for row in instances.rows()}
    assert (len(first), len(second), first & second) == (100, 100, set())


@pytest.mark.processes
def test_the_command_shows_each_instance(tmp_path: Path) -> None:
    with Program(LINES) as one:
        write(tmp_path, *at(one, version="1.4"), {"address": "127.0.0.1:1", "weight": 50})
        shown = subprocess.run(
            [
                sys.executable,
                "-m",
                "gateway",
                "upstreams",
                "--config",
                str(written(tmp_path)),
                "--set",
                "server.modules=[]",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[1][:2] == ["up", "jsonrpc+tcp://"]
    assert lines[3] == ["up:", "the", "list", "is", "0", "s", "old"]
    assert lines[5:] == [
        ["127.0.0.1:1", "50", "out", "connection", "refused"],
        [f"127.0.0.1:{one.port}", "1.4", "100", "serving"],
    ]
    assert shown.returncode == 0
