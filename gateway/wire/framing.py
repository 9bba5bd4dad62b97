"""Where one message ends and the next begins, on a connection that has no HTTP.

    bytes as they come -> the messages that are whole
                       -> FrameTooLongError: a message has more than ``most`` bytes; FramingError: this is no frame
    a message -> its frame

A feed holds no more than one unfinished message, so at most ``most`` bytes and what the socket gave at once. After an
error the place in the stream is lost: the connection is to be closed.
"""

import re
from collections.abc import Callable, Mapping
from typing import Protocol

_LENGTH = re.compile(rb"(?:0|[1-9][0-9]{0,8}):")
_LONGEST_LENGTH = 9  # digits; a gigabyte is more than any limit here


class FramingError(Exception):
    """What comes is no frame."""


class FrameTooLongError(FramingError):
    """A message has more bytes than are taken."""


class Frames(Protocol):
    """One way to frame, reading one stream."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take what has come, and return the messages that are whole by now.

        Raises:
            FramingError: something in it is no frame, or too long, whatever stands before it.

        """

    def end(self) -> list[bytes]:
        """Return what the end of the stream makes whole."""

    def frame(self, message: bytes) -> bytes:
        """Make a message ready to be sent."""

    def unfinished(self) -> bool:
        """Tell whether the beginning of a message is here."""


class Lines:
    """A message on each line, as JSON without line breaks is; empty lines are passed over."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Split at line feeds; a carriage return before one goes, too."""
        *ends, rest = data.split(b"\n")
        lines: list[bytes] = []
        for end in ends:
            lines.append(bytes(self._held + end) if self._held else end)
            self._held.clear()
        self._held += rest
        if len(self._held) > self._most or any(len(line) > self._most for line in lines):
            raise FrameTooLongError
        return [line for line in (line.strip(b" \t\r") for line in lines) if line]

    def end(self) -> list[bytes]:
        """Take the last line, which may lack its end: where it has been cut off, it is no JSON."""
        return self.feed(b"\n")

    def frame(self, message: bytes) -> bytes:
        """End a line."""
        return message + b"\n"

    def unfinished(self) -> bool:
        """Tell whether the beginning of a line is here."""
        return bool(self._held)


class Netstrings:
    """A message as ``5:hello,`` (cr.yp.to/proto/netstrings.txt): its length in decimal digits, a colon, it, a comma."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take netstrings off the front of what is here."""
        self._held += data
        messages: list[bytes] = []
        start = 0
        while (found := self._next(start)) is not None:
            message, start = found
            messages.append(message)
        del self._held[:start]
        return messages

    def _next(self, start: int) -> tuple[bytes, int] | None:
        match = _LENGTH.match(self._held, start)
        if match is None:
            begun = self._held[start : start + _LONGEST_LENGTH + 1]
            if begun and (b":" in begun or not begun.isdigit() or len(begun) > _LONGEST_LENGTH):
                raise FramingError("a netstring begins with its length and a colon")
            return None
        length = int(match[0][:-1])
        if length > self._most:
            raise FrameTooLongError
        end = match.end() + length
        if len(self._held) <= end:
            return None
        if self._held[end] != ord(","):
            raise FramingError("a netstring ends with a comma")
        return bytes(self._held[match.end() : end]), end + 1

    def end(self) -> list[bytes]:
        """Take nothing: a netstring has its end."""
        return []

    def frame(self, message: bytes) -> bytes:
        """Put the length before a message, and a comma behind it."""
        return b"%d:%b," % (len(message), message)

    def unfinished(self) -> bool:
        """Tell whether the beginning of a netstring is here."""
        return bool(self._held)


FRAMINGS: Mapping[str, Callable[[int], Frames]] = {"newline": Lines, "netstring": Netstrings}
