"""Neutral values -> Thrift, by the types of the .thrift file.

    encode(record, params, writer, textual)   a method's arguments; EncodingError names the place of what does not fit

An enum is its name, or its number if the file has no name for it; a struct, union or exception is a dict without the
fields that are not set; a uuid is a text; a set is a list of unique members. A map whose keys are text, ints, bools,
uuids or enums is a dict, and any other is a list of [key, value]. If the caller's protocol has no bytes (``textual``),
they are base64.
"""

import base64
import binascii
import re
import uuid
from collections.abc import Callable
from typing import Any, NoReturn

from gateway.model.calls import Params
from gateway.model.values import EncodingError
from gateway.upstreams.thrift.types import (
    BINARY,
    BITS,
    BOOL,
    DOUBLE,
    SET,
    STRING,
    UUID,
    Enum,
    Mapping,
    Record,
    Scalar,
    Sequence,
    Type,
    is_named,
)
from gateway.upstreams.thrift.wire import Writer

_TRUTHS = {"true": True, "false": False}
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_MOST_QUOTED = 40  # characters of a name of the caller's


def encode(args: Record, params: Params, writer: Writer, *, textual: bool) -> None:
    """Write the arguments of a method, given by position or by name.

    Raises:
        EncodingError: one does not fit its type.

    """
    encoder = _Encoder(writer, textual=textual)
    if isinstance(params, dict):
        encoder.fields(args, params, {})
        return
    names = _names(args)
    if len(params) > len(names):
        raise EncodingError(f"one too many, it takes {len(names)} at most").inside(f"[{len(names)}]")
    steps = {name: f"[{index}]" for index, name in enumerate(names)}
    encoder.fields(args, dict(zip(names, params, strict=False)), steps)


class _Encoder:
    """Writes values to one writer; bytes may have to come as base64."""

    def __init__(self, writer: Writer, *, textual: bool) -> None:
        self._writer = writer
        self._textual = textual

    def fields(self, kind: Record, value: dict[str, Any], steps: dict[str, str]) -> None:
        """Write the fields that are given; ``steps`` has the places of those that are not given by name."""
        known = set(_names(kind))
        for name in value:
            if name not in known:
                raise EncodingError("there is no such field").inside(f".{name[:_MOST_QUOTED]}")
        last = 0
        for number, field in kind.fields.items():
            item = value.get(field.name)
            if item is None:
                if not field.required:
                    continue
                if field.default is ...:
                    raise EncodingError("missing").inside(f".{field.name}")
                item = field.default  # a service refuses a struct without it
            if field.type.code == BOOL and type(item) is bool:
                self._writer.bool_field(number, last, value=item)
            else:
                self._writer.field(field.type.code, number, last)
                self._inside(steps.get(field.name, f".{field.name}"), field.type, item)
            last = number
        self._writer.stop()

    def _inside(self, step: str, kind: Type, value: Any) -> None:
        try:
            _ENCODERS[type(kind)](self, kind, value)
        except EncodingError as error:
            raise error.inside(step) from None

    def scalar(self, kind: Scalar, value: Any) -> None:
        """Write a bool, number, string or binary."""
        if kind.code in BITS:
            self._writer.integer(kind.code, _ranged(kind, value))
        elif kind.code == BOOL:
            self._writer.truth(value=value) if type(value) is bool else _refuse(kind, value)
        elif kind.code == DOUBLE:
            self._writer.double(_exact(kind, value))
        elif kind is BINARY:
            self._writer.blob(_bytes(kind, value, textual=self._textual))
        elif kind.code == UUID:
            self._writer.uuid(_uuid(kind, value))
        else:
            self._writer.blob(_text(kind, value))

    def enum(self, kind: Enum, value: Any) -> None:
        """Write the number of a name, or a number."""
        if type(value) is str:
            if value not in kind.numbers:
                raise EncodingError(f"expected {kind.word}: {', '.join(kind.numbers)}")
            value = kind.numbers[value]
        self._writer.integer(kind.code, _ranged(kind, value))

    def sequence(self, kind: Sequence, value: Any) -> None:
        """Write a list or set."""
        if type(value) is not list:
            _refuse(kind, value)
        self._writer.sequence(kind.item.code, len(value))
        seen: set[bytes] = set()
        for index, item in enumerate(value):
            start = len(self._writer.data)
            self._inside(f"[{index}]", kind.item, item)
            if kind.code == SET:
                self._once(f"[{index}]", start, seen)

    def mapping(self, kind: Mapping, value: Any) -> None:
        """Write a map: of a dict, or of [key, value]."""
        entries = _named_entries(kind, value) if is_named(kind.key) else _listed_entries(kind, value)
        self._writer.mapping(kind.key.code, kind.value.code, len(entries))
        seen: set[bytes] = set()
        for key, item, step in entries:
            start = len(self._writer.data)
            self._inside(step, kind.key, key)
            self._once(step, start, seen)
            self._inside(step, kind.value, item)

    def _once(self, step: str, start: int, seen: set[bytes]) -> None:
        """Refuse what was written before: the service would keep one of the two and lose the other."""
        written = bytes(self._writer.data[start:])
        if written in seen:
            raise EncodingError("given twice").inside(step)
        seen.add(written)

    def record(self, kind: Record, value: Any) -> None:
        """Write a struct, union or exception."""
        if type(value) is not dict:
            _refuse(kind, value)
        if kind.union and len([name for name, item in value.items() if item is not None]) != 1:
            raise EncodingError(f"expected {kind.word}, a union: one of {', '.join(_names(kind))}")
        self.fields(kind, value, {})


