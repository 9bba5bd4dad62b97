"""The client's half of HTTP/2 (RFC 9113), as far as calls need it that send one body and get one: bytes in, bytes out.

    http2 = HTTP2(most, blocks)         http2.take() is what begins the connection
    stream = http2.begin(block, body, owner)
    http2.feed(data)                    ProtocolError; http2.ended has the streams that have ended
    http2.take()                        what is to be sent now
    http2.pump()                        True: a part of what waited for room in a window is there to be sent

The server is told that it may not keep a table of header fields (SETTINGS_HEADER_TABLE_SIZE is 0), so that each header
block can be read alone: one that belongs to a stream that was cancelled is thrown away unread, and those that come
again and again are looked up (hpack.py). It may send a whole body of ``most`` bytes at once. So streams need no
updates of their windows, and a longer body is refused when it comes.

Whatever a server can send without an end is counted: after 10,000 frames in a row that bring no stream any further, the
connection has failed.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from gateway.upstreams.grpc.frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE,
    HEAD,
    HEAD_SIZE,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MOST_STREAM,
    MOST_WINDOW,
    NUMBER,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTING,
    SETTINGS,
    WINDOW,
    frame,
    rst_stream,
    settings,
    window_update,
)
from gateway.upstreams.grpc.hpack import MOST_FIELDS, Fields, HeaderBlocks, LongFieldsError, ProtocolError

_MOST_IDLE = 10_000  # frames in a row that bring no stream any further
_OURS = 2**30  # the window of the connection, which is opened again when half of it is used up
_PIECE = 65536  # bytes of a frame of ours, at most: where a server takes more, the frames of others wait for less time
_PADDING = 256  # bytes of a frame that are neither header block nor data


class ResetError(Exception):
    """A stream has ended without a response: by RST_STREAM, or because a GOAWAY leaves it out."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code


class TooLongError(Exception):
    """A body has more bytes than it may have."""


class Stream:
    """One call.

    Attributes:
        owner: what waits for it.
        head: the fields of the response, once they are here.
        body: what has come of the body.
        trailers: the fields behind the body; those of the head where there is no more.
        error: why there is no response.

    """

    __slots__ = ("body", "error", "head", "number", "owner", "trailers", "unsent", "window")

    def __init__(self, number: int, window: int, owner: Any) -> None:
        self.number = number
        self.window = window  # how much we may send
        self.owner = owner
        self.unsent: memoryview | None = None
        self.head: Fields | None = None
        self.body: bytes | bytearray = b""
        self.trailers: Fields | None = None
        self.error: Exception | None = None


