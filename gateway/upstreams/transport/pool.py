"""Connections to an upstream: made when they are needed, few, lent out and taken back.

    pool = Pool(connect, size=4)                one call at a time on each connection
    pool = Pool(connect, size=4, share=256)     up to 256 at a time, for protocols whose responses have an id
    async with pool.lend(invocation) as connection: ...
    lent = pool.lend_to(outcome, invocation, send)      the same without a coroutine

A connection is lent again only if it is ``usable``: open, with no byte in it that a later
call could take for its response. Whatever leaves the block as an exception (a deadline and a caller who has hung
up come as CancelledError) closes a connection that is not shared; so what is not a failure of the connection,
like an upstream's own fault, must be raised after the block. Waiting for a connection is part of the call, and ends
with it.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, Protocol, TypeVar, cast

from gateway.upstreams import Cancel, Invocation, Outcome


class Connection(Protocol):
    """What a pool asks of a connection."""

    def usable(self) -> bool:
        """Tell whether the next call can have it."""

    def close(self) -> None:
        """Close it at once, without sending what is still to be sent; twice is once."""


C = TypeVar("C", bound=Connection)


class _Held(Generic[C]):
    """A place of the pool: its connection, once it is made, the calls that have it, and how many may."""

    def __init__(self) -> None:
        self.connection: C | None = None
        self.calls = 1
        self.share = 1


class Lent(Generic[C]):
    """A connection for a call that nobody waits for, from when it is asked for until the outcome of the call is told.

    The outcome is told here, and passed on from here.
    """

    __slots__ = ("_held", "_invocation", "_is_over", "_outcome", "_pool", "_send", "_stop", "connection")

    def __init__(
        self, pool: "Pool[C]", outcome: Outcome, invocation: Invocation, send: Callable[["Lent[C]", C], Cancel | None]
    ) -> None:
        self._pool = pool
        self._outcome = outcome
        self._invocation = invocation
        self._send = send
        self._held: _Held[C] | None = None  # None while it waits
        self._stop: Callable[[], object] | None = None  # what else there is to stop when it is cancelled
        self._is_over = False

    def done(self) -> bool:
        """Tell whether the outcome was told, or is not wanted any more."""
        return self._is_over

    def set_result(self, value: Any) -> None:
        """Give the connection back, and pass the result on."""
        self._end()
        self._outcome.set_result(value)

    def set_exception(self, error: Exception) -> None:
        """Give the connection back, closed if nobody shares it, and pass the exception on."""
        self._give_up()
        self._outcome.set_exception(error)

    def cancel(self) -> None:
        """Wait no more, or give the connection back, closed if nobody shares it."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
        if self._held is None:
            self._is_over = True
            self._pool.forget(self)
        else:
            self._give_up()

    def wait(self) -> None:
        """Take note that others have all connections."""
        self._invocation.waits = True

    def use(self, held: _Held[C]) -> None:
        """Send the call on a connection.

        Raises:
            Exception: it cannot be sent; the connection was given back.

        """
        assert held.connection is not None  # noqa: S101 - who calls has seen it
        self._held = held
        try:
            self._stop = self._send(self, held.connection)
        except BaseException:
            self._give_up()
            raise

    def use_late(self, held: _Held[C]) -> None:
        """Do so after a while, so that whoever waits is told if it cannot be sent."""
        self._invocation.waits = False
        try:
            self.use(held)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome of this call
            self._outcome.set_exception(error)

    def connect(self, held: _Held[C], connecting: Coroutine[Any, Any, None]) -> None:
        """Wait for a connection that is being made, and send the call on it."""
        self._invocation.waits = False
        making = asyncio.get_running_loop().create_task(connecting)
        self._stop = making.cancel
        making.add_done_callback(lambda done: self._connected(held, done))

    def _connected(self, held: _Held[C], making: asyncio.Task[None]) -> None:
        self._stop = None
        error = None if making.cancelled() else making.exception()
        if making.cancelled() or error is not None:
            self._pool.lose(held)
        elif self._is_over:
            self._pool.give_back(held)
        elif not _is_usable(held):  # it broke since it was made
            self._pool.give_back(held)
            error = EOFError()
        else:
            self.use_late(held)
        if error is not None and not self._is_over:
            self._is_over = True
            self._outcome.set_exception(cast("Exception", error))

    def _give_up(self) -> None:
        held = self._held
        assert held is not None  # noqa: S101 - it has a connection
        if not self._pool.is_shared and held.connection is not None:
            held.connection.close()
        self._end()

    def _end(self) -> None:
        assert self._held is not None  # noqa: S101 - it has a connection
        self._is_over = True
        self._stop = None  # it may hold this
        self._pool.give_back(self._held)


