"""HTTP/1.1 to upstreams: a body in a POST, the body of the response, or an exception of FAILURES.

    wire = HTTP(options, "text/xml", limits.max_reply)
    response = await wire.post(data, invocation)       charset and body; gzip and deflate are unpacked
    raise response.meant(fault)                        the body is not a response of the protocol

One request at a time on each connection of a pool, responses parsed by httptools. No cookies, no redirects, no proxy
of the environment: what is called is what is configured. Several servers send their faults with the status of an
error, so bodies are read with any status but a redirect's. Only where a body is not a response of the protocol, the
status says what has happened.
"""

import asyncio
import copy
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated, Any
from urllib.parse import SplitResult, quote, urlsplit

import httptools
from msgspec import Meta, Struct, field

from gateway.fleet.listing import Instance
from gateway.model.faults import BadUpstream, Denied, GatewayFault, Overloaded, RequestTooLarge, Unavailable
from gateway.model.secrets import Secret
from gateway.upstreams import Along, Cancel, Failures, Invocation, Outcome
from gateway.upstreams.faults import garbled
from gateway.upstreams.options import target
from gateway.upstreams.transport.along import ClientAddress, Forward, IdempotencyKey, Identity, check_along
from gateway.upstreams.transport.connection import StreamConnection
from gateway.upstreams.transport.dial import STREAM_FAILURES, TLSOptions, client_context, open_stream
from gateway.upstreams.transport.outcomes import Read
from gateway.upstreams.transport.pool import Lent, Pool
from gateway.upstreams.transport.pooled import Pooled
from gateway.upstreams.transport.secret import revealed
from gateway.wire.content_coding import CorruptBodyError, is_known, unpack
from gateway.wire.http_grammar import TOKEN, charset, seconds

