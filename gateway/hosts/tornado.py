"""The Tornado host: HTTP/1 on sockets of this process.

    Tornado's parser -> HTTPRequest -> admit -> the body -> answer -> HTTPResponse -> Tornado's connection

It plugs in below RequestHandler and HTTPServer, at HTTP1ServerConnection: no routing, no parsing of arguments, no
cookies, no timer for each head and each body. Where it differs from Tornado's own server:

A request is judged by its head, so that one that is refused never sees ``100 Continue``. A body beyond the limit is
answered with 413 instead of 400, and what still comes of it is read and thrown away for a moment, because closing at
once would reset the connection under the answer. Slow heads and bodies are ended by one sweep a second over all
connections. A call that never waits is answered without a task, see gateway/eager.py.
"""

import asyncio
import logging
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from msgspec import Struct
from tornado import httputil, iostream, netutil
from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection

from gateway.eager import start
from gateway.exchange import Admission, Admitted, HTTPRequest, HTTPResponse
from gateway.limits import Limits

log = logging.getLogger("gateway")

_MARGIN = 2**20  # bytes; Tornado's own limit, answered with a bare 400, strikes only where a chunk says it is huge
_UNBOUNDED = 2**62  # bytes; what is thrown away needs no limit but time
_NEVER = float("inf")
_STATUS_LINES: dict[int, str] = {status: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_REQUEST_LINE = re.compile(rb"[\r\n]*[!#$%&'*+.^_`|~0-9A-Za-z-]*(?: |$)")  # RFC 9112, 3
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+;=%-]*)(?::[0-9]*)?", re.ASCII)  # RFC 3986, 3.2.2; no comma
_LONGEST_LENGTH = 18  # digits; Tornado refuses what is longer, for it is beyond its own limit
_TURN = 8  # requests of one connection, after which it is the others' turn; a client may send without waiting
_SHORT = 2**15  # bytes of an answer for which Tornado's bookkeeping of writes costs more than the write itself
_SWEEP = 1.0  # seconds; how late a timeout may come


class _Connection(Struct, eq=False):
    """A client's connection, and when it is closed if nothing happens until then."""

    stream: "_Stream"
    remote_ip: str
    protocol: str = "http"
    due: float = _NEVER
    awaits_head: bool = False
    requests: int = 0
    suspected_at: int = -1
    server: HTTP1ServerConnection | None = None


class _Stream(iostream.IOStream):
    """A client's stream, which sends what it has at once, always.

    Tornado would switch that on and off again around each answer: two system calls, a twentieth of a short call.
    """

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        super().set_nodelay(True)

    def set_nodelay(self, value: bool) -> None:  # noqa: FBT001 - Tornado's signature
        """Leave it on."""

    def holds_garbage(self) -> bool:
        """Tell whether what the client has sent behind its last request cannot be the beginning of another one."""
        return self._read_buffer_size > 0 and not _REQUEST_LINE.match(self._read_buffer)


class Host(httputil.HTTPServerConnectionDelegate):
    """An HTTP server for one door.

    Attributes:
        calls: the requests whose answers take their time.
        is_retiring: whether each connection is closed after its next answer.

    """

    def __init__(self, admit: Admission, limits: Limits) -> None:
        self.calls: set[asyncio.Task[None]] = set()
        self.is_retiring = False
        self.admit = admit
        self.limits = limits
        self._parameters = HTTP1ConnectionParameters(
            max_header_size=limits.max_header, max_body_size=limits.max_body + _MARGIN
        )
        self._connections: dict[object, _Connection] = {}
        self._stop_accepting: list[Callable[[], None]] = []
        self._sweeper: asyncio.TimerHandle | None = None

    def serve(self, sockets: Iterable[socket.socket]) -> None:
        """Accept from sockets that listen; they stay the caller's."""
        for listener in sockets:
            self._stop_accepting.append(netutil.add_accept_handler(listener, self._accept))
        self._sweep()

    def retire(self) -> None:
        """Accept nothing more, and close each connection that is left when it has had its next answer."""
        for step in self._stop_accepting:
            step()
        self._stop_accepting.clear()
        self.is_retiring = True

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def close(self) -> None:
        """Close the connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._connections.values()):
            if connection.server is not None:
                await connection.server.close()

    def _accept(self, accepted: socket.socket, address: tuple[str, int]) -> None:
        stream = _Stream(accepted)
        connection = _Connection(stream, address[0])
        server = HTTP1ServerConnection(stream, self._parameters, connection)
        connection.server = server
        self._connections[server] = connection
        server.start_serving(self)

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> "_Exchange":
        """Make the delegate of a connection's next request (called by Tornado)."""
        assert isinstance(request_conn, HTTP1Connection)  # noqa: S101 - HTTP1ServerConnection has no other
        connection = self._connections[server_conn]
        if connection.stream.holds_garbage():
            connection.stream.close()
        connection.due = time.monotonic() + self.limits.idle_timeout
        connection.awaits_head = True
        return _Exchange(self, connection, request_conn)

    def on_close(self, server_conn: object) -> None:
        """Forget a connection (called by Tornado)."""
        self._connections.pop(server_conn, None)

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections.values()):
            if connection.due < now or self._is_stuck(connection):
                connection.stream.close()
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)

    def _is_stuck(self, connection: _Connection) -> bool:
        """Tell whether a client waits for an answer to what is no request.

        At the second look: at the first one a head may have been read this moment, and its body be what is left.
        """
        if not connection.awaits_head or not connection.stream.holds_garbage():
            return False
        stuck = connection.suspected_at == connection.requests
        connection.suspected_at = connection.requests
        return stuck


