"""A client's connection: bytes to requests, one after the other, and responses to bytes.

    bytes -> head -> admit -> body -> answer -> response, in one write
    bytes -> head that is known -> body -> Plain.answer -> response, in one write (known.py)

While a call runs, or its client has not taken the response, nothing more of a connection is answered, and no more than
a little of it is read: a client that sends on waits for itself. After _TURN requests that came together it is the
others' turn.
"""

import asyncio
import logging
import socket
import struct
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Protocol

from gateway.hosts.connections import Connections
from gateway.hosts.eager import start
from gateway.hosts.http.bodies import BadBodyError, Body, Chunked, Sized
from gateway.hosts.http.exchange import Exchange
from gateway.hosts.http.heads import BadHeadError, Head, beginning_of, can_begin, read
from gateway.hosts.http.known import Known, KnownHeads
from gateway.hosts.http.site import Guest, Site
from gateway.hosts.http.tls import TLS
from gateway.model.http import Admission, Admitted, HTTPRequest, HTTPResponse
from gateway.model.limits import Limits
from gateway.wire.http_responses import response_head

log = logging.getLogger("gateway")

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TURN = 8  # requests of one connection, after which it is the others' turn; a client may send without waiting
_AHEAD = 2**14  # bytes that are held of a client that does not wait for its responses, beside the last ones read


class Cancellable(Protocol):
    """A call that runs."""

    def cancel(self) -> object:
        """End it."""


class Serving(Protocol):
    """What a connection asks of its host."""

    connections: "Connections[Connection]"
    calls: set[Any]
    admit: Admission
    limits: Limits
    known: KnownHeads | None
    site: Site | None

    def give_up(self, connection: "Connection") -> None:
        """Close a connection that has not begun."""