_MOST_HEAD = 65536  # bytes of a response's head, or of anything else that is not a body
_KEPT = 4.0  # seconds that an idle connection is kept; many a server closes it after 5
_SAFE = "/%:@!$&'()*+,;=~"  # in a path, beside letters and digits (RFC 3986, section 3.3); what is quoted stays so
_FRAMING = frozenset({"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"})
_OF_EACH_CALL = frozenset({"x-request-id", "x-request-timeout"})
_OWN = frozenset({"host", "user-agent", "accept-encoding", "content-type", "content-encoding"})
_VALUE = re.compile(r"[^\r\n\0]*")
_SENDABLE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, section 5.5
_SHOWN = 40  # characters of a header that a fault quotes
_BY_STATUS: dict[int, type[GatewayFault]] = {
    401: Denied,
    403: Denied,
    429: Overloaded,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
_OF_A_PROXY = frozenset({502, 503, 504})  # which may not have passed the request on, or may have given up waiting


class HTTPOptions(TLSOptions, frozen=True, kw_only=True):
    """The options of an upstream over HTTP, beside the common ones."""

    headers: Annotated[
        dict[str, Annotated[str, Meta(pattern=r"^[^\r\n\0]*$", description="a header's value, on one line")] | Secret],
        Meta(description="Headers of each request, like Authorization; { file = ... } and { env = ... } are read."),
    ] = field(default_factory=dict)
    forward: Forward = ()
    identity: Identity = ""
    client_address: ClientAddress = ""
    idempotency_key: IdempotencyKey = ""
    connections: Annotated[
        int, Meta(ge=1, le=10_000, description="Connections at once, at most; each has one call at a time.")
    ] = 32

    def __post_init__(self) -> None:
        """Check the URL, and the names of the headers."""
        super().__post_init__()
        for name in self.headers:
            if not TOKEN.fullmatch(name):
                raise ValueError(f"{name!r} in headers is not the name of a header")
            if name.lower() in _FRAMING:
                raise ValueError(f"{name} in headers cannot be chosen: the gateway sets it")
        check_along(self, self.headers, _FRAMING | _OF_EACH_CALL | _OWN)


class StatusError(Exception):
    """The HTTP status is all that a response says; the path is for operators, for it may hold a key."""

    def __init__(self, status: int, path: str, retry_after: int | None) -> None:
        super().__init__(f"HTTP status {status} for {path}")
        self.status = status
        self.retry_after = retry_after
        self.is_unauthenticated = status == 401


def _told(error: StatusError) -> GatewayFault:
    """Tell what a status means (RFC 9110, section 15; 429: RFC 6585)."""
    data = {"http_status": error.status}
    if error.retry_after is not None:
        data["retry_after"] = error.retry_after
    return _BY_STATUS.get(error.status, BadUpstream)(f"the upstream responded with HTTP status {error.status}", **data)


class Response(Struct, frozen=True, kw_only=True):
    """A response, and what its status means if it is not 200."""

    charset: str | None
    body: bytes
    error: StatusError | None

    def meant(self, fault: BadUpstream) -> Exception:
        """Return what to raise for a body that is not a response of the protocol: the status has the reason."""
        return self.error or fault


FAILURES: Failures = {
    **STREAM_FAILURES,
    StatusError: _told,
    httptools.HttpParserError: garbled,
    httptools.HttpParserUpgrade: garbled,
}


class HTTP(Pooled[Pool["_Connection"]]):
    """The connections to one server."""

    def __init__(self, options: HTTPOptions, content_type: str, most: int) -> None:
        self._most = most
        self._options = options
        self._tls = client_context(options)
        self._type = content_type
        self._url = urlsplit(options.form.partition("+")[2])
        self._path = self._url.path or "/"
        self._headers = revealed("headers", options.headers, _VALUE)
        self._aim(options.first)

    def at(self, instance: Instance) -> "HTTP":
        """Return what has connections to an instance."""
        made = copy.copy(self)
        made._aim(instance)  # noqa: SLF001 - it is one of these
        return made

    def _aim(self, instance: Instance) -> None:
        self._target = to = target(instance)
        port = to.port or self._url.port or 0
        name = f"[{to.name}]" if ":" in to.name else to.name
        host = name if port in (0, 443 if self._tls else 80) else f"{name}:{port}"
        self._head = _head(host, self._url, self._headers, self._type)
        self._pool = Pool(self._connect, self._options.connections)

    async def check(self, path: str, invocation: Invocation) -> None:
        """Get a path, whose status tells how the server is.

        Raises:
            StatusError: it is not one of 200 to 299.
            Exception: one of FAILURES.

        """
        lines = [line for line in self._head.split(b"\r\n")[1:] if not line.lower().startswith(b"content-type:")]
        request = b"\r\n".join([f"GET {path} HTTP/1.1".encode(), *lines, b""])
        async with self._pool.lend(invocation) as connection:
            status = (await connection.exchange(request, invocation)).status
        if not 200 <= status < 300:
            raise StatusError(status, path, None)

    async def post(self, data: bytes, invocation: Invocation) -> Response:
        """Send a body, and return the response to it.

        Raises:
            BadUpstream: the response is too long, damaged, or in an unknown coding.
            Exception: one of FAILURES.

        """
        async with self._pool.lend(invocation) as connection:
            received = await connection.exchange(self._request(data, invocation), invocation)
        return self._read(received, invocation)

    def begin(self, data: bytes, invocation: Invocation, outcome: Outcome, value: Callable[[Response], Any]) -> Cancel:
        """Send a body, and have the value of the response told later."""
        read = Read(partial(self._value, value, invocation), outcome)
        return self._pool.lend_to(read, invocation, partial(self._send, data, invocation)).cancel

    def _send(self, data: bytes, invocation: Invocation, lent: Lent["_Connection"], connection: "_Connection") -> None:
        connection.send(self._request(data, invocation), invocation, lent)

    def _value(self, value: Callable[[Response], Any], invocation: Invocation, received: "_Received") -> Any:
        return value(self._read(received, invocation))

    def _request(self, data: bytes, invocation: Invocation) -> bytes:
        return b"%b%bX-Request-ID: %b\r\nX-Request-Timeout: %.3f\r\nContent-Length: %d\r\n\r\n%b" % (
            self._head,
            _lines(invocation.along) if invocation.along else b"",
            invocation.request_id.encode(),
            max(invocation.time_left, 1e-3),
            len(data),
            data,
        )

    def _read(self, received: "_Received", invocation: Invocation) -> Response:
        invocation.sent = "maybe" if received.status in _OF_A_PROXY else "yes"
        error = None if received.status == 200 else StatusError(received.status, self._path, received.retry_after)
        if error is not None and 300 <= received.status < 400:
            raise error
        return Response(charset=received.charset, body=self._unpacked(received), error=error)

    def _unpacked(self, received: "_Received") -> bytes:
        if not received.coding:
            return received.body[0] if len(received.body) == 1 else b"".join(received.body)
        if not is_known(received.coding):
            raise BadUpstream(f"the response has an unknown Content-Encoding: {received.coding[:_SHOWN]!r}")
        try:
            return unpack(b"".join(received.body), received.coding, self._most)
        except CorruptBodyError:
            raise BadUpstream(f"the response is damaged: it is not {received.coding}") from None
        except RequestTooLarge:
            raise BadUpstream(f"the response has more than {self._most} bytes after unpacking") from None

    async def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    async def _connect(self) -> "_Connection":
        return await open_stream(lambda: _Connection(self._most), self._target, self._options, self._tls)


class _Received(Struct):
    """A response, as far as it is here; ``length`` is None where only the end of the connection ends the body."""

    status: int = 0
    charset: str | None = None
    coding: str = ""
    retry_after: int | None = None
    length: int | None = None
    is_chunked: bool = False
    size: int = 0
    body: list[bytes] = field(default_factory=list)


class _Connection(StreamConnection):
    """A connection, and the one response that it waits for. The parser calls the methods whose names begin with on."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._parser = httptools.HttpResponseParser(self)
        self._received = _Received()
        self._in_head = True
        self._unbodied = 0  # bytes since the last ones of a body
        self._waiting: Outcome | None = None
        self._whole: _Received | None = None
        self._is_placed = True
        self._last = time.monotonic()

    async def exchange(self, request: bytes, invocation: Invocation) -> _Received:
        """Send a request, and return its response.

        Raises:
            HttpParserError, BadUpstream: what comes is not a response, or is too long.
            OSError, EOFError: the connection broke.

        """
        if not self.usable():
            raise EOFError
        waiting: asyncio.Future[_Received] = asyncio.get_running_loop().create_future()
        self.send(request, invocation, waiting)
        return await waiting

    def send(self, request: bytes, invocation: Invocation, waiting: Outcome) -> None:
        """Send a request, whose response is told later."""
        self._waiting = waiting
        invocation.sent = "maybe"
        self._transport.write(request)

    def usable(self) -> bool:
        """Tell whether the next call can have it: it is open, and nothing was received that was not asked for."""
        return self._is_placed and super().usable() and time.monotonic() - self._last < _KEPT

    def data_received(self, data: bytes) -> None:
        """Parse what comes (called by the event loop)."""
        if self._waiting is None:
            self._is_placed = False
            self._transport.abort()
            return
        self._unbodied += len(data)
        failure: Exception | None = None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._is_placed = False
            failure = _cause(error)
        if self._whole is not None:  # now, for who is told may send the next request: what is here is no answer to it
            whole, self._whole = self._whole, None
            self._hand_over(whole)
        if failure is not None:
            self._fail(failure)
        if self._unbodied > _MOST_HEAD:
            self._fail(BadUpstream(f"the response has more than {_MOST_HEAD} bytes of headers"))

    def on_message_begin(self) -> None:
        """Begin a response, if one is expected (called by the parser)."""
        self._is_placed = self._waiting is not None and self._whole is None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note what the body is like; trailers do not count (called by the parser)."""
        if not self._in_head:
            return
        said = value.decode("latin-1").lower()
        match name.lower():
            case b"content-type":
                self._received.charset = charset(said)
            case b"content-encoding":
                self._received.coding = said.strip()
            case b"retry-after":
                self._received.retry_after = seconds(value.decode("latin-1").strip())
            case b"content-length":
                self._received.length = int(said)
            case b"transfer-encoding":
                self._received.is_chunked = True

    def on_headers_complete(self) -> None:
        """Refuse what is going to be too long (called by the parser)."""
        self._in_head = False
        self._received.status = self._parser.get_status_code()
        if (self._received.length or 0) > self._most:
            raise self._too_long()

    def on_body(self, body: bytes) -> None:
        """Hold a piece of the body, within bounds (called by the parser)."""
        self._unbodied = 0
        self._received.size += len(body)
        if self._received.size > self._most:
            raise self._too_long()
        self._received.body.append(body)

    def on_message_complete(self) -> None:
        """Hand the response over (called by the parser)."""
        received, self._received = self._received, _Received()
        self._in_head = True
        if 100 <= received.status < 200:  # the response follows
            return
        self._is_placed = self._is_placed and self._parser.should_keep_alive()
        self._last = time.monotonic()
        self._unbodied = 0
        self._whole = self._whole or received

    def connection_lost(self, error: Exception | None) -> None:
        """End a response that ends so, and fail a call that waits for one (called by the event loop)."""
        received = self._received
        if error is None and not self._in_head and received.length is None and not received.is_chunked:
            self._hand_over(received)
        super().connection_lost(error)

    def _too_long(self) -> BadUpstream:
        return BadUpstream(f"the response has more than {self._most} bytes")

    def _hand_over(self, received: _Received) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(received)

    def _pending(self) -> Iterable[Outcome]:
        return () if self._waiting is None else (self._waiting,)


def _cause(error: Exception) -> Exception:
    """Return what one of our methods raised inside of the parser, which wraps it."""
    inside = error.__context__
    return inside if isinstance(inside, BadUpstream) else error


def _lines(along: Along) -> bytes:
    """Write what goes along with a call; what cannot stand in a head is left out."""
    return b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in along if _SENDABLE.fullmatch(value))


