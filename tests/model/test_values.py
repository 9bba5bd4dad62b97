"""What methods return: which neutral value it becomes, and that nothing whatever makes ``encode`` raise."""

import enum
import json
import types
import xmlrpc.client
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from msgspec import Struct

from gateway.codecs.jsonrpc import JSONRPC
from gateway.codecs.xmlrpc import XMLRPC
from gateway.model.calls import Call, Reply
from gateway.model.faults import Fault, InternalError
from gateway.model.values import EncodingError, by_name, in_utc, plain

CODECS = (XMLRPC(max_depth=64, max_batch=100), JSONRPC(max_depth=64, max_batch=100))
CALL = Call(method="m", params=[], id=1)


class Flag(enum.IntFlag):
    A = 1
    B = 2


class Inner(enum.Enum):
    A = (1, 2)


class Outer(enum.Enum):
    B = Inner.A


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise ValueError("secret")

    __len__ = __repr__ = __str__  # type: ignore[assignment]


class Number(int):
    def __int__(self) -> int:
        raise ValueError("secret")

    __index__ = __int__


class Real(float):
    def __float__(self) -> float:
        raise ValueError("secret")


class Raw(bytes):
    def __bytes__(self) -> "Raw":
        return self


class Moment(datetime):
    def isoformat(self, *_: Any) -> str:
        raise ValueError("secret")


@dataclass
class Point:
    x: Any
    y: Any = None


class Row(Struct, rename="camel", tag="row", omit_defaults=True):
    some_name: Any
    other: int = 1


class Table(Struct, array_like=True):
    rows: list[Any]


Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - the untyped one is what is tested

