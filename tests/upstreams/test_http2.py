"""The client's half of HTTP/2, in memory: against frames that no good server sends, and against the library h2."""

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings
from hpack import Decoder, Encoder, HPACKError

from gateway.upstreams import Invocation
from gateway.upstreams.grpc import http2 as module
from gateway.upstreams.grpc.adapter import GRPC
from gateway.upstreams.grpc.hpack import HeaderBlocks, LongFieldsError, ProtocolError, indexed_name, literal
from gateway.upstreams.grpc.http2 import HTTP2, ResetError, Stream, TooLongError
from gateway.upstreams.grpc.status import StatusError
from gateway.upstreams.grpc.unary import received
from tests.upstreams.kinds import h2, h2_headers, h2_message

SETTINGS = h2(4, 0, 0, b"")
OK = b"\x88"  # :status 200, from the static table
MOST = 1000
WIDEST = (2**31 - 1).to_bytes(4, "big")


def setting(key: int, value: int) -> bytes:
    return h2(4, 0, 0, key.to_bytes(2, "big") + value.to_bytes(4, "big"))


def update(stream: int, more: int) -> bytes:
    return h2(8, 0, stream, more.to_bytes(4, "big"))


def begun(*settings: bytes, body: bytes = b"body", most: int = MOST) -> tuple[HTTP2, Stream]:
    """Make a connection with one stream on it, of which everything that could be sent has been."""
    connection = HTTP2(most, HeaderBlocks())
    connection.feed(SETTINGS + b"".join(settings))
    stream = connection.begin(b"\x83", body, None)
    connection.take()
    return connection, stream


