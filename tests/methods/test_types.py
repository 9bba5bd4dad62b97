"""Every type of docs/methods.md: what comes as an argument goes back as the result, in both protocols."""

import json
import re
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict, TypeVar
from uuid import UUID

import attrs
import pytest
from msgspec import Meta, Struct

from gateway import Registry
from gateway.methods.places import named
from tests.raw_http import post
from tests.serving import Server, serving

PAGE = Path(__file__).parents[2] / "docs/methods.md"
MOMENT = datetime(2024, 2, 29, 12)
T = TypeVar("T")


class Size(Enum):
    SMALL = "s"


class Level(IntEnum):
    LOW = 1


class Pair(NamedTuple):
    a: int
    b: str = "b"


class Some(TypedDict):
    a: int
    b: NotRequired[str]


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Deep:
    name: str
    inner: "list[Deep]"
    boxes: dict[str, Box[Annotated[int, Meta(ge=0)]]]


class Record(Struct, Generic[T]):
    content: T


class Cat(Struct, tag="cat"):
    lives: int


class Dog(Struct, tag="dog"):
    name: str


@attrs.define
class Attrs:
    a: int


UserId = NewType("UserId", int)
UserIds = NewType("UserIds", list[UserId])

# The hint; what is sent and comes back as JSON; likewise as XML-RPC, where that is something else.
TYPES: list[tuple[Any, Any, Any]] = [
    (None, None, None),
    (bool, True, True),
    (int, 5, 5),
    (float, 1.5, 1.5),
    (str, "a\u00e9\n", "a\u00e9\n"),
    (bytes, "aGk=", b"hi"),
    (bytearray, "aGk=", b"hi"),
    (memoryview, "aGk=", b"hi"),
    (datetime, "2024-02-29T12:00:00", MOMENT),
    (date, "2024-02-29", "2024-02-29"),
    (time, "12:00:00", "12:00:00"),
    (timedelta, "PT90S", "PT90S"),
    (Decimal, "1.50", "1.50"),
    (UUID, "12345678-1234-5678-1234-567812345678", "12345678-1234-5678-1234-567812345678"),
    (list[bytes], ["aGk="], [b"hi"]),
    (Sequence[int], [1, 2], [1, 2]),
    (set[int], [1], [1]),
    (frozenset[str], ["a"], ["a"]),
    (tuple[int, ...], [1, 2, 3], [1, 2, 3]),
    (tuple[int, datetime], [1, "2024-02-29T12:00:00"], [1, MOMENT]),
    (Pair, [1, "c"], [1, "c"]),
    (dict[str, bytes], {"a": "aGk="}, {"a": b"hi"}),
    (Mapping[str, int], {"a": 1}, {"a": 1}),
    (dict[str, dict[str, list[int]]], {"a": {"b": [1]}}, {"a": {"b": [1]}}),
    (Box[int], {"content": 1}, {"content": 1}),
    (Box[Box[str]], {"content": {"content": "a"}}, {"content": {"content": "a"}}),
    (Deep, {"name": "a", "inner": [{"name": "b", "inner": [], "boxes": {}}], "boxes": {"x": {"content": 1}}}, None),
    (Record[bytes], {"content": "aGk="}, {"content": b"hi"}),
    (Attrs, {"a": 1}, {"a": 1}),
    (Some, {"a": 1, "b": "c"}, {"a": 1, "b": "c"}),
    (Size, "s", "s"),
    (Level, 1, 1),
    (Literal["a", 1], "a", 1),
    (Optional[int], None, None),  # noqa: UP045 - an old spelling is a spelling
    (int | str, "a", 1),
    (bytes | None, "aGk=", b"hi"),
    (Cat | Dog, {"type": "dog", "name": "Rex"}, {"type": "cat", "lives": 9}),
    (Annotated[int, Meta(ge=1, le=9)], 9, 1),
    (Annotated[str, "a note", Meta(max_length=3)], "abc", "abc"),
    (UserId, 7, 7),
    (UserIds, [7], [7]),
    (Annotated[UserId, Meta(gt=0)], 7, 7),
    (Any, {"a": [1, None, "b"]}, {"a": [1, None, b"hi", MOMENT]}),
]


# The hint; a value with a mistake in it; where it is.
MISTAKES: list[tuple[Any, Any, str]] = [
    (dict[str, int], {"a": 1, "b": 2, "c": "x", "d": "y", "e": 3}, ".c: expected int, got str"),
    (dict[str, int], {str(number): number or "x" for number in range(99, -1, -1)}, ".0: expected int, got str"),
    (dict[str, dict[str, int]], {"a": {"b": 1}, "c": {"d": 1, "e": "x", "f": 1}}, ".c.e: expected int, got str"),
    (list[dict[str, int]], [{"a": 1}, {"b": 1, "c": "x"}], "[1].c: expected int, got str"),
    (dict[str, list[dict[str, int]]], {"a": [], "b": [{}, {"c": 1, "d": "x"}]}, ".b[1].d: expected int, got str"),
    (dict[str, Box[int]] | None, {"a": {"content": 1}, "b": {"content": "x"}}, ".b.content: expected int, got str"),
    (Box[dict[str, tuple[int, int]]], {"content": {"a": [1, 2], "b": [1]}}, ".content.b: expected array of length 2"),
    (Annotated[dict[str, int], Meta(min_length=1)], {"a": 1, "b": "x", "c": 1}, ".b: expected int, got str"),
    (dict[str, int], {"a.b[0]": 1, "c.d": 1.5, "e": 2.0}, ".c.d: expected int, got float"),
    (dict[Level, int], {"1": 1, "2": 1}, " (a name): invalid enum value 2"),
    (dict[str, dict[int, str]], {"a": {"1": "x"}, "b": {"y": "x"}}, ".b (a name): expected int, got str"),
]


