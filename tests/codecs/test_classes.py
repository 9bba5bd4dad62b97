"""Objects of every kind of class: what comes as an argument goes back with the same fields, over both protocols."""

import json
import xmlrpc.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NotRequired, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import Registry
from tests.raw_http import Wire, request
from tests.serving import Server, serving

pytestmark = pytest.mark.unmeasured


@dataclass
class Plain:
    a: int
    b: int = 3
    c: list[int] = field(default_factory=list)
    d: "Plain | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    a: int
    b: int = 3
    c: list[int] = field(default_factory=list)
    d: "Slotted | None" = None


@dataclass
class Derived(Plain):
    b: int = 4
    e: str = "e"


class Record(msgspec.Struct):
    a: int
    b: int = 3
    c: list[int] = []
    d: Plain | None = None


class Tagged(msgspec.Struct, tag="t", rename={"c": "cs"}, frozen=True, kw_only=True):
    a: int
    b: int = 3
    c: list[int] = []
    d: "Tagged | None" = None


class Brief(msgspec.Struct, omit_defaults=True):
    a: int
    b: int = 3
    c: list[int] = []
    d: Plain | None = None


class Row(msgspec.Struct, array_like=True):
    a: int
    b: int = 3
    c: Plain | None = None


class Members(TypedDict):
    a: int
    b: NotRequired[int]
    d: NotRequired[Plain]


class Pair(NamedTuple):
    a: int
    b: int = 3
    c: Plain | None = None


def members(defaults: dict[str, Any], inner: st.SearchStrategy[Any] | None = None, c: str = "c") -> Any:
    """Make an argument that leaves out some of what has a default, and what must come back."""
    optional = {"b": st.integers(-(2**31), 2**31 - 1), c: st.lists(st.integers(0, 9), max_size=2)}
    given_ones = st.fixed_dictionaries({"a": st.integers(0, 9)}, optional=optional)
    made = given_ones.map(lambda sent: (sent, {**defaults, **sent}))
    if inner is None:
        return made
    both = st.tuples(made, inner).map(lambda two: ({**two[0][0], "d": two[1][0]}, {**two[0][1], "d": two[1][1]}))
    return made | both


NONE = {"b": 3, "c": [], "d": None}
PLAIN = members(NONE, members(NONE))
KINDS: list[tuple[type, Any]] = [
    (Plain, PLAIN),
    (Slotted, members(NONE, members(NONE))),
    (Derived, members({**NONE, "b": 4, "e": "e"}, PLAIN)),
    (Record, members(NONE, members(NONE))),
    (
        Tagged,
        members({"type": "t", "b": 3, "cs": [], "d": None}, c="cs").map(lambda two: ({**two[0], "type": "t"}, two[1])),
    ),
    (Brief, PLAIN.map(lambda two: (two[0], brief(two[1])))),
    (Row, PLAIN.map(lambda two: ([1, 2, two[0]], [1, 2, two[1]])) | st.just(([1], [1, 3, None]))),
    (Pair, PLAIN.map(lambda two: ([1, 2, two[0]], [1, 2, two[1]])) | st.just(([1], [1, 3, None]))),
    (Members, PLAIN.map(lambda two: ({"a": 1, "d": two[0]}, {"a": 1, "d": two[1]})) | st.just(({"a": 1}, {"a": 1}))),
]


def brief(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name == "a" or value not in (3, [], None)}


def returning(kind: type) -> Callable[..., Any]:
    def give_back(it: Any) -> Any:
        assert type(it) is (dict if kind is Members else kind)
        return it

    give_back.__annotations__ = {"it": kind}
    return give_back


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    registry = Registry()
    for kind, _ in KINDS:
        registry.register(returning(kind), name=kind.__name__, run="inline")
    with serving(registry, {"log.level": "warning"}) as served:
        yield served


@pytest.mark.parametrize(("kind", "pairs"), KINDS, ids=[kind.__name__ for kind, _ in KINDS])
def test_an_object_comes_back_with_all_its_fields(kind: type, pairs: st.SearchStrategy[Any], server: Server) -> None:
    with Wire(server.port) as wire:

        @settings(max_examples=40, derandomize=True, database=None, deadline=None)
        @given(pairs)
        def check(two: tuple[Any, Any]) -> None:
            sent, expected = two
            call = {"jsonrpc": "2.0", "method": kind.__name__, "params": [sent], "id": 1}
            assert json.loads(answer(wire, json.dumps(call), "application/json"))["result"] == expected
            document = xmlrpc.client.dumps((sent,), kind.__name__, allow_none=True)
            assert xmlrpc.client.loads(answer(wire, document, "text/xml"))[0][0] == expected

        check()


def answer(wire: Wire, body: str, content_type: str) -> bytes:
    wire.send(request("/api", [("Content-Type", content_type)], body.encode()))
    response = wire.read()
    assert response is not None
    return response.body


class Model(pydantic.BaseModel):
    a: int
    b: int = 3
    c: list["Model"] = []
    d: int = pydantic.Field(default=4, alias="dd")


@attrs.define
class Attrs:
    a: int
    b: int = 3
    c: Model | None = None


def test_results_may_be_pydantic_models_and_attrs_classes() -> None:
    registry = Registry()

    @registry.register(run="inline")
    def model() -> Any:
        return Model(a=1, c=[Model(a=2)])

    @registry.register(run="inline")
    def attributes() -> Any:
        return Attrs(a=1, c=Model(a=2))

    inner = {"a": 2, "b": 3, "c": [], "dd": 4}
    expected = {"model": {"a": 1, "b": 3, "c": [inner], "dd": 4}, "attributes": {"a": 1, "b": 3, "c": inner}}
    with serving(registry) as server, Wire(server.port) as wire, xmlrpc.client.ServerProxy(server.url) as proxy:
        for name, result in expected.items():
            call = {"jsonrpc": "2.0", "method": name, "id": 1}
            assert json.loads(answer(wire, json.dumps(call), "application/json"))["result"] == result
            assert getattr(proxy, name)() == result
