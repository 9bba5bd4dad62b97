"""Who is connected, and until when: the time limits of connections, and their number.

    handshake -> head_timeout -> idle -> idle_timeout, from the last answer to the first byte of the next request
                                 begun -> head_timeout, until the last byte of its head
                                 busy -> body_timeout; none while the call runs; linger behind a refused upload

Beside all of these, an answer of which the client takes nothing for write_timeout ends its connection. One sweep over
all connections looks at the clocks, instead of a timer for each. Raises nothing.
"""

import resource
import time

from msgspec import Struct
from tornado.http1connection import HTTP1ServerConnection

from gateway.hosts.streams import Stream
from gateway.model.limits import Limits

SWEEP = 0.5  # seconds; each limit strikes at most twice as much too late
_OWN = 32  # descriptors that a worker has for itself, with some to spare
_NEVER = float("inf")


class Client(Struct, eq=False):
    """A connection.

    Attributes:
        stream: its bytes.
        address: the peer's, without a port.
        certificate: the common name of its certificate, if it has shown one.
        server: what reads its requests, once its handshake is over.
        requests: how many of its heads have been read.
        due: when it is closed, if nothing happens until then; by the clock of time.monotonic, as all times are here.
        taken: how many bytes it had taken when it was last seen to take something.
        taken_at: when that was.

    """

    stream: Stream
    address: str
    certificate: str | None = None
    server: HTTP1ServerConnection | None = None
    requests: int = 0
    due: float = _NEVER
    taken: int = -1
    taken_at: float = 0.0


class Clients:
    """The connections of a process.

    At one more than there is room for, the one is closed that has been idle for longest; if none is idle, the one that
    has owed the rest of a handshake or of a head for longest. Those whose requests are read or answered stay.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._capacity = capacity(limits.connections)
        self._all: dict[Client, None] = {}
        self._idle: dict[Client, None] = {}  # both in the order in which they came in
        self._begun: dict[Client, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def all(self) -> list[Client]:
        """Return all connections."""
        return list(self._all)

    def busy(self) -> int:
        """Count those whose requests are being read, beyond their heads, or answered."""
        return len(self._all) - len(self._idle) - len(self._begun)

    def has_room(self) -> bool:
        """Tell whether one more can be added."""
        return len(self._all) < self._capacity or bool(self._idle) or bool(self._begun)

    def add(self, client: Client) -> None:
        """Add one, which has to shake hands, or to say that it awaits a request; close another one if need be."""
        if len(self._all) >= self._capacity:
            self._close_one()
        self._all[client] = None
        self._begin(client)

    def forget(self, client: Client) -> None:
        """Drop one that is closed; not to know it is fine."""
        self._all.pop(client, None)
        self._idle.pop(client, None)
        self._begun.pop(client, None)

    def await_head(self, client: Client) -> None:
        """Note that a client may begin its next request."""
        self._begun.pop(client, None)
        self._idle[client] = None
        client.due = time.monotonic() + self._limits.idle_timeout

    def read_body(self, client: Client) -> None:
        """Note that the head of a client's request is here."""
        self._idle.pop(client, None)
        self._begun.pop(client, None)
        client.requests += 1
        client.due = time.monotonic() + self._limits.body_timeout

    def answer(self, client: Client) -> None:
        """Note that a client's whole request is here: what comes now is not up to the client."""
        client.due = _NEVER

    def linger(self, client: Client) -> None:
        """Note that what is still to come of a client's request is thrown away."""
        client.due = time.monotonic() + self._limits.linger

    def sweep(self) -> None:
        """Close those whose time is up, and those that wait for an answer to what is no request."""
        now = time.monotonic()
        for client in self.all():
            if client in self._idle and client.stream.has_bytes():
                # No look at what it is before the next sweep: now it may be the body of a head that was read just now.
                self._begin(client)
            elif self._takes_nothing(client, now):
                client.stream.reset()
            elif self._is_stuck(client):
                client.stream.refuse_garbage()
            elif client.due < now:
                client.stream.close()

    def _takes_nothing(self, client: Client, now: float) -> bool:
        if not client.stream.has_unsent():
            return False
        if client.taken != client.stream.taken():
            client.taken, client.taken_at = client.stream.taken(), now
        return now - client.taken_at > self._limits.write_timeout

    def _is_stuck(self, client: Client) -> bool:
        return client in self._begun and client.stream.holds_garbage()

    def _begin(self, client: Client) -> None:
        self._idle.pop(client, None)
        self._begun[client] = None
        client.due = time.monotonic() + self._limits.head_timeout

    def _close_one(self) -> None:
        while self._idle:
            oldest = next(iter(self._idle))
            if not oldest.stream.has_bytes():
                break
            self._begin(oldest)
        else:
            oldest = next(iter(self._begun))
        self.forget(oldest)
        oldest.stream.close()


def capacity(connections: int) -> int:
    """Return how many connections there may be: an eighth of all descriptors is left for everything else."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return connections
    return min(connections, max(1, descriptors - max(descriptors // 8, _OWN)))
