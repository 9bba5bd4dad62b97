"""The bodies of HTTP/1 requests, read from the bytes behind the head.

    body = Sized(5)  or  Chunked()
    at = body.take(data, at)      the position behind what belongs to it, once more with the next bytes, until
    body.is_whole

Chunks are read strictly (RFC 9112, 7.1): a size is up to 16 hexadecimal digits, there are no extensions and no
trailers, and lines end with CR LF. Whatever else is sent there is meant for a parser that reads it in another way.
"""

import re
from typing import Protocol

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
_SIZE_BEGUN = re.compile(rb"[0-9A-Fa-f]{0,16}\r?")
_LONGEST = 18  # bytes of a line


class BadBodyError(Exception):
    """The chunks of a body are malformed."""


class Body(Protocol):
    """A body that is being read.

    Attributes:
        announced: how many bytes it has, as far as that is known.
        is_whole: nothing more belongs to it.

    """

    announced: int
    is_whole: bool

    def take(self, data: bytes, at: int) -> int:
        """Take what belongs to it from a position on, and return the position behind that.

        Raises:
            BadBodyError: it is malformed.

        """

    def drop(self) -> None:
        """Keep nothing of it, neither what is here nor what comes."""

    def data(self) -> bytes:
        """Return all of it, or what is here."""

    def pop(self) -> bytes:
        """Take out what is here."""

    def holds(self) -> bool:
        """Tell whether something is here."""


class _Kept:
    """Bytes that come in pieces: one of them as it is, several in a bytearray, which never copies quadratically."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data: bytes | bytearray | None = b""

    def drop(self) -> None:
        """Keep nothing of it, neither what is here nor what comes."""
        self._data = None

    def data(self) -> bytes:
        """Return all of it, or what is here."""
        return bytes(self._data or b"")

    def pop(self) -> bytes:
        """Take out what is here."""
        data = self.data()
        if self._data is not None:
            self._data = b""
        return data

    def holds(self) -> bool:
        """Tell whether something is here."""
        return bool(self._data)

    def _keep(self, piece: bytes) -> None:
        if type(self._data) is bytearray:
            self._data += piece
        elif self._data:
            self._data = bytearray(self._data)
            self._data += piece
        elif self._data is not None:
            self._data = piece


class Sized(_Kept):
    """A body of as many bytes as its Content-Length says."""

    __slots__ = ("_left", "announced", "is_whole")

    def __init__(self, length: int) -> None:
        super().__init__()
        self.announced = self._left = length
        self.is_whole = not length

    def take(self, data: bytes, at: int) -> int:
        """Take what belongs to it from a position on, and return the position behind that."""
        end = min(len(data), at + self._left)
        self._keep(data[at:end])
        self._left -= end - at
        self.is_whole = not self._left
        return end


class Chunked(_Kept):
    """A body in chunks."""

    __slots__ = ("_is_behind", "_is_last", "_left", "_line", "announced", "is_whole")

    def __init__(self) -> None:
        super().__init__()
        self.announced = 0
        self.is_whole = False
        self._left = 0  # bytes of the chunk
        self._is_behind = False  # a chunk, whose line end is still to come
        self._is_last = False
        self._line = b""  # the beginning of a line

    def take(self, data: bytes, at: int) -> int:
        """Take what belongs to it from a position on, and return the position behind that.

        Raises:
            BadBodyError: it is malformed.

        """
        while at < len(data) and not self.is_whole:
            if self._left:
                end = min(len(data), at + self._left)
                self._keep(data[at:end])
                self._left -= end - at
                self._is_behind = not self._left
                at = end
            else:
                at = self._take_line(data, at)
        return at

    def _take_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at, at + _LONGEST - len(self._line)) + 1
        line = self._line + data[at : end or at + _LONGEST - len(self._line)]
        if end:
            self._line = b""
            self._read_line(line)
            return end
        if not (b"\r".startswith(line) if self._is_behind or self._is_last else _SIZE_BEGUN.fullmatch(line)):
            raise BadBodyError("a chunk does not begin and end as it should")
        self._line = line
        return len(data)

    def _read_line(self, line: bytes) -> None:
        if self._is_behind or self._is_last:
            if line != b"\r\n":
                raise BadBodyError("a chunk is longer than its size, or there are trailers")
            self._is_behind = False
            self.is_whole = self._is_last
            return
        size = _SIZE.fullmatch(line)
        if size is None:
            raise BadBodyError("the size of a chunk is not a number, or has an extension")
        self._left = int(size[1], 16)
        self.announced += self._left
        self._is_last = not self._left
