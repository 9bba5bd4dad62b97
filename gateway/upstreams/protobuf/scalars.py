"""The scalar types of protobuf: which values they take, and what they are as neutral values and as type hints.

    kind = scalar(field)              of a field that is not a message
    kind.check(value, "params.a")     the value to set, or InvalidParams
    kind.read(value)                  the neutral value
    kind.hint                         the type hint that checks arguments and makes the schema
    KEYS[field.type]                  the same for the keys of a map, which are strings here

The sources are the scalar value types of the protobuf language guide, and its ranges of map keys.
"""

import math
import struct
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from msgspec import Meta, Struct

from gateway.model.faults import InvalidParams

_FLOAT = struct.Struct("<f")
_MOST_LISTED = 1000  # names of an enum in a hint; those of one that has more are only checked
_MOST_IN_FLOAT = 2**24  # up to here each int has its own float of 32 bits


class Scalar(Struct, frozen=True):
    """A type: what it takes and what it gives; ``is_named`` if that is a name for a number."""

    hint: Any
    check: Callable[[Any, str], Any]
    read: Callable[[Any], Any]
    is_named: bool = False


def same(value: Any) -> Any:
    """Read a value that is neutral already."""
    return value


def scalar(field: FieldDescriptor) -> Scalar:
    """Return the type of a field that is not a message."""
    return SCALARS[field.type] if field.enum_type is None else _enum(field.enum_type)


def _wrong(place: str, expected: str, value: Any) -> InvalidParams:
    return InvalidParams(f"{place}: expected {expected}, got {type(value).__name__}")


def _int(low: int, high: int) -> Scalar:
    def check(value: Any, place: str) -> int:
        if type(value) is not int:
            raise _wrong(place, "int", value)
        if not low <= value <= high:
            raise InvalidParams(f"{place}: expected an int from {low} to {high}")
        return value

    bounds = Meta(ge=low, le=high) if high < 2**63 else Meta(ge=low)  # msgspec's bounds have 64 bits themselves
    return Scalar(Annotated[int, bounds], check, same)


def exact_float(value: Any, place: str) -> float:
    """Take a float, or an int that is one."""
    if type(value) is float:
        return value
    if type(value) is not int:
        raise _wrong(place, "float", value)
    try:
        near = float(value)
    except OverflowError:
        near = math.inf
    if near != value:
        raise InvalidParams(f"{place}: the int cannot be a float without rounding")
    return near


def _check_float(value: Any, place: str) -> float:
    if type(value) is int and abs(value) > _MOST_IN_FLOAT:
        raise InvalidParams(f"{place}: the int has more than the 24 bits of a 32-bit float")
    near = exact_float(value, place)
    try:
        _FLOAT.pack(near)
    except OverflowError:
        raise InvalidParams(f"{place}: too large for a 32-bit float") from None
    return near


def _shortest(value: float) -> float:
    """Return the float with the fewest digits that is this one in 32 bits: 0.1, and not 0.10000000149011612."""
    if not math.isfinite(value):
        return value
    for digits in (6, 7, 8):
        near = float(f"{value:.{digits}g}")
        if _FLOAT.unpack(_FLOAT.pack(near))[0] == value:
            return near
    return float(f"{value:.9g}")


def _check_bool(value: Any, place: str) -> bool:
    if type(value) is not bool:
        raise _wrong(place, "bool", value)
    return value


def check_string(value: Any, place: str) -> str:
    """Take a text that UTF-8 can write."""
    if type(value) is not str:
        raise _wrong(place, "str", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidParams(f"{place}: the text has a lone surrogate") from None
    return value


def _check_bytes(value: Any, place: str) -> bytes:
    if type(value) is not bytes:
        raise _wrong(place, "bytes", value)
    return value


def _enum(descriptor: EnumDescriptor) -> Scalar:
    """By name both ways, and by number where there is no name. proto3's enums take any number, proto2's do not."""
    numbers = {name: value.number for name, value in descriptor.values_by_name.items()}
    names = {number: value.name for number, value in descriptor.values_by_number.items()}
    expected = f"one of {', '.join(list(numbers)[:20])}"

    def check(value: Any, place: str) -> int:
        if type(value) is str and value in numbers:
            return numbers[value]
        if type(value) is int and (value in names or (not descriptor.is_closed and -(2**31) <= value < 2**31)):
            return value
        raise InvalidParams(f"{place}: expected {expected}")

    is_listed = len(numbers) <= _MOST_LISTED
    by_number: Any = (
        Literal[tuple(names)] if descriptor.is_closed and is_listed else SCALARS[FieldDescriptor.TYPE_INT32].hint
    )
    by_name: Any = Literal[tuple(numbers)] if is_listed else str
    hint = Union[by_name, by_number]  # noqa: UP007 - made at run time
    return Scalar(hint, check, lambda value: names.get(value, value), is_named=True)


_INT32, _INT64 = _int(-(2**31), 2**31 - 1), _int(-(2**63), 2**63 - 1)
_UINT32, _UINT64 = _int(0, 2**32 - 1), _int(0, 2**64 - 1)

SCALARS: dict[int, Scalar] = {
    FieldDescriptor.TYPE_DOUBLE: Scalar(int | float, exact_float, same),
    FieldDescriptor.TYPE_FLOAT: Scalar(int | float, _check_float, _shortest),
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
    FieldDescriptor.TYPE_BOOL: Scalar(bool, _check_bool, same),
    FieldDescriptor.TYPE_STRING: Scalar(str, check_string, same),
    FieldDescriptor.TYPE_BYTES: Scalar(bytes, _check_bytes, same),
}


def _int_key(kind: Scalar) -> Scalar:
    def check(key: Any, place: str) -> Any:
        try:
            number = int(key)
        except ValueError:
            number = None
        if number is None or str(number) != key:  # "07" and "7" would be one key
            raise InvalidParams(f"{place}: expected an int as key")
        return kind.check(number, place)

    return Scalar(str, check, str)


def _check_bool_key(key: Any, place: str) -> bool:
    if key not in ("true", "false"):
        raise InvalidParams(f"{place}: expected the key true or false")
    return bool(key == "true")


KEYS: dict[int, Scalar] = {
    number: _int_key(kind) for number, kind in SCALARS.items() if kind in (_INT32, _INT64, _UINT32, _UINT64)
} | {
    FieldDescriptor.TYPE_BOOL: Scalar(str, _check_bool_key, lambda key: "true" if key else "false"),
    FieldDescriptor.TYPE_STRING: Scalar(str, check_string, same),
}