class Connection(asyncio.Protocol):
    """A client's connection.

    Attributes:
        peer: the address at its other end, without a port.
        certificate: the common name of the client's certificate, if it has shown one.

    """

    __slots__ = (
        "__weakref__",
        "_at",
        "_call",
        "_exchange",
        "_guest",
        "_has_ended",
        "_has_turn",
        "_host",
        "_input",
        "_is_blocked",
        "_is_deaf",
        "_is_leaving",
        "_is_reading",
        "_known",
        "_owed",
        "_socket",
        "_transport",
        "_written",
        "certificate",
        "peer",
    )

    def __init__(self, host: Serving, accepted: socket.socket, peer: str) -> None:
        self.peer = peer
        self.certificate: str | None = None
        self._host = host
        self._socket = accepted
        self._transport: Any = None
        self._input = b""  # what has not been read of what has come,
        self._at = 0  # from here on
        self._exchange: Exchange | None = None
        self._guest: Guest | None = None  # a request that the application beside the calls answers
        self._call: Cancellable | None = None
        self._known: Known | None = None  # the head of the last request, if it is known
        self._written = 0  # bytes of all responses
        self._owed = 0  # bytes of those that the client has not taken, as they were written
        self._is_blocked = False  # the client has not taken all that was written
        self._is_reading = True
        self._is_deaf = False  # nothing that still comes is a request
        self._is_leaving = False  # it ends with what was written
        self._has_ended = False  # the client sends nothing more
        self._has_turn = True

    # What the transport calls

    def handshake_begun(self, transport: Any) -> None:
        """Take note of what is closed if the handshake takes too long."""
        self._transport = transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        self._transport = transport
        self._transport.set_write_buffer_limits(0)  # so that it is blocked exactly while something is unsent
        if not self._host.connections.is_idle(self):
            self._host.connections.note_idle(self)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._is_deaf:
            return
        self._input = self._input[self._at :] + data if self._input else data
        self._at = 0
        self._go_on()

    def eof_received(self) -> bool:
        """Take note that the client sends nothing more: a call that runs is cancelled, what was written is sent."""
        if self._call is not None:
            self._call.cancel()
            return False
        if self._guest is not None:
            return False
        if self._is_deaf:
            self._is_leaving = True
            return self._is_blocked
        self._has_ended = self._is_blocked or not self._has_turn
        return self._has_ended

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it; a call that runs is cancelled."""
        self._is_deaf = True
        self._input, self._exchange = b"", None
        self._host.connections.forget(self)
        if self._call is not None:
            self._host.calls.discard(self._call)
            self._call.cancel()
        if self._guest is not None:
            self._forget_guest().lose()

    def pause_writing(self) -> None:
        """Take note that the client has not taken all that was written."""
        self._is_blocked = True

    def resume_writing(self) -> None:
        """Go on, now that it has."""
        self._is_blocked = False
        self._owed = 0
        if self._guest is not None:
            self._guest.drained()
        elif self._is_leaving:
            self._transport.close()
        elif not self._is_deaf:
            if self._exchange is None and self._call is None:
                self._host.connections.note_idle(self)
            self._go_on()

    # What the book of connections calls

    def descriptor(self) -> int:
        """Return the descriptor of its socket; -1 where it is closed."""
        return self._socket.fileno()

    def unsent(self) -> int:
        """Return how many bytes of responses the client has not taken yet."""
        size: int = self._transport.get_write_buffer_size() if self._is_blocked else 0
        return size

    def held(self) -> int:
        """Return how many bytes of memory hold what the client has not taken: responses go as they are taken whole."""
        return self._owed if self._is_blocked else 0

    def taken(self) -> int:
        """Return how many bytes the client has taken so far, or the kernel for it."""
        return self._written - self.unsent()

    def close(self) -> None:
        """Close it, and throw away what is unsent."""
        self._is_deaf = True
        if self._transport is None:  # not even begun
            self._host.give_up(self)
        elif self._is_blocked:
            self._transport.abort()
        else:
            self._transport.close()

    def reset(self) -> None:
        """Close it and throw away what is unsent; the kernel would keep trying for minutes."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._is_deaf = True
        self._transport.abort()

    # Requests

    def _waits(self) -> bool:
        """Tell whether the next request has to wait."""
        if self._exchange is not None and self._exchange.is_answered:
            return False  # nothing but the end of a body is awaited
        if self._guest is not None:
            return self._guest.is_full()
        return self._call is not None or self._is_blocked or not self._has_turn

    def _go_on(self) -> None:
        """Read and answer what has come, as far as it goes now."""
        for _ in range(_TURN):
            if self._waits() or not self._steps():
                break
        else:
            if self._at < len(self._input):
                self._has_turn = False
                asyncio.get_running_loop().call_soon(self._take_turn)
        if self._at >= len(self._input):
            self._input, self._at = b"", 0
        if self._has_ended and not self._waits() and not self._is_deaf:
            self._leave()
        ahead = len(self._input) - self._at > _AHEAD and self._waits()
        if ahead is self._is_reading and not self._transport.is_closing():
            self._is_reading = not ahead
            (self._transport.pause_reading if ahead else self._transport.resume_reading)()

    def _take_turn(self) -> None:
        self._has_turn = True
        if not self._is_deaf:
            self._go_on()

    def _steps(self) -> bool:
        """Read a request and begin to answer it; False where more bytes are needed, or nothing more is read."""
        if self._guest is not None:
            self._feed(self._guest)
            return False
        if self._is_deaf or (self._exchange is None and not self._reads_head()):
            return False
        exchange = self._exchange
        if exchange is None or self._call is not None:  # its head was known: it was answered, or its call runs
            return True
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
        data, at, known = self._input, self._at, self._known
        if known is not None and data.startswith(known.head, at):
            end = at + len(known.head)
        else:
            end = data.find(b"\r\n\r\n", at) + 4
            if end < 4 or end - at > self._host.limits.max_header:
                if at < len(data):
                    self._look_at_beginning(data[at : at + self._host.limits.max_header + 1])
                return False
            heads = self._host.known
            known = None if heads is None else heads.find(data[at:end], self.peer, self.certificate)
            self._known = known
        self._at = end
        if known is None or self._host.connections.retired:
            return self._reads_unknown(data[at:end])
        self._at = end + known.length
        if self._at > len(data):
            self._at = end
            self._exchange = Exchange(Sized(known.length), known=known)
        elif not self._answers_plainly(known, data[end : self._at]):
            self._answer_fully(known, data[end : self._at])
        return True

    def _reads_unknown(self, data: bytes) -> bool:
        """Read a head that is not known, and have it judged; False where it is not one."""
        try:
            head = read(data)
        except BadHeadError:
            self._refuse()
            return False
        body: Body = Chunked() if head.length is None else Sized(head.length)
        if self._host.site is not None and self._host.site.has(head.method, head.target):
            self._receive(self._host.site, head, body)
            return True
        self._exchange = exchange = Exchange(body, head)
        self._judge(exchange, data)
        if not head.expects:
            return True
        if exchange.admitted is None and not exchange.is_answered:
            self._respond(exchange.refusal, close=True)
            return False
        if exchange.admitted is not None and not exchange.body.is_whole:
            self._write(_CONTINUE)
        return True

    def _look_at_beginning(self, data: bytes) -> None:
        """Look at what has come of a head that is not whole, or is too large."""
        if not can_begin(data):
            self._refuse()
        elif len(data) <= self._host.limits.max_header:
            if self._host.connections.is_idle(self):
                self._host.connections.note_begun(self)
        else:
            head = beginning_of(data, self.peer)
            refused = self._host.admit(head)
            if not isinstance(refused, HTTPResponse) or refused.status < HTTPStatus.BAD_REQUEST:
                refused = HTTPResponse(status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            self._refuse(response_head(refused, ("close",)) + (b"" if head.method == "HEAD" else refused.body))

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
        elif self._host.connections.count(self, admitted.client):
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
            peer=self.peer,
            certificate=self.certificate,
            connection=self,
        )

    def _reads_body(self, exchange: Exchange) -> bool:
        """Read on in a body; False where it is not whole."""
        body, begin = exchange.body, self._at
        try:
            self._at = body.take(self._input, begin)
        except BadBodyError:
            self._refuse()
            return False
        if body.announced > self._host.limits.max_body and not exchange.is_answered:
            self._answer_early(exchange)
        if body.is_whole:
            return True
        if not exchange.is_slow and not exchange.is_answered:
            exchange.is_slow = True
            self._host.connections.note_body(self)
        self._host.connections.note_progress(self, self._at - begin)
        return False

    def _answer_early(self, exchange: Exchange) -> None:
        """Refuse a body that is too large before it has ended, and go on reading it for a while.

        To close at once would reset the connection before the client has read the response.
        """
        if exchange.admitted is not None:
            exchange.refuse(exchange.admitted.too_large())
        exchange.is_answered = True
        self._respond(exchange.refusal, close=True)
        self._host.connections.note_linger(self)

    def _answers_plainly(self, known: Known, body: bytes) -> bool:
        """Answer a request with a head that is known; False where it takes the full way, and nothing was done."""
        plain, connections = known.plain, self._host.connections
        if plain.client != self.peer and not connections.count(self, plain.client):
            return False
        answer = plain.answer(body, known.request_id, known.wish, self, self._respond_late)
        if answer is None:
            return False
        self._exchange = None
        if isinstance(answer, bytes):
            self._write(answer)
            self._rest()
        else:
            self._call = answer
            self._host.calls.add(answer)
            connections.note_busy(self)
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
        if self._transport.is_closing():
            return
        if self._host.connections.retired:
            self._write(response.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            self._leave()
        else:
            self._write(response)
            self._rest()
            self._go_on()

    def _begin(self, admitted: Admitted, body: bytes) -> None:
        task = start(self._answer(admitted, body))
        if task is not None:
            self._call = task
            self._host.calls.add(task)
            self._host.connections.note_busy(self)
            task.add_done_callback(self._ended)

    async def _answer(self, admitted: Admitted, body: bytes) -> None:
        try:
            response = await admitted.answer(body)
        except Exception:
            log.exception("the endpoint raised an exception, which is a bug")
            response = HTTPResponse(status=HTTPStatus.INTERNAL_SERVER_ERROR)
        is_late = self._call is not None
        self._call = None
        self._respond(response)
        if is_late and not self._is_deaf:
            self._go_on()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._host.calls.discard(task)
        if task.cancelled() and not self._is_deaf:  # the gateway ends
            self.close()

    # Requests that the application beside the calls answers

    def _receive(self, site: Site, head: Head, body: Body) -> None:
        """Have a request judged by its head, and hand it over."""
        request = self._request(head)
        visitor = site.visit(request)
        if isinstance(visitor, HTTPResponse):
            self._exchange = Exchange(body, head)
            self._exchange.refuse(visitor)
            if body.announced > self._host.limits.max_body:
                self._answer_early(self._exchange)
            return
        guest = Guest(self, head, body, visitor, self._host.limits.max_body)
        self._guest = guest
        self._host.calls.add(guest)
        if not body.is_whole:
            self._host.connections.note_body(self)
        guest.begin(site.application, closes=self._host.connections.retired)
        if self._guest is guest and body.is_whole:
            self._host.connections.note_busy(self)

    def _feed(self, guest: Guest) -> None:
        """Give a guest more of its body."""
        begin = self._at
        try:
            self._at = guest.body.take(self._input, begin)
        except BadBodyError:
            self.refuse_guest(_BAD_REQUEST)
            return
        if guest.body.announced > guest.most:
            self.refuse_guest(_TOO_LARGE)
            return
        if guest.body.is_whole:
            self._host.connections.note_busy(self)
        else:
            self._host.connections.note_progress(self, self._at - begin)
        guest.fed()

    def _forget_guest(self) -> Guest:
        guest, self._guest = self._guest, None
        assert guest is not None  # noqa: S101 - who calls knows that there is one
        self._host.calls.discard(guest)
        return guest

    @property
    def scheme(self) -> str:
        """Tell whether the client speaks TLS: https, or http."""
        return "https" if isinstance(self._transport, TLS) else "http"

    def is_closing(self) -> bool:
        """Tell whether nothing more can be written."""
        return self._guest is None or bool(self._transport.is_closing())

    def is_blocked(self) -> bool:
        """Tell whether the client has not taken all that was written."""
        return self._is_blocked

    def send(self, data: bytes) -> None:
        """Write a part of a guest's response."""
        self._write(data)

    def take_more(self) -> None:
        """Read on: a guest has taken what there was of its body."""
        if not self._is_deaf:
            asyncio.get_running_loop().call_soon(self._take_turn)

    def end_guest(self, *, close: bool) -> None:
        """Go on to the next request, or close: a guest's response is written."""
        body = self._forget_guest().body
        if not body.is_whole:
            body.drop()
            self._exchange = Exchange(body, is_answered=True)
            self._host.connections.note_linger(self)
        elif close or self._host.connections.retired:
            self._leave()
        else:
            self._rest()
        self.take_more()

    def refuse_guest(self, response: bytes) -> None:
        """Write a response, and close."""
        guest = self._forget_guest()
        self._refuse(response)
        guest.lose()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # Responses

    def _respond(self, response: HTTPResponse, *, close: bool = False) -> None:
        """Write the response to the request."""
        exchange = self._exchange
        if exchange is None or self._transport.is_closing():  # the client has hung up
            return
        pieces, close = exchange.encoded(response, close=close or self._host.connections.retired)
        self._write(*pieces)
        if exchange.is_answered:
            return
        self._exchange = None
        if close:
            self._leave()
        else:
            self._rest()

    def _rest(self) -> None:
        """Wait for the next request, once the client has taken the response."""
        if self._is_blocked:
            self._host.connections.note_busy(self)
        else:
            self._host.connections.note_idle(self)

    def _write(self, *pieces: bytes) -> None:
        size = sum(map(len, pieces))
        self._written += size
        self._owed = self._owed + size if self._is_blocked else size
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        else:
            self._transport.writelines(pieces)
        if self._is_blocked:
            self._host.connections.note_written(self)

    def _leave(self) -> None:
        """Close it, once the client has taken all that was written."""
        self._is_deaf = True
        self._exchange = None
        if self._is_blocked:
            self._is_leaving = True
            self._host.connections.note_busy(self)
        else:
            self._transport.close()

    def _refuse(self, response: bytes = _BAD_REQUEST) -> None:
        """Answer what is not a request, and throw away what still comes, until the client hangs up or for a while."""
        exchange, self._exchange = self._exchange, None
        self._is_deaf = True
        self._input, self._at = b"", 0
        if exchange is not None and exchange.is_answered:
            self._leave()
            return
        self._host.connections.note_linger(self)
        self._write(response)
        with suppress(OSError):  # the client is gone
            self._transport.write_eof()
