"""Tools: their names, and the schemas of their arguments, also those of methods that an upstream tells of."""

import asyncio
import enum
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from msgspec import Meta, Struct
from pydantic import BaseModel

from gateway import Registry
from gateway.config.mcp import MCPSection
from gateway.core.versions import Versions
from gateway.endpoints.mcp.names import property_names, tool_names
from gateway.endpoints.mcp.schemas import Inliner, cleaned
from gateway.endpoints.mcp.tools import Tool, Toolbox
from gateway.methods import MethodOptions, make_method
from gateway.model.calls import Caller
from gateway.model.faults import InvalidParams
from gateway.model.limits import Limits
from gateway.testing import FakeUpstream
from gateway.upstreams import Options
from gateway.upstreams.frame import UpstreamService
from gateway.upstreams.jsonrpc.openrpc import from_document
from tests.codecs.test_properties import fixed

EVERYTHING = MCPSection(expose=("*",))
CALLER = Caller(client="127.0.0.1")
NAME = re.compile(r"[a-zA-Z0-9_-]{1,52}")


def toolbox(registry: Registry, section: MCPSection = EVERYTHING, *, int_texts: bool = False) -> Toolbox:
    box = Toolbox(Versions({}, registry), section, None, int_texts=int_texts)
    asyncio.run(box.look())
    return box


def told(registry: Registry, section: MCPSection = EVERYTHING) -> dict[str, Any]:
    found = {tool["name"]: tool for tool in json.loads(toolbox(registry, section).listed(CALLER))}
    for tool in found.values():
        check(tool)
    return found


