"""Upstreams: the services that the gateway calls, each kind by an adapter of its own.

    SCHEMES               the scheme of a URL -> where its adapter is, and the extra that it needs
    upstream_class(url)   the class for a URL, imported on first use; UpstreamConfigError names the remedy
    Upstream              what an adapter is: an options struct, a table of exceptions, and eight methods
    Beginner              an adapter that can begin a call without a coroutine
    Options               the options of every [upstreams.NAME] of gateway.toml; each adapter adds its own
    Signature             what an adapter tells of a method
    Invocation            one call to an upstream, and how far it has come

An adapter turns an Invocation into bytes of its protocol and the answer into a neutral value (gateway/model/values.py).
It never retries, never logs, keeps no time and knows neither patterns nor prefixes: frame.py does that for all of them.
docs/design.md says how to add one.
"""

import importlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from gateway.fleet.listing import Instance
from gateway.model.calls import Params
from gateway.model.faults import Fault
from gateway.model.limits import Limits
from gateway.model.streams import Inbox
from gateway.model.tracing import AttemptSpan
from gateway.upstreams.options import Options, nearest

__all__ = [
    "SCHEMES",
    "Along",
    "Beginner",
    "Cancel",
    "Failures",
    "HealthChecked",
    "Invocation",
    "Options",
    "Outcome",
    "Parameter",
    "Scheme",
    "Sent",
    "Signature",
    "Upstream",
    "UpstreamConfigError",
    "upstream_class",
]

