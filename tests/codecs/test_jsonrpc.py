"""JSON-RPC 2.0, case by case: a table of what is read as it is written; of what is only read; only written; refused.

Values are compared by their repr, which tells 1 from True and 1.0, and 0.0 from -0.0.
"""

import enum
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Self
from zoneinfo import ZoneInfo

import pytest
from msgspec import Struct

from gateway.codecs.jsonrpc import JSONRPC
from gateway.model.calls import Batch, Call, InvalidCall, Reply
from gateway.model.faults import Fault, InternalError, InvalidParams, Overloaded, ParseError, ResponseTooLarge

CODEC = JSONRPC(max_depth=64, max_batch=100)
CALL = Call(method="m", params=[], id=1)
ROOM = 2**20
DIGITS = "9" * 4300

BOTH: list[tuple[Any, str]] = [
    (None, "null"),
    (True, "true"),
    (False, "false"),
    (0, "0"),
    (-1, "-1"),
    (2**31, "2147483648"),
    (2**53 + 1, "9007199254740993"),
    (2**63, "9223372036854775808"),
    (-(2**63) - 1, "-9223372036854775809"),
    (2**64, "18446744073709551616"),
    (10**4300 - 1, DIGITS),
    (-(10**4299) + 1, f"-{DIGITS[1:]}"),
    (0.0, "0.0"),
    (-0.0, "-0.0"),
    (1.0, "1.0"),
    (0.1, "0.1"),
    (3.14159, "3.14159"),
    (1e22, "1e22"),
    (5e-324, "5e-324"),
    (1.7976931348623157e308, "1.7976931348623157e308"),
    ("", '""'),
    (" a ", '" a "'),
    ('"\\/', '"\\"\\\\/"'),
    ("\0\x1f\t\n\r\b\f\x7f", '"\\u0000\\u001f\\t\\n\\r\\b\\f\x7f"'),
    ("]]>&<", '"]]>&<"'),
    ("\u00e9\u2028\uffff\U0001f600", '"\u00e9\u2028\uffff\U0001f600"'),
    ([], "[]"),
    ([None, [[]]], "[null,[[]]]"),
    ({}, "{}"),
    ({"": {"b": 1}, "a": []}, '{"":{"b":1},"a":[]}'),
    ({":": ":", '\\":': '":"'}, '{":":":","\\\\\\":":"\\":\\""}'),
]

READ: list[tuple[str, Any]] = [
    ("-0", 0),
    ("1E5", 100000.0),
    ("1e-400", 0.0),
    ("123456789012345680.0", 123456789012345680.0),
    ('"\\/\\u00e9\\u00E9"', "/\u00e9\u00e9"),
    ('"\\ud83d\\ude00\\uD83D\\uDE00"', "\U0001f600\U0001f600"),
    ('"\\\\ud800"', "\\ud800"),
    (" \t\r\n[ 1 , 2 ] ", [1, 2]),
    ('{ "a" : 1 }', {"a": 1}),
    ('{"A":1,"a":2}', {"A": 1, "a": 2}),
    ('{"\\u0061":1,"b":2}', {"a": 1, "b": 2}),
]


class Colour(enum.Enum):
    RED = "red"


class Label(enum.StrEnum):
    def __new__(cls, text: str, number: str) -> Self:
        label = str.__new__(cls, text)
        label._value_ = number
        return label

    SEVEN = ("seven", "7")


@dataclass
class Point:
    x: Any


class Row(Struct, rename="camel", tag_field="kind", tag="row"):
    some_name: Any


WRITTEN: list[tuple[Any, str]] = [
    (-(10**4300) + 1, f"-{DIGITS}"),
    ((1, {2}), "[1,[2]]"),
    (Colour.RED, '"red"'),
    ({Label.SEVEN: Label.SEVEN}, '{"seven":"7"}'),
    (b"\0\xff", '"AP8="'),
    (memoryview(b"abcd")[::2], '"YWM="'),
    (Point(bytearray(b"\0")), '{"x":"AA=="}'),
    (Row([Colour.RED]), '{"kind":"row","someName":["red"]}'),
    (Decimal("1.50"), '"1.50"'),
    (time(1, 2, 3), '"01:02:03"'),
    (datetime(1, 1, 1), '"0001-01-01T00:00:00"'),
    (datetime(2024, 2, 29, 12, 34, 56, 250000), '"2024-02-29T12:34:56.250000"'),
    (datetime(2024, 2, 29, tzinfo=UTC), '"2024-02-29T00:00:00Z"'),
    (datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=0), '"2024-10-27T02:30:00+02:00"'),
    (datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1), '"2024-10-27T02:30:00+01:00"'),
    (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), '"0001-01-01T00:00:00+14:00"'),
    (datetime(9999, 12, 31, tzinfo=timezone(-timedelta(hours=14))), '"9999-12-31T00:00:00-14:00"'),
    (datetime(2024, 1, 1, tzinfo=timezone(timedelta(minutes=19, seconds=32))), '"2023-12-31T23:40:28Z"'),
]

