"""Streams over WebSocket: the subscriptions of one connection.

    {"method": "rpc.subscribe", "params": ["ticks", "apple"], "id": 1}        the call of a method that streams
    {"result": "0x8ac1...", "id": 1}                                          the id of the subscription
    {"method": "rpc.subscription", "params": {"subscription": "0x8ac1...", "result": 17}}     each value
    {"method": "rpc.ended", "params": {"subscription": "0x8ac1..."}}          the end; with ``error`` if it was one
    {"method": "rpc.unsubscribe", "params": ["0x8ac1..."], "id": 2}           the caller's end

A method that streams both ways takes messages while it runs, if its caller says so:

    {"method": "rpc.subscribe", "params": {"method": "chat", "params": [["hello"]], "dialogue": true}, "id": 1}
    {"method": "rpc.send", "params": ["0x8ac1...", "a message"], "id": 2}     true when it was taken
    {"method": "rpc.close", "params": ["0x8ac1..."], "id": 3}                 no more follow

The names are those of the configuration. What becomes of values that the client does not read in time is, too: the
method waits, or the oldest of them are dropped, which the next one says (``dropped``), or the subscription ends.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.codecs.contract import at_once
from gateway.codecs.jsonrpc import JSONRPC
from gateway.endpoints.batches import in_turns
from gateway.endpoints.rpc import RPCEndpoint
from gateway.model.calls import Call, Context, Reply, record_of
from gateway.model.faults import Fault, InvalidParams, Overloaded, ResponseTooLarge, Unavailable, detached
from gateway.model.streams import Inbox, Stream
from gateway.model.values import encoding_error
from gateway.model.websocket import Outlet
from gateway.telemetry.log import log_unencodable

_MESSAGES = 8  # that wait until a method takes them


class Rules(Struct, frozen=True, kw_only=True):
    """How subscriptions are made.

    Attributes:
        subscribe: the method that makes one.
        unsubscribe: the method that ends one.
        notification: the method that notifications of values have.
        ended: the one that the notification of an end has.
        send: the method that sends a message to one.
        close: the method that says that no more messages follow.
        most: how many a connection may have.
        slow: what becomes of values that the client does not read in time.
        buffer: how many of them are kept before the oldest is dropped, or the subscription ends.

    """

    subscribe: str
    unsubscribe: str
    notification: str
    ended: str
    send: str
    close: str
    most: int
    slow: Literal["wait", "drop", "end"]
    buffer: int


class Subscriptions:
    """The subscriptions of one connection."""

    def __init__(self, rpc: RPCEndpoint, codec: JSONRPC, rules: Rules, client: str) -> None:
        self.rpc = rpc
        self.codec = codec
        self.rules = rules
        self.client = client
        self.outlet: Outlet
        self.free = asyncio.Event()
        self._known: dict[str, Subscription] = {}
        self._opening = 0

    def __len__(self) -> int:
        return len(self._known)

    def handle(self, call: Call, context: Context, opened: "list[Subscription]") -> Reply | Awaitable[Reply] | None:
        """Answer a call that is about subscriptions; None for any other. What is opened is not begun."""
        if call.method == self.rules.subscribe:
            return self._open(call, context, opened)
        if call.method == self.rules.unsubscribe:
            return self._end(call)
        if call.method == self.rules.send:
            return self._send(call)
        if call.method == self.rules.close:
            inbox = self._inbox(call, 1)
            return Reply(value=inbox is not None and inbox.close())
        return None

    def drained(self) -> None:
        """Go on, now that the client has taken all that was written."""
        self.free.set()
        for each in tuple(self._known.values()):
            each.flush()

    def retire(self) -> None:
        """End all of them, because the gateway ends."""
        for each in tuple(self._known.values()):
            each.stop(Unavailable("the gateway stops, or loads its configuration again: subscribe again"))

    def close(self) -> None:
        """End all of them without a word: the client is gone."""
        for each in tuple(self._known.values()):
            each.stop()

    def forget(self, number: str) -> None:
        """Drop one that has ended."""
        self._known.pop(number, None)
        self.outlet.changed()

    async def _open(self, call: Call, context: Context, opened: "list[Subscription]") -> Reply:
        inner, is_dialogue = _inner(call)
        if inner is None or call.notification:
            text = f"{self.rules.subscribe} takes the name of a method and its arguments, and has an id"
            return Reply(fault=InvalidParams(text))
        if len(self._known) + self._opening >= self.rules.most:
            return Reply(fault=Overloaded(f"at most {self.rules.most} subscriptions of a connection"))
        asked = msgspec.structs.replace(context, method=inner.method, streaming="must")
        asked.inbox = Inbox(self._room_for_messages()) if is_dialogue else None
        tracing = self.rpc.observers.tracing
        if tracing is not None:
            asked.span = tracing.begin(asked, inner, context.span)
        self._opening += 1
        try:
            replied = self.rpc.handler(inner, asked)
            reply = replied if isinstance(replied, Reply) else await replied
        finally:
            self._opening -= 1
        if not isinstance(reply.value, Stream):
            return reply
        if asked.inbox is not None:
            reply.value.at_end(asked.inbox.end)
        number = f"0x{secrets.token_hex(8)}"
        self._known[number] = subscription = Subscription(self, number, reply.value, asked)
        opened.append(subscription)
        return Reply(value=number)

    def _room_for_messages(self) -> int:
        """Return how many may wait: fewer than the calls of a connection, or nothing else could be called."""
        return max(1, min(_MESSAGES, self.rpc.limits.in_flight - 1))

    def _end(self, call: Call) -> Reply:
        found = self._of(call, 1)
        if found is not None:
            found.stop()
        return Reply(value=found is not None)

    async def _send(self, call: Call) -> Reply:
        inbox = self._inbox(call, 2)
        if inbox is None:
            return Reply(value=False)
        try:
            return Reply(value=await inbox.put(_values(call)[1]))
        except Fault as error:
            return Reply(fault=detached(error))

    def _inbox(self, call: Call, count: int) -> Inbox | None:
        found = self._of(call, count)
        return None if found is None else found.inbox

    def _of(self, call: Call, count: int) -> "Subscription | None":
        """Return the subscription that the first of so many parameters names."""
        params = _values(call)
        return self._known.get(params[0]) if len(params) == count and isinstance(params[0], str) else None


def _values(call: Call) -> list[Any]:
    return call.params if isinstance(call.params, list) else list(call.params.values())


def _inner(call: Call) -> tuple[Call | None, bool]:
    """Return the call that a subscription makes, None where it does not name one; and whether messages follow."""
    params, is_dialogue = call.params, False
    if isinstance(params, list):
        named, given = (params[0], params[1:]) if params else (None, None)
    else:
        named, given, is_dialogue = params.get("method"), params.get("params", []), params.get("dialogue", False)
        if params.keys() - {"method", "params", "dialogue"} or type(is_dialogue) is not bool:
            return None, False
    if not isinstance(named, str) or not isinstance(given, list | dict):
        return None, False
    return Call(method=named, params=given), is_dialogue


class Subscription:
    """One subscription.

    Attributes:
        inbox: what its client sends to it; None where it takes nothing.

    """

    def __init__(self, owner: Subscriptions, number: str, stream: Stream, context: Context) -> None:
        self._owner = owner
        self._number = number
        self._stream = stream
        self._context = context
        self.inbox = context.inbox
        self._task: asyncio.Task[None] | None = None
        self._is_inside = False
        self._is_stopped = False
        self._farewell: Fault | None = None
        self._waiting: deque[bytes] = deque()  # values, encoded
        self._held = 0  # bytes of them
        self._dropped = 0
        self._sent = 0  # bytes

    def begin(self) -> None:
        """Notify of values from now on: the client has its id."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self, farewell: Fault | None = None) -> None:
        """End it; with a fault, the client is told."""
        if not self._is_stopped:
            self._is_stopped, self._farewell = True, farewell
            if self._task is not None and self._is_inside:  # a task that has not begun would never close the stream
                self._task.cancel()

    def flush(self) -> None:
        """Send what waits."""
        while self._waiting and not self._owner.outlet.is_blocked():
            encoded = self._waiting.popleft()
            self._held -= len(encoded)
            self._send(encoded)

    async def _run(self) -> None:
        since = time.monotonic()
        fault: Fault | None = None
        self._is_inside = True
        try:
            if not self._is_stopped:
                fault = await self._pass_on()
                await self._empty()
        except asyncio.CancelledError:
            self._is_stopped = True
        self._is_inside = False
        await self._stream.close()
        if not self._is_stopped:
            self._tell_end(fault)
        elif self._farewell is not None:
            self._tell_end(self._farewell)
        self._note(fault, since)
        self._owner.forget(self._number)

    async def _pass_on(self) -> Fault | None:
        """Notify of values until there are no more; return the fault that they end with, if they do."""
        owner = self._owner
        try:
            async for value in self._stream:
                encoded = await encoded_value(owner.codec, value, owner.rpc.limits.max_reply, self._context)
                if not await self._put(encoded):
                    self._waiting.clear()
                    return Overloaded("the client does not read as fast as values come")
                await asyncio.sleep(0)  # a generator need not wait for anything
        except Fault as error:
            return detached(error)
        return None

    async def _put(self, encoded: bytes) -> bool:
        """Send a value, or keep it; False where the client is too slow."""
        outlet, rules = self._owner.outlet, self._owner.rules
        if rules.slow == "wait":
            await self._free()
        if not outlet.is_blocked() and not self._waiting:
            self._send(encoded)
            return True
        self._waiting.append(encoded)
        self._held += len(encoded)
        while len(self._waiting) > rules.buffer or self._held > self._owner.rpc.limits.max_reply:
            if rules.slow == "end":
                return False
            self._held -= len(self._waiting.popleft())
            self._dropped += 1
        return True

    async def _free(self) -> None:
        while self._owner.outlet.is_blocked():
            self._owner.free.clear()
            await self._owner.free.wait()

    async def _empty(self) -> None:
        """Wait until what is kept is sent, so that the end comes behind it."""
        while self._waiting:
            await self._free()
            self.flush()

    def _send(self, encoded: bytes) -> None:
        dropped = b',"dropped":%d' % self._dropped if self._dropped else b""
        self._dropped = 0
        self._write(self._owner.rules.notification, b',"result":%b%b' % (encoded, dropped))

    def _tell_end(self, fault: Fault | None) -> None:
        said = b""
        if fault is not None:
            said = b',"error":%b' % at_once(self._owner.codec.write_error(fault))
        self._write(self._owner.rules.ended, said)

    def _write(self, method: str, more: bytes) -> None:
        names = (msgspec.json.encode(method), msgspec.json.encode(self._number), more)
        message = b'{"jsonrpc":"2.0","method":%b,"params":{"subscription":%b%b}}' % names
        self._sent += len(message)
        self._owner.outlet.send(message)

    def _note(self, fault: Fault | None, since: float) -> None:
        """Report the stream as a call, which it was."""
        context, observers = self._context, self._owner.rpc.observers
        observers.answered(context.protocol, 0, self._sent)
        code = None if fault is None else fault.code
        record = record_of(context, "cancelled" if self._is_stopped else code, self._sent, since)
        observers.note(record)
        if self._owner.rpc.recorder is not None:
            self._owner.rpc.recorder.streamed(record)


async def encoded_value(codec: JSONRPC, value: Any, most: int, context: Context) -> bytes:
    """Encode a value of a stream.

    Raises:
        Fault: it cannot be encoded, or has more than ``most`` bytes.

    """
    try:
        encoded = await in_turns(codec.write_result(value, most))
    except ResponseTooLarge:
        raise
    except Exception as error:  # noqa: BLE001 - code of the value itself may run here
        fault = encoding_error(error).fault(codec.written_as)
        log_unencodable(context, fault)
        raise fault from None
    if len(encoded) > most:
        raise ResponseTooLarge(f"a value has more than {most} bytes")
    return encoded