class HTTP2:
    """A connection.

    Attributes:
        streams: those that are open, by their numbers.
        ended: those that have ended since the list was emptied, in this order.
        is_greeted: whether the settings of the server are here.
        is_leaving: whether the server takes no more streams.
        most_streams: how many it takes at a time.

    """

    def __init__(self, most: int, blocks: HeaderBlocks) -> None:
        self.streams: dict[int, Stream] = {}
        self.ended: list[Stream] = []
        self.is_greeted = False
        self.is_leaving = False
        self._blocks = blocks
        self._most = most
        self._next = 1
        self.most_streams = MOST_STREAM
        self._initial = WINDOW  # of a stream of ours
        self._window = WINDOW  # how much we may send
        self._frame_size = FRAME_SIZE
        self._unsent: dict[int, Stream] = {}  # streams that wait for room in a window
        self._rest = b""
        self._block: tuple[int, int, bytearray] | None = None  # of HEADERS and CONTINUATION, unfinished
        self._received = 0  # bytes since the window of the connection was opened
        self._idle = 0
        window = max(WINDOW, min(MOST_WINDOW, most + _PADDING))
        told = {HEADER_TABLE_SIZE: 0, ENABLE_PUSH: 0, INITIAL_WINDOW_SIZE: window, MAX_HEADER_LIST_SIZE: MOST_FIELDS}
        self._out = [PREFACE, settings(told), window_update(0, _OURS - WINDOW)]

    @property
    def is_used_up(self) -> bool:
        """Whether there can be no more streams: the server is leaving, or there are no more numbers."""
        return self.is_leaving or self._next > MOST_STREAM

    def has_room(self) -> bool:
        """Tell whether one more stream may be begun now."""
        return len(self.streams) < self.most_streams and not self.is_used_up

    def take(self) -> bytes:
        """Return what is to be sent."""
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def begin(self, block: bytes, body: bytes, owner: Any) -> Stream:
        """Begin a stream, with a header block and a body that is not empty; there must be room for it."""
        number = self._next
        self._next = number + 2
        stream = self.streams[number] = Stream(number, self._initial, owner)
        size = len(body)
        if len(block) <= self._frame_size:
            self._out.append(HEAD.pack(len(block) >> 8, len(block) & 0xFF, HEADERS, END_HEADERS, number) + block)
        else:
            self._send_long(number, block)
        if size <= min(self._window, self._initial, self._frame_size, _PIECE):
            self._window -= size
            self._out.append(HEAD.pack(size >> 8, size & 0xFF, DATA, END_STREAM, number) + body)
        else:
            stream.unsent = memoryview(body)
            self._unsent[number] = stream
        return stream

    def _send_long(self, number: int, block: bytes) -> None:
        pieces = [block[at : at + self._frame_size] for at in range(0, len(block), self._frame_size)]
        self._out.append(frame(HEADERS, 0, number, pieces[0]))
        self._out += [frame(CONTINUATION, 0, number, piece) for piece in pieces[1:-1]]
        self._out.append(frame(CONTINUATION, END_HEADERS, number, pieces[-1]))

    def pump(self) -> bool:
        """Make a frame of each body that waits for room and has it; tell whether there was one."""
        was = len(self._out)
        for stream in list(self._unsent.values()):
            room = min(self._window, stream.window, self._frame_size, _PIECE)
            if room <= 0 or stream.unsent is None:
                continue
            piece, rest = stream.unsent[:room], stream.unsent[room:]
            self._window -= len(piece)
            stream.window -= len(piece)
            self._out.append(frame(DATA, 0 if rest else END_STREAM, stream.number, piece))
            stream.unsent = rest
            if not rest:
                del self._unsent[stream.number]
        return len(self._out) > was

    def cancel(self, stream: Stream) -> None:
        """End a stream that nobody waits for any more, if it has not ended."""
        if self.streams.pop(stream.number, None) is not None:
            self._unsent.pop(stream.number, None)
            self._out.append(rst_stream(stream.number, CANCEL))

    def feed(self, data: bytes) -> None:
        """Take what was received.

        Raises:
            ProtocolError: it is not HTTP/2, or not what a client can be sent; nothing more is to be fed.

        """
        if self._rest:
            data = self._rest + data  # of which the first is shorter than a frame
        at, end = 0, len(data)
        while end - at >= HEAD_SIZE:
            high, low, kind, flags, number = HEAD.unpack_from(data, at)
            size = high << 8 | low
            if size > FRAME_SIZE:
                raise ProtocolError("a frame is longer than HTTP/2 allows")
            stop = at + HEAD_SIZE + size
            if stop > end:
                break
            self._take(kind, flags, number & MOST_STREAM, data[at + HEAD_SIZE : stop])
            at = stop
        self._rest = data[at:]

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self._idle += 1
        if self._idle > _MOST_IDLE:
            raise ProtocolError(f"{_MOST_IDLE} frames in a row belong to no call")
        if not self.is_greeted and (kind != SETTINGS or flags & ACK):
            raise ProtocolError("the server does not begin with a SETTINGS frame")
        if (self._block is None) is (kind == CONTINUATION):
            raise ProtocolError("a CONTINUATION frame is missing, or belongs to nothing")
        read = self._READ.get(kind)  # other kinds are passed over
        if read is not None:
            read(self, flags, number, payload)

    def _find(self, number: int) -> Stream | None:
        """Return a stream; None if it has ended."""
        stream = self.streams.get(number)
        if stream is None and (number % 2 == 0 or number >= self._next):
            raise ProtocolError("a frame is of a stream that was never begun")
        return stream

    def _end(self, stream: Stream, error: Exception | None = None, code: int | None = None) -> None:
        """Let a stream have ended; with a code the server is told so."""
        del self.streams[stream.number]
        if self._unsent.pop(stream.number, None) is not None and error is None:
            code = CANCEL  # the response is whole, so nobody needs the rest of the request
        if code is not None:
            self._out.append(rst_stream(stream.number, code))
        stream.error = error
        self.ended.append(stream)

    def _break(self, stream: Stream, what: str) -> None:
        self._end(stream, ProtocolError(what), PROTOCOL_ERROR)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        stream = self._find(number)
        size = len(payload)
        self._received += size
        if self._received >= _OURS // 2:
            self._out.append(window_update(0, self._received))
            self._received = 0
        data = _unpadded(payload) if flags & PADDED else payload
        if stream is None:
            return
        if stream.head is None:
            self._break(stream, "the body of a response comes before its head")
            return
        if data:
            self._idle = 0
            if len(stream.body) + len(data) > self._most:
                self._end(stream, TooLongError(), CANCEL)
                return
            if not stream.body:
                stream.body = data
            elif type(stream.body) is bytes:
                stream.body = bytearray(stream.body + data)
            else:
                stream.body += data
        if flags & END_STREAM:
            self._end(stream)
        elif len(data) < size:
            self._out.append(window_update(number, size - len(data)))

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        self._find(number)
        block = _unpadded(payload) if flags & PADDED else payload
        if flags & PRIORITIZED:
            if len(block) < 5:
                raise ProtocolError("a HEADERS frame is too short for its flags")
            block = block[5:]
        if flags & END_HEADERS:
            self._fields(flags, number, block)
        else:
            self._block = number, flags, bytearray(block)

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        assert self._block is not None  # noqa: S101 - _take has seen it
        begun, first, block = self._block
        if number != begun:
            raise ProtocolError("a CONTINUATION frame belongs to another stream")
        if len(block) <= MOST_FIELDS:  # of one that is too long, no more is kept
            block += payload
        if flags & END_HEADERS:
            self._block = None
            self._fields(first, number, bytes(block))

    def _fields(self, flags: int, number: int, block: bytes) -> None:
        stream = self.streams.get(number)
        if stream is None:
            return
        try:
            fields = self._blocks.read(block) if len(block) <= MOST_FIELDS else None
        except LongFieldsError:
            fields = None
        if fields is None:
            self._break(stream, "the fields of a response are too long")
            return
        is_last = bool(flags & END_STREAM)
        if stream.head is not None:
            if not is_last:
                self._break(stream, "a response has two heads")
                return
            stream.trailers = fields
        elif len(status := fields.get(":status", "")) != 3:
            self._break(stream, "a response has no status")
            return
        elif status[0] == "1" and not is_last:
            return  # an interim response
        else:
            stream.head = fields
            if is_last:
                stream.trailers = fields
        self._idle = 0
        if is_last:
            self._end(stream)

    def _rst_stream(self, _flags: int, number: int, payload: bytes) -> None:
        stream = self._find(number)
        code = _number(payload, "RST_STREAM")
        if stream is not None:
            self._end(stream, ResetError(code, f"RST_STREAM with error code {code}"))

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) % SETTING.size or (flags & ACK and payload):
            raise ProtocolError("a SETTINGS frame has the wrong form")
        if flags & ACK:
            return
        for key, value in SETTING.iter_unpack(payload):
            self._set(key, value)
        self.is_greeted = True
        self._out.append(frame(SETTINGS, ACK, 0))

    def _set(self, key: int, value: int) -> None:
        """Keep one of the server's settings; the sizes of its tables do not matter, for none is used."""
        if key == MAX_CONCURRENT_STREAMS:
            self.most_streams = value
        elif key == INITIAL_WINDOW_SIZE:
            if value > MOST_WINDOW:
                raise ProtocolError("a window is too large")
            for stream in self.streams.values():
                self._open(stream, value - self._initial)  # which may leave it below 0
            self._initial = value
        elif key == MAX_FRAME_SIZE:
            if not FRAME_SIZE <= value < 2**24:
                raise ProtocolError("MAX_FRAME_SIZE is out of range")
            self._frame_size = value
        elif key == ENABLE_PUSH and value:
            raise ProtocolError("the server wants to be pushed to")

    @staticmethod
    def _open(stream: Stream, more: int) -> None:
        stream.window += more
        if stream.window > MOST_WINDOW:
            raise ProtocolError("a window is too large")

    def _window_update(self, _flags: int, number: int, payload: bytes) -> None:
        more = _number(payload, "WINDOW_UPDATE") & MOST_WINDOW
        if not more:
            raise ProtocolError("a WINDOW_UPDATE frame opens nothing")
        if number:
            stream = self._find(number)
            if stream is not None:
                self._open(stream, more)
            return
        self._window += more
        if self._window > MOST_WINDOW:
            raise ProtocolError("a window is too large")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) != 8:
            raise ProtocolError("a PING frame has the wrong form")
        if not flags & ACK:
            self._out.append(frame(PING, ACK, 0, payload))

    def _goaway(self, _flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) < 8:
            raise ProtocolError("a GOAWAY frame has the wrong form")
        self.is_leaving = True
        last = NUMBER.unpack_from(payload)[0] & MOST_STREAM
        for stream in [each for each in self.streams.values() if each.number > last]:
            self._end(stream, ResetError(REFUSED_STREAM, "GOAWAY: the server has not begun with the stream"))

    def _priority(self, _flags: int, _number_: int, payload: bytes) -> None:
        if len(payload) != 5:
            raise ProtocolError("a PRIORITY frame has the wrong form")

    def _push_promise(self, _flags: int, _number_: int, _payload: bytes) -> None:
        raise ProtocolError("the server pushes what it was told not to")

    _READ: ClassVar[dict[int, Callable[["HTTP2", int, int, bytes], None]]] = dict(
        enumerate(
            (
                _data,
                _headers,
                _priority,
                _rst_stream,
                _settings,
                _push_promise,
                _ping,
                _goaway,
                _window_update,
                _continuation,
            )
        )
    )


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ProtocolError("a frame has more padding than bytes")
    return payload[1 : len(payload) - payload[0]]


def _number(payload: bytes, kind: str) -> int:
    if len(payload) != NUMBER.size:
        raise ProtocolError(f"a {kind} frame has the wrong form")
    number: int = NUMBER.unpack(payload)[0]
    return number
