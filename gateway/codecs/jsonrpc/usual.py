"""What most callers send and most methods return: msgspec reads and writes it as it is to be.

read_call(text, max_depth)                 a request object, or None for what must be looked at more closely
read_request(text), call_of(request, ...)  the same in two parts
read_result(text, max_depth)               the id and the result of a response object, or None likewise
size_of(value, max_depth, room, bits)      how many values a result has that can be written without a conversion
written(Response(...), value, size)        the bytes of an object with such a result, or None
"""

from math import isfinite
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct

from gateway.codecs.jsonrpc.text import are_unique, inside, measured
from gateway.model.calls import Call, Id, Reply

_CONTAINERS = frozenset({list, dict})
_PLAIN = frozenset({str, bool, type(None)})
_SCALARS = _PLAIN | {int}
_USUAL = _SCALARS | _CONTAINERS | {float}
_FEW = 12  # values that are looked at one by one in less time than by their types
_ID_TYPES = frozenset({str, int, float, type(None), msgspec.UnsetType})
_NOT_READ = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Request(Struct, forbid_unknown_fields=True):
    """A request object. What is Any is read as without a type."""

    jsonrpc: Literal["2.0"]
    method: str
    params: Any = UNSET
    id: Any = UNSET


class _Result(Struct, forbid_unknown_fields=True):
    """A response object with a result."""

    jsonrpc: Literal["2.0"]
    result: Any
    id: Any


class Request(Struct, kw_only=True):
    """A request object as it is written."""

    jsonrpc: str = "2.0"
    method: str
    params: Any
    id: Any


class Response(Struct, kw_only=True):
    """A response object as it is written."""

    jsonrpc: str = "2.0"
    result: Any
    id: Any


_read = msgspec.json.Decoder(_Request).decode
_read_result = msgspec.json.Decoder(_Result).decode
write = msgspec.json.Encoder().encode


def read_call(text: bytes, max_depth: int) -> Call | None:
    """Return a call, or None for what is not a call, or is not strict JSON, or is unusual."""
    request = read_request(text)
    return None if request is None else call_of(request, text, max_depth)


def read_request(text: bytes) -> _Request | None:
    """Return a request object of which nothing but its form is known, or None."""
    try:
        return _read(text)
    except _NOT_READ:
        return None


def call_of(request: _Request, text: bytes, max_depth: int) -> Call | None:
    """Return a call, or None for what is not a call, or is too deep, or has duplicate names."""
    params, call_id = request.params, request.id
    members = 2 + (params is not UNSET) + (call_id is not UNSET)
    if params is UNSET:
        params = []
    elif type(params) not in _CONTAINERS:
        return None
    if type(call_id) not in _ID_TYPES:
        return None
    within, depth = measured(params)
    if depth >= max_depth or not are_unique(text, members + within):
        return None
    if call_id is UNSET:
        return Call(method=request.method, params=params, notification=True)
    return Call(method=request.method, params=params, id=call_id)


def read_result(text: bytes, max_depth: int) -> tuple[Id, Reply] | None:
    """Return the id and the result of a response object, or None for what is not one, or is unusual."""
    try:
        answer = _read_result(text)
    except _NOT_READ:
        return None
    within, depth = measured(answer.result)
    if type(answer.id) not in _ID_TYPES or depth >= max_depth or not are_unique(text, 3 + within):
        return None
    return answer.id, Reply(value=answer.result)


def size_of(value: Any, max_depth: int, room: int, bits: int) -> int:
    """Return how many values there are in one that msgspec writes as it is to be written; 0 if it must be converted.

    What holds the same values many times over, or itself, must be. ``bits`` are those of the widest int, 0 for any.
    Doubles among many values are not looked at, see ``written``.
    """
    if type(value) in _PLAIN or (type(value) is int and not bits):
        return 1
    level: list[Any] = [value]  # the values that are equally deep
    size = 0
    for _ in range(max_depth):
        inner = _inner(level, bits) if len(level) <= _FEW else _inner_of_many(level, bits)
        size += len(level)
        if not inner:
            return 0 if inner is None else size
        count = sum(map(len, inner))
        room -= 2 * count
        if room < 0:
            return 0
        level = inside(inner, count)
        if len(level) > count:  # a name is not a text
            return 0
    return 0


def written(whole: Any, value: Any, size: int) -> bytes | None:
    """Write what holds a value of so many values, as size_of says; None if it has to be converted after all.

    That is where a text has a lone surrogate, an int more digits than Python writes, or a double is not finite.
    msgspec writes ``null`` for that one, so that doubles are looked at only where there is such a word.
    """
    if not size:
        return None
    try:
        wire = write(whole)
    except ValueError:
        return None
    return None if size > _FEW and b"null" in wire and not _are_finite(value) else wire


def _are_finite(value: Any) -> bool:
    """Return whether all doubles in a value are finite."""
    level = [value]
    while level:
        if not all(map(isfinite, [each for each in level if type(each) is float])):
            return False
        inner = [each for each in level if type(each) is dict or type(each) is list]
        level = inside(inner, sum(map(len, inner)))
    return True


def _inner(values: list[Any], bits: int) -> list[Any] | None:
    """Return the lists and dicts among values, or None where a value is not usual."""
    inner: list[Any] = []
    for value in values:
        kind = type(value)
        if kind is list or kind is dict:
            inner.append(value)
        elif kind is float:
            if not isfinite(value):
                return None
        elif kind not in _SCALARS or (kind is int and bits and value.bit_length() > bits):
            return None
    return inner


def _inner_of_many(values: list[Any], bits: int) -> list[Any] | None:
    """Do the same by types instead of one by one, whatever the doubles are."""
    kinds = set(map(type, values))
    if not kinds <= _USUAL:
        return None
    if bits and int in kinds and max(map(int.bit_length, [value for value in values if type(value) is int])) > bits:
        return None
    if kinds.isdisjoint(_CONTAINERS):
        return []
    return values if kinds <= _CONTAINERS else [each for each in values if type(each) is dict or type(each) is list]
