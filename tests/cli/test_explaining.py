"""``gateway explain`` says what then happens: each explanation is compared with a call; and ``gateway errors``."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.model.explained import explanations
from gateway.model.faults import CATALOGUE, Entry
from gateway.telemetry.log import _FORMATTERS
from tests.endpoints.console_methods import registry
from tests.raw_http import Wire, request
from tests.serving import serving

METHODS = "tests.endpoints.console_methods:registry"
KEY = "gw_" + "k" * 43
KEYS = {"access.keys": json.dumps({"ada": f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"})}
RULES = {
    "access.anonymous": "true",
    "access.rules": json.dumps(
        [
            {"methods": ["math.halve"], "keys": ["ada"]},
            {"methods": ["math.*"], "networks": ["127.0.0.2"]},
            {"methods": ["guarded.*"], "certificates": ["nobody"]},
        ]
    ),
}
VERSIONS = {"versions.many.default": "group1", "versions.many.prefixes": '{"group1": "many.group1."}'}
CALLS: list[tuple[Mapping[str, str], str, dict[str, str]]] = [
    ({}, "math.add", {}),
    ({}, "no.such", {}),
    ({}, "system.multicall", {}),
    ({}, "system.listMethods", {}),
    ({"access.allow": "192.0.2.0/24"}, "math.add", {}),
    ({"access.allow": "192.0.2.0/24,127.0.0.2"}, "math.add", {"from": "127.0.0.2"}),
    ({"access.hosts": "rpc.example.com"}, "math.add", {}),
    ({"access.hosts": "rpc.example.com"}, "math.add", {"host": "RPC.example.com:8000"}),
    ({}, "math.add", {"origin": "https://app.example"}),
    ({"access.origins": "https://app.example"}, "math.add", {"origin": "https://app.example"}),
    (KEYS, "math.add", {}),
    (KEYS, "math.add", {"key": "eve"}),
    (KEYS, "math.add", {"key": "ada"}),
    (KEYS | RULES, "echo", {}),
    (KEYS | RULES, "echo", {"key": "eve"}),
    (KEYS | RULES, "math.add", {}),
    (KEYS | RULES, "math.add", {"from": "127.0.0.2"}),
    (KEYS | RULES, "math.half", {"from": "127.0.0.2"}),
    (KEYS | RULES, "math.half", {"from": "127.0.0.2", "key": "ada"}),
    (KEYS | RULES, "guarded.who", {"key": "ada"}),
    (KEYS | RULES, "guarded.none", {}),
    (VERSIONS, "many.method101", {}),
    (VERSIONS, "many.method999", {}),
]


def explained(settings: Mapping[str, str], method: str, options: Mapping[str, str], *more: str) -> tuple[int, str]:
    words = [word for item in settings.items() for word in ("--set", "=".join(item))]
    words += [word for name, value in options.items() for word in (f"--{name}", value)]
    ran = CliRunner().invoke(main, ["explain", method, METHODS, *words, *more], catch_exceptions=False)
    return ran.exit_code, ran.output


def called(settings: Mapping[str, str], method: str, options: Mapping[str, str]) -> tuple[int, int | None]:
    """Make a call, and return its HTTP status and the code of its fault, as far as it is one of the gateway's rules."""
    headers = {"Content-Type": "application/json", "Host": options.get("host", "localhost")}
    if "origin" in options:
        headers["Origin"] = options["origin"]
    if "key" in options:
        headers["Authorization"] = f"Bearer {KEY if options['key'] == 'ada' else 'gw_wrong'}"
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": [], "id": 1}).encode()
    data = request("/api", headers, body).replace(b"Host: localhost\r\n", b"", 1)
    with serving(registry, settings) as server, Wire(server.port, source=options.get("from", "127.0.0.1")) as wire:
        wire.send(data)
        response = wire.read()
    assert response is not None
    code = json.loads(response.body).get("error", {}).get("code")
    return response.status, None if code == -32602 else code


@pytest.mark.parametrize(("settings", "method", "options"), CALLS)
def test_what_is_said_is_what_happens(settings: Mapping[str, str], method: str, options: dict[str, str]) -> None:
    code, output = explained(settings, method, options, "--json")
    said = json.loads(output)
    assert (said["status"], said["code"]) == called(settings, method, options)
    assert said["runs"] == (code == 0) == (said["code"] is None)


FILE = f"""\
# access.allow is below
[access]
allow = ["10.0.0.0/8", "127.0.0.1"]
trusted_proxies = ["127.0.0.1"]
anonymous = true

[access.keys]
ada = "sha256:{"0" * 64}"

[[access.rules]]
methods = ["add"]
keys = ["ada"]

[[access.rules]]
methods = ["get"]
networks = ["127.0.0.1"]

[upstreams.w]
url = ["jsonrpc+tcp://127.0.0.1:1", "jsonrpc+tcp://127.0.0.1:2"]
prefix = ""
methods = ["get"]
idempotent = ["get*"]
timeout = {{ get = 3 }}

[limits]
client_rate = 5.0
"""


