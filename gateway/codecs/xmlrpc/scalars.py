"""The scalars of XML-RPC, both ways: READERS by element, WRITERS by type.

A reader takes the text of an element, and raises InvalidRequest; a writer returns a whole value, and raises
EncodingError. What is read beyond the specification is listed in docs/conformance.md, with the clients that send it.
"""

import re
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any

from gateway.codecs.xmlrpc.text import SPACE, escaped
from gateway.model.faults import InvalidRequest
from gateway.model.values import EncodingError, in_utc

_INT = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DOUBLE = re.compile(r"[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?", re.ASCII)  # never tries twice
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_DATETIME = re.compile(
    r"([0-9]{4})(-?)([0-9]{2})\2([0-9]{2})T([0-9]{2})(:?)([0-9]{2})\6([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:(Z)|([+-])([0-9]{2}):?([0-9]{2})?)?",
    re.ASCII,
)
_ZERO_DATE = re.compile(r"-?[0:Tt+.Zz-]*|-0001-?11-?30T.*", re.ASCII)  # the second is PHP's, of a zero date
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_MAX_DIGITS = 4300  # what Python reads at most (CVE-2020-10735)
_MAX_EXPONENT = 308  # of ten; what is beyond it cannot become a double
_BOOLEANS = {"0": False, "1": True, "false": False, "true": True}
_MAX_OFFSET = timedelta(hours=14)


def _int_reader(bits: int | None) -> Callable[[str], int]:
    bounds = None if bits is None else range(-(2 ** (bits - 1)), 2 ** (bits - 1))

    def read_int(text: str) -> int:
        text = text.strip(SPACE)
        if not _INT.fullmatch(text):
            raise InvalidRequest("bad int")
        if len(text) > _MAX_DIGITS:
            raise InvalidRequest(f"int out of range: more than {_MAX_DIGITS} digits")
        value = int(text)
        if bounds is not None and value not in bounds:
            raise InvalidRequest(f"int out of range: more than {bits} bits")
        return value

    return read_int


def _read_double(text: str) -> float:
    text = text.strip(SPACE)
    if not _DOUBLE.fullmatch(text):
        raise InvalidRequest("bad double")
    if len(text) > _MAX_DIGITS or not isfinite(value := float(text)):
        raise InvalidRequest("double out of range")
    return value


def read_any_double(text: str) -> float:
    """Read a double that may be NaN or infinite, as CPython and C++ servers write it."""
    return float(text) if _NOT_FINITE.fullmatch(text.strip(SPACE)) else _read_double(text)


def _read_decimal(text: str) -> Decimal:
    text = text.strip(SPACE)
    if not _DOUBLE.fullmatch(text):
        raise InvalidRequest("bad decimal")
    try:
        value = Decimal(text[:_MAX_DIGITS])
    except InvalidOperation:  # an exponent that Decimal itself cannot hold
        raise InvalidRequest("decimal out of range") from None
    if len(text) > _MAX_DIGITS or abs(value.adjusted()) > _MAX_EXPONENT:
        raise InvalidRequest("decimal out of range")
    return value


def _read_boolean(text: str) -> bool:
    value = _BOOLEANS.get(text.strip(SPACE).lower())
    if value is None:
        raise InvalidRequest("bad boolean")
    return value


def _read_string(text: str) -> str:
    return text


def _read_base64(text: str) -> bytes:
    try:
        digits = b"".join(text.encode("ascii").split())
        if len(digits) % 4 or digits.endswith(b"==="):  # surplus padding, which the strict mode lets pass
            raise InvalidRequest("bad base64")
        return a2b_base64(digits, strict_mode=True)
    except (Base64Error, UnicodeEncodeError):
        raise InvalidRequest("bad base64") from None


def _read_datetime(text: str) -> datetime:
    match = _DATETIME.fullmatch(text.strip(SPACE))
    if match is None:
        raise InvalidRequest("bad dateTime")
    year, _, month, day, hour, _, minute, second, fraction, zulu, sign, hours, minutes = match.groups()
    zone = UTC if zulu else None
    if sign:
        offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
        if offset > _MAX_OFFSET or int(minutes or 0) > 59:
            raise InvalidRequest("bad dateTime: the offset is beyond 14 hours")
        zone = timezone(-offset if sign == "-" else offset)
    microsecond = int((fraction or "0").ljust(6, "0")[:6])
    try:
        return datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), microsecond, zone)
    except ValueError:
        raise InvalidRequest("bad dateTime: there is no such day or time") from None


def _read_nil(text: str) -> None:
    if text.strip(SPACE):
        raise InvalidRequest("bad nil: it must be empty")


READERS: dict[str, Callable[[str], Any]] = {
    "int": _int_reader(64),
    "i4": _int_reader(64),
    "i8": _int_reader(64),
    "i1": _int_reader(8),
    "i2": _int_reader(16),
    "biginteger": _int_reader(None),
    "double": _read_double,
    "float": _read_double,
    "bigdecimal": _read_decimal,
    "boolean": _read_boolean,
    "string": _read_string,
    "base64": _read_base64,
    "dateTime.iso8601": _read_datetime,
    "nil": _read_nil,
}


def _read_datetime_leniently(text: str) -> datetime | None:
    return None if _ZERO_DATE.fullmatch(text.strip(SPACE)) else _read_datetime(text)


def _read_double_leniently(text: str) -> float | None:
    return None if _NOT_FINITE.fullmatch(text.strip(SPACE)) else _read_double(text)


LENIENT_READERS: dict[str, Callable[[str], Any]] = {
    "double": _read_double_leniently,
    "float": _read_double_leniently,
    "dateTime.iso8601": _read_datetime_leniently,
}


def _write_string(text: str) -> str:
    return f"<value><string>{escaped(text)}</string></value>"


def _write_bool(value: bool) -> str:  # noqa: FBT001 - a value, not a switch
    return "<value><boolean>1</boolean></value>" if value else "<value><boolean>0</boolean></value>"


def _write_double(value: float) -> str:
    if not isfinite(value):
        raise EncodingError(f"{value} is not an XML-RPC double")
    shortest = repr(value)
    if "e" in shortest:  # the specification has no exponents
        shortest = format(Decimal(shortest), "f")
    return f"<value><double>{shortest}</double></value>"


def _write_base64(value: bytes) -> str:
    return f"<value><base64>{b64encode(value).decode('ascii')}</base64></value>"


def _write_datetime(value: datetime) -> str:
    """Write the one form that all clients read: seconds, no zone. An aware datetime is written in UTC."""
    value = in_utc(value)
    text = f"{value.year:04}{value.month:02}{value.day:02}T{value.hour:02}:{value.minute:02}:{value.second:02}"
    return f"<value><dateTime.iso8601>{text}</dateTime.iso8601></value>"


WRITERS: dict[type, Callable[[Any], str]] = {
    str: _write_string,
    bool: _write_bool,
    float: _write_double,
    bytes: _write_base64,
    datetime: _write_datetime,
}
