"""The WSGI host: an endpoint as a WSGI application (PEP 3333), on whatever server calls it.

    environ -> HTTPRequest -> admit -> the body -> answer -> HTTPResponse -> start_response

The endpoint runs on one event loop in its own thread. A process starts that thread with its first request, so after it
was forked. The server's thread reads, waits, and writes. A body is read only when its request was admitted. The rest of
a refused one is thrown away for a moment, because closing at once would reset the connection under the response; the
event loop does that, so that no thread of the server waits for a client. gunicorn would let one of its threads wait for
the rest, and then all of them while it closes; so the connection is taken from it once the response is written. A
server that does not show the connection (waitress) has ways of its own.

What methods have opened in a process is closed when that ends, if it ends as Python programs do: a WSGI server tells an
application nothing, but uWSGI, gunicorn and waitress let their processes run what ``atexit`` has.

A server hands a request over as it understood it. What can still be seen to be wrong is 400 here: folded lines, names
that are not tokens, no Host or two, a Content-Length that is not a number or comes with a Transfer-Encoding. What
cannot be seen any more: whether a header was written with a dash or an underscore (a proxy in front must drop the
latter, as nginx does), and whether the client is still there, so a call that nobody waits for goes on.
"""

import asyncio
import atexit
import importlib
import logging
import math
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Self, TypeAlias, TypeVar

from gateway.hosts.loops import new_event_loop
from gateway.hosts.mounted import FAILED, HERE, Headers, peer_of, plain, problem_of, within
from gateway.model.http import Admission, Admitted, Endpoint, HTTPRequest, HTTPResponse, Pieces

T = TypeVar("T")
Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Any]
Application: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

log = logging.getLogger("gateway")

_CONTENT = ("CONTENT_TYPE", "CONTENT_LENGTH")
_PIECE = 2**16  # bytes that are read at once
_GUNICORN = "gunicorn.socket"  # where gunicorn shows an application the connection
_CLOSING = 5.0  # seconds to close what methods have opened, before the process ends
_MOST_LINGERING = 256  # refused uploads of a process that are read on; each takes a descriptor


class WSGIHost:
    """A WSGI application for one endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._openings: dict[int, asyncio.Future[Admission]] = {}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request for the path in it."""
        return self.answer(environ, start_response, environ.get("PATH_INFO", ""))

    def answer(  # noqa: PLR0913 - the last one is named
        self,
        environ: Environ,
        start_response: StartResponse,
        path: str,
        request: object | None = None,
        user: str | None = None,
        *,
        in_pieces: bool = True,
    ) -> Iterable[bytes]:
        """Answer a request for a path of the endpoint, for a framework that has found its way here.

        Args:
            environ: the request.
            start_response: takes the status and the headers.
            path: the path, whatever leads to it.
            request: what the framework has made of the request.
            user: who calls, where the framework knows it.
            in_pieces: whether the framework passes a stream on as it comes. A stream holds up a thread of the server,
                so there are none where it has but one, and they take no longer than a call.

        """
        body = None
        try:
            headers = _headers(environ)
            head = HTTPRequest(
                method=environ.get("REQUEST_METHOD", ""),
                target=path.replace("?", "%3F"),  # it has been decoded, and what follows a question mark is not a path
                headers=headers,
                peer=_peer(environ),
                request=request,
                user=user,
                takes_pieces=in_pieces and bool(environ.get("wsgi.multithread")),
                is_held=True,
            )
            problem = problem_of(head, environ.get("SERVER_PROTOCOL", "").removeprefix("HTTP/"))
            if problem is None:
                body = _Body(environ, headers)
                response = self._converse(within(head, self._endpoint.limits.max_header), body)
            else:
                response = plain(HTTPStatus.BAD_REQUEST, f"Bad request: {problem}.")
        except Exception:
            log.exception("the endpoint raised an exception, which is a bug")
            response = FAILED
        if response.pieces is not None:
            _send(response, environ, start_response)
            return _Pieces(response.pieces)
        sent = [_send(response, environ, start_response)]
        if body is None or not body.left:
            return sent
        if isinstance(environ.get(_GUNICORN), socket.socket):
            return _Refused(sent, environ[_GUNICORN], self._endpoint.limits.linger)
        _linger(_connection(environ), self._endpoint.limits.linger)
        return sent

    def _converse(self, head: HTTPRequest, body: "_Body") -> HTTPResponse:
        loop = _background()
        limit = self._endpoint.limits.max_body
        admitted = loop.run(self._admit(head))
        if isinstance(admitted, HTTPResponse):
            return admitted
        if body.read is None:
            return loop.run(_call(admitted.unreadable, 411, "a Content-Length is needed: no chunks are read here"))
        if math.inf > body.left > limit:
            return loop.run(_call(admitted.too_large))
        try:
            received = body.up_to(limit)
        except Exception as error:  # noqa: BLE001 - each server has its own for a client that is late or sends nonsense
            received = None
            log.debug("a body could not be read: %s", error)
        if received is None:
            return loop.run(_call(admitted.unreadable, 400, "the body did not come as its head says"))
        if len(received) > limit:
            return loop.run(_call(admitted.too_large))
        return loop.run(admitted.answer(received))

    async def _admit(self, head: HTTPRequest) -> HTTPResponse | Admitted:
        process = os.getpid()
        opening = self._openings.get(process)
        if opening is None or (opening.done() and opening.exception() is not None):  # what has failed may work now
            opening = self._openings[process] = asyncio.ensure_future(self._open())
        return (await opening)(head)

    async def _open(self) -> Admission:
        admission = await self._endpoint.open()
        atexit.register(_close, self._endpoint.close, os.getpid(), asyncio.get_running_loop())
        return admission


