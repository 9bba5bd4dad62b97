"""What the server says of itself: system.* on both protocols, and an OpenRPC document that is one.

tests/data/openrpc.json has the structure of the OpenRPC meta-schema 1.14.9 (Apache License 2.0), without its prose, and
with JSON Schema draft 7 in the place of the schema language that it names.
"""

import json
import math
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeAlias, TypedDict, TypeVar, Union
from uuid import UUID

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from msgspec import Meta, Struct

from gateway import Context, MethodNotFound, Registry, app
from gateway.config import load
from gateway.methods import introspection
from gateway.methods.introspection import describe
from gateway.methods.loading import load_registry
from tests import corpus_methods
from tests.raw_http import exchange, post, request
from tests.serving import Server, serving

pytestmark = pytest.mark.unmeasured

T = TypeVar("T")
Call: TypeAlias = Callable[..., Any]
Document: TypeAlias = dict[str, Any]
META_SCHEMA = json.loads((Path(__file__).parents[1] / "data" / "openrpc.json").read_text())


@dataclass
class Node:
    """A node of a tree."""

    name: str
    weight: float = math.inf
    children: list["Node"] = field(default_factory=list)


@dataclass
class Box(Generic[T]):
    content: T


class Point(Struct, array_like=True):
    x: int
    y: int = 0


class Circle(Struct, tag=True):
    radius: float


class Square(Struct, tag=True):
    side: float


class Pair(NamedTuple):
    left: int
    right: str = ""


class Row(TypedDict):
    id: int


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Mixed(Enum):
    TEXT = "text"
    NUMBER = 1


UserId = NewType("UserId", int)
Person = make_dataclass("Person", [("name", str)])
OtherPerson = make_dataclass("Person", [("number", int)])
Team = make_dataclass("Team", [("lead", Person)])
OtherTeam = make_dataclass("Team", [("lead", OtherPerson)])

# hint, its XML-RPC name, a JSON value that its schema takes, and one that it refuses (None where it takes everything)
HINTS: list[tuple[Any, str | None, Any, Any]] = [
    (int, "int", 1, "1"),
    (float, "double", 1.5, "1"),
    (bool, "boolean", True, 1),
    (str, "string", "a", 1),
    (bytes, "base64", "YQ==", 1),
    (bytearray, "base64", "YQ==", 1),
    (memoryview, "base64", "YQ==", 1),
    (datetime, "dateTime.iso8601", "2024-02-29T12:34:56", 1),
    (date, "string", "2024-02-29", 1),
    (time, "string", "12:34:56", 1),
    (timedelta, "string", "P1D", 1),
    (UUID, "string", "12345678-1234-5678-1234-567812345678", 1),
    (Decimal, None, "1.5", []),
    (None, "nil", None, 1),
    (list, "array", [1], 1),
    (list[int], "array", [1], ["1"]),
    (tuple[int, ...], "array", [1], ["1"]),
    (tuple[int, str], "array", [1, "a"], [1, "a", 2]),
    (tuple[int, str], "array", [1, "a"], ["a", 1]),
    (set[int], "array", [1], ["1"]),
    (frozenset[int], "array", [1], ["1"]),
    (Sequence[int], "array", [1], ["1"]),
    (dict, "struct", {"a": 1}, 1),
    (dict[str, int], "struct", {"a": 1}, {"a": "1"}),
    (dict[int, str], "struct", {"1": "a"}, {"1": 1}),
    (Mapping[str, int], "struct", {"a": 1}, {"a": "1"}),
    (Any, None, "anything", None),
    (object, None, "anything", None),
    (Optional[int], "int", None, "1"),  # noqa: UP045 - an old spelling is a spelling
    (int | None, "int", 1, "1"),
    (Union[int, float], "double", 1.5, "1"),  # noqa: UP007 - likewise
    (int | str, None, "1", 1.5),
    (int | str | None, None, None, 1.5),
    (Literal["a", "b"], "string", "a", "c"),
    (Literal[1, 2], "int", 1, 3),
    (Literal["a", None], "string", None, "b"),  # noqa: PYI061 - likewise
    (Literal["a", 1], None, 1, 2),
    (Annotated[int, Meta(ge=0, le=9)], "int", 9, 10),
    (Annotated[str, Meta(min_length=1, pattern="^a")], "string", "ab", "b"),
    (Colour, "string", "red", "green"),
    (Level, "int", 1, 2),
    (Node, "struct", {"name": "a", "children": [{"name": "b"}]}, {"name": "a", "children": [{"name": 1}]}),
    (Box[int], "struct", {"content": 1}, {"content": "1"}),
    (Box[str], "struct", {"content": "1"}, {"content": 1}),
    (Person, "struct", {"name": "Ada"}, {"number": 1}),
    (OtherPerson, "struct", {"number": 1}, {"name": "Ada"}),
    (Team, "struct", {"lead": {"name": "Ada"}}, {"lead": {"number": 1}}),
    (OtherTeam, "struct", {"lead": {"number": 1}}, {"lead": {"name": "Ada"}}),
    (list[OtherPerson], "array", [{"number": 1}], [{"name": "Ada"}]),  # type: ignore[valid-type]
    (Point, "array", [1, 2], ["1", 2]),
    (Pair, "array", [1, "a"], ["a", 1]),
    (Row, "struct", {"id": 1}, {}),
    (Circle | Square, "struct", {"type": "Circle", "radius": 1}, {"type": "Circle", "side": 1}),
    (UserId, "int", 1, "1"),
    (T, None, "anything", None),
]


