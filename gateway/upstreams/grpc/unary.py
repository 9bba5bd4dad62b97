"""Calls of gRPC with one request and one response ("gRPC over HTTP2"), over connections of our own.

    head = head_of(path, authority, is_tls, metadata)       the bytes that all calls of a method begin with
    call = UnaryCall(head, message, read, invocation)
    stop = call.send(outcome, connection)       as Beginner.begin
    connection = await connect(...)             a Connection that a Pool can lend

A connection on which nothing was received since a call without a response in time was sent may be dead; it gets no new
calls, and neither does one whose server leaves (GOAWAY), refuses a stream, or sends what is not gRPC. Calls wait here,
unsent, while the connection takes no more bytes, and where the server allows fewer streams than it did at first.
"""

import asyncio
import math
import ssl
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable
from typing import Any, cast
from urllib.parse import unquote

from grpc import StatusCode

from gateway.model.faults import RequestTooLarge
from gateway.upstreams import Along, Cancel, Invocation, Outcome
from gateway.upstreams.grpc.frames import CANCEL, REFUSED_STREAM
from gateway.upstreams.grpc.hpack import HeaderBlocks, ProtocolError, indexed_name, literal
from gateway.upstreams.grpc.http2 import HTTP2, ResetError, Stream, TooLongError
from gateway.upstreams.grpc.status import StatusError
from gateway.upstreams.options import Options, Target
from gateway.upstreams.transport.connection import StreamConnection
from gateway.upstreams.transport.dial import open_stream
from gateway.wire.content_coding import CorruptBodyError, unpack

SHARE = 100  # calls on one connection: what HTTP/2 asks each server to allow (RFC 9113, section 6.5.2)
_PREFIX = 5  # bytes before a message: whether it is compressed, and its length
_MOST_TIMEOUT = 99_999_999  # what grpc-timeout can be, of any unit
_CLOCK = 0.02  # seconds by which a server may find a deadline over before we do
_UNKNOWN = StatusCode.UNKNOWN
_CODES = {str(code.value[0]): code for code in StatusCode}
_CODINGS = ("gzip", "deflate")
# What an HTTP status means where there is no other ("HTTP to gRPC Status Code Mapping").
_BY_HTTP = {
    "400": StatusCode.INTERNAL,
    "401": StatusCode.UNAUTHENTICATED,
    "403": StatusCode.PERMISSION_DENIED,
    "404": StatusCode.UNIMPLEMENTED,
    "429": StatusCode.UNAVAILABLE,
    "502": StatusCode.UNAVAILABLE,
    "503": StatusCode.UNAVAILABLE,
    "504": StatusCode.UNAVAILABLE,
}
# What the code of a RST_STREAM means ("Errors" of gRPC over HTTP2); any other is INTERNAL.
_BY_RESET = {
    REFUSED_STREAM: StatusCode.UNAVAILABLE,
    CANCEL: StatusCode.CANCELLED,
    11: StatusCode.RESOURCE_EXHAUSTED,
    12: StatusCode.PERMISSION_DENIED,
}


def head_of(path: str, authority: str, metadata: Along, *, is_tls: bool) -> bytes:
    """Write the fields that all calls of a method begin with: :method and :scheme are whole in the static table."""
    fields = (
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "callgate"),
        ("grpc-accept-encoding", "identity,deflate,gzip"),
        *metadata,
    )
    pseudo = b"\x83%c%b%b" % (
        0x87 if is_tls else 0x86,
        indexed_name(4, path.encode()),
        indexed_name(1, authority.encode()),
    )
    return pseudo + b"".join(literal(name.encode(), value.strip().encode()) for name, value in fields)


def with_along(head: bytes, along: Along) -> bytes:
    """Add metadata of one call."""
    return head + b"".join(literal(name.encode(), value.strip().encode()) for name, value in along)


