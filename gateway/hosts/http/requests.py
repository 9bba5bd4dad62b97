"""Requests of HTTP, read one after the other from a connection, and their responses.

    bytes -> head -> admit -> body -> answer -> response, in one write
    bytes -> head that is known -> body -> Plain.answer -> response, in one write (known.py)
    bytes -> head -> websockets.admit -> another reader (websocket.py)
    bytes -> head -> site.visit -> another reader, until the response is written (visits.py)

While a call runs, nothing more of its connection is answered.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Any, Protocol

from gateway.hosts.connections import Connections
from gateway.hosts.eager import start
from gateway.hosts.http.bodies import BadBodyError, Body, Chunked, Sized
from gateway.hosts.http.connection import Connection
from gateway.hosts.http.exchange import Exchange
from gateway.hosts.http.heads import BadHeadError, Head, beginning_of, can_begin, read
from gateway.hosts.http.known import Known, KnownHeads
from gateway.hosts.http.visits import Site, Visit
from gateway.hosts.http.websocket import WebSocket
from gateway.model.http import Admission, Admitted, HTTPRequest, HTTPResponse, Pieces
from gateway.model.limits import Limits
from gateway.model.websocket import WebSockets
from gateway.wire.http_responses import head_of_pieces, response_head

log = logging.getLogger("gateway")

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Cancellable(Protocol):
    """A call that runs."""

    def cancel(self) -> object:
        """End it."""


class Retiring(Protocol):
    """What goes on for longer than a call."""

    def retire(self) -> None:
        """Come to an end, because the host retires."""


class Serving(Protocol):
    """What is asked of the host."""

    connections: Connections[Connection]
    calls: set[Any]
    admit: Admission
    limits: Limits
    known: KnownHeads | None
    site: Site | None
    websockets: WebSockets | None
    sockets: set[Retiring]


class Requests:
    """The requests of one connection: its reader."""

    __slots__ = ("_call", "_connection", "_exchange", "_flushed", "_host", "_known")

    def __init__(self, host: Serving, connection: Connection) -> None:
        self._host = host
        self._connection = connection
        self._exchange: Exchange | None = None
        self._call: Cancellable | None = None
        self._flushed: asyncio.Future[None] | None = None  # what waits until the client has taken a piece
        self._known: Known | None = None  # the head of the last request, if it is known

    # What the connection calls

    def waits(self) -> bool:
        """Tell whether the next request has to wait."""
        if self._exchange is not None and self._exchange.is_answered:
            return False  # nothing but the end of a body is awaited
        return self._call is not None or self._connection.is_blocked or not self._connection.has_turn

    def drained(self) -> None:
        """Go on, now that the client has taken all that was written."""
        if self._flushed is not None:
            if not self._flushed.done():
                self._flushed.set_result(None)
        elif not self._connection.is_deaf:
            if self._exchange is None and self._call is None:
                self._host.connections.note_idle(self._connection)
            self._connection.go_on()

    def ended(self) -> bool:
        """Cancel the call that runs, because the client has hung up; True where there was one."""
        if self._call is None:
            return False
        self._call.cancel()
        return True

    def lose(self) -> None:
        """Forget what was read, and cancel the call that runs."""
        self._exchange = None
        if self._call is not None:
            self._host.calls.discard(self._call)
            self._call.cancel()

    def farewell(self) -> bytes:
        """Write nothing."""
        return b""

    def step(self) -> bool:
        """Read a request and begin to answer it; False where more bytes are needed, or nothing more is read."""
        if self._connection.is_deaf or (self._exchange is None and not self._reads_head()):
            return False
        exchange = self._exchange
        if exchange is None or self._call is not None:  # its head was known: it was answered, or its call runs
            return self._connection.at < len(self._connection.input)
        if not self._reads_body(exchange):
            return False
        if exchange.is_answered:
            self._leave()
        elif exchange.known is not None:
            if not self._answers_plainly(exchange.known, exchange.body.data()):
                self._answer_fully(exchange.known, exchange.body.data())
        elif exchange.admitted is None:
            self._respond(exchange.refusal)
        else:
            self._begin(exchange.admitted, exchange.body.data())
        return True

    def _reads_head(self) -> bool:
        """Read the head of the next request, and have it judged; False where it is not here or not one."""
        connection, known = self._connection, self._known
        data, at = connection.input, connection.at
        if known is not None and data.startswith(known.head, at):
            end = at + len(known.head)
        elif known is not None and (again := known.again(data, at, self._host.limits.max_header)) is not None:
            self._known = known = again
            end = at + len(known.head)
        else:
            end = data.find(b"\r\n\r\n", at) + 4
            if end < 4 or end - at > self._host.limits.max_header:
                if at < len(data):
                    self._look_at_beginning(data[at : at + self._host.limits.max_header + 1])
                return False
            heads = self._host.known
            known = None if heads is None else heads.find(data[at:end], connection.peer, connection.certificate)
            self._known = known
        connection.at = end
        if known is None or self._host.connections.retired:
            return self._reads_unknown(data[at:end])
        connection.at = end + known.length
        if connection.at > len(data):
            connection.at = end
            self._exchange = Exchange(Sized(known.length), known=known)
        elif not self._answers_plainly(known, data[end : connection.at]):
            self._answer_fully(known, data[end : connection.at])
        return True

    def _reads_unknown(self, data: bytes) -> bool:
        """Read a head that is not known, and have it judged; False where it is not one."""
        try:
            head = read(data)
        except BadHeadError:
            self.refuse()
            return False
        body: Body = Chunked() if head.length is None else Sized(head.length)
        ways = self._host.websockets
        if ways is not None and head.target.partition("?")[0] == ways.path:
            self._upgrade(ways, head, body)
            return True
        if self._host.site is not None and self._host.site.has(head.method, head.target):
            self._hand_over(self._host.site, head, body)
            return True
        self._exchange = exchange = Exchange(body, head)
        self._judge(exchange, data)
        if not head.expects:
            return True
        if exchange.admitted is None and not exchange.is_answered:
            self._respond(exchange.refusal, close=True)
            return False
        if exchange.admitted is not None and not exchange.body.is_whole:
            self._connection.write(_CONTINUE)
        return True

    def _look_at_beginning(self, data: bytes) -> None:
        """Look at what has come of a head that is not whole, or is too large."""
        if not can_begin(data):
            self.refuse()
        elif len(data) <= self._host.limits.max_header:
            if self._host.connections.is_idle(self._connection):
                self._host.connections.note_begun(self._connection)
        else:
            head = beginning_of(data, self._connection.peer)
            refused = self._host.admit(head)
            if not isinstance(refused, HTTPResponse) or refused.status < HTTPStatus.BAD_REQUEST:
                refused = HTTPResponse(status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            self.refuse(response_head(refused, ("close",)) + (b"" if head.method == "HEAD" else refused.body))

    def _judge(self, exchange: Exchange, data: bytes = b"") -> None:
        """Have a request judged by its head, and keep the bytes of that, if they are given."""
        head = exchange.head
        assert head is not None  # noqa: S101 - it has just been read
        request = self._request(head)
        if data and self._host.known is not None:
            self._host.known.learn(data, head, request)
        admitted = self._host.admit(request)
        is_too_long = exchange.body.announced > self._host.limits.max_body
        if isinstance(admitted, HTTPResponse):
            exchange.refuse(admitted)
        elif is_too_long:
            exchange.refuse(admitted.too_large())
        elif self._host.connections.count(self._connection, admitted.client):
            exchange.admitted = admitted
        else:
            exchange.refuse(admitted.too_many())
        if is_too_long and not head.expects:
            self._answer_early(exchange)

    def _request(self, head: Head) -> HTTPRequest:
        return HTTPRequest(
            method=head.method,
            target=head.target,
            headers=head.headers,
            peer=self._connection.peer,
            certificate=self._connection.certificate,
            connection=self._connection,
            takes_pieces=True,
        )

    def _reads_body(self, exchange: Exchange) -> bool:
        """Read on in a body; False where it is not whole."""
        body, begin = exchange.body, self._connection.at
        try:
            self._connection.at = body.take(self._connection.input, begin)
        except BadBodyError:
            self.refuse()
            return False
        if body.announced > self._host.limits.max_body and not exchange.is_answered:
            self._answer_early(exchange)
        if body.is_whole:
            return True
        if not exchange.is_slow and not exchange.is_answered:
            exchange.is_slow = True
            self._host.connections.note_body(self._connection)
        self._host.connections.note_progress(self._connection, self._connection.at - begin)
        return False

    def _answer_early(self, exchange: Exchange) -> None:
        """Refuse a body that is too large before it has ended, and go on reading it for a while.

        To close at once would reset the connection before the client has read the response.
        """
        if exchange.admitted is not None:
            exchange.refuse(exchange.admitted.too_large())
        exchange.is_answered = True
        self._respond(exchange.refusal, close=True)
        self._host.connections.note_linger(self._connection)

    def _answers_plainly(self, known: Known, body: bytes) -> bool:
        """Answer a request with a head that is known; False where it takes the full way, and nothing was done."""
        plain, connection, connections = known.plain, self._connection, self._host.connections
        if plain.client != connection.peer and not connections.count(connection, plain.client):
            return False
        answer = plain.answer(body, known.request_id, known.wish, connection, self._respond_late, known.trace)
        if answer is None:
            return False
        self._exchange = None
        if isinstance(answer, bytes):
            connection.write(answer)
            connection.rest()
        else:
            self._call = answer
            self._host.calls.add(answer)
            connections.note_busy(connection)
        return True

    def _answer_fully(self, known: Known, body: bytes) -> None:
        """Answer a request with a head that is known, but which is not plain after all."""
        self._exchange = exchange = Exchange(Sized(0), read(known.head))
        self._judge(exchange)
        if exchange.admitted is None:
            self._respond(exchange.refusal)
        else:
            self._begin(exchange.admitted, body)

    def _respond_late(self, response: bytes) -> None:
        """Write the response of a call that took its time."""
        self._host.calls.discard(self._call)
        self._call = None
        if self._connection.is_closing():
            return
        if self._host.connections.retired:
            self._connection.write(response.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            self._leave()
        else:
            self._connection.write(response)
            self._connection.rest()
            self._connection.go_on()

    def _begin(self, admitted: Admitted, body: bytes) -> None:
        task = start(self._answer(admitted, body))
        if task is not None:
            self._call = task
            self._host.calls.add(task)
            self._host.connections.note_busy(self._connection)
            task.add_done_callback(self._ended)

    async def _answer(self, admitted: Admitted, body: bytes) -> None:
        try:
            response = await admitted.answer(body)
        except Exception:
            log.exception("the endpoint raised an exception, which is a bug")
            response = HTTPResponse(status=HTTPStatus.INTERNAL_SERVER_ERROR)
        if response.pieces is not None:
            await self._respond_in_pieces(response, response.pieces)
            return
        is_late = self._call is not None
        self._call = None
        self._respond(response)
        if is_late and not self._connection.is_deaf:
            self._connection.go_on()

    async def _respond_in_pieces(self, response: HTTPResponse, pieces: Pieces) -> None:
        """Write a response as it comes; the client has to take each piece before the next one."""
        connection, exchange, sockets = self._connection, self._exchange, self._host.sockets
        head = None if exchange is None else exchange.head
        in_chunks = head is not None and not head.is_old
        closes = not in_chunks or (head is not None and "close" in head.options) or self._host.connections.retired
        sockets.add(pieces)
        try:
            await asyncio.sleep(0)  # pieces are read in a task, and until here there may have been none
            connection.write(head_of_pieces(response, ("close",) * closes, in_chunks=in_chunks))
            async for piece in pieces:
                connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if in_chunks else piece)
                if connection.is_blocked:
                    self._flushed = asyncio.get_running_loop().create_future()
                    await self._flushed
                    self._flushed = None
        finally:
            sockets.discard(pieces)
            self._flushed = None
            await pieces.close()
        self._call = self._exchange = None
        if in_chunks:
            connection.write(b"0\r\n\r\n")
        if closes or self._host.connections.retired:
            self._leave()
        else:
            connection.rest()
            connection.go_on()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._host.calls.discard(task)
        if task.cancelled() and not self._connection.is_deaf:  # the gateway ends
            self._connection.close()

    # Upgrades to WebSocket

    def _upgrade(self, ways: WebSockets, head: Head, body: Body) -> None:
        """Have an upgrade judged by its head, and let another reader go on."""
        admitted = ways.admit(self._request(head))
        if not isinstance(admitted, HTTPResponse):
            if head.is_old or not body.is_whole:
                admitted = HTTPResponse(status=HTTPStatus.BAD_REQUEST)
            elif self._host.connections.retired:
                admitted = HTTPResponse(status=HTTPStatus.SERVICE_UNAVAILABLE)
            elif not self._host.connections.count(self._connection, admitted.client):
                admitted = HTTPResponse(status=HTTPStatus.TOO_MANY_REQUESTS)
        if isinstance(admitted, HTTPResponse):
            self._refuse_by_head(head, body, admitted)
        else:
            WebSocket(self._host, self._connection, admitted, ways).begin(head.headers["Sec-WebSocket-Key"])

    def _refuse_by_head(self, head: Head, body: Body, response: HTTPResponse) -> None:
        self._exchange = Exchange(body, head)
        self._exchange.refuse(response)
        if body.announced > self._host.limits.max_body:
            self._answer_early(self._exchange)

    # Requests that the application beside the calls answers

    def _hand_over(self, site: Site, head: Head, body: Body) -> None:
        """Have a request judged by its head, and let the application answer it."""
        visitor = site.visit(self._request(head))
        if isinstance(visitor, HTTPResponse):
            self._refuse_by_head(head, body, visitor)
        else:
            Visit(self._host, self._connection, self).begin(site, head, body, visitor)

    def skip(self, body: Body) -> None:
        """Throw away the rest of a body whose request was answered, and end the connection with it."""
        body.drop()
        self._exchange = Exchange(body, is_answered=True)
        self._host.connections.note_linger(self._connection)

    # Responses

    def _respond(self, response: HTTPResponse, *, close: bool = False) -> None:
        """Write the response to the request."""
        exchange = self._exchange
        if exchange is None or self._connection.is_closing():  # the client has hung up
            return
        pieces, close = exchange.encoded(response, close=close or self._host.connections.retired)
        self._connection.write(*pieces)
        if exchange.is_answered:
            return
        self._exchange = None
        if close:
            self._leave()
        else:
            self._connection.rest()

    def _leave(self) -> None:
        self._exchange = None
        self._connection.leave()

    def refuse(self, response: bytes = _BAD_REQUEST) -> None:
        """Answer what is not a request, and throw away what still comes, until the client hangs up or for a while."""
        exchange, self._exchange = self._exchange, None
        self._connection.input, self._connection.at = b"", 0
        if exchange is not None and exchange.is_answered:
            self._connection.leave()
        else:
            self._connection.linger(response)
