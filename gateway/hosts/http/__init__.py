"""The HTTP host: HTTP/1 on sockets of this process, in the clear or in TLS.

    connection.py    one client: what comes, what is written, and when it is closed
    requests.py      bytes -> HTTPRequest -> admit -> the body -> answer -> HTTPResponse -> bytes
    heads.py         what a head says, held to RFC 9112
    bodies.py        bodies, with a length or in chunks
    exchange.py      a request and its response
    known.py         heads that are known by their bytes, and need not be read again
    site.py          an application of Tornado beside the endpoint
    visits.py        a request that it answers
    websocket.py     WebSocket, once a connection was upgraded
    tls.py           TLS between the two

A request is judged by its head, so that one that is refused never sees ``100 Continue``. A body beyond the limit is
answered at once, and what is still sent of it is read and thrown away for a while, because closing at once would reset
the connection before the client has read the response. Clients that are slow, or too many, are closed by
gateway/hosts/connections.py. A call that never waits is answered without a task, see gateway/hosts/eager.py.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from gateway.hosts.connections import Connections
from gateway.hosts.http.connection import Connection
from gateway.hosts.http.known import KnownHeads
from gateway.hosts.http.requests import Requests, Retiring
from gateway.hosts.http.tls import TLS
from gateway.hosts.http.visits import Site
from gateway.model.http import Admission, Know
from gateway.model.limits import Limits
from gateway.model.websocket import WebSockets

_TURNS = 20  # of the loop, in which a connection that is closed has its end


class HTTPHost:
    """An HTTP server for one endpoint.

    Attributes:
        connections: who is connected.
        calls: the requests whose answers take their time.
        tls: how connections that are still to come are encrypted, None for not at all. It may be replaced at any time.
        admit: judges a request by its head.
        limits: what is kept to.
        known: the heads that were judged and are kept, None where none are.
        site: what is served beside the endpoint, None for nothing.
        websockets: what WebSocket is spoken for, None for nothing.
        sockets: the connections that speak it, and the responses that are sent as they come.

    """

    def __init__(  # noqa: PLR0913, PLR0917 - each is a part of what is served
        self,
        admit: Admission,
        limits: Limits,
        is_proxy: Callable[[str], bool] = lambda _: False,
        tls: ssl.SSLContext | None = None,
        know: Know | None = None,
        site: Site | None = None,
        websockets: WebSockets | None = None,
    ) -> None:
        self.connections: Connections[Connection] = Connections(limits, is_proxy)
        self.calls: set[Any] = set()
        self.tls = tls
        self.admit = admit
        self.limits = limits
        self.known = None if know is None else KnownHeads(know, limits.max_body)
        self.site = site
        self.websockets = websockets
        self.sockets: set[Retiring] = set()
        self._openings: dict[Connection, asyncio.Task[Any]] = {}

    def serve(self, sockets: Iterable[socket.socket]) -> None:
        """Accept on sockets that are bound (gateway/hosts/listening.py), which are the host's own from now on."""
        self.connections.serve(sockets, self._connect)

    def retire(self) -> None:
        """Accept nothing more. Each connection ends with its next response."""
        self.connections.retire()
        for each in tuple(self.sockets):
            each.retire()

    async def drain(self, seconds: float) -> None:
        """Wait until no request is being read, beyond its head, or answered; for so long at most. Retire it first."""
        await self.connections.drain(seconds)

    async def close(self) -> None:
        """Close the connections. Retire it first."""
        self.connections.close()
        for _ in range(_TURNS):
            if not self.connections:
                break
            await asyncio.sleep(0)

    def connected(self) -> int:
        """Count the connections."""
        return len(self.connections)

    def running(self) -> int:
        """Count the requests whose calls run."""
        return len(self.calls)

    def give_up(self, connection: Connection) -> None:
        """Close a connection that has not begun, or is still shaking hands."""
        opening = self._openings.get(connection)
        if opening is not None:
            opening.cancel()

    def _connect(self, accepted: socket.socket, peer: str) -> None:
        accepted.setblocking(False)  # noqa: FBT003 - the standard library's signature
        connection = Connection(self, accepted, peer)
        connection.reader = Requests(self, connection)
        protocol: asyncio.Protocol = connection if self.tls is None else TLS(connection, self.tls)
        self.connections.add(connection)
        if self.tls is None:
            self.connections.note_idle(connection)
        loop = asyncio.get_running_loop()
        opening = loop.create_task(loop.connect_accepted_socket(lambda: protocol, accepted))
        self._openings[connection] = opening
        opening.add_done_callback(lambda done: self._opened(connection, done))

    def _opened(self, connection: Connection, opening: asyncio.Task[Any]) -> None:
        del self._openings[connection]
        if opening.cancelled() or opening.exception() is not None:  # the client was gone already
            connection.connection_lost(None)
