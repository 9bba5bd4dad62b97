"""Where one message ends and the next begins, on a connection that has no HTTP.

    bytes as they come -> the messages that are whole
                       -> FrameTooLongError: a message has more than ``most`` bytes; FramingError: this is not a frame
    a message -> its frame

A feed holds at most one unfinished message, so at most ``most`` bytes and what the socket gave at once. Each byte is
read a bounded number of times, however the stream is cut. After an error the place in the stream is lost: the
connection must be closed.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import msgspec

_LENGTH = re.compile(rb"(?:0|[1-9][0-9]{0,8}):")
_LONGEST_LENGTH = 9  # digits; a gigabyte is more than any limit here
_SHOWN = 64  # bytes of what is not a frame


class FramingError(Exception):
    """What was received is not a frame.

    Attributes:
        found: how it begins.

    """

    def __init__(self, reason: str = "", found: bytes = b"") -> None:
        super().__init__(reason)
        self.found = found


class FrameTooLongError(FramingError):
    """A message has more bytes than are taken."""


class Frames(Protocol):
    """One way to frame, reading one stream."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what was received, and yield the messages that are whole by now. Take all of them.

        Raises:
            FramingError: something is not a frame, or is too long. What was whole before it has been yielded.

        """

    def end(self) -> Iterator[bytes]:
        """Yield what the end of the stream makes whole."""

    def frame(self, message: bytes) -> bytes:
        """Make a message ready to be sent."""

    def unfinished(self) -> bool:
        """Tell whether the beginning of a message has been received."""


_TEXTS_BETWEEN = re.compile(rb"(?>(?:[ \t\r\n\0]|\xef\xbb\xbf)*)")  # white space, NUL, byte order marks
_SPACE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_STRING = re.compile(rb'(?>(?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*)')  # behind its first quote
_FLAT = re.compile(  # whole strings, and everything else that may stand between brackets
    rb'(?>(?:[ \t\r\n,:0-9+.Eaeflnrstu-]++|"(?>(?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*)")*)'
)
_WORD = re.compile(rb"[0-9+.Ea-z-]*+")
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1, _QUOTE: 0}
_skip = msgspec.json.Decoder(msgspec.Raw).decode  # reads a text, and makes nothing of it


class JSONTexts:
    """JSON texts one after the other, with or without white space, NUL or byte order marks between them.

    A text is whole with its last byte: a closing bracket or a quote. A number or a word is whole with the byte behind
    it, or with the end of the stream. Brackets are counted. Whether the text between them is JSON is not asked here,
    but bytes that no JSON text has at their place are an error at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = bytearray()
        self._read = 0  # bytes of the text that have been looked at; 0 before a text has begun
        self._tried = 0  # bytes that were taken for a text by themselves, in vain
        self._depth = 0
        self._is_string = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Split behind each text."""
        self._held += data
        while (text := self._next()) is not None:
            if len(text) > self._most:
                raise FrameTooLongError
            yield text
        if len(self._held) > self._most:
            raise FrameTooLongError

    def _next(self) -> bytes | None:
        if not self._read:
            line = self._line() if self._tried <= 0 else None
            if line is not None:
                return line
            if not self._begin():
                return None
        if not self._go_on():
            return None
        text = bytes(self._held[: self._read])
        self._drop(self._read)
        self._read = self._depth = 0
        return text

    def _line(self) -> bytes | None:
        """Take a line, or all that is held, if it is one text: most clients send it so, and msgspec is fast."""
        end = self._held.find(b"\n") + 1 or len(self._held)
        line = bytes(self._held[:end]).strip(_SPACE)
        if line[:1] in (b"{", b"[") and _is_text(line):
            self._drop(end)
            return line
        self._tried = end
        return None

    def _drop(self, size: int) -> None:
        del self._held[:size]
        self._tried -= size

    def _begin(self) -> bool:
        """Pass over what is between texts; False where nothing follows yet."""
        held = self._held
        self._drop(_end(_TEXTS_BETWEEN, held, 0))
        if not held or _BOM.startswith(held):
            return False
        first = held[0]
        self._is_string = first == _QUOTE
        self._depth = int(first in b"{[")
        if not (self._is_string or self._depth) and first not in b"-0123456789tfn":
            raise FramingError("this does not begin a JSON text", bytes(held[:_SHOWN]))
        self._read = 1
        return True

    def _go_on(self) -> bool:
        """Read on in a text that has begun; True where it is whole."""
        held, at, end, depth = self._held, self._read, len(self._held), self._depth
        if not (self._is_string or depth):
            self._read = _end(_WORD, held, at)
            return self._read < end
        while at < end:
            if self._is_string:
                at = _end(_STRING, held, at)
                if at == end or (held[at] == _BACKSLASH and at + 1 == end):
                    break
                self._is_string = False
                if held[at] != _QUOTE:
                    raise self._error()
            elif (at := _end(_FLAT, held, at)) == end:
                break
            elif (step := _STEPS.get(held[at])) is None:
                raise self._error()
            else:
                depth += step
                self._is_string = not step
            at += 1
            if not (depth or self._is_string):
                self._read = at
                return True
        self._read, self._depth = at, depth
        return False

    def _error(self) -> FramingError:
        return FramingError("no JSON text has this byte here", bytes(self._held[:_SHOWN]))

    def end(self) -> Iterator[bytes]:
        """Take what has begun: a number is whole now, and what has been cut off is not a JSON text."""
        if self._held:
            yield bytes(self._held)
            self._held.clear()

    def frame(self, message: bytes) -> bytes:
        """End a line, so that clients may read lines."""
        return message + b"\n"

    def unfinished(self) -> bool:
        """Tell whether the beginning of a text has been received."""
        return bool(self._held)


def _end(pattern: re.Pattern[bytes], held: bytearray, start: int) -> int:
    """Return where a match ends that may be empty; no match object stays, for it would pin the bytearray's size."""
    match = pattern.match(held, start)
    return match.end() if match else start


