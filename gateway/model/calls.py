"""What the codecs and the methods exchange: calls in, replies out.

A codec turns a body into a Call, a Batch of them, or, where it is not a call, into an InvalidCall that carries the
fault to answer with. A CallHandler turns a Call into a Reply. An Answer is a reply in the bytes of a protocol.
"""

import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from datetime import date
from math import inf
from types import SimpleNamespace
from typing import Any, Literal, Protocol, Self, TypeAlias

from msgspec import Struct

from gateway.model.faults import Fault
from gateway.model.streams import Inbox
from gateway.model.tracing import CallSpan

Params: TypeAlias = list[Any] | dict[str, Any]
Id: TypeAlias = int | float | str | None


class Call(Struct, frozen=True, kw_only=True):
    """One call: by position (a list) or by name (a dict).

    ``notification`` is a JSON-RPC call without an id, which must not be answered (section 4.1).
    """

    method: str
    params: Params
    id: Id = None
    notification: bool = False


class InvalidCall(Struct, frozen=True, kw_only=True):
    """Something that is not a call in the place of one, and the fault that says why."""

    fault: Fault
    id: Id = None


Entry: TypeAlias = Call | InvalidCall


class Batch(Struct, frozen=True):
    """Several calls of one request, answered together and in this order."""

    entries: list[Entry]


class Reply(Struct, frozen=True, kw_only=True):
    """What became of a call: a value, or a fault."""

    value: Any = None
    fault: Fault | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """A reply in the bytes of a protocol, and the fault that it says, if it says one."""

    wire: bytes
    fault: Fault | None = None


class CallRecord(Struct, frozen=True, kw_only=True):
    """What became of a call, for those who observe: no arguments, no result.

    Attributes:
        method: the name that was called, or the pattern of an upstream's ``methods`` that it fits; empty where the
            entry was not a call. Callers choose it.
        protocol: see Context.
        client: the address that the call comes from, without a port.
        outcome: a fault's code, None where all went well, ``"cancelled"`` where the caller has hung up.
        bytes: those of the answer that was sent.
        request_id: see Context.
        position: see Context.
        seconds: how long it took.
        instance: see Context.
        attempts: see Context.
        called: the name that was called where ``method`` is another one.
        caller: who calls; None where that is not known.
        span: see Context.

    """

    method: str
    protocol: str
    client: str
    outcome: int | Literal["cancelled"] | None
    bytes: int
    request_id: str
    position: int | None
    seconds: float
    instance: str = ""
    attempts: int = 0
    called: str = ""
    caller: "Caller | None" = None
    span: CallSpan | None = None


class Taken(Protocol):
    """What is recorded of a call that runs."""

    def end(self, record: CallRecord, reply: Reply | None, answer: Answer | None, /) -> None:
        """Record what has become of it; without a reply and an answer the caller has hung up."""


class Recording(Protocol):
    """What records calls with their arguments and results."""

    def begin(self, call: Call, context: "Context", /) -> Taken | None:
        """Take the arguments of a call before it runs, if it is to be recorded."""

    def streamed(self, record: CallRecord, /) -> None:
        """Record what has become of a stream."""


