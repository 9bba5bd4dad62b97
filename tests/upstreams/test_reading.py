"""What other servers tell of their methods and of their failures, read."""

from types import NoneType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.faults import (
    BadUpstream,
    Fault,
    ForeignFault,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    ParseError,
)
from gateway.upstreams.faults import told
from gateway.upstreams.jsonrpc.openrpc import from_document, hint_of
from gateway.upstreams.names import from_names
from tests.codecs.test_properties import fuzzed

SCHEMAS: list[tuple[Any, Any]] = [
    ({"type": "integer"}, int),
    ({"type": "number"}, int | float),
    ({"type": "string", "minLength": 3}, str),
    ({"type": ["string", "null"]}, str | None),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, int | None),
    ({"type": "array", "items": {"type": "string"}}, list[str]),
    ({"type": "array"}, list[Any]),
    ({"type": "object", "properties": {}}, dict[str, Any]),
    ({"type": "null"}, NoneType),
    ({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "array"}]}, Any),
    ({"anyOf": []}, Any),
    ({"$ref": "#/components/schemas/Person"}, Any),
    ({"type": "money"}, Any),
    ({"type": ["integer", "money"]}, Any),
    (True, Any),
    (None, Any),
]
TRACEBACK = "Traceback (most recent call last):\n  File x"
FAULTS: list[tuple[ForeignFault, type[Fault], int, str, Any]] = [
    (ForeignFault(1, "<class 'ZeroDivisionError'>:division by zero"), Fault, 1, "division by zero", None),
    (ForeignFault(1, "<class 'a.b.C'>:"), Fault, 1, "the upstream failed", None),
    (ForeignFault(1, "<class 'Exception'>:method \"x\" is not supported"), MethodNotFound, -32601, "", {}),
    (ForeignFault(7, 'method "x" is not supported'), Fault, 7, 'method "x" is not supported', None),
    (ForeignFault(4, "too many", [1]), Fault, 4, "too many", [1]),
    (ForeignFault(0, ""), Fault, 0, "the upstream failed", None),
    (ForeignFault(5, "no\nTraceback (most recent call last):\n  File x"), Fault, 5, "no", None),
    (ForeignFault(5, "x", f"a\n{TRACEBACK}"), Fault, 5, "x", None),
    (
        ForeignFault(5, "x", {"t": TRACEBACK, "a": [TRACEBACK, {"b": TRACEBACK, "c": 1}]}),
        Fault,
        5,
        "x",
        {"a": [{"c": 1}]},
    ),
    (ForeignFault("Client", "no"), Fault, -32000, "no", {"code": "Client"}),
    (ForeignFault("Client", f"no {TRACEBACK}"), Fault, -32000, "no", {"code": "Client"}),
    (ForeignFault(5, "x" * 5000), Fault, 5, "x" * 1000, None),
    (ForeignFault(-32601, "Method not found"), MethodNotFound, -32601, "Method not found", {}),
    (ForeignFault(-32602, "wrong a"), InvalidParams, -32602, "Invalid params: wrong a", {}),
    (
        ForeignFault(-32602, "Invalid params", {"detail": "params[0]"}),
        InvalidParams,
        -32602,
        "Invalid params: params[0]",
        {},
    ),
    (ForeignFault(-32602, "Invalid params", "a is odd"), InvalidParams, -32602, "Invalid params: a is odd", {}),
    (ForeignFault(-32602, "Bad", "a is odd"), InvalidParams, -32602, "Invalid params: Bad: a is odd", {}),
    (ForeignFault(-32602, "Bad", {"a": [1]}), InvalidParams, -32602, "Invalid params: Bad", {"data": {"a": [1]}}),
    (ForeignFault(-32602, "invalid params", [1]), InvalidParams, -32602, "Invalid params", {"data": [1]}),
    (ForeignFault(-32601, "Method not found", "no x"), MethodNotFound, -32601, "Method not found: no x", {}),
    (
        ForeignFault(-32600, "Invalid Request", {"detail": "no id", "at": 3, "t": TRACEBACK}),
        InvalidRequest,
        -32600,
        "Invalid Request: no id",
        {"data": {"at": 3}},
    ),
    (ForeignFault(-32600, "eh"), InvalidRequest, -32600, "Invalid Request: eh", {}),
    (ForeignFault(-32700, "eh"), ParseError, -32700, "Parse error: eh", {}),
    (ForeignFault(-32603, "db.internal: no", "x"), Fault, -32000, "the upstream failed", None),
    (ForeignFault(-32050, "busy"), Fault, -32000, "busy", {"code": -32050}),
    (ForeignFault(-32000, "no", 3), Fault, -32000, "no", {"code": -32000, "data": 3}),
    (ForeignFault(2**40, "no"), Fault, -32000, "no", {"code": 2**40}),
]


@pytest.mark.parametrize(("schema", "hint"), SCHEMAS, ids=str)
def test_a_plain_schema_is_a_hint(schema: Any, hint: Any) -> None:
    assert hint_of(schema) == hint


TYPES = [{"type": name} for name in ("integer", "number", "string", "array", "x")]
schemas: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.sampled_from(TYPES),
    lambda inner: (
        st.fixed_dictionaries({"anyOf": st.lists(inner, max_size=3)})
        | st.fixed_dictionaries({"type": st.just("array"), "items": inner})
        | st.fixed_dictionaries(
            {"type": st.lists(st.sampled_from(["null", "object", "array", "boolean", 3]), max_size=3)}
        )
    ),
    max_leaves=6,
)


@fuzzed(500)
@given(schemas)
def test_every_schema_makes_a_hint_that_can_be_checked(schema: Any) -> None:
    msgspec.json.Decoder(hint_of(schema))


def test_what_a_document_does_not_say_plainly_takes_any_arguments() -> None:
    one = {"name": "a", "required": True}
    methods = [
        {"name": "plain", "params": [one, {"name": "b", "schema": {"type": "string"}}]},
        {"name": "by-name", "params": [one], "paramStructure": "by-name"},
        {"name": "twice", "params": [one, one]},
        {"name": "late", "params": [{"name": "b"}, one]},
        {"name": "odd", "params": [{"$ref": "x"}]},
        {"name": "none"},
        {"no": "name"},
    ]
    made = {signature.name: signature.params for signature in from_document({"methods": methods})}
    assert list(made) == ["plain", "by-name", "twice", "late", "odd", "none"]
    assert [name for name, params in made.items() if params is not None] == ["plain"]
    assert [(param.name, param.hint, param.required) for param in made["plain"] or ()] == [
        ("a", Any, True),
        ("b", str, False),
    ]


@pytest.mark.parametrize("said", [None, [], {}, {"methods": 3}, "x", {"methods": [{}] * 10_001}])
def test_what_is_no_document(said: Any) -> None:
    with pytest.raises(BadUpstream):
        from_document(said)


@pytest.mark.parametrize("said", [None, {}, [1], ["x"] * 10_001, "add"])
def test_what_is_no_list_of_names(said: Any) -> None:
    with pytest.raises(BadUpstream):
        from_names(said)


@pytest.mark.parametrize(("fault", "kind", "code", "message", "data"), FAULTS)
def test_what_the_caller_is_told_of_a_foreign_fault(
    fault: ForeignFault, kind: type[Fault], code: int, message: str, data: Any
) -> None:
    made = told(fault)
    assert type(made) is kind
    assert made.code == code
    assert made.message == message or not message
    assert made.data == data
