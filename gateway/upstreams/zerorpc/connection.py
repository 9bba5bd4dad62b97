"""A connection to a ZeroRPC server: many calls on it, told apart by their ids.

    value = await connection.call(invocation, args)     a value, or the list of a stream's values
    connection.stream(invocation, args)                 the values of a stream as they come; a Whole is another value
    RemoteError                                         what the service has raised instead

Each call is watched by heartbeats, both ways, as ZeroRPC's own client does: a server that is alive says so every few
seconds while a call runs, and gives up calls whose caller has gone silent; so a call that nobody waits for any more is
simply left. Its answer meets no call, and is dropped. A connection that has given no sign of life since such a call was
sent takes no new ones.

A server sends as many events of a stream as it was allowed to. Of a stream that is collected, these are many. Where
values are taken one by one, they are few, fewer if values are large, and the server may send more when some were taken.
A stream that is left gets no more, and ends as any call does.
"""

import asyncio
import contextvars
import itertools
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from gateway.model.faults import BadUpstream, Unavailable
from gateway.model.streams import Whole
from gateway.upstreams import Invocation
from gateway.upstreams.transport.connection import StreamConnection
from gateway.upstreams.zerorpc import events, zmtp

_CREDIT = 100  # events of a stream that may be on their way
_WINDOW = 32  # of one whose values are taken one by one
_HELD = 4  # times the bytes of a response, in values that have come and were not taken
_SILENT = 2  # heartbeats without a sign of the server


