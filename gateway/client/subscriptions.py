"""The client over WebSocket: many calls on one connection, and subscriptions.

    core = SocketCore(url, options, io)         what core.py is for other connections
    subscription = core.subscribe(view, "ticks", params)
    async for value in subscription: ...        subscription.gap says what was lost before the value

A connection that is lost is opened again by the next call. A subscription opens it again by itself, with longer and
longer pauses, and subscribes again.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec import Struct

from gateway.client.attempts import View, merged, pause_before_next
from gateway.client.core import Core, Outcome
from gateway.client.errors import CallError, CallTimeout, ConnectionLost, StatusError, Unreachable, lost, timed_out
from gateway.client.faults import typed
from gateway.client.options import DEFAULTS, CallOptions, Options, authorization_of
from gateway.client.sockets import Link, opened
from gateway.client.transport import IO
from gateway.model.calls import Call, Id, Params, Reply
from gateway.model.faults import Fault, ForeignFault, GatewayFault, Overloaded, RateLimited, Unavailable

T = TypeVar("T")

_NAMES = {"rpc": ("rpc.subscribe", "rpc.unsubscribe"), "eth": ("eth_subscribe", "eth_unsubscribe")}
_KEPT = 1000  # values of a subscription that wait for their reader
_BACKOFF, _LONGEST = 0.1, 30.0  # seconds before the second attempt to subscribe again, and at most
_PASSING = (Unreachable, ConnectionLost, CallTimeout, Unavailable, Overloaded, RateLimited)


class Gap(Struct, frozen=True):
    """What was lost before a value.

    Attributes:
        error: why the connection was lost, or the server has ended the stream for a while; None where it was not. How
            many values that has cost is not known.
        seconds: that were without a subscription.
        dropped: values that were dropped because they were not read in time.

    """

    error: CallError | Fault | None = None
    seconds: float = 0.0
    dropped: int = 0


class SocketCore(Core):
    """The calls to one server over one connection of WebSocket.

    Raises:
        ValueError: the URL or an option is wrong.
        TypeError: there is no such option.

    """

    def __init__(self, url: str, given: Options, io: IO) -> None:
        super().__init__(url, given, io)
        options = DEFAULTS | given
        self._authorization = authorization_of(options, self._address)
        self._most = options["max_response"]
        self._names = _NAMES[options["subscriptions"]]
        self._link: Link | None = None
        self._opening: asyncio.Task[Link] | None = None

    def view_of(self, view: View, given: CallOptions) -> View:
        """Return a view with other options.

        Raises:
            ValueError: an option is wrong; headers are those of the connection, and not of a call.

        """
        if "headers" in given:
            raise ValueError(f"{self.url}: headers are sent when the connection is opened: give them to the client")
        return super().view_of(view, given)

    async def call(self, view: View, method: str, params: Params) -> Any:
        """Call a method and return its result."""
        call_id = next(self._ids)
        body = self._encoded(lambda: self.codec.encode_call(method, params, call_id))

        async def once(deadline: float) -> Any:
            return self._value((await self._ask(body, [call_id], deadline))[call_id])

        return await self._tried(view, once)

    async def notify(self, view: View, method: str, params: Params) -> None:
        """Send a notification."""
        body = self._encoded(lambda: self.codec.encode_notification(method, params))

        async def once(deadline: float) -> None:
            await self._ask(body, [], deadline)

        await self._tried(view, once)

    async def batch(self, view: View, calls: list[tuple[Call, Outcome]]) -> list[Outcome]:
        """Send calls together, and settle their outcomes."""
        asked: dict[Id, Outcome] = {}
        written: list[bytes] = []
        for call, outcome in calls:
            if call.notification:
                encode = partial(self.codec.encode_notification, call.method, call.params)
            else:
                number = next(self._ids)
                asked[number] = outcome
                encode = partial(self.codec.encode_call, call.method, call.params, number)
            written.append(self._encoded(encode))
        if not written:
            return []
        body = b"[%b]" % b",".join(written)
        replies = await self._tried(view, lambda deadline: self._ask(body, list(asked), deadline))
        for each, outcome in asked.items():
            self._settle(outcome, replies[each])
        return list(asked.values())

    def subscribe(self, view: View, method: str, params: Params) -> "Subscription":
        """Make a subscription, which begins when it is read."""
        return Subscription(self, view, method, params)

    async def open(self, subscription: "Subscription", view: View, method: str, params: Params) -> None:
        """Subscribe.

        Raises:
            CallError: there is no answer.
            Fault: the server's.

        """
        call_id = next(self._ids)
        given: Params = {"method": method, "params": params} if isinstance(params, dict) else [method, *params]
        body = self._encoded(lambda: self.codec.encode_call(self._names[0], given, call_id))
        self._value((await self._ask(body, [call_id], time.monotonic() + view.timeout, subscription))[call_id])

    async def end(self, link: Link, number: str) -> None:
        """Unsubscribe, and do not wait for the answer."""
        if link.subscriptions.pop(number, None) is not None:
            with suppress(CallError, OSError):
                await link.send(self.codec.encode_notification(self._names[1], [number]))

    async def close(self) -> None:
        """Close the connection."""
        if self._link is not None and self._link.home is asyncio.get_running_loop():
            await self._link.close()
        self._link = None
        await super().close()

    def _value(self, reply: Reply) -> Any:
        if reply.fault is not None:
            raise self._error(reply.fault, None)
        return reply.value

    async def _tried(self, view: View, once: Callable[[float], Awaitable[T]]) -> T:
        """Make a call, once or several times, as far as it is certain that no harm comes of it."""
        deadline = time.monotonic() + view.timeout
        attempt = 0
        while True:
            try:
                return await once(deadline)
            except (CallError, Fault) as error:
                pause = pause_before_next(error, view, attempt)
                if pause is None or time.monotonic() + pause >= deadline:
                    raise
            attempt += 1
            await asyncio.sleep(pause)

    async def _ask(
        self, body: bytes, ids: list[Id], deadline: float, subscription: "Subscription | None" = None
    ) -> dict[Id, Reply]:
        """Send a message, and wait for the answers to its calls."""
        link = await self._linked(deadline)
        futures = link.expect(ids, subscription)
        try:
            await link.send(body)
            if futures:
                await asyncio.wait(futures.values(), timeout=max(0.0, deadline - time.monotonic()))
            if not all(future.done() for future in futures.values()):
                raise timed_out(self.url, "maybe")
            return {call_id: future.result() for call_id, future in futures.items()}
        finally:
            link.forget(ids)

    async def _linked(self, deadline: float) -> Link:
        """Return the connection, and open one where there is none."""
        loop = asyncio.get_running_loop()
        link = self._link
        if link is not None and link.home is loop and link.error is None:
            return link
        if self._opening is None or self._opening.done() or self._opening.get_loop() is not loop:
            self._opening = loop.create_task(self._open_link())
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await asyncio.shield(self._opening)
        except TimeoutError as error:
            if isinstance(error, CallError):
                raise
            raise timed_out(self.url, "no") from None

    async def _open_link(self) -> Link:
        deadline = time.monotonic() + self._connect_timeout
        headers = dict(merged(self.view.headers))
        if self._authorization:
            headers.setdefault("Authorization", self._authorization)
        stream = await self._connect(deadline)
        try:
            self._link = await opened(stream, self._address, headers, self.codec, self._most, deadline)
        except CallError:
            stream.close()
            raise
        except TimeoutError:
            stream.close()
            raise timed_out(self.url, "no") from None
        except (OSError, EOFError) as error:
            stream.close()
            raise lost(self.url, error, "no") from None
        return self._link


class Subscription:
    """The values of a method that streams, as ``async for`` gives them; ``async with`` ends it.

    Where the connection is lost, it is opened again, and the method subscribed to again, until the server refuses.

    Attributes:
        gap: what was lost before the value that came last; None where nothing was.

    """

    def __init__(self, core: SocketCore, view: View, method: str, params: Params) -> None:
        self.gap: Gap | None = None
        self._core = core
        self._view = view
        self._method = method
        self._params = params
        self._link: Link | None = None
        self._number = ""
        self._values: deque[tuple[Any, Gap | None]] = deque()
        self._next_gap: Gap | None = None
        self._lost: tuple[CallError | Fault, float] | None = None
        self._ended: Fault | None = None
        self._is_over = False
        self._more = asyncio.Event()

    async def close(self) -> None:
        """Unsubscribe; twice is once."""
        self._is_over, link = True, self._link
        self._link = None
        self._values.clear()
        self._more.set()
        if link is not None:
            await self._core.end(link, self._number)

    async def __aenter__(self) -> Self:
        if self._link is None:
            await self._core.open(self, self._view, self._method, self._params)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """Return the next value.

        Raises:
            StopAsyncIteration: the stream has ended, or was closed.
            Fault: it has ended with one, or the server does not let it be subscribed to again.
            CallError: it cannot be subscribed to the first time.

        """
        while True:
            if self._values:
                value, self.gap = self._values.popleft()
                return value
            if self._is_over:
                fault, self._ended = self._ended, None
                if fault is not None:
                    raise fault
                raise StopAsyncIteration
            if self._lost is not None:
                await self._subscribe_again()
            elif self._link is None:
                await self._core.open(self, self._view, self._method, self._params)
            else:
                self._more.clear()
                await self._more.wait()

    # What the link calls

    def begin(self, link: Link, number: str) -> None:
        """Take note that the server has subscribed it."""
        self._link, self._number = link, number
        if self._lost is not None:
            error, since = self._lost
            self._lost = None
            self._next_gap = _joined(self._next_gap, Gap(error=error, seconds=time.monotonic() - since))

    def put(self, value: Any, dropped: int) -> None:
        """Take a value, before which the server has dropped some."""
        gap = _added(self._next_gap, dropped)
        self._next_gap = None
        if len(self._values) >= _KEPT:
            _, before = self._values.popleft()
            following, after = self._values.popleft()
            self._values.appendleft((following, _joined(before, _added(after, 1))))
        self._values.append((value, gap))
        self._more.set()

    def end(self, error: Any) -> None:
        """Take note that the stream has ended."""
        fault = _fault(error)
        if isinstance(fault, Unavailable):  # the server stops, and another one takes over
            self.lose(fault)
        else:
            self._is_over, self._ended = True, fault
            self._link = None
            self._more.set()

    def lose(self, error: CallError | Fault) -> None:
        """Take note that the connection is lost."""
        self._link = None
        if self._lost is None:
            self._lost = error, time.monotonic()
        self._more.set()

    async def _subscribe_again(self) -> None:
        attempt = 0
        while (error := await self._refusal()) is not None and not self._is_over:
            if not _passes(error):
                self._is_over = True
                raise error
            told = error.retry_after if isinstance(error, GatewayFault | StatusError) else None
            spread: float = random.uniform(0.5, 1.0)  # noqa: S311 - to spread clients, and no secret
            await asyncio.sleep(max(float(told or 0), min(_BACKOFF * 2**attempt, _LONGEST) * spread))
            attempt = min(attempt + 1, 10)

    async def _refusal(self) -> CallError | Fault | None:
        """Subscribe; return why that cannot be."""
        try:
            await self._core.open(self, self._view, self._method, self._params)
        except (CallError, Fault) as error:
            return error
        return None


def _passes(error: CallError | Fault) -> bool:
    return isinstance(error, _PASSING) or (isinstance(error, StatusError) and error.status in (429, 502, 503, 504))


def _fault(error: Any) -> Fault | None:
    """Make the fault of an error object; None for none."""
    if not isinstance(error, dict) or not isinstance(error.get("code"), int):
        return None
    return typed(ForeignFault(error["code"], str(error.get("message", "")), error.get("data")), retry_after=None)


def _added(gap: Gap | None, dropped: int) -> Gap | None:
    return _joined(gap, Gap(dropped=dropped)) if dropped else gap


def _joined(first: Gap | None, second: Gap | None) -> Gap | None:
    if first is None or second is None:
        return first or second
    return Gap(
        error=second.error or first.error,
        seconds=first.seconds + second.seconds,
        dropped=first.dropped + second.dropped,
    )
