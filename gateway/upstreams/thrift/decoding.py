"""Thrift -> neutral values, by the types of the .thrift file.

    await decode(type, reader, depth)    MisreadError names the place that does not fit the file

Fields that the file does not define are skipped, as Thrift requires; encoding.py describes the values.
"""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.upstreams.thrift.types import (
    BINARY,
    BITS,
    BOOL,
    DOUBLE,
    LIST,
    MAP,
    SET,
    STRING,
    STRUCT,
    UUID,
    Enum,
    Mapping,
    Record,
    Scalar,
    Sequence,
    Type,
    is_named,
    name_of,
)
from gateway.upstreams.thrift.wire import STOP, MisreadError, Reader


async def decode(kind: Type, reader: Reader, depth: int) -> Any:
    """Read a value of at most ``depth`` levels.

    Raises:
        MisreadError: it does not fit its type.

    """
    if depth < 0:
        raise MisreadError("nested too deeply")
    return await _DECODERS[type(kind)](kind, reader, depth)


async def _decode_scalar(kind: Scalar, reader: Reader, _: int) -> Any:
    if kind.code in BITS:
        return await reader.integer(kind.code)
    if kind.code == BOOL:
        return await reader.truth()
    if kind.code == DOUBLE:
        return await reader.double()
    if kind.code == UUID:
        return str(uuid.UUID(bytes=await reader.uuid()))
    data = await reader.blob()
    if kind is BINARY:
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MisreadError("the string is not UTF-8; bytes need the type binary") from None


async def _decode_enum(kind: Enum, reader: Reader, _: int) -> Any:
    number = await reader.integer(kind.code)
    return kind.names.get(number, number)


async def _decode_sequence(kind: Sequence, reader: Reader, depth: int) -> list[Any]:
    code, length = await reader.sequence()
    _expect(length == 0 or code == kind.item.code)
    return [await _at(f"[{index}]", kind.item, reader, depth - 1) for index in _counted(length)]


async def _decode_mapping(kind: Mapping, reader: Reader, depth: int) -> Any:
    key_code, code, length = await reader.mapping()
    _expect(length == 0 or (key_code, code) == (kind.key.code, kind.value.code))
    pairs: list[list[Any]] = []
    for index in _counted(length):
        key = await _at(f"[{index}]", kind.key, reader, depth - 1)
        pairs.append([key, await _at(f"[{index}]", kind.value, reader, depth - 1)])
    if not is_named(kind.key):
        return pairs
    named = {name_of(key): value for key, value in pairs}
    if len(named) != len(pairs):
        raise MisreadError("the map has a key twice")
    return named


def _counted(length: int) -> range:
    if length < 0:
        raise MisreadError("the number of items is negative")
    return range(length)


async def _decode_record(kind: Record, reader: Reader, depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    code, last, truth = await reader.field(0)
    while code != STOP:
        field = kind.fields.get(last)
        if field is None:
            await _skip(code, reader, depth - 1, truth=truth)  # a newer server's
        else:
            _expect(code == field.type.code, f".{field.name}")
            value[field.name] = (
                truth if truth is not None else await _at(f".{field.name}", field.type, reader, depth - 1)
            )
        code, last, truth = await reader.field(last)
    return value


def _expect(as_said: bool, step: str = "") -> None:  # noqa: FBT001 - what is expected
    if not as_said:
        raise MisreadError("the type is not that of the .thrift file").inside(step)


async def _at(step: str, kind: Type, reader: Reader, depth: int) -> Any:
    try:
        return await decode(kind, reader, depth)
    except MisreadError as error:
        raise error.inside(step) from None


async def _skip(code: int, reader: Reader, depth: int, *, truth: bool | None = None) -> None:
    """Read a value and drop it; ``truth`` is a bool that has been read."""
    if depth < 0:
        raise MisreadError("nested too deeply")
    if code in BITS:
        await reader.integer(code)
    elif code == BOOL:
        _ = truth if truth is not None else await reader.truth()
    elif code == DOUBLE:
        await reader.double()
    elif code == STRING:
        await reader.blob()
    elif code == UUID:
        await reader.uuid()
    else:
        await _skip_compound(code, reader, depth)


async def _skip_compound(code: int, reader: Reader, depth: int) -> None:
    if code == STRUCT:
        code, last, truth = await reader.field(0)
        while code != STOP:
            await _skip(code, reader, depth - 1, truth=truth)
            code, last, truth = await reader.field(last)
    elif code == MAP:
        key, value, length = await reader.mapping()
        for _ in _counted(length):
            await _skip(key, reader, depth - 1)
            await _skip(value, reader, depth - 1)
    elif code in (LIST, SET):
        item, length = await reader.sequence()
        for _ in _counted(length):
            await _skip(item, reader, depth - 1)
    else:
        raise MisreadError("a field has an unknown type")


_DECODERS: dict[type, Callable[[Any, Reader, int], Awaitable[Any]]] = {
    Scalar: _decode_scalar,
    Enum: _decode_enum,
    Sequence: _decode_sequence,
    Mapping: _decode_mapping,
    Record: _decode_record,
}
