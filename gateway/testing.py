"""Testing methods without sockets: in this process, and through everything else that a call goes through.

    with Client(registry) as client:              gateway.Client, whose server is the registry
        client.call("add", 1, 2)
        client.raw(b'{"jsonrpc": ...}')           the response to any bytes
    async with AsyncClient(registry) as client:   the same for a test that has an event loop
    FakeUpstream({"search": function})            stands for an upstream: Client(registry, upstreams={"books": ...})
    Context.fake(key="odoo")                      a context for a function that is called by itself

Requests and responses are bytes, which the real codecs write and read; access, rates, deadlines, limits, hooks and the
log are those of a server.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, Unpack

from gateway import client as clients
from gateway.app import build
from gateway.client.blocking import Blocking
from gateway.client.core import Core
from gateway.client.loop import Looping
from gateway.client.options import Options as ClientOptions
from gateway.client.transport import Stream
from gateway.config import Config, load
from gateway.fleet.listing import Instance
from gateway.hosts.mounted import Headers
from gateway.methods import Registry
from gateway.methods.loading import load_registry
from gateway.model.faults import MethodNotFound
from gateway.model.http import HTTPRequest, HTTPResponse
from gateway.upstreams import Failures, Invocation, Options, Signature
from gateway.upstreams.faults import unreachable
from gateway.upstreams.frame import introduce
from gateway.wire.http_responses import response_head

T = TypeVar("T")

_HOST = "http://testing"


class FakeUpstream:
    """An upstream of Python functions, plain or async, which may raise faults.

    Args:
        methods: the functions by the names that the upstream has for them.

    Attributes:
        is_down: while it is true, the upstream cannot be reached.
        calls: what it was called with, the name and the arguments.

    """

    Options: ClassVar[type[Options]] = Options
    takes: ClassVar[Any] = "either"
    failures: ClassVar[Failures] = {OSError: unreachable}

    def __init__(self, methods: Mapping[str, Callable[..., Any]]) -> None:
        self.is_down = False
        self.calls: list[tuple[str, list[Any] | dict[str, Any]]] = []
        self._methods = dict(methods)

    def known(self) -> list[Signature]:
        """Return the methods."""
        return [Signature(name=name, doc=inspect.getdoc(each) or "") for name, each in self._methods.items()]

    async def describe(self, deadline: float) -> list[Signature]:
        """Return the methods, if it can be reached."""
        self._reach()
        return self.known()

    def aim(self, instance: Instance) -> None:
        """Do nothing: there is one."""

    def connections(self) -> tuple[int, int]:
        """Count none."""
        return 0, 0

    async def reach(self) -> None:
        """Tell whether it can be reached."""
        self._reach()

    async def call(self, invocation: Invocation) -> Any:
        """Call a function."""
        self._reach()
        invocation.sent = "yes"
        self.calls.append((invocation.method, invocation.params))
        function = self._methods.get(invocation.method)
        if function is None:
            raise MethodNotFound("the upstream has no such method")
        params = invocation.params
        result = function(**params) if isinstance(params, dict) else function(*params)
        return await result if inspect.isawaitable(result) else result

    async def close(self) -> None:
        """Close nothing."""

    def _reach(self) -> None:
        if self.is_down:
            raise ConnectionRefusedError("the fake upstream is down")


class _Server:
    """A gateway without sockets. It belongs to the event loop of its first request."""

    def __init__(
        self,
        served: Registry | str,
        config: str | Path | Config | None,
        upstreams: Mapping[str, FakeUpstream],
        client: str,
    ) -> None:
        registry = load_registry([served]) if isinstance(served, str) else served
        loaded = load(Path(config), {}, ()) if isinstance(config, str | Path) else config or Config()
        self.path = loaded.server.paths[0]
        self._client = client
        self._gateway = build(loaded, registry, fakes=upstreams)
        self._is_open = False
        self._discoveries: list[asyncio.Task[None]] = []

    async def answer(self, head: HTTPRequest, body: bytes) -> HTTPResponse:
        """Answer a request as a host would."""
        if not self._is_open:
            await self._gateway.lifespans.open()
            self._is_open = True
            self._discoveries = await introduce(self._gateway.upstreams, self._gateway.registry)
        admitted = self._gateway.admit(head)
        if isinstance(admitted, HTTPResponse):
            return admitted
        limit = self._gateway.config.limits.max_body
        response = admitted.too_large() if len(body) > limit else await admitted.answer(body)
        await asyncio.sleep(0)  # the line of the log is written in the next turn
        return response

    async def respond(self, request: bytes, deadline: float) -> bytes:
        """Answer a request in the bytes that gateway.Client sends."""
        lines, _, body = request.partition(b"\r\n\r\n")
        first, *headers = lines.decode("latin-1").split("\r\n")
        target = first.split(" ")[1]
        async with asyncio.timeout(deadline - time.monotonic()):
            response = await self.answer(self.head(target, _pairs(headers)), body)
        return response_head(response) + response.body

    def head(self, target: str, headers: Iterable[tuple[str, str]]) -> HTTPRequest:
        """Make the head of a request."""
        return HTTPRequest(method="POST", target=target, headers=Headers(headers), peer=self._client, connection=self)

    async def close(self) -> None:
        """Close what the lifespans have opened, and end everything."""
        for discovery in self._discoveries:
            discovery.cancel()
        self._gateway.pool.abandon()
        await asyncio.gather(*(upstream.close() for upstream in self._gateway.upstreams))
        await asyncio.gather(*(directory.close() for directory in self._gateway.directories.values()))
        await self._gateway.lifespans.close()


class _Stream:
    """A connection to a server in this process."""

    def __init__(self, respond: Callable[[bytes, float], Awaitable[bytes]]) -> None:
        self.written = False
        self._respond = respond
        self._request = b""
        self._is_closed = False

    def is_clean(self) -> bool:
        return not self._is_closed

    async def send(self, data: bytes, deadline: float) -> None:
        self.written, self._request = True, data

    async def receive(self, deadline: float) -> bytes:
        return await self._respond(self._request, deadline)

    def close(self) -> None:
        self._is_closed = True


class _BlockingIO(Blocking):
    def __init__(self, respond: Callable[[bytes, float], Awaitable[bytes]]) -> None:
        self._respond = respond

    async def connect(self, *_: Any) -> Stream:
        return _Stream(self._respond)


class _LoopingIO(Looping):
    def __init__(self, respond: Callable[[bytes, float], Awaitable[bytes]]) -> None:
        self._respond = respond

    async def connect(self, *_: Any) -> Stream:
        return _Stream(self._respond)


class Client(clients.Client):
    """gateway.Client for a registry in this process, in a test without an event loop. One thread may use it.

    Args:
        served: a registry, or the name of a module, as ``gateway serve`` takes it.
        config: a file, or a Config; without it, the defaults. The environment is not read.
        upstreams: fakes in the place of upstreams by their names, with the options that the configuration has for them.
        client: the address that calls come from.
        options: those of gateway.Client, like ``protocol="xmlrpc"`` and ``key``.

    Raises:
        ConfigError: the configuration is wrong.
        LoadError: a module cannot be loaded.
        ValueError: an option is wrong.

    """

    def __init__(
        self,
        served: Registry | str,
        *,
        config: str | Path | Config | None = None,
        upstreams: Mapping[str, FakeUpstream] = {},
        client: str = "127.0.0.1",
        **options: Unpack[ClientOptions],
    ) -> None:
        self._server = _Server(served, config, upstreams, client)
        self._runner = asyncio.Runner()

        async def respond(request: bytes, deadline: float) -> bytes:
            return self._run(lambda: self._server.respond(request, deadline))

        core = Core(f"{_HOST}{self._server.path}", options, _BlockingIO(respond))
        super(clients.Client, self).__init__(core, core.view)  # not with the sockets of gateway.Client

    def raw(
        self, body: bytes, content_type: str = "application/json", *, path: str = "", **headers: str
    ) -> HTTPResponse:
        """POST any bytes, and return the response. ``X_Request_ID="1"`` is the header X-Request-ID.

        They go to the path of calls, or to another one.
        """
        head = self._server.head(path or self._server.path, _headers(body, content_type, headers))
        return self._run(lambda: self._server.answer(head, body))

    def close(self) -> None:
        """Close what the lifespans have opened."""
        super().close()
        self._run(self._server.close)
        self._runner.close()

    def _run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._runner.run(make())
        raise RuntimeError("this test has an event loop: use gateway.testing.AsyncClient")


class AsyncClient(clients.AsyncClient):
    """gateway.AsyncClient for a registry in this process; see Client for its arguments."""

    def __init__(
        self,
        served: Registry | str,
        *,
        config: str | Path | Config | None = None,
        upstreams: Mapping[str, FakeUpstream] = {},
        client: str = "127.0.0.1",
        **options: Unpack[ClientOptions],
    ) -> None:
        self._server = _Server(served, config, upstreams, client)
        core = Core(f"{_HOST}{self._server.path}", options, _LoopingIO(self._server.respond))
        super(clients.AsyncClient, self).__init__(core, core.view)  # not with the sockets of gateway.AsyncClient

    async def raw(
        self, body: bytes, content_type: str = "application/json", *, path: str = "", **headers: str
    ) -> HTTPResponse:
        """POST any bytes, and return the response; see Client.raw."""
        head = self._server.head(path or self._server.path, _headers(body, content_type, headers))
        return await self._server.answer(head, body)

    async def close(self) -> None:
        """Close what the lifespans have opened."""
        await super().close()
        await self._server.close()


def _headers(body: bytes, content_type: str, given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield from {"Host": "testing", "Content-Type": content_type, "Content-Length": str(len(body))}.items()
    yield from ((name.replace("_", "-"), value) for name, value in given.items())


def _pairs(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition(":")
        yield name, value.strip()