def _head(host: str, url: SplitResult, headers: Mapping[str, str], content_type: str) -> bytes:
    """Make what all requests begin with; of headers that have the same name the last one counts."""
    target = quote(url.path or "/", safe=_SAFE) + (f"?{quote(url.query, safe=_SAFE + '?')}" if url.query else "")
    all_headers = (
        ("Host", host if host.isascii() else host.encode("idna").decode()),
        ("User-Agent", "callgate"),
        *headers.items(),
        ("Accept-Encoding", "identity"),
        ("Content-Type", content_type),
    )
    lines = {name.lower(): f"{name}: {value}" for name, value in all_headers if name.lower() not in _OF_EACH_CALL}
    return "\r\n".join([f"POST {target} HTTP/1.1", *lines.values(), ""]).encode()


class OverHTTP:
    """What is the same in all adapters whose calls are requests of HTTP."""

    _wire: HTTP

    def aim(self, instance: Instance) -> None:
        """Have calls go to an instance."""
        self._wire = self._wire.at(instance)

    async def reach(self) -> None:
        """Make sure that there is a connection."""
        await self._wire.reach()

    async def check(self, path: str, invocation: Invocation) -> None:
        """Get the path that tells how the server is."""
        await self._wire.check(path, invocation)

    def connections(self) -> tuple[int, int]:
        """Count the connections, and the calls that wait for one."""
        return self._wire.connections()