def hinted(hint: Any, result: Any) -> Callable[[Any], Any]:
    def function(value: Any) -> None:
        del value

    function.__annotations__ = {"value": hint, "return": result}
    return function


registry = Registry()
for place, (hint, *_) in enumerate(HINTS):
    registry.register(hinted(hint, None), name=f"hints.takes{place}")
    registry.register(hinted(int, hint), name=f"hints.gives{place}")


@registry.register
def tail(a: int, b: Any = None, c: int = 0) -> int:
    return a


@registry.register(aliases=("plus",))
def add(a: int, b: int = 2, c: int = 3) -> int:
    """Add two numbers,
    or three.

    The third one is rarely needed.
    """  # noqa: D205 - a first sentence may be longer than a line
    return a + b + c


@registry.register
def unwritten(a, b=1):  # type: ignore[no-untyped-def]
    return a + b


@registry.register(deprecated=True)
def old(context: Context) -> str:
    return context.method


@registry.register(deprecated="use add")
def older() -> None:
    """Add."""


@registry.register
def by_position(a: int, /, b: int = 2, *, unreachable: int = 3) -> int:
    return a + b + unreachable


@registry.register
def by_name(a: int = 1, *, b: int, c: int = 3, d: int) -> int:
    return a + b + c + d


@registry.register
def by_name_if_needed(a: int, *, b: int = 2) -> int:
    return a + b


@registry.register
def rest(a: int, *more: float, **others: str) -> int:
    return a + len(more) + len(others)


@registry.register
def rest_by_name(*more: float, key: str) -> int:
    return len(more) + len(key)


@registry.register
def others(a: int, **named: str) -> int:
    return a + len(named)


@registry.register
def defaults(  # noqa: PLR0917 - each a kind of its own
    number: int = 1,
    nothing: int = None,  # type: ignore[assignment]  # noqa: RUF013 - as people write it
    text: str | None = None,
    infinite: float = math.inf,
    colour: Colour = Colour.RED,
    node: Node = Node("a", 1),  # noqa: B008 - a default of a type of its own
    sentinel: Any = object(),  # noqa: B008
    raw: bytes = b"a",
) -> None:
    del number, nothing, text, infinite, colour, node, sentinel, raw


@registry.register
def mixed() -> Mixed:
    return Mixed.TEXT


@registry.register(protocols=("jsonrpc",))
def json_only() -> None: ...


@registry.register(protocols=("xmlrpc",))
def xml_only() -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry) as server:
        yield server


