"""The neutral values, and the way into them.

Inside the gateway a value is None, bool, int, float, str, bytes, datetime, a list, or a dict with str keys. What a
method returns beyond these is turned into them, one level at a time, by ``plain``; a codec that meets what it cannot
say raises EncodingError, which gathers the place while it rises.
"""

import dataclasses
import enum
import xmlrpc.client
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from gateway.model.faults import InternalError


class EncodingError(Exception):
    """A value that the protocol has no words for: why, and where in the result."""

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
        return InternalError(legible(f"{protocol} cannot say the {said}: {said}{self.place}: {self.reason}"))


def encoding_error(error: BaseException) -> EncodingError:
    """Tell why a value was not said: an EncodingError knows; anything else was raised by code of the value itself."""
    return error if isinstance(error, EncodingError) else EncodingError(f"it fails with {type(error).__name__}")


def legible(text: str) -> str:
    """Replace what no encoding can write: surrogates that stand alone."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def by_name(members: dict[Any, Any]) -> dict[str, Any]:
    """Return members whose names are strings, and no subclass of them.

    Raises:
        EncodingError: a name is no string, or two of them read the same.

    """
    if _STR.issuperset(map(type, members)):
        return members
    for name in members:
        if not issubclass(type(name), str):
            raise EncodingError(f"a member's name is a string, not {type(name).__name__}")
    named = {str.__str__(name): value for name, value in members.items()}
    if len(named) < len(members):
        raise EncodingError("two members of the same name")
    return named


def offset(moment: datetime) -> timedelta | None:
    """Return how far a moment's zone is from UTC; None if it has none."""
    try:
        return moment.utcoffset()
    except Exception as error:  # noqa: BLE001 - a zone is code of its own
        raise encoding_error(error) from None


def in_utc(moment: datetime) -> datetime:
    """Return a moment without its zone: in UTC if it has one, as it is if not."""
    ahead = offset(moment)
    try:
        return moment if ahead is None else moment.replace(tzinfo=None) - ahead
    except OverflowError:
        raise EncodingError("a moment that has no equal in UTC") from None


def plain(value: Any) -> Any:
    """Turn a value of another type into one of the neutral types, at its outermost level.

    Enums become their values, mappings dicts, sequences and sets lists, subclasses of the neutral types these types;
    dataclasses, msgspec structs, Decimal, UUID, date, time and timedelta become what msgspec makes of them (dicts and
    strings); the standard library's Binary and DateTime become bytes and datetime.

    Raises:
        EncodingError: for every other type, and for a value whose own code fails.

    """
    try:
        for family, convert in _FAMILIES:
            if isinstance(value, family):
                return convert(value)
        return _built(value)
    except BaseException as error:  # noqa: BLE001 - SystemExit too is only the value's own
        raise encoding_error(error) from None


def _built(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value, builtin_types=_BUILTIN, str_keys=False, enc_hook=_foreign)
    except Exception:
        if isinstance(value, msgspec.Struct):
            return {field.encode_name: getattr(value, field.name) for field in msgspec.structs.fields(value)}
        if dataclasses.is_dataclass(type(value)):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        raise  # one level of a struct or dataclass fails again further inside, where the place is known


def _foreign(value: Any) -> Any:
    """Turn what msgspec does not know inside of a struct or dataclass into what it knows."""
    if any(isinstance(value, family) for family, _ in _FAMILIES):
        return plain(value)
    raise EncodingError(f"a value of type {type(value).__name__} does not travel")


_STR = frozenset({str})
_BUILTIN = (bytes, bytearray, memoryview, datetime)
_FAMILIES: tuple[tuple[type | tuple[type, ...], Any], ...] = (
    (enum.Enum, lambda value: value.value),
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    ((bytes, bytearray, memoryview), lambda value: memoryview(value).tobytes()),
    ((list, tuple, set, frozenset, deque), list),
    (Mapping, dict),
    (datetime, lambda value: datetime.fromisoformat(datetime.isoformat(value))),
    (xmlrpc.client.Binary, lambda value: bytes(value.data)),
    (xmlrpc.client.DateTime, lambda value: datetime.strptime(value.value, "%Y%m%dT%H:%M:%S")),
)