class Pool(Generic[C]):
    """At most ``size`` connections, each for ``share`` calls at a time.

    ``connect`` makes one within its own time limit, and raises what is in the adapter's table of failures. One that is
    told by its server to take fewer calls than ``share`` says so in ``most_calls``.

    Attributes:
        is_shared: whether a connection can have several calls.

    """

    def __init__(self, connect: Callable[[], Awaitable[C]], size: int, share: int = 1) -> None:
        self._connect = connect
        self._size = size
        self._share = share
        self._held: list[_Held[C]] = []
        self._turns: deque[asyncio.Event | Lent[C]] = deque()  # who waits, in the order of their coming
        self.is_shared = share > 1

    def __len__(self) -> int:
        """Count the connections, those too that are being made."""
        return len(self._held)

    def load(self) -> tuple[int, int]:
        """Count the connections, and the calls that wait for one."""
        return len(self._held), len(self._turns)

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

    def lend_to(self, outcome: Outcome, invocation: Invocation, send: Callable[[Lent[C], C], Cancel | None]) -> Lent[C]:
        """Lend a connection for an invocation whose outcome is told later, to what is returned.

        ``send`` sends the call, at once where a connection is free, and later where one must be made or others have
        them all. It returns what there is to stop when the call is cancelled, beside giving the connection back.

        Raises:
            Exception: what ``send`` raises at once.

        """
        lent = Lent(self, outcome, invocation, send)
        free = None if self._turns else self._free()
        if free is not None:
            free.calls += 1
            lent.use(free)
        elif self._turns or not self._has_room():
            lent.wait()
            self._turns.append(lent)
        elif (held := self._found()).connection is None:
            lent.connect(held, self._fill(held))
        else:
            lent.use(held)
        return lent

    def _free(self) -> _Held[C] | None:
        """Return a connection that nobody has; or the least busy one, where there can be no more."""
        least: _Held[C] | None = None
        for held in self._held:
            if not held.calls:
                return held if _is_usable(held) else None
            if held.calls < held.share and (least is None or held.calls < least.calls):
                least = held
        return least if least is not None and len(self._held) >= self._size and _is_usable(least) else None

    def forget(self, lent: Lent[C]) -> None:
        """Let a call wait no more; it does not matter if it does not."""
        with suppress(ValueError):
            self._turns.remove(lent)

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
        free = [held for held in self._held if held.calls < held.share and _is_usable(held)]
        return min(free, key=_calls, default=None)

    async def _fill(self, held: _Held[C]) -> None:
        try:
            held.connection = made = await outside(self._connect)
            held.share = min(self._share, getattr(made, "most_calls", self._share))
        except BaseException:
            self.lose(held)
            raise
        self._call_next()

    def lose(self, held: _Held[C]) -> None:
        """Give up a place whose connection was not made, if that has not been done."""
        if held in self._held:
            self._held.remove(held)
            self._call_next()

    def _call_next(self) -> None:
        """Let those who wait have what is free, in the order of their coming."""
        while self._turns and self._has_room():
            first = self._turns[0]
            if isinstance(first, asyncio.Event):
                first.set()
                return
            self._turns.popleft()
            held = self._found()
            if held.connection is None:
                first.connect(held, self._fill(held))
            else:
                first.use_late(held)

    def give_back(self, held: _Held[C]) -> None:
        """Take a connection back that was lent."""
        held.calls -= 1
        if not _is_usable(held):
            self._drop_unusable()
            self._call_next()
        elif self._turns:
            first = self._turns[0]
            if isinstance(first, asyncio.Event):
                first.set()
            else:
                self._turns.popleft()
                held.calls += 1
                first.use_late(held)

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
