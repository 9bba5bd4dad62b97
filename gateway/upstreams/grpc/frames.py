"""The frames of HTTP/2 (RFC 9113, sections 4, 6 and 7): their kinds, flags and codes, and how one is written."""

import struct

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

PROTOCOL_ERROR, REFUSED_STREAM, CANCEL = 1, 7, 8

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = struct.Struct(">HBBBL")  # the length (in two parts), the kind, the flags, the stream
SETTING = struct.Struct(">HL")
NUMBER = struct.Struct(">L")
HEAD_SIZE = HEAD.size
FRAME_SIZE = 16384  # of a payload, at most, unless a SETTINGS frame allows more
WINDOW = 65535  # with which connections and streams begin
MOST_WINDOW = MOST_STREAM = 2**31 - 1


def frame(kind: int, flags: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """Write a frame; its payload has at most as many bytes as the receiver allows."""
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """Write a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*each) for each in values.items()))


def window_update(stream: int, increment: int) -> bytes:
    """Write a WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, NUMBER.pack(increment))


def rst_stream(stream: int, code: int) -> bytes:
    """Write a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, NUMBER.pack(code))
