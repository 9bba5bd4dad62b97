"""What hosts have in common that are mounted in another program's server: ASGI, aiohttp, Tornado's handlers, Django.

    async with mount.responding(head, pieces) as HTTPResponse    where the body can be asked for
    mount.begin(head) -> HTTPResponse              where it is pushed: this refuses the request, before its body is read
                      -> Upload                    take each piece of the body; then ``await upload.answer()``; close it

A server hands a head over as it understood it. What can still be seen to be wrong is 400 here, as in the WSGI host.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, ItemsView, Iterator, Mapping, ValuesView
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

from msgspec import Struct, structs

from gateway.hosts.fairness import Crowd
from gateway.hosts.kept import Cut, KeptHeads, Pairs, answered
from gateway.model.http import Admission, Admitted, Endpoint, HTTPRequest, HTTPResponse, Pieces, Plain
from gateway.model.limits import Limits
from gateway.wire.http_grammar import HOST, TOKEN

log = logging.getLogger("gateway")

_BROKEN = re.compile(r"[\r\n\0]")
HERE = "127.0.0.1"  # the other end of a Unix socket is a process of this machine
_UNIX = frozenset({"0.0.0.0", "localhost", "<local>"})  # noqa: S104 - names of servers, and no address to listen at
_LENGTH = re.compile(r"0*([0-9]{1,18})")
_LINE = len(": \r\n")
_BUG = "the endpoint raised an exception, which is a bug"


def plain(status: HTTPStatus, text: str) -> HTTPResponse:
    """Make a response in plain text."""
    headers = (("Content-Type", "text/plain; charset=utf-8"),)
    return HTTPResponse(status=status, headers=headers, body=f"{text}\n".encode())


FAILED = plain(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error")


class _Opened(Struct, frozen=True):
    """An endpoint on one event loop, the requests that each client has there, and the heads that are kept."""

    admit: Admission
    crowd: Crowd
    heads: KeptHeads | None


class Mount:
    """An endpoint on whatever event loop it is called."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.limits = endpoint.limits
        self.path = endpoint.paths[0]
        self._open = endpoint.open
        self._close = endpoint.close
        self._know = endpoint.know
        self._openings = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Future[_Opened]]()

    async def open(self) -> None:
        """Open the endpoint on this loop; otherwise the first request does it.

        Raises:
            Exception: it cannot be opened. The next request tries it again.

        """
        await self._opened()

    async def close(self) -> None:
        """Close what was opened on this loop. A later request opens it again."""
        self._openings.pop(asyncio.get_running_loop(), None)
        await self._close()

    @asynccontextmanager
    async def responding(
        self, head: HTTPRequest, pieces: AsyncIterable[bytes], version: str = "1.1", pairs: Pairs | None = None
    ) -> AsyncIterator[HTTPResponse]:
        """Answer a request; only if its head is let in, a body is asked for. Inside, the response is sent.

        Raises nothing but CancelledError, and what is raised inside.
        """
        upload = await self.begin(head, version, pairs)
        if isinstance(upload, HTTPResponse):
            yield upload
            return
        with upload:
            response = await upload.read(pieces) or await upload.answer()
            try:
                yield response
            finally:
                if response.pieces is not None:
                    await response.pieces.close()

    async def begin(
        self, head: HTTPRequest, version: str = "1.1", pairs: Pairs | None = None
    ) -> "HTTPResponse | Upload":
        """Judge a request by its head. Raises nothing but CancelledError.

        Args:
            head: the head; whether it has too many bytes is found out here.
            version: of HTTP; before 1.1, no Host is needed.
            pairs: its headers, as they came; None for a head that is not kept.

        """
        try:
            opened = await self._opened()
            heads = opened.heads
            cut = heads.cut(head, version, pairs) if heads is not None and pairs is not None else None
            if heads is None or cut is None:
                return self._judged(opened, head, version)
            found = heads.find(cut)
            if found is not None and opened.crowd.enter(found.client):
                return Upload(opened, self.limits, head, found.client, plain=(found, cut))
            upload = self._judged(opened, head, version)
            if isinstance(upload, Upload):
                heads.learn(cut, head)
        except Exception:
            log.exception(_BUG)
            return FAILED
        return upload

    def _judged(self, opened: _Opened, head: HTTPRequest, version: str) -> "HTTPResponse | Upload":
        problem = problem_of(head, version)
        if problem is not None:
            return plain(HTTPStatus.BAD_REQUEST, f"Bad request: {problem}.")
        admitted = opened.admit(within(head, self.limits.max_header))
        if isinstance(admitted, HTTPResponse):
            return admitted
        if int(head.headers.get("Content-Length", "0")) > self.limits.max_body:
            return admitted.too_large()
        if not opened.crowd.enter(admitted.client):
            return admitted.too_many()
        return Upload(opened, self.limits, head, admitted.client, admitted)

    async def _opened(self) -> _Opened:
        loop = asyncio.get_running_loop()
        opening = self._openings.get(loop)
        if opening is not None and opening.done() and not opening.cancelled() and opening.exception() is None:
            return opening.result()
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception() is not None)):
            opening = self._openings[loop] = asyncio.ensure_future(self._open_here())
        return await asyncio.shield(opening)  # a request that is cancelled leaves it to the others

    async def _open_here(self) -> _Opened:
        crowd = Crowd(self.limits.client_connections, lambda _: False)
        admit, know = await self._open(), self._know()
        return _Opened(admit=admit, crowd=crowd, heads=None if know is None else KeptHeads(know, self.limits))