PLAIN: list[tuple[Any, Any]] = [
    (Flag.A | Flag.B, 3),
    (Inner.A, (1, 2)),
    (Outer.B, Inner.A),
    (Text("a"), "a"),
    (Number(7), 7),
    (Real(0.5), 0.5),
    (Raw(b"a"), b"a"),
    (bytearray(b"a"), b"a"),
    (memoryview(b"abcd")[::-2], b"db"),
    ((1, (2,)), [1, (2,)]),
    (Pair(1, 2), [1, 2]),
    ({1}, [1]),
    (frozenset(), []),
    (deque([1]), [1]),
    (OrderedDict(a=1), {"a": 1}),
    (defaultdict(int, a=1), {"a": 1}),
    (Counter("a"), {"a": 1}),
    (ChainMap({"a": 1}), {"a": 1}),
    (UserDict(a=1), {"a": 1}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (Moment(2024, 1, 2, 3, 4, 5, 6), datetime(2024, 1, 2, 3, 4, 5, 6)),
    (Moment(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)),
    (date(2024, 1, 2), "2024-01-02"),
    (time(1, 2, 3, 4), "01:02:03.000004"),
    (timedelta(days=-1, seconds=1), "-PT86399S"),
    (Decimal("1e400"), "1E+400"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (xmlrpc.client.Binary(b"a"), b"a"),
    (xmlrpc.client.DateTime("20240102T03:04:05"), datetime(2024, 1, 2, 3, 4, 5)),
    (Point(1), {"x": 1, "y": None}),
    (Row(Inner.A), {"type": "row", "someName": Inner.A}),
    (Table([1, 2]), [[1, 2]]),
]


class FailingList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise ValueError("secret")


class LeavingList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise SystemExit("secret")


class UnsizedList(list[Any]):
    def __len__(self) -> int:
        raise KeyError("secret")


class FailingDict(dict[Any, Any]):
    def keys(self) -> Any:
        raise ValueError("secret")

    __iter__ = items = keys


class FailingMapping(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise KeyError("secret")

    def __iter__(self) -> Iterator[str]:
        yield "a"

    def __len__(self) -> int:
        return 1


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise ValueError("secret")


class OfNameless(metaclass=Nameless):
    pass


class Untouchable:
    def __getattribute__(self, name: str) -> Any:
        raise ValueError("secret")


class Pretender:
    __class__ = str  # type: ignore[assignment]


class OddKey(str):
    __slots__ = ()

    def __hash__(self) -> int:
        return 5

    def __eq__(self, other: object) -> bool:
        return self is other

    def __getitem__(self, _: Any) -> str:
        raise ValueError("secret")

    __format__ = __str__ = __getitem__  # type: ignore[assignment]


class Zone(tzinfo):
    def __init__(self, offset: Any) -> None:
        self.offset = offset

    def utcoffset(self, _: datetime | None) -> Any:
        if isinstance(self.offset, Exception):
            raise self.offset
        return self.offset

    dst = tzname = utcoffset


class Own(enum.Enum):
    A = 1


Own.A._value_ = Own.A  # type: ignore[assignment]


def itself(kind: type) -> Any:
    value: Any = Point(None) if kind is Point else Row(None) if kind is Row else kind()
    if kind is list:
        value += [value, value]
    elif kind is dict:
        value |= {"x": value}
    elif kind is Point:
        value.x = [value]
    else:
        value.some_name = value
    return value


def changing() -> dict[str, Any]:
    """Return a dict that changes while it is said, as by another thread."""

    class Changing(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            members[str(len(members))] = 1
            return iter(())

    members: dict[str, Any] = {"a": Changing(), "b": 1}
    return members


def released() -> memoryview:
    view = memoryview(b"a")
    view.release()
    return view


def badly_made() -> list[Any]:
    binary, moment = xmlrpc.client.Binary(), xmlrpc.client.DateTime("yesterday")
    binary.data = 1.5  # type: ignore[assignment]
    return [binary, moment]


HOSTILE: list[tuple[Any, str]] = [
    (FailingList([1]), "result: the value raises ValueError"),
    ([1, LeavingList([1])], "result[1]: the value raises SystemExit"),
    (UnsizedList([1]), "result: the value raises KeyError"),
    ({"a": FailingDict(a=1)}, "result.a: the value raises ValueError"),
    (FailingMapping(), "result: the value raises KeyError"),
    (OfNameless(), "result: the value raises ValueError"),
    ([Untouchable()], "result[0]: values of type Untouchable are not supported"),
    (Pretender(), "result: values of type Pretender are not supported"),
    (released(), "result: the value raises ValueError"),
    (badly_made()[:1], "result[0]: the value raises TypeError"),
    (badly_made()[1:], "result[0]: the value raises ValueError"),
    ({Pretender(): 1}, "result: the name of a member must be a string, not Pretender"),
    ({OddKey("a"): 1, OddKey("a"): 2}, "result: two members have the same name"),
    ({OddKey("a"): object()}, "result.a: values of type object are not supported"),
    ({"k" * 200: object()}, f"result.{'k' * 80}: values of type object are not supported"),
    ([datetime(2024, 1, 1, tzinfo=Zone(ValueError("secret")))], "result[0]: the value raises ValueError"),
    ([datetime(2024, 1, 1, tzinfo=Zone("secret"))], "result[0]: the value raises TypeError"),
    ([Moment(2024, 1, 1, tzinfo=Zone(ValueError("secret")))], "result[0]: the value raises ValueError"),
    (Own.A, "result: the value raises RecursionError"),
    (Point({1: 2}), "result.x: the name of a member must be a string, not int"),
    (Point([1, Point(Row(object()))]), "result.x[1].x.someName: values of type object are not supported"),
    (Point, "result: values of type type are not supported"),
    ((n for n in (1,)), "result: values of type generator are not supported"),
    (range(3), "result: values of type range are not supported"),
    (1j, "result: values of type complex are not supported"),
    (UserList([1]), "result: values of type UserList are not supported"),
    (types.SimpleNamespace(a=1), "result: values of type SimpleNamespace are not supported"),
    (ValueError("secret"), "result: values of type ValueError are not supported"),
    (type, "result: values of type type are not supported"),
]


def encoded(codec: XMLRPC | JSONRPC, value: Any) -> tuple[Fault | None, bytes]:
    answer = codec.encode(CALL, Reply(value=value), 2**20)
    document = codec.single(answer)
    assert b"secret" not in document
    if isinstance(codec, JSONRPC):
        json.loads(document)
    elif answer.fault is None:
        xmlrpc.client.loads(document)
    else:
        with pytest.raises(xmlrpc.client.Fault):
            xmlrpc.client.loads(document)
    return answer.fault, document


@pytest.mark.parametrize(("value", "neutral"), PLAIN, ids=lambda value: type(value).__name__)
def test_other_types_become_neutral_ones(value: Any, neutral: Any) -> None:
    made = plain(value)
    assert (type(made), made) == (type(neutral), neutral)


@pytest.mark.parametrize(("value", "detail"), HOSTILE, ids=[str(number) for number in range(len(HOSTILE))])
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_a_hostile_result_is_a_fault_that_names_its_place(codec: XMLRPC | JSONRPC, value: Any, detail: str) -> None:
    fault, _ = encoded(codec, value)
    assert isinstance(fault, InternalError)
    assert fault.detail.partition(": ")[2] == detail


@pytest.mark.parametrize(("kind", "step"), [(list, "[0]"), (dict, ".x"), (Point, ".x[0]"), (Row, ".someName")])
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_what_contains_itself_is_said_to_do_so(codec: XMLRPC | JSONRPC, kind: type, step: str) -> None:
    fault, _ = encoded(codec, itself(kind))
    assert isinstance(fault, InternalError)
    assert f"result{step * 31}" in fault.detail
    assert fault.detail.endswith(": more than 64 levels, or the value contains itself")


def test_a_dict_that_changes_meanwhile_is_said_or_is_a_fault() -> None:
    for codec in CODECS:
        fault, _ = encoded(codec, changing())
        assert fault is None or fault.detail.endswith("result: the value raises RuntimeError")


def test_a_zone_without_an_offset_is_none() -> None:
    moment = datetime(2024, 1, 1, tzinfo=Zone(None))
    assert b"<dateTime.iso8601>20240101T00:00:00</" in encoded(CODECS[0], moment)[1]
    assert b'"2024-01-01T00:00:00"' in encoded(CODECS[1], moment)[1]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(1, 1, 1), datetime(1, 1, 1)),
        (datetime(2024, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))), datetime(2024, 1, 1)),
        (datetime(1, 1, 1, tzinfo=timezone(-timedelta(hours=23))), datetime(1, 1, 1, 23)),
        (datetime.max.replace(tzinfo=timezone(timedelta(microseconds=1))), datetime.max - timedelta(microseconds=1)),
    ],
)
def test_moments_are_told_in_utc(moment: datetime, expected: datetime) -> None:
    assert in_utc(moment) == expected


def test_a_moment_outside_of_the_years_in_utc_cannot_be_said() -> None:
    with pytest.raises(EncodingError, match="out of range in UTC"):
        in_utc(datetime.max.replace(tzinfo=timezone(-timedelta(microseconds=1))))


def test_members_of_plain_names_are_passed_on_uncopied() -> None:
    members = {"a": 1}
    assert by_name(members) is members
    named = by_name({Text("a"): 1, "b": 2})
    assert named == {"a": 1, "b": 2}
    assert set(map(type, named)) == {str}


def test_the_place_of_what_cannot_be_said_is_gathered_from_inside() -> None:
    encoding_error = EncodingError("why").inside("[3]").inside(".items")
    assert encoding_error.fault("X").detail == "the result cannot be encoded as X: result.items[3]: why"
