"""The interface between hosts and the gateway: one HTTP request in, one HTTP response out.

    host: head of a request -> HTTPRequest -> admit ->       HTTPResponse, which refuses it
                                                         -> Admitted: read the body, and await admitted.answer(body)

A host knows nothing else of the gateway. It reads a body only when its request was admitted, and no more bytes of it
than ``limits.max_body``; of one that is longer the answer is ``admitted.too_large()``.

That is the full way, which every request can take. A host that keeps heads by their bytes may first try the plain way,
which means the same and takes less time:

    head -> know -> Plain, to be kept      -> the body -> plain.answer(body, ...) -> the bytes of the response
                                                                                 -> Running: they come later
                                                                                 -> None: take the full way now
                 -> None: heads like this always take the full way
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from gateway.model.limits import Limits


class HTTPRequest(Struct, frozen=True, kw_only=True):
    """The head of a request.

    Attributes:
        method: the verb, as it was sent.
        target: the request target as it stands in the request line; without a scheme and a host, which are then in the
            header Host (RFC 9112, 3.2.2).
        headers: names compare in any case; a name that comes twice has both values, joined by a comma.
        peer: the address at the other end of the connection, without a port.
        certificate: the common name of the client's certificate, where the host speaks TLS and has verified it.
        is_whole: False where the head had more bytes than are read. Then the rest is what its beginning says, and the
            request is refused with 431.
        connection: something of which there is one for each connection, for as long as that is open, and to which weak
            references can be made; None where the host does not know.
        request: the request of the framework that the endpoint is mounted in, for methods that want to see it.
        user: who calls, where the surrounding application has found out; a name, which stands for an API key's.
        takes_pieces: whether the host can send a response in pieces.
        is_held: whether that holds up a thread of the server, so that it may take no longer than a call.

    """

    method: str
    target: str
    headers: Mapping[str, str]
    peer: str
    certificate: str | None = None
    is_whole: bool = True
    connection: object | None = None
    request: object | None = None
    user: str | None = None
    takes_pieces: bool = False
    is_held: bool = False


class Pieces(Protocol):
    """The body of a response that is sent as it comes; whoever has it closes it in any case."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Return what gives the pieces, to be read in a task."""

    def retire(self) -> None:
        """Come to an end, because the gateway does."""

    async def close(self) -> None:
        """End it; twice is once."""


class Visitor(Struct, frozen=True, kw_only=True):
    """Who sends a request that is not a call.

    Attributes:
        client: the address that a trusted proxy has named, or the peer's.
        scheme: http or https, as a trusted proxy says; None where the connection itself tells.

    """

    client: str
    scheme: str | None = None


class HTTPResponse(Struct, frozen=True, kw_only=True):
    """A response. The host adds Content-Length, Date and Connection.

    ``pieces`` are in the place of the body, and only for a host that takes them.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    pieces: Pieces | None = None


class Refusal(Struct, frozen=True, kw_only=True):
    """The record of a request that was refused before it was a call.

    Attributes:
        kind: access, rate, path, verb, type, coding, size or framing.
        status: the HTTP status.
        reason: for the log alone; the caller may get less.
        client: the client's address, or the peer's where the client is not known.
        request_id: the request's id.

    """

    kind: str
    status: int
    reason: str
    client: str
    request_id: str


class AccessDenied(Struct, frozen=True):
    """The refusal of a request by its sender.

    Attributes:
        status: the HTTP status: 401 where other credentials could help, else 403.
        reason: for the log alone.

    """

    status: int
    reason: str


class Admitted(Protocol):
    """A request that was let in by its head."""

    @property
    def client(self) -> str:
        """Whose request it is: the address that a trusted proxy has named, or the peer's."""

    async def answer(self, body: bytes) -> HTTPResponse:
        """Answer it, now that its body is here, still as it was sent (compressed, if it is). Raises nothing."""

    def too_large(self) -> HTTPResponse:
        """Refuse it, because its body has, or would have, more bytes than are read."""

    def too_many(self) -> HTTPResponse:
        """Refuse it, because its client has too many requests that are read or answered at this time."""

    def unreadable(self, status: int, reason: str) -> HTTPResponse:
        """Refuse it, because its body did not come as its head says, or cannot be read by this host."""


Admission: TypeAlias = Callable[[HTTPRequest], HTTPResponse | Admitted]


class Running(Protocol):
    """A call that was begun, and whose response comes later."""

    def cancel(self) -> None:
        """End it, because its caller has hung up: there is no response any more. Afterwards it does nothing."""


class Plain(Protocol):
    """What was judged of a head, for all requests with the same one.

    A host may keep it for as long as the endpoint that it comes from, for the same peer and certificate. It also holds
    for heads that differ in nothing but the values, the presence and the place of ``Content-Length`` (digits that do
    not begin with 0), ``X-Request-ID``, ``X-Request-Timeout`` and ``traceparent``, each at most once. All other headers
    must be the same, because methods may read them.
    """

    @property
    def client(self) -> str:
        """Whose request it is: the address that a trusted proxy has named, or the peer's."""

    def answer(  # noqa: PLR0913, PLR0917 - what is known of one request
        self,
        body: bytes,
        request_id: str | None,
        wish: str | None,
        connection: object,
        respond: Callable[[bytes], None],
        trace: str | None = None,
        request: object | None = None,
    ) -> bytes | Running | None:
        """Answer a request with such a head. Raises nothing.

        Args:
            body: all of it, as it was sent, and no more than ``limits.max_body`` bytes.
            request_id: the value of X-Request-ID, None without one.
            wish: the value of X-Request-Timeout, None without one.
            connection: see HTTPRequest.
            respond: called with the response when it is there, once, on the event loop and never from in here; not
                after ``cancel``.
            trace: the value of traceparent, None without one.
            request: see HTTPRequest.

        Returns:
            the whole response of HTTP/1.1, from the status line on, without a header Connection; or a call that runs,
            and responds later; or None, and nothing was done, charged or observed: the request takes the full way.

        """


Know: TypeAlias = Callable[[HTTPRequest], Plain | None]
"""Judges a head that may be kept; None where heads like it always take the full way."""


async def _nothing() -> None:
    """Close nothing."""


class Endpoint(Struct, frozen=True, kw_only=True):
    """What a host of another program, like a Flask app, serves.

    Attributes:
        open: opens the endpoint in this process. What it returns belongs to one process and one event loop; a process
            that is forked later opens the endpoint again. What all processes share was made before.
        close: closes what ``open`` has opened for methods, on the same loop, if the host knows when it ends.
        know: returns what judges heads that may be kept, for what was opened on this loop; None where none may be.
        limits: what the host keeps to.
        paths: where calls are POSTed to.
        agents: the path for AI agents; none where they are offered nothing.

    """

    open: Callable[[], Awaitable[Admission]]
    limits: Limits
    paths: tuple[str, ...]
    agents: tuple[str, ...] = ()
    close: Callable[[], Coroutine[Any, Any, None]] = _nothing
    know: Callable[[], Know | None] = lambda: None