Along: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values of headers or metadata."""

Sent: TypeAlias = Literal["no", "maybe", "yes"]
Failures: TypeAlias = Mapping[type[Exception], Callable[[Any], Fault]]


class UpstreamConfigError(Exception):
    """There is no adapter for a URL, or it cannot be made as it is configured; the message says what to do."""


class Parameter(Struct, frozen=True, kw_only=True):
    """A parameter of an upstream's method.

    Attributes:
        hint: its type as a Python type hint that msgspec knows; arguments are checked by it before the adapter sees
            them. What the hint cannot tell people, ``Annotated[dict, Meta(extra_json_schema=...)]`` does.
        default: its value where only a later one is given by position; ``...`` where that is not known.

    """

    name: str
    hint: Any = Any
    required: bool = True
    default: Any = ...


class Signature(Struct, frozen=True, kw_only=True):
    """What an adapter tells of a method.

    Attributes:
        name: the name that the upstream knows, before any prefix or renaming.
        params: in order; None where the upstream does not tell, so that any arguments are passed on.
        result: the type hint of the result, before ``only`` is unwrapped.
        only: the one field of the result's message and its type hint. The result of the call is a dict then, and the
            gateway returns that field bare unless the option ``bare`` is off. None where there is no such field.
        refused: why it cannot be served; the configuration has to hide it then.
        openrpc: its OpenRPC method object, without its name, which is told to callers as it is; None to make one.
        components: what the object may refer to, by kind and name.
        is_idempotent: whether its IDL says that it may run twice; the configuration may say so, too.
        signatures: its types as system.methodSignature tells them, the result first.
        message: the type hint of a message that callers may send one by one while a call runs that streams, behind
            those in the last parameter; None where they cannot.
        streams: the values of its result can be had one by one, from an adapter that is a Streamer.

    """

    name: str
    params: tuple[Parameter, ...] | None = None
    result: Any = Any
    doc: str = ""
    only: tuple[str, Any] | None = None
    refused: str = ""
    openrpc: Mapping[str, Any] | None = None
    components: Mapping[str, Mapping[str, Any]] = {}
    signatures: tuple[tuple[str, ...], ...] = ()
    message: Any = None
    streams: bool = False
    is_idempotent: bool = False


class Invocation(Struct, kw_only=True):
    """One call to an upstream.

    Attributes:
        method: the name that the upstream knows.
        params: as the adapter's ``takes`` says.
        deadline: when the caller stops waiting, in seconds of ``time.monotonic()``. The gateway cancels the adapter's
            coroutine then; an adapter only passes the time on, where its protocol can.
        request_id: names the exchange in the log; an adapter passes it on, where its protocol can.
        sent: how far the call has come. The adapter sets it to "maybe" before the first byte is sent, and to "yes" when
            the response to this call is here. Whether a call is tried again depends on it.
        start: when the attempt began, in seconds of ``time.monotonic()``; the gateway measures by it.
        waits: whether it waits for a connection, because other calls have them all. The pool sets it.
        along: headers or metadata of this call, for an adapter that has options for them.
        more: what the caller sends while a call runs that streams; None where it sends nothing.
        span: that of the attempt; None where calls are not traced.

    """

    method: str
    params: Params
    deadline: float
    request_id: str
    sent: Sent = "no"
    waits: bool = False
    along: Along = ()
    start: float = 0.0
    more: Inbox | None = None
    span: AttemptSpan | None = None

    @property
    def time_left(self) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self.deadline - time.monotonic())


class Upstream(Protocol):
    """An adapter for one upstream. It is made before the gateway forks, and connects at its first call, on that loop.

    Attributes:
        Options: the struct of its section in gateway.toml.
        takes: whether ``Invocation.params`` is always a list, always a dict, or what the caller gave.
        failures: the exceptions of its library and what the caller is told; the most special class counts. Nothing of
            the exception itself goes to the caller. What is missing here is an internal error, with its traceback in
            the log.

    The constructor takes the options, and the limits of the gateway, which bound depth and bytes of responses. It
    raises UpstreamConfigError for an IDL file or a method that cannot be served.

    """

    Options: ClassVar[type[Options]]
    takes: ClassVar[Literal["list", "dict", "either"]]
    failures: ClassVar[Failures]

    def __init__(self, options: Any, limits: Limits) -> None: ...

    def known(self) -> list[Signature] | None:
        """Return the methods that are known without asking the upstream, as from an IDL file; None where it is asked.

        The configuration's own ``methods`` go before it.
        """

    async def describe(self, deadline: float) -> list[Signature] | None:
        """Reach the upstream, and return what it tells of its methods; None where it tells nothing.

        ``deadline`` is that of an Invocation.

        Raises:
            Exception: one of ``failures``: the upstream is down, or its response does not follow the protocol.

        """

    def aim(self, instance: Instance) -> None:
        """Have calls go to an instance, over connections of its own; it is called before the first one.

        Where there are several instances, each has a shallow copy of one adapter, which is aimed there: they share
        what is known of methods and types.
        """

    async def reach(self) -> None:
        """Make sure that there is a connection, and call nothing.

        Raises:
            Exception: one of ``failures``.

        """

    def connections(self) -> tuple[int, int]:
        """Count the connections, and the calls that wait for one."""

    def call(self, invocation: Invocation) -> Awaitable[Any]:
        """Call a method, and return its result as a neutral value.

        When the coroutine is cancelled, the response may still come: its connection is closed, or it is ignored by the
        call's own id.

        Raises:
            Fault: the upstream's own; InvalidParams, before a byte is sent; BadUpstream.
            Exception: one of ``failures``.

        """

    async def close(self) -> None:
        """Close all connections. Calls that run fail."""


class Outcome(Protocol):
    """What waits for the outcome of a call, as a future does; it is told once, on the event loop."""

    def done(self) -> bool:
        """Tell whether it has been told, or waits no more."""

    def set_result(self, value: Any, /) -> None:
        """Take the result."""

    def set_exception(self, error: Exception, /) -> None:
        """Take what ``call`` would raise."""


Cancel: TypeAlias = Callable[[], None]
"""Stops waiting for a call that was begun: its outcome is told to nobody."""


@runtime_checkable
class Beginner(Protocol):
    """An adapter that can begin a call without a coroutine, which most of the time of a short call would go into."""

    def begin(self, invocation: Invocation, outcome: Outcome) -> Cancel | None:
        """Send a call as soon as there is a connection for it, and have its outcome told later, never from in here.

        Returns:
            what stops waiting for it; None where that is not possible now, and nothing was done: use ``call``.

        Raises:
            Fault: like ``call``, before a byte is sent.

        """


@runtime_checkable
class Streamer(Protocol):
    """An adapter whose upstream may give the values of a result one after the other.

    Attributes:
        unannounced: any method may stream, and only the response tells; otherwise its signature says so.

    """

    unannounced: ClassVar[bool]

    def stream(self, invocation: Invocation) -> AsyncGenerator[Any, None]:
        """Call a method that may stream; its deadline may be infinite. What does not stream gives one Whole.

        Raises:
            Exception: like ``call``.

        """


class Stateful(Protocol):
    """An adapter whose upstream may keep a session for each caller."""

    def used(self, caller: Any) -> float | None:
        """Return when a caller's session had its last call, in seconds of ``time.monotonic()``; None without one."""

    def leave(self, caller: Any) -> None:
        """End the session of a caller, unless a call of it runs."""


