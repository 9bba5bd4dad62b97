"""The Tornado host: HTTP/1 on sockets of this process, in the clear or in TLS.

    Tornado's parser -> HTTPRequest -> admit -> the body -> answer -> HTTPResponse -> Tornado's connection

It plugs in below RequestHandler and HTTPServer, at HTTP1ServerConnection: no routing, no parsing of arguments, no
cookies, no timer for each head and each body. Where it differs from Tornado's own server:

A request is judged by its head, so that one that is refused never sees ``100 Continue``. A body beyond the limit is
answered with 413 instead of 400, and what is still sent of it is read and thrown away for a while, because closing at
once would reset the connection before the client has read the response. Clients that are slow, or too many, are closed
by gateway/hosts/connections.py. A call that never waits is answered without a task, see gateway/hosts/eager.py.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus

from tornado import httputil
from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection

from gateway.hosts.connections import Connections
from gateway.hosts.eager import start
from gateway.hosts.heads import beginning_of, declared_length, takes_expectation, without_authority
from gateway.hosts.streams import BAD_REQUEST, Stream, TLSStream
from gateway.model.http import Admission, Admitted, HTTPRequest, HTTPResponse
from gateway.model.limits import Limits
from gateway.wire.http_grammar import HOST
from gateway.wire.http_responses import response_head

log = logging.getLogger("gateway")

_MARGIN = 2**20  # bytes; Tornado's own limit, answered with a bare 400, strikes only where a chunk says it is huge
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_UNBOUNDED = 2**62  # bytes; what is thrown away needs no limit but time
_TURN = 8  # requests of one connection, after which it is the others' turn; a client may send without waiting
_SHORT = 2**15  # bytes of an answer for which Tornado's bookkeeping of writes costs more than the write itself


class TornadoHost(httputil.HTTPServerConnectionDelegate):
    """An HTTP server for one endpoint.

    Attributes:
        connections: who is connected.
        calls: the requests whose answers take their time.
        tls: how connections that are still to come are encrypted, None for not at all. It may be replaced at any time.

    """

    def __init__(
        self,
        admit: Admission,
        limits: Limits,
        is_proxy: Callable[[str], bool] = lambda _: False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.connections: Connections[Stream] = Connections(limits, is_proxy, self._look)
        self.calls: set[asyncio.Task[None]] = set()
        self.tls = tls
        self.admit = admit
        self.limits = limits
        self._parameters = HTTP1ConnectionParameters(
            max_header_size=limits.max_header, max_body_size=limits.max_body + _MARGIN
        )

    def serve(self, sockets: Iterable[socket.socket]) -> None:
        """Accept on sockets that are bound (gateway/hosts/listening.py), which are the host's own from now on."""
        self.connections.serve(sockets, self._connect)

    def retire(self) -> None:
        """Accept nothing more. Each connection ends with its next response."""
        self.connections.retire()

    async def drain(self, seconds: float) -> None:
        """Wait until no request is being read, beyond its head, or answered; for so long at most. Retire it first."""
        await self.connections.drain(seconds)

    async def close(self) -> None:
        """Close the connections. Retire it first."""
        for client in self.connections.close():
            if client.server is not None:
                await client.server.close()

    def connected(self) -> int:
        """Count the connections."""
        return len(self.connections)

    def running(self) -> int:
        """Count the requests whose calls run."""
        return len(self.calls)

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> "_RequestDelegate":
        """Make the delegate of a connection's next request (called by Tornado)."""
        assert isinstance(request_conn, HTTP1Connection)  # noqa: S101 - HTTP1ServerConnection has no other
        client = request_conn.context
        assert isinstance(client, Stream)  # noqa: S101 - _start says so
        if client.holds_garbage():
            client.refuse_garbage()
        client.on_large_head = self._refuse_head
        self.connections.note_idle(client)
        return _RequestDelegate(self, client, request_conn)

    def on_close(self, server_conn: object) -> None:
        """Forget a connection (called by Tornado)."""
        assert isinstance(server_conn, HTTP1ServerConnection)  # noqa: S101 - _start makes no other
        assert isinstance(server_conn.context, Stream)  # noqa: S101 - _start says so
        self.connections.forget(server_conn.context)

    def _connect(self, accepted: socket.socket, peer: str) -> None:
        client = Stream(accepted, peer) if self.tls is None else TLSStream(accepted, peer, self.tls)
        self.connections.add(client)
        if isinstance(client, TLSStream):
            client.wait_for_handshake().add_done_callback(lambda _: self._shaken(client))
        else:
            self._start(client)

    def _shaken(self, client: TLSStream) -> None:
        if client.closed():
            self.connections.forget(client)
        else:
            client.certificate = client.common_name()
            self._start(client)

    def _start(self, client: Stream) -> None:
        client.server = HTTP1ServerConnection(client, self._parameters, client)
        client.server.start_serving(self)

    def _refuse_head(self, client: Stream, beginning: str) -> None:
        """Answer a head that is too large with 431, and read what is still sent of it for a while."""
        self.connections.note_linger(client)
        if client.holds_garbage():
            client.write(BAD_REQUEST)
            return
        head = beginning_of(beginning, client.peer)
        refused = self.admit(head)
        if not isinstance(refused, HTTPResponse) or refused.status < HTTPStatus.BAD_REQUEST:
            refused = HTTPResponse(status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        client.write(response_head(refused, ("close",)) + (b"" if head.method == "HEAD" else refused.body))

    def _look(self, client: Stream) -> None:
        """Note what a client has begun, and end what cannot become a request."""
        if not client.has_bytes():
            return
        if self.connections.is_idle(client):
            # No look at what it is before the next one: now it may be the body of a head that was read just now.
            self.connections.note_begun(client)
        elif client.holds_garbage():
            client.refuse_garbage()


class _RequestDelegate(httputil.HTTPMessageDelegate):
    """One request and its response."""

    __slots__ = (
        "_admitted",
        "_chunks",
        "_client",
        "_connection",
        "_host",
        "_is_head",
        "_options",
        "_refusal",
        "_sent",
        "_size",
        "_version",
    )

    def __init__(self, host: TornadoHost, client: Stream, connection: HTTP1Connection) -> None:
        self._host = host
        self._client = client
        self._connection = connection
        self._admitted: Admitted
        self._is_head = False
        self._version: str
        self._options: list[str] = []
        self._chunks: list[bytes] = []
        self._size = 0
        self._refusal: HTTPResponse | None = None
        self._sent = False

    def headers_received(
        self, start_line: httputil.RequestStartLine | httputil.ResponseStartLine, headers: httputil.HTTPHeaders
    ) -> Awaitable[None] | None:
        assert isinstance(start_line, httputil.RequestStartLine)  # noqa: S101 - a server is sent requests
        method, target, self._version = start_line
        if "Connection" in headers:
            self._options = [option.strip() for option in headers["Connection"].lower().split(",")]
        host = headers.get("Host", "" if self._version == "HTTP/1.0" else ",")
        if not HOST.fullmatch(host):
            raise httputil.HTTPInputError("one Host header is needed")  # RFC 9112, 3.2; Tornado answers 400
        target = without_authority(target, headers)
        self._client.requests += 1
        self._host.connections.note_body(self._client)
        self._is_head = method == "HEAD"
        expects = takes_expectation(headers, self._version)
        too_long = declared_length(headers) > self._host.limits.max_body
        self._refusal = self._judge(method, target, headers, too_long=too_long)
        if self._refusal is None:
            if expects and not self._client.closed():
                self._client.write(_CONTINUE)
        elif expects:
            self._respond(self._refusal, close=True)
        elif too_long:
            self._respond_and_linger(self._refusal)
        return None if self._client.requests % _TURN else asyncio.sleep(0)

    def _judge(self, method: str, target: str, headers: httputil.HTTPHeaders, *, too_long: bool) -> HTTPResponse | None:
        """Judge the request by its head; None where its body is read."""
        client = self._client
        admitted = self._host.admit(
            HTTPRequest(
                method=method,
                target=target,
                headers=headers,
                peer=client.peer,
                certificate=client.certificate,
                connection=client,
            )
        )
        if isinstance(admitted, HTTPResponse):
            return admitted
        self._admitted = admitted
        if too_long:
            return admitted.too_large()
        return None if self._host.connections.count(client, admitted.client) else admitted.too_many()

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        self._host.connections.note_progress(self._client, len(chunk))
        if self._size > self._host.limits.max_body:
            self._chunks.clear()
            if not self._sent:
                self._refusal = self._refusal or self._admitted.too_large()
                self._respond_and_linger(self._refusal)
        elif self._refusal is None:
            self._chunks.append(chunk)

    def finish(self) -> None:
        self._host.connections.note_busy(self._client)
        if self._sent:
            self._connection.finish()
            self._client.close()
        elif self._refusal is not None:
            self._respond(self._refusal)
        else:
            task = start(self._serve())
            if task is not None:
                self._host.calls.add(task)
                task.add_done_callback(self._host.calls.discard)
                self._connection.set_close_callback(lambda: _cancel(task))

    def on_connection_close(self) -> None:
        self._chunks.clear()

    async def _serve(self) -> None:
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        try:
            response = await self._admitted.answer(body)
        except Exception:
            log.exception("the endpoint raised an exception, which is a bug")
            response = HTTPResponse(status=HTTPStatus.INTERNAL_SERVER_ERROR)
        self._respond(response)

    def _respond(self, response: HTTPResponse, *, close: bool = False) -> None:
        close = close or self._host.connections.retired or "close" in self._options
        written = self._write(response, close=close)
        if close and written is not None:  # Tornado closes only where the client's option stands alone
            written.add_done_callback(lambda _: self._client.close())
        self._connection.finish()

    def _respond_and_linger(self, response: HTTPResponse) -> None:
        """Answer before the body has ended, and go on reading it for a moment."""
        self._write(response, close=True)
        self._sent = True
        self._connection.set_max_body_size(_UNBOUNDED)
        self._host.connections.note_linger(self._client)

    def _write(self, response: HTTPResponse, *, close: bool) -> "asyncio.Future[None] | None":
        """Write a response; what is returned is done when the client has taken all of it, None if it has already."""
        options: tuple[str, ...] = ()
        if close:
            options = ("close",)
        elif self._options == ["keep-alive"] and self._version == "HTTP/1.0":
            options = ("keep-alive",)
        head = response_head(response, options)
        data = head if self._is_head else head + response.body
        stream = self._client
        if not close and not self._options and self._version == "HTTP/1.1" and len(data) <= _SHORT:
            if not stream.closed():
                stream.write(data)  # mostly the kernel has room for it, so there is nothing to wait for
            if not stream.unsent():
                return None
            data = b""  # the wait for what is unsent is Tornado's: it reads no other request before
        written = self._connection.write(data)
        self._host.connections.note_written(self._client)
        return written


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