async def _call(function: Callable[..., HTTPResponse], *args: Any) -> HTTPResponse:
    return function(*args)


def _close(close: Callable[[], Coroutine[Any, Any, None]], process: int, loop: asyncio.AbstractEventLoop) -> None:
    """Close what was opened in a process, at its end; one that was forked from it has that, too, and lets it be."""
    if os.getpid() != process:
        return
    try:
        asyncio.run_coroutine_threadsafe(close(), loop).result(_CLOSING)
    except TimeoutError:
        log.error(  # noqa: TRY400 - where this waits is of no interest
            "what methods have opened is not closed after %g s; the process ends all the same", _CLOSING
        )


class _Background:
    """The event loop of one process, in a thread that does not keep it from ending.

    Attributes:
        lingering: connections whose refused uploads are read on.

    """

    def __init__(self) -> None:
        self.lingering: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and wait for what it returns or raises."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop()).result()

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, which runs."""
        with self._lock:
            if self._loop is None:
                self._loop = new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="gateway-loop", daemon=True).start()
            return self._loop


_BACKGROUNDS: dict[int, _Background] = {}  # by process: a forked one has its parent's, but not the parent's thread


def _background() -> _Background:
    process = os.getpid()
    return _BACKGROUNDS.get(process) or _BACKGROUNDS.setdefault(process, _Background())


def _peer(environ: Environ) -> str:
    """Return the address of a request's peer; an empty one is gunicorn's for a Unix socket."""
    told = environ.get("REMOTE_ADDR")
    return HERE if told == "" and _GUNICORN in environ else peer_of(told)


def _headers(environ: Environ) -> Headers:
    """Return the headers of a request; not the environ itself, which a server may use again for the next one."""
    taken = [(name[5:], value) for name, value in environ.items() if name.startswith("HTTP_")]
    taken = [pair for pair in taken if pair[0] not in _CONTENT]
    taken += [(name, environ[name]) for name in _CONTENT if environ.get(name)]
    return Headers((name.replace("_", "-"), value) for name, value in taken)


class _Body:
    """The body of a request, which is not read before it is asked for.

    Attributes:
        left: bytes that have not been read; infinite while only the end tells.
        read: takes a number of bytes, and returns at most so many, none at the end; None where it cannot be read.

    """

    def __init__(self, environ: Environ, headers: Headers) -> None:
        coding, length = headers.get("Transfer-Encoding"), headers.get("Content-Length")
        self.left = int(length) if length is not None else math.inf
        self.read: Callable[[int], bytes] | None = environ["wsgi.input"].read
        if length is not None or environ.get("wsgi.input_terminated"):
            return
        if coding is None:
            self.left = 0
        elif "uwsgi.version" in environ:
            self.read = _read_chunk
        else:
            self.left, self.read = 0, None

    def up_to(self, limit: int) -> bytes | None:
        """Return the body, or more than ``limit`` bytes of it; None if it has ended before its Content-Length.

        Raises:
            Exception: the server cannot read it.

        """
        pieces, size = [], 0
        while self.left and size <= limit:
            piece = self._next()
            if not piece and self.left:
                return None
            pieces.append(piece)
            size += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _next(self) -> bytes:
        assert self.read is not None  # noqa: S101 - nothing is left of what cannot be read
        piece = self.read(int(min(self.left, _PIECE)))
        self.left = 0 if not piece and self.left == math.inf else self.left - len(piece)
        return piece


def _read_chunk(_: int) -> bytes:
    """Read a chunk as uWSGI does it, which calls its module only inside of its own processes."""
    chunk: bytes = importlib.import_module("uwsgi").chunked_read()
    return chunk


def _send(response: HTTPResponse, environ: Environ, start_response: StartResponse) -> bytes:
    """Send a response's head, and return what is to be sent of its body. The server itself writes Connection."""
    status = HTTPStatus(response.status)
    headers = list(response.headers)
    if status is not HTTPStatus.NO_CONTENT and response.pieces is None:
        headers.append(("Content-Length", str(len(response.body))))
    if "uwsgi.version" in environ:  # all others have a clock of their own
        headers.append(("Date", formatdate(usegmt=True)))
    start_response(f"{status.value} {status.phrase}", headers)
    return b"" if environ.get("REQUEST_METHOD") == "HEAD" else response.body


