"""The adapter of ZeroRPC servers: methods by name, arguments by position, values in MessagePack over ZeroMQ."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gateway.fleet.listing import Instance
from gateway.model.faults import BadUpstream, Fault, MethodNotFound
from gateway.model.limits import Limits
from gateway.upstreams import Failures, Invocation, Options, Parameter, Signature
from gateway.upstreams.faults import raised, safe, wrong_arguments
from gateway.upstreams.names import from_names
from gateway.upstreams.options import check_addresses, target
from gateway.upstreams.transport.dial import STREAM_FAILURES, open_stream
from gateway.upstreams.transport.pool import Pool
from gateway.upstreams.transport.pooled import Pooled
from gateway.upstreams.zerorpc.connection import Connection, RemoteError
from gateway.upstreams.zerorpc.events import checked

_SHARE = 256  # calls on one connection
_MOST = 10_000  # methods


class ZeroRPCOptions(Options, frozen=True, kw_only=True):
    """How a server is watched, and how much of a stream is taken."""

    heartbeat: Annotated[
        float,
        Meta(ge=0.1, le=3600, description="Seconds between signs of life while a call runs; two missing ones end it."),
    ] = 5.0
    stream: Annotated[int, Meta(ge=1, le=1_000_000, description="Values of a stream that are collected, at most.")] = (
        10_000
    )

    def __post_init__(self) -> None:
        """Check the URL: an address, and no more."""
        super().__post_init__()
        check_addresses(self)


class ZeroRPC(Pooled[Pool[Connection]]):
    """Calls as events, many on each connection."""

    Options: ClassVar = ZeroRPCOptions
    takes: ClassVar[Literal["list", "dict", "either"]] = "list"
    unannounced: ClassVar = True
    failures: ClassVar[Failures] = STREAM_FAILURES

    def __init__(self, options: ZeroRPCOptions, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        self.aim(options.first)

    def aim(self, instance: Instance) -> None:
        """Have calls go to an instance."""
        self._target = target(instance)
        self._pool = Pool(self._connect, self._options.connections, _SHARE)

    def known(self) -> list[Signature] | None:
        """Nothing is known without asking."""
        return None

    async def describe(self, deadline: float) -> list[Signature] | None:
        """Ask for names, parameters and texts; where that fails, as it does on Python 3.11, for the names."""
        for method in ("_zerorpc_inspect", "_zerorpc_list"):
            asked = Invocation(method=method, params=[], deadline=deadline, request_id="describe")
            try:
                said = await self._ask(asked)
            except RemoteError:
                continue
            return from_names(said) if type(said) is list else _signatures(said)
        return None

    async def call(self, invocation: Invocation) -> Any:
        """Send a call, and wait for its value, or for all values of its stream."""
        try:
            return await self._ask(invocation)
        except RemoteError as error:
            raise _told(error, invocation.method) from None

    async def stream(self, invocation: Invocation) -> AsyncGenerator[Any, None]:
        """Send a call, and give each value of its stream; or a Whole, if it has none."""
        assert isinstance(invocation.params, list)  # noqa: S101 - as ``takes`` says
        args = checked(invocation.params)
        async with self._pool.lend(invocation) as connection:
            try:
                async with aclosing(connection.stream(invocation, args)) as values:
                    async for value in values:
                        yield value
            except RemoteError as error:
                raise _told(error, invocation.method) from None

    async def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    async def _ask(self, invocation: Invocation) -> Any:
        assert isinstance(invocation.params, list)  # noqa: S101 - as ``takes`` says
        args = checked(invocation.params)
        async with self._pool.lend(invocation) as connection:
            return await connection.call(invocation, args)

    async def _connect(self) -> Connection:
        options, limits = self._options, self._limits
        async with asyncio.timeout(options.connect_timeout):
            connection = await open_stream(
                lambda: Connection(limits.max_reply, limits.max_depth, options.stream, options.heartbeat),
                self._target,
                options,
            )
            await connection.ready()
        return connection


def _told(error: RemoteError, method: str) -> Fault:
    """Turn what a service has raised into a fault; the traceback stays inside."""
    if error.name == "NameError" and error.text == method:
        return MethodNotFound("the upstream has no such method")
    wrong = wrong_arguments(error.text, {method}) if error.name == "TypeError" else None
    return wrong or raised(error.name, safe(error.text))


def _signatures(said: Any) -> list[Signature]:
    """Read what _zerorpc_inspect returns.

    Raises:
        BadUpstream: it is not a table of methods.

    """
    methods = said.get("methods") if type(said) is dict else None
    if type(methods) is not dict or len(methods) > _MOST:
        raise BadUpstream(f"the upstream does not report a table of at most {_MOST} methods")
    return [
        Signature(name=name, params=_params(each.get("args")), doc=each["doc"] if type(each.get("doc")) is str else "")
        for name, each in methods.items()
        if type(each) is dict
    ]


def _params(args: Any) -> tuple[Parameter, ...] | None:
    """Read parameters, without the ``self`` of a bound method. None where they are not plain."""
    named = [each for each in args if type(each) is dict and type(each.get("name")) is str] if args else []
    if type(args) is not list or len(named) != len(args):
        return None
    if named and named[0]["name"] == "self":
        del named[0]
    return tuple(
        Parameter(name=each["name"], required="default" not in each, default=each.get("default", ...)) for each in named
    )
