"""Parameters that pydantic checks: models alone, nested and in unions, over both protocols, and in rpc.discover."""

import json
import xmlrpc.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NewType, TypeVar
from uuid import UUID

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from pydantic import Field
from typing_extensions import TypedDict

from gateway import RegistrationError, Registry
from tests.raw_http import Wire, post, request
from tests.serving import Server, serving

T = TypeVar("T")
UserId = NewType("UserId", int)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(pydantic.BaseModel):
    name: str
    weight: float = Field(default=1.0, gt=0)


class Item(pydantic.BaseModel):
    """All that a model can have."""

    number: UserId
    price: Decimal
    colour: Colour = Colour.RED
    parts: list[Part] = []
    others: dict[str, Part] = {}
    best: Part | None = None
    picture: bytes = b""
    pictures: list[bytes] | None = None
    since: date | None = None
    key: UUID | None = None
    given: str = Field(default="", alias="givenName")

    @pydantic.field_validator("number")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value < 0:
            raise ValueError("it must be positive")
        return value


class Forbidding(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    a: int


class Tree(pydantic.BaseModel):
    data: bytes = b""
    children: list["Tree"] = []


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    name: str


class Box(pydantic.BaseModel, Generic[T]):
    content: T


class Numbers(pydantic.RootModel[list[int]]):
    """A list of numbers."""


@dataclass
class Shelf:
    items: list[Item]


@pydantic.dataclasses.dataclass
class Own:
    a: int
    b: int = Field(default=2, le=9)


class Members(TypedDict):
    part: Part


KINDS: dict[str, Any] = {
    "item": Item,
    "items": list[Item],
    "named": dict[str, Item],
    "optional": Part | None,
    "pet": Cat | Dog,
    "chosen": Annotated[Cat | Dog, Field(discriminator="kind")],
    "part_or_int": Part | int,
    "shelf": Shelf,
    "members": Members,
    "own": Own,
    "box": Box[int],
    "numbers": Numbers,
    "pair": tuple[Part, int],
    "forbidding": Forbidding,
    "tree": Tree,
    "positive": pydantic.PositiveInt,
    "short": Annotated[str, Field(max_length=2)],
    "keyed": dict[str, list[Annotated[Part, "a note"]]],
}
PEN = {"number": 1, "price": "1.50"}
CAT, DOG = {"kind": "cat", "lives": 9}, {"kind": "dog", "name": "Rex"}
REFUSED: list[tuple[str, Any, str]] = [
    ("item", {"number": "x", "price": "1"}, "[0].number: input should be a valid integer, unable to parse string"),
    ("item", {"price": "1"}, "[0].number: field required"),
    ("item", {"number": -1, "price": "1"}, "[0].number: value error, it must be positive"),
    ("item", 5, "[0]: input should be a valid dictionary or instance of Item"),
    ("item", PEN | {"parts": [{"name": "a"}, {"name": 1}]}, "[0].parts[1].name: input should be a valid string"),
    ("item", PEN | {"others": {"x": {"name": "a", "weight": 0}}}, "[0].others.x.weight: input should be greater than"),
    ("item", PEN | {"best": 5}, "[0].best: input should be a valid dictionary or instance of Part"),
    ("item", PEN | {"colour": "green"}, "[0].colour: input should be 'red' or 'blue'"),
    ("items", [PEN, {"number": 1}], "[0][1].price: field required"),
    ("named", {"a": {"number": 1}}, "[0].a.price: field required"),
    ("pet", {"kind": "cat"}, "[0].lives: field required"),
    ("chosen", {"kind": "dog"}, "[0].name: field required"),
    ("chosen", {"kind": "cow"}, "[0]: input tag 'cow' found using 'kind' does not match any of the expected tags"),
    ("part_or_int", {"name": 1}, "[0].name: input should be a valid string"),
    ("shelf", {"items": [{"number": 1}]}, "[0].items[0].price: field required"),
    ("members", {}, "[0].part: field required"),
    ("own", {"a": 1, "b": 10}, "[0].b: input should be less than or equal to 9"),
    ("box", {"content": "x"}, "[0].content: input should be a valid integer"),
    ("numbers", [1, "x"], "[0][1]: input should be a valid integer"),
    ("pair", [{"name": "a"}, "x"], "[0][1]: input should be a valid integer"),
    ("forbidding", {"a": "1"}, "[0].a: input should be a valid integer"),
    ("forbidding", {"a": 1, "b": 2}, "[0].b: extra inputs are not permitted"),
    ("positive", 0, "[0]: input should be greater than 0"),
    ("short", "abc", "[0]: string should have at most 2 characters"),
]


def returning(kind: Any) -> Callable[..., Any]:
    def give_back(it: Any) -> Any:
        return it

    give_back.__annotations__ = {"it": kind, "return": kind}
    return give_back


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    registry = Registry()
    for name, kind in KINDS.items():
        registry.register(returning(kind), name=name, run="inline")

    @registry.register(run="inline")
    def types(item: Item, *, best: Part | None = None, **others: Part) -> list[str]:
        return [type(value).__name__ for value in (item, item.price, item.colour, item.picture, best, *others.values())]

    @registry.register(run="inline")
    def lengths(*parts: Part) -> int:
        return len(parts)

    with serving(registry, {"log.level": "warning"}) as served:
        yield served


def ask(server: Server, method: str, params: Any) -> Any:
    call = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
    return json.loads(post(server.port, json.dumps(call).encode()).body)


def test_a_method_gets_models_in_every_place_of_its_signature(server: Server) -> None:
    asked = {"item": PEN | {"picture": "aGk="}, "best": {"name": "a"}, "x": {"name": "b"}}
    expected = ["Item", "Decimal", "Colour", "bytes", "Part", "Part"]
    assert ask(server, "types", asked)["result"] == expected
    assert ask(server, "lengths", [{"name": "a"}, {"name": "b"}])["result"] == 2
    assert ask(server, "types", asked | {"x": {}})["error"]["data"] == {"detail": "params.x.name: field required"}
    assert ask(server, "lengths", [{"name": "a"}, {}])["error"]["data"] == {"detail": "params[1].name: field required"}


@pytest.mark.parametrize(("name", "value", "detail"), REFUSED)
def test_a_mistake_is_told_by_its_place(name: str, value: Any, detail: str, server: Server) -> None:
    error = ask(server, name, [value])["error"]
    assert (error["code"], error["message"]) == (-32602, "Invalid params")
    assert error["data"]["detail"].startswith(f"params{detail}")
    assert "pydantic" not in str(error)
    with (
        xmlrpc.client.ServerProxy(server.url) as proxy,
        pytest.raises(xmlrpc.client.Fault, match=r"^<Fault -32602: .Invalid params: params"),
    ):
        proxy.__getattr__(name)(value)


def test_bytes_are_base64_for_json_and_bytes_for_xml(server: Server) -> None:
    pictures = {"picture": "aGk=", "pictures": ["aGk=", ""]}
    result = ask(server, "item", [PEN | pictures])["result"]
    assert {name: result[name] for name in pictures} == pictures
    tree = {"data": "aGk=", "children": [{"data": "eW91", "children": []}]}
    assert ask(server, "tree", [tree | {"children": []}])["result"] == tree | {"children": []}
    for wrong in ({"picture": "?"}, {"pictures": ["aGk"]}):
        error = ask(server, "item", [PEN | wrong])["error"]
        assert error["data"]["detail"] == "params[0]: bytes must be given as base64"
    with xmlrpc.client.ServerProxy(server.url, use_builtin_types=True, allow_none=True) as proxy:
        assert proxy.item(PEN | {"picture": b"hi", "pictures": [b"", b"hi"]})["pictures"] == [b"", b"hi"]  # type: ignore[index,call-overload]


PARTS = st.fixed_dictionaries({"name": st.text("abc\u00e9", max_size=3), "weight": st.floats(0.5, 9)})
ITEMS = st.fixed_dictionaries(
    {
        "number": st.integers(0, 2**31 - 1),
        "price": st.decimals(0, 99, places=2).map(str),
        "colour": st.sampled_from(["red", "blue"]),
        "parts": st.lists(PARTS, max_size=2),
        "others": st.dictionaries(st.text("xyz", max_size=2), PARTS, max_size=2),
        "best": st.none() | PARTS,
        "picture": st.just(""),
        "pictures": st.none(),
        "since": st.none() | st.dates(date(1900, 1, 1)).map(str),
        "key": st.none() | st.uuids().map(str),
        "givenName": st.text("abc", max_size=3),
    }
)
ECHOED = {
    "item": ITEMS,
    "items": st.lists(ITEMS, max_size=2),
    "named": st.dictionaries(st.text("xyz", max_size=2), ITEMS, max_size=2),
    "optional": st.none() | PARTS,
    "pet": st.just(CAT) | st.just(DOG),
    "chosen": st.just(CAT) | st.just(DOG),
    "part_or_int": PARTS | st.integers(0, 9),
    "shelf": st.fixed_dictionaries({"items": st.lists(ITEMS, max_size=1)}),
    "members": st.fixed_dictionaries({"part": PARTS}),
    "own": st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.integers(0, 9)}),
    "box": st.fixed_dictionaries({"content": st.integers(0, 9)}),
    "numbers": st.lists(st.integers(0, 9)),
    "pair": st.tuples(PARTS, st.integers(0, 9)).map(list),
    "keyed": st.dictionaries(st.text("xyz", max_size=2), st.lists(PARTS, max_size=2), max_size=2),
}