OUT_OF_RANGE = "a number is out of range"
TWICE = "an object has two members of the same name"
LONE = "a string has a lone surrogate"
REFUSED: list[tuple[bytes, str]] = [
    (b"", "not JSON: Input data was truncated"),
    (b" \n", "not JSON: Input data was truncated"),
    (b"[1", "not JSON: Input data was truncated"),
    (b"<", "not JSON: invalid character (byte 0)"),
    (b"[NaN]", "not JSON: invalid character (byte 1)"),
    (b"[Infinity]", "not JSON: invalid character (byte 1)"),
    (b"[-Infinity]", "not JSON: invalid character (byte 2)"),
    (b"[01]", "not JSON: invalid number (byte 2)"),
    (b"[+1]", "not JSON: invalid character (byte 1)"),
    (b"[1.]", "not JSON: invalid number (byte 3)"),
    (b"[.5]", "not JSON: invalid character (byte 1)"),
    (b"[0x1]", "not JSON: expected ',' or ']' (byte 2)"),
    (b"[1,]", "not JSON: trailing comma in array (byte 3)"),
    (b'{"a":1,}', "not JSON: trailing comma in object (byte 7)"),
    (b"{1:2}", "not JSON: object keys must be strings (byte 1)"),
    (b"['a']", "not JSON: invalid character (byte 1)"),
    (b'["\t"]', "not JSON: invalid character (byte 2)"),
    (b'["\\x"]', "not JSON: invalid escape character in string (byte 4)"),
    (b"[1]\x0c", "not JSON: trailing characters (byte 4)"),
    (b"[1] [2]", "not JSON: trailing characters (byte 5)"),
    (b"[1]\0", "not JSON: trailing characters (byte 4)"),
    (b"[1]//", "not JSON: trailing characters (byte 4)"),
    (b'["\\\\ud800",x]', "not JSON: invalid character (byte 11)"),
    ("[1]".encode("utf-16"), "not JSON: invalid character (byte 0)"),
    ("[1]".encode("utf-16-le"), "not JSON: invalid character (byte 1)"),
    (b'["\xff"]', "not UTF-8 (byte 0 of a string)"),
    (b'["a\xed\xa0\x80"]', "not UTF-8 (byte 1 of a string)"),
    (b'["\xc0\x80"]', "not UTF-8 (byte 0 of a string)"),
    (b'["\xf4\x90\x80\x80"]', "not UTF-8 (byte 0 of a string)"),
    (b"[1e400]", OUT_OF_RANGE),
    (b"[-1e400]", OUT_OF_RANGE),
    (b"[" + b"9" * 400 + b".0]", OUT_OF_RANGE),
    (b"[1" + b"0" * 4300 + b"]", OUT_OF_RANGE),
    (b'["\\ud800"]', LONE),
    (b'["\\udc00"]', LONE),
    (b'["\\ud800\\ud800"]', LONE),
    (b'["\\udc00\\ud800"]', LONE),
    (b'["\\ud800\\n"]', LONE),
    (b'["\\\\\\uDFFF"]', LONE),
    (b'["\\ud800\\\\udc00"]', LONE),
    (b'{"\\uD83D":1}', LONE),
    (b'{"a":1,"a":1}', TWICE),
    (b'{"a":1,"\\u0061":1}', TWICE),
    (b'{"a:":1,"a:":":"}', TWICE),
    (b'[[{"b":{"a":1,"b":":","a":2}}]]', TWICE),
    (b'{"a\\":":1,"a\\":":1}', TWICE),
    (b"[" * 65 + b"]" * 65, "too deep: at most 64 levels"),
    (b'{"a":' * 65 + b"1" + b"}" * 65, "too deep: at most 64 levels"),
    (b'[{"a":' * 32 + b"[1]" + b"}]" * 32, "too deep: at most 64 levels"),
    (b"[" * 100_000, "too deep: at most 64 levels"),
]

