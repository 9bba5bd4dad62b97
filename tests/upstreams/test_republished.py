"""What upstreams tell of their methods, told again: OpenRPC documents as they are, signatures and texts of XML-RPC."""

import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault as XMLFault
from xmlrpc.client import ServerProxy, dumps, loads

import jsonschema  # type: ignore[import-untyped]
import pytest
from msgspec.structs import replace

from gateway import Registry
from gateway.upstreams.jsonrpc import openrpc
from gateway.upstreams.jsonrpc.openrpc import from_document
from gateway.upstreams.xmlrpc import introspection
from tests.methods.test_introspection import META_SCHEMA
from tests.raw_http import post
from tests.serving import Server, serving
from tests.upstreams.jsonrpc.test_tcp import Peer
from tests.upstreams.jsonrpc.test_tcp import server as tcp_server
from tests.upstreams.kinds import KINDS, http
from tests.upstreams.running import Program, serve_upstream, until
from tests.upstreams.transport.test_http import server as http_server

PERSON = {"type": "object", "properties": {"name": {"$ref": "#/components/schemas/Name"}, "boss": {}}}
DOCUMENT: dict[str, Any] = {
    "openrpc": "1.2.6",
    "info": {"title": "people", "version": "1"},
    "servers": [{"url": "http://10.0.0.7/"}],
    "methods": [
        {
            "name": "find",
            "summary": "Find a person.",
            "paramStructure": "by-name",
            "params": [
                {"name": "id", "required": True, "schema": {"type": "integer", "minimum": 1, "maximum": 9}},
                {"$ref": "#/components/contentDescriptors/Limit"},
            ],
            "result": {"name": "person", "schema": {"$ref": "#/components/schemas/Person"}},
            "errors": [{"$ref": "#/components/errors/NotFound"}],
            "servers": [{"url": "http://10.0.0.7/people"}],
            "links": [{"name": "x", "method": "other"}],
            "deprecated": True,
        },
        {"name": "broken", "params": [{"$ref": "#/definitions/X"}], "result": {"name": "r", "schema": {}}},
        {"name": "void", "params": []},
    ],
    "components": {
        "schemas": {"Person": PERSON, "Name": {"type": "string", "maxLength": 9}, "Secret": {"type": "string"}},
        "contentDescriptors": {"Limit": {"name": "limit", "schema": {"$ref": "#/components/schemas/Name"}}},
        "errors": {"NotFound": {"code": 5, "message": "no such person"}},
    },
}


def discovered(gateway: Server) -> dict[str, Any]:
    body = b'{"jsonrpc": "2.0", "method": "rpc.discover", "id": 1}'
    result: dict[str, Any] = json.loads(post(gateway.port, body).body)["result"]
    return result


def tells(document: Any) -> Callable[[Peer, dict[str, Any]], None]:
    return lambda peer, call: peer.answer(call, document if call["method"] == "rpc.discover" else call["params"])


def test_a_document_is_told_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    with tcp_server(tells(DOCUMENT)) as (port, _):
        file.write_text(
            "".join(f"[upstreams.{name}]\nurl = 'jsonrpc+tcp://127.0.0.1:{port}'\n" for name in ("a", "b"))
            + "[upstreams.b.rename]\nfind = 'look'\n"
        )
        with serving(Registry(), None, file) as gateway:
            until(lambda: gateway.gateway.registry.get("b.look", "jsonrpc"))
            until(lambda: gateway.gateway.registry.get("a.find", "jsonrpc"))
            document = discovered(gateway)
            with ServerProxy(gateway.url, allow_none=True) as client:
                told: Any = client.rpc.discover()
                assert told["components"] == document["components"]
            call = {"jsonrpc": "2.0", "method": "a.find", "params": {"id": 3}, "id": 1}
            assert json.loads(post(gateway.port, json.dumps(call).encode()).body)["result"] == {"id": 3}
    jsonschema.Draft7Validator(META_SCHEMA).validate(document)
    methods = {each["name"]: each for each in document["methods"]}
    find = DOCUMENT["methods"][0]
    expected = {name: value for name, value in find.items() if name not in ("servers", "links")}
    for prefix, name in (("a", "a.find"), ("b", "b.look")):
        own = json.loads(re.sub(r"(#/components/\w+/)", rf"\g<1>{prefix}.", json.dumps(expected)))
        assert methods[name] == own | {"name": name}
    assert methods["a.broken"]["paramStructure"] == "by-position"
    components = document["components"]
    assert components["schemas"]["a.Person"]["properties"]["name"] == {"$ref": "#/components/schemas/a.Name"}
    assert components["errors"] == {f"{name}.NotFound": DOCUMENT["components"]["errors"]["NotFound"] for name in "ab"}
    assert not {"a.Secret", "b.Secret"} & components["schemas"].keys(), "no method refers to it"
    assert "10.0.0.7" not in json.dumps(document)


