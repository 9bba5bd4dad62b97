"""Results that msgspec writes as they are, against the writer that looks at every value: the bytes are the same."""

from collections import OrderedDict
from decimal import Decimal
from enum import IntEnum
from typing import Any

import msgspec
import pytest
from hypothesis import given

from gateway.codecs.jsonrpc import JSONRPC
from gateway.model.calls import Answer, Call, Reply
from gateway.model.values import EncodingError
from tests.codecs.test_properties import JSON_VALUES, anything, fixed

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
        context.setattr("gateway.codecs.jsonrpc.is_usual", lambda *_: False)
        return answer, codec.encode(CALL, Reply(value=value), ROOM)


def shown(answer: Answer) -> tuple[bytes, Any]:
    return answer.wire, answer.fault and (answer.fault.code, answer.fault.message)


@fixed(500)
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