INVALID: list[tuple[str, str, Any]] = [
    ("1", "a call is an object", None),
    ('"a"', "a call is an object", None),
    ("null", "a call is an object", None),
    ("[]", "a batch has at least one call", None),
    ("{}", 'jsonrpc is exactly "2.0"', None),
    ('{"method":"m","id":1}', 'jsonrpc is exactly "2.0"', 1),
    ('{"jsonrpc":2.0,"method":"m","id":1}', 'jsonrpc is exactly "2.0"', 1),
    ('{"jsonrpc":"2","method":"m","id":"x"}', 'jsonrpc is exactly "2.0"', "x"),
    ('{"JSONRPC":"2.0","method":"m","id":1}', 'jsonrpc is exactly "2.0"', 1),
    ('{"jsonrpc":"2.0","id":1.5}', "method is a string", 1.5),
    ('{"jsonrpc":"2.0","method":1,"params":"bar"}', "method is a string", None),
    ('{"jsonrpc":"2.0","method":null,"id":""}', "method is a string", ""),
    ('{"jsonrpc":"2.0","method":"m","params":null,"id":0}', "params is an array or an object", 0),
    ('{"jsonrpc":"2.0","method":"m","params":1}', "params is an array or an object", None),
    ('{"jsonrpc":"2.0","method":"m","id":true}', "id is a string, a number or null", None),
    ('{"jsonrpc":"2.0","method":"m","id":[1]}', "id is a string, a number or null", None),
    ('{"jsonrpc":"2.0","method":"m","id":{}}', "id is a string, a number or null", None),
]

CALLS: list[tuple[str, Call]] = [
    ('{"jsonrpc":"2.0","method":"m"}', Call(method="m", params=[], notification=True)),
    ('{"jsonrpc":"2.0","method":"m","id":null}', Call(method="m", params=[], id=None)),
    ('{"jsonrpc":"2.0","method":"m","id":0}', Call(method="m", params=[], id=0)),
    ('{"id":"","params":{},"method":"","jsonrpc":"2.0"}', Call(method="", params={}, id="")),
    ('{"jsonrpc":"2.0","method":"m","params":[1],"id":1}\n', Call(method="m", params=[1], id=1)),
    ('\ufeff {"jsonrpc":"2.0","method":"m","params":{"a":1},"id":"7f"}', Call(method="m", params={"a": 1}, id="7f")),
    ('{"jsonrpc":"2.0","version":"1.1","method":"m","id":1,"x":[]}', Call(method="m", params=[], id=1)),
    ('{"jsonrpc":"\\u0032.0","method":"rpc.\\u0061","id":-1e2}', Call(method="rpc.a", params=[], id=-100.0)),
    (f'{{"jsonrpc":"2.0","method":"m","id":{DIGITS}}}', Call(method="m", params=[], id=10**4300 - 1)),
]

NO_DATA: tuple[Any, ...] = (0, False, "", [], {})
UNSAYABLE: list[tuple[Any, str]] = [
    (math.nan, ": nan is not a JSON number"),
    ([0.0, math.inf], "[1]: inf is not a JSON number"),
    ([10**4300], "[0]: the int has more than 4,300 digits"),
    ([-(10**4300)], "[0]: the int has more than 4,300 digits"),
    ({"a": [1, {"b": 10**100_000}]}, ".a[1].b: the int has more than 4,300 digits"),
    ("\ud800", ": a string has a lone surrogate"),
    ({"\u00e9\udcff": 1}, ".\u00e9?: a string has a lone surrogate"),
    ({1: 2}, ": the name of a member must be a string, not int"),
    ([{None: 2}], "[0]: the name of a member must be a string, not NoneType"),
    ({Colour.RED: 2}, ": the name of a member must be a string, not Colour"),
    (object(), ": values of type object are not supported"),
    (Row([Point({"k": 1j})]), ".someName[0].x.k: values of type complex are not supported"),
    (
        datetime(1, 1, 1, tzinfo=timezone(timedelta(minutes=19, seconds=32))),
        ": the datetime is out of range in UTC",
    ),
]


def short(part: Any) -> str:
    return repr(part)[:40]


def request(params: str) -> bytes:
    return f'{{"jsonrpc":"2.0","method":"m","params":{params},"id":1}}'.encode()


def read(wire: str) -> Any:
    decoded = CODEC.decode(request(f"[{wire}]"), None)
    assert isinstance(decoded, Call), decoded
    assert isinstance(decoded.params, list)
    (value,) = decoded.params
    return value


