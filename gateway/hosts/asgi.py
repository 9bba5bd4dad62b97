"""The ASGI host: an endpoint as an ASGI application, by itself or mounted in one of Starlette, FastAPI or Django.

    app = gateway.asgi(registry)            uvicorn module:app, hypercorn module:app
    site.mount("/rpc", app)                 Starlette, FastAPI: calls are POSTed to /rpc/api, /rpc/RPC2 and so on

A body is asked for only when its request was let in, so that no ``100 Continue`` is sent for a refused one. A call that
waits is cancelled, and a stream ends, when its client hangs up. ``context.request`` is the scope, which has what
middleware has put there.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from gateway.hosts.eager import start
from gateway.hosts.mounted import HERE, Headers, Mount, Upload, response_headers
from gateway.model.http import Endpoint, HTTPRequest, HTTPResponse, Pieces

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class ASGIHost:
    """An ASGI application for one endpoint.

    Args:
        endpoint: what ``gateway.endpoint`` returns.
        user: returns the name of the user whom middleware has found, from the scope of a request; that is then
            ``context.key``. None stands for nobody.

    """

    def __init__(self, endpoint: Endpoint, user: Callable[[Scope], str | None] = lambda _: None) -> None:
        self._mount = Mount(endpoint)
        self._user = user

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or the life of the server."""
        if scope["type"] == "http":
            await self._respond(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close"})  # it is refused with 403

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Open the endpoint before the first request: the lifespan of an app that this one is mounted in.

        What the registries' lifespans have opened is closed at the end.

        Raises:
            Exception: the endpoint cannot be opened.

        """
        del app
        await self._mount.open()
        try:
            yield
        finally:
            await self._mount.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:  # noqa: BLE001 - whatever it is, the server is told of it, and ends
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, unless its client hangs up."""
        pairs = [(name, value) for name, value in scope["headers"]]
        head = HTTPRequest(
            method=scope["method"],
            target=_path(scope).replace("?", "%3F"),  # it has been decoded, and no query follows
            headers=Headers(pairs),
            peer=peer(scope),
            request=scope,
            user=self._user(scope),
            takes_pieces=True,
        )
        upload, is_head = await self._mount.begin(head, scope["http_version"], pairs), head.method == "HEAD"
        if isinstance(upload, HTTPResponse):
            await _send(upload, send, is_head=is_head)
            return
        with upload:
            response = await upload.read(_pieces(receive)) or await _answer(upload, receive)
            if response is not None and response.pieces is not None:
                await _send_pieces(response, response.pieces, receive, send)
                return
        if response is not None:
            await _send(response, send, is_head=is_head)


def peer(scope: Scope) -> str:
    """Return the address of a request's peer: none comes to a server that listens at no port, but at a Unix socket."""
    if scope.get("client"):
        return str(scope["client"][0])
    is_unix = "client" in scope and "server" in scope and (scope["server"] or ("", None))[1] is None
    return HERE if is_unix else ""


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client has hung up")
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def _answer(upload: Upload, receive: Receive) -> HTTPResponse | None:
    """Answer a request, unless its client hangs up first."""
    answer = start(upload.answer())
    if isinstance(answer, HTTPResponse):
        return answer
    leaving = asyncio.ensure_future(receive())  # behind the body, nothing else can come
    try:
        await asyncio.wait((answer, leaving), return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else None
    finally:
        answer.cancel()
        leaving.cancel()


async def _send_pieces(response: HTTPResponse, pieces: Pieces, receive: Receive, send: Send) -> None:
    """Send a response as it comes, until its client hangs up."""

    async def send_all() -> None:
        await _send_head(response, send)
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    sending, leaving = asyncio.ensure_future(send_all()), asyncio.ensure_future(receive())
    try:
        await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        sending.cancel()
        leaving.cancel()
        await asyncio.wait((sending,))
        await pieces.close()
    if not sending.cancelled() and not isinstance(sending.exception(), OSError | None):
        sending.result()  # an OSError says that the client has hung up


async def _send_head(response: HTTPResponse, send: Send) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response_headers(response)]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})


async def _send(response: HTTPResponse, send: Send, *, is_head: bool) -> None:
    await _send_head(response, send)
    await send({"type": "http.response.body", "body": b"" if is_head else response.body})


def _path(scope: Scope) -> str:
    """Return the path below the one that the application is mounted at."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))
