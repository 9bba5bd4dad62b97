"""WebSocket on a connection that was upgraded (RFC 6455): its reader from then on.

    upgrade -> WebSockets.admit -> Session; then messages -> Session.answer -> messages

Calls of one connection run at the same time, and each answer goes out when it is ready. Nothing more is read while
``limits.in_flight`` of them run, or while the client has not taken what was written. A client that sends nothing for a
while is sent a ping, and closed if it does not answer. When the host retires, each connection takes no more messages,
ends the calls that run, and is closed with 1001.
"""

import asyncio
import logging
import time
from typing import Any, Protocol

from gateway.hosts.connections import Connections
from gateway.hosts.eager import start
from gateway.hosts.http.connection import Connection
from gateway.model.limits import Limits
from gateway.model.websocket import Session, WebSockets
from gateway.wire import websocket
from gateway.wire.http_responses import header_lines
from gateway.wire.websocket import Closed, Event, Message, MessageReader, Ping, WebSocketError

log = logging.getLogger("gateway")


class Serving(Protocol):
    """What is asked of the host."""

    connections: Connections[Connection]
    calls: set[Any]
    limits: Limits
    sockets: set[Any]


class WebSocket:
    """A connection that was upgraded, as its reader.

    Arguments:
        host: whose it is.
        connection: the connection.
        session: what answers its messages.
        ways: its clocks.

    """

    __slots__ = (
        "_begun",
        "_calls",
        "_connection",
        "_has_left",
        "_heard",
        "_host",
        "_is_asked",
        "_reader",
        "_session",
        "_timer",
        "_ways",
    )

    def __init__(self, host: Serving, connection: Connection, session: Session, ways: WebSockets) -> None:
        self._host = host
        self._connection = connection
        self._session = session
        self._ways = ways
        self._reader = MessageReader(host.limits.max_body)
        self._calls: set[asyncio.Task[None]] = set()
        self._begun: float | None = None  # when the message was, of which only the beginning is here
        self._has_left = False  # a close frame was sent: nothing else is
        self._heard = time.monotonic()
        self._is_asked = False  # a ping was sent, and nothing has come since
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, key: str) -> None:
        """Write the response to the upgrade, and read the connection from now on."""
        headers = (
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", websocket.accept(key)),
            *self._session.headers,
        )
        self._session.open(self)
        self._connection.reader = self
        self._host.sockets.add(self)
        self._host.connections.note_busy(self._connection)
        self._connection.write(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % header_lines(headers))
        if self._ways.ping_interval:
            self._timer = asyncio.get_running_loop().call_later(self._ways.ping_interval, self._look)
        self._settle()

    # What the connection calls

    def waits(self) -> bool:
        """Tell whether the next message has to wait."""
        if self._has_left:
            return False  # nothing but the client's close frame is awaited
        connection = self._connection
        is_full = len(self._calls) >= self._host.limits.in_flight or self._host.connections.retired
        return is_full or connection.is_blocked or not connection.has_turn

    def step(self) -> bool:
        """Read a frame, and begin to answer the message that it ends; False where more bytes are needed."""
        connection, connections = self._connection, self._host.connections
        if connection.is_deaf:
            return False
        begin = connection.at
        if begin < len(connection.input):
            self._heard, self._is_asked = time.monotonic(), False
        try:
            connection.at = self._reader.take(connection.input, begin)
        except WebSocketError as error:
            self._fail(error.code, str(error))
            return False
        if not self._reader.is_within():
            self._begun = None
        elif self._begun is None or isinstance(self._reader.event, Message):
            self._begun = self._heard
        if self._reader.event is None:
            connections.note_progress(connection, connection.at - begin)
        else:
            self._take(self._reader.event)
        self._settle()
        return connection.at < len(connection.input)

    def drained(self) -> None:
        """Go on, now that the client has taken all that was written."""
        self._session.drained()
        self._go_on()

    def ended(self) -> bool:
        """Close, because the client sends nothing more: without a close frame, it is gone."""
        return True

    def lose(self) -> None:
        """Cancel what runs for a client that is gone."""
        self._has_left = True
        if self._timer is not None:
            self._timer.cancel()
        self._cancel()
        self._session.close()
        self._host.sockets.discard(self)

    def farewell(self) -> bytes:
        """Return the close frame of a connection that the host closes."""
        if self._has_left:
            return b""
        self._has_left = True
        return websocket.write_close(websocket.GOING_AWAY)

    # What the host calls

    def retire(self) -> None:
        """Take no more messages, and end with the calls that run."""
        self._session.retire()
        self._go_on()

    # What the session calls

    def send(self, message: bytes) -> None:
        """Send a message that answers none."""
        if not self._has_left:
            self._connection.write(websocket.write(websocket.TEXT, message))

    def is_blocked(self) -> bool:
        """Tell whether the client has not taken all that was written."""
        return self._connection.is_blocked

    def changed(self) -> None:
        """Take note that a subscription has ended."""
        if not self._has_left:
            self._go_on()

    # Messages

    def _take(self, event: Event) -> None:
        if self._has_left:  # what comes now was sent before the client knew
            if isinstance(event, Closed):
                self._connection.leave()
        elif isinstance(event, Message):
            self._host.connections.note_busy(self._connection)
            self._begin(event.data)
        elif isinstance(event, Ping):
            self._connection.write(websocket.write(websocket.PONG, event.data))
        elif isinstance(event, Closed):
            self._say_closed(event.code, "")
            self._connection.leave()

    def _begin(self, message: bytes) -> None:
        call = start(self._serve(message))
        if call is not None:
            self._calls.add(call)
            self._host.calls.add(call)
            call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._host.calls.discard(call)
        self._go_on()

    async def _serve(self, message: bytes) -> None:
        try:
            answer = await self._session.answer(message)
        except Exception:
            log.exception("the endpoint raised an exception, which is a bug")
            self._fail(websocket.UNEXPECTED, "Internal error")
            return
        if answer and not self._has_left:
            self._connection.write(websocket.write(websocket.TEXT, answer))

    def _cancel(self) -> None:
        for call in tuple(self._calls):
            call.cancel()

    def _go_on(self) -> None:
        """Read on, if that can be now, and settle what follows if it cannot."""
        if not self._connection.is_closing():
            self._settle()
            self._connection.go_on()

    def _settle(self) -> None:
        """End or not, and set the time until something has to happen."""
        connections, connection = self._host.connections, self._connection
        if connection.is_deaf:
            return
        is_busy = bool(self._calls) or self._session.is_open()
        if connections.retired and not is_busy and not self._has_left:
            self._say_closed(websocket.GOING_AWAY, "the gateway stops, or loads its configuration again")
        if self._has_left:
            connections.note_linger(connection)
        elif is_busy:
            connections.note_busy(connection)
        elif self._begun is not None:
            connections.note_body(connection, self._begun)
        else:
            connections.note_quiet(connection, self._ways.idle_timeout)

    # Whether the client is there

    def _look(self) -> None:
        """Ask the client whether it is there, if it has said nothing for a while; close, if it has been asked."""
        ways, now = self._ways, time.monotonic()
        if self.waits():  # nobody listens, so it may well have said something
            self._heard, self._is_asked = now, False
        silence = now - self._heard
        wait = ways.ping_interval - silence
        if self._is_asked:
            wait += ways.ping_timeout
            if wait <= 0:
                self._connection.reset()
                return
        elif wait <= 0:
            self._is_asked, wait = True, ways.ping_timeout
            if not self._has_left:
                self._connection.write(websocket.write(websocket.PING, b""))
        self._timer = asyncio.get_running_loop().call_later(wait, self._look)

    # The end

    def _fail(self, code: int, reason: str) -> None:
        """Close because of what has come, and throw away what still comes until the client hangs up, or for a while."""
        if not self._connection.is_deaf:
            self._cancel()
            has_left, self._has_left = self._has_left, True
            self._connection.linger(b"" if has_left else websocket.write_close(code, reason))

    def _say_closed(self, code: int, reason: str) -> None:
        self._connection.write(websocket.write_close(code, reason))
        self._has_left = True
