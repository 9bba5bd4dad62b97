"""Thrift's compact protocol (thrift-compact-protocol.md of Apache Thrift)."""

import struct

from gateway.upstreams.thrift.types import BITS, BOOL, DOUBLE, I8, I16, I32, I64, LIST, MAP, SET, STRING, STRUCT, UUID
from gateway.upstreams.thrift.wire import STOP, MisreadError, Source

_PROTOCOL, _VERSION = 0x82, 1
_TRUE, _FALSE = 1, 2
_TO_COMPACT = {
    BOOL: 1,
    I8: 3,
    I16: 4,
    I32: 5,
    I64: 6,
    DOUBLE: 7,
    STRING: 8,
    LIST: 9,
    SET: 10,
    MAP: 11,
    STRUCT: 12,
    UUID: 13,
}
_FROM_COMPACT = {code: kind for kind, code in _TO_COMPACT.items()} | {_FALSE: BOOL, STOP: STOP}
_DOUBLE = struct.Struct("<d")
_LONGEST_VARINT = 10  # bytes of 64 bits, 7 in each


class CompactWriter:
    """Writes the compact protocol."""

    def __init__(self) -> None:
        self.data = bytearray()

    def message(self, kind: int, name: str, number: int) -> None:
        """Begin a message."""
        self.data += bytes((_PROTOCOL, kind << 5 | _VERSION))
        self._varint(number)
        self.blob(name.encode())

    def field(self, code: int, number: int, last: int) -> None:
        """Begin a field."""
        self._field(_TO_COMPACT[code], number, last)

    def bool_field(self, number: int, last: int, *, value: bool) -> None:
        """Write a bool in the beginning of its field."""
        self._field(_TRUE if value else _FALSE, number, last)

    def stop(self) -> None:
        """End a struct."""
        self.data.append(STOP)

    def truth(self, *, value: bool) -> None:
        """Write a bool of a list, set or map."""
        self.data.append(_TRUE if value else _FALSE)

    def integer(self, code: int, value: int) -> None:
        """Write an int: i8 as it is, others zigzag."""
        if code == I8:
            self.data.append(value & 0xFF)
        else:
            self._varint((value << 1) ^ (value >> 63))

    def double(self, value: float) -> None:
        """Write a double, which is little-endian here."""
        self.data += _DOUBLE.pack(value)

    def blob(self, value: bytes) -> None:
        """Write bytes after their number."""
        self._varint(len(value))
        self.data += value

    def uuid(self, value: bytes) -> None:
        """Write the 16 bytes of a uuid."""
        self.data += value

    def sequence(self, code: int, length: int) -> None:
        """Begin a list or set."""
        self.data.append(min(length, 15) << 4 | _TO_COMPACT[code])
        if length >= 15:
            self._varint(length)

    def mapping(self, key: int, value: int, length: int) -> None:
        """Begin a map; an empty one has no types."""
        self._varint(length)
        if length:
            self.data.append(_TO_COMPACT[key] << 4 | _TO_COMPACT[value])

    def _field(self, code: int, number: int, last: int) -> None:
        if 0 < number - last <= 15:
            self.data.append((number - last) << 4 | code)
        else:
            self.data.append(code)
            self.integer(I16, number)

    def _varint(self, value: int) -> None:
        while value > 0x7F:
            self.data.append(value & 0x7F | 0x80)
            value >>= 7
        self.data.append(value)


class CompactReader:
    """Reads the compact protocol."""

    def __init__(self, source: Source) -> None:
        self._take = source.take

    async def message(self) -> tuple[int, str, int]:
        """Read the beginning of a message."""
        begin, kind = await self._take(2)
        if begin != _PROTOCOL or kind & 0x1F != _VERSION:
            raise MisreadError("the response is not in the compact protocol")
        number = await self._varint()
        return kind >> 5, (await self.blob()).decode("utf-8", "replace"), number

    async def field(self, last: int) -> tuple[int, int, bool | None]:
        """Read the beginning of a field, which contains the value of a bool."""
        byte = (await self._take(1))[0]
        code, step = byte & 0x0F, byte >> 4
        if code == STOP:
            return STOP, 0, None
        number = last + step if step else await self.integer(I16)
        return _type_of(code), number, code == _TRUE if code in (_TRUE, _FALSE) else None

    async def truth(self) -> bool:
        """Read a bool of a list, set or map; some libraries write 0 for false."""
        value = (await self._take(1))[0]
        if value > _FALSE:
            raise MisreadError("a bool is neither true nor false")
        return value == _TRUE

    async def integer(self, code: int) -> int:
        """Read an int, and check its range, which the bytes do not bound."""
        if code == I8:
            return int.from_bytes(await self._take(1), signed=True)
        zigzag = await self._varint()
        if zigzag >> BITS[code]:
            raise MisreadError(f"an int has more than {BITS[code]} bits")
        return (zigzag >> 1) ^ -(zigzag & 1)

    async def double(self) -> float:
        """Read a double."""
        value: float = _DOUBLE.unpack(await self._take(8))[0]
        return value

    async def blob(self) -> bytes:
        """Read bytes after their number."""
        return await self._take(await self._varint())

    async def uuid(self) -> bytes:
        """Read the 16 bytes of a uuid."""
        return await self._take(16)

    async def sequence(self) -> tuple[int, int]:
        """Read the beginning of a list or set."""
        byte = (await self._take(1))[0]
        return _type_of(byte & 0x0F), await self._varint() if byte >> 4 == 15 else byte >> 4

    async def mapping(self) -> tuple[int, int, int]:
        """Read the beginning of a map."""
        length = await self._varint()
        if not length:
            return STOP, STOP, 0
        byte = (await self._take(1))[0]
        return _type_of(byte >> 4), _type_of(byte & 0x0F), length

    async def _varint(self) -> int:
        value = 0
        for index in range(_LONGEST_VARINT):
            byte = (await self._take(1))[0]
            value |= (byte & 0x7F) << 7 * index
            if byte <= 0x7F:
                return value
        raise MisreadError("an int has more than 64 bits")


def _type_of(code: int) -> int:
    if code not in _FROM_COMPACT:
        raise MisreadError("a value has an unknown type")
    return _FROM_COMPACT[code]
