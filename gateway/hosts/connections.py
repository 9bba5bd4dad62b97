"""The connections of a host: how many there may be, who is closed when, and what one client may take.

    a phase                                                  its clock
    idle     nothing of the next request has been received   idle_timeout, from the last response
    begun    a handshake, or a head, is not whole yet        head_timeout
    body     a body, or a message without a head             body_timeout
    busy     the request is whole: its call runs             none
    linger   refused; what is still sent is thrown away      linger

In every phase, a client that takes nothing of its response for write_timeout is closed. One sweep over all connections
looks at the clocks, instead of a timer for each.

At the limit, a connection is closed for a new one only if its client has kept it waiting for a while: the one that has
been idle for longest, then the one that has owed the rest of a head for longest, then the one whose body has made no
progress for longest. None that has sent something which the host has not read yet is closed. If there is nothing to
close, new connections wait in the kernel's queue.
"""

import asyncio
import logging
import resource
import select
import socket
import time
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from typing import Generic, Protocol, TypeAlias, TypeVar

from msgspec import Struct

from gateway.hosts.fairness import Crowd, Debtor, Debts
from gateway.hosts.listening import Listener
from gateway.model.limits import Limits

log = logging.getLogger("gateway")

_SWEEP = 0.5  # seconds; each limit strikes at most twice as much too late
_TICK = 0.02  # seconds between two looks at what has not ended yet
_OWN = 48  # descriptors that a worker has for itself, and those of a turn's connections, which close at its end
_NEVER = float("inf")
_RESTED = 1.0  # seconds after which an idle connection, or one that owes a head, is closed for another one
_STUCK = 5.0  # seconds after which one whose body makes no progress is; a lost packet is sent again within three
_PROGRESS = 1024  # bytes of a body that are progress; so a body of a mebibyte may come at 200 bytes a second


class Connection(Debtor, Hashable, Protocol):
    """What there is to know of a connection.

    Attributes:
        peer: the address at its other end, without a port.

    """

    peer: str

    def descriptor(self) -> int:
        """Return the descriptor of its socket; -1 without one."""

    def unsent(self) -> int:
        """Return how many bytes of responses its client has not taken."""

    def close(self) -> None:
        """Close it."""


C = TypeVar("C", bound=Connection)
_Phase: TypeAlias = dict[C, None]  # the connections in it, in the order in which they entered it or made progress


class _Clock(Struct, Generic[C], eq=False):
    """A connection's phase and times.

    Attributes:
        phase: what it is in.
        since: when it entered its phase, or has last made progress in it; by time.monotonic, as all times here.
        due: when it is closed, if nothing happens until then.
        got: how many bytes of a body it has sent since it last made progress.
        taken: how many bytes it had taken when it was last seen to take something.
        taken_at: when that was.
        client: whose request it carries for a proxy, if that is counted.

    """

    phase: _Phase[C]
    since: float
    due: float
    got: int = 0
    taken: int = -1
    taken_at: float = 0.0
    client: str | None = None


