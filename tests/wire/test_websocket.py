"""Frames of WebSocket: what is read of them in whatever pieces they come, and what is refused."""

import random
import struct
from collections.abc import Iterable

import pytest
from websockets import frames

from gateway.wire.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Closed,
    Event,
    Message,
    MessageReader,
    Ping,
    Pong,
    WebSocketError,
    accept,
    is_key,
    make_key,
    masked,
    write,
    write_close,
)


def frame(first: int, payload: bytes = b"", mask: bytes = b"abcd") -> bytes:
    """Make a frame of a client of its first byte."""
    return bytes([first, 0x80 | len(payload)]) + mask + masked(payload, mask)


def events(pieces: Iterable[bytes], most: int = 100, *, is_client: bool = False) -> list[Event]:
    reader = MessageReader(most, is_client=is_client)
    return [event for piece in pieces for event in reader.feed(piece)]


def code(data: bytes, most: int = 100, *, is_client: bool = False) -> int:
    """Return the close code of what is wrong."""
    with pytest.raises(WebSocketError) as raised:
        events([data], most, is_client=is_client)
    return raised.value.code


WHOLE = b"".join(
    [
        frame(0x80 | TEXT, b"[1]"),
        frame(TEXT, "hé".encode()[:2]),
        frame(0x80 | PING, b"there?"),
        frame(0x00),
        frame(0x80 | PONG),
        frame(0x80, "hé".encode()[2:]),
        frame(0x80 | BINARY, b"\xff"),
        frame(0x80 | TEXT),
        frame(0x80 | CLOSE, struct.pack("!H", 1000) + b"bye"),
        b"whatever comes now",
    ]
)
SAID = [
    Message(b"[1]", True),
    Ping(b"there?"),
    Pong(b""),
    Message("hé".encode(), True),
    Message(b"\xff", False),
    Message(b"", True),
    Closed(1000, "bye"),
]


def test_messages_are_read_in_whatever_pieces_they_come() -> None:
    assert events([WHOLE]) == SAID
    assert events(bytes([byte]) for byte in WHOLE) == SAID
    for cut in range(len(WHOLE)):
        assert events([WHOLE[:cut], WHOLE[cut:]]) == SAID


@pytest.mark.parametrize("length", [0, 1, 3, 4, 125, 126, 127, 65535, 65536, 70001])
@pytest.mark.parametrize("is_client", [True, False])
def test_what_is_written_is_read_by_another_implementation_and_here(length: int, is_client: bool) -> None:
    payload = random.Random(length).randbytes(length)
    written = write(BINARY, payload, is_client=is_client)
    assert events([written], length, is_client=not is_client) == [Message(payload, False)]
    other = frames.Frame(frames.Opcode.BINARY, payload).serialize(mask=is_client)
    assert events([other], length, is_client=not is_client) == [Message(payload, False)]
    if not is_client:
        assert written == other


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (frame(0xC1, b"a"), 1002),  # a reserved bit
        (frame(0xA1, b"a"), 1002),
        (frame(0x91, b"a"), 1002),
        (frame(0x83, b"a"), 1002),  # opcodes that nobody has defined
        (frame(0x87), 1002),
        (frame(0x8B), 1002),
        (frame(0x8F), 1002),
        (frame(0x80, b"a"), 1002),  # it goes on without a beginning
        (frame(0x00, b"a"), 1002),
        (frame(TEXT, b"a") + frame(0x80 | TEXT, b"b"), 1002),  # one begins inside of another
        (frame(TEXT, b"a") + frame(BINARY, b"b"), 1002),
        (frame(PING, b"a"), 1002),  # a control frame in pieces
        (b"\x89\xfe\x00\x7eabcd" + bytes(126), 1002),  # one that is too long
        (b"\x81\x01a", 1002),  # not masked
        (b"\x81\xfe\x00\x05abcd" + bytes(5), 1002),  # a length that could be shorter
        (b"\x81\xff" + struct.pack("!Q", 65535), 1002),
        (frame(0x80 | CLOSE, b"x"), 1002),  # half a code
        *((frame(0x80 | CLOSE, struct.pack("!H", wrong)), 1002) for wrong in (0, 999, 1004, 1005, 1006, 1015, 2999)),
        (frame(0x80 | CLOSE, struct.pack("!H", 5000)), 1002),
        (frame(0x80 | CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
        (frame(0x80 | TEXT, b"\xc3"), 1007),  # a text that is cut off
        (frame(TEXT, b"a\xff") + frame(0x80), 1007),
        (frame(TEXT, b"\xc3") + frame(0x80, b"a"), 1007),
        (frame(0x80 | TEXT, b"\xed\xa0\x80"), 1007),  # a lone surrogate
        (frame(0x80 | TEXT, bytes(101)), 1009),
        (frame(TEXT, bytes(60)) + frame(0x80, bytes(41)), 1009),
        (b"\x81\xff" + struct.pack("!Q", 2**63), 1009),
    ],
)
def test_what_is_wrong_has_a_code(data: bytes, found: int) -> None:
    assert code(data) == found


@pytest.mark.parametrize("known", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999])
def test_the_codes_that_may_be_sent(known: int) -> None:
    assert events([frame(0x80 | CLOSE, struct.pack("!H", known))]) == [Closed(known, "")]


def test_what_came_before_a_mistake_is_read() -> None:
    reader = MessageReader(100)
    feed = reader.feed(frame(0x81, b"a") + frame(0xF1))
    assert next(feed) == Message(b"a", True)
    with pytest.raises(WebSocketError):
        next(feed)
    assert list(reader.feed(frame(0x81, b"c"))) == []


def test_a_server_does_not_mask() -> None:
    assert code(frame(0x81, b"a"), is_client=True) == 1002
    assert events([b"\x81\x01a"], is_client=True) == [Message(b"a", True)]


def test_a_message_is_within_until_it_is_whole() -> None:
    reader = MessageReader(100)
    for piece, is_within in ((b"\x01", True), (frame(0x01)[1:], True), (frame(0x89), True), (frame(0x80), False)):
        list(reader.feed(piece))
        assert reader.is_within() is is_within


def test_closes_are_written() -> None:
    assert events([write_close(1001, "later", is_client=True)]) == [Closed(1001, "later")]
    assert events([write_close(1005, is_client=True)]) == [Closed(1005, "")]
    assert events([write_close(1001, "é" * 100, is_client=True)]) == [Closed(1001, "é" * 61)]


def test_the_handshake() -> None:
    assert accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the example of RFC 6455, 1.3
    assert is_key(make_key())
    assert [is_key(wrong) for wrong in ("", "dGhl", "dGhlIHNhbXBsZSBub25jZQ=", "!" * 24)] == [False] * 4
