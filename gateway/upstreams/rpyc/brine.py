"""Brine, RPyC's bytes of immutable values (rpyc/core/brine.py of RPyC 6), strictly.

dump(value)    bytes of None, bool, int, float, str, bytes, and tuples of these
load(data)     such a value, also with frozensets; BrineError for everything else, and for what is cut off
"""

import struct
from collections.abc import Callable
from typing import Any

_NONE, _EMPTY_BYTES, _EMPTY_TUPLE, _TRUE, _FALSE, _NOT_IMPLEMENTED, _ELLIPSIS = range(7)
_TEXT, _BYTES_1, _BYTES_L1, _BYTES_L4, _TUPLE_1, _TUPLE_L1, _TUPLE_L4 = 0x08, 0x0A, 0x0E, 0x0F, 0x10, 0x14, 0x15
_INT_L1, _INT_L4, _FLOAT, _SLICE, _FROZENSET, _COMPLEX = 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B
_SMALL, _SMALLEST, _BIGGEST = 0x50, -0x30, 0x9F  # ints that are a byte of their own
_U4 = struct.Struct("!L")
_F8 = struct.Struct("!d")
_MOST_DIGITS = 4300  # Python's own limit of ints in decimal
_DEEPEST = 300  # levels, two levels of calls each
_CONSTANTS: dict[int, Any] = {
    _NONE: None,
    _EMPTY_BYTES: b"",
    _EMPTY_TUPLE: (),
    _TRUE: True,
    _FALSE: False,
    _NOT_IMPLEMENTED: NotImplemented,
    _ELLIPSIS: ...,
}


class BrineError(Exception):
    """The bytes are not brine, or hold something that is not a value."""


def dump(value: Any) -> bytes:
    """Make bytes of a value; an int has at most 4300 digits."""
    out = bytearray()
    _dump(value, out)
    return bytes(out)


def _dump(value: Any, out: bytearray) -> None:
    kind = type(value)
    if kind is str:
        out.append(_TEXT)
        _dump_bytes(value.encode(), out)
    elif kind is int:
        _dump_int(value, out)
    elif kind is tuple:
        _dump_length(len(value), _EMPTY_TUPLE, _TUPLE_1, _TUPLE_L1, out)
        for item in value:
            _dump(item, out)
    elif kind is bytes:
        _dump_bytes(value, out)
    elif kind is float:
        out.append(_FLOAT)
        out += _F8.pack(value)
    else:
        out.append({None: _NONE, True: _TRUE, False: _FALSE, NotImplemented: _NOT_IMPLEMENTED}[value])


def _dump_int(value: int, out: bytearray) -> None:
    if _SMALLEST <= value <= _BIGGEST:
        out.append(value + _SMALL)
        return
    digits = str(value).encode()
    if len(digits) < 256:
        out += bytes((_INT_L1, len(digits)))
    else:
        out.append(_INT_L4)
        out += _U4.pack(len(digits))
    out += digits


def _dump_bytes(value: bytes, out: bytearray) -> None:
    _dump_length(len(value), _EMPTY_BYTES, _BYTES_1, _BYTES_L1, out)
    out += value


def _dump_length(length: int, empty: int, one: int, short: int, out: bytearray) -> None:
    if length == 0:
        out.append(empty)
    elif length <= 4:
        out.append(one + length - 1)
    elif length < 256:
        out += bytes((short, length))
    else:
        out.append(short + 1)
        out += _U4.pack(length)


def load(data: bytes) -> Any:
    """Read a value, the whole of the bytes.

    Raises:
        BrineError: they are none.

    """
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise BrineError("there are bytes behind a value")
    return value


class _Reader:
    """A place in bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def _take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self._data):
            raise BrineError("a value is cut off")
        taken, self.at = self._data[self.at : end], end
        return taken

    def value(self, depth: int) -> Any:
        """Read a value."""
        tag = self._take(1)[0]
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if _SMALL + _SMALLEST <= tag <= _SMALL + _BIGGEST:
            return tag - _SMALL
        if tag not in _READERS:
            raise BrineError("a value has an unknown type")
        if depth > _DEEPEST:
            raise BrineError("nested too deeply")
        return _READERS[tag](self, tag, depth + 1)

    def length(self, tag: int, one: int, short: int) -> int:
        """Read how long something is; tags from ``one`` on mean 1 to 4."""
        if tag < short:
            return tag - one + 1
        return self._take(1)[0] if tag == short else int(_U4.unpack(self._take(4))[0])

    def read_bytes(self, tag: int, _: int) -> bytes:
        """Read bytes."""
        return self._take(self.length(tag, _BYTES_1, _BYTES_L1))

    def read_text(self, _: int, depth: int) -> str:
        """Read a text, which is bytes."""
        data = self.value(depth)
        try:
            return data.decode() if type(data) is bytes else self._no_text()
        except UnicodeDecodeError:
            return self._no_text()

    def _no_text(self) -> str:
        raise BrineError("a text is not UTF-8")

    def read_tuple(self, tag: int, depth: int) -> tuple[Any, ...]:
        """Read a tuple."""
        items: list[Any] = []
        for _ in range(self.length(tag, _TUPLE_1, _TUPLE_L1)):
            items.append(self.value(depth))  # noqa: PERF401 - a comprehension is one more level of calls
        return tuple(items)

    def read_int(self, tag: int, _: int) -> int:
        """Read an int, in decimal digits."""
        digits = self._take(self.length(tag, _INT_L1, _INT_L1))
        if len(digits) > _MOST_DIGITS or not digits.removeprefix(b"-").isdigit():
            raise BrineError("an int is not a decimal number")
        return int(digits)

    def read_float(self, _tag: int, _: int) -> float:
        """Read a float."""
        return float(_F8.unpack(self._take(8))[0])

    def read_complex(self, _tag: int, _: int) -> complex:
        """Read a complex number."""
        return complex(*struct.unpack("!dd", self._take(16)))

    def read_slice(self, _: int, depth: int) -> slice:
        """Read a slice, which is a tuple of three."""
        parts = self.value(depth)
        if type(parts) is not tuple or len(parts) != 3:
            raise BrineError("a slice is invalid")
        return slice(*parts)

    def read_frozenset(self, _: int, depth: int) -> frozenset[Any]:
        """Read a frozenset, which is a tuple."""
        members = self.value(depth)
        try:
            return frozenset(members)
        except TypeError:  # no tuple, or a slice in it
            raise BrineError("a frozenset is invalid") from None


_READERS: dict[int, Callable[[_Reader, int, int], Any]] = {
    _TEXT: _Reader.read_text,
    **dict.fromkeys((*range(_BYTES_1, _BYTES_1 + 4), _BYTES_L1, _BYTES_L4), _Reader.read_bytes),
    **dict.fromkeys((*range(_TUPLE_1, _TUPLE_1 + 4), _TUPLE_L1, _TUPLE_L4), _Reader.read_tuple),
    _INT_L1: _Reader.read_int,
    _INT_L4: _Reader.read_int,
    _FLOAT: _Reader.read_float,
    _COMPLEX: _Reader.read_complex,
    _SLICE: _Reader.read_slice,
    _FROZENSET: _Reader.read_frozenset,
}