# ---- what no good server sends ---------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[bytes, str]] = {
    "a frame of 16,385 bytes": (h2(0, 0, 1, b"x" * 16385), "longer than HTTP/2 allows"),
    "CONTINUATION of nothing": (h2(9, 4, 1, OK), "CONTINUATION frame is missing, or belongs"),
    "data in a header block": (h2(1, 0, 1, OK) + h2(0, 0, 1, b"x"), "CONTINUATION frame is missing, or belongs"),
    "CONTINUATION of another": (h2(1, 0, 1, OK) + h2(9, 4, 3, b""), "belongs to another stream"),
    "an endless head": (h2(1, 0, 1, OK) + h2(9, 0, 1, OK) * 10_001, "10000 frames in a row"),
    "data of a later stream": (h2(0, 0, 3, b"x"), "never begun"),
    "data of the server's own stream": (h2(0, 0, 2, b"x"), "never begun"),
    "data of the connection": (h2(0, 0, 0, b"x"), "never begun"),
    "a head of a later stream": (h2(1, 4, 3, OK), "never begun"),
    "a reset of a later stream": (h2(3, 0, 3, bytes(4)), "never begun"),
    "a window of a later stream": (update(3, 1), "never begun"),
    "padding without a length": (h2(0, 8, 1, b""), "more padding than bytes"),
    "padding beyond the end": (h2(0, 8, 1, b"\4abc"), "more padding than bytes"),
    "padding beyond a head": (h2(1, 12, 1, b"\1"), "more padding than bytes"),
    "a priority of 4 bytes": (h2(1, 0x24, 1, b"abcd"), "too short for its flags"),
    "a reset of 5 bytes": (h2(3, 0, 1, bytes(5)), "RST_STREAM frame has the wrong form"),
    "settings of a stream": (h2(4, 0, 1, b""), "SETTINGS frame has the wrong form"),
    "settings of 5 bytes": (h2(4, 0, 0, bytes(5)), "SETTINGS frame has the wrong form"),
    "an acknowledgement with settings": (h2(4, 1, 0, bytes(6)), "SETTINGS frame has the wrong form"),
    "a window that is too large": (setting(4, 2**31), "a window is too large"),
    "a window that becomes too large": (update(1, 2**31 - 65536) + setting(4, 65600), "a window is too large"),
    "the connection's window": (update(0, 2**31 - 1), "a window is too large"),
    "a stream's window": (update(1, 2**31 - 1), "a window is too large"),
    "a window that opens by nothing": (update(0, 0), "opens nothing"),
    "a window of 3 bytes": (h2(8, 0, 0, bytes(3)), "WINDOW_UPDATE frame has the wrong form"),
    "small frames": (setting(5, 16383), "MAX_FRAME_SIZE is out of range"),
    "large frames": (setting(5, 2**24), "MAX_FRAME_SIZE is out of range"),
    "a push to the server": (setting(2, 1), "wants to be pushed to"),
    "a push": (h2(5, 4, 1, b"\0\0\0\2"), "pushes what it was told not to"),
    "a ping of 7 bytes": (h2(6, 0, 0, bytes(7)), "PING frame has the wrong form"),
    "a ping of a stream": (h2(6, 0, 1, bytes(8)), "PING frame has the wrong form"),
    "an end of 7 bytes": (h2(7, 0, 0, bytes(7)), "GOAWAY frame has the wrong form"),
    "an end of a stream": (h2(7, 0, 1, bytes(8)), "GOAWAY frame has the wrong form"),
    "a short priority": (h2(2, 0, 1, bytes(4)), "PRIORITY frame has the wrong form"),
    "a number without an end": (h2(1, 4, 1, b"\xff\xff\xff\xff\xff"), "a number that is too large"),
    "a number that is cut off": (h2(1, 4, 1, b"\xff"), "header block is cut off"),
    "a text that is cut off": (h2(1, 4, 1, b"\0\1a\5abcd"), "header block is cut off"),
    "no text": (h2(1, 4, 1, b"\0"), "header block is cut off"),
    "half a code": (h2(1, 4, 1, b"\0\1a\x81\0"), "a text that cannot be read"),
    "field 0": (h2(1, 4, 1, b"\x80"), "refers to a table that is not there"),
    "a field of a table": (h2(1, 4, 1, b"\xbe"), "refers to a table that is not there"),
    "a name of a table": (h2(1, 4, 1, b"\x7e\1a"), "refers to a table that is not there"),
    "a table": (h2(1, 4, 1, b"\x3f\xe1\x1f" + OK), "changes the size of a table"),
    "a table at the end": (h2(1, 4, 1, OK + b"\x20"), "changes the size of a table"),
    "10,001 pings": (h2(6, 0, 0, bytes(8)) * 10_001, "10000 frames in a row"),
    "10,001 heads before the head": (h2_headers((b":status", b"103")) * 10_001, "10000 frames in a row"),
    "10,001 frames without data": (h2(1, 4, 1, OK) + h2(0, 0, 1, b"") * 10_001, "10000 frames in a row"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_a_connection(case: str) -> None:
    said, why = BROKEN[case]
    connection, _ = begun()
    with pytest.raises(ProtocolError, match=why):
        connection.feed(said)


@pytest.mark.parametrize("first", [h2(6, 0, 0, bytes(8)), h2(4, 1, 0, b"")], ids=["a ping", "an acknowledgement"])
def test_a_server_begins_with_its_settings(first: bytes) -> None:
    connection = HTTP2(MOST, HeaderBlocks())
    with pytest.raises(ProtocolError, match="does not begin with a SETTINGS frame"):
        connection.feed(first)


ALONE: dict[str, tuple[bytes, Exception, int]] = {
    "data before the head": (h2(0, 0, 1, b"x"), ProtocolError("the body of a response comes before its head"), 1),
    "two heads": (h2(1, 4, 1, OK) * 2, ProtocolError("a response has two heads"), 1),
    "no status": (h2_headers((b"grpc-status", b"0")), ProtocolError("a response has no status"), 1),
    "an odd status": (h2_headers((b":status", b"20")), ProtocolError("a response has no status"), 1),
    "a long head": (
        h2(1, 0, 1, OK) + h2(9, 0, 1, OK * 16384) * 9 + h2(9, 4, 1, OK),
        ProtocolError("the fields of a response are too long"),
        1,
    ),
    "many fields in few bytes": (h2(1, 4, 1, OK * 2000), ProtocolError("the fields of a response are too long"), 1),
    "too much": (h2(1, 4, 1, OK) + h2(0, 0, 1, b"x" * MOST) + h2(0, 0, 1, b"x"), TooLongError(), 8),
}


@pytest.mark.parametrize("case", ALONE)
def test_what_breaks_a_stream_and_no_other(case: str) -> None:
    said, error, code = ALONE[case]
    connection, stream = begun()
    other = connection.begin(b"\x83", b"body", None)
    connection.take()
    connection.feed(said + h2(0, 1, 1, b"late") + h2(1, 5, 1, OK))  # and what is under way belongs to nobody
    assert connection.take() == h2(3, 0, 1, code.to_bytes(4, "big"))
    assert (connection.ended, repr(stream.error)) == ([stream], repr(error))
    connection.feed(h2(1, 5, 3, OK))
    assert (connection.ended, other.error) == ([stream, other], None)


def test_a_window_that_no_stream_has_is_too_large_as_well() -> None:
    connection = HTTP2(MOST, HeaderBlocks())
    with pytest.raises(ProtocolError, match="a window is too large"):
        connection.feed(setting(4, 2**31))


def test_of_a_head_that_is_too_long_little_is_kept() -> None:
    connection, _ = begun()
    connection.feed(h2(1, 0, 1, OK) + h2(9, 0, 1, OK * 16384) * 50)
    assert connection._block is not None
    assert len(connection._block[2]) <= 16384 * 2


# ---- what good servers send ------------------------------------------------------------------------------------------


def test_a_response_in_any_pieces() -> None:
    padded = b"\3" + bytes(5) + OK + bytes(3)
    said = (
        h2(4, 1, 0, b"")
        + h2(99, 255, 7, b"what is that?")
        + setting(99, 1)
        + h2(2, 0, 9, bytes(5))
        + h2_headers((b":status", b"100"))
        + h2(1, 0x28, 1, padded)
        + h2(9, 4, 1, b"\0\1a\1b")
        + h2(0, 8, 1, b"\2abc\0\0")
        + h2(0, 0, 1, b"")
        + h2(0, 0, 1, b"def")
        + h2(0, 0, 1, b"g")
        + h2_headers((b"a", b"\xc3\xa9\xff"), end=True)
    )
    for size in (1, 2, 7, 10, len(said)):
        connection, stream = begun()
        for at in range(0, len(said), size):
            connection.feed(said[at : at + size])
        assert connection.ended == [stream]
        assert (stream.head, bytes(stream.body)) == ({":status": "200", "a": "b"}, b"abcdefg")
        assert stream.trailers == {"a": "\xe9\ufffd"}
        assert connection.take() == h2(4, 1, 0, b"") + update(1, 3)  # the padding is no part of any body
        assert not connection.streams


def test_a_ping_is_answered_and_an_answer_is_not() -> None:
    connection, _ = begun()
    connection.feed(h2(6, 0, 0, b"12345678") + h2(6, 1, 0, b"12345678"))
    assert connection.take() == h2(6, 1, 0, b"12345678")


def test_what_brings_a_stream_further_ends_the_count() -> None:
    connection, _ = begun(most=10**6)
    connection.feed(h2(6, 0, 0, bytes(8)) * 9_000 + h2(1, 4, 1, OK))
    for _ in range(3):
        connection.feed(h2(6, 0, 0, bytes(8)) * 9_000 + h2(0, 0, 1, b"x"))


def test_an_end_leaves_out_what_the_server_has_not_begun_with() -> None:
    connection, first = begun()
    second = connection.begin(b"\x83", b"body", None)
    assert connection.has_room()
    connection.feed(h2(7, 0, 0, WIDEST + bytes(4)))  # the first of two: what is under way is still taken
    assert (connection.ended, connection.is_used_up, connection.has_room()) == ([], True, False)
    connection.feed(h2(7, 0, 0, b"\0\0\0\1" + bytes(4)))
    assert connection.ended == [second]
    assert isinstance(second.error, ResetError)
    assert second.error.code == 7
    connection.feed(h2(1, 5, 1, OK))
    assert (connection.ended, first.error) == ([second, first], None)


def test_a_reset_ends_a_stream_and_comes_too_late_for_one_that_has_ended() -> None:
    connection, stream = begun()
    connection.feed(h2(3, 0, 1, b"\0\0\0\2") * 2)
    assert connection.ended == [stream]
    assert str(stream.error) == "RST_STREAM with error code 2"
    connection.feed(update(1, 1) + h2(0, 1, 1, b"x") + h2(1, 5, 1, b"not read"))
    assert connection.ended == [stream]


def test_a_stream_that_is_cancelled_is_told_to_the_server_once() -> None:
    connection, stream = begun(body=b"x" * 100_000)
    connection.cancel(stream)
    connection.cancel(stream)
    assert connection.take() == h2(3, 0, 1, b"\0\0\0\x08")
    connection.feed(update(0, 100_000))
    assert not connection.pump()
    connection.feed(h2(3, 0, 1, bytes(4)))
    assert not connection.ended


def test_a_response_before_the_request_is_whole_ends_the_request() -> None:
    connection, stream = begun(body=b"x" * 100_000)
    connection.feed(h2(1, 5, 1, OK))
    assert (connection.ended, stream.error) == ([stream], None)
    assert connection.take() == h2(3, 0, 1, b"\0\0\0\x08")
    connection.feed(update(0, 100_000))
    assert not connection.pump()


def test_the_number_of_streams_is_the_servers() -> None:
    connection, stream = begun(setting(3, 2))
    assert connection.has_room()
    connection.begin(b"\x83", b"body", None)
    assert not connection.has_room()
    connection.cancel(stream)
    assert connection.has_room()
    connection.feed(setting(3, 0))
    assert not connection.has_room()


def test_numbers_of_streams_come_to_an_end() -> None:
    connection, _ = begun()
    connection._next = 2**31 - 1
    assert connection.has_room()
    assert connection.begin(b"\x83", b"body", None).number == 2**31 - 1
    assert connection.is_used_up
    assert not connection.has_room()
    assert not connection.is_leaving


def test_a_long_head_goes_in_pieces() -> None:
    connection = HTTP2(MOST, HeaderBlocks())
    connection.feed(SETTINGS)
    connection.take()
    connection.begin(b"x" * 40_000, b"body", None)
    pieces = (h2(1, 0, 1, b"x" * 16384), h2(9, 0, 1, b"x" * 16384), h2(9, 4, 1, b"x" * 7232))
    assert connection.take() == b"".join(pieces) + h2(0, 1, 1, b"body")


def sizes(sent: bytes) -> list[tuple[int, int, bool]]:
    """Return stream, length and END_STREAM of each frame of data."""
    found = []
    while sent:
        size = int.from_bytes(sent[:3], "big")
        assert sent[3] == 0
        found.append((int.from_bytes(sent[5:9], "big"), size, bool(sent[4] & 1)))
        sent = sent[9 + size :]
    return found


def pumped(connection: HTTP2) -> list[tuple[int, int, bool]]:
    while connection.pump():
        pass
    return sizes(connection.take())


def test_a_request_waits_for_room_in_both_windows() -> None:
    connection, _ = begun(body=b"x" * 100_000)
    assert pumped(connection) == [(1, 16384, False)] * 3 + [(1, 16383, False)]
    connection.feed(update(1, 1000))
    assert pumped(connection) == []
    connection.feed(update(0, 40_000))
    connection.take()
    assert pumped(connection) == [(1, 1000, False)]
    connection.feed(setting(5, 20_000) + update(1, 100_000))
    connection.take()
    assert pumped(connection) == [(1, 20_000, False), (1, 13_465, True)]
    connection.begin(b"\x83", b"y" * 5534, None)  # 5535 are left
    assert connection.take().endswith(h2(0, 1, 3, b"y" * 5534))
    connection.begin(b"\x83", b"yy", None)
    connection.take()
    assert pumped(connection) == [(5, 1, False)]


def test_a_frame_has_64_kib_even_where_the_server_takes_more() -> None:
    connection, _ = begun(setting(5, 2**24 - 1) + setting(4, 2**20) + update(0, 2**20), body=b"x" * 2**20)
    assert pumped(connection)[0] == (1, 65536, False)


def test_a_window_may_be_below_zero() -> None:
    connection, _ = begun(update(0, 10**6), body=b"x" * 100_000)
    assert sum(size for _, size, _ in pumped(connection)) == 65535
    connection.feed(setting(4, 1000))
    connection.take()
    connection.feed(update(1, 64_535))
    assert pumped(connection) == []
    connection.feed(update(1, 7))
    assert pumped(connection) == [(1, 7, False)]
    connection.feed(setting(4, 10**6))
    connection.take()
    assert pumped(connection) == [(1, 16384, False), (1, 16384, False), (1, 1690, True)]


def test_large_requests_take_turns() -> None:
    connection, _ = begun(setting(4, 10**6) + update(0, 10**6), body=b"x" * 40_000)
    connection.begin(b"\x83", b"y" * 40_000, None)
    connection.take()
    assert [number for number, _, _ in pumped(connection)] == [1, 3, 1, 3, 1, 3]


def test_the_window_of_the_connection_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OURS", 100_000)
    connection, stream = begun(most=10**6)
    connection.feed(h2(1, 4, 1, OK) + h2(0, 0, 1, b"x" * 16384) * 3)
    assert connection.take() == b""
    connection.cancel(stream)
    connection.take()
    connection.feed(h2(0, 0, 1, b"x" * 848))  # what nobody reads any more counts, too
    assert connection.take() == update(0, 50_000)
    connection.feed(h2(0, 0, 1, b"x" * 16384))
    assert connection.take() == b""


def test_the_server_may_send_a_whole_body_at_once() -> None:
    told = HTTP2(10**6, HeaderBlocks()).take()
    assert told.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert b"\0\1\0\0\0\0" + b"\0\2\0\0\0\0" + b"\0\4" + (10**6 + 256).to_bytes(4, "big") in told
    assert told.endswith(update(0, 2**30 - 65535))
    assert b"\0\4" + WIDEST in HTTP2(2**40, HeaderBlocks()).take()


# ---- fields ----------------------------------------------------------------------------------------------------------


def test_fields_are_read_as_they_are_written() -> None:
    blocks = HeaderBlocks()
    for size in (0, 1, 126, 127, 128, 254, 255, 300, 8000):
        block = literal(b"name", b"v" * size) + indexed_name(4, b"p" * size)
        assert blocks.read(block) == {"name": "v" * size, ":path": "p" * size}
    assert blocks.read(b"\x10\1a\1b\x10\1a\1c") == {"a": "c"}


def test_blocks_that_come_again_are_looked_up_and_few_are_kept() -> None:
    blocks = HeaderBlocks()
    first = blocks.read(literal(b"a", b"b"))
    assert blocks.read(literal(b"a", b"b")) is first
    long = literal(b"a", b"b" * 300)
    assert blocks.read(long) is not blocks.read(long)
    for number in range(1000):
        blocks.read(literal(b"n", b"%d" % number))
        assert len(blocks._kept) <= 256


def test_texts_that_come_again_are_looked_up_and_few_are_kept() -> None:
    blocks, encoder = HeaderBlocks(), Encoder()
    encoder.header_table_size = 0
    for number in range(1000):
        block = encoder.encode([("a", str(number)), ("b", "c" * 400), ("x-id", "always the same")])
        assert blocks.read(block) == {"a": str(number), "b": "c" * 400, "x-id": "always the same"}
        assert len(blocks._texts) <= 256
    assert max(map(len, blocks._texts)) <= 256


def test_blocks_are_read_as_the_library_hpack_reads_them() -> None:
    """Also those of an encoder that uses no Huffman code, and mutated ones, but for bytes that are not UTF-8."""
    chance = random.Random(7)
    encoder, decoder = Encoder(), Decoder(16384)
    encoder.header_table_size = decoder.max_allowed_table_size = decoder.header_table_size = 0
    names = ["grpc-status", ":status", "content-type", "x", "date", "server", "grpc-message", "a" * 130]
    good = 0
    for number in range(20_000 if "FUZZ" in os.environ else 1000):
        fields = [
            (name, "".join(chance.choices("abc 0123%/\xe9", k=chance.choice([0, 1, 3, 20, 130]))))
            for name in chance.sample(names, chance.randint(0, 4))
        ]
        block = bytearray(encoder.encode(fields, huffman=chance.random() < 0.7))
        for _ in range(number % 3):
            if block:
                block[chance.randrange(len(block))] = chance.randrange(256)
        try:
            expected = dict(decoder.decode(bytes(block), raw=True))
        except HPACKError:
            with pytest.raises((ProtocolError, LongFieldsError)):
                HeaderBlocks().read(bytes(block))
            continue
        found = HeaderBlocks().read(bytes(block))
        assert list(found.items()) == [
            (bytes(name).decode(errors="replace"), bytes(value).decode(errors="replace"))
            for name, value in expected.items()
        ]
        good += 1
    assert good > 300


# ---- against the library h2 ------------------------------------------------------------------------------------------


class Server:
    """A server by h2, in memory: it answers each request with its body twice, as far as windows let it."""

    def __init__(self, chance: random.Random) -> None:
        self.connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.connection.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.INITIAL_WINDOW_SIZE: chance.choice([0, 1, 100, 65535, 10**6]),
                SettingCodes.MAX_FRAME_SIZE: chance.choice([16384, 50_000]),
                SettingCodes.MAX_CONCURRENT_STREAMS: 5,
            },
        )
        self.connection.max_inbound_frame_size = self.connection.local_settings.max_frame_size
        self.connection.initiate_connection()
        self.bodies: dict[int, bytearray] = {}
        self.unsent: dict[int, bytes] = {}
        self.chance = chance

    def turn(self, data: bytes) -> bytes:
        connection = self.connection
        for event in connection.receive_data(data):
            if isinstance(event, RequestReceived):
                self.bodies[event.stream_id] = bytearray()
                if connection.local_settings.initial_window_size == 0:
                    connection.increment_flow_control_window(5000, event.stream_id)
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id] += event.data
                connection.increment_flow_control_window(len(event.data) + 1)
                connection.increment_flow_control_window(len(event.data) + 1, event.stream_id)
            elif isinstance(event, StreamEnded):
                self.unsent[event.stream_id] = bytes(self.bodies.pop(event.stream_id)) * 2
                connection.send_headers(event.stream_id, [(":status", "200"), ("n", str(event.stream_id)), ("a", "b")])
            elif isinstance(event, StreamReset):
                self.bodies.pop(event.stream_id, None)
                self.unsent.pop(event.stream_id, None)
        for number, body in list(self.unsent.items()):
            room = min(connection.local_flow_control_window(number), connection.max_outbound_frame_size, len(body))
            padding = self.chance.choice([None, 3])
            connection.send_data(number, body[: max(0, room - 4)], pad_length=padding)
            self.unsent[number] = body[max(0, room - 4) :]
            if not self.unsent[number]:
                connection.send_headers(number, [("grpc-status", "0")], end_stream=True)
                del self.unsent[number]
        if self.chance.random() < 0.1:
            connection.ping(b"12345678")
        return connection.data_to_send()


