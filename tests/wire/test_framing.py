"""Frames on a stream: whole, byte by byte, in pieces, with junk behind, and too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.framing import FRAMINGS, FrameTooLongError, FramingError, Lines, Netstrings
from tests.codecs.test_properties import fixed

MESSAGES = [b"{}", b"[1, 2]", b"x" * 90, b"a:b,c"]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_messages_come_out_as_they_went_in_however_they_are_cut(framing: str) -> None:
    frames = FRAMINGS[framing](100)
    stream = b"".join(map(frames.frame, MESSAGES))
    assert frames.feed(stream) == MESSAGES
    assert [message for byte in stream for message in frames.feed(bytes([byte]))] == MESSAGES
    for cut in range(len(stream)):
        first = frames.feed(stream[:cut])
        assert first + frames.feed(stream[cut:]) == MESSAGES
    assert not frames.unfinished()
    frames.feed(stream[:-1])
    assert frames.unfinished()


def test_blank_lines_and_carriage_returns_are_no_part_of_a_message() -> None:
    assert Lines(100).feed(b"\n \r\n{}\r\n\t\n[]\n") == [b"{}", b"[]"]


def test_an_empty_netstring_is_an_empty_message() -> None:
    assert Netstrings(100).feed(b"0:,1:a,") == [b"", b"a"]


@pytest.mark.parametrize(
    "stream", [b"x", b":", b"-1:a,", b"01:a,", b"1:ab", b"1 :a,", b"1:a;", b"9999999999", b" 1:a,"]
)
def test_what_is_no_netstring(stream: bytes) -> None:
    with pytest.raises(FramingError):
        Netstrings(2**31).feed(stream)


@pytest.mark.parametrize(("framing", "stream"), [("newline", b"x" * 11), ("newline", b"x" * 11 + b"\n{}\n")])
@pytest.mark.parametrize("step", [1, 5, 100])
def test_a_line_that_is_too_long_is_not_held(framing: str, stream: bytes, step: int) -> None:
    frames = FRAMINGS[framing](10)
    assert frames.feed(b"x" * 10 + b"\n") == [b"x" * 10]
    pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
    with pytest.raises(FrameTooLongError):
        list(map(frames.feed, pieces))


def test_a_netstring_that_says_that_it_is_too_long_is_not_waited_for() -> None:
    assert Netstrings(10).feed(b"10:xxxxxxxxxx,") == [b"x" * 10]
    with pytest.raises(FrameTooLongError):
        Netstrings(10).feed(b"11:")


@fixed(200)
@given(st.lists(st.binary(max_size=30)), st.lists(st.integers(1, 40), min_size=1))
def test_any_bytes_in_any_pieces_are_netstrings(messages: list[bytes], cuts: list[int]) -> None:
    frames = Netstrings(100)
    stream = b"".join(map(frames.frame, messages))
    out: list[bytes] = []
    while stream:
        for cut in cuts:
            out += frames.feed(stream[:cut])
            stream = stream[cut:]
    assert out == messages
