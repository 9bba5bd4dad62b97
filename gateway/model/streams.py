"""Streams: what a method gives one value after the other."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol, Self

from msgspec import Struct


class Whole(Struct, frozen=True):
    """The result of a call that might have given a stream, in the place of its values."""

    value: Any


class Values(Protocol):
    """Where the values come from."""

    async def __anext__(self) -> Any:
        """Return the next value, or a Whole.

        Raises:
            StopAsyncIteration: there are no more.
            Fault: the method has failed, or its time is over.

        """

    async def close(self) -> None:
        """End the method, if it has not ended. Raises nothing."""


class Stream:
    """The values of one call, for one reader, who closes it in any case.

    ``async for`` raises the Fault that the method ends with, if it does. ``first`` are values that were read already. A
    Whole is the only value of its stream.
    """

    def __init__(self, values: Values, first: Iterable[Any] = ()) -> None:
        self._values = values
        self._first = deque(first)
        self._ends: list[Callable[[], object]] = []

    def at_end(self, callback: Callable[[], object]) -> None:
        """Have something called once when it is closed."""
        self._ends.append(callback)

    async def close(self) -> None:
        """End the method, if it has not ended; twice is once."""
        try:
            await self._values.close()
        finally:
            self._tell()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        value = self._first.popleft() if self._first else await self._values.__anext__()
        return value.value if type(value) is Whole else value

    def __del__(self) -> None:
        self._tell()  # nobody has closed it: a place that it holds must not be lost for good

    def _tell(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            end()
