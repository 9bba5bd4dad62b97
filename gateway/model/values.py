"""The neutral values, and how other values are turned into them.

Inside the gateway a value is None, bool, int, float, str, bytes, datetime, a list, or a dict with str keys. ``plain``
turns everything else that a method may return into one of these, one level at a time. A codec that cannot encode a
value raises EncodingError, and ``located`` finds the place of it, in turns: a generator yields where others may go on.
"""

import dataclasses
import enum
import sys
import xmlrpc.client
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import count
from typing import Any
from uuid import UUID

import msgspec

from gateway.model.faults import InternalError

_TURN = 2000  # values that are looked at in one turn


class EncodingError(Exception):
    """A value that the protocol cannot encode: why, and where in the result."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = ""

    def inside(self, step: str) -> "EncodingError":
        """Put one more step before the place: ``[3]`` or ``.name``."""
        self.place = step + self.place
        return self

    def fault(self, protocol: str, said: str = "result") -> InternalError:
        """Turn it into the fault that the caller gets."""
        return InternalError(legible(f"the {said} cannot be encoded as {protocol}: {said}{self.place}: {self.reason}"))


def encoding_error(error: BaseException) -> EncodingError:
    """Return an EncodingError as it is; anything else was raised by code of the value itself."""
    return error if isinstance(error, EncodingError) else EncodingError(f"the value raises {type(error).__name__}")


def located(
    error: EncodingError, value: Any, is_scalar: Callable[[Any, int], bool], depth: int = 0
) -> Generator[None, None, EncodingError]:
    """Return an error of encoding a value with the place in the value that it is about, in turns.

    Codecs do not note places while they write, because that would cost time for every value. Here the value is walked
    once more, in the order in which it is written, up to the first thing that cannot be.

    Arguments:
        error: what encoding the value has raised; it is returned where nothing is found now.
        value: what was to be encoded.
        is_scalar: returns whether a value is a scalar of the protocol, or raises EncodingError if it cannot be encoded
            at this depth.
        depth: of the value.

    """
    found = yield from _first_error(value, is_scalar, depth, count(1))
    return found or error


def _first_error(
    value: Any, is_scalar: Callable[[Any, int], bool], depth: int, values: Iterator[int]
) -> Generator[None, None, EncodingError | None]:
    if not next(values) % _TURN:
        yield
    try:
        if is_scalar(value, depth):
            return None
        kind = type(value)
        if kind is list:
            for index, item in enumerate(value):
                if (found := (yield from _first_error(item, is_scalar, depth + 1, values))) is not None:
                    return found.inside(f"[{index}]")
            return None
        if kind is not dict:
            return (yield from _first_error(plain(value), is_scalar, depth, values))
        for name, member in by_name(value).items():
            found = yield from _first_error(name, is_scalar, depth, values)
            found = found or (yield from _first_error(member, is_scalar, depth + 1, values))
            if found is not None:
                return found.inside(f".{name[:80]}")
    except EncodingError as error:
        return error
    return None


def legible(text: str) -> str:
    """Replace lone surrogates, which no encoding can write."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def by_name(members: dict[Any, Any]) -> dict[str, Any]:
    """Return members whose names are strings, and no subclass of them.

    Raises:
        EncodingError: a name is not a string, or two names are equal.

    """
    if _STR.issuperset(map(type, members)):
        return members
    for name in members:
        if not issubclass(type(name), str):
            raise EncodingError(f"the name of a member must be a string, not {type(name).__name__}")
    named = {str.__str__(name): value for name, value in members.items()}
    if len(named) < len(members):
        raise EncodingError("two members have the same name")
    return named


def offset(value: datetime) -> timedelta | None:
    """Return the offset of a datetime from UTC; None if it has no zone."""
    try:
        return value.utcoffset()
    except Exception as error:  # noqa: BLE001 - a zone is code of its own
        raise encoding_error(error) from None


def in_utc(value: datetime) -> datetime:
    """Return a datetime without its zone: in UTC if it has one, as it is if not."""
    ahead = offset(value)
    try:
        return value if ahead is None else value.replace(tzinfo=None) - ahead
    except OverflowError:
        raise EncodingError("the datetime is out of range in UTC") from None