class Connections(Generic[C]):
    """The connections of a host.

    Args:
        limits: what is kept to.
        is_proxy: tells which peers bring the requests of many clients.

    Attributes:
        retired: whether each response is the last one of its connection.

    """

    def __init__(self, limits: Limits, is_proxy: Callable[[str], bool]) -> None:
        self.retired = False
        self._limits = limits
        self._capacity = capacity(limits.connections)
        self._crowd = Crowd(limits.client_connections, is_proxy)
        self._debts = Debts(limits.unread)
        self._clocks: dict[C, _Clock[C]] = {}
        self._idle: _Phase[C] = {}
        self._begun: _Phase[C] = {}
        self._body: _Phase[C] = {}
        self._busy: _Phase[C] = {}
        self._linger: _Phase[C] = {}
        self._connect: Callable[[socket.socket, str], None]
        self._listener: Listener
        self._sweeper: asyncio.TimerHandle
        self._crowded = 0
        self._cut_off = 0

    def __len__(self) -> int:
        return len(self._clocks)

    def __contains__(self, connection: object) -> bool:
        return connection in self._clocks

    def serve(self, sockets: Iterable[socket.socket], connect: Callable[[socket.socket, str], None]) -> None:
        """Accept on bound sockets.

        ``connect`` gets each accepted socket, and the address at its other end. It adds a connection, or raises OSError
        where the client is gone already.
        """
        self._connect = connect
        self._listener = Listener(sockets, self._has_room, lambda accepted, address: self._take(accepted, address[0]))
        self._sweep()

    def retire(self) -> None:
        """Accept nothing more."""
        self.retired = True
        self._listener.close()

    async def drain(self, seconds: float) -> None:
        """Wait until no body is being read, no call runs, and no response is unsent; for so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._is_owing():  # noqa: ASYNC110 - they end in many ways
                    await asyncio.sleep(_TICK)

    def close(self) -> list[C]:
        """Close all connections, and return them. Retire first."""
        self._sweeper.cancel()
        connections = list(self._clocks)
        for connection in connections:
            connection.close()
        return connections

    def add(self, connection: C) -> None:
        """Add one, which has to shake hands, or to say that it is idle."""
        now = time.monotonic()
        self._clocks[connection] = _Clock(self._begun, now, now + self._limits.head_timeout)
        self._begun[connection] = None

    def forget(self, connection: C) -> None:
        """Drop one that is closed; one that is not known is fine."""
        clock = self._clocks.pop(connection, None)
        if clock is None:
            return
        clock.phase.pop(connection, None)
        self._release(clock)
        self._debts.forget(connection)
        self._crowd.leave(connection.peer)
        self._listener.resume()

    def is_idle(self, connection: C) -> bool:
        """Tell whether nothing of its next request has been received."""
        return connection in self._idle

    def note_idle(self, connection: C) -> None:
        """Note that a client may begin its next request."""
        clock = self._move(connection, self._idle, self._limits.idle_timeout)
        if clock is not None and clock.client is not None:
            self._release(clock)

    def note_quiet(self, connection: C, seconds: float) -> None:
        """Note that a client need not send anything for so long; what it counts for goes on."""
        if connection not in self._idle:
            self._move(connection, self._idle, seconds)

    def note_begun(self, connection: C) -> None:
        """Note that a client has begun the head of a request."""
        self._move(connection, self._begun, self._limits.head_timeout)

    def note_body(self, connection: C, begun: float | None = None) -> None:
        """Note that a client sends a body, or a message that has no head; since when, if it was not just begun."""
        clock = self._clocks.get(connection)
        due = (time.monotonic() if begun is None else begun) + self._limits.body_timeout
        if clock is not None and not (clock.phase is self._body and clock.due == due):
            self._move(connection, self._body, 0)
            clock.due = due

    def note_progress(self, connection: C, size: int) -> None:
        """Note that so many bytes more of a body have been received."""
        clock = self._clocks.get(connection)
        if clock is None or clock.phase is not self._body:
            return
        clock.got += size
        if clock.got >= _PROGRESS:
            self._touch(connection, clock)

    def note_busy(self, connection: C) -> None:
        """Note that the whole of a request is here: what happens now is not up to the client."""
        self._move(connection, self._busy, _NEVER)

    def note_linger(self, connection: C) -> None:
        """Note that what a client still sends is thrown away, if it was not so before."""
        if connection not in self._linger:
            self._move(connection, self._linger, self._limits.linger)

    def note_written(self, connection: C) -> None:
        """Note that a response was written; the slowest readers are closed where too much is unsent."""
        self._debts.wrote(connection)

    def count(self, connection: C, client: str) -> bool:
        """Count a request that a proxy brings for a client, until its connection is idle or closed.

        Returns:
            False where the client has too many already, and nothing is counted.

        """
        clock = self._clocks.get(connection)
        if clock is None or client == connection.peer or not self._crowd.brings_many(connection.peer):
            return True
        if clock.client is not None:  # for this request
            return True
        if not self._crowd.enter(client):
            return False
        clock.client = client
        return True

    def _release(self, clock: _Clock[C]) -> None:
        if clock.client is not None:
            self._crowd.leave(clock.client)
            clock.client = None

    def _move(self, connection: C, phase: _Phase[C], seconds: float) -> _Clock[C] | None:
        clock = self._clocks.get(connection)
        if clock is None:  # it was closed for another one
            return None
        clock.phase.pop(connection, None)
        phase[connection] = None
        clock.phase, clock.since, clock.got = phase, time.monotonic(), 0
        clock.due = clock.since + seconds
        return clock

    def _touch(self, connection: C, clock: _Clock[C]) -> None:
        """Put one behind all others of its phase; it is due when it was."""
        del clock.phase[connection]
        clock.phase[connection] = None
        clock.since, clock.got = time.monotonic(), 0

    def _is_owing(self) -> bool:
        owed = self._body or self._busy or self._linger
        return bool(owed) or any(connection.unsent() for connection in self._idle)

    def _has_room(self) -> bool:
        return len(self._clocks) < self._capacity or self._closable() is not None

    def _take(self, accepted: socket.socket, peer: str) -> None:
        if not self._crowd.enter(peer):
            self._crowded += 1
            accepted.close()
            return
        try:
            self._make_room()
            self._connect(accepted, peer)
        except OSError:
            self._crowd.leave(peer)
            accepted.close()

    def _make_room(self) -> None:
        if len(self._clocks) < self._capacity or (closable := self._closable()) is None:
            return
        self._cut_off += closable in self._body
        self.forget(closable)
        closable.close()

    def _closable(self) -> C | None:
        """Find the one that is closed for another one."""
        now = time.monotonic()
        for phase, seconds in ((self._idle, _RESTED), (self._begun, _RESTED), (self._body, _STUCK)):
            while (oldest := next(iter(phase), None)) is not None:
                clock = self._clocks[oldest]
                if now - clock.since < seconds:
                    break
                if not _is_readable(oldest.descriptor()):
                    return oldest
                if phase is self._idle:  # the host is late, not the client
                    self.note_begun(oldest)
                else:
                    self._touch(oldest, clock)
        return None

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection, clock in list(self._clocks.items()):
            if connection.unsent():
                if clock.taken != (taken := connection.taken()):
                    clock.taken, clock.taken_at = taken, now
                if now - clock.taken_at > self._limits.write_timeout:
                    connection.reset()
            elif clock.due < now:
                connection.close()
        self._report()
        self._listener.resume()
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)

    def _report(self) -> None:
        if self._crowded:
            log.warning("connections closed because their clients have too many: %d", self._crowded)
        if self._cut_off:
            log.warning("requests cut off because their bodies made no progress and others waited: %d", self._cut_off)
        self._crowded = self._cut_off = 0


def capacity(connections: int) -> int:
    """Return how many connections there may be: an eighth of all descriptors is left for everything else."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return connections
    return min(connections, max(1, descriptors - max(descriptors // 8, _OWN)))


def _is_readable(descriptor: int) -> bool:
    """Tell whether something has been received that nobody has read yet, the end of the stream included."""
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
