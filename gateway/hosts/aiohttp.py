"""The aiohttp host: an endpoint as routes of an application that has others as well.

    app.add_routes(routes(gateway.endpoint(registry)))

A body is asked for only when its request was let in, so that no ``100 Continue`` is sent for a refused one. Where
aiohttp unpacks bodies, what comes out of them is counted. A call is cancelled when its client hangs up if the server is
run with ``handler_cancellation=True``; without that, a stream ends when the next piece is sent. ``context.request`` is
aiohttp's request.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import TypeAlias

from aiohttp import HttpVersion11
from aiohttp.web import Request, Response, RouteDef, StreamResponse, route

from gateway.hosts.mounted import HERE, Headers, Mount
from gateway.model.http import Endpoint, HTTPRequest

User: TypeAlias = Callable[[Request], str | None]

_UNPACKED = frozenset({"gzip", "deflate"})  # of the Content-Encodings that the endpoint knows


def routes(
    endpoint: Endpoint, paths: Iterable[str] = (), user: User = lambda _: None, *, auto_decompress: bool = True
) -> list[RouteDef]:
    """Make the routes of an endpoint, for ``Application.add_routes``; with that of AI agents, if there is one.

    Args:
        endpoint: what ``gateway.endpoint`` returns.
        paths: where calls are POSTed to; without any, the endpoint's own paths.
        user: returns the name of the user whom middleware has found, from the request; that is then ``context.key``.
            None stands for nobody.
        auto_decompress: what the server is run with. aiohttp's own choice is to unpack bodies, and then it takes one
            that is cut short for whole; with False, such a body is refused.

    """
    mount = Mount(endpoint)

    async def call(request: Request) -> StreamResponse:
        unpacked = auto_decompress and request.headers.get("Content-Encoding", "").strip().lower() in _UNPACKED
        head = HTTPRequest(
            method=request.method,
            target=request.path if request.path in endpoint.agents else mount.path,
            headers=Headers([pair for pair in request.raw_headers if not (unpacked and _is_coding(pair[0]))]),
            peer=HERE if request.remote == "" else request.remote or "",  # of a Unix socket it is empty
            request=request,
            user=user(request),
            takes_pieces=True,
        )
        version = f"{request.version.major}.{request.version.minor}"
        pairs = None if unpacked else request.raw_headers
        async with mount.responding(head, _pieces(request), version, pairs) as response:
            if response.pieces is None:
                return Response(status=response.status, headers=response.headers, body=response.body or None)
            made = StreamResponse(status=response.status, headers=response.headers)
            with suppress(ConnectionError):  # the client has hung up
                await made.prepare(request)
                async for piece in response.pieces:
                    await made.write(piece)
                await made.write_eof()
            return made

    return [
        route("*", path, call, expect_handler=_wait) for path in (*(tuple(paths) or endpoint.paths), *endpoint.agents)
    ]


async def _wait(request: Request) -> None:
    """Send no 100 Continue yet: the body of a request that is refused is not wanted."""


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the response has not begun
    async for piece in request.content.iter_any():
        yield piece


def _is_coding(name: bytes) -> bool:
    return name.lower() == b"content-encoding"
