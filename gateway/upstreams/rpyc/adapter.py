"""The adapter of RPyC services: their exposed methods by name, with arguments by position or by name."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gateway.fleet.listing import Instance
from gateway.model.faults import BadUpstream, Fault, InvalidParams, MethodNotFound
from gateway.model.limits import Limits
from gateway.model.streams import Whole
from gateway.model.values import EncodingError
from gateway.upstreams import Failures, Invocation, Signature
from gateway.upstreams.faults import FAILED, raised, safe, wrong_arguments
from gateway.upstreams.names import MOST
from gateway.upstreams.options import target
from gateway.upstreams.rpyc.connection import Connection, RemoteError
from gateway.upstreams.rpyc.lent import CALLATTR, GETROOT, INSPECT, LOCAL_REF, REMOTE_REF, VALUE
from gateway.upstreams.rpyc.plain import NotPlainError, Plain, each, generator_of
from gateway.upstreams.transport.dial import STREAM_FAILURES, StreamOptions, client_context, open_stream
from gateway.upstreams.transport.sessions import Idle, Kept, Most, SessionPooled, pooled

_EXPOSED = "exposed_"
_OF_EVERY_SERVICE = frozenset({"get_service_aliases", "get_service_name"})
_MOST_BITS = 14_000  # of an int; it is sent as decimal digits, and Python reads 4300 of them


class RPyCOptions(StreamOptions, frozen=True, kw_only=True):
    """How much of a result is taken, and whose the connections are."""

    items: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Items of a result, those of all lists and objects in it, at most.")
    ] = 10_000
    session: Kept = "shared"
    sessions: Most = 100
    session_idle: Idle = 600.0


class RPyC(SessionPooled[Connection]):
    """Calls of the root object's methods, one at a time on each connection."""

    Options: ClassVar = RPyCOptions
    takes: ClassVar[Literal["list", "dict", "either"]] = "either"
    unannounced: ClassVar = True
    failures: ClassVar[Failures] = STREAM_FAILURES

    def __init__(self, options: RPyCOptions, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        self._tls = client_context(options)
        self.aim(options.first)

    def aim(self, instance: Instance) -> None:
        """Have calls go to an instance."""
        self._target = target(instance)
        self._pool = pooled(self._options, self._connect)

    def known(self) -> list[Signature] | None:
        """Nothing is known without asking."""
        return None

    async def describe(self, deadline: float) -> list[Signature] | None:
        """Ask for the names and texts of the methods; RPyC does not report their parameters."""
        async with self._pool.lend() as connection:
            try:
                said = await connection.request(INSPECT, (VALUE, connection.root[1]))
            except RemoteError:
                raise BadUpstream("the upstream does not report its methods") from None
        return _signatures(said)

    async def call(self, invocation: Invocation) -> Any:
        """Call a method, and read its result as long as the connection is ours."""
        args, kwargs = _arguments(invocation.params)
        async with self._pool.lend(invocation) as connection:
            outcome = await self._outcome(connection, invocation, args, kwargs)
        if isinstance(outcome, Fault):
            raise outcome
        return outcome

    async def stream(self, invocation: Invocation) -> AsyncGenerator[Any, None]:
        """Call a method, and give each value of the generator that it returns; or a Whole, if it returns none."""
        args, kwargs = _arguments(invocation.params)
        bounds = self._limits.max_depth, self._options.items
        fault: Fault | None = None
        async with self._pool.lend(invocation) as connection:
            try:
                boxed = await self._ask(connection, invocation, args, kwargs)
                generator = generator_of(boxed)
                invocation.sent = "yes"
                if generator is None:
                    yield Whole(await Plain(connection, *bounds).value(boxed))
                else:
                    async with aclosing(each(connection, generator, *bounds)) as values:
                        async for value in values:
                            yield value
            except RemoteError as error:
                fault, invocation.sent = _told(error, invocation.method), "yes"
            except NotPlainError as error:
                raise BadUpstream(f"result{error.place}: {error.reason}") from None
            finally:
                connection.lent.clear()
        if fault is not None:
            raise fault

    async def _ask(self, connection: Connection, invocation: Invocation, args: Any, kwargs: Any) -> Any:
        """Call a method, and return what it returns, as it comes."""
        box = connection.lent.box
        connection.begin()
        called = (LOCAL_REF, connection.root[1]), (VALUE, invocation.method)
        return await connection.request(CALLATTR, *called, box(args), box(kwargs), invocation=invocation)

    async def _outcome(self, connection: Connection, invocation: Invocation, args: Any, kwargs: Any) -> Any:
        """Return a result, or the fault that the service has answered with."""
        plain = Plain(connection, self._limits.max_depth, self._options.items)
        try:
            value = await plain.value(await self._ask(connection, invocation, args, kwargs))
        except RemoteError as error:
            value = _told(error, invocation.method)
        except NotPlainError as error:
            raise BadUpstream(f"result{error.place}: {error.reason}") from None
        finally:
            connection.lent.clear()
        invocation.sent = "yes"
        return value

    async def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    async def _connect(self) -> Connection:
        async with asyncio.timeout(self._options.connect_timeout):
            connection = await open_stream(
                lambda: Connection(self._limits.max_reply), self._target, self._options, self._tls
            )
            try:
                await _greet(connection)
            except BaseException:
                connection.close()
                raise
        return connection


async def _greet(connection: Connection) -> None:
    """Ask for the service."""
    try:
        root: Any = await connection.request(GETROOT)
    except RemoteError:
        raise BadUpstream("the upstream has no service") from None
    if type(root) is not tuple or len(root) != 2 or root[0] != REMOTE_REF:
        raise BadUpstream("the upstream has no service")
    connection.root = root


def _arguments(params: Any) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]:
    """Return what is sent by position, and what by name.

    Raises:
        InvalidParams: something cannot be sent over RPyC.

    """
    _check(params)
    return tuple(params) if isinstance(params, list) else (), tuple(params.items()) if isinstance(params, dict) else ()


