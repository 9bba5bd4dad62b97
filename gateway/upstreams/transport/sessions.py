"""Connections to an upstream that keeps state for each of them: one for each caller, where the operator wants that.

    pool = pooled(options, connect)                       Sessions, or a Pool that all callers share
    async with pool.lend(invocation) as connection: ...

A caller is an API key, or else a connection to the gateway. A connection that carries the requests of several clients,
as a proxy's does, is nobody's: without a key such a call is refused. A session ends when it has been idle for a while,
when its connection to the upstream breaks, and with the connection of its caller. When there are too many, one of those
that have the most of them loses one: an address with many connections takes no session away from the others.
"""

import asyncio
import contextvars
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from msgspec import Meta

from gateway.model.calls import Context, current_context
from gateway.model.faults import Denied, Overloaded
from gateway.model.networks import client_of
from gateway.upstreams import Invocation
from gateway.upstreams.transport.pool import Connection, Pool
from gateway.upstreams.transport.pooled import Pooled

C = TypeVar("C", bound=Connection)

Kept: TypeAlias = Annotated[
    Literal["shared", "caller"],
    Meta(
        description="Whose the connections are: all callers share them, or each caller, by API key or else by"
        " connection, has one of its own."
    ),
]
Most: TypeAlias = Annotated[
    int,
    Meta(ge=1, le=10_000, description="Callers with a connection of their own; for one more, an idle one is closed."),
]
Idle: TypeAlias = Annotated[
    float, Meta(gt=0, le=86400, description="Seconds until the connection of an idle caller is closed.")
]
_RETRY_AFTER = 1  # seconds


class SessionOptions(Protocol):
    """What the options of an upstream with sessions have."""

    @property
    def session(self) -> Literal["shared", "caller"]:
        """Whose the connections are."""

    @property
    def sessions(self) -> int:
        """How many callers may have one."""

    @property
    def session_idle(self) -> float:
        """Seconds until an idle one is closed."""

    @property
    def connections(self) -> int:
        """How many there are where they are shared."""


class _Session(Generic[C]):
    """A caller's connection, and whose it is; ``calls`` have it, or wait for it."""

    def __init__(self, caller: Any, owner: tuple[str, str], connect: Callable[[], Awaitable[C]]) -> None:
        self.caller = caller
        self.owner = owner
        self.pool: Pool[C] = Pool(connect, 1)
        self.calls = 0
        self.used = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.pool.close()


class Sessions(Generic[C]):
    """At most ``most`` sessions, each with one call at a time."""

    def __init__(self, connect: Callable[[], Awaitable[C]], most: int, idle: float) -> None:
        self._connect = connect
        self._most = most
        self._idle = idle
        self._held: dict[Any, _Session[C]] = {}  # in the order of their last calls
        self._loop: asyncio.AbstractEventLoop

    def __len__(self) -> int:
        """Count the sessions."""
        return len(self._held)

    def load(self) -> tuple[int, int]:
        """Count the sessions; nobody waits for one."""
        return len(self._held), 0

    @asynccontextmanager
    async def lend(self, invocation: Invocation | None = None) -> AsyncIterator[C]:
        """Lend the caller's connection; without an invocation, one that is closed afterwards.

        Raises:
            Denied: nobody knows whose call it is.
            Overloaded: all sessions have calls.
            Exception: what ``connect`` raises.

        """
        if invocation is None:
            connection = await self._connect()
            try:
                yield connection
            finally:
                connection.close()
            return
        session = self._begin(self._caller())
        try:
            async with session.pool.lend(invocation) as connection:
                yield connection
        finally:
            self._rest(session)

    def close(self) -> None:
        """Close all connections; the calls that have them fail."""
        for session in self._held.values():
            session.close()
        self._held = {}

    def used(self, caller: Any) -> float | None:
        """Return when a caller's session had its last call, in seconds of ``time.monotonic()``; None without one."""
        session = self._held.get(caller)
        return None if session is None else session.used

    def leave(self, caller: Any) -> None:
        """End the session of a caller, unless a call of it runs."""
        self._end(caller)

    def _caller(self) -> Any:
        self._loop = asyncio.get_running_loop()
        return caller_of(current_context(), self._gone)

    def _begin(self, caller: Any) -> _Session[C]:
        """Find the caller's session, or begin it, in the place of another one if there are too many."""
        session = self._held.pop(caller, None)  # and put to the end again
        if session is None and len(self._held) >= self._most:
            self._make_room()
        session = session or _Session(caller, _owner(), self._connect)
        self._held[session.caller] = session
        session.calls += 1
        session.used = time.monotonic()
        if session.timer is not None:
            session.timer.cancel()
        return session

    def _make_room(self) -> None:
        """Close a session: of those who have the most that are idle, the one that has been idle for longest."""
        idle = [held for held in self._held.values() if not held.calls]
        if not idle:
            raise Overloaded("all sessions of this upstream are in use", retry_after=_RETRY_AFTER)
        owned = Counter(held.owner for held in self._held.values())
        closed = max(idle, key=lambda held: owned[held.owner])
        del self._held[closed.caller]
        closed.close()

    def _rest(self, session: _Session[C]) -> None:
        """Begin to count the idle time, when the last call has ended."""
        session.calls -= 1
        if session.calls == 0 and self._held.get(session.caller) is session:
            session.timer = asyncio.get_running_loop().call_later(
                self._idle, self._end, session.caller, context=contextvars.Context()
            )

    def _gone(self, caller: Any) -> None:
        """End the session of a connection that is no more; wherever it was collected as garbage."""
        with suppress(RuntimeError):  # the loop has ended, too
            self._loop.call_soon_threadsafe(self._end, caller)

    def _end(self, caller: Any) -> None:
        session = self._held.get(caller)
        if session is not None and session.calls == 0:
            del self._held[caller]
            session.close()


class SessionPooled(Pooled[Pool[C] | Sessions[C]], Generic[C]):
    """Has sessions in the place of a pool, where the options say so."""

    def used(self, caller: Any) -> float | None:
        """Return when a caller's session here had its last call; None without one."""
        return self._pool.used(caller) if isinstance(self._pool, Sessions) else None

    def leave(self, caller: Any) -> None:
        """End the session of a caller, unless a call of it runs."""
        if isinstance(self._pool, Sessions):
            self._pool.leave(caller)


def caller_of(context: Context, gone: Callable[[Any], None] | None = None) -> Any:
    """Return what stands for the caller of a call: the name of its key, or a weak reference to its connection.

    Args:
        context: of the call.
        gone: is told when the connection is no more.

    Raises:
        Denied: nobody knows whose call it is.

    """
    if context.key is not None:
        return context.key
    if context.connection is None:
        raise Denied("this upstream has a session for each caller: over a shared connection, call with an API key")
    return weakref.ref(context.connection, gone)


def _owner() -> tuple[str, str]:
    """Return whose session the present call begins: the name of the key, or the client's address."""
    context = current_context()
    return ("address", client_of(context.client)) if context.key is None else ("key", context.key)


def pooled(options: SessionOptions, connect: Callable[[], Awaitable[C]]) -> Pool[C] | Sessions[C]:
    """Make what lends the connections of an upstream, as its options say."""
    if options.session == "caller":
        return Sessions(connect, options.sessions, options.session_idle)
    return Pool(connect, options.connections)
