"""The Django host: an endpoint as a view, beside whatever else the project has.

    urlpatterns = [path("rpc", view(gateway.endpoint(registry)))]           under WSGI
    urlpatterns = [path("rpc", async_view(gateway.endpoint(registry)))]     under ASGI

Under WSGI, a body is read only when its request was let in. Under ASGI, Django has read it before it calls a view, into
a temporary file and without a limit; the limits hold for what is read of that. There a call that waits is cancelled
when its client hangs up. ``context.request`` is Django's request. No token against forgery is asked for: web pages are
refused unless ``access.origins`` has their site.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from http import HTTPStatus
from inspect import isawaitable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from gateway.hosts.asgi import peer
from gateway.hosts.mounted import Headers, Mount, Sending, response_headers
from gateway.hosts.wsgi import WSGIHost
from gateway.model.http import Endpoint, HTTPRequest, HTTPResponse

View: TypeAlias = Callable[..., HttpResponse]
AsyncView: TypeAlias = Callable[..., Awaitable[HttpResponse | StreamingHttpResponse]]

_PIECE = 2**16  # bytes that are read at once


@runtime_checkable
class Closing(Protocol):
    """An answer that has to be closed when it is written."""

    def close(self) -> None:
        """Close it."""


def view(endpoint: Endpoint, user: Callable[[HttpRequest], str | None] = lambda _: None, path: str = "") -> View:
    """Make a view, which waits for the call in its thread.

    Args:
        endpoint: what ``gateway.endpoint`` returns.
        user: returns the name of the user whom middleware has found, from the request, like
            ``lambda request: request.user.get_username() or None``; that is then ``context.key``. None stands for
            nobody.
        path: the path of the endpoint that the view stands for, like ``mcp.path``; that of calls without it.

    """
    host = WSGIHost(endpoint)

    def call(request: HttpRequest, **_: Any) -> HttpResponse:
        environ = dict(request.META)
        if isinstance(request, ASGIRequest):
            environ["SERVER_PROTOCOL"] = f"HTTP/{request.scope['http_version']}"
            environ["wsgi.input_terminated"] = True
            environ.setdefault("REMOTE_ADDR", peer(request.scope))
        if isinstance(request, ASGIRequest) or environ.get("CONTENT_LENGTH"):
            environ["wsgi.input"] = request  # middleware may have read it; without a length, Django reads nothing
        head: list[Any] = []
        answer = host.answer(
            environ, lambda *told: head.extend(told), path or endpoint.paths[0], request, user(request), in_pieces=False
        )
        made = _made(int(head[0][:3]), head[1], b"".join(answer))
        if isinstance(answer, Closing):
            made._resource_closers.append(answer.close)  # noqa: SLF001 - the server calls it behind the response
        return made

    exempt: View = csrf_exempt(call)
    return exempt


def async_view(
    endpoint: Endpoint,
    user: Callable[[HttpRequest], str | Awaitable[str | None] | None] = lambda _: None,
    path: str = "",
) -> AsyncView:
    """Make a view that waits for the call on the event loop.

    Args:
        endpoint: what ``gateway.endpoint`` returns.
        user: as for ``view``, or ``async``, as Django's ``request.auser`` is.
        path: as for ``view``.

    Raises:
        TypeError: from the view, where the project is run under WSGI.

    """
    mount = Mount(endpoint)

    async def call(request: HttpRequest, **_: Any) -> HttpResponse | StreamingHttpResponse:
        if not isinstance(request, ASGIRequest):  # each request would have an event loop of its own
            raise TypeError("under WSGI, use gateway.hosts.django.view")
        found = user(request)
        head = HTTPRequest(
            method=request.method,
            target=path or mount.path,
            headers=Headers(request.headers.items()),
            peer=request.META.get("REMOTE_ADDR") or peer(request.scope),
            request=request,
            user=await found if isawaitable(found) else found,
            takes_pieces=True,
        )
        pairs = tuple(request.headers.items())
        upload, pieces = await mount.begin(head, request.scope["http_version"], pairs), None
        if isinstance(upload, HTTPResponse):
            response = upload
        else:
            try:
                response = await upload.read(_pieces(request)) or await upload.answer()
                pieces = response.pieces
            finally:
                if pieces is None:
                    upload.close()
            if pieces is not None:
                return StreamingHttpResponse(
                    Sending(pieces, upload), status=response.status, headers=dict(response.headers)
                )
        body = b"" if request.method == "HEAD" else response.body
        return _made(response.status, response_headers(response), body)

    exempt: AsyncView = csrf_exempt(call)
    return exempt


async def _pieces(request: HttpRequest) -> AsyncIterator[bytes]:
    while piece := request.read(_PIECE):
        yield piece
        await asyncio.sleep(0)


def _made(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> HttpResponse:
    made = HttpResponse(body, status=status, headers=dict(headers))
    if status == HTTPStatus.NO_CONTENT:
        del made.headers["Content-Type"]  # Django has added it
    return made
