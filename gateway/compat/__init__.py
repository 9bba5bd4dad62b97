"""A program for the standard library's SimpleXMLRPCServer may keep its calls: only the import changes.

    from gateway.compat import SimpleXMLRPCServer

It runs functions as the original does: in the thread of ``serve_forever``, one after the other, or in threads with
``socketserver.ThreadingMixIn``. All else is the gateway's: it reads and writes its XML-RPC, speaks JSON-RPC on
the same paths, and its limits hold. docs/compat.md has what differs.

handlers.py is what of a request handler counts.
"""

import asyncio
import functools
import inspect
import socket
import socketserver
import threading
import xmlrpc.client
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from gateway.app import Gateway
from gateway.compat.handlers import SimpleXMLRPCRequestHandler, check_handler, configured
from gateway.config import Config
from gateway.endpoints.observers import Observers
from gateway.hosts.loops import new_event_loop
from gateway.methods import Method, MethodOptions, RegistrationError, Registry, make_method
from gateway.model.calls import Call, CallHandler, CallRecord, Context, Reply
from gateway.model.faults import Fault, InvalidParams, MethodNotFound
from gateway.model.hooks import Next
from gateway.model.http import Refusal
from gateway.process.embedding import Server

__all__ = ["SimpleXMLRPCRequestHandler", "SimpleXMLRPCServer"]

_BACKLOG = 1024
_LAST = 5.0  # seconds that the client of handle_request has to take its answer


class SimpleXMLRPCServer:
    """A server of XML-RPC, and of JSON-RPC, with the interface of the standard library's.

    Args:
        addr: host and port.
        requestHandler: a class; its ``rpc_paths`` and ``encode_threshold`` count, and nothing else of it.
        logRequests: not used: the gateway writes to the loggers ``gateway`` and ``gateway.calls``.
        allow_none: whether None may be a result.
        encoding: of responses; only UTF-8 is there.
        bind_and_activate: whether it binds at once.
        use_builtin_types: whether functions are given datetime and bytes, instead of DateTime and Binary. Arguments
            with a type hint have the type of the hint.
        faults: "stdlib" makes the faults of the original, ``<class 'ValueError'>:text`` with the code 1, for clients
            that read them. By default exceptions stay inside, and faults are those of the gateway.
        config: a file, or a Config, for all that has no argument here, like limits and access.

    Raises:
        OSError: the address cannot be bound.
        TypeError: a subclass has ``_dispatch``, or the request handler a method, which would not be called.
        ValueError: the encoding is another one.

    """

    address_family = socket.AF_INET
    timeout: float | None = None

    def __init__(  # noqa: PLR0913, PLR0917 - the original's
        self,
        addr: tuple[str, int],
        requestHandler: type = SimpleXMLRPCRequestHandler,  # noqa: N803 - likewise
        logRequests: bool = True,  # noqa: FBT001, FBT002, N803 - likewise
        allow_none: bool = False,  # noqa: FBT001, FBT002 - likewise
        encoding: str | None = None,
        bind_and_activate: bool = True,  # noqa: FBT001, FBT002 - likewise
        use_builtin_types: bool = False,  # noqa: FBT001, FBT002 - likewise
        *,
        faults: Literal["gateway", "stdlib"] = "gateway",
        config: str | Path | Config | None = None,
    ) -> None:
        if hasattr(self, "_dispatch"):
            raise TypeError("_dispatch is not called: put what it does into server.registry.middleware")
        if encoding is not None and encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
            raise ValueError("responses are always in UTF-8, which each client of XML-RPC reads: leave out encoding")
        check_handler(requestHandler)
        self.logRequests = logRequests
        self.server_address: Any = addr
        self.registry = Registry()
        self.socket = socket.socket(self.address_family, socket.SOCK_STREAM)
        self._config = configured(config, requestHandler, allow_none=allow_none)
        self._converts = not use_builtin_types
        self._is_threading = isinstance(self, socketserver.ThreadingMixIn)
        self._functions: set[str] = set()
        self._runner = asyncio.Runner(loop_factory=new_event_loop)
        self._server: _Server | None = None
        self._says_stdlib = faults == "stdlib"
        self._leaving: asyncio.Event | None = None
        self._has_ended = threading.Event()
        if self._says_stdlib:
            self.registry.exception_handler(Exception)(_as_original)
            self.registry.middleware(_nothing)
        if bind_and_activate:
            try:
                self.server_bind()
                self.server_activate()
            except OSError:
                self.server_close()
                raise

    def server_bind(self) -> None:
        """Bind the address."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def server_activate(self) -> None:
        """Listen: from now on connections wait to be accepted."""
        self.socket.listen(_BACKLOG)

    def fileno(self) -> int:
        """Return the number of the listening socket."""
        return self.socket.fileno()

    def register_function(self, function: Callable[..., Any] | None = None, name: str | None = None) -> Any:
        """Register a function, or, without one, return a decorator. A later one replaces one of the same name.

        Raises:
            RegistrationError: the function cannot be served.

        """
        if function is None:
            return functools.partial(self.register_function, name=name)
        made = make_method(function, MethodOptions(name=name))
        self._functions.add(made.name)
        self.registry.replace(self._like_the_original(made))
        return function

    def register_instance(self, instance: object, allow_dotted_names: bool = False) -> None:  # noqa: FBT001, FBT002 - likewise
        """Register the public methods of an object; functions of the same names go before them.

        Raises:
            RegistrationError: it has ``_dispatch`` without ``_listMethods``, or dotted names are asked for.

        """
        if allow_dotted_names:
            raise RegistrationError(
                "allow_dotted_names lets callers follow any attribute: register what is meant instead, as in"
                " server.registry.namespace('orders').register_instance(instance.orders)"
            )
        found = Registry()
        found.register_instance(instance)
        for name, method in found.methods():
            if name not in self._functions:
                self.registry.replace(self._like_the_original(method))

    def register_introspection_functions(self) -> None:
        """Do nothing: introspection is always there."""

    def register_multicall_functions(self) -> None:
        """Do nothing: system.multicall is always there."""

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve in this thread until another one, or a function, calls ``shutdown``."""
        del poll_interval
        self._has_ended.clear()
        try:
            self._runner.run(self._serve())
        finally:
            self._leaving = None
            self._has_ended.set()

    def shutdown(self) -> None:
        """End ``serve_forever``, and wait until it has, unless this is its own thread."""
        leaving = self._leaving
        if leaving is None:
            return
        try:
            is_its_own = asyncio.get_running_loop() is self._runner.get_loop()
        except RuntimeError:
            is_its_own = False
        self._runner.get_loop().call_soon_threadsafe(leaving.set)
        if not is_its_own:
            self._has_ended.wait()

    def handle_request(self) -> None:
        """Answer one request, or call ``handle_timeout`` when none has come within ``timeout`` seconds."""
        times = [each for each in (self.timeout, self.socket.gettimeout()) if each is not None]
        if not self._runner.run(self._answer_one(min(times, default=None))):
            self.handle_timeout()

    def handle_timeout(self) -> None:
        """Do nothing; a subclass may do something."""

    def server_close(self) -> None:
        """End everything, and close the address; what serves in another thread ends first."""
        self.shutdown()
        if self._server is not None:
            self._runner.run(self._server.stop())
        self._runner.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.server_close()

    async def _serve(self) -> None:
        self._leaving = asyncio.Event()
        await self._started()
        await self._leaving.wait()

    async def _answer_one(self, seconds: float | None) -> bool:
        server = await self._started()
        try:
            async with asyncio.timeout(seconds):
                await server.answers.acquire()
        except TimeoutError:
            return False
        await server.settled(_LAST)
        return True

    async def _started(self) -> "_Server":
        """Start at the first request: then all is registered."""
        if self._server is None:
            made = _Server(self.registry, f"fd:{self.fileno()}", config=self._config)
            made.answers = asyncio.Semaphore(0)
            made.says_stdlib = self._says_stdlib
            await made.start()
            self._server = made
        return self._server

    def _like_the_original(self, method: Method) -> Method:
        """Let a method run where it would, on arguments as it would have them."""
        run = method.run if self._is_threading or method.run == "async" else "inline"
        function = _with_old_types(method) if self._converts else method.function
        options = msgspec.structs.replace(method.options, run=run)
        return msgspec.structs.replace(method, run=run, function=function, options=options)