def framed(message: bytes) -> bytes:
    """Put before a message what gRPC puts there."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class UnaryCall:
    """A call, which waits for its stream's end as a future would."""

    __slots__ = ("_connection", "_outcome", "_read", "head", "heard", "invocation", "message", "stream")

    def __init__(self, head: bytes, message: bytes, read: Callable[[bytes], Any], invocation: Invocation) -> None:
        self.head = head
        self.message = message
        self.invocation = invocation
        self.heard = 0
        self.stream: Stream | None = None
        self._read = read
        self._outcome: Outcome
        self._connection: Connection

    def send(self, outcome: Outcome, connection: "Connection") -> Cancel:
        """Send it, or let it wait until it can be sent; what is returned stops it."""
        self._outcome = outcome
        self._connection = connection
        connection.begin(self)
        return self.stop

    def block(self) -> bytes:
        """Write the fields of its head."""
        invocation = self.invocation
        left = min(math.ceil(invocation.time_left * 1000) or 1, _MOST_TIMEOUT)
        return b"%b%b%b" % (
            self.head,
            literal(b"grpc-timeout", b"%dm" % left),
            literal(b"x-request-id", invocation.request_id.encode()),
        )

    def done(self) -> bool:
        """Tell whether nobody waits any more."""
        return self._outcome.done()

    def set_result(self, stream: Stream) -> None:
        """Read what has come, and pass it on."""
        invocation = self.invocation
        try:
            value = self._read(received(stream, self._connection.most, invocation))
        except StatusError as refused:
            invocation.sent = "yes" if refused.is_answer else "no" if refused.is_unprocessed else "maybe"
            if refused.is_unprocessed or refused.is_garbled:
                self._connection.retire()
            self._outcome.set_exception(refused)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome of this call
            invocation.sent = "yes"
            self._connection.retire()
            self._outcome.set_exception(error)
        else:
            invocation.sent = "yes"
            self._outcome.set_result(value)

    def set_exception(self, error: Exception) -> None:
        """Pass on that the connection has failed."""
        self._outcome.set_exception(error)

    def stop(self) -> None:
        """Wait no more."""
        self._connection.forget(self)