def _is_text(line: bytes) -> bool:
    try:
        _skip(line)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def is_json(message: bytes) -> bool:
    """Tell whether a message is one JSON text (RFC 8259), with or without a byte order mark before it.

    One that is nested too deeply to tell is taken for JSON: the codec refuses it.
    """
    try:
        _skip(message.removeprefix(_BOM))
    except msgspec.DecodeError:
        return False
    except RecursionError:
        return True
    return True


class Lines:
    """A message on each line, as JSON without line breaks is; empty lines are passed over."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Split at line feeds; a carriage return before one goes, too."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            line = bytes(self._held + end) if self._held else end
            self._held.clear()
            if len(line) > self._most:
                raise FrameTooLongError
            if stripped := line.strip(b" \t\r"):
                yield stripped
        self._held += rest
        if len(self._held) > self._most:
            raise FrameTooLongError

    def end(self) -> Iterator[bytes]:
        """Take the last line, which may lack its end: where it has been cut off, it is not JSON."""
        return self.feed(b"\n")

    def frame(self, message: bytes) -> bytes:
        """End a line."""
        return message + b"\n"

    def unfinished(self) -> bool:
        """Tell whether the beginning of a line has been received."""
        return bool(self._held)


class Netstrings:
    """A message as ``5:hello,`` (cr.yp.to/proto/netstrings.txt): its length in decimal digits, a colon, it, a comma."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take netstrings off the front of what is here."""
        self._held += data
        while (found := self._next()) is not None:
            message, end = found
            del self._held[:end]
            yield message

    def _next(self) -> tuple[bytes, int] | None:
        match = _LENGTH.match(self._held)
        if match is None:
            begun = self._held[: _LONGEST_LENGTH + 1]
            if begun and (b":" in begun or not begun.isdigit() or len(begun) > _LONGEST_LENGTH):
                raise FramingError("a netstring begins with its length and a colon", bytes(self._held[:_SHOWN]))
            return None
        length = int(match[0][:-1])
        if length > self._most:
            raise FrameTooLongError
        end = match.end() + length
        if len(self._held) <= end:
            return None
        if self._held[end] != ord(","):
            raise FramingError("a netstring ends with a comma", bytes(self._held[:_SHOWN]))
        return bytes(self._held[match.end() : end]), end + 1

    def end(self) -> Iterator[bytes]:
        """Take nothing: a netstring has its end."""
        return iter(())

    def frame(self, message: bytes) -> bytes:
        """Put the length before a message, and a comma behind it."""
        return b"%d:%b," % (len(message), message)

    def unfinished(self) -> bool:
        """Tell whether the beginning of a netstring has been received."""
        return bool(self._held)


FRAMINGS: Mapping[str, Callable[[int], Frames]] = {"json": JSONTexts, "newline": Lines, "netstring": Netstrings}
