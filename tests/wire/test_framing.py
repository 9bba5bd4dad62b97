"""Frames on a stream: whole, byte by byte, in pieces, with junk behind, and too long."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import framing as module
from gateway.wire.framing import FRAMINGS, Frames, FrameTooLongError, FramingError, JSONTexts, Lines, Netstrings
from tests.codecs.test_properties import fuzzed

pytestmark = pytest.mark.unmeasured

MESSAGES = [b"{}", b"[1, 2]", b'"' + b"x" * 90 + b'"', b'{"a":["b,c"]}']


def fed(frames: Frames, data: bytes) -> tuple[list[bytes], type[FramingError] | None]:
    """Feed, and return what was whole, and what was raised behind it."""
    messages: list[bytes] = []
    try:
        messages.extend(frames.feed(data))
    except FramingError as error:
        return messages, type(error)
    return messages, None


@pytest.mark.parametrize("framing", FRAMINGS)
def test_messages_come_out_as_they_went_in_however_they_are_cut(framing: str) -> None:
    frames = FRAMINGS[framing](100)
    stream = b"".join(map(frames.frame, MESSAGES))
    assert list(frames.feed(stream)) == MESSAGES
    assert [message for byte in stream for message in frames.feed(bytes([byte]))] == MESSAGES
    for cut in range(len(stream)):
        assert [*frames.feed(stream[:cut]), *frames.feed(stream[cut:])] == MESSAGES
    *_, _ = frames.feed(frames.frame(b"[]"))
    assert not frames.unfinished()
    assert list(frames.feed(frames.frame(b"[]")[:1])) == []
    assert frames.unfinished()


def test_blank_lines_and_carriage_returns_are_no_part_of_a_message() -> None:
    assert list(Lines(100).feed(b"\n \r\n{}\r\n\t\n[]\n")) == [b"{}", b"[]"]


def test_an_empty_netstring_is_an_empty_message() -> None:
    assert list(Netstrings(100).feed(b"0:,1:a,")) == [b"", b"a"]


@pytest.mark.parametrize(
    "stream", [b"x", b":", b"-1:a,", b"01:a,", b"1:ab", b"1 :a,", b"1:a;", b"9999999999", b" 1:a,"]
)
def test_what_is_no_netstring(stream: bytes) -> None:
    assert fed(Netstrings(2**31), b"2:[],2:{}," + stream) == ([b"[]", b"{}"], FramingError)


@pytest.mark.parametrize(("framing", "stream"), [("newline", b"x" * 11), ("newline", b"x" * 11 + b"\n{}\n")])
@pytest.mark.parametrize("step", [1, 5, 100])
def test_a_line_that_is_too_long_is_not_held(framing: str, stream: bytes, step: int) -> None:
    frames = FRAMINGS[framing](10)
    assert list(frames.feed(b"x" * 10 + b"\n")) == [b"x" * 10]
    pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
    with pytest.raises(FrameTooLongError):
        list(map(list, map(frames.feed, pieces)))


def test_a_netstring_that_says_that_it_is_too_long_is_not_waited_for() -> None:
    assert list(Netstrings(10).feed(b"10:xxxxxxxxxx,")) == [b"x" * 10]
    assert fed(Netstrings(10), b"2:[],11:") == ([b"[]"], FrameTooLongError)


@fuzzed(200)
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


# JSON texts

TEXTS = [
    b"{}",
    b'{"a}":[1,{"b":"\\"]"}],"c":"\\\\"}',
    b'"]"',
    b'["\xc3\xa9"]',
    b"[[[]],[]]",
    b'{\n\t"a" : -1.5E+3 ,\r\n"b": [true, false, null] }',
]
BETWEEN = [b"", b" ", b"\n", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\n\0\n \xef\xbb\xbf\t"]


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_json_texts_follow_each_other_with_anything_or_nothing_between(between: bytes, step: int) -> None:
    stream = between + b"".join(text + between for text in TEXTS)
    frames = JSONTexts(100)
    out = [text for start in range(0, len(stream), step) for text in frames.feed(stream[start : start + step])]
    assert [text.strip() for text in out] == TEXTS
    assert not frames.unfinished()


@pytest.mark.parametrize("text", TEXTS)
def test_a_json_text_is_whole_with_its_last_byte_and_not_before(text: bytes) -> None:
    for cut in range(1, len(text)):
        frames = JSONTexts(100)
        assert list(frames.feed(text[:cut])) == []
        assert frames.unfinished()
        assert list(frames.feed(text[cut:])) == [text]


@pytest.mark.parametrize("word", [b"42", b"-1.5e+9", b"true", b"null"])
def test_a_number_or_word_ends_with_what_follows_it(word: bytes) -> None:
    frames = JSONTexts(100)
    assert list(frames.feed(word[:1])) == []
    assert list(frames.feed(word[1:])) == []
    assert list(frames.feed(b"\n")) == [word]
    assert list(frames.feed(word + b"[]" + word)) == [word, b"[]"]
    assert list(frames.end()) == [word]
    assert list(frames.end()) == []


@pytest.mark.parametrize(
    "bad",
    [
        b"POST / HTTP/1.1",
        b"x",
        b"}",
        b"]",
        b",",
        b"<",
        b"\x80",
        b"\xef\xbb[",
        b"{x",
        b"[N",
        b"[\0",
        b'["\n',
        b'"\\\n',
        b"1;",
    ],
)
def test_bytes_that_no_json_text_has_are_an_error_at_once_and_behind_what_was_whole(bad: bytes) -> None:
    for step in (1, 1000):
        frames = JSONTexts(100)
        stream = b"{}\n[]" + bad
        pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
        results = [fed(frames, piece) for piece in pieces]
        assert [text for texts, _ in results for text in texts][:2] == [b"{}", b"[]"]
        assert results[-1][1] is FramingError


def test_what_is_found_in_the_place_of_a_text_is_told() -> None:
    with pytest.raises(FramingError) as raised:
        list(JSONTexts(100).feed(b" \nPOST /api HTTP/1.1\r\n"))
    assert raised.value.found.startswith(b"POST /api HTTP/1.1")


@pytest.mark.parametrize("step", [1, 5, 100])
@pytest.mark.parametrize("long", [b"[" + b" " * 9 + b"]", b'"' + b"x" * 10 + b'"', b"1" * 11, b"[1,[2,[3,["])
def test_a_json_text_that_is_too_long_is_not_held(long: bytes, step: int) -> None:
    frames = JSONTexts(10)
    stream = b"[12345678]" + long + b"\n"
    pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
    results = []
    for piece in pieces:
        results.append(fed(frames, piece))
        if results[-1][1]:
            break
    assert [text for texts, _ in results for text in texts] == [b"[12345678]"]
    assert results[-1][1] is FrameTooLongError


HARD = {
    "string": b'"' + b"x" * 50_000 + b'"',
    "escapes": b'"' + b"\\n" * 25_000 + b'"',
    "brackets": b"[" + b"[],\n" * 15_000 + b"[]]",
    "depth": b"[" * 20_000 + b"]" * 20_000,
    "strings": b"[" + b'"",' * 15_000 + b"0]",
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_each_byte_is_looked_at_a_bounded_number_of_times(
    name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in the matches, and in what msgspec is given: no clock."""
    end, skip = module._end, module._skip
    looked: list[int] = []

    def counted(pattern: re.Pattern[bytes], held: bytearray, start: int) -> int:
        found = end(pattern, held, start)
        looked.append(found - start)
        return found

    def skipped(line: bytes) -> object:
        looked.append(len(line))
        return skip(line)

    monkeypatch.setattr(module, "_end", counted)
    monkeypatch.setattr(module, "_skip", skipped)
    text = HARD[name]
    frames = JSONTexts(2**20)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert [found for piece in pieces for found in frames.feed(piece)] == [text]
    assert sum(looked) <= 2 * len(text)
    assert len(looked) <= 2 * len(text) + len(pieces)


def test_texts_without_lines_between_are_not_tried_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    skip = module._skip

    def skipped(line: bytes) -> object:
        tried.append(len(line))
        return skip(line)

    monkeypatch.setattr(module, "_skip", skipped)
    frames = JSONTexts(2**20)
    assert list(frames.feed(b"[]" * 1000)) == [b"[]"] * 1000
    assert list(frames.feed(b"[]\n" * 10)) == [b"[]"] * 10
    assert tried == [2000, *[2] * 10]


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@fuzzed(200)
@given(st.lists(documents), st.lists(st.integers(1, 40), min_size=1), st.sampled_from(BETWEEN), st.booleans())
def test_any_documents_in_any_pieces_are_json_texts(
    values: list[object], cuts: list[int], between: bytes, raw: bool
) -> None:
    frames = JSONTexts(2**20)
    texts = [json.dumps([value], ensure_ascii=not raw).encode("utf-8", "replace") for value in values]
    stream = b"".join(text + between for text in texts)
    out: list[bytes] = []
    while stream:
        for cut in cuts:
            out += frames.feed(stream[:cut])
            stream = stream[cut:]
    assert [text.strip() for text in out] == texts