@pytest.mark.parametrize("name", ECHOED)
def test_what_comes_in_goes_out(name: str, server: Server) -> None:
    with Wire(server.port) as wire:

        def answer(body: str, content_type: str) -> bytes:
            wire.send(request("/api", [("Content-Type", content_type)], body.encode()))
            response = wire.read()
            assert response is not None
            return response.body

        @settings(max_examples=25, derandomize=True, database=None, deadline=None)
        @given(ECHOED[name])
        def check(value: Any) -> None:
            call = {"jsonrpc": "2.0", "method": name, "params": [value], "id": 1}
            assert json.loads(answer(json.dumps(call), "application/json"))["result"] == value
            sent = {**value, "picture": b""} if name == "item" else value
            document = xmlrpc.client.dumps((sent,), name, allow_none=True)
            result = xmlrpc.client.loads(answer(document, "text/xml"), use_builtin_types=True)[0][0]
            assert json.loads(json.dumps(result, default=lambda data: data.decode())) == value

        check()


def test_models_show_in_introspection(server: Server) -> None:
    document = ask(server, "rpc.discover", [])["result"]
    methods = {method["name"]: method for method in document["methods"]}
    schemas = document["components"]["schemas"]
    assert methods["item"]["params"][0]["schema"] == {"$ref": "#/components/schemas/Item"}
    assert schemas["Item"]["required"] == ["number", "price"]
    assert schemas["Item"]["properties"]["parts"]["items"] == {"$ref": "#/components/schemas/Part"}
    assert schemas["Item"]["properties"]["picture"] == {
        "type": "string",
        "contentEncoding": "base64",
        "title": "Picture",
        "default": "",
    }
    assert schemas["Part"]["properties"]["weight"]["exclusiveMinimum"] == 0
    assert {method["name"] for method in document["methods"] if not method["result"]["schema"]} <= {"rpc.discover"}
    assert methods["optional"]["params"][0]["schema"]["anyOf"] == [
        {"$ref": "#/components/schemas/Part"},
        {"type": "null"},
    ]
    assert ask(server, "system.methodSignature", ["item"])["result"] == [["struct", "struct"]]
    assert ask(server, "system.methodSignature", ["items"])["result"] == [["array", "array"]]


class Holder(Struct):
    """A struct of msgspec's, which pydantic cannot check."""

    item: Item


@pytest.mark.parametrize("hint", [Holder, list[Holder], Part | Holder])
def test_what_pydantic_cannot_check_is_refused(hint: Any) -> None:
    with pytest.raises(
        RegistrationError, match=r"the type hint of 'it' cannot be checked: Unable to generate pydantic"
    ):
        Registry().register(returning(hint))


def test_a_datetime_of_a_model_is_one_in_both_protocols() -> None:
    registry = Registry()

    class Event(pydantic.BaseModel):
        at: datetime

    def show(event: Any) -> str:
        return repr(event.at)

    show.__annotations__ = {"event": Event}
    registry.register(show)
    with serving(registry) as server, xmlrpc.client.ServerProxy(server.url) as proxy:
        assert ask(server, "show", [{"at": "2024-02-29T12:00:00"}])["result"] == "datetime.datetime(2024, 2, 29, 12, 0)"
        assert proxy.show({"at": datetime(2024, 2, 29, 12)}) == "datetime.datetime(2024, 2, 29, 12, 0)"
