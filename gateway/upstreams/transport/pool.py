"""Connections to an upstream: made when they are needed, few, lent out and taken back.

    pool = Pool(connect, size=4)                one call at a time on each connection
    pool = Pool(connect, size=4, share=256)     up to 256 at a time, for protocols whose responses have an id
    async with pool.lend(invocation) as connection: ...
    lent = pool.lend_now(outcome)               the same without a coroutine, where a connection is free

A connection is lent again only if it is ``usable``: open, with no byte in it that a later
call could take for its response. Whatever leaves the block as an exception (a deadline and a caller who has hung
up come as CancelledError) closes a connection that is not shared; so what is not a failure of the connection,
like an upstream's own fault, must be raised after the block. Waiting for a connection is part of the call, and ends
with it.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

from gateway.upstreams import Invocation, Outcome


class Connection(Protocol):
    """What a pool asks of a connection."""

    def usable(self) -> bool:
        """Tell whether the next call can have it."""

    def close(self) -> None:
        """Close it at once, without sending what is still to be sent; twice is once."""


C = TypeVar("C", bound=Connection)


class _Held(Generic[C]):
    """A place of the pool: its connection, once it is made, and the calls that have it."""

    def __init__(self) -> None:
        self.connection: C | None = None
        self.calls = 1


class Lent(Generic[C]):
    """A connection that is lent until the outcome of its call is told here, and passed on from here.

    Attributes:
        connection: the connection.

    """

    __slots__ = ("_held", "_is_over", "_outcome", "_pool", "connection")

    def __init__(self, pool: "Pool[C]", held: _Held[C], connection: C, outcome: Outcome) -> None:
        self.connection = connection
        self._pool = pool
        self._held = held
        self._outcome = outcome
        self._is_over = False

    def done(self) -> bool:
        """Tell whether the connection was given back."""
        return self._is_over

    def set_result(self, value: Any) -> None:
        """Give the connection back, and pass the result on."""
        self._end()
        self._outcome.set_result(value)

    def set_exception(self, error: Exception) -> None:
        """Give the connection back, closed if nobody shares it, and pass the exception on."""
        self.cancel()
        self._outcome.set_exception(error)

    def cancel(self) -> None:
        """Give the connection back, closed if nobody shares it."""
        if not self._pool.is_shared:
            self.connection.close()
        self._end()

    def _end(self) -> None:
        self._is_over = True
        self._pool.give_back(self._held)


class Pool(Generic[C]):
    """At most ``size`` connections, each for ``share`` calls at a time.

    ``connect`` makes one within its own time limit, and raises what is in the adapter's table of failures.

    Attributes:
        is_shared: whether a connection can have several calls.

    """

    def __init__(self, connect: Callable[[], Awaitable[C]], size: int, share: int = 1) -> None:
        self._connect = connect
        self._size = size
        self._share = share
        self._held: list[_Held[C]] = []
        self._turns: deque[asyncio.Event] = deque()
        self.is_shared = share > 1

    def __len__(self) -> int:
        """Count the connections, those too that are being made."""
        return len(self._held)

    @asynccontextmanager
    async def lend(self, invocation: Invocation | None = None) -> AsyncIterator[C]:
        """Lend a connection for an invocation, and wait for one where others have them all.

        Raises:
            Exception: what ``connect`` raises.

        """
        held = await self._take(invocation)
        assert held.connection is not None  # noqa: S101 - _take has seen it
        try:
            yield held.connection
        except BaseException:
            if not self.is_shared:
                held.connection.close()
            raise
        finally:
            self.give_back(held)

    def lend_now(self, outcome: Outcome) -> Lent[C] | None:
        """Lend a connection that is there and free until an outcome is told; None where there is none."""
        if self._turns:
            return None
        held = min((each for each in self._held if each.calls < self._share), key=_calls, default=None)
        if held is None or (held.calls and len(self._held) < self._size) or not _is_usable(held):
            return None
        assert held.connection is not None  # noqa: S101 - it is usable
        held.calls += 1
        return Lent(self, held, held.connection, outcome)

    def close(self) -> None:
        """Close all connections; the calls that have them fail."""
        for held in self._held:
            if held.connection is not None:
                held.connection.close()
        self._held = [held for held in self._held if held.calls]

    async def _take(self, invocation: Invocation | None) -> _Held[C]:
        held = await self._wait(invocation) if self._turns or not self._has_room() else self._found()
        if held.connection is None:
            await self._fill(held)
        return held

    async def _wait(self, invocation: Invocation | None) -> _Held[C]:
        """Wait behind those who wait already."""
        turn = asyncio.Event()
        if invocation is not None:
            invocation.waits = True
        self._turns.append(turn)
        try:
            while self._turns[0] is not turn or not self._has_room():
                turn.clear()
                await turn.wait()
            if invocation is not None:
                invocation.waits = False
            return self._found()
        finally:
            self._turns.remove(turn)
            self._call_next()

    def _has_room(self) -> bool:
        self._drop_unusable()
        return len(self._held) < self._size or self._least_busy() is not None

    def _found(self) -> _Held[C]:
        """Take an idle connection, or the place of a new one, or a share of the least busy one, in this order."""
        busy = self._least_busy()
        if busy is not None and (busy.calls == 0 or len(self._held) >= self._size):
            busy.calls += 1
            return busy
        self._held.append(_Held())
        return self._held[-1]

    def _least_busy(self) -> _Held[C] | None:
        free = [held for held in self._held if held.calls < self._share and _is_usable(held)]
        return min(free, key=_calls, default=None)

    async def _fill(self, held: _Held[C]) -> None:
        try:
            held.connection = await outside(self._connect)
        except BaseException:
            self._held.remove(held)
            raise
        finally:
            self._call_next()

    def _call_next(self) -> None:
        if self._turns and self._has_room():
            self._turns[0].set()

    def give_back(self, held: _Held[C]) -> None:
        """Take a connection back that was lent."""
        held.calls -= 1
        if self._turns or not _is_usable(held):
            self._drop_unusable()
            self._call_next()

    def _drop_unusable(self) -> None:
        """Close what has lost its place, as soon as nobody has it any more."""
        lost = [held for held in self._held if not held.calls and not _is_usable(held)]
        for held in lost:
            if held.connection is not None:
                held.connection.close()
            self._held.remove(held)


async def outside(connect: Callable[[], Awaitable[C]]) -> C:
    """Connect outside of the call that needs it: a transport keeps the context variables of whoever has made it."""

    async def connected() -> C:
        return await connect()

    making = asyncio.get_running_loop().create_task(connected(), context=contextvars.Context())
    try:
        return await making
    except asyncio.CancelledError:
        if making.done() and not making.cancelled() and making.exception() is None:
            making.result().close()
        raise


def _calls(held: _Held[C]) -> int:
    return held.calls


def _is_usable(held: _Held[C]) -> bool:
    return held.connection is not None and held.connection.usable()