def plain(value: Any) -> Any:
    """Turn a value of another type into one of the neutral types, at its outermost level.

    Enums become their values, mappings dicts, sequences and sets lists, subclasses of the neutral types these types;
    dataclasses, attrs classes, msgspec structs and pydantic models become dicts of all their fields; Decimal, UUID,
    date, time and timedelta become strings; the standard library's Binary and DateTime become bytes and datetime.

    Raises:
        EncodingError: for every other type, and for a value whose own code fails.

    """
    try:
        return _converter(type(value))(value)
    except BaseException as error:  # noqa: BLE001 - SystemExit too is only the value's own
        raise encoding_error(error) from None


def _choose_converter(kind: type) -> Callable[[Any], Any]:
    """Choose how values of a type are turned into neutral ones."""
    for family, convert in _FAMILIES:
        if issubclass(kind, family):
            return convert
    if dataclasses.is_dataclass(kind):
        return _from_fields(tuple(field.name for field in dataclasses.fields(kind)))
    if isinstance(attributes := getattr(kind, "__attrs_attrs__", None), tuple):
        return _from_fields(tuple(attribute.name for attribute in attributes))
    pydantic = sys.modules.get("pydantic")  # a value can be a model of it only where it has been imported
    if pydantic is not None and issubclass(kind, pydantic.BaseModel):
        return lambda value: value.model_dump(by_alias=True)
    raise EncodingError(f"values of type {kind.__name__} are not supported")


def _from_fields(names: tuple[str, ...]) -> Callable[[Any], dict[str, Any]]:
    """Read all fields, those too that an instance has from its class, as msgspec leaves a dataclass's defaults."""

    def convert(value: Any) -> dict[str, Any]:
        members = {name: getattr(value, name, msgspec.UNSET) for name in names}
        return {name: member for name, member in members.items() if member is not msgspec.UNSET}

    return convert


def _from_struct(value: msgspec.Struct) -> Any:
    """Write one level of a struct as msgspec does: its tag, its names on the wire, its defaults unless they are off."""
    config = value.__struct_config__
    names = value.__struct_fields__
    if config.array_like:
        return [*([] if config.tag is None else [config.tag]), *(getattr(value, name) for name in names)]
    members: dict[str, Any] = {} if config.tag is None else {str(config.tag_field): config.tag}
    defaults = (msgspec.NODEFAULT,) * (len(names) - len(value.__struct_defaults__)) + value.__struct_defaults__
    for name, written, default in zip(names, value.__struct_encode_fields__, defaults, strict=True):
        member = getattr(value, name)
        if member is not msgspec.UNSET and not (config.omit_defaults and _is_default(member, default)):
            members[written] = member
    return members


def _is_default(member: Any, default: Any) -> bool:
    factory = getattr(default, "factory", None)
    return member is default or (factory in (list, dict, set) and type(member) is factory and not member)


_STR = frozenset({str})
_converter: Callable[[type], Callable[[Any], Any]] = lru_cache(maxsize=1024)(_choose_converter)
_FAMILIES: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (enum.Enum, lambda value: value.value),
    (msgspec.Struct, _from_struct),
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    ((bytes, bytearray, memoryview), lambda value: memoryview(value).tobytes()),
    ((list, tuple, set, frozenset, deque), list),
    (Mapping, dict),
    (datetime, lambda value: datetime.fromisoformat(datetime.isoformat(value))),
    ((Decimal, UUID, date, time, timedelta), msgspec.to_builtins),
    (xmlrpc.client.Binary, lambda value: bytes(value.data)),
    (xmlrpc.client.DateTime, lambda value: datetime.strptime(value.value, "%Y%m%dT%H:%M:%S")),
)


def is_exact_double(value: int) -> bool:
    """Tell whether a JavaScript program reads an int as it is written: it is one of JavaScript's safe integers."""
    return -(2**53) < value < 2**53


def with_int_texts(value: Any) -> Any:
    """Write the ints of a neutral value that are not exact doubles as texts."""
    kind = type(value)
    if kind is int:
        return value if is_exact_double(value) else str(value)
    if kind is list or kind is tuple:
        return [with_int_texts(each) for each in value]
    if kind is dict:
        return {name: with_int_texts(each) for name, each in value.items()}
    return value
