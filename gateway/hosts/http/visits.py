"""A request that the application beside the calls answers: for so long, it has the connection.

    Visit(host, connection, requests).begin(...)     the connection's reader, until the response is written

Site and Guest are what it asks of the application; site.py has those of Tornado, which is imported only where there is
one.
"""

from typing import Any, Protocol

from gateway.hosts.connections import Connections
from gateway.hosts.http.bodies import BadBodyError, Body
from gateway.hosts.http.connection import Connection, Reader
from gateway.hosts.http.heads import Head
from gateway.model.http import HTTPRequest, HTTPResponse, Visitor
from gateway.model.limits import Limits

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Serving(Protocol):
    """What is asked of the host."""

    connections: Connections[Connection]
    calls: set[Any]
    limits: Limits


class Requests(Reader, Protocol):
    """What reads the connection before and afterwards."""

    def skip(self, body: Body) -> None:
        """Throw away the rest of a body, and end the connection with it."""

    def refuse(self, response: bytes) -> None:
        """Write a response, and close."""


class Guest(Protocol):
    """What is asked of one request that an application answers.

    Attributes:
        body: the body, as far as it was read and not yet taken.
        most: how many bytes it may have.

    """

    body: Body
    most: int

    def begin(self, *, closes: bool) -> None:
        """Hand the request over; ``closes`` tells whether the connection ends with it whatever the head says."""

    def is_full(self) -> bool:
        """Tell whether a piece of the body, or the head, waits to be taken, or no more of it comes."""

    def fed(self) -> None:
        """Take note that there is more of the body."""

    def drained(self) -> None:
        """Take note that the client has taken all that was written."""

    def lose(self) -> None:
        """Take note that the client is gone, or is refused: tell the application."""


class Site(Protocol):
    """What is served beside the calls."""

    def has(self, method: str, target: str) -> bool:
        """Tell whether the application answers a request, because it is neither a call nor about health."""

    def visit(self, request: HTTPRequest, /) -> Visitor | HTTPResponse:
        """Judge by its head who sends a request to the application."""

    def make_guest(self, visit: "Visit", head: Head, body: Body, visitor: Visitor, most: int) -> Guest:
        """Make a guest of a request, whose body may have so many bytes."""


class Visit:
    """A request that an application answers: the reader of its connection, and the carrier of its guest."""

    __slots__ = ("_connection", "_guest", "_host", "_is_over", "_requests")

    def __init__(self, host: Serving, connection: Connection, requests: Requests) -> None:
        self._host = host
        self._connection = connection
        self._requests = requests
        self._guest: Guest
        self._is_over = False

    def begin(self, site: Site, head: Head, body: Body, visitor: Visitor) -> None:
        """Hand the request over to the application."""
        self._guest = guest = site.make_guest(self, head, body, visitor, self._host.limits.max_body)
        self._connection.reader = self
        self._host.calls.add(guest)
        if not body.is_whole:
            self._host.connections.note_body(self._connection)
        guest.begin(closes=self._host.connections.retired)
        if not self._is_over and body.is_whole:
            self._host.connections.note_busy(self._connection)

    # What the connection calls

    def waits(self) -> bool:
        """Tell whether the application has not taken what there is of the body."""
        return self._guest.is_full()

    def step(self) -> bool:
        """Read more of the body."""
        connection, guest = self._connection, self._guest
        begin = connection.at
        try:
            connection.at = guest.body.take(connection.input, begin)
        except BadBodyError:
            self.refuse_guest(_BAD_REQUEST)
            return False
        if guest.body.announced > guest.most:
            self.refuse_guest(_TOO_LARGE)
            return False
        if guest.body.is_whole:
            self._host.connections.note_busy(connection)
        else:
            self._host.connections.note_progress(connection, connection.at - begin)
        guest.fed()
        return False

    def drained(self) -> None:
        """Let the application write on."""
        self._guest.drained()

    def ended(self) -> bool:
        """Take note that the client has hung up."""
        return True

    def lose(self) -> None:
        """Tell the application that the client is gone."""
        self._end()
        self._guest.lose()

    def farewell(self) -> bytes:
        """Write nothing."""
        return b""

    # What the guest calls

    @property
    def scheme(self) -> str:
        """Tell whether the client speaks TLS: https, or http."""
        return self._connection.scheme

    def is_closing(self) -> bool:
        """Tell whether nothing more can be written."""
        return self._is_over or self._connection.is_closing()

    def is_blocked(self) -> bool:
        """Tell whether the client has not taken all that was written."""
        return self._connection.is_blocked

    def send(self, data: bytes) -> None:
        """Write a part of the response."""
        self._connection.write(data)

    def take_more(self) -> None:
        """Read on: what there was of the body has been taken."""
        self._connection.go_on_soon()

    def end_guest(self, *, close: bool) -> None:
        """Go on to the next request, or close: the response is written."""
        self._end()
        self._connection.reader = self._requests
        if not self._guest.body.is_whole:
            self._requests.skip(self._guest.body)
        elif close or self._host.connections.retired:
            self._connection.leave()
        else:
            self._connection.rest()
        self._connection.go_on_soon()

    def refuse_guest(self, response: bytes) -> None:
        """Write a response, and close."""
        self._end()
        self._connection.reader = self._requests
        self._requests.refuse(response)
        self._guest.lose()

    def abort(self) -> None:
        """Close at once."""
        self._connection.abort()

    def _end(self) -> None:
        self._is_over = True
        self._host.calls.discard(self._guest)