def refused(body: bytes) -> InvalidCall:
    decoded = CODEC.decode(body, None)
    assert isinstance(decoded, InvalidCall), decoded
    return decoded


def unsaid(value: Any, codec: JSONRPC = CODEC) -> str:
    answer = codec.encode(CALL, Reply(value=value), ROOM)
    assert isinstance(answer.fault, InternalError)
    detail = answer.fault.detail
    error = {"code": -32603, "message": "Internal error", "data": {"detail": detail}}
    assert json.loads(answer.wire) == {"jsonrpc": "2.0", "error": error, "id": 1}
    return detail


@pytest.mark.parametrize(("value", "wire"), BOTH, ids=short)
def test_a_value_is_written_exactly_so(value: Any, wire: str) -> None:
    answer = CODEC.encode(CALL, Reply(value=value), ROOM)
    assert answer.fault is None
    assert CODEC.single(answer).decode() == f'{{"jsonrpc":"2.0","result":{wire},"id":1}}'


@pytest.mark.parametrize(("value", "wire"), BOTH, ids=short)
def test_what_is_written_reads_as_the_same_value(value: Any, wire: str) -> None:
    assert repr(read(wire)) == repr(value)


@pytest.mark.parametrize(("wire", "value"), READ)
def test_other_forms_are_understood(wire: str, value: Any) -> None:
    assert repr(read(wire)) == repr(value)


@pytest.mark.parametrize(("value", "wire"), WRITTEN, ids=[short(wire) for _, wire in WRITTEN])
def test_other_types_are_written_as_neutral_ones(value: Any, wire: str) -> None:
    answer = CODEC.encode(CALL, Reply(value=value), ROOM)
    assert answer.wire.decode() == f'{{"jsonrpc":"2.0","result":{wire},"id":1}}'


@pytest.mark.parametrize(("body", "detail"), REFUSED, ids=short)
def test_what_is_no_strict_json_is_a_parse_error(body: bytes, detail: str) -> None:
    rejected = refused(body)
    assert isinstance(rejected.fault, ParseError)
    assert (rejected.fault.detail, rejected.id) == (detail, None)


@pytest.mark.parametrize(("body", "detail", "call_id"), INVALID)
def test_json_that_is_no_call_is_an_invalid_request_with_its_id(body: str, detail: str, call_id: Any) -> None:
    rejected = refused(body.encode())
    assert (rejected.fault.code, rejected.fault.detail, rejected.id) == (-32600, detail, call_id)


@pytest.mark.parametrize(("body", "call"), CALLS, ids=short)
def test_a_call_comes_in_many_forms(body: str, call: Call) -> None:
    assert repr(CODEC.decode(body.encode(), "utf-8")) == repr(call)


def test_a_batch_is_its_entries_in_order() -> None:
    bodies = [body.removeprefix("\ufeff") for body, _ in CALLS] + [body for body, _, _ in INVALID if body != "[]"]
    decoded = CODEC.decode(f"[{','.join(bodies)}]".encode(), None)
    assert isinstance(decoded, Batch)
    told = [entry.fault.detail if isinstance(entry, InvalidCall) else entry for entry in decoded.entries]
    told_alone = [detail for body, detail, _ in INVALID if body != "[]"]
    assert told == [*(call for _, call in CALLS), *told_alone]


def test_a_batch_has_at_most_as_many_calls_as_are_allowed() -> None:
    call = '{"jsonrpc":"2.0","method":"m","id":1}'
    decoded = CODEC.decode(f"[{','.join([call] * 100)}]".encode(), None)
    assert isinstance(decoded, Batch)
    assert len(decoded.entries) == 100
    rejected = refused(f"[{','.join([call] * 101)}]".encode())
    assert (rejected.fault.code, rejected.fault.detail) == (-32600, "limit: a batch has at most 100 calls")


@pytest.mark.parametrize(("value", "place"), UNSAYABLE)
def test_what_cannot_be_said_is_a_fault_that_names_the_place(value: Any, place: str) -> None:
    assert unsaid(value) == f"the result cannot be encoded as JSON: result{place}"


