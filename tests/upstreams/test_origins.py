"""The programs of old articles about RPC in Python, their servers behind the gateway, their clients in front of it."""

import json
import socket
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, MultiCall, ServerProxy

import pytest
from msgspec.structs import replace

from gateway import Registry
from tests.conftest import Logged
from tests.serving import serving
from tests.upstreams.kinds import KINDS, Kind
from tests.upstreams.running import Program, serve_upstream, until

pytestmark = pytest.mark.unmeasured

XML, JSON, TCP, NETSTRING = KINDS[:4]
PLAIN = "prefix = ''"


def test_the_standard_librarys_calculator_and_its_object(tmp_path: Path) -> None:
    with Program(XML) as program, serve_upstream(XML, program.port, tmp_path, PLAIN) as up:
        until(lambda: up.server.gateway.registry.get("add", "xmlrpc"))
        with proxy(up.server.url) as server:
            assert (server.add(10, 5), server.subtract(10, 5), server.multiply(10, 5)) == (15, 5, 50)
            assert server.divide(7, 3) == pytest.approx(7 / 3)
            with pytest.raises(Fault) as raised:
                server.divide(7, 0)
            assert (raised.value.faultCode, raised.value.faultString) == (1, "division by zero")
            multicall = MultiCall(server)
            multicall.add(7, 3)
            multicall.subtract(7, 3)
            multicall.multiply(7, 3)
            multicall.divide(7, 3)
            results: Any = multicall()
            assert tuple(results) == (10, 4, 21, 7 / 3)
            assert server.getObj() is None
            for number in range(500):
                assert server.sendObj({"number": number, "none": [None]}) is True
            for _ in range(500):
                assert server.getObj() == {"number": 499, "none": [None]}
            assert {"add", "divide", "getObj", "sendObj"} <= set(server.system.listMethods())


def test_json_over_http(tmp_path: Path) -> None:
    with Program(JSON) as program, serve_upstream(JSON, program.port, tmp_path) as up:
        until(lambda: up.offers("add"))
        assert up.call("add", 10, 5) == 15
        assert up.call("search", last_name="Python") == [[1, "Python", "Guido", "1991"], [2, "Python", "Monty", "1969"]]
        with proxy(up.server.url) as server:
            assert server.up.search("1959") == [[3, "Hopper", "Grace", "1959"]]


@pytest.mark.parametrize("kind", [TCP, NETSTRING], ids=lambda kind: kind.name)
@pytest.mark.parametrize("known", [True, False], ids=["parameters", "names"])
def test_json_over_plain_tcp(kind: Kind, known: bool, tmp_path: Path) -> None:
    if known:
        table = "methods = { echo = ['value'], search = ['number?', 'last_name?', 'first_name?'] }"
        kind = replace(kind, options=f"{kind.options.partition(chr(10))[2]}\n{table}")
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path) as up:
        assert up.call("echo", "hello world") == "hello world"
        guido = [1, "Python", "Guido", "1991"]
        assert up.call("search", last_name="Python", first_name="Guido") == [guido]
        assert up.call("search", "1991") == [guido]
        with proxy(up.server.url) as server:
            assert server.up.echo("hello world") == "hello world"
            assert server.up.search("1991", "Python") == [guido]
        if known:
            assert up.answer("search", name="Python")["error"]["data"]["detail"] == (
                "params.name: there is no such parameter"
            )
            assert up.answer("echo")["error"]["data"]["detail"] == "params.value: missing"


def proxy(url: str) -> Any:
    return ServerProxy(url, allow_none=True)


def test_a_gateway_behind_a_gateway_by_http_and_by_tcp(tmp_path: Path, logged: Logged) -> None:
    """Names, types and faults come through; this is both halves of JSON-RPC over plain TCP."""
    registry = Registry()

    @registry.register
    def add(a: int, b: int = 5) -> int:
        """Add two numbers."""
        return a + b

    @registry.register
    def crash(why: str) -> None:
        raise RuntimeError(why)

    file = tmp_path / "outer.toml"
    with serving(registry, {"server.tcp": "127.0.0.1:0"}) as inner:
        file.write_text(
            f'[upstreams.http]\nurl = "jsonrpc+{inner.url}"\n'
            f'[upstreams.tcp]\nurl = "jsonrpc+tcp://127.0.0.1:{inner.tcp_port}"\n'
        )
        with serving(Registry(), None, file) as outer, proxy(outer.url) as server:
            for name in ("http", "tcp"):
                until(lambda: outer.gateway.registry.get(f"{name}.add", "jsonrpc"))  # noqa: B023 - over at once
                assert getattr(server, name).add(10) == 15
                assert server.system.methodHelp(f"{name}.add") == "Add two numbers."
                assert server.system.methodSignature(f"{name}.add") == [["int", "int"], ["int", "int", "int"]]
                with pytest.raises(Fault) as raised:
                    getattr(server, name).add("x")
                assert raised.value.faultString == "Invalid params: params[0]: expected int, got str"
                with pytest.raises(Fault) as raised:
                    getattr(server, name).crash("a secret")
                assert (raised.value.faultCode, raised.value.faultString) == (-32000, "the upstream failed")
            described = {method["name"]: method for method in server.rpc.discover()["methods"]}
            assert described["tcp.add"]["params"] == described["http.add"]["params"]
            assert [(each["name"], each["schema"], each["required"]) for each in described["tcp.add"]["params"]] == [
                ("a", {"type": "integer"}, True),
                ("b", {"type": "integer", "default": 5}, False),
            ]
            assert not {"http.system.listMethods", "tcp.rpc.discover"} & described.keys()
    assert len(logged.take("a secret")) == 2


def test_the_tcp_server_by_a_client_of_four_lines() -> None:
    registry = Registry()
    registry.register(lambda text: text, name="echo")
    with (
        serving(registry, {"server.tcp": "127.0.0.1:0"}) as server,
        socket.create_connection(("127.0.0.1", server.tcp_port)) as client,
        client.makefile("rwb") as lines,
    ):
        lines.write(b'{"jsonrpc": "2.0", "method": "echo", "params": ["hello world"], "id": 1}\n')
        lines.flush()
        assert json.loads(lines.readline())["result"] == "hello world"