def bind(address: str, port: int, backlog: int) -> list[socket.socket]:
    """Listen on all addresses of a name; with port 0 on one that is free.

    Raises:
        OSError: the address cannot be bound.

    """
    return netutil.bind_sockets(port, address, backlog=backlog)


class _Exchange(httputil.HTTPMessageDelegate):
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

    def __init__(self, host: Host, client: _Connection, connection: HTTP1Connection) -> None:
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
        if not _HOST.fullmatch(host):
            raise httputil.HTTPInputError("one Host header is needed")  # RFC 9112, 3.2; Tornado answers 400
        self._client.due = time.monotonic() + self._host.limits.body_timeout
        self._client.awaits_head = False
        self._is_head = method == "HEAD"
        too_long = _declared_length(headers) > self._host.limits.max_body
        admitted = self._host.admit(
            HTTPRequest(method=method, target=target, headers=headers, peer=self._client.remote_ip)
        )
        if isinstance(admitted, HTTPResponse):
            self._refusal = admitted
        else:
            self._admitted = admitted
            self._refusal = admitted.too_large() if too_long else None
        if self._refusal is not None and "Expect" in headers:
            self._respond(self._refusal, close=True)
        elif self._refusal is not None and too_long:
            self._respond_and_linger(self._refusal)
        self._client.requests += 1
        return None if self._client.requests % _TURN else asyncio.sleep(0)

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._host.limits.max_body:
            self._chunks.clear()
            if not self._sent:
                self._refusal = self._refusal or self._admitted.too_large()
                self._respond_and_linger(self._refusal)
        elif self._refusal is None:
            self._chunks.append(chunk)

    def finish(self) -> None:
        self._client.due = _NEVER
        if self._sent:
            self._connection.finish()
            self._client.stream.close()
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
            log.exception("the door raised, which it never should")
            response = HTTPResponse(status=HTTPStatus.INTERNAL_SERVER_ERROR)
        self._respond(response)

    def _respond(self, response: HTTPResponse, *, close: bool = False) -> None:
        self._write(response, close=close)
        self._connection.finish()

    def _respond_and_linger(self, response: HTTPResponse) -> None:
        """Answer before the body has ended, and go on reading it for a moment."""
        self._write(response, close=True)
        self._sent = True
        self._connection.set_max_body_size(_UNBOUNDED)
        self._client.due = time.monotonic() + self._host.limits.linger

    def _write(self, response: HTTPResponse, *, close: bool) -> None:
        is_last = "close" in self._options or (self._host.is_retiring and not close)
        lines = [f"{name}: {value}\r\n" for name, value in response.headers]
        if close or is_last:
            lines.append("Connection: close\r\n")
        elif self._options == ["keep-alive"] and self._version == "HTTP/1.0":
            lines.append("Connection: keep-alive\r\n")
        head = (
            f"{_STATUS_LINES[response.status]}Date: {_date(int(time.time()))}\r\n"
            f"Content-Length: {len(response.body)}\r\n{''.join(lines)}\r\n"
        ).encode("latin-1")
        data = head if self._is_head else head + response.body
        stream = self._client.stream
        stays_open = not close and not is_last and not self._options and self._version == "HTTP/1.1"
        if stays_open and len(data) <= _SHORT and not stream.closed() and not stream.writing():
            stream.write(data)  # the kernel has room for it, so there is nothing to wait for
            return
        written = self._connection.write(data)
        if is_last:  # Tornado knows the word only where it stands alone
            written.add_done_callback(lambda _: self._client.stream.close())


def _declared_length(headers: httputil.HTTPHeaders) -> int:
    """Return the Content-Length; 0 where there is none, or one that Tornado will refuse."""
    length = headers.get("Content-Length", "0")
    return int(length) if length.isascii() and length.isdigit() and len(length) <= _LONGEST_LENGTH else 0


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
