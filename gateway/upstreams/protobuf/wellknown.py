"""The messages of google.protobuf that are values of their own: Timestamp, Duration, Struct, Value, and the wrappers.

    WELL_KNOWN["google.protobuf.Timestamp"].write(message, value, "params.at")    InvalidParams
    WELL_KNOWN["google.protobuf.Timestamp"].read(message)                         a datetime in UTC, or BadUpstream
    WELL_KNOWN["google.protobuf.Timestamp"].hint                                  datetime

A Value's number is a double; one that is whole is an int here, as in JSON. Any and FieldMask are messages like others.
The ranges are those of the .proto files of google.protobuf.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from msgspec import Struct

from gateway.model.faults import BadUpstream, InvalidParams
from gateway.model.values import EncodingError, in_utc
from gateway.upstreams.protobuf.scalars import SCALARS, Scalar, check_string, exact_float

_EPOCH = datetime(1970, 1, 1)  # in UTC, without its zone
_NANO = 10**9
_LONGEST = 315_576_000_000  # seconds of a Duration, either way
_EXACT = 2**53  # up to here each int has its own double


class WellKnown(Struct, frozen=True):
    """A type: the hint of its values, and the two ways; ``size`` is how many bytes an empty one has as JSON."""

    hint: Any
    write: Callable[[Any, Any, str], None]
    read: Callable[[Any], Any]
    size: int = 2


def _write_timestamp(message: Any, value: Any, place: str) -> None:
    if type(value) is not datetime:
        raise InvalidParams(f"{place}: expected datetime, got {type(value).__name__}")
    try:
        since = in_utc(value) - _EPOCH
    except EncodingError as error:
        raise InvalidParams(f"{place}: {error.reason}") from None
    message.seconds = since.days * 86400 + since.seconds
    message.nanos = since.microseconds * 1000


def _read_timestamp(message: Any) -> datetime:
    try:
        moment = _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
    except OverflowError:
        raise BadUpstream("the response has a Timestamp outside of the years 1 to 9999") from None
    if not 0 <= message.nanos < _NANO:
        raise BadUpstream("the response has a Timestamp with invalid nanoseconds")
    return moment.replace(tzinfo=UTC)


def _write_duration(message: Any, value: Any, place: str) -> None:
    if type(value) not in (int, float):
        raise InvalidParams(f"{place}: expected a number of seconds, got {type(value).__name__}")
    if not -_LONGEST <= value <= _LONGEST:  # nan is not either
        raise InvalidParams(f"{place}: expected a number of seconds from -{_LONGEST} to {_LONGEST}")
    whole = int(value)
    nanos = round((value - whole) * _NANO)
    if abs(nanos) == _NANO:
        whole, nanos = whole + (1 if nanos > 0 else -1), 0
    message.seconds, message.nanos = whole, nanos


def _read_duration(message: Any) -> float:
    return float(message.seconds + message.nanos / _NANO)


def _write_struct(message: Any, value: Any, place: str) -> None:
    if type(value) is not dict:
        raise InvalidParams(f"{place}: expected a struct, got {type(value).__name__}")
    for name, member in value.items():
        inside = f"{place}.{name[:80]}"
        _write_value(message.fields[check_string(name, inside)], member, inside)


def _write_list(message: Any, value: Any, place: str) -> None:
    if type(value) is not list:
        raise InvalidParams(f"{place}: expected an array, got {type(value).__name__}")
    for index, each in enumerate(value):
        _write_value(message.values.add(), each, f"{place}[{index}]")


def _write_value(message: Any, value: Any, place: str) -> None:
    if value is None:
        message.null_value = 0
    elif type(value) is bool:
        message.bool_value = value
    elif type(value) in (int, float):
        message.number_value = _number(value, place)
    elif type(value) is str:
        message.string_value = check_string(value, place)
    elif type(value) is list:
        message.list_value.SetInParent()
        _write_list(message.list_value, value, place)
    elif type(value) is dict:
        message.struct_value.SetInParent()
        _write_struct(message.struct_value, value, place)
    else:
        raise InvalidParams(f"{place}: google.protobuf.Value cannot hold {type(value).__name__}")


def _number(value: Any, place: str) -> float:
    number = exact_float(value, place)
    if not math.isfinite(number):
        raise InvalidParams(f"{place}: google.protobuf.Value cannot hold {number}")
    return number


def _read_value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    value = getattr(message, kind)
    if kind == "number_value":
        return int(value) if value.is_integer() and abs(value) <= _EXACT else value
    return _read_list(value) if kind == "list_value" else _read_struct(value) if kind == "struct_value" else value


def _read_struct(message: Any) -> dict[str, Any]:
    return {name: _read_value(message.fields[name]) for name in message.fields}


def _read_list(message: Any) -> list[Any]:
    return [_read_value(each) for each in message.values]


def _wrapper(kind: Scalar) -> WellKnown:
    def write(message: Any, value: Any, place: str) -> None:
        message.value = kind.check(value, place)

    return WellKnown(kind.hint, write, lambda message: kind.read(message.value))


WELL_KNOWN: dict[str, WellKnown] = {
    "google.protobuf.Timestamp": WellKnown(datetime, _write_timestamp, _read_timestamp, 22),
    "google.protobuf.Duration": WellKnown(int | float, _write_duration, _read_duration),
    "google.protobuf.Struct": WellKnown(dict[str, Any], _write_struct, _read_struct),
    "google.protobuf.ListValue": WellKnown(list[Any], _write_list, _read_list),
    "google.protobuf.Value": WellKnown(Any, _write_value, _read_value),
    "google.protobuf.DoubleValue": _wrapper(SCALARS[FieldDescriptor.TYPE_DOUBLE]),
    "google.protobuf.FloatValue": _wrapper(SCALARS[FieldDescriptor.TYPE_FLOAT]),
    "google.protobuf.Int64Value": _wrapper(SCALARS[FieldDescriptor.TYPE_INT64]),
    "google.protobuf.UInt64Value": _wrapper(SCALARS[FieldDescriptor.TYPE_UINT64]),
    "google.protobuf.Int32Value": _wrapper(SCALARS[FieldDescriptor.TYPE_INT32]),
    "google.protobuf.UInt32Value": _wrapper(SCALARS[FieldDescriptor.TYPE_UINT32]),
    "google.protobuf.BoolValue": _wrapper(SCALARS[FieldDescriptor.TYPE_BOOL]),
    "google.protobuf.StringValue": _wrapper(SCALARS[FieldDescriptor.TYPE_STRING]),
    "google.protobuf.BytesValue": _wrapper(SCALARS[FieldDescriptor.TYPE_BYTES]),
}