@pytest.mark.parametrize("seed", range(6))
def test_both_halves_agree(seed: int) -> None:
    """h2 raises what it finds wrong in what we send: windows, the order of frames, header blocks."""
    chance = random.Random(seed)
    client, server = HTTP2(250_000, HeaderBlocks()), Server(chance)
    wanted = [bytes([chance.randrange(256)]) * chance.choice([1, 5, 100, 20_000, 100_000]) for _ in range(30)]
    sent: dict[int, bytes] = {}
    cancelled: set[int] = set()
    answered: dict[int, bytes] = {}
    head = b"\x83\x86" + indexed_name(4, b"/a.B/c") + indexed_name(1, b"a:1") + literal(b"te", b"trailers")
    for _ in range(3000):
        while wanted and client.is_greeted and client.has_room():
            body = wanted.pop()
            block = head + literal(b"x", b"y" * chance.choice([1, 200, 40_000]))
            sent[client.begin(block, body, None).number] = body
        if client.streams and chance.random() < 0.02:
            stream = chance.choice(list(client.streams.values()))
            client.cancel(stream)
            cancelled.add(stream.number)
        client.pump()
        said = server.turn(client.take())
        cut = chance.randrange(len(said) + 1)
        client.feed(said[:cut])
        client.feed(said[cut:])
        for stream in client.ended:
            assert stream.error is None
            assert stream.trailers == {"grpc-status": "0"}
            answered[stream.number] = bytes(stream.body)
        client.ended = []
        if not wanted and not client.streams:
            break
    assert answered == {number: body * 2 for number, body in sent.items() if number not in cancelled}
    assert len(sent) == 30