@pytest.mark.parametrize(
    "part",
    [
        {"x": "\x01"},
        {"x\x01": 1},
        {"maximum": 2**63},
        {"$ref": "#/components/schemas/Nobody"},
        {"$ref": "#/components/schemas"},
        {"$ref": "#"},
        {"$ref": "#/methods/0"},
    ],
    ids=str,
)
def test_what_callers_could_not_be_told_is_left_out(part: dict[str, Any]) -> None:
    plain = {"name": "a", "params": [], "result": {"name": "r", "schema": {}}}
    odd = {**plain, "name": "b", "result": {"name": "r", "schema": [part]}}
    made = {each.name: each.openrpc for each in from_document({"methods": [plain, odd]})}
    assert made == {"a": {"params": [], "result": {"name": "r", "schema": {}}}, "b": None}
    whole = {"methods": [plain], "components": {"schemas": {"X": part}}}
    assert [each.openrpc for each in from_document(whole)] == [None]


@pytest.mark.parametrize("components", [3, [], {"schemas": 3}])
def test_components_that_are_none(components: Any) -> None:
    plain = {"name": "a", "params": [], "result": {"name": "r", "schema": {}}}
    assert [each.openrpc for each in from_document({"methods": [plain], "components": components})] == [None]


def test_a_document_that_is_large_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"name": "a", "description": "x" * 1000, "params": [], "result": {"name": "r", "schema": {}}}
    assert from_document({"methods": [plain]})[0].openrpc is not None
    monkeypatch.setattr(openrpc, "_MOST_BYTES", 1000)
    assert from_document({"methods": [plain]})[0].openrpc is None


# XML-RPC

SIGNATURES: dict[str, Any] = {"add": [["int", "int", "int"]], "get": [["string"], ["string", "int"]], "odd": "undef"}
HELP = {"add": " Add two numbers. ", "get": "", "odd": 3}


def answering(asked: list[str], *, multicall: bool) -> Callable[[bytes, socket.socket], None]:
    def value(method: str, params: Any) -> Any:
        asked.append(method)
        if method == "system.listMethods":
            return [*SIGNATURES, "system.listMethods"]
        if method == "system.multicall" and multicall:
            return [[value(each["methodName"], each["params"])] for each in params[0]]
        if method == "system.methodSignature":
            return SIGNATURES[params[0]]
        if method == "system.methodHelp":
            return HELP[params[0]]
        raise XMLFault(1, f"<class 'Exception'>:method \"{method}\" is not supported")

    def answer(request: bytes, connection: socket.socket) -> None:
        params, method = loads(request.partition(b"\r\n\r\n")[2])
        try:
            said = dumps((value(str(method), params),), methodresponse=True)
        except XMLFault as fault:
            said = dumps(fault)
        connection.sendall(http(said.encode()))

    return answer


@pytest.mark.parametrize("multicall", [True, False])
def test_signatures_and_texts_of_xml_rpc_are_told(multicall: bool, tmp_path: Path) -> None:
    asked: list[str] = []
    with (
        http_server(answering(asked, multicall=multicall)) as port,
        serve_upstream(KINDS[0], port, tmp_path) as up,
        ServerProxy(up.server.url) as client,
    ):
        until(lambda: up.offers("odd"))
        assert client.system.methodSignature("up.add") == [["int", "int", "int"]]
        assert client.system.methodSignature("up.get") == [["string"], ["string", "int"]]
        assert client.system.methodSignature("up.odd") == "undef"
        assert client.system.methodHelp("up.add") == "Add two numbers."
        assert client.system.methodHelp("up.odd") == ""
        document = discovered(up.server)
    jsonschema.Draft7Validator(META_SCHEMA).validate(document)
    methods = {each["name"]: each for each in document["methods"]}
    assert methods["up.add"] == {
        "name": "up.add",
        "description": "Add two numbers.",
        "paramStructure": "by-position",
        "params": [{"name": f"p{number}", "schema": {"type": "integer"}, "required": True} for number in (1, 2)],
        "result": {"name": "result", "schema": {"type": "integer"}},
    }
    assert methods["up.get"]["paramStructure"] == "by-position"
    assert asked.count("system.multicall") == 1
    assert asked.count("system.methodSignature") == asked.count("system.methodHelp") == 3
    assert "system.listMethods" in asked