class _Server(Server):
    """A gateway that counts answered requests, for handle_request."""

    answers: asyncio.Semaphore
    says_stdlib: bool

    def _build(self) -> Gateway:
        gateway = super()._build()
        gateway.rpc.observers = _Counted(gateway.rpc.observers, self.answers.release)
        if self.says_stdlib:
            gateway.rpc.handler = _original_faults(gateway.rpc.handler)
        return gateway


class _Counted(Observers):
    def __init__(self, inner: Observers, count: Callable[[], None]) -> None:
        super().__init__(tracing=inner.tracing)
        self._inner = inner
        self._count = count

    def note(self, record: CallRecord) -> None:
        self._inner.note(record)

    def refused(self, refusal: Refusal) -> None:
        self._inner.refused(refusal)
        self._count()

    def answered(self, protocol: str, received: int, sent: int) -> None:
        self._inner.answered(protocol, received, sent)
        self._count()


def _as_original(error: Exception, _: Context) -> Fault:
    return Fault(1, f"{type(error)}:{error}")


async def _nothing(call: Call, context: Context, next: Next) -> Reply:  # noqa: A002 - as all middleware is written
    """Be there: what has middleware takes the way on which all faults can be rewritten."""
    return await next(call, context)


def _original_faults(handler: CallHandler) -> CallHandler:
    """Write the faults of names and arguments as the original does."""

    async def call_originally(call: Call, context: Context) -> Reply:
        replied = handler(call, context)
        reply = replied if isinstance(replied, Reply) else await replied
        if isinstance(reply.fault, MethodNotFound):
            return Reply(fault=Fault(1, f"<class 'Exception'>:method \"{call.method}\" is not supported"))
        if isinstance(reply.fault, InvalidParams):
            return Reply(fault=Fault(1, f"<class 'TypeError'>:{reply.fault.detail}"))
        return reply

    return call_originally


def _with_old_types(method: Method) -> Callable[..., Any]:
    """Give a function DateTime and Binary where it has no type hints that say otherwise."""
    function = method.function
    hinted = [param.hint is not Any for param in method.positional]
    rest = method.rest is not None and method.rest.hint is not Any

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        told = [*hinted, *[rest] * (len(args) - len(hinted))]
        old = [value if has_hint else _old(value) for value, has_hint in zip(args, told, strict=False)]
        return function(*old, **kwargs)

    return function if inspect.iscoroutinefunction(function) else call


def _old(value: Any) -> Any:
    if isinstance(value, bytes):
        return xmlrpc.client.Binary(value)
    if isinstance(value, datetime):
        return xmlrpc.client.DateTime(value)
    if isinstance(value, list):
        return [_old(each) for each in value]
    if isinstance(value, dict):
        return {name: _old(each) for name, each in value.items()}
    return value
