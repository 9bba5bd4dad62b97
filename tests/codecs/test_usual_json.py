"""What is usual, against the reader and the writer that look at everything: the same calls, and the same bytes.

``FUZZ`` is the number of mutated documents, 5,000 without it; ``make fuzz`` takes 300,000.
"""

import json
import os
import random
from collections import OrderedDict
from decimal import Decimal
from enum import IntEnum
from typing import Any

import msgspec
import pytest
from hypothesis import given

from gateway.codecs.jsonrpc import JSONRPC, usual
from gateway.codecs.jsonrpc.text import inside, measured, parse
from gateway.model.calls import Answer, Call, InvalidCall, Reply
from gateway.model.faults import ParseError
from gateway.model.values import EncodingError
from tests.codecs.test_properties import JSON_VALUES, anything, fuzzed

DEPTH = 8
CODEC = JSONRPC(max_depth=DEPTH, max_batch=1)
TEXTUAL = JSONRPC(max_depth=DEPTH, max_batch=1, int64="text")
CALL = Call(method="m", params=[], id=1)
ROOM = 2**20


class Colour(IntEnum):
    RED = 1


def answers(value: Any, patch: pytest.MonkeyPatch, codec: JSONRPC = CODEC) -> tuple[Answer, Answer]:
    """Answer by both writers."""
    answer = codec.encode(CALL, Reply(value=value), ROOM)
    with patch.context() as context:
        context.setattr("gateway.codecs.jsonrpc.size_of", lambda *_: 0)
        return answer, codec.encode(CALL, Reply(value=value), ROOM)


def shown(answer: Answer) -> tuple[bytes, Any]:
    return answer.wire, answer.fault and (answer.fault.code, answer.fault.message)


@fuzzed(200)
@given(JSON_VALUES | anything)
def test_both_writers_write_the_same(value: Any) -> None:
    for codec in (CODEC, TEXTUAL):
        first, second = answers(value, pytest.MonkeyPatch(), codec)
        assert shown(first) == shown(second)


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


