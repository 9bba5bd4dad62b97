"""Ints that JavaScript would round: texts where it is configured, for all methods or for those of one upstream."""

import json
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any
from xmlrpc.client import ServerProxy

import jsonschema  # type: ignore[import-untyped]  # it has no types of its own
import pydantic
import pytest
from msgspec import Meta

from gateway import ConfigError, Fault, Registry
from gateway.config import load
from gateway.methods.shapes import shape_of
from gateway.model.values import with_int_texts
from tests.raw_http import post
from tests.serving import Server, serving
from tests.upstreams.jsonrpc.test_tcp import Peer
from tests.upstreams.jsonrpc.test_tcp import server as tcp_server

SAFE, WIDE = 2**53 - 1, 2**53
TEXT = {"jsonrpc.int64": "text"}
registry = Registry()


@dataclass
class Order:
    number: int
    note: str = ""


class Big(IntEnum):
    ONE = WIDE


@registry.register
def echo(value: Any) -> Any:
    return value


@registry.register
def big() -> Big:
    return Big.ONE


@registry.register
def double(number: int) -> int:
    return 2 * number


@registry.register
def order(order: Order, more: list[int | None]) -> Order:
    return Order(order.number + 1, f"{order.note}{sum(each or 0 for each in more)}")


@registry.register
def either(value: int | str) -> str:
    return type(value).__name__


class Model(pydantic.BaseModel, strict=True):
    number: int
    more: list[int | None] = []
    text: int | str = 0


@registry.register
def model(model: Model) -> Model:
    return model


@registry.register
def bounded(number: Annotated[int, Meta(ge=0, le=SAFE)]) -> int:
    return number


@registry.register
def fail() -> None:
    raise Fault(5, "no", {"number": WIDE})


def answer(server: Server, method: str, *params: Any) -> dict[str, Any]:
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": WIDE}).encode()
    said: dict[str, Any] = json.loads(post(server.port, body).body)
    assert said["id"] == WIDE
    return said


def test_numbers_stay_numbers_by_default() -> None:
    with serving(registry) as server:
        assert answer(server, "echo", [SAFE, WIDE, 2**70])["result"] == [SAFE, WIDE, 2**70]
        assert answer(server, "double", str(WIDE))["error"]["code"] == -32602


def test_wide_ints_are_texts_both_ways() -> None:
    with serving(registry, TEXT) as server:
        told = [SAFE, -SAFE, str(WIDE), str(-WIDE), {"a": [str(2**70)]}, True, 1.5]
        assert answer(server, "echo", [SAFE, -SAFE, WIDE, -WIDE, {"a": [2**70]}, True, 1.5])["result"] == told
        assert answer(server, "echo", str(WIDE))["result"] == str(WIDE)
        assert answer(server, "big")["result"] == str(WIDE)
        assert answer(server, "double", str(WIDE))["result"] == str(2 * WIDE)
        assert answer(server, "double", str(-(2**70)))["result"] == str(-(2**71))
        assert answer(server, "double", WIDE)["result"] == str(2 * WIDE)
        assert answer(server, "double", 2.0)["result"] == 4
        given = answer(server, "order", {"number": str(WIDE), "note": str(WIDE)}, [str(WIDE), None, 1])["result"]
        assert given == {"number": str(WIDE + 1), "note": f"{WIDE}{WIDE + 1}"}
        assert answer(server, "either", str(WIDE))["result"] == "str"
        assert answer(server, "fail")["error"]["data"] == {"number": str(WIDE)}


def test_pydantic_gets_ints_for_the_texts_of_wide_ones() -> None:
    given = {"number": str(WIDE), "more": [str(-WIDE), None, 1], "text": str(WIDE)}
    with serving(registry, TEXT) as server, ServerProxy(server.url) as client:
        assert answer(server, "model", given)["result"] == given
        for wrong in ("5", "x", 1.0):
            assert answer(server, "model", {"number": wrong})["error"]["data"]["detail"].startswith(
                "params[0].number: "
            )
        with pytest.raises(Exception, match=r"params\[0\]\.number: input should be a valid integer"):
            client.model({"number": str(WIDE)})


