"""The text of a .thrift file -> tokens, each with its position and the comment above it.

    tokens(file, text)    IdlError for what cannot be a token

The words and numbers are those of Apache's compiler (thriftl.ll). Keywords are words here; parsing.py knows where one
stands.
"""

import math
import re
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from gateway.upstreams import UpstreamConfigError

Kind: TypeAlias = Literal["word", "int", "float", "literal", "symbol", "end"]

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n\f\v]+)
    | (?P<line>(?://|\#)[^\n]*)
    | (?P<block>/\*.*?\*/)
    | (?P<word>[A-Za-z_](?:[.-]?[A-Za-z0-9_])*)
    | (?P<hex>[+-]?0[xX][0-9A-Fa-f]+)
    | (?P<float>[+-]?(?:[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+))
    | (?P<int>[+-]?[0-9]+)
    | (?P<literal>"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*"|'[^'\\\n]*(?:\\[^\n][^'\\\n]*)*')
    | (?P<symbol>[:;,{}()=<>\[\]*&])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'", "\\": "\\"}
_STARS = re.compile(r"^[ \t]*\**[ \t]?", re.MULTILINE)
_LINE_MARK = re.compile(r"^(?:/+!?|#+)[ \t]?")
_RULER = re.compile(r"[-=*#/~_+.\s]*")
_LONGEST_INT = 20  # characters of a 64-bit number in decimal, with its sign
_MOST_QUOTED = 40  # characters


class IdlError(UpstreamConfigError):
    """A .thrift file is wrong, or too large; the message begins with file:line:column."""

    def __init__(self, file: str, line: int, column: int, reason: str) -> None:
        super().__init__(f"{file}:{line}:{column}: {reason}")


class Token(Struct, frozen=True):
    """A word, number, text literal or symbol of a file, or the end of the file.

    Attributes:
        text: as the file writes it.
        value: the number, or the text without quotes and escapes.
        doc: the comment above it.

    """

    kind: Kind
    text: str
    value: Any
    file: str
    line: int
    column: int
    doc: str = ""

    def error(self, reason: str) -> IdlError:
        """Make an error at this position."""
        return IdlError(self.file, self.line, self.column, reason)

    @property
    def shown(self) -> str:
        """The token as an error message quotes it."""
        return "the end of the file" if self.kind == "end" else f"'{self.text[:_MOST_QUOTED]}'"


class _Comment(Struct, frozen=True):
    first: int  # lines
    last: int
    text: str


def tokens(file: str, text: str) -> list[Token]:
    """Split a text into tokens; the last one has the kind "end".

    ``file`` is the name for error messages.

    Raises:
        IdlError: something cannot be a token.

    """
    found: list[Token] = []
    comments: list[_Comment] = []
    at, line, start = 0, 1, 0  # start is the offset of the line
    before = 0  # the line of the token before
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise IdlError(file, line, at - start + 1, _unreadable(text, at))
        kind, piece = match.lastgroup or "", match.group()
        lines = piece.count("\n") if kind in ("space", "block") else 0
        if kind in ("line", "block"):
            comments.append(_Comment(line, line + lines, piece))
        elif kind != "space":
            doc = _doc(comments, before, line) if comments else ""
            found.append(_token(kind, piece, file, (line, at - start + 1), doc))
            comments, before = [], line
        at = match.end()
        if lines:
            line += lines
            start = match.start() + piece.rindex("\n") + 1
    found.append(Token("end", "", None, file, line, at - start + 1))
    return found


def _token(kind: str, text: str, file: str, place: tuple[int, int], doc: str) -> Token:
    value: Any = None
    if kind == "literal":
        value = _ESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[0]), text[1:-1])
    elif kind == "float":
        value = float(text)
        if not math.isfinite(value):
            raise IdlError(file, *place, f"the number {text[:_MOST_QUOTED]} is too large for a double")
    elif kind in ("int", "hex"):
        value = _int(text, 16 if kind == "hex" else 10)
        if value is None:
            raise IdlError(file, *place, f"the number {text[:_MOST_QUOTED]} has more than 64 bits")
        kind = "int"
    return Token(kind, text, value, file, *place, doc)  # type: ignore[arg-type]


def _int(text: str, base: int) -> int | None:
    digits = text.lstrip("+-0") if base == 10 else text
    value = int(text, base) if len(digits) <= _LONGEST_INT else None
    return value if value is not None and -(2**63) <= value < 2**63 else None


def _unreadable(text: str, at: int) -> str:
    if text[at] in "\"'":
        return f"the text has no end: close it with {text[at]} on the same line"
    if text.startswith("/*", at):
        return "the comment has no end: close it with */"
    return f"the character {text[at]!r} is not allowed here"


def _doc(comments: list[_Comment], before: int, line: int) -> str:
    """Return the comment that describes the token of ``line``.

    That is the last ``/** */``, as for Apache's compiler, or else what ends on the line above and begins after
    ``before``, the line of the token before.
    """
    for comment in reversed(comments):
        if comment.text.startswith("/**") and comment.text.strip("/*"):
            return _plain(comment.text)
    above: list[str] = []
    for comment in reversed(comments):
        if comment.last != line - 1 or comment.first == before:
            break
        above.append(_plain(comment.text))
        line = comment.first
    return "\n".join(reversed(above)).strip()


def _plain(comment: str) -> str:
    """Take the marks off a comment, and lines without words."""
    if comment.startswith("/*"):
        lines = _STARS.sub("", comment[2:-2].replace("\r", "")).split("\n")
    else:
        lines = [_LINE_MARK.sub("", comment)]
    return "\n".join(line.rstrip() for line in lines if not line or not _RULER.fullmatch(line)).strip()