# ---- mutated answers -------------------------------------------------------------------------------------------------

GRPC_HEAD = h2_headers((b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-encoding", b"gzip"))
ANSWERS = (
    GRPC_HEAD + h2_message(b"\x08\x07") + h2_headers((b"grpc-status", b"0"), (b"grpc-message", b""), end=True),
    h2_headers((b":status", b"200"), (b"content-type", b"application/grpc+proto"), (b"grpc-status", b"5"), end=True),
    h2_headers((b":status", b"503"), (b"content-type", b"text/html")) + h2(0, 9, 1, b"\3<html>\0\0\0"),
    h2_headers((b":status", b"100"))
    + h2(1, 0, 1, OK)
    + h2(9, 0, 1, b"")
    + h2(9, 4, 1, b"\0\1a\1b")
    + h2(0, 1, 1, b"x"),
    setting(3, 7) + setting(4, 0) + setting(5, 20_000) + update(0, 5) + update(1, 5) + h2(6, 0, 0, bytes(8)),
    h2(7, 0, 0, b"\0\0\0\1" + bytes(4) + b"bye") + h2(3, 0, 1, b"\0\0\0\7"),
    GRPC_HEAD + h2_message(b"\x1f\x8b\x08\0", compressed=1) + h2_headers((b"grpc-status", b"0"), end=True),
    h2_headers(
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"3"),
        (b"grpc-message", b"%C3%A9%zz%"),
        (b"grpc-status-details-bin", b"CAMSA3doeQ"),
        end=True,
    ),
    h2(2, 0, 1, bytes(5)) + h2(10, 1, 1, b"?") + h2(1, 0x2D, 1, b"\1" + bytes(5) + OK + b"\0"),
)


def mutated(chance: random.Random) -> bytes:
    """Put some answers together, and change a few places: bytes, lengths, what comes twice or not at all."""
    data = bytearray(b"".join(chance.choice(ANSWERS) for _ in range(chance.randint(1, 3))))
    for _ in range(chance.randint(0, 4)):
        at, size = chance.randrange(len(data) + 1), chance.choice([1, 1, 2, 9, 30])
        what = chance.randrange(4)
        if what == 0:
            data[at : at + 1] = bytes([chance.choice([0, 1, 4, 5, 9, 127, 128, 255, chance.randrange(256)])])
        elif what == 1:
            del data[at : at + size]
        elif what == 2:
            data[at:at] = data[at : at + size]
        else:
            data[at:at] = chance.randbytes(size)
    return bytes(data)


def pieces(data: bytes, chance: random.Random) -> Iterator[bytes]:
    while data:
        size = chance.choice([1, 5, 9, 100, len(data)])
        yield data[:size]
        data = data[size:]


def answered(data: bytes, chance: random.Random) -> list[tuple[Any, ...]]:
    """Feed what a server says, and tell what becomes of two calls."""
    connection, _ = begun(body=b"body" * 20_000)
    connection.begin(b"\x83", b"body", None)
    invocation = Invocation(method="x", params={}, deadline=0, request_id="1")
    told: list[tuple[Any, ...]] = []
    try:
        for piece in pieces(data, chance):
            connection.feed(piece)
            connection.pump()
            connection.take()
    except ProtocolError as error:
        told.append((0, str(error)))
    for stream in connection.ended:
        assert len(stream.body) <= MOST
        try:
            told.append((stream.number, received(stream, MOST, invocation)))
        except (ProtocolError, StatusError) as error:
            found = next(kind for kind in type(error).__mro__ if kind in GRPC.failures)
            told.append((stream.number, GRPC.failures[found](error)))
    assert len(connection._blocks._kept) <= 256
    return told


def test_mutated_answers_raise_nothing_else() -> None:
    seen: set[str] = set()
    for seed in range(20_000 if "FUZZ" in os.environ else 600):
        chance = random.Random(seed)
        data = mutated(chance)
        for told in answered(data, chance):
            seen.add(str(told[1:]))
    assert len(seen) >= 15  # it gets far enough to be told many things
