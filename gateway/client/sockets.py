"""One connection of WebSocket: the upgrade, calls that wait for their answers, and notifications.

    link = await opened(stream, address, headers, codec, most, deadline)
    replies = link.expect(ids); await link.send(message); await replies[id]
    link.subscriptions[number] = feed        which is told of values, of the end, and of the loss of the connection

What has come is read by a task of the link's own. When the connection ends, all that waits gets the error that says
why.
"""

import asyncio
import re
import time
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any, NoReturn, Protocol

from gateway.client.address import Address
from gateway.client.errors import BadResponse, CallError, lost, plain, refused
from gateway.client.transport import Stream
from gateway.codecs import Codec
from gateway.model.calls import Batch, Call, Id, InvalidCall, Reply
from gateway.wire import websocket
from gateway.wire.http_reading import NotHTTPError, ResponseReader, ResponseTooLongError
from gateway.wire.websocket import Closed, Event, Message, MessageReader, Ping, WebSocketError

_SILENCE = 30.0  # seconds without a byte, after which the server is asked whether it is there, and then given up
_FAREWELL = 1.0  # seconds that the server has to answer a close
_MOST_HEAD = 65536
_SWITCHES = re.compile(rb"HTTP/1\.1 101[ \r]")
_ACCEPTED = re.compile(rb"\r\nsec-websocket-accept:[ \t]*([!-~]+)[ \t]*\r\n", re.IGNORECASE)


class Feed(Protocol):
    """What is told of a subscription."""

    def begin(self, link: "Link", number: str) -> None:
        """Take note that the server has subscribed it."""

    def put(self, value: Any, dropped: int) -> None:
        """Take a value, before which the server has dropped some."""

    def end(self, error: Any) -> None:
        """Take note that the stream has ended; ``error`` is an error object, None for a good end."""

    def lose(self, error: CallError) -> None:
        """Take note that the connection is lost."""