class Deprecation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of a method that is going to be withdrawn.

    Attributes:
        since: the day from which it is deprecated. A day begins at midnight, UTC.
        sunset: the day from which it is no longer there; None where that is not decided.
        use: what to use instead; may be empty.

    Raises:
        ValueError: the sunset is not after the day of deprecation.

    """

    since: date
    sunset: date | None = None
    use: str = ""

    def __post_init__(self) -> None:
        """Check the order of the days."""
        if self.sunset is not None and self.sunset <= self.since:
            raise ValueError("a sunset after since")


class Caller(Struct, frozen=True, kw_only=True):
    """Who sends a request, as the access policy has found.

    Attributes:
        client: the address that the call comes from, without a port; behind a trusted proxy that of its client.
        key: the name of the API key that was shown, or of the user whom the surrounding application, or an
            authentication of the registry's, has found; None without one.
        certificate: the common name of the client's certificate; None without one.
        is_proxied: whether the request came through a trusted proxy.
        claims: what an authentication of the user's own tells of the caller.

    """

    client: str
    key: str | None = None
    certificate: str | None = None
    is_proxied: bool = False
    claims: Any = None


class _AnyCase(dict[str, str]):
    """Headers in lower case, which are found in any."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """Return a header."""
        return super().get(name.lower(), default)


class Context(Struct, kw_only=True):
    """What a method may know of its call: who calls, how, and how long the caller will wait.

    Attributes:
        protocol: the name of the caller's protocol, like ``"xmlrpc"``.
        method: the name that was called, or that of the version which serves it; where it passes by a pattern of an
            upstream's ``methods``, that pattern.
        caller: who calls.
        headers: the request's HTTP headers; names in any case.
        request_id: names the HTTP exchange in the log; the client's own X-Request-ID where it sent one.
        position: the place in a batch, counted from 0; None outside of one.
        arrival: when the request was complete, in seconds of ``time.monotonic()``.
        deadline: when the caller stops waiting, on the same clock.
        called: the name that was called where ``method`` is another one: a pattern, or the name that serves it by
            ``[versions.*]``.
        idempotency_key: what all attempts of the call at an upstream share, where its options ask for that.
        deprecation: what ``[versions.*]`` says of the method, from its day on; None otherwise.
        state: what the lifespans of the registries have put there for this process.
        wide_ints: whether ints beyond 53 bits are numbers in the protocol; otherwise they are texts there.
        native: the types beside those of JSON that the protocol has, like bytes; other protocols send them as texts.
        connection: something of which there is one for each connection of a client, for as long as that is open; None
            where clients may share the connection, like that of a trusted proxy, or where it is not known.
        instance: the address of the upstream's instance that was called last; empty where there is only one.
        attempts: how many of them were called.
        streaming: whether the caller takes the values of a stream one by one; ``"must"`` where nothing else will do.
        until: when a stream ends at the latest, on the same clock as the deadline.
        inbox: what the caller sends while the call runs; None where it sends nothing.
        request: the request as the surrounding framework has it: Flask's, Django's, aiohttp's, Tornado's
            RequestHandler, the scope of ASGI; None where the gateway is not mounted in one.
        span: its span in a trace of OpenTelemetry; None where calls are not traced.
        recorded: what is recorded of the call; None where it is not.

    """

    protocol: str
    method: str
    caller: Caller
    headers: Mapping[str, str]
    request_id: str
    position: int | None
    arrival: float
    deadline: float
    called: str = ""
    idempotency_key: str = ""
    deprecation: Deprecation | None = None
    connection: object | None = None
    request: object | None = None
    native: tuple[type, ...] = ()
    wide_ints: bool = True
    state: SimpleNamespace = SimpleNamespace()
    instance: str = ""
    attempts: int = 0
    streaming: Literal["no", "may", "must"] = "no"
    until: float = inf
    inbox: Inbox | None = None
    span: CallSpan | None = None
    recorded: Taken | None = None

    @classmethod
    def fake(  # noqa: PLR0913 - all of them are named
        cls,
        method: str = "",
        *,
        client: str = "127.0.0.1",
        key: str | None = None,
        claims: Any = None,
        headers: Mapping[str, str] = {},
        timeout: float = 30.0,
        protocol: str = "jsonrpc",
        **state: Any,
    ) -> Self:
        """Make a context for a test that calls a function by itself.

        Args:
            method: the name that was called.
            client: the address that the call comes from.
            key: the name of the caller.
            claims: what an authentication tells of the caller.
            headers: the request's headers; names are found in any case.
            timeout: seconds until the deadline.
            protocol: the caller's.
            state: what lifespans have put into ``context.state``.

        """
        now = time.monotonic()
        return cls(
            protocol=protocol,
            method=method,
            caller=Caller(client=client, key=key, claims=claims),
            headers=_AnyCase((name.lower(), value) for name, value in headers.items()),
            request_id="fake",
            position=None,
            arrival=now,
            deadline=now + timeout,
            state=SimpleNamespace(**state),
        )

    @property
    def client(self) -> str:
        """The address that the call comes from, without a port."""
        return self.caller.client

    @property
    def key(self) -> str | None:
        """The name of the caller's API key, or of the surrounding application's user; None without either."""
        return self.caller.key

    @property
    def time_left(self) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self.deadline - time.monotonic())


CallHandler: TypeAlias = Callable[[Call, Context], Reply | Awaitable[Reply]]
"""Answers a call: at once where nothing has to be waited for, and with what is awaited otherwise."""

WaitingHandler: TypeAlias = Callable[[Call, Context], Coroutine[Any, Any, Reply]]
"""Answers a call for which something may have to be waited for."""


def record_of(context: Context, outcome: int | Literal["cancelled"] | None, size: int, since: float) -> CallRecord:
    """Return what became of a call.

    Args:
        context: of the call, which has ended.
        outcome: see CallRecord.
        size: bytes of the answer that was sent.
        since: when the call began, in seconds of ``time.monotonic()``.

    """
    return CallRecord(
        method=context.method,
        protocol=context.protocol,
        client=context.caller.client,
        outcome=outcome,
        bytes=size,
        request_id=context.request_id,
        position=context.position,
        seconds=time.monotonic() - since,
        instance=context.instance,
        attempts=context.attempts,
        called=context.called,
        caller=context.caller,
        span=context.span,
    )


CURRENT: ContextVar[Context] = ContextVar("gateway.context")


def current_context() -> Context:
    """Return the context of the call that is running here, in a coroutine as in a thread.

    Raises:
        LookupError: no call is running here.

    """
    return CURRENT.get()