def test_what_the_standard_librarys_server_tells(tmp_path: Path) -> None:
    with (
        Program(KINDS[0]) as program,
        serve_upstream(KINDS[0], program.port, tmp_path) as up,
        ServerProxy(up.server.url) as client,
    ):
        until(lambda: up.offers("add"))
        assert client.system.methodSignature("up.add") == "undef"


def test_another_gateway_is_asked_by_multicalls(tmp_path: Path) -> None:
    registry = Registry()

    @registry.register
    def add(a: int, b: int = 5) -> int:
        """Add two numbers."""
        return a + b

    for number in range(120):
        registry.register(lambda: 1, name=f"m{number}")
    file = tmp_path / "outer.toml"
    with serving(registry) as inner:
        file.write_text(f"[upstreams.up]\nurl = 'xmlrpc+{inner.url}'\n")
        with serving(Registry(), None, file) as outer, ServerProxy(outer.url) as client:
            until(lambda: outer.gateway.registry.get("up.add", "xmlrpc"))
            assert client.system.methodSignature("up.add") == [["int", "int"], ["int", "int", "int"]]
            assert client.system.methodHelp("up.add") == "Add two numbers."


def test_signatures_that_do_not_come_in_time_hold_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introspection, "_SECONDS", 0.1)
    real = answering([], multicall=False)

    def answer(request: bytes, connection: socket.socket) -> None:
        if b"system.listMethods" in request:
            real(request, connection)

    with (
        http_server(answer) as port,
        serve_upstream(KINDS[0], port, tmp_path) as up,
        ServerProxy(up.server.url) as client,
    ):
        until(lambda: up.offers("add"))
        assert client.system.methodSignature("up.add") == "undef"
        assert up.upstream.status.state == "up"


@pytest.mark.parametrize(
    "said", [None, "undef", [3], [[]], [["int", 3]], [["in\tt"]], [["x" * 41]], [["int"]] * 21, [["int"] * 51]], ids=str
)
def test_what_is_not_an_array_of_signatures(said: Any) -> None:
    assert introspection._signatures(said) == ()


MANY = [f"m{number}" for number in range(120)]


def test_multicalls_have_a_hundred_calls_at_most(tmp_path: Path) -> None:
    sizes: list[int] = []

    def answer(request: bytes, connection: socket.socket) -> None:
        params, method = loads(request.partition(b"\r\n\r\n")[2])
        if method == "system.multicall":
            entries: Any = params[0]
            sizes.append(len(entries))
            said: Any = [["x" * 20_000 if each["methodName"].endswith("Help") else [["int"]]] for each in entries]
        else:
            said = MANY
        connection.sendall(http(dumps((said,), methodresponse=True).encode()))

    with http_server(answer) as port, serve_upstream(KINDS[0], port, tmp_path) as up:
        until(lambda: up.offers("m119"))
        found = up.server.gateway.registry.get("up.m119", "xmlrpc")
        assert found is not None
        assert len(found.doc) == 10_000
    assert sizes == [100, 100, 40]


def test_only_a_few_are_asked_at_once(tmp_path: Path) -> None:
    running: list[int] = []
    most: list[int] = []
    real = answering([], multicall=False)

    def answer(request: bytes, connection: socket.socket) -> None:
        if b"system.method" not in request:
            real(request, connection)
            return
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()
        real(request, connection)

    names = {f"m{number}": "undef" for number in range(30)}
    SIGNATURES.update(names)
    HELP.update(dict.fromkeys(names, ""))
    try:
        with http_server(answer) as port, serve_upstream(replace(KINDS[0], options=""), port, tmp_path) as up:
            until(lambda: up.offers("m29"))
    finally:
        for name in names:
            del SIGNATURES[name], HELP[name]
    assert 1 < max(most) <= 4
