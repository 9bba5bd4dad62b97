"""Jute, the encoding of ZooKeeper's messages: big-endian numbers, and texts and bytes behind their length."""

import struct
from collections.abc import Iterable

from msgspec import Struct

_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")
_STAT = struct.Struct(">qqqqiiiqiiq")


class JuteError(Exception):
    """A message is not what it should be."""


class Stat(Struct, frozen=True):
    """What is known of a node: when it was made, and by which session, if it ends with one (else 0)."""

    created: int
    owner: int


def integer(value: int) -> bytes:
    """Encode an int of 32 bits."""
    return _INT.pack(value)


def long(value: int) -> bytes:
    """Encode an int of 64 bits."""
    return _LONG.pack(value)


def flag(value: bool) -> bytes:  # noqa: FBT001 - it is what is encoded
    """Encode a bool."""
    return b"\x01" if value else b"\x00"


def buffer(value: bytes) -> bytes:
    """Encode bytes."""
    return _INT.pack(len(value)) + value


def text(value: str) -> bytes:
    """Encode a text."""
    return buffer(value.encode())


def access(entries: Iterable[tuple[int, str, str]]) -> bytes:
    """Encode a list of who may do what: permissions, scheme and id."""
    encoded = [integer(permissions) + text(scheme) + text(name) for permissions, scheme, name in entries]
    return integer(len(encoded)) + b"".join(encoded)


class Reader:
    """Reads a message from its start.

    Every method raises JuteError where the message ends too early.
    """

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._at = 0

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._message):
            raise JuteError("a message ends too early")
        taken, self._at = self._message[self._at : end], end
        return taken

    def integer(self) -> int:
        """Read an int of 32 bits."""
        value: int = _INT.unpack(self._take(4))[0]
        return value

    def long(self) -> int:
        """Read an int of 64 bits."""
        value: int = _LONG.unpack(self._take(8))[0]
        return value

    def buffer(self) -> bytes:
        """Read bytes; a length of -1 stands for none."""
        return self._take(max(0, self.integer()))

    def text(self) -> str:
        """Read a text."""
        try:
            return self.buffer().decode()
        except UnicodeDecodeError:
            raise JuteError("a text is not UTF-8") from None

    def texts(self) -> list[str]:
        """Read a list of texts."""
        return [self.text() for _ in range(self.integer())]

    def stat(self) -> Stat:
        """Read what is known of a node."""
        fields = _STAT.unpack(self._take(_STAT.size))
        return Stat(fields[0], fields[7])