def _check(params: Any) -> None:
    """Refuse arguments that cannot be sent over RPyC.

    Raises:
        InvalidParams: the place is named.

    """
    try:
        _check_value(params)
    except EncodingError as error:
        raise InvalidParams(f"params{error.place}: cannot be sent over RPyC: {error.reason}") from None


def _check_value(value: Any) -> None:
    if type(value) is datetime:
        raise EncodingError("a datetime; send it as text or a number")
    if type(value) is int and value.bit_length() > _MOST_BITS:
        raise EncodingError("an int with more than 4200 digits")
    if type(value) is list:
        steps = [(f"[{index}]", item) for index, item in enumerate(value)]
    else:
        steps = [(f".{name[:80]}", item) for name, item in value.items()] if type(value) is dict else []
    for step, item in steps:
        try:
            _check_value(item)
        except EncodingError as error:
            raise error.inside(step) from None


def _told(error: RemoteError, method: str) -> Fault:
    """Turn what a service has raised into a fault; the traceback stays inside."""
    if error.name == "AttributeError" and error.arguments == (f"cannot access {method!r}",):
        return MethodNotFound("the upstream exposes no such method")
    first = str(error.arguments[0]) if error.arguments else ""
    wrong = wrong_arguments(first, {method, _EXPOSED + method}) if error.name == "TypeError" else None
    if wrong is not None:
        return wrong
    text = ", ".join(str(each) for each in error.arguments if type(each) in (str, int, float))
    return raised(error.name, FAILED if " at 0x" in text else safe(text))


def _signatures(boxed: Any) -> list[Signature]:
    """Read the names and texts of all methods; the exposed ones are callable."""
    said = boxed[1] if type(boxed) is tuple and len(boxed) == 2 else None
    if type(said) is not tuple or not all(type(each) is tuple and len(each) == 2 for each in said):
        raise BadUpstream("the upstream does not report its methods")
    found = {name.removeprefix(_EXPOSED): doc for name, doc in said if type(name) is str and name.startswith(_EXPOSED)}
    if len(found) > MOST:
        raise BadUpstream(f"the upstream has more than {MOST} methods")
    return [
        Signature(name=name, doc=doc if type(doc) is str else "")
        for name, doc in found.items()
        if name not in _OF_EVERY_SERVICE
    ]
