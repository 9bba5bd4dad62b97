"""An application of Tornado beside the calls, on the same sockets.

    TornadoSite(application, visit, paths)     what is not a call goes to the application
    TornadoGuest(...)                          one request that it answers: Tornado's HTTPConnection, on a connection
                                               of ours

The host reads the head and the body, with all of its rules and clocks; the application gets them as from Tornado's own
server, through HTTPServerConnectionDelegate and HTTPMessageDelegate. A piece of a body is handed over when the one
before has been taken, so a handler that is slow makes its client wait. WebSockets of the application are not served:
they need the socket.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from msgspec import Struct
from tornado import httputil
from tornado.iostream import StreamClosedError

from gateway.hosts.eager import start
from gateway.hosts.http.bodies import Body
from gateway.hosts.http.heads import Head
from gateway.model.http import HTTPRequest, HTTPResponse, Visitor

log = logging.getLogger("gateway")

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_READ = frozenset({"GET", "HEAD"})
_HEALTH = frozenset({"/healthz", "/readyz"})


class TornadoSite(Struct, frozen=True, kw_only=True):
    """What is served beside the calls.

    Attributes:
        application: an application of Tornado, or anything else that takes the requests of a connection.
        visit: judges by its head who sends a request to the application.
        paths: where calls are POSTed to.
        closed: paths that are not the application's, whatever the verb.
        console: what the paths of the console begin with, which are not the application's; empty without one.

    """

    application: httputil.HTTPServerConnectionDelegate
    visit: Callable[[HTTPRequest], Visitor | HTTPResponse]
    paths: frozenset[str]
    closed: frozenset[str] = frozenset()
    console: str = ""

    def has(self, method: str, target: str) -> bool:
        """Tell whether the application answers a request, because it is neither a call nor about health."""
        path = target.partition("?")[0]
        if self.console and f"{path}/".startswith(self.console):
            return False
        return path not in (_HEALTH if method in _READ else self.paths) and path not in self.closed

    def make_guest(self, carrier: "Carrier", head: Head, body: Body, visitor: Visitor, most: int) -> "TornadoGuest":
        """Make a guest of a request, whose body may have so many bytes."""
        return TornadoGuest(self.application, carrier, head, body, visitor, most)


class Carrier(Protocol):
    """What a guest asks of its connection."""

    @property
    def scheme(self) -> str:
        """Tell whether the client speaks TLS: https, or http."""

    def is_closing(self) -> bool:
        """Tell whether nothing more can be written."""

    def is_blocked(self) -> bool:
        """Tell whether the client has not taken all that was written."""

    def send(self, data: bytes) -> None:
        """Write a part of the response."""

    def take_more(self) -> None:
        """Read on: what there was of the body has been taken."""

    def end_guest(self, *, close: bool) -> None:
        """Go on to the next request, or close: the response is written."""

    def refuse_guest(self, response: bytes) -> None:
        """Write a response, and close."""

    def abort(self) -> None:
        """Close at once."""


class _Context:
    """Where a request comes from, as an application asks for it."""

    def __init__(self, visitor: Visitor, scheme: str) -> None:
        self.remote_ip = visitor.client
        self.protocol = visitor.scheme or scheme

    def __str__(self) -> str:
        return self.remote_ip


class TornadoGuest(httputil.HTTPConnection):
    """One request and its response.

    Attributes:
        context: where the request comes from.
        body: the body, as far as it was read and not yet taken.
        most: how many bytes it may have.

    """

    def __init__(  # noqa: PLR0913, PLR0917 - each is a part of the request
        self,
        application: httputil.HTTPServerConnectionDelegate,
        carrier: Carrier,
        head: Head,
        body: Body,
        visitor: Visitor,
        most: int,
    ) -> None:
        self.context = _Context(visitor, carrier.scheme)
        self.body = body
        self.most = most
        self._application = application
        self._carrier = carrier
        self._head = head
        self._delegate: httputil.HTTPMessageDelegate
        self._running: asyncio.Task[None] | None = None
        self._more: asyncio.Future[None] | None = None  # a piece of the body is awaited
        self._flushes: list[asyncio.Future[None]] = []
        self._on_close: Callable[[], None] | None = None
        self._is_ready = False  # the application has taken the head, and said how large the body may be
        self._is_whole = False  # the application has all of the request
        self._is_over = False  # all of the response is written, or never will be
        self._is_chunking = False
        self._left: int | None = None  # bytes that the response must still have
        self._closes = False

    # What the connection calls

    def begin(self, *, closes: bool) -> None:
        """Hand the request over; ``closes`` tells whether the connection ends with it whatever the head says."""
        options, is_old = self._head.options, self._head.is_old
        self._closes = closes or "close" in options or (is_old and options != ("keep-alive",))
        self._delegate = self._application.start_request(self._carrier, self)
        self._running = start(self._go())

    def is_full(self) -> bool:
        """Tell whether a piece of the body, or the head, waits to be taken, or no more of it comes."""
        return not self._is_ready or self.body.is_whole or self.body.holds()

    def fed(self) -> None:
        """Take note that there is more of the body."""
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def drained(self) -> None:
        """Take note that the client has taken all that was written."""
        flushes, self._flushes = self._flushes, []
        for each in flushes:
            if not each.done():
                each.set_result(None)

    def lose(self) -> None:
        """Take note that the client is gone, or is refused: tell the application."""
        if self._is_over:
            return
        self._is_over = True
        for each in self._flushes:
            _break(each)
        self.fed()
        callback = self._on_close if self._is_whole else self._delegate.on_connection_close
        self._on_close = None
        try:
            if callback is not None:
                callback()
        except Exception:
            log.exception("the application raised an exception when its client hung up")

    # What the application calls

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Have something called if the client hangs up while the response is made."""
        self._on_close = callback

    def set_max_body_size(self, size: int) -> None:
        """Let the body have more or fewer bytes than ``limits.max_body``."""
        self.most = size

    def set_body_timeout(self, seconds: float) -> None:
        """Do nothing: ``limits.body_timeout`` is for all requests."""

    def detach(self) -> None:
        """Refuse to give the socket away.

        Raises:
            NotImplementedError: always.

        """
        raise NotImplementedError("the gateway does not serve WebSockets of an application")

    def write_headers(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
        chunk: bytes | None = None,
    ) -> "asyncio.Future[None]":
        """Write the head of the response, and the first part of its body.

        Raises:
            ValueError: a header has a line break in it.

        """
        assert isinstance(start_line, httputil.ResponseStartLine)  # noqa: S101 - it answers a request
        code, is_head = start_line.code, self._head.method == "HEAD"
        has_body = not (is_head or code in (204, 304) or code < 200)
        length = headers.get("Content-Length")
        self._is_chunking = has_body and length is None and not self._head.is_old
        if has_body and length is None and self._head.is_old:
            self._closes = True  # nothing else shows where the body ends
        self._left = int(length) if has_body and length is not None else None if has_body else 0
        self._closes = self._closes or headers.get("Connection", "").lower() == "close"
        if self._is_chunking:
            headers["Transfer-Encoding"] = "chunked"
        if self._closes:
            headers["Connection"] = "close"
        elif self._head.is_old:
            headers["Connection"] = "keep-alive"
        lines = [f"HTTP/1.1 {code} {start_line.reason}", *(f"{name}: {value}" for name, value in headers.get_all())]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header of the response has a line break in it")
        return self._sent("\r\n".join([*lines, "", ""]).encode("latin-1") + self._part(chunk or b""))

    def write(self, chunk: bytes) -> "asyncio.Future[None]":
        """Write a part of the body; what is returned is done when the client has taken it."""
        return self._sent(self._part(chunk))

    def finish(self) -> None:
        """End the response.

        Raises:
            HTTPOutputError: its body is shorter than its Content-Length says.

        """
        if self._is_over:
            return
        if self._left:
            self._carrier.abort()
            raise httputil.HTTPOutputError(f"the body is {self._left} bytes shorter than its Content-Length")
        if self._is_chunking:
            self._carrier.send(b"0\r\n\r\n")
        self._is_over = True
        self._on_close = None
        self._carrier.end_guest(close=self._closes)
        self.fed()

    def _part(self, chunk: bytes) -> bytes:
        if self._left is not None:
            self._left -= len(chunk)
            if self._left < 0:
                self._carrier.abort()
                raise httputil.HTTPOutputError("the body is longer than its Content-Length")
        return b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._is_chunking and chunk else chunk

    def _sent(self, data: bytes) -> "asyncio.Future[None]":
        flush: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._is_over or self._carrier.is_closing():
            _break(flush)
            return flush
        self._carrier.send(data)
        if self._carrier.is_blocked():
            self._flushes.append(flush)
        else:
            flush.set_result(None)
        return flush

    # The request

    async def _go(self) -> None:
        try:
            await self._hand_over()
        except httputil.HTTPInputError:
            self._carrier.refuse_guest(_BAD_REQUEST)
        except Exception:
            log.exception("the application raised an exception outside of its handlers")
            self._carrier.abort()

    async def _hand_over(self) -> None:
        head, body = self._head, self.body
        version = "HTTP/1.0" if head.is_old else "HTTP/1.1"
        line = httputil.RequestStartLine(head.method, head.target, version)
        headers = httputil.HTTPHeaders()
        for name, value in head.headers.items():
            headers.add(name, value)
        await _done(self._delegate.headers_received(line, headers))
        self._is_ready = True
        if not body.is_whole:
            self._carrier.take_more()
        if head.expects and not self._is_over and not body.is_whole:
            self._carrier.send(_CONTINUE)
        while not self._is_over:
            piece = body.pop()
            if piece:
                await _done(self._delegate.data_received(piece))
                self._carrier.take_more()
            elif body.is_whole:
                self._is_whole = True
                self._delegate.finish()
                return
            else:
                self._more = asyncio.get_running_loop().create_future()
                await self._more


async def _done(awaited: Awaitable[None] | None) -> None:
    if awaited is not None:
        await awaited


def site(
    application: object,
    visit: Callable[[HTTPRequest], Visitor | HTTPResponse],
    paths: Iterable[str],
    closed: Iterable[str] = (),
) -> TornadoSite:
    """Put a site together.

    Raises:
        TypeError: the application is not one of Tornado.

    """
    if not isinstance(application, httputil.HTTPServerConnectionDelegate):
        raise TypeError("it is not an application of Tornado")
    return TornadoSite(application=application, visit=visit, paths=frozenset(paths), closed=frozenset(closed))


def _break(flush: "asyncio.Future[None]") -> None:
    if not flush.done():
        flush.set_exception(StreamClosedError())
        flush.exception()  # nobody has to look at it