@runtime_checkable
class HealthChecked(Protocol):
    """An adapter whose protocol has something beside methods that tells how an instance is."""

    async def check(self, health: str, invocation: Invocation) -> None:
        """Ask an instance how it is; ``health`` is the option of this name, where that is not a method.

        Raises:
            Exception: it is not well, or cannot be reached.

        """


class Scheme(NamedTuple):
    """Where the adapter of a scheme is: the module in this package, its class, and its extra in pyproject.toml."""

    module: str
    name: str
    extra: str | None


SCHEMES: dict[str, Scheme] = {
    "xmlrpc+http": Scheme("xmlrpc.http", "XMLRPCOverHTTP", "http"),
    "xmlrpc+https": Scheme("xmlrpc.http", "XMLRPCOverHTTP", "http"),
    "jsonrpc+http": Scheme("jsonrpc.http", "JSONRPCOverHTTP", "http"),
    "jsonrpc+https": Scheme("jsonrpc.http", "JSONRPCOverHTTP", "http"),
    "jsonrpc+tcp": Scheme("jsonrpc.tcp", "JSONRPCOverTCP", None),
    "jsonrpc+tls": Scheme("jsonrpc.tcp", "JSONRPCOverTCP", None),
    "thrift": Scheme("thrift.adapter", "Thrift", None),
    "thrift+tls": Scheme("thrift.adapter", "Thrift", None),
    "zerorpc": Scheme("zerorpc.adapter", "ZeroRPC", None),
    "rpyc": Scheme("rpyc.adapter", "RPyC", None),
    "rpyc+tls": Scheme("rpyc.adapter", "RPyC", None),
    "grpc": Scheme("grpc.adapter", "GRPC", "grpc"),
    "grpcs": Scheme("grpc.adapter", "GRPC", "grpc"),
    "protobuf": Scheme("protobuf.generic", "ProtobufGeneric", "protobuf"),
}


def upstream_class(url: str) -> type[Upstream]:
    """Load the adapter for a URL.

    Raises:
        UpstreamConfigError: the scheme is unknown, or the packages of its extra are missing.

    """
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if not scheme:
        raise UpstreamConfigError(
            f"{url!r} has no scheme; write it as scheme://host:port, with one of {', '.join(SCHEMES)}"
        )
    if scheme not in SCHEMES:
        raise UpstreamConfigError(f"there is no adapter for {scheme}://{nearest(scheme, SCHEMES, '{}://')}")
    module, name, extra = SCHEMES[scheme]
    try:
        loaded: type[Upstream] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "").startswith("gateway"):
            raise
        raise UpstreamConfigError(
            f"{scheme}:// needs the package {error.name}: pip install '.[{extra}]' in the gateway's clone"
        ) from None
    return loaded