_ENCODERS: dict[type, Callable[[_Encoder, Any, Any], None]] = {
    Scalar: _Encoder.scalar,
    Enum: _Encoder.enum,
    Sequence: _Encoder.sequence,
    Mapping: _Encoder.mapping,
    Record: _Encoder.record,
}


def _names(kind: Record) -> list[str]:
    return [field.name for field in kind.fields.values()]


def _named_entries(kind: Mapping, value: Any) -> list[tuple[Any, Any, str]]:
    if type(value) is not dict:
        _refuse(kind, value)
    return [(_key(kind.key, name), item, f".{name[:_MOST_QUOTED]}") for name, item in value.items()]


def _listed_entries(kind: Mapping, value: Any) -> list[tuple[Any, Any, str]]:
    if type(value) is not list or not all(type(pair) is list and len(pair) == 2 for pair in value):
        raise EncodingError(f"expected {kind.word}, as a list of [key, value]")
    return [(*pair, f"[{index}]") for index, pair in enumerate(value)]


def _refuse(kind: Type, value: Any) -> NoReturn:
    raise EncodingError(f"expected {kind.word}, got {type(value).__name__}")


def _ranged(kind: Scalar | Enum, value: Any) -> int:
    if type(value) is not int:
        _refuse(kind, value)
    bound = 1 << BITS[kind.code] - 1
    if not -bound <= value < bound:
        raise EncodingError(f"expected {kind.word}, an int of {BITS[kind.code]} bits")
    return value


def _exact(kind: Scalar, value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is not int:
        _refuse(kind, value)
    if abs(value) > 2**1023 or int(float(value)) != value:
        raise EncodingError("expected double: it cannot represent this int exactly")
    return float(value)


def _bytes(kind: Type, value: Any, *, textual: bool) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is not str or not textual:
        _refuse(kind, value)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise EncodingError("expected binary as base64") from None


def _text(kind: Type, value: Any) -> bytes:
    if type(value) is not str:
        _refuse(kind, value)
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise EncodingError("the text has a lone surrogate") from None


def _uuid(kind: Type, value: Any) -> bytes:
    if type(value) is not str:
        _refuse(kind, value)
    if not _UUID.fullmatch(value):
        raise EncodingError("expected uuid, such as 123e4567-e89b-12d3-a456-426614174000")
    return uuid.UUID(value).bytes


def _key(kind: Type, name: str) -> Any:
    """Turn a name into a key; what cannot be a key stays a name, and is refused later."""
    if isinstance(kind, Enum):
        return _int(name) if name not in kind.numbers else name
    if kind.code == BOOL:
        return _TRUTHS.get(name, name)
    return name if kind.code in (STRING, UUID) else _int(name)


def _int(name: str) -> Any:
    digits = name.removeprefix("-")
    read = int(name) if digits.isascii() and digits.isdecimal() and len(digits) < 20 else None
    return read if str(read) == name else name
