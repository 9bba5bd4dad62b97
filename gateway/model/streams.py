"""Streams: what a method gives one value after the other, and what its caller sends it meanwhile."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, Protocol, Self, TypeVar

from msgspec import Struct

from gateway.model.faults import Fault, Overloaded

T = TypeVar("T")


class Whole(Struct, frozen=True):
    """The result of a call that might have given a stream, in the place of its values."""

    value: Any


class Inbox:
    """What a caller sends while its call runs, one message after the other.

    Attributes:
        read: makes of a message what the method takes; raises InvalidParams.
        is_read: whether a message was taken, or waited for.

    """

    def __init__(self, most: int) -> None:
        self.read: Callable[[Any], Any] = lambda value: value
        self.is_read = False
        self._most = most
        self._waiting: deque[tuple[Any, asyncio.Future[bool]]] = deque()
        self._news = asyncio.Event()
        self._is_closed = False
        self._is_over = False

    async def put(self, message: Any) -> bool:
        """Wait until a message is taken; False where it is not, because the call has ended, or was told of no more.

        Raises:
            Overloaded: too many wait.
            Fault: the message does not fit.

        """
        if self._is_closed or self._is_over:
            return False
        if len(self._waiting) >= self._most:
            raise Overloaded(f"{self._most} messages wait already: send the next one when one of them is answered")
        taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((self.read(message), taken))
        self._news.set()
        return await taken

    def close(self) -> bool:
        """Say that no more messages follow; False where that was known."""
        was_open, self._is_closed = not self._is_closed and not self._is_over, True
        self._news.set()
        return was_open

    def end(self) -> None:
        """Take no more messages: the call has ended."""
        self._is_over = True
        while self._waiting:
            _, taken = self._waiting.popleft()
            if not taken.done():
                taken.set_result(False)

    async def each(self, make: Callable[[Any], T], first: Iterable[T] = ()) -> AsyncGenerator[T, None]:
        """Take each message when the one before was used; ``make`` makes something of it, and may refuse it.

        ``first`` comes before all of them.
        """
        for made in first:
            yield made
        self.is_read = True
        while True:
            while not self._waiting:
                if self._is_closed:
                    return
                self._news.clear()
                await self._news.wait()
            message, taken = self._waiting.popleft()
            if taken.done():  # nobody waits for it: its connection is gone
                continue
            try:
                made = make(message)
            except Fault as fault:
                taken.set_exception(fault)
                continue
            taken.set_result(True)
            yield made


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