@pytest.mark.parametrize(("step", "kind"), [("[0]", list), (".a", dict), ("[0]", tuple)])
def test_as_many_levels_are_written_as_are_read(step: str, kind: type) -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = {"a": value} if kind is dict else kind([value])
        return value

    answer = CODEC.encode(CALL, Reply(value=nested(63)), ROOM)
    assert answer.fault is None
    assert refused(answer.wire).fault.detail == "method is a string"
    assert unsaid(nested(64)) == (
        f"the result cannot be encoded as JSON: result{step * 63}: more than 64 levels, or the value contains itself"
    )


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (ParseError(), {"code": -32700, "message": "Parse error"}),
        (
            InvalidParams("params[0]: no"),
            {"code": -32602, "message": "Invalid params", "data": {"detail": "params[0]: no"}},
        ),
        (InternalError(error_id="1f"), {"code": -32603, "message": "Internal error", "data": {"error_id": "1f"}}),
        (InvalidParams("no", a=[1]), {"code": -32602, "message": "Invalid params", "data": {"detail": "no", "a": [1]}}),
        (Overloaded("busy"), {"code": -32003, "message": "Overloaded: busy"}),
        (Overloaded(retry_after=1), {"code": -32003, "message": "Overloaded", "data": {"retry_after": 1}}),
        (Fault("no"), {"code": -32000, "message": "no"}),
        (Fault(7, "", {"k": (1, b"\0")}), {"code": 7, "message": "", "data": {"k": [1, "AA=="]}}),
        *((Fault(7, "no", data), {"code": 7, "message": "no", "data": data}) for data in NO_DATA),
        (Fault(2**31 - 1, "\0\u00e9\ud800"), {"code": 2**31 - 1, "message": "\0\u00e9?"}),
        (InvalidParams("\ud800"), {"code": -32602, "message": "Invalid params", "data": {"detail": "?"}}),
    ],
)
def test_an_error_has_code_and_message_and_data_only_if_there_is_some(fault: Fault, error: dict[str, Any]) -> None:
    answer = CODEC.encode(Call(method="m", params=[]), Reply(fault=fault), ROOM)
    assert answer.fault is fault
    said = json.dumps(error, separators=(",", ":"), ensure_ascii=False)
    assert answer.wire.decode() == f'{{"jsonrpc":"2.0","error":{said},"id":null}}'


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ([math.nan], "[0]: nan is not a JSON number"),
        ({"a": object()}, ".a: values of type object are not supported"),
        ([0] * 2**20, ": the value raises ResponseTooLarge"),
    ],
)
def test_data_that_cannot_be_said_is_an_internal_error(data: Any, place: str) -> None:
    answer = CODEC.encode(CALL, Reply(fault=Fault(7, "no", data)), ROOM)
    assert isinstance(answer.fault, InternalError)
    where = "" if "ResponseTooLarge" in place else ".data"
    assert answer.fault.detail == f"the error cannot be encoded as JSON: error{where}{place}"


@pytest.mark.parametrize("call_id", [None, 0, -1, 10**4300 - 1, 1.5, -0.0, 1e22, "", '\u00e9\0"', "1"])
def test_the_id_is_echoed_as_it_came(call_id: Any) -> None:
    answer = CODEC.encode(Call(method="m", params=[], id=call_id), Reply(), ROOM)
    echoed = json.loads(answer.wire)["id"]
    assert (type(echoed), repr(echoed)) == (type(call_id), repr(call_id))


def test_the_answer_to_a_batch_is_an_array_and_nothing_is_no_array() -> None:
    answers = [CODEC.encode(CALL, reply, ROOM) for reply in (Reply(value=1), Reply(fault=Fault("no")))]
    assert CODEC.batch(answers) == (
        b'[{"jsonrpc":"2.0","result":1,"id":1},{"jsonrpc":"2.0","error":{"code":-32000,"message":"no"},"id":1}]'
    )
    assert CODEC.batch([]) == b""


def test_an_answer_fills_its_room_and_no_more() -> None:
    value = ["\u00e9" * 100]
    size = len(CODEC.encode(CALL, Reply(value=value), ROOM).wire)
    assert CODEC.encode(CALL, Reply(value=value), size).fault is None
    fault = CODEC.encode(CALL, Reply(value=value), size - 1).fault
    assert isinstance(fault, ResponseTooLarge)
    assert fault.detail == f"the response has {size} bytes, and {size - 1} are left"


@pytest.mark.parametrize("kind", [list, dict])
def test_values_shared_many_times_over_are_given_up_early(kind: type) -> None:
    value: Any = 1
    for _ in range(60):
        value = [value, value] if kind is list else {"a": value, "b": value}
    fault = CODEC.encode(CALL, Reply(value=value), 2**14).fault
    assert isinstance(fault, ResponseTooLarge)
    assert fault.detail == "the response exceeds the limit"
