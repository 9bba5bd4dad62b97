"""A RequestHandler for calls, in an application of Tornado that has other handlers as well.

    Application([("/", Home), ("/rpc", RPCHandler, {"endpoint": gateway.endpoint(registry)})])
    RuleRouter([Rule(PathMatches("/rpc"), delegate(gateway.endpoint(registry))), Rule(AnyMatches(), application)])

The body is streamed, so that one is read only when its request was let in. A call that waits is cancelled when its
client hangs up. ``context.request`` is the handler. Web pages are refused unless ``access.origins`` has their site, so
Tornado's own rules for them, cookies against forgery and checks of the Origin, are not asked.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError
from tornado.web import Application, RequestHandler, stream_request_body

from gateway.hosts.eager import start
from gateway.hosts.mounted import Mount, Upload, peer_of
from gateway.model.http import Endpoint, HTTPRequest, HTTPResponse, Pieces

T = TypeVar("T")
User: TypeAlias = Callable[["RPCHandler"], str | None]

_MARGIN = 2**20  # bytes; Tornado's own limit, answered with a bare 400, strikes only where a chunk says it is huge
_UNBOUNDED = 2**62  # bytes; what is thrown away needs no limit but time
_MOUNTS = "gateway_mounts"  # the setting of an application that has its endpoints, opened


def delegate(endpoint: Endpoint, user: User = lambda _: None) -> Application:
    """Make the target of a RuleRouter's rule: all requests that it gets are calls, or those of agents at their path.

    Args:
        endpoint: what ``gateway.endpoint`` returns.
        user: as for RPCHandler.

    """
    arguments = {"endpoint": endpoint, "user": user}
    agents = [(re.escape(path), RPCHandler, {**arguments, "path": path}) for path in endpoint.agents]
    return Application([*agents, (r".*", RPCHandler, arguments)])


@stream_request_body
class RPCHandler(RequestHandler):
    """Answers calls, and refuses what is not one. Its rule in the application has these arguments.

    Args:
        endpoint: what ``gateway.endpoint`` returns.
        user: returns the name of the user whom the application has found, from the handler, like
            ``lambda handler: handler.current_user``; that is then ``context.key``. None stands for nobody.
        path: the path of the endpoint that the rule stands for, like ``mcp.path``; that of calls without it.

    """

    SUPPORTED_METHODS = (*RequestHandler.SUPPORTED_METHODS, "TRACE", "CONNECT")

    def initialize(self, endpoint: Endpoint, user: User = lambda _: None, path: str = "") -> None:
        """Take the arguments of the rule (called by Tornado)."""
        mounts: dict[object, Mount] = self.settings.setdefault(_MOUNTS, {})
        self._mount = mounts.get(endpoint.open) or mounts.setdefault(endpoint.open, Mount(endpoint))
        self._user = user
        self._path = path or self._mount.path
        self._upload: Upload | None = None
        self._answering: asyncio.Task[Any] | None = None

    def set_default_headers(self) -> None:
        """Leave it to the response to say what it is (called by Tornado)."""
        self.clear_header("Server")
        self.clear_header("Content-Type")

    def check_xsrf_cookie(self) -> None:
        """Do nothing: an Origin is judged, and no cookie is looked at (called by Tornado)."""

    def check_trusted_origin(self, origin: str) -> bool:
        """Let the endpoint judge the Origin (called by Tornado)."""
        del origin
        return True

    async def prepare(self) -> None:
        """Judge the request by its head (called by Tornado before it reads the body)."""
        request = self.request
        headers: Mapping[str, str] = request.headers
        head = HTTPRequest(
            method=str(request.method),
            target=self._path,
            headers=headers,
            peer=peer_of(request.remote_ip),
            connection=_connection(self),
            request=self,
            user=self._user(self),
            takes_pieces=True,
        )
        upload = await self._mount.begin(head, request.version.removeprefix("HTTP/"), request.headers.get_all())
        if isinstance(upload, HTTPResponse):
            self._respond(upload)
        else:
            self._upload = upload
            self._read_on(self._mount.limits.body_timeout, self._mount.limits.max_body + _MARGIN)

    def data_received(self, chunk: bytes) -> None:
        """Take a piece of the body (called by Tornado)."""
        refusal = self._upload.take(chunk) if self._upload is not None else None
        if refusal is not None:
            self._respond(refusal)

    async def post(self, *_: Any, **__: Any) -> None:
        """Answer the call, now that its body is here (called by Tornado)."""
        assert self._upload is not None  # noqa: S101 - what was refused does not come here
        answer = start(self._upload.answer())
        response = answer if isinstance(answer, HTTPResponse) else await self._waited(answer)
        if response is None:
            return
        if response.pieces is None:
            self._respond(response)
        else:
            await self._waited(asyncio.ensure_future(self._respond_in_pieces(response, response.pieces)))

    async def _waited(self, task: "asyncio.Task[T]") -> "T | None":
        """Wait for what is cancelled when the client hangs up; None where it was."""
        self._answering = task
        try:
            await asyncio.wait((task,))
        finally:
            task.cancel()
        return None if task.cancelled() else task.result()

    async def _respond_in_pieces(self, response: HTTPResponse, pieces: Pieces) -> None:
        """Write a response as it comes."""
        try:
            self._write_head(response)
            await self.flush()
            async for piece in pieces:
                self.write(piece)
                await self.flush()
            self.finish()
        except StreamClosedError:
            pass  # the client has hung up
        finally:
            await pieces.close()

    def on_connection_close(self) -> None:
        """Cancel the call: nobody waits for its answer (called by Tornado)."""
        super().on_connection_close()
        if self._answering is not None:
            self._answering.cancel()
        self.on_finish()

    def on_finish(self) -> None:
        """Stop counting the request (called by Tornado when its response is written)."""
        if self._upload is not None:
            self._upload.close()
            self._upload = None

    def _respond(self, response: HTTPResponse) -> None:
        """Write a response; what is still sent of the request's body is thrown away for a moment."""
        self._write_head(response)
        self._read_on(self._mount.limits.linger, _UNBOUNDED)
        written = self.finish(response.body or None)
        connection = self.request.connection
        if "close" in self._options() and isinstance(connection, HTTP1Connection):
            written.add_done_callback(lambda _: connection.stream.close())  # Tornado does it only if that stands alone

    def _write_head(self, response: HTTPResponse) -> None:
        self.set_status(response.status)
        for name, value in response.headers:
            self.set_header(name, value)

    def _options(self) -> list[str]:
        return [option.strip() for option in self.request.headers.get("Connection", "").lower().split(",")]

    def _read_on(self, seconds: float, size: int) -> None:
        connection = self.request.connection
        if isinstance(connection, HTTP1Connection):
            connection.set_body_timeout(seconds)
            connection.set_max_body_size(size)


def _connection(handler: RPCHandler) -> object | None:
    connection = handler.request.connection
    return connection.stream if isinstance(connection, HTTP1Connection) else None