class _Pieces:
    """A response that is sent as it comes, by a thread of the server."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        piece = _background().run(_next_of(self._pieces))
        if piece is None:
            raise StopIteration
        return piece

    def close(self) -> None:
        """End the stream, if it has not ended (called by the server)."""
        _background().run(self._pieces.close())


async def _next_of(pieces: Pieces) -> bytes | None:
    async for piece in pieces:
        return piece
    return None


class _Refused(list[bytes]):
    """A response to a request whose body is not read, and the connection, which gunicorn has lent for it."""

    def __init__(self, response: list[bytes], lent: socket.socket, seconds: float) -> None:
        super().__init__(response)
        self._lent = lent
        self._seconds = seconds

    def close(self) -> None:
        """Take the connection away, now that the response is written (called by gunicorn)."""
        _linger(_taken_from(self._lent), self._seconds)


def _taken_from(lent: socket.socket) -> socket.socket | None:
    """Return a connection that gunicorn has, for which it has one that has ended from now on; None if it is gone."""
    try:
        taken = socket.socket(fileno=os.dup(lent.fileno()))
    except OSError:
        return None
    try:
        ended, other = socket.socketpair()
        with ended, other:
            os.dup2(ended.fileno(), lent.fileno())
        taken.shutdown(socket.SHUT_WR)
    except OSError:  # the client is gone, or there is no descriptor left
        taken.close()
        return None
    taken.settimeout(0)
    return taken


def _linger(connection: socket.socket | None, seconds: float) -> None:
    """Have the rest of a body thrown away for a moment, so that the response to it is not reset with its connection.

    The event loop reads it, from a copy of the descriptor that keeps the connection open when the server closes it.
    Where clients have too many of these, the next one is closed at once.
    """
    background = _background()
    if connection is None:
        return
    if len(background.lingering) >= _MOST_LINGERING:
        connection.close()
        return
    background.lingering.add(connection)
    background.loop().call_soon_threadsafe(_drain, background, connection, seconds)


def _connection(environ: Environ) -> socket.socket | None:
    """Return the connection of a request once more; None where the server does not show it, or cannot have it read."""
    try:
        if "uwsgi.version" in environ:
            number = importlib.import_module("uwsgi").connection_fd()
        else:
            number = environ["wsgi.input"].fileno()
        connection = socket.socket(fileno=os.dup(number))
    except (AttributeError, OSError, ValueError):  # a body in memory, or in a file
        return None
    connection.settimeout(0)
    return connection


def _drain(background: _Background, connection: socket.socket, seconds: float) -> None:
    loop = background.loop()

    def close() -> None:
        loop.remove_reader(connection)
        connection.close()
        background.lingering.discard(connection)

    def read() -> None:
        try:
            data = connection.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:  # the client has gone, which is what this waits for
            data = b""
        if not data:
            timer.cancel()
            close()

    timer = loop.call_later(seconds, close)
    loop.add_reader(connection, read)