def lines(tmp_path: Path, *arguments: str) -> list[str]:
    file = tmp_path / "gateway.toml"
    file.write_text(FILE)
    ran = CliRunner().invoke(
        main,
        ["explain", *arguments, METHODS, "--config", str(file), "--set", "limits.waiting=3"],
        catch_exceptions=False,
    )
    return ran.output.replace(str(file), "FILE").splitlines()


def test_each_line_names_the_line_that_decides(tmp_path: Path) -> None:
    said = "\n".join(lines(tmp_path, "get"))
    for part in (
        "127.0.0.1 is a trusted proxy",
        "[access.trusted_proxies (FILE:4)]",
        "127.0.0.1 is in 127.0.0.1/32  [access.allow (FILE:3)]",
        "callers without one are let in, too  [access.anonymous (FILE:5)]",
        "5 calls per second, 100 at once; one more has the fault -32003  [limits.client_rate (FILE:26)]",
        "the first rule about get permits it  [access.rules[1] (FILE:14)]",
        "get is upstreams.w (jsonrpc+tcp://127.0.0.1:1, jsonrpc+tcp://127.0.0.1:2)",
        "chosen by ewma  [upstreams.w.url (FILE:19)]",
        "get may run twice: it is tried again where a connection breaks  [upstreams.w.idempotent (FILE:22)]",
        "3 s, then the fault -32001  [upstreams.w.timeout (FILE:23)]",
        "3 more wait  [limits.calls (default)]",
        "get would be called",
    ):
        assert part in said
    assert "the key ada  [access.keys (FILE:7)]" in "\n".join(lines(tmp_path, "get", "--key", "ada"))


def test_a_certificate_is_needed_where_clients_are_asked_for_one(tmp_path: Path) -> None:
    code, output = explained({"tls.certificate": "a", "tls.key": "a", "tls.client_ca": "a"}, "math.add", {})
    assert code == 1
    assert output.endswith("math.add would not be called: there is no connection\n")
    assert tmp_path.exists()


def test_an_upstream_that_does_not_tell_its_methods(tmp_path: Path) -> None:
    code, output = explained({"upstreams.gone.url": "jsonrpc+tcp://127.0.0.1:1"}, "gone.get", {})
    assert code == 1
    assert "upstreams.gone may have it, but has not told its methods: " in output
    assert "fault -32002" in output
    assert tmp_path.exists()


def test_an_address_is_an_address() -> None:
    code, output = explained({}, "math.add", {"from": "somewhere"})
    assert (code, "'somewhere' is not an IP address" in output) == (2, True)


def log_of(form: Any) -> str:
    """Write a log with two errors, as the gateway does."""
    formatter = _FORMATTERS[form]()
    entries = []
    for number in range(2):
        try:
            dict[str, int]()[f"article {number}\x1b[31m"]
        except KeyError as error:
            found = (type(error), error, error.__traceback__)
        text = f"error id{number}e807a5e in stock.count (request r{number}-1)"
        entries.append(formatter.format(logging.LogRecord("gateway.errors", 40, "", 0, text, (), found)))
    return "\n".join(entries) + "\n"


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("asked", ["id1e807a5e", "r1-1"])
def test_an_error_is_found_with_its_traceback(form: str, asked: str, tmp_path: Path) -> None:
    file = tmp_path / "log"
    text = log_of(form)
    file.write_text(text)
    ran = CliRunner().invoke(main, ["errors", asked, str(file)])
    assert ran.exit_code == 0
    assert ran.output.count("stock.count") == 1
    assert "error id1e807a5e in stock.count" in ran.output
    assert "    Traceback (most recent call last):\n" in ran.output
    assert "KeyError" in ran.output
    assert "article 0" not in ran.output
    assert "\x1b" not in ran.output
    assert CliRunner().invoke(main, ["errors", asked], input=text).output == ran.output


def test_an_id_that_is_not_there() -> None:
    ran = CliRunner().invoke(main, ["errors", "id1e807a5"], input=log_of("text"))
    assert (ran.exit_code, ran.output) == (1, "gateway: id1e807a5 is not in the log\n")
    assert CliRunner().invoke(main, ["errors", ".*"], input="").exit_code == 2


@pytest.mark.parametrize("row", CATALOGUE.values())
def test_the_code_of_a_fault_is_explained(row: Entry) -> None:
    ended = CliRunner().invoke(main, ["errors", str(row.code)])
    assert (ended.exit_code, ended.output) == (0, "\n\n".join(explanations(row.code)) + "\n")
    assert f"{row.code} {row.title}\n" in ended.output


def test_a_code_that_is_not_of_the_gateway_is_said_to_be_the_methods_own(tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, ["errors", "17"])
    assert (ended.exit_code, ended.output) == (
        1,
        "gateway: 17 is not one of the gateway's own codes: the documentation of the method says what it means\n",
    )
    (tmp_path / "log").write_text("2026-11-29T10:00:00.000Z info    call method=a code=-32002\n")
    assert "code=-32002" in CliRunner().invoke(main, ["errors", "-32002", str(tmp_path / "log")]).output
