"""ZMTP 3.0, ZeroMQ's protocol on a TCP connection (rfc.zeromq.org/spec/23), the side of a DEALER without security.

    peer = Peer(most)
    write(HELLO)                        first of all
    messages = peer.feed(data, write)   bytes as they come -> messages that are whole, each a list of frames
    write(message(frames))

It is spoken here and not by libzmq, because libzmq hides what a gateway has to know: that nobody listens, that a
connection has broken, and what has been sent; and because it would deliver to a restarted server what was meant for the
one before.
"""

import struct
from collections.abc import Callable

_SIGNATURE = b"\xff\0\0\0\0\0\0\0\x01\x7f"
_GREETING = 64
_VERSION = 3
_NULL = b"NULL".ljust(20, b"\0")
_MORE, _LONG, _COMMAND = 1, 2, 4
_LONG_SIZE = struct.Struct(">Q")
_LONGEST_PING = 18  # bytes: ZMTP 3.1 has a time of two, and a context of up to 16
_MOST_FRAMES = 16  # of a message; ZeroRPC has two


class ZMTPError(Exception):
    """The peer does not speak ZMTP 3, or not as a server of ours would; the message says what is wrong."""


class FrameTooLongError(ZMTPError):
    """A message has more bytes than are taken."""


def _frame(body: bytes, flags: int = 0) -> bytes:
    if len(body) > 255:
        return bytes((flags | _LONG,)) + _LONG_SIZE.pack(len(body)) + body
    return bytes((flags, len(body))) + body


def message(frames: list[bytes]) -> bytes:
    """Make a message ready to be sent."""
    *others, last = frames
    return b"".join(_frame(frame, _MORE) for frame in others) + _frame(last)


def _command(name: bytes, body: bytes) -> bytes:
    return _frame(bytes((len(name),)) + name + body, _COMMAND)


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + struct.pack(">I", len(value)) + value


HELLO = (_SIGNATURE + bytes((_VERSION, 0)) + _NULL).ljust(_GREETING, b"\0") + _command(
    b"READY", _property(b"Socket-Type", b"DEALER") + _property(b"Identity", b"")
)


class Peer:
    """The other side of a connection; ``most`` bounds the bytes of a message.

    Attributes:
        is_ready: it has greeted, and is a ROUTER.

    """

    def __init__(self, most: int) -> None:
        self.is_ready = False
        self._most = most
        self._held = bytearray()
        self._greeted = False
        self._frames: list[bytes] = []

    def feed(self, data: bytes, write: Callable[[bytes], object]) -> list[list[bytes]]:
        """Take what has come; a ping is answered by ``write``.

        Raises:
            ZMTPError: something in it is wrong, whatever stands before it.

        """
        self._held += data
        if not self._greeted and not self._greet():
            return []
        messages: list[list[bytes]] = []
        while (found := self._next()) is not None:
            flags, body = found
            if flags & _COMMAND:
                self._obey(body, write)
            elif not self.is_ready:
                raise ZMTPError("the upstream sent a message before it was ready")
            else:
                self._frames.append(body)
                self._check_frames()
                if not flags & _MORE:
                    messages.append(self._frames)
                    self._frames = []
        return messages

    def _greet(self) -> bool:
        """Read the greeting; what is wrong with it is told by its first wrong byte."""
        begun = bytes(self._held[:_GREETING])
        if begun[:1] not in (b"", b"\xff") or (len(begun) > 9 and begun[9] & 1 == 0):
            raise ZMTPError("the upstream does not speak ZeroMQ")
        if len(begun) > 10 and begun[10] < _VERSION:
            raise ZMTPError("the upstream's ZeroMQ is older than version 4")
        if len(begun) < _GREETING:
            return False
        if begun[12:32] != _NULL:
            raise ZMTPError("the upstream requires a security mechanism, which is not supported")
        del self._held[:_GREETING]
        self._greeted = True
        return True

    def _next(self) -> tuple[int, bytes] | None:
        """Take a frame off the front of what is here."""
        held = self._held
        if len(held) < 2:
            return None
        flags = held[0]
        if flags & ~(_MORE | _LONG | _COMMAND) or flags & (_MORE | _COMMAND) == _MORE | _COMMAND:
            raise ZMTPError("the upstream sent a frame with unknown flags")
        if not flags & _LONG:
            start, size = 2, held[1]
        elif len(held) < 9:
            return None
        else:
            start, size = 9, _LONG_SIZE.unpack_from(held, 1)[0]
        if size > self._most:
            raise FrameTooLongError("the response has more bytes than limits.max_reply")
        if len(held) < start + size:
            return None
        body = bytes(held[start : start + size])
        del held[: start + size]
        return flags, body

    def _check_frames(self) -> None:
        if len(self._frames) > _MOST_FRAMES or sum(map(len, self._frames)) > self._most:
            raise FrameTooLongError("the response has more frames, or more bytes, than are allowed")

    def _obey(self, body: bytes, write: Callable[[bytes], object]) -> None:
        name, rest = body[1 : 1 + body[0]] if body else b"", body[1 + body[0] :] if body else b""
        if name == b"READY" and not self.is_ready:
            if _properties(rest).get(b"socket-type") != b"ROUTER":
                raise ZMTPError("the upstream's socket is not a ROUTER, so it is not a ZeroRPC server")
            self.is_ready = True
        elif name == b"PING" and self.is_ready:  # of ZMTP 3.1: two bytes of a time, and what is to be returned
            if len(rest) > _LONGEST_PING:
                raise ZMTPError("the upstream sent a PING that is too long")
            write(_command(b"PONG", rest[2:]))
        elif name == b"ERROR" or not self.is_ready:
            raise ZMTPError("the upstream refused the connection")


def _properties(body: bytes) -> dict[bytes, bytes]:
    """Read the properties of a READY command; names are in any case."""
    found: dict[bytes, bytes] = {}
    while body:
        name, body = body[1 : 1 + body[0]], body[1 + body[0] :]
        if len(body) < 4:
            raise ZMTPError("the upstream's READY command is cut off")
        (size,) = struct.unpack_from(">I", body)
        found[name.lower()], body = body[4 : 4 + size], body[4 + size :]
    return found
