"""WebSocket messages and the handshake that comes before them (RFC 6455), for both sides.

    reader = MessageReader(most)                        of a server; with is_client=True of a client
    for event in reader.feed(data): ...                 Message, Ping, Pong, Closed
                                                        -> WebSocketError, and nothing more is read
    write(TEXT, payload)                                a frame of a server; with is_client=True of a client
    accept(key)                                         the value of Sec-WebSocket-Accept

Nothing is lenient: frames of the wrong side's masking, reserved bits and opcodes, lengths that are longer than they
need be, control frames that are too long or in pieces, and texts that are not UTF-8 are errors. No extension is spoken.
"""

import base64
import binascii
import codecs
import hashlib
import os
import struct
from collections.abc import Iterator
from typing import TypeAlias

from msgspec import Struct

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_CODE, NOT_TEXT, TOO_BIG = 1000, 1001, 1002, 1005, 1007, 1009
POLICY, UNEXPECTED, TRY_AGAIN = 1008, 1011, 1013

VERSION = "13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION = 0x0
_FINAL, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_LONGEST_CONTROL = 125
_LONGEST_REASON = 123  # bytes
_SENDABLE = frozenset({*range(1000, 1004), *range(1007, 1015)})  # and 3000 to 4999


class WebSocketError(Exception):
    """What has come is not WebSocket, or too long.

    Attributes:
        code: the close code that the other side is told.

    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Message(Struct, frozen=True):
    """A whole message; a text is UTF-8."""

    data: bytes
    is_text: bool


class Ping(Struct, frozen=True):
    """A question whether somebody is there, which a Pong with the same data answers."""

    data: bytes


class Pong(Struct, frozen=True):
    """The answer to a ping."""

    data: bytes


class Closed(Struct, frozen=True):
    """The other side sends nothing more; 1005 stands for no code."""

    code: int
    reason: str


Event: TypeAlias = Message | Ping | Pong | Closed


class MessageReader:
    """Reads what one side sends.

    Arguments:
        most: bytes of a message.
        is_client: whether it is the client who reads: a server does not mask, a client must.

    Attributes:
        event: what the last bytes that were taken have ended; None where more are needed.

    """

    def __init__(self, most: int, *, is_client: bool = False) -> None:
        self.event: Event | None = None
        self._most = most
        self._mask = 0 if is_client else _MASKED
        self._frame = bytearray()  # what is here of the frame that is not whole
        self._head = 0  # bytes of its head, as far as that is known
        self._length: int | None = None  # bytes of its payload, likewise
        self._pieces: bytearray | None = None  # of a message that is not whole
        self._is_text = False
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._has_ended = False

    def is_within(self) -> bool:
        """Tell whether a message, or a frame, has begun and is not whole."""
        return bool(self._frame) or self._pieces is not None

    def feed(self, data: bytes) -> Iterator[Event]:
        """Read on. What comes behind a Closed is not read.

        Raises:
            WebSocketError: it is not WebSocket, or too long.

        """
        at = 0
        while at < len(data) and not self._has_ended:
            at = self.take(data, at)
            if self.event is not None:
                yield self.event

    def take(self, data: bytes, at: int) -> int:
        """Take bytes from a position on, up to the end of one frame, and return the position behind them.

        Raises:
            WebSocketError: it is not WebSocket, or too long.

        """
        self.event = None
        if self._has_ended:
            return len(data)
        frame = self._frame
        while True:
            wanted = (self._head or 2) + (self._length or 0)
            end = min(len(data), at + wanted - len(frame))
            frame += data[at:end]
            at = end
            if len(frame) < wanted:
                return at
            if not self._head:
                self._check(frame[0], frame[1])
                length = frame[1] & 0x7F
                self._head = 2 + (0 if length < 126 else 2 if length == 126 else 8)
            elif self._length is None:
                self._length = self._read_length()
                self._head += 4 if self._mask else 0
            else:
                self._end_frame()
                return at

    def _read_length(self) -> int:
        """Read the length of a frame whose head is here."""
        frame = self._frame
        length = frame[1] & 0x7F
        if length > _LONGEST_CONTROL:
            width = 2 if length == 126 else 8
            length = int.from_bytes(frame[2 : 2 + width], "big")
            if length < (126 if width == 2 else 65536):
                raise self._broken("a length is written longer than it need be")
        held = len(self._pieces) if self._pieces is not None else 0
        if frame[0] & 0x0F < CLOSE and length + held > self._most:
            self._has_ended = True
            raise WebSocketError(TOO_BIG, f"at most {self._most} bytes of a message")
        return length

    def _end_frame(self) -> None:
        frame, head = self._frame, self._head
        payload = bytes(frame[head:])
        if self._mask:
            payload = masked(payload, bytes(frame[head - 4 : head]))
        first = frame[0]
        frame.clear()
        self._head, self._length = 0, None
        self.event = self._event(first & 0x0F, payload, is_final=bool(first & _FINAL))

    def _check(self, first: int, second: int) -> None:
        """Check what the first two bytes of a frame say."""
        opcode = first & 0x0F
        if first & _RESERVED:
            raise self._broken("a reserved bit is set, and no extension was agreed on")
        if second & _MASKED != self._mask:
            raise self._broken("a frame is not masked" if self._mask else "a frame is masked")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise self._broken("the opcode is not known")
            if not first & _FINAL or second & 0x7F > _LONGEST_CONTROL:
                raise self._broken("a control frame is in pieces, or too long")
        elif opcode > BINARY:
            raise self._broken("the opcode is not known")
        elif (opcode == _CONTINUATION) is (self._pieces is None):
            raise self._broken("a message begins inside of another one, or goes on without a beginning")

    def _event(self, opcode: int, payload: bytes, *, is_final: bool) -> Event | None:
        if opcode == PING:
            return Ping(payload)
        if opcode == PONG:
            return Pong(payload)
        if opcode == CLOSE:
            return self._closed(payload)
        if opcode != _CONTINUATION:
            self._is_text = opcode == TEXT
        if self._is_text:
            self._check_text(payload, is_final=is_final)
        if self._pieces is not None:
            self._pieces += payload
        if not is_final:
            self._pieces = bytearray(payload) if self._pieces is None else self._pieces
            return None
        whole, self._pieces = payload if self._pieces is None else bytes(self._pieces), None
        return Message(whole, self._is_text)

    def _check_text(self, payload: bytes, *, is_final: bool) -> None:
        if is_final and self._pieces is None and payload.isascii():
            return
        try:
            self._decoder.decode(payload, is_final)
        except UnicodeDecodeError:
            self._has_ended = True
            raise WebSocketError(NOT_TEXT, "a text is not UTF-8") from None

    def _closed(self, payload: bytes) -> Closed:
        self._has_ended = True
        if not payload:
            return Closed(NO_CODE, "")
        code = int.from_bytes(payload[:2], "big")
        if len(payload) == 1 or not (code in _SENDABLE or 3000 <= code < 5000):
            raise self._broken("the close code is not one")
        try:
            return Closed(code, payload[2:].decode())
        except UnicodeDecodeError:
            raise WebSocketError(NOT_TEXT, "the reason of a close is not UTF-8") from None

    def _broken(self, reason: str) -> WebSocketError:
        self._has_ended = True
        return WebSocketError(PROTOCOL_ERROR, reason)


def write(opcode: int, payload: bytes, *, is_client: bool = False) -> bytes:
    """Write a frame, which is a whole message; a client masks it."""
    length, bit = len(payload), _MASKED if is_client else 0
    if length <= _LONGEST_CONTROL:
        head = struct.pack("!BB", _FINAL | opcode, bit | length)
    elif length < 65536:
        head = struct.pack("!BBH", _FINAL | opcode, bit | 126, length)
    else:
        head = struct.pack("!BBQ", _FINAL | opcode, bit | 127, length)
    if not is_client:
        return head + payload
    mask = os.urandom(4)
    return head + mask + masked(payload, mask)


def write_close(code: int, reason: str = "", *, is_client: bool = False) -> bytes:
    """Write the frame that ends a connection; with 1005 without a code. A reason that is too long is cut off."""
    if code == NO_CODE:
        return write(CLOSE, b"", is_client=is_client)
    told = reason.encode()[:_LONGEST_REASON].decode(errors="ignore").encode()
    return write(CLOSE, code.to_bytes(2, "big") + told, is_client=is_client)


def masked(payload: bytes, mask: bytes) -> bytes:
    """Mask a payload, or undo it."""
    length = len(payload)
    if not length:
        return payload
    repeated = mask * (length // 4 + 1)
    both = int.from_bytes(payload, "little") ^ int.from_bytes(repeated[:length], "little")
    return both.to_bytes(length, "little")


def accept(key: str) -> str:
    """Return what shows that a handshake was read: the value of Sec-WebSocket-Accept."""
    digest = hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def is_key(key: str) -> bool:
    """Tell whether a text is a Sec-WebSocket-Key: 16 bytes in base64."""
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def make_key() -> str:
    """Make a Sec-WebSocket-Key."""
    return base64.b64encode(os.urandom(16)).decode()