def returning(hint: Any) -> Callable[[Any], Any]:
    def give_back(it: Any) -> Any:
        return it

    give_back.__annotations__ = {"it": hint, "return": hint}
    return give_back


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    registry = Registry()
    for index, (hint, _, _) in enumerate(TYPES):
        registry.register(returning(hint), name=f"type{index}", run="inline")

    # What a default is, is the program's own business: it need not fit the hint.
    def unfitting(a: int = "x", b: list[int] = (1,), c: Level = None, d: bytes = object) -> str:  # type: ignore[assignment]
        return f"{a!r} {b!r} {c!r} {d.__name__}"  # type: ignore[attr-defined]

    registry.register(unfitting, run="inline")
    for index, (hint, _, _) in enumerate(MISTAKES):
        registry.register(returning(hint), name=f"mistake{index}", run="inline")
    with serving(registry, {"log.level": "warning"}) as served:
        yield served


def ask(server: Server, method: str, *params: Any) -> Any:
    call = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
    return json.loads(post(server.port, json.dumps(call).encode()).body)


@pytest.mark.parametrize("index", range(len(TYPES)), ids=lambda index: str(TYPES[index][0]))
def test_what_comes_in_goes_out(index: int, server: Server) -> None:
    _, as_json, as_xml = TYPES[index]
    if as_xml is None:
        as_xml = as_json
    assert ask(server, f"type{index}", as_json)["result"] == as_json
    with xmlrpc.client.ServerProxy(server.url, allow_none=True, use_builtin_types=True) as proxy:
        assert proxy.__getattr__(f"type{index}")(as_xml) == as_xml


@pytest.mark.parametrize("index", range(len(MISTAKES)), ids=lambda index: MISTAKES[index][2])
def test_a_mistake_in_a_dict_is_told_by_the_name_of_its_member(index: int, server: Server) -> None:
    _, value, detail = MISTAKES[index]
    error = ask(server, f"mistake{index}", value)["error"]
    assert error["data"]["detail"].startswith(f"params[0]{detail}")


def test_the_member_with_a_mistake_is_found_in_few_attempts() -> None:
    value = {"a": [{str(number): number for number in range(100_000)}]}
    attempts = []

    def mistake(part: Any) -> str | None:
        attempts.append(part)
        return "[...][0][...]" if "77777" in part["a"][0] else None

    assert named(value, "[...][0][...]", mistake) == ".a[0].77777"
    assert len(attempts) <= 17


def test_a_path_that_leads_nowhere_stays_as_it_is() -> None:
    values: list[Any] = [{"a": 1}, [], 5, {}, [0, 1, 2, {}]]
    for value in values:
        assert named(value, "[3][...]", lambda _: None) == "[3][...]"
    assert named({"a]": {"b": 1}}, ".a][...]", lambda _: None) == ".a][...]"


def test_a_default_that_does_not_fit_its_hint_is_used_as_it_is(server: Server) -> None:
    assert ask(server, "unfitting")["result"] == "'x' (1,) None object"
    assert ask(server, "unfitting", "x")["error"]["data"]["detail"] == "params[0]: expected int, got str"
    methods = {method["name"]: method for method in ask(server, "rpc.discover")["result"]["methods"]}
    shown = [param["schema"].get("default", "-") for param in methods["unfitting"]["params"]]
    assert shown == ["-", [1], "-", "-"]


def test_apaches_decimals_are_taken_for_a_decimal(server: Server) -> None:
    index = next(index for index, (hint, _, _) in enumerate(TYPES) if hint is Decimal)
    document = (
        f'<methodCall xmlns:ex="http://ws.apache.org/xmlrpc/namespaces/extensions"><methodName>type{index}</methodName>'
        "<params><param><value><ex:bigdecimal>1.50</ex:bigdecimal></value></param></params></methodCall>"
    )
    answer = post(server.port, document.encode(), "text/xml").body
    assert xmlrpc.client.loads(answer)[0] == ("1.50",)


def test_the_page_names_every_type_that_is_tried_here() -> None:
    table = PAGE.read_text("utf-8").partition("## An example")[0]
    named = set(re.findall(r"\w+", table))
    tried = {type(hint) if not hasattr(hint, "__name__") else hint for hint, _, _ in TYPES}
    names = {str(getattr(each, "__name__", each)) for each in tried}
    own = {"Pair", "Some", "Box", "Deep", "Record", "Attrs", "Size", "Level", "Cat", "UserId", "UserIds", "NoneType"}
    assert names - own - {"Union", "UnionType", "_AnnotatedAlias", "_LiteralGenericAlias"} <= named


# ---- hints that refer to themselves, and typos -----------------------------------------------------------------------


def test_hints_that_contain_themselves_are_read_and_checked_to_any_depth(server: Server) -> None:
    index = next(index for index, (hint, _, _) in enumerate(TYPES) if hint is Deep)
    value: dict[str, Any] = {"name": "end", "inner": [], "boxes": {}}
    for _ in range(20):
        value = {"name": "a", "inner": [value], "boxes": {}}
    assert ask(server, f"type{index}", value)["result"] == value
    innermost = value
    while innermost["inner"]:
        innermost = innermost["inner"][0]
    innermost["boxes"] = {"x": {"content": -1}}
    detail = ask(server, f"type{index}", value)["error"]["data"]["detail"]
    assert detail == f"params[0]{'.inner[0]' * 20}.boxes.x.content: expected int >= 0"
    innermost["boxes"] = {"x": {"contents": 1}}
    detail = ask(server, f"type{index}", value)["error"]["data"]["detail"]
    assert detail == f"params[0]{'.inner[0]' * 20}.boxes.x.contents: there is no such field"
