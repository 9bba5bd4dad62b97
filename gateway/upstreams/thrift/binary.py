"""Thrift's binary protocol (thrift-binary-protocol.md of Apache Thrift).

Only the strict form is used, whose messages begin with the version; all servers of the last ten years answer in it.
"""

import struct

from gateway.upstreams.thrift.types import BOOL, DOUBLE, I8, I16, I32, I64
from gateway.upstreams.thrift.wire import STOP, MisreadError, Source

_VERSION = 0x80010000
_FORMS = {
    kind: struct.Struct(form) for kind, form in ((I8, ">b"), (I16, ">h"), (I32, ">i"), (I64, ">q"), (DOUBLE, ">d"))
}
_FIELD = struct.Struct(">bh")


class BinaryWriter:
    """Writes the binary protocol."""

    def __init__(self) -> None:
        self.data = bytearray()

    def message(self, kind: int, name: str, number: int) -> None:
        """Begin a message in the strict form."""
        self.data += struct.pack(">I", _VERSION | kind)
        self.blob(name.encode())
        self.integer(I32, number)

    def field(self, code: int, number: int, _last: int) -> None:
        """Begin a field."""
        self.data += _FIELD.pack(code, number)

    def bool_field(self, number: int, last: int, *, value: bool) -> None:
        """Write a field that is a bool."""
        self.field(BOOL, number, last)
        self.truth(value=value)

    def stop(self) -> None:
        """End a struct."""
        self.data.append(STOP)

    def truth(self, *, value: bool) -> None:
        """Write a bool."""
        self.data.append(value)

    def integer(self, code: int, value: int) -> None:
        """Write an int."""
        self.data += _FORMS[code].pack(value)

    def double(self, value: float) -> None:
        """Write a double."""
        self.data += _FORMS[DOUBLE].pack(value)

    def blob(self, value: bytes) -> None:
        """Write bytes after their number."""
        self.integer(I32, len(value))
        self.data += value

    def uuid(self, value: bytes) -> None:
        """Write the 16 bytes of a uuid."""
        self.data += value

    def sequence(self, code: int, length: int) -> None:
        """Begin a list or set."""
        self.data.append(code)
        self.integer(I32, length)

    def mapping(self, key: int, value: int, length: int) -> None:
        """Begin a map."""
        self.data.append(key)
        self.sequence(value, length)


class BinaryReader:
    """Reads the binary protocol."""

    def __init__(self, source: Source) -> None:
        self._take = source.take

    async def message(self) -> tuple[int, str, int]:
        """Read the beginning of a message."""
        (version,) = struct.unpack(">I", await self._take(4))
        if version & 0xFFFFFF00 != _VERSION:
            raise MisreadError("the response is not in the binary protocol")
        name = (await self.blob()).decode("utf-8", "replace")
        return version & 0xFF, name, await self.integer(I32)

    async def field(self, _last: int) -> tuple[int, int, bool | None]:
        """Read the beginning of a field."""
        code = (await self._take(1))[0]
        return code, 0 if code == STOP else await self.integer(I16), None

    async def truth(self) -> bool:
        """Read a bool."""
        value = (await self._take(1))[0]
        if value > 1:
            raise MisreadError("a bool is neither true nor false")
        return value == 1

    async def integer(self, code: int) -> int:
        """Read an int."""
        form = _FORMS[code]
        value: int = form.unpack(await self._take(form.size))[0]
        return value

    async def double(self) -> float:
        """Read a double."""
        value: float = _FORMS[DOUBLE].unpack(await self._take(8))[0]
        return value

    async def blob(self) -> bytes:
        """Read bytes after their number."""
        return await self._take(await self.integer(I32))

    async def uuid(self) -> bytes:
        """Read the 16 bytes of a uuid."""
        return await self._take(16)

    async def sequence(self) -> tuple[int, int]:
        """Read the beginning of a list or set."""
        return (await self._take(1))[0], await self.integer(I32)

    async def mapping(self) -> tuple[int, int, int]:
        """Read the beginning of a map."""
        return (await self._take(1))[0], *await self.sequence()