ITSELF: list[Any] = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    "value",
    [
        *(nested(levels) for levels in range(DEPTH - 3, DEPTH + 3)),
        *(
            [value]
            for value in (
                float("nan"),
                float("inf"),
                -0.0,
                1e300,
                2**53 - 1,
                -(2**53),
                2**63 - 1,
                2**64,
                -(2**64),
                10**4400,
                True,
            )
        ),
        *({"a": value} for value in ("\ud800", "\udc00x", "\u2028", "", "\0", b"bytes", (1, 2), Decimal("1.5"))),
        *({name: 1} for name in ("\ud800", 1, None, Colour.RED, b"a", "")),
        *(Colour.RED, {Colour.RED}, OrderedDict(a=[1]), {"a": OrderedDict()}, object(), ITSELF),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_usual_is_written_by_the_other_writer(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for codec in (CODEC, TEXTUAL):
        first, second = answers(value, monkeypatch, codec)
        assert shown(first) == shown(second)


def test_what_holds_a_value_many_times_over_is_given_up_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    value: Any = ["x" * 100] * 100
    for _ in range(4):
        value = [value] * 100
    calls: list[Any] = []

    def encode(said: Any) -> bytes:
        calls.append(said)
        return b""

    monkeypatch.setattr("msgspec.json.encode", encode)
    answer = CODEC.encode(CALL, Reply(value=value), ROOM)
    assert answer.fault is not None
    assert answer.fault.code == -32007
    assert all(said is not value for said in calls)


def test_a_usual_result_is_not_looked_at_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise EncodingError("looked at twice")

    monkeypatch.setattr(JSONRPC, "_say", refuse)
    answer = CODEC.encode(CALL, Reply(value={"a": [1, "é", None, True, 1.5]}), ROOM)
    assert msgspec.json.decode(answer.wire)["result"] == {"a": [1, "é", None, True, 1.5]}


@pytest.mark.parametrize(
    "odd",
    [float("nan"), 2**64, 10**4400, (1,), {1: 2}, {"\ud800": 1}, "\udc00", b"a", Colour.RED, object()],
    ids=lambda odd: type(odd).__name__,
)
@pytest.mark.parametrize("many", [[{"a": 1, "b": 1.5}] * 30, [[1, "x", None, True]] * 30, [1.5, "x", {}, []] * 10])
def test_an_odd_one_among_many_values_is_found(odd: Any, many: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    inner = {"a": odd} if type(many[0]) is dict else [odd]
    for codec in (CODEC, TEXTUAL):
        for value in ([*many, inner], [*many, odd], {"a": many, "b": odd}, [[many, inner]]):
            first, second = answers(value, monkeypatch, codec)
            assert shown(first) == shown(second)


def test_doubles_among_many_values_are_looked_at_only_beside_a_null(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = []

    def look(value: Any) -> bool:
        looks.append(value)
        return usual_look(value)

    usual_look = usual._are_finite
    monkeypatch.setattr(usual, "_are_finite", look)
    for value, times in (([1.5, "x"] * 30, 0), ([1.5, "null"] * 30, 1), ([{"a": 1.5, "b": [None]}] * 30, 1)):
        assert msgspec.json.decode(CODEC.encode(CALL, Reply(value=value), ROOM).wire)["result"] == value
        assert len(looks) == times
        looks.clear()


def test_values_are_found_whatever_the_names_in_dicts_are_or_were() -> None:
    once = {1: 0, "a": [1], "b": 2}
    del once[1]
    level: list[Any] = [{"a": 1, "b": {"c": 2}}, [3, 4], once, {}, []]
    assert sorted(map(str, inside(level, 6))) == ["1", "2", "3", "4", "[1]", "{'c': 2}"]
    level.append({Colour.RED: 5})
    assert len(inside(level, 7)) == 8
    many = [once] * 30
    assert usual.size_of(many, DEPTH, ROOM, 0) == 121
    assert measured(many) == (60, 3)


PIECES = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    '"',
    '"a":',
    '"a":1,',
    '"id":',
    '"params":',
    " ",
    "\t",
    "\n:",
    '" :',
    '"  :',
    "\\",
    '\\"',
]
PIECES += [
    "1",
    "-",
    "1e400",
    "1e2",
    "1.0",
    "2.0",
    "null",
    "true",
    '"x:y"',
    '":"',
    "\\ud800",
    "\\u0061",
    "é",
    "18446744073709551616",
]
MEMBERS = ['"a":1,', '"a" :1,', '"b"\t:1,', '"a" \n:":",', '"id"  :2,', '"b":"x:y\\"",', '"params":[],']
REQUESTS = [
    '{"jsonrpc":"2.0","method":"add","params":[7,3],"id":1}',
    '{"jsonrpc": "2.0", "method": "a.b", "params": {"a": 1, "b": [{"c": "d:e"}]}, "id": "x:y"}',
    '{"jsonrpc" : "2.0", "method" : "m", "id" : null}',
    '{"jsonrpc":"2.0","method":"m","params":[{"a":":","b":"\\":"},{"a":[]}]}',
    '{"id":1.5,"params":[[[[[[1]]]]]],"method":"m","jsonrpc":"2.0"}',
    '{"jsonrpc":"2.0","method":"m","params":[' + ",".join('{"a":1,"b":"c:d"}' for _ in range(12)) + '],"id":7}',
]


def mutated(text: str, chance: random.Random) -> bytes:
    """Change a document in one to three places; mostly behind what may stand before a member or a value."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        start = chance.randrange(len(text) + 1)
        if chance.random() < 0.3:
            start = text.find("{", start) + 1
            text = text[:start] + chance.choice(MEMBERS) + text[start:]
            continue
        if chance.random() < 0.5:
            start = text.find(chance.choice("{,:["), start) + 1
        end = min(len(text), start + chance.choice((0, 0, 0, 1, 2, 7)))
        text = text[:start] + chance.choice([*PIECES, text[end : end + 12], ""]) + text[end:]
    return text.encode()


class DuplicateNameError(Exception):
    pass


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise DuplicateNameError
    return members


def has_duplicates(text: bytes) -> bool:
    try:
        json.loads(text, object_pairs_hook=unique)
    except DuplicateNameError:
        return True
    except ValueError:
        return False
    return False


def is_refused_for_its_names(text: bytes) -> bool | None:
    """Tell whether the gateway refuses JSON for its names; None where it does for something else."""
    try:
        parse(text, DEPTH)
    except ParseError as fault:
        return True if "same name" in str(fault.detail) else None
    return False


@pytest.mark.parametrize("text", REQUESTS)
def test_usual_requests_are_read(text: str) -> None:
    call = usual.read_call(text.encode(), DEPTH)
    assert call is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.codecs.jsonrpc.read_request", lambda _: None)
        assert repr(CODEC.decode(text.encode(), None)) == repr(call)


def test_mutated_requests_are_read_likewise_and_duplicate_names_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.codecs.jsonrpc.read_request", lambda _: None)
    chance = random.Random(20261129)
    read = duplicates = 0
    for _ in range(int(os.environ.get("FUZZ", "5000"))):
        text = mutated(chance.choice(REQUESTS), chance)
        call = usual.read_call(text, DEPTH)
        assert call is None or repr(call) == repr(CODEC.decode(text, None)), text
        assert is_refused_for_its_names(text) in (None, has_duplicates(text)), text
        read += call is not None
        duplicates += has_duplicates(text)
    assert read > 200
    assert duplicates > 20


@pytest.mark.parametrize("levels", [DEPTH - 3, DEPTH - 2, DEPTH - 1, DEPTH])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_requests_are_as_deep(opened: str, closed: str, levels: int) -> None:
    inner = opened * levels + "1" + closed * levels
    text = f'{{"jsonrpc":"2.0","method":"m","params":[{inner}]}}'.encode()
    assert (usual.read_call(text, DEPTH) is not None) == (levels <= DEPTH - 2)
    assert isinstance(CODEC.decode(text, None), Call) == (levels <= DEPTH - 2)


@pytest.mark.parametrize("member", ['"id":true', '"id":[1]', '"id":{}', '"params":"x"', '"params":null', '"params":1'])
def test_what_is_not_a_call_is_left_to_the_other_reader(member: str) -> None:
    text = f'{{"jsonrpc":"2.0","method":"m",{member}}}'.encode()
    assert usual.read_call(text, DEPTH) is None
    assert isinstance(CODEC.decode(text, None), InvalidCall)


RESPONSES = [
    '{"jsonrpc": "2.0", "id": 1, "result": 5}',
    '{"jsonrpc":"2.0","result":{"a":[1,{"c":"d:e"}],"b":null},"id":"x:y"}',
    '{"result":[[[[[[1]]]]]],"id":null,"jsonrpc":"2.0"}',
    '{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}',
    '{"jsonrpc":"2.0","id":7,"result":[' + ",".join('{"a":1,"b":"c:d"}' for _ in range(12)) + "]}",
]


def test_mutated_responses_are_read_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.codecs.jsonrpc.read_result", lambda *_: None)
    chance = random.Random(20261130)
    read = 0
    for _ in range(int(os.environ.get("FUZZ", "5000"))):
        text = mutated(chance.choice(RESPONSES), chance)
        answer = usual.read_result(text, DEPTH)
        assert answer is None or repr(answer) == repr(CODEC.decode_answer(text)), text
        read += answer is not None
    assert read > 200


@pytest.mark.parametrize("levels", [DEPTH - 2, DEPTH - 1, DEPTH])
def test_responses_are_as_deep(levels: int) -> None:
    text = f'{{"jsonrpc":"2.0","result":{"[" * levels}1{"]" * levels},"id":1}}'.encode()
    assert (usual.read_result(text, DEPTH) is not None) == (levels <= DEPTH - 1)
    answer = CODEC.decode_answer(text)
    assert answer is not None
    assert (answer[1].fault is None) == (levels <= DEPTH - 1)


@pytest.mark.parametrize("member", ['"id":true', '"id":[1]', '"id":1,"x":2', '"id":1,"id":1', '"id":1,"error":null'])
def test_what_is_not_a_usual_response_is_left_to_the_other_reader(member: str) -> None:
    assert usual.read_result(f'{{"jsonrpc":"2.0","result":5,{member}}}'.encode(), DEPTH) is None
