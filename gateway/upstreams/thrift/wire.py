"""What Thrift's protocols have in common: primitives are written and read, without any knowledge of types.

A reader takes bytes from a Source, which returns exactly as many as are requested, when they have arrived. Bytes that
are not of its protocol raise MisreadError.
"""

from typing import Protocol

from gateway.model.values import EncodingError

CALL, REPLY, EXCEPTION, ONEWAY = 1, 2, 3, 4
STOP = 0


class MisreadError(EncodingError):
    """The response is not in the protocol, or does not fit the .thrift file: why, and where in it."""


class Source(Protocol):
    """Where a response comes from."""

    async def take(self, count: int) -> bytes:
        """Take the next bytes.

        Raises:
            MisreadError: the response cannot have so many.

        """


class Writer(Protocol):
    """Writes a protocol; ``last`` is the number of the field before, 0 for the first one of a struct."""

    data: bytearray

    def message(self, kind: int, name: str, number: int) -> None:
        """Begin a message."""

    def field(self, code: int, number: int, last: int) -> None:
        """Begin a field."""

    def bool_field(self, number: int, last: int, *, value: bool) -> None:
        """Write a field that is a bool, whole."""

    def stop(self) -> None:
        """End a struct."""

    def truth(self, *, value: bool) -> None:
        """Write a bool outside of a field."""

    def integer(self, code: int, value: int) -> None:
        """Write an int that fits its type."""

    def double(self, value: float) -> None:
        """Write a double."""

    def blob(self, value: bytes) -> None:
        """Write bytes, or a string's."""

    def uuid(self, value: bytes) -> None:
        """Write the 16 bytes of a uuid."""

    def sequence(self, code: int, length: int) -> None:
        """Begin a list or set."""

    def mapping(self, key: int, value: int, length: int) -> None:
        """Begin a map."""


class Reader(Protocol):
    """Reads a protocol."""

    def __init__(self, source: Source) -> None: ...

    async def message(self) -> tuple[int, str, int]:
        """Read the kind, name and number of a message."""

    async def field(self, last: int) -> tuple[int, int, bool | None]:
        """Read the code and number of a field, and the value if it is in there; the code STOP ends a struct."""

    async def truth(self) -> bool:
        """Read a bool outside of a field's beginning."""

    async def integer(self, code: int) -> int:
        """Read an int."""

    async def double(self) -> float:
        """Read a double."""

    async def blob(self) -> bytes:
        """Read bytes, or a string's."""

    async def uuid(self) -> bytes:
        """Read the 16 bytes of a uuid."""

    async def sequence(self) -> tuple[int, int]:
        """Read the code of the items of a list or set, and how many there are."""

    async def mapping(self) -> tuple[int, int, int]:
        """Read the codes of the keys and values of a map, and how many there are."""