async def opened(  # noqa: PLR0913, PLR0917 - what an upgrade is made of
    stream: Stream, address: Address, headers: Mapping[str, str], codec: Codec, most: int, deadline: float
) -> "Link":
    """Upgrade a connection.

    Raises:
        StatusError: the server refuses.
        BadResponse: it does not speak WebSocket.
        OSError, EOFError: the connection breaks.

    """
    key = websocket.make_key()
    lines = {
        "Host": address.authority,
        "User-Agent": "callgate",
        **headers,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": websocket.VERSION,
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Protocol": "jsonrpc",
    }
    head = [f"GET {address.target} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items()), "", ""]
    await stream.send("\r\n".join(head).encode("ascii"), deadline)
    received = b""
    while (end := received.find(b"\r\n\r\n")) < 0 and len(received) < _MOST_HEAD:
        received += await _more(stream, deadline)
    if not _SWITCHES.match(received):
        raise await _refusal(stream, address, received, most, deadline)
    accepted = _ACCEPTED.search(received[: end + 2])
    if accepted is None or accepted[1].decode() != websocket.accept(key):
        raise BadResponse(f"{address.url}: the response to the upgrade is not one of WebSocket", url=address.url)
    return Link(stream, address.url, codec, most, received[end + 4 :])


async def _more(stream: Stream, deadline: float) -> bytes:
    data = await stream.receive(deadline)
    if not data:
        raise EOFError("it closed the connection without a response")
    return data


async def _refusal(stream: Stream, address: Address, received: bytes, most: int, deadline: float) -> CallError:
    reader = ResponseReader(most)
    try:
        response = reader.feed(received)
        while response is None:
            data = await stream.receive(deadline)
            response = reader.feed(data) if data else reader.end()
    except (NotHTTPError, ResponseTooLongError) as error:
        return BadResponse(f"no response from {address.url}: it does not respond in HTTP: {error}", url=address.url)
    return refused(address.url, response.head, response.body)


class Link:
    """A connection that was upgraded.

    Attributes:
        home: the loop that it belongs to.
        error: why it has ended; None where it has not.
        subscriptions: by the ids that the server has given them.

    """

    def __init__(self, stream: Stream, url: str, codec: Codec, most: int, rest: bytes) -> None:
        self.home = asyncio.get_running_loop()
        self.error: CallError | None = None
        self.subscriptions: dict[str, Feed] = {}
        self._stream = stream
        self._url = url
        self._codec = codec
        self._reader = MessageReader(most, is_client=True)
        self._waiting: dict[Id, tuple[asyncio.Future[Reply], object, Feed | None]] = {}
        self._task = self.home.create_task(self._run(rest))

    def expect(self, ids: Iterable[Id], feed: Feed | None = None) -> dict[Id, "asyncio.Future[Reply]"]:
        """Wait for the answers to calls that are sent together; with a feed, to the call that subscribes it."""
        together = object()
        found = {call_id: self.home.create_future() for call_id in ids}
        for call_id, future in found.items():
            self._waiting[call_id] = future, together, feed
        return found

    def forget(self, ids: Iterable[Id]) -> None:
        """Wait for answers no more."""
        for call_id in ids:
            waiting = self._waiting.pop(call_id, None)
            if waiting is not None:
                waiting[0].cancel()

    async def send(self, message: bytes) -> None:
        """Send a message.

        Raises:
            CallError: the connection is lost already.

        """
        if self.error is not None:
            raise self.error
        await self._stream.send(websocket.write(websocket.TEXT, message, is_client=True), inf)

    async def close(self) -> None:
        """Close it, and wait a little for the server to agree."""
        if self.error is None:
            await self._stream.send(websocket.write_close(websocket.NORMAL, is_client=True), inf)
            await asyncio.wait((self._task,), timeout=_FAREWELL)
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _run(self, rest: bytes) -> None:
        error: CallError
        try:
            error = await self._read(rest)
        except asyncio.CancelledError:
            error = lost(self._url, EOFError("the client was closed"), "maybe")
        except WebSocketError as wrong:
            error = BadResponse(f"{self._url}: what the server sends is not WebSocket: {wrong}", url=self._url)
            await self._stream.send(websocket.write_close(wrong.code, is_client=True), inf)
        except (OSError, EOFError) as broken:
            error = lost(self._url, broken, "maybe")
        self._fail(error)

    async def _read(self, data: bytes) -> NoReturn:
        is_asked = False
        while True:
            for event in self._reader.feed(data):
                await self._take(event)
            try:
                data = await self._stream.receive(time.monotonic() + _SILENCE)
            except TimeoutError:
                if is_asked:
                    raise
                is_asked, data = True, b""
                await self._stream.send(websocket.write(websocket.PING, b"", is_client=True), inf)
                continue
            is_asked = False
            if not data:
                raise EOFError("it closed the connection")

    async def _take(self, event: Event) -> None:
        if isinstance(event, Message):
            self._take_message(event.data)
        elif isinstance(event, Ping):
            await self._stream.send(websocket.write(websocket.PONG, event.data, is_client=True), inf)
        elif isinstance(event, Closed):
            await self._stream.send(websocket.write_close(event.code, is_client=True), inf)
            said = f": {plain(event.reason)}" if event.reason else ""
            raise EOFError(f"it closed the connection with code {event.code}{said}")  # noqa: TRY004 - no wrong type

    def _take_message(self, message: bytes) -> None:
        if message.lstrip()[:1] == b"[":
            replies = self._codec.decode_batch(message)
            for call_id, reply in [(None, replies)] if isinstance(replies, Reply) else replies:
                self._settle(call_id, reply)
            return
        answer = self._codec.decode_answer(message)
        if answer is None:
            self._notify(self._codec.decode(message, None))
        else:
            self._settle(*answer)

    def _settle(self, call_id: Id, reply: Reply) -> None:
        """Pass an answer on; one without an id is for all of a message, if only one waits."""
        if call_id is None:
            together = {each for _, each, _ in self._waiting.values()}
            ids = list(self._waiting) if len(together) == 1 else []
        else:
            ids = [call_id] if call_id in self._waiting else []
        for each in ids:
            future, _, feed = self._waiting.pop(each)
            if feed is not None and reply.fault is None and isinstance(reply.value, str):
                self.subscriptions[reply.value] = feed  # before what comes next is read: that may be a value
                feed.begin(self, reply.value)
            if not future.done():
                future.set_result(reply)

    def _notify(self, said: Call | InvalidCall | Batch) -> None:
        params = said.params if isinstance(said, Call) else None
        if not isinstance(params, dict):
            return
        number = params.get("subscription")
        feed = self.subscriptions.get(number) if isinstance(number, str) else None
        if feed is None:
            return
        if "result" in params:
            dropped = params.get("dropped", 0)
            feed.put(params["result"], dropped if isinstance(dropped, int) else 0)
        else:
            del self.subscriptions[str(number)]
            feed.end(params.get("error"))

    def _fail(self, error: CallError) -> None:
        self.error = error
        self._stream.close()
        for future, _, _ in self._waiting.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # it is told to who waits, if anybody does
        self._waiting.clear()
        feeds, self.subscriptions = list(self.subscriptions.values()), {}
        for feed in feeds:
            feed.lose(error)