def test_the_schemas_of_ints_say_when_they_are_texts() -> None:
    with serving(registry, TEXT) as server:
        document = answer(server, "rpc.discover")["result"]
        assert server.gateway.describe()["methods"] == document["methods"]
        methods = {each["name"]: each for each in document["methods"]}
        both = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^-?[1-9][0-9]{15,}$"}]}
        assert methods["double"]["params"][0]["schema"] == methods["double"]["result"]["schema"] == both
        assert methods["bounded"]["params"][0]["schema"] == {"type": "integer", "minimum": 0, "maximum": SAFE}
        for name in ("order", "model"):
            params = [{"number": str(WIDE)}, *([[str(WIDE), None, 1]] if name == "order" else [])]
            result = answer(server, name, *params)["result"]
            for value, described in zip(
                (*params, result), (*methods[name]["params"], methods[name]["result"]), strict=True
            ):
                schema = {**described["schema"], "components": document["components"]}
                jsonschema.Draft7Validator(schema).validate(value)
        with ServerProxy(server.url) as client:
            found: Any = client.rpc.discover()
            named = {each["name"]: each for each in found["methods"]}
            assert named["double"]["result"]["schema"] == {"type": "integer"}
    with serving(registry) as server:
        methods = {each["name"]: each for each in answer(server, "rpc.discover")["result"]["methods"]}
        assert methods["double"]["result"]["schema"] == {"type": "integer"}


@pytest.mark.parametrize(
    "text", [str(SAFE), "5", f"0{WIDE}", f"+{WIDE}", f" {WIDE}", f"{WIDE}.0", "1e30", "\u0661" * 20, "9" * 4300, ""]
)
def test_other_texts_are_no_ints(text: str) -> None:
    with serving(registry, TEXT) as server:
        assert answer(server, "double", text)["error"]["code"] == -32602


def test_xml_rpc_has_ints_of_64_bits() -> None:
    with serving(registry, TEXT) as server, ServerProxy(server.url) as client:
        assert client.echo(7) == 7
        assert client.big() == WIDE
        with pytest.raises(Exception, match="expected int, got str"):
            client.double(str(WIDE))


@pytest.mark.parametrize("more", ["", "int64 = 'text'\n"])
def test_one_upstream_can_have_it(more: str, tmp_path: Path) -> None:
    def receive(peer: Peer, call: dict[str, Any]) -> None:
        peer.answer(call, DOCUMENT if call["method"] == "rpc.discover" else [WIDE, SAFE, call["params"]])

    file = tmp_path / "gateway.toml"
    with tcp_server(receive) as (port, _):
        file.write_text(f"[upstreams.up]\nurl = 'jsonrpc+tcp://127.0.0.1:{port}'\n{more}")
        with serving(registry, None, file) as server, ServerProxy(server.url) as client:
            told = answer(server, "up.get", str(WIDE))
            if more:
                assert told["result"] == [str(WIDE), SAFE, [str(WIDE)]]
            else:
                assert told["error"]["code"] == -32602
            assert answer(server, "echo", WIDE)["result"] == WIDE
            assert client.up.get(7) == [WIDE, SAFE, [7]]


DOCUMENT = {
    "methods": [
        {
            "name": "get",
            "params": [{"name": "id", "required": True, "schema": {"type": "integer"}}],
            "result": {"name": "r", "schema": {}},
        }
    ]
}


def test_there_are_two_ways_to_write_them() -> None:
    with pytest.raises(ConfigError, match=r"jsonrpc\.int64"):
        load(None, {}, ["jsonrpc.int64=float"])


def test_a_neutral_value_is_written_with_texts() -> None:
    value = {"a": [WIDE, (SAFE, -WIDE)], "b": "x", "c": None, "d": False, "e": 1e300}
    assert with_int_texts(value) == {"a": [str(WIDE), [SAFE, str(-WIDE)]], "b": "x", "c": None, "d": False, "e": 1e300}


def test_texts_are_taken_for_the_ints_of_a_hint_and_for_nothing_else() -> None:
    for hint, taken in ((int, True), (int | None, True), (int | float, True), (int | str, False), (str, False)):
        walk = shape_of(hint).texts
        assert (walk is not None and walk(str(WIDE)) == WIDE) is taken