class Connection(StreamConnection):
    """A connection, and the calls on it.

    Attributes:
        most: bytes that a message may have.
        heard: how often something was received.

    """

    def __init__(self, most: int, blocks: HeaderBlocks) -> None:
        super().__init__()
        self.most = most
        self.heard = 0
        self._http2 = HTTP2(most + _PREFIX, blocks)
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: dict[UnaryCall, None] = {}
        self._is_retired = False

    async def ready(self) -> None:
        """Wait for the settings of the server.

        Raises:
            ProtocolError: it does not speak HTTP/2.
            Exception: the connection has failed.

        """
        await self._ready

    @property
    def most_calls(self) -> int:
        """How many calls the server takes at a time."""
        return self._http2.most_streams

    def usable(self) -> bool:
        """Tell whether a new call can be sent."""
        return not (self._is_retired or self._http2.is_used_up) and super().usable()

    def retire(self) -> None:
        """Take no more calls."""
        self._is_retired = True

    def begin(self, call: UnaryCall) -> None:
        """Send a call, or let it wait."""
        if self._waiting or not (self._writable.is_set() and self._http2.has_room()):
            call.invocation.waits = True
            self._waiting[call] = None
        else:
            self._send(call)

    def forget(self, call: UnaryCall) -> None:
        """Wait no more for a call; where nothing was received since it was sent, the connection may be dead."""
        if call.stream is None:
            self._waiting.pop(call, None)
            return
        self._is_retired = self._is_retired or self.heard == call.heard
        self._http2.cancel(call.stream)
        if self._error is None and not self._transport.is_closing():
            self._transport.write(self._http2.take())
            self._go_on()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if the server has chosen HTTP/2 (called by the event loop)."""
        super().connection_made(transport)
        tls: Any = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._fail(ProtocolError("the server does not speak HTTP/2: it has not chosen h2 in the TLS handshake"))
        else:
            self._transport.write(self._http2.take())

    def data_received(self, data: bytes) -> None:
        """Give responses to their calls (called by the event loop)."""
        self.heard += 1
        http2 = self._http2
        error: ProtocolError | None = None
        try:
            http2.feed(data)
        except ProtocolError as broken:
            error = broken
        else:
            if not self._ready.done() and http2.is_greeted:
                self._ready.set_result(None)
        if out := http2.take():
            self._transport.write(out)
        ended, http2.ended = http2.ended, []
        for stream in ended:
            if not stream.owner.done():
                stream.owner.set_result(stream)
        if error is not None:
            self._fail(error)
        else:
            self._go_on()

    def resume_writing(self) -> None:
        """Send what was held back (called by the event loop)."""
        super().resume_writing()
        self._go_on()

    def _send(self, call: UnaryCall) -> None:
        call.heard = self.heard
        call.invocation.sent = "maybe"
        call.stream = self._http2.begin(call.block(), call.message, call)
        self._transport.write(self._http2.take())
        if call.stream.unsent is not None:
            self._go_on()

    def _go_on(self) -> None:
        """Send what can be sent of what waits."""
        while self._writable.is_set() and self._error is None and self._http2.pump():
            self._transport.write(self._http2.take())
        while self._waiting and self._error is None:
            if self._http2.is_used_up:
                self._take_first().set_exception(_unprocessed("GOAWAY"))
            elif self._writable.is_set() and self._http2.has_room():
                self._send(self._take_first())
            else:
                return

    def _take_first(self) -> UnaryCall:
        call = next(iter(self._waiting))
        del self._waiting[call]
        call.invocation.waits = False
        return call

    def _pending(self) -> Iterable[Outcome]:
        return (cast("Outcome", self._ready), *(each.owner for each in self._http2.streams.values()), *self._waiting)


async def connect(
    target: Target, options: Options, tls: ssl.SSLContext | None, most: int, blocks: HeaderBlocks
) -> Connection:
    """Connect, and wait for the settings of the server, within ``connect_timeout``.

    Raises:
        ProtocolError: the server does not speak HTTP/2.
        OSError: it cannot be reached.
        EOFError: it closes the connection.

    """
    async with asyncio.timeout(options.connect_timeout):
        connection = await open_stream(lambda: Connection(most, blocks), target, options, tls)
        try:
            await connection.ready()
        except BaseException:
            connection.close()
            raise
    return connection


def received(stream: Stream, most: int, invocation: Invocation) -> bytes:
    """Return the message of a response.

    Raises:
        StatusError: the call has failed.
        ProtocolError: it is not gRPC.

    """
    head, trailers, body = stream.head, stream.trailers, stream.body
    if stream.error is not None:
        raise _failure(stream.error, most, invocation)
    assert head is not None  # noqa: S101 - a stream without one has an error
    if not head.get("content-type", "").startswith("application/grpc"):
        raise _by_http(head[":status"])
    status = None if trailers is None else trailers.get("grpc-status")
    if trailers is None or status is None:
        raise _by_http(head[":status"])
    if status != "0":
        raise _status(status, trailers.get("grpc-message", ""), trailers.get("grpc-status-details-bin", ""))
    if int.from_bytes(body[1:_PREFIX], "big") != len(body) - _PREFIX:  # which is below 0 where the prefix is not whole
        raise ProtocolError("a response with the status OK does not have one message")
    if not body[0]:
        return bytes(body[_PREFIX:])
    return _unpacked(bytes(body[_PREFIX:]), head.get("grpc-encoding", ""), most)


def _failure(error: Exception, most: int, invocation: Invocation) -> Exception:
    """Tell what it means that there is no response."""
    if isinstance(error, TooLongError):
        return StatusError(StatusCode.RESOURCE_EXHAUSTED, f"CLIENT: Received message larger than max ({most})")
    if not isinstance(error, ResetError):
        return error
    code = _BY_RESET.get(error.code, StatusCode.INTERNAL)
    if code is StatusCode.CANCELLED and invocation.time_left < _CLOCK:
        code = StatusCode.DEADLINE_EXCEEDED
    return _unprocessed(str(error)) if error.code == REFUSED_STREAM else StatusError(code, str(error))


def _unprocessed(said: str) -> StatusError:
    return StatusError(StatusCode.UNAVAILABLE, f"REFUSED_STREAM: {said}")


def _by_http(status: str) -> Exception:
    """Tell what a response means that does not have a status of gRPC."""
    if status == "200":
        return ProtocolError("a response has no status of gRPC")
    code = _BY_HTTP.get(status)
    if code is None:
        return ProtocolError(f"a response is not gRPC and has the HTTP status {status}")
    return StatusError(code, f"HTTP status {status}")


def _status(status: str, message: str, details: str) -> Exception:
    if not status.isdecimal():
        return ProtocolError("a response has an invalid status of gRPC")
    try:
        trailer = b64decode(details + "=" * (-len(details) % 4))
    except (Base64Error, ValueError):
        trailer = b""
    return StatusError(_CODES.get(status, _UNKNOWN), unquote(message), trailer, is_said=True)


def _unpacked(message: bytes, coding: str, most: int) -> bytes:
    if coding not in _CODINGS:
        raise ProtocolError(f"a response is compressed in an unknown way: {coding[:20]!r}")
    try:
        return unpack(message, coding, most)
    except CorruptBodyError:
        raise ProtocolError(f"a response cannot be unpacked: it is not {coding}") from None
    except RequestTooLarge:
        raise StatusError(
            StatusCode.RESOURCE_EXHAUSTED, f"CLIENT: Decompressed message larger than max ({most})"
        ) from None