@pytest.fixture(params=["xmlrpc", "jsonrpc"])
def call(request: pytest.FixtureRequest, server: Server) -> Call:
    """Call a method over one protocol and the other; a fault of either is raised as the standard library's."""

    def call_xmlrpc(name: str, *params: Any) -> Any:
        with xmlrpc.client.ServerProxy(server.url, allow_none=True) as proxy:
            return getattr(proxy, name)(*params)

    def call_jsonrpc(name: str, *params: Any) -> Any:
        body = msgspec.json.encode({"jsonrpc": "2.0", "method": name, "params": params, "id": 1})
        answer = msgspec.json.decode(post(server.port, body).body)
        if "error" in answer:
            raise xmlrpc.client.Fault(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    return call_xmlrpc if request.param == "xmlrpc" else call_jsonrpc


def document_of(methods: Registry) -> Document:
    return app.build(load(None, {}, []), methods).describe()


DOCUMENT = document_of(registry)
METHODS: dict[str, Document] = {described["name"]: described for described in DOCUMENT["methods"]}


# ---- system.* --------------------------------------------------------------------------------------------------------


def test_all_names_are_listed_those_of_multicall_and_of_one_protocol_only_where_they_can_be_called(
    call: Call, request: pytest.FixtureRequest
) -> None:
    listed = call("system.listMethods")
    common = [name for name, found in registry.methods() if found.options.protocols is None]
    system = ["listMethods", "methodHelp", "methodSignature", "methodExist", "getCapabilities"]
    expected = {*common, *(f"system.{name}" for name in system), "rpc.discover"}
    is_xml = "xmlrpc" in request.node.name
    assert {"add", "plus"} <= expected
    assert len(listed) == len(set(listed))
    assert set(listed) == expected | ({"xml_only", "system.multicall"} if is_xml else {"json_only"})
    assert all(call("system.methodExist", name) for name in listed)


@pytest.mark.parametrize("name", ["nobody", "", "system", "add ", "ADD", "__class__", "hints"])
def test_what_is_not_there_does_not_exist_and_has_neither_help_nor_signature(call: Call, name: str) -> None:
    assert call("system.methodExist", name) is False
    for question in ("system.methodHelp", "system.methodSignature"):
        with pytest.raises(xmlrpc.client.Fault) as raised:
            call(question, name)
        assert raised.value.faultCode == -32601


@pytest.mark.parametrize("params", [(), (1,), ("add", "add"), (None,)])
@pytest.mark.parametrize("question", ["methodExist", "methodHelp", "methodSignature"])
def test_a_question_takes_one_name(call: Call, question: str, params: tuple[Any, ...]) -> None:
    with pytest.raises(xmlrpc.client.Fault) as raised:
        call(f"system.{question}", *params)
    assert raised.value.faultCode == -32602


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("add", "Add two numbers,\nor three.\n\nThe third one is rarely needed."),
        ("plus", "Add two numbers,\nor three.\n\nThe third one is rarely needed."),
        ("unwritten", ""),
        ("old", "Deprecated."),
        ("older", "Add.\n\nDeprecated: use add"),
        (
            "system.listMethods",
            "List the names of all methods that this caller can call on this protocol.\n\n"
            "An argument is ignored: Homematic's centrals and their clients send one.",
        ),
    ],
)
def test_help_is_the_docstring_and_says_what_is_deprecated(call: Call, name: str, text: str) -> None:
    assert call("system.methodHelp", name) == text


@pytest.mark.parametrize(
    ("name", "signatures"),
    [
        ("add", [["int", "int"], ["int", "int", "int"], ["int", "int", "int", "int"]]),
        ("old", [["string"]]),
        ("older", [["nil"]]),
        ("mixed", "undef"),
        ("unwritten", "undef"),
        ("by_position", [["int", "int"], ["int", "int", "int"]]),
        ("by_name", "undef"),
        ("by_name_if_needed", [["int", "int"]]),
        ("rest", "undef"),
        ("others", [["int", "int"]]),
        ("system.listMethods", [["array"]]),
        ("tail", [["int", "int"]]),
        ("system.methodHelp", [["string", "string"]]),
        ("system.methodSignature", "undef"),
        ("system.methodExist", [["boolean", "string"]]),
        ("system.getCapabilities", [["struct"]]),
        ("rpc.discover", [["struct"]]),
    ],
)
def test_there_is_a_signature_for_each_number_of_arguments(call: Call, name: str, signatures: Any) -> None:
    assert call("system.methodSignature", name) == signatures


@pytest.mark.parametrize("place", range(len(HINTS)), ids=lambda place: str(HINTS[place][0]))
def test_a_signature_names_what_a_hint_describes(call: Call, place: int) -> None:
    kind = HINTS[place][1]
    assert call("system.methodSignature", f"hints.takes{place}") == ("undef" if kind is None else [["nil", kind]])
    assert call("system.methodSignature", f"hints.gives{place}") == ("undef" if kind is None else [[kind, "int"]])


def test_capabilities_name_a_specification_and_its_version(call: Call) -> None:
    capabilities = call("system.getCapabilities")
    assert set(capabilities) == {"xmlrpc", "faults_interop", "introspection", "system.multicall", "nil"}
    assert capabilities["faults_interop"]["specVersion"] == 20010516
    for said in capabilities.values():
        assert set(said) == {"specUrl", "specVersion"}
        assert said["specUrl"].startswith("http")
        assert type(said["specVersion"]) is int