def check(tool: dict[str, Any]) -> None:
    """Hold a tool to what clients cannot do without."""
    assert NAME.fullmatch(tool["name"])
    schema = tool["inputSchema"]
    Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    for part in parts(schema):
        assert "$ref" not in part
        assert type(part.get("type", "")) is str
        assert part.get("type") != "array" or "items" in part
        assert "enum" not in part or "type" in part
    assert None not in (tool.get(name, "") for name in ("description", "title", "annotations", "outputSchema"))


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Iterate over all schemas inside of one, and itself."""
    if not isinstance(schema, dict):
        return
    yield schema
    for each in [*schema.get("properties", {}).values(), *(schema.get(n) for n in ("items", "additionalProperties"))]:
        yield from parts(each)
    for name in ("anyOf", "allOf", "prefixItems"):
        for each in schema.get(name, ()):
            yield from parts(each)


def properties_of(function: Any) -> dict[str, Any]:
    registry = Registry()
    registry.register(function, name="f")
    found: dict[str, Any] = told(registry)["f"]["inputSchema"]["properties"]
    return found


# ---- names -----------------------------------------------------------------------------------------------------------


def test_names_are_those_that_models_take_and_lead_back() -> None:
    names = ["add", "shop.find", "a.b", "a_b", "a:b", "größe", "x" * 52, "x" * 53, "y" * 200, "日本", "日木"]
    found = tool_names(names)
    assert sorted(found.values()) == sorted(names)
    assert all(map(NAME.fullmatch, found))
    assert found["add"] == "add"
    assert found["shop_find"] == "shop.find"
    assert found["a_b"] == "a_b"
    assert found["x" * 52] == "x" * 52
    hashed = [name for name, method in found.items() if method in ("a.b", "a:b", "日本", "日木")]
    assert all(re.fullmatch(r"(a_b|__)-[0-9a-f]{8}", name) for name in hashed)


def test_a_name_depends_on_no_order_and_nobody_takes_the_name_of_another() -> None:
    names = ["a.b", "a/b", "a_b"]
    assert tool_names(names) == tool_names(reversed(names))
    (hashed,) = (name for name, method in tool_names(names).items() if method == "a.b")
    crafted = tool_names([*names, hashed])
    assert crafted[hashed] == hashed
    assert "a.b" in crafted.values()
    assert len(crafted) == 4


@given(st.lists(st.text(min_size=1, max_size=80), unique=True, max_size=20))
def test_any_names_are_fitted(names: list[str]) -> None:
    found = tool_names(names)
    assert sorted(found.values()) == sorted(names)
    assert all(map(NAME.fullmatch, found))
    made = property_names(names)
    assert len(set(made)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in made)


def test_long_names_of_parameters_are_cut() -> None:
    assert property_names(["x" * 200, "x" * 201, "", "_"]) == ["x" * 64, f"{'x' * 60}_2", "_", "__2"]


# ---- which -----------------------------------------------------------------------------------------------------------


def several() -> Registry:
    registry = Registry()
    registry.register(lambda: 1, name="shop.find", aliases=["find", "admin.find"])
    registry.register(lambda: 2, name="shop.buy", aliases=["buy"])
    registry.register(lambda: 3, name="eth_*")
    return registry


@pytest.mark.parametrize(
    ("section", "methods"),
    [
        ({"expose": ("*",)}, {"shop_find": "shop.find", "shop_buy": "shop.buy"}),
        ({"expose": ("*",), "hide": ("admin.*",)}, {"shop_buy": "shop.buy"}),
        ({"expose": ("find", "b*")}, {"find": "find", "buy": "buy"}),
        ({"expose": ("eth_*",)}, {}),
    ],
)
def test_a_method_is_one_tool_and_none_where_one_of_its_names_is_hidden(section: Any, methods: Any) -> None:
    assert {name: tool.method for name, tool in toolbox(several(), MCPSection(**section)).tools.items()} == methods


def test_the_list_follows_the_registry_and_has_one_order() -> None:
    registry = several()
    clock = iter([0.0, 0.9, 1.1])
    box = Toolbox(Versions({}, registry), EVERYTHING, None, int_texts=False, now=clock.__next__)
    asyncio.run(box.look())
    before, tools = box.listed(CALLER), box.tools
    assert before is box.listed(CALLER)
    registry.register(lambda: 4, name="a")
    asyncio.run(box.look())
    assert before is box.listed(CALLER)
    asyncio.run(box.look())
    assert [tool["name"] for tool in json.loads(box.listed(CALLER))] == ["a", "shop_buy", "shop_find"]
    assert box.tools["shop_buy"] is tools["shop_buy"]


def test_a_method_that_takes_the_place_of_another_one_is_told_anew() -> None:
    registry = Registry()

    def old() -> None:
        """Be old."""

    def new() -> None:
        """Be new."""

    registry.register(old, name="a")
    clock = iter([0.0, 2.0])
    box = Toolbox(Versions({}, registry), EVERYTHING, None, int_texts=False, now=clock.__next__)
    asyncio.run(box.look())
    assert b"Be old." in box.listed(CALLER)
    registry.replace(make_method(new, MethodOptions(name="a")))
    asyncio.run(box.look())
    assert b"Be new." in box.listed(CALLER)


def test_tools_are_made_in_turns_with_others_and_once_for_all_who_ask() -> None:
    registry = Registry()
    for number in range(50):
        registry.register(lambda: 1, name=f"m{number}")
    box = Toolbox(Versions({}, registry), EVERYTHING, None, int_texts=False)
    turns: list[int] = []

    async def others() -> None:
        while len(box.tools) < 50:
            turns.append(len(box.tools))
            await asyncio.sleep(0)

    async def play() -> None:
        await asyncio.gather(others(), box.look(), box.look())

    asyncio.run(play())
    assert 45 < len(turns) < 60


def test_few_lists_are_kept() -> None:
    registry = Registry()
    for number in range(20):
        registry.register(lambda: 1, name=f"m{number}")
    box = Toolbox(Versions({}, registry), EVERYTHING, lambda names, caller: f"m{caller.key}" in names, int_texts=False)
    asyncio.run(box.look())
    for number in range(20):
        (tool,) = json.loads(box.listed(Caller(client="", key=str(number))))
        assert tool["name"] == f"m{number}"
    assert len(box._lists) == 16


def test_what_is_said_of_a_tool() -> None:
    registry = Registry()

    def find() -> None: ...

    find.__doc__ = "Find\ta book.\n\nIn any\u202e shelf.\U000e0041\n"
    registry.register(find, name="books.find", deprecated="use search")
    registry.register(lambda: 1, name="silent")
    found = told(registry, MCPSection(expose=("*",), read_only=("books.*",)))
    assert found["books_find"]["description"] == "Find a book.\n\nIn any shelf.\n\nDeprecated: use search"
    assert found["books_find"]["title"] == "books.find"
    assert found["books_find"]["annotations"] == {"readOnlyHint": True}
    assert found["silent"].keys() == {"name", "title", "inputSchema"}
    assert cleaned("word " * 500, 1024).endswith("word ...")
    assert len(cleaned("x" * 2000, 1024)) == 1024


# ---- schemas of the gateway's own methods ----------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Node(Struct):
    name: str
    children: "list[Node]" = []
    made: datetime | None = None


@dataclass
class Person:
    born: date
    at: time
    partner: "Person | None" = None


class Model(BaseModel):
    when: datetime
    data: bytes = b""


def test_types_are_written_out() -> None:
    def f(  # noqa: PLR0917 - one of each
        a: int,
        b: Annotated[int, Meta(ge=0, description="how many")],
        c: Colour,
        d: Literal["x", 1],
        e: tuple[int, str],
        g: dict[str, float],
        h: bytes,
        i: Decimal,
        j: str | None = None,
        k: list = [],  # type: ignore[type-arg]  # noqa: B006 - never changed
        m: Any = None,
    ) -> None: ...

    assert properties_of(f) == {
        "a": {"type": "integer"},
        "b": {"type": "integer", "minimum": 0, "description": "how many"},
        "c": {"type": "string", "enum": ["blue", "red"]},
        "d": {"anyOf": [{"type": "integer", "enum": [1]}, {"type": "string", "enum": ["x"]}]},
        "e": {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "items": {},
            "minItems": 2,
            "maxItems": 2,
        },
        "g": {"type": "object", "additionalProperties": {"type": "number"}},
        "h": {"type": "string", "description": "base64"},
        "i": {"type": "string", "description": "a decimal number"},
        "j": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "k": {"type": "array", "items": {}, "default": []},
        "m": {"default": None},
    }


def test_dates_are_said_in_words_wherever_they_are() -> None:
    def f(  # noqa: PLR0917 - one of each
        a: datetime, b: list[datetime | None], c: Person, d: Node, e: dict[str, time], g: Model, h: str
    ) -> None: ...

    moment = {"type": "string", "format": "date-time", "description": "RFC 3339, like 2026-11-29T12:00:00Z"}
    found = properties_of(f)
    assert found["a"] == moment
    assert found["b"]["items"] == {"anyOf": [moment, {"type": "null"}]}
    assert found["c"]["properties"]["born"]["description"] == "RFC 3339, like 2026-11-29"
    assert found["c"]["properties"]["at"]["description"] == "RFC 3339, like 12:00:00"
    assert found["d"]["properties"]["made"]["anyOf"][0] == moment
    assert found["e"]["additionalProperties"]["format"] == "time"
    assert found["g"]["properties"]["when"]["description"] == moment["description"]
    assert found["g"]["properties"]["data"]["description"] == "base64"
    assert found["h"] == {"type": "string"}


def test_a_type_inside_of_itself_ends() -> None:
    def f(node: Node, person: Person) -> None: ...

    found = properties_of(f)
    assert found["node"]["properties"]["children"]["items"] == {"type": "object", "description": "another Node"}
    partner = found["person"]["properties"]["partner"]["anyOf"]
    assert {"type": "object", "description": "another Person"} in partner


def tool_of(function: Any) -> Tool:
    registry = Registry()
    registry.register(function, name="f")
    return toolbox(registry).tools["f"]


def test_arguments_become_parameters() -> None:
    def named(a: int, b: int = 2) -> None: ...
    def more(a: int, **others: int) -> None: ...
    def rest(a: int, *numbers: int) -> None: ...
    def positional(a: int, b: int = 1, c: int = 2, /) -> None: ...

    assert tool_of(named).params({"a": 1, "c": 3}) == {"a": 1, "c": 3}  # the method's own check names the place
    assert tool_of(more).params({"a": 1, "x": 3}) == {"a": 1, "x": 3}
    assert json.loads(tool_of(more).wire)["inputSchema"]["additionalProperties"] is True
    assert tool_of(rest).params({"a": 1, "numbers": [2, 3]}) == [1, 2, 3]
    assert tool_of(rest).params({"a": 1}) == [1]
    assert tool_of(positional).params({"a": 1, "b": 2}) == [1, 2]
    assert tool_of(positional).params({}) == []
    for tool, arguments, problem in (
        (tool_of(rest), {"numbers": [1]}, "params.a: missing"),
        (tool_of(rest), {"a": 1, "numbers": 2}, "params.numbers: expected a list"),
        (tool_of(rest), {"a": 1, "x": 2}, "params.x: there is no such parameter"),
        (tool_of(positional), {"a": 1, "c": 3}, "params.b: missing"),
    ):
        with pytest.raises(InvalidParams, match=problem):
            tool.params(arguments)


def test_a_text_of_json_is_read_where_an_object_or_an_array_belongs() -> None:
    def f(a: list[int], b: Node | None, c: str, d: Any = None, e: str | list[int] = "") -> None: ...

    tool = tool_of(f)
    given = {"a": "[1,2]", "b": '{"name":"x"}', "c": "[1]", "d": "[1]", "e": "[1]"}
    assert tool.params(given) == {"a": [1, 2], "b": {"name": "x"}, "c": "[1]", "d": "[1]", "e": "[1]"}
    for text in ("[1,", "1", "null", '"a"', "[" * 100 + "]" * 100, "[" * 100_000):
        assert tool.params({"a": text}) == {"a": text}


# ---- schemas of others -----------------------------------------------------------------------------------------------


NULL = {"type": "null"}


def upstream_tool(openrpc: dict[str, Any], components: Any = None) -> dict[str, Any]:
    """Return the tool of a method that a JSON-RPC server tells of in its OpenRPC document."""
    method = {"name": "f", "params": [], "result": {"name": "result", "schema": {}}, **openrpc}
    signatures = from_document({"openrpc": "1.3.2", "methods": [method], "components": components or {}})
    fake, registry = FakeUpstream({}), Registry()
    fake.known = lambda: signatures  # type: ignore[method-assign]
    UpstreamService("up", Options(url="fake://up"), Limits(), fake=fake).add_known(registry)
    found: dict[str, Any] = told(registry)["up_f"]
    return found


def test_an_upstreams_own_document_is_taken_apart() -> None:
    components = {
        "schemas": {
            "Pet": {"type": ["object", "null"], "properties": {"tag": {"$ref": "#/components/schemas/Tag"}}},
            "Tag": {"oneOf": [{"const": "a"}, {"type": "integer", "format": "int64"}], "discriminator": {"x": 1}},
            "Flag": {"type": "boolean"},
        },
        "contentDescriptors": {"P": {"name": "pet", "required": True, "schema": {"$ref": "#/components/schemas/Pet"}}},
    }
    params = [
        {"$ref": "#/components/contentDescriptors/P"},
        {"name": "größe", "description": "How large.", "schema": {"type": "integer", "nullable": True}},
        {
            "name": "pair",
            "schema": {"type": "array", "items": [{"type": "string"}], "additionalItems": {"type": "null"}},
        },
        {"name": "flag", "summary": "A flag.", "schema": {"$ref": "#/components/schemas/Flag", "description": "x"}},
    ]
    tool = upstream_tool({"summary": "Keep a pet.", "params": params, "paramStructure": "by-name"}, components)
    assert tool["description"] == "Keep a pet."
    tag = {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "integer"}]}
    assert tool["inputSchema"] == {
        "type": "object",
        "properties": {
            "pet": {"anyOf": [{"type": "object", "properties": {"tag": tag}}, {"type": "null"}]},
            "gr__e": {"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "How large."},
            "pair": {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "null"}},
            "flag": {"type": "boolean", "description": "x"},
        },
        "required": ["pet"],
        "additionalProperties": False,
    }


HOSTILE: list[Any] = [
    {"type": "nothing"},
    {"type": 3, "enum": {}, "required": "a", "properties": 7, "items": "x", "anyOf": {}, "minimum": True},
    {"type": "string", "pattern": "(" * 50, "maxLength": -1, "multipleOf": 0, "description": 5, "format": ["a"]},
    {"type": "string", "pattern": "(?P<x>a)" * 100},
    {"enum": []},
    {"enum": [1, "a", None, [1], {}, 1.5, True]},
    {"$ref": "#/components/schemas/None"},
    {"$ref": "https://evil.example/schema"},
    {"$ref": "#/components/schemas"},
    {"anyOf": [True, False, 3, None]},
    {"items": [], "type": "array"},
    {"properties": {"a": {"$ref": "#/components/schemas/Big"}}},
    {"description": "\u202eevil\x00\U000e0049" + "x" * 9999},
    [],
    None,
    True,
]


@pytest.mark.parametrize("schema", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_an_upstream_tells_the_other_tools_are_not_lost(schema: Any) -> None:
    """Each component of Big uses the next one three times: written out, it would have half a million parts."""
    big = {
        f"B{n}": {"type": "object", "properties": {each: {"$ref": f"#/components/schemas/B{n + 1}"} for each in "abc"}}
        for n in range(20)
    } | {"B20": {}}
    components = {"schemas": {**big, "Big": {"$ref": "#/components/schemas/B0"}}}
    tool = upstream_tool({"params": [{"name": "a", "schema": schema}]}, components)
    assert len(json.dumps(tool)) < 200_000
    text = json.dumps(tool)
    assert "\\u202e" not in text
    assert "\\u0000" not in text


@pytest.mark.parametrize(
    ("told_so", "written"),
    [
        ({"type": ["string", "any"]}, {}),
        ({"type": "object", "patternProperties": {"^a": {}}, "additionalProperties": False}, {"type": "object"}),
        ({"minimum": True, "maximum": 3, "type": "integer"}, {"type": "integer", "maximum": 3}),
        ({"enum": list(range(501))}, {}),
        ({"type": "string", "pattern": "a" * 201}, {"type": "string"}),
        ({"type": "string", "pattern": "("}, {"type": "string"}),
        (
            {"type": ["integer", "string"], "minimum": 1},
            {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]},
        ),
    ],
)
def test_what_is_not_known_is_left_out_and_the_schema_wider(told_so: dict[str, Any], written: dict[str, Any]) -> None:
    assert Inliner({}).of(told_so) == written


def test_a_chain_of_references_ends() -> None:
    chain = {f"C{n}": {"$ref": f"#/components/schemas/C{n + 1}"} for n in range(5000)}
    assert Inliner({"schemas": chain}).of({"$ref": "#/components/schemas/C0"}) == {}


KEYWORDS = st.sampled_from(
    [
        *("type", "properties", "items", "anyOf", "oneOf", "allOf", "enum", "const", "required", "default", "pattern"),
        *("additionalProperties", "description", "format", "$ref", "minimum", "prefixItems", "nullable"),
        *("contentEncoding", "additionalItems"),
    ]
)
WORDS = st.sampled_from(["string", "array", "object", "null", "integer", "date-time", "#/components/schemas/S"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@fixed(50)
@given(VALUES, VALUES, st.lists(VALUES, max_size=3))
def test_any_document_makes_a_tool(schema: Any, component: Any, params: list[Any]) -> None:
    upstream_tool({"params": [{"name": "a", "schema": schema}, *params]}, {"schemas": {"S": component}})