class Upload:
    """A request that was let in by its head. Close it in the end: until then its client is counted to have it."""

    def __init__(  # noqa: PLR0913 - what is known of one request
        self,
        opened: _Opened,
        limits: Limits,
        head: HTTPRequest,
        client: str,
        admitted: Admitted | None = None,
        *,
        plain: tuple[Plain, Cut] | None = None,
    ) -> None:
        self._opened = opened
        self._limits = limits
        self._head = head
        self._client = client
        self._admitted = admitted
        self._plain = plain
        self._pieces: list[bytes] = []
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop counting the request. Call it once."""
        self._pieces.clear()
        self._opened.crowd.leave(self._client)

    def take(self, piece: bytes) -> HTTPResponse | None:
        """Take a piece of the body. A response refuses the request, because it is too large."""
        self._size += len(piece)
        if self._size > self._limits.max_body:
            self._pieces.clear()
            return self._refused(lambda admitted: admitted.too_large())
        self._pieces.append(piece)
        return None

    async def read(self, pieces: AsyncIterable[bytes]) -> HTTPResponse | None:
        """Take all pieces. A response refuses the request, because it is too large, too slow, or cannot be read."""
        try:
            async with asyncio.timeout(self._limits.body_timeout):
                async for piece in pieces:
                    refusal = self.take(piece)
                    if refusal is not None:
                        return refusal
        except TimeoutError:
            return self._refused(lambda admitted: admitted.unreadable(408, "the body did not come in time"))
        except Exception as error:  # noqa: BLE001 - each server has its own for a client that leaves or sends nonsense
            log.debug("a body could not be read: %s", error)
            return self._refused(lambda admitted: admitted.unreadable(400, "the body did not come as its head says"))
        return None

    async def answer(self) -> HTTPResponse:
        """Answer the request, now that its body is here. Raises nothing but CancelledError."""
        body = b"".join(self._pieces)
        try:
            response = await answered(*self._plain, self._head, body) if self._plain is not None else None
            if response is not None:
                return response
            admitted = self._let_in()
            return admitted if isinstance(admitted, HTTPResponse) else await admitted.answer(body)
        except Exception:
            log.exception(_BUG)
            return FAILED

    def _refused(self, refuse: Callable[[Admitted], HTTPResponse]) -> HTTPResponse:
        admitted = self._let_in()
        return admitted if isinstance(admitted, HTTPResponse) else refuse(admitted)

    def _let_in(self) -> HTTPResponse | Admitted:
        """Return the request as it was let in; one whose head was known is judged only now."""
        return self._opened.admit(self._head) if self._admitted is None else self._admitted


class Sending:
    """The pieces of a response that a framework sends by itself, and the place that its client has until they end.

    Frameworks may close it in any thread, or read nothing of it at all.
    """

    def __init__(self, pieces: Pieces, upload: Upload) -> None:
        self._pieces = pieces
        self._upload = upload
        self._loop = asyncio.get_running_loop()
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(aiter(self._pieces))
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """End the stream, if it has not ended."""
        if not self._is_over:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._end)

    __del__ = close

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            closing = self._loop.create_task(self._pieces.close())
            closing.add_done_callback(lambda _: self._upload.close())


class Headers(Mapping[str, str]):
    """The headers of a request; names in any case, and values of a name that comes twice joined by a comma."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = tuple(pairs)

    @cached_property
    def _values(self) -> dict[str, str]:
        """Read them when they are asked for: nobody does where a head is known."""
        read: dict[str, str] = {}
        for name, value in self._pairs:
            key, text = _text(name).title(), _text(value)
            read[key] = f"{read[key]}, {text}" if key in read else text
        return read

    def __getitem__(self, name: str) -> str:
        return self._values[name.title()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value, in a third of the time that Mapping takes."""
        return self._values.get(name.title(), default)

    def values(self) -> ValuesView[str]:
        """Return all values, likewise."""
        return self._values.values()

    def items(self) -> ItemsView[str, str]:
        """Return all names and values."""
        return self._values.items()


def _text(header: str | bytes) -> str:
    return header if isinstance(header, str) else header.decode("latin-1")


def peer_of(told: str | None) -> str:
    """Return the address of a peer; for a Unix socket, each server has a name of its own. None is not known."""
    return HERE if told in _UNIX else told or ""


def response_headers(response: HTTPResponse) -> tuple[tuple[str, str], ...]:
    """Return the headers of a response, with its Content-Length, if that is known."""
    if response.status == HTTPStatus.NO_CONTENT or response.pieces is not None:
        return response.headers
    return (*response.headers, ("Content-Length", str(len(response.body))))


def problem_of(head: HTTPRequest, version: str) -> str | None:
    """Say what is wrong with a head that RFC 9112 has a server refuse, where it has not."""
    headers = head.headers
    coding, length = headers.get("Transfer-Encoding"), headers.get("Content-Length")
    if not TOKEN.fullmatch(head.method):
        return "the method is not a token"
    if not all(map(TOKEN.fullmatch, headers)):
        return "the name of a header is not a token"
    if any(map(_BROKEN.search, headers.values())):
        return "a header has a line break in it"
    if not HOST.fullmatch(headers.get("Host", "" if version == "1.0" else ",")):
        return "one Host header is needed"
    if length is not None and not _LENGTH.fullmatch(length):
        return "the Content-Length is not a number"
    if coding is not None and (length is not None or coding.strip(" \t").lower() != "chunked"):
        return "the only Transfer-Encoding is chunked, and without a Content-Length"
    return None


def within(head: HTTPRequest, most: int) -> HTTPRequest:
    """Return a head; one with more bytes than that says so, and is refused."""
    size = (
        len(head.method)
        + len(head.target)
        + sum(len(name) + len(value) + _LINE for name, value in head.headers.items())
    )
    return head if size <= most else structs.replace(head, is_whole=False)