def test_an_extension_that_is_switched_off_is_no_capability() -> None:
    with serving(registry, {"xmlrpc.none": "fault"}) as server, xmlrpc.client.ServerProxy(server.url) as proxy:
        capabilities: Any = proxy.system.getCapabilities()
    assert set(capabilities) == {"xmlrpc", "faults_interop", "introspection", "system.multicall"}


def test_multicall_is_a_batch_and_never_a_method(server: Server) -> None:
    body = b'{"jsonrpc":"2.0","method":"system.multicall","params":[[]],"id":1}'
    assert msgspec.json.decode(post(server.port, body).body)["error"]["code"] == -32601
    found = server.gateway.registry.get("system.multicall", "xmlrpc")
    assert found is not None
    with pytest.raises(MethodNotFound):
        found.function([])


# ---- rpc.discover ----------------------------------------------------------------------------------------------------


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


@pytest.mark.parametrize(
    "document",
    [
        DOCUMENT,
        document_of(corpus_methods.registry),
        document_of(load_registry(["handlers"])),
        document_of(Registry()),
    ],
    ids=["hints", "corpus", "handlers", "nothing"],
)
def test_the_document_is_an_openrpc_document_and_its_references_resolve(document: Document) -> None:
    said = json.loads(json.dumps(document, allow_nan=False))
    assert said == document
    jsonschema.Draft7Validator(META_SCHEMA).validate(document)
    for reference in references(document):
        start, *steps = reference.split("/")
        part = document
        for step in steps:
            part = part[step]
        assert start == "#"
    for described in document["methods"]:
        names = [param["name"] for param in described["params"]]
        required = [param["required"] for param in described["params"]]
        assert len(names) == len(set(names))
        assert required == sorted(required, reverse=True)


def test_the_meta_schema_tells_documents_apart() -> None:
    validator = jsonschema.Draft7Validator(META_SCHEMA)
    for broken in (
        {**DOCUMENT, "openrpc": "3.0"},
        {**DOCUMENT, "more": 1},
        {**DOCUMENT, "methods": [{**METHODS["add"], "deprecated": "use plus"}]},
        {**DOCUMENT, "methods": [{**METHODS["add"], "params": [{"name": "a", "schema": {"type": "int"}}]}]},
        {**DOCUMENT, "methods": [{**METHODS["add"], "params": [{"name": "a", "schema": {"required": True}}]}]},
        {**DOCUMENT, "components": {"schemas": {"Person": {"properties": []}}}},
    ):
        assert not validator.is_valid(broken)


def test_the_document_comes_over_both_protocols(call: Call, request: pytest.FixtureRequest) -> None:
    document = call("rpc.discover")
    if "xmlrpc" in request.node.name:
        jsonschema.Draft7Validator(META_SCHEMA).validate(document)
        assert {described["name"] for described in document["methods"]} == set(call("system.listMethods"))
    else:
        assert document == DOCUMENT


@pytest.mark.parametrize("place", range(len(HINTS)), ids=lambda place: str(HINTS[place][0]))
def test_a_schema_takes_what_the_method_takes_and_nothing_else(server: Server, place: int) -> None:
    _, _, taken, refused = HINTS[place]
    name = f"hints.takes{place}"
    schema = METHODS[name]["params"][0]["schema"]
    assert schema == METHODS[f"hints.gives{place}"]["result"]["schema"]
    validator = jsonschema.Draft7Validator({**DOCUMENT, "allOf": [schema]})
    assert validator.is_valid(taken)
    assert refused is None or not validator.is_valid(refused)
    calls = [{"jsonrpc": "2.0", "method": name, "params": [value], "id": 1} for value in (taken, refused)]
    answers = msgspec.json.decode(post(server.port, msgspec.json.encode(calls)).body)
    assert "result" in answers[0]
    assert refused is None or answers[1]["error"]["code"] == -32602


def test_types_of_one_name_have_a_schema_each() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["Person"]["properties"]) == {"name"}
    assert set(schemas["Person-2"]["properties"]) == {"number"}
    assert schemas["Team-2"]["properties"]["lead"] == {"$ref": "#/components/schemas/Person-2"}
    assert set(schemas) == {
        *("Box_int_", "Box_str_", "Circle", "Colour", "Level", "Node", "Pair", "Person", "Person-2", "Point", "Row"),
        *("Square", "Team", "Team-2"),
    }


def described(name: str) -> tuple[str, list[tuple[str, bool]]]:
    params = [(param["name"], param["required"]) for param in METHODS[name]["params"]]
    return METHODS[name]["paramStructure"], params


