"""Upstreams that answer with faults when they are asked for their methods, and patterns that pass any name on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway import ConfigError, Registry
from gateway.app import build
from gateway.config import load
from gateway.upstreams import frame
from tests.conftest import Logged
from tests.raw_http import post
from tests.scraping import scrape
from tests.serving import Server, serving
from tests.upstreams.jsonrpc.test_tcp import TCP, Peer, server
from tests.upstreams.running import serve_upstream, until

HERE = Path(__file__).parent
ASKED = replace(TCP, options="")


def refuse(peer: Peer, call: dict[str, Any], code: int, message: str) -> None:
    peer.say({"jsonrpc": "2.0", "id": call["id"], "error": {"code": code, "message": message}})


@pytest.mark.parametrize("code", [1, -32700, -32602, -32000])
def test_a_fault_for_one_way_of_asking_leads_to_the_next(code: int, tmp_path: Path) -> None:
    def receive(peer: Peer, call: dict[str, Any]) -> None:
        if call["method"] == "rpc.discover":
            refuse(peer, call, code, "Unauthorized")
        else:
            peer.answer(call, ["aria2.addUri"] if call["method"] == "system.listMethods" else call["params"])

    with server(receive) as (port, _), serve_upstream(ASKED, port, tmp_path) as up:
        until(lambda: up.offers("aria2.addUri"))
        assert up.call("aria2.addUri", 7) == [7]
        assert up.upstream.status.state == "up"


def test_what_an_upstream_says_instead_of_its_methods_is_shown(tmp_path: Path, logged: Logged) -> None:
    with (
        server(lambda peer, call: refuse(peer, call, 1, "Unauthorized")) as (port, _),
        serve_upstream(ASKED, port, tmp_path) as up,
    ):
        until(lambda: up.upstream.status.error)
        assert up.upstream.status.state == "up"
        assert up.upstream.status.error.endswith("methods = [...]; it responds: Unauthorized")
        assert up.fault("add")[0] == -32601
    assert logged.take("it responds: Unauthorized")


def judge(peer: Peer, call: dict[str, Any]) -> None:
    if call["method"] == "eth_sign":
        refuse(peer, call, 7, "locked")
    elif call["method"].startswith("eth_unknown"):
        refuse(peer, call, -32601, "Method not found")
    else:
        peer.answer(call, [call["method"], call["params"]])


def call(gateway: Server, method: str, *params: Any) -> dict[str, Any]:
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()
    said: dict[str, Any] = json.loads(post(gateway.port, body).body)
    return said


@pytest.fixture
def passing(tmp_path: Path) -> Callable[[int, str], Path]:
    def write(port: int, options: str) -> Path:
        file = tmp_path / "gateway.toml"
        file.write_text(f"[upstreams.up]\nurl = 'jsonrpc+tcp://127.0.0.1:{port}'\n{options}\n")
        return file

    return write


def test_a_pattern_passes_on_what_fits_and_the_upstream_judges(passing: Callable[[int, str], Path]) -> None:
    options = "methods = ['eth_*', 'net_version']\nhide = ['eth_hidden']\nrename = { eth_call = 'run' }"
    with server(judge) as (port, peers), serving(Registry(), None, passing(port, options)) as gateway:
        assert call(gateway, "up.eth_blockNumber", 1)["result"] == ["eth_blockNumber", [1]]
        assert call(gateway, "up.run")["result"] == ["eth_call", []]
        assert call(gateway, "up.eth_sign")["error"] == {"code": 7, "message": "locked"}
        assert call(gateway, "up.eth_unknown")["error"]["code"] == -32601
        asked = len(peers[0].calls)
        for name in ("up.eth_hidden", "up.other", "eth_call", "up.eth_._a", "up.eth_" + 200 * "x", "up.eth_\u00e4"):
            assert call(gateway, name)["error"]["code"] == -32601
        assert len(peers[0].calls) == asked, "what does not fit has been passed on"


def test_names_that_callers_make_up_are_counted_under_the_pattern(passing: Callable[[int, str], Path]) -> None:
    with (
        server(judge) as (port, _),
        serving(Registry(), None, passing(port, "methods = ['eth_*']")) as gateway,
    ):
        for number in range(3):
            assert "error" in call(gateway, f"up.eth_unknown{number}")
        for _ in range(2):
            assert "result" in call(gateway, "up.eth_blockNumber")
        seen = scrape(gateway.metrics)
        assert seen.of("gateway_calls_total", method="up.eth_*", outcome="fault", code="-32601") == 3
        assert seen.of("gateway_calls_total", method="up.eth_*", outcome="ok") == 1
        assert seen.of("gateway_calls_total", method="up.eth_blockNumber", outcome="ok") == 1
        assert {"up.eth_*", "up.eth_blockNumber"} == {n for n in gateway.gateway.registry if n.startswith("up.")}


def test_rules_hold_for_names_that_a_pattern_passes_on(passing: Callable[[int, str], Path]) -> None:
    rules = json.dumps([{"methods": ["up.eth_send*"], "keys": []}])
    with (
        server(judge) as (port, peers),
        serving(Registry(), {"access.rules": rules}, passing(port, "methods = ['*']")) as gateway,
    ):
        assert call(gateway, "up.eth_sendTransaction")["error"]["code"] == -32005
        assert call(gateway, "up.eth_call")["result"] == ["eth_call", []]
        assert [each["method"] for each in peers[0].calls] == ["eth_call"]


def test_a_renamed_method_cannot_be_called_by_the_upstreams_own_name(passing: Callable[[int, str], Path]) -> None:
    rules = json.dumps([{"methods": ["up.pay"], "keys": []}])
    options = "methods = ['*']\nrename = { eth_send = 'pay' }"
    with (
        server(judge) as (port, peers),
        serving(Registry(), {"access.rules": rules}, passing(port, options)) as gateway,
    ):
        assert call(gateway, "up.pay")["error"]["code"] == -32005
        assert call(gateway, "up.eth_send")["error"]["code"] == -32601
        assert call(gateway, "up.eth_call")["result"] == ["eth_call", []]
        assert [each["method"] for each in peers[0].calls] == ["eth_call"]


def test_only_so_many_names_are_learned(passing: Callable[[int, str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "_MOST_LEARNED", 2)
    with server(judge) as (port, _), serving(Registry(), None, passing(port, "methods = ['eth_*']")) as gateway:
        for number in range(5):
            assert call(gateway, f"up.eth_{number}")["result"] == [f"eth_{number}", []]
        assert {"up.eth_*", "up.eth_0", "up.eth_1"} == {n for n in gateway.gateway.registry if n.startswith("up.")}


@pytest.mark.parametrize("url", ["grpc://127.0.0.1:1", "protobuf://127.0.0.1:1", "thrift://127.0.0.1:1"])
def test_an_upstream_that_knows_its_methods_takes_no_pattern(url: str, passing: Callable[[int, str], Path]) -> None:
    idl = {
        "thrift": f"idl = '{HERE}/programs.thrift'\nservice = 'Calculator'",
        "protobuf": f"proto = ['{HERE}/game.proto']",
    }
    options = f"methods = ['Add*']\n{idl.get(url.partition(':')[0], '')}"
    file = passing(1, options)
    file.write_text(file.read_text().replace("jsonrpc+tcp://127.0.0.1:1", url))
    with pytest.raises(ConfigError, match=r"choose among them with expose and hide|has no method Add"):
        build(load(file, {}, ()), Registry())