class RemoteError(Exception):
    """What a service has raised: the name of its class, and its text."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        self.name = name
        self.text = text


class _Call:
    """A call on its way; ``items`` and ``most`` bound the values and bytes of a stream.

    Attributes:
        silent: heartbeats since the last sign of the server.
        values: what a stream has given.

    """

    def __init__(self, items: int, most: int) -> None:
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.silent = 0
        self.values: list[Any] = []
        self._items = items
        self._most = most
        self._size = 0
        self._credit = 1  # events that the server may still send

    def take(self, item: Any, size: int) -> int:
        """Take a value of a stream; return how many more the server may send.

        Raises:
            BadUpstream: there are too many.

        """
        self.values.append(item)
        self._size += size
        if len(self.values) > self._items or self._size > self._most:
            raise BadUpstream(f"the response stream has more than {self._items} values, or more bytes than are taken")
        self._credit -= 1
        if self._credit >= _CREDIT // 2:
            return 0
        more, self._credit = _CREDIT - self._credit, _CREDIT
        return more


class _Flow(_Call):
    """A call whose values are taken one by one; ``most`` bounds the bytes of one.

    Attributes:
        news: set when there is a value, or an end.

    """

    def __init__(self, most: int) -> None:
        super().__init__(0, most)
        self.news = asyncio.Event()
        self.answer.add_done_callback(lambda _: self.news.set())
        self._waiting: deque[tuple[Any, int]] = deque()
        self._largest = 1

    def take(self, item: Any, size: int) -> int:
        """Take a value; more are asked for when it has been given.

        Raises:
            BadUpstream: too much waits.

        """
        self._waiting.append((item, size))
        self._size += size
        self._credit -= 1
        self._largest = max(self._largest, size)
        if self._size > _HELD * self._most:
            raise BadUpstream("the response stream has more bytes on their way than are taken")
        self.news.set()
        return 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def give(self) -> tuple[Any, int]:
        """Give the next value, and tell how many more the server may send."""
        item, size = self._waiting.popleft()
        self._size -= size
        window = max(1, min(_WINDOW, self._most // self._largest))
        more = window - self._credit - len(self._waiting)
        if 2 * more < window:
            return item, 0
        self._credit += more
        return item, more

    def end(self) -> None:
        """Wait for nothing more."""
        if not self.answer.done():
            self.answer.cancel()
        elif not self.answer.cancelled():
            self.answer.exception()  # that nobody has read it is no mistake


class Connection(StreamConnection):
    """A connection; ``most`` bounds the bytes of an answer, ``depth`` its levels, ``items`` the values of a stream."""

    def __init__(self, most: int, depth: int, items: int, heartbeat: float) -> None:
        super().__init__()
        self._most = most
        self._depth = depth
        self._items = items
        self._heartbeat = heartbeat
        self._peer = zmtp.Peer(most)
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: dict[bytes, _Call] = {}
        name = os.urandom(8).hex().encode()
        self._ids = (b"%s%x" % (name, number) for number in itertools.count(1))
        self._beat: asyncio.TimerHandle | None = None
        self._heard = 0
        self._retired = False

    async def ready(self) -> None:
        """Wait until the other side has greeted.

        Raises:
            BadUpstream, OSError, EOFError: it does not.

        """
        try:
            await self._ready
        except BaseException:
            self.close()
            raise

    async def call(self, invocation: Invocation, args: list[Any]) -> Any:
        """Send a call, and wait for its value.

        Raises:
            RemoteError, BadUpstream, Unavailable, OSError, EOFError: there is none.

        """
        call = _Call(self._items, self._most)
        call_id = await self._begin(invocation, args, call)
        heard = self._heard
        try:
            value = await call.answer
        except RemoteError:
            invocation.sent = "yes"
            raise
        except asyncio.CancelledError:
            self._retired = self._retired or self._heard == heard
            raise
        finally:
            self._waiting.pop(call_id, None)
        invocation.sent = "yes"
        return value

    async def stream(self, invocation: Invocation, args: list[Any]) -> AsyncGenerator[Any, None]:
        """Send a call, and give each value when it is there; one that is not of a stream is a Whole.

        Raises:
            RemoteError, BadUpstream, Unavailable, OSError, EOFError: it has ended so.

        """
        call = _Flow(self._most)
        call_id = await self._begin(invocation, args, call)
        heard = self._heard
        try:
            while True:
                while call:
                    invocation.sent = "yes"
                    item, more = call.give()
                    self._allow(call_id, more)
                    yield item
                if call.answer.done():
                    break
                call.news.clear()
                await call.news.wait()
            value = call.answer.result()
            invocation.sent = "yes"
            if value is not call.values:
                yield Whole(value)
        except RemoteError:
            invocation.sent = "yes"
            raise
        except asyncio.CancelledError:
            self._retired = self._retired or self._heard == heard
            raise
        finally:
            call.end()
            self._waiting.pop(call_id, None)

    async def _begin(self, invocation: Invocation, args: list[Any], call: _Call) -> bytes:
        """Send a call, and return its id."""
        call_id = next(self._ids)
        event = events.pack(invocation.method, args, call_id)
        await self._writable.wait()
        if not self.usable():
            raise EOFError
        self._waiting[call_id] = call
        invocation.sent = "maybe"
        self._send(event)
        if self._beat is None:
            self._beat = self._next_beat()
        return call_id

    def usable(self) -> bool:
        """Tell whether a new call can be sent."""
        return not self._retired and super().usable()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet (called by the event loop)."""
        super().connection_made(transport)
        self._transport.write(zmtp.HELLO)

    def data_received(self, data: bytes) -> None:
        """Give events to their calls (called by the event loop)."""
        self._heard += 1
        try:
            for frames in self._peer.feed(data, self._pong):
                self._receive(frames[-1])
        except zmtp.ZMTPError as error:
            self._fail(BadUpstream(str(error)))
        except BadUpstream as fault:
            self._fail(fault)
        if self._peer.is_ready and not self._ready.done():
            self._ready.set_result(None)

    def _receive(self, body: bytes) -> None:
        event = events.unpack(body)
        call = self._waiting.get(event.response_to) if type(event.response_to) is bytes else None
        if call is None or call.answer.done():
            return  # too late
        call.silent = 0
        take = _TAKES.get(event.name)
        if take is None:
            return
        try:
            take(self, call, events.value(event), event)
        except (BadUpstream, RemoteError) as error:
            call.answer.set_exception(error)

    def _take_value(self, call: _Call, args: Any, _: events.Event) -> None:
        if type(args) is not list or len(args) != 1:
            raise BadUpstream("the response is not one value")
        call.answer.set_result(events.neutral(args[0], self._depth))

    def _take_error(self, _call: _Call, args: Any, _: events.Event) -> None:
        said = args if type(args) is list and len(args) > 1 else ["", ""]  # version 1 has but a repr
        name, text = (each if type(each) is str else "" for each in said[:2])
        raise RemoteError(name, text)

    def _take_item(self, call: _Call, item: Any, event: events.Event) -> None:
        more = call.take(events.neutral(item, self._depth - 1), len(memoryview(event.packed)))
        self._allow(event.response_to, more)

    def _allow(self, call_id: bytes, more: int) -> None:
        """Let the server send more events of a stream."""
        if more and not self._transport.is_closing():
            self._send(events.pack(events.MORE, [more], next(self._ids), call_id))

    def _take_end(self, call: _Call, _args: Any, _: events.Event) -> None:
        call.answer.set_result(call.values)

    def _beats(self) -> None:
        """Send heartbeats for the calls that run, and give up those for which the server sends none."""
        for call_id, call in self._waiting.items():
            if call.silent >= _SILENT and not call.answer.done():
                self._retired = True
                call.answer.set_exception(Unavailable("the upstream sends no heartbeats"))
            call.silent += 1
            self._send(events.pack(events.HEARTBEAT, [0], next(self._ids), call_id))
        again = self._waiting and not self._transport.is_closing()
        self._beat = self._next_beat() if again else None

    def _next_beat(self) -> asyncio.TimerHandle:
        """Set the clock, outside of the call that does it."""
        return asyncio.get_running_loop().call_later(self._heartbeat, self._beats, context=contextvars.Context())

    def _pong(self, frame: bytes) -> None:
        """Answer a ping, unless the server reads nothing."""
        if self._writable.is_set():
            self._transport.write(frame)

    def _send(self, event: bytes) -> None:
        self._transport.write(zmtp.message([b"", event]))

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the calls that wait (called by the event loop)."""
        if self._beat is not None:
            self._beat.cancel()
        super().connection_lost(error)

    def _pending(self) -> Iterable[asyncio.Future[Any]]:
        return (self._ready, *(call.answer for call in self._waiting.values()))


_TAKES: dict[str, Callable[[Connection, _Call, Any, events.Event], None]] = {
    "OK": Connection._take_value,  # noqa: SLF001 - they are its own
    "ERR": Connection._take_error,  # noqa: SLF001
    "STREAM": Connection._take_item,  # noqa: SLF001
    "STREAM_DONE": Connection._take_end,  # noqa: SLF001
}