@pytest.mark.parametrize(
    ("name", "structure", "params"),
    [
        ("add", "either", [("a", True), ("b", False), ("c", False)]),
        ("old", "either", []),
        ("by_position", "by-position", [("a", True), ("b", False)]),
        ("by_name", "by-name", [("b", True), ("d", True), ("a", False), ("c", False)]),
        ("by_name_if_needed", "by-name", [("a", True), ("b", False)]),
        ("rest", "by-position", [("a", True), ("more", False)]),
        ("rest_by_name", "by-name", [("key", True)]),
        ("others", "either", [("a", True)]),
    ],
)
def test_parameters_stand_as_they_can_be_given(name: str, structure: str, params: list[tuple[str, bool]]) -> None:
    assert described(name) == (structure, params)


def test_further_arguments_are_described_by_their_own_hint() -> None:
    assert METHODS["rest"]["params"][1] == {
        "name": "more",
        "schema": {"type": "number"},
        "required": False,
        "description": "Any number of further arguments.",
    }


def test_defaults_are_told_where_callers_could_send_them() -> None:
    schemas = {param["name"]: param["schema"] for param in METHODS["defaults"]["params"]}
    assert {name: schema["default"] for name, schema in schemas.items() if "default" in schema} == {
        "number": 1,
        "text": None,
        "colour": "red",
        "node": {"name": "a", "weight": 1, "children": []},
        "raw": "YQ==",
    }
    assert "default" not in DOCUMENT["components"]["schemas"]["Node"]["properties"]["weight"]


def test_a_docstring_becomes_summary_and_description() -> None:
    assert METHODS["add"]["summary"] == "Add two numbers, or three."
    assert METHODS["add"]["description"] == "The third one is rarely needed."
    assert "deprecated" not in METHODS["add"]
    assert METHODS["plus"] == {**METHODS["add"], "name": "plus"}
    assert not {"summary", "description"} & METHODS["unwritten"].keys()


def test_what_is_deprecated_says_so() -> None:
    assert METHODS["old"]["deprecated"] is METHODS["older"]["deprecated"] is True
    assert METHODS["old"]["description"] == "Deprecated."
    assert METHODS["older"]["description"] == "Deprecated: use add"


def ask(server: Server, name: str, *params: Any) -> Any:
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": name, "params": params, "id": 1})
    return msgspec.json.decode(post(server.port, body).body)["result"]


@pytest.mark.parametrize("ignored", ["", "INT000123", 5, True, None, ["a"], {"a": 1}])
def test_list_methods_ignores_an_argument_of_any_type(call: Call, ignored: Any) -> None:
    assert call("system.listMethods", ignored) == call("system.listMethods")


def test_a_document_is_made_once_and_again_when_the_methods_change(monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[int] = []

    def count(methods: Any, *identity: str, int_texts: bool) -> dict[str, Any]:
        described.append(len(methods))
        return describe(methods, *identity, int_texts=int_texts)

    monkeypatch.setattr(introspection, "describe", count)
    own = Registry()
    own.register(lambda: None, name="one")
    rules = {
        "access.rules": '[{"methods": ["one"], "networks": ["192.0.2.1"]}]',
        "access.trusted_proxies": '["127.0.0.1"]',
    }
    with serving(own, rules) as server:
        batch = [{"jsonrpc": "2.0", "method": "rpc.discover", "id": index} for index in range(100)]
        answers = msgspec.json.decode(post(server.port, msgspec.json.encode(batch)).body)
        assert all(answer["result"] == answers[0]["result"] for answer in answers)
        assert len(described) == 1
        head = {"Content-Type": "application/json", "X-Forwarded-For": "192.0.2.1"}
        allowed = exchange(server.port, request("/api", head, msgspec.json.encode(batch[0])))
        shown = [method["name"] for method in msgspec.json.decode(allowed.body)["result"]["methods"]]
        assert "one" in shown
        assert "one" not in [method["name"] for method in ask(server, "rpc.discover")["methods"]]
        assert len(described) == 2
        server.gateway.registry.register(lambda: None, name="two")
        assert "two" in [method["name"] for method in ask(server, "rpc.discover")["methods"]]
        assert len(described) == 3


def test_few_documents_are_kept() -> None:
    documents = introspection._Documents("title", "1")
    own = Registry()
    for index in range(20):
        own.register(lambda: None, name=f"method{index}")
    methods = list(own.methods())
    first = documents.of(methods[:1])
    for number in range(2, 18):
        documents.of(methods[:number])
    assert documents.of(methods[:17]) is documents.of(methods[:17])
    assert documents.of(methods[:1]) == first
    assert documents.of(methods[:1]) is not first
