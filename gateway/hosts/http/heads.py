"""The heads of HTTP/1 requests, held to RFC 9112 and read.

    read(data) -> Head            data ends with the empty line
               -> BadHeadError    it is not the head of a request, or it does not say for certain where the body ends
    beginning_of(data)            what the whole lines of a head say that is too large
    can_begin(data)               whether more bytes can still make it a head

llhttp reads the header lines, with none of its leniencies. The request line is read here: llhttp knows only the methods
that are registered. What both agree on is judged once more where a mistake could hide a second request in the body of
the first: line ends are CR LF and nothing else, a length is digits, and the one transfer coding is ``chunked``.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

import httptools
from msgspec import Struct

from gateway.model.http import HTTPRequest
from gateway.wire.http_grammar import HOST

_REQUEST_LINE = re.compile(rb"(?:\r\n)?([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([0-9])\r\n")
_BEGINNING = re.compile(
    rb"(?:\r(?:\n|\Z))?(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+ |[!#$%&'*+.^_`|~0-9A-Za-z-]*\Z)"
)  # RFC 9112, 3
_LINE = re.compile(rb"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)\r\n", re.MULTILINE)
_ABSOLUTE = re.compile(r"https?://([^/?#]+)(.*)", re.ASCII | re.IGNORECASE)
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_READ_AS = (b"POST / HTTP/1.0\r\n", b"POST / HTTP/1.1\r\n")  # in the place of the request line


class BadHeadError(Exception):
    """It is not the head of a request."""


class Headers(Mapping[str, str]):
    """The headers of a request: names compare in any case; a name that comes twice has both values, with a comma."""

    __slots__ = ("_values",)

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, str] = {}
        for raw, value in pairs:
            name, text = raw.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")
            before = self._values.get(name)
            self._values[name] = text if before is None else f"{before},{text}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return (name.title() for name in self._values)

    def __len__(self) -> int:
        return len(self._values)

    def replace(self, name: str, value: str) -> None:
        """Put a value in the place of what was sent."""
        self._values[name.lower()] = value


class Head(Struct, frozen=True):
    """The head of a request, and what it says about the message and the connection.

    Attributes:
        method: the verb, as it was sent.
        target: the request target, without a scheme and a host, which are then in the header Host.
        headers: all of them, as they were sent but for that.
        is_old: the version is HTTP/1.0; what is later than 1.1 is read as 1.1 (RFC 9110, 2.5).
        length: how many bytes the body has; None where it comes in chunks.
        options: those of the header Connection, in lower case.
        expects: the client waits for 100 Continue before it sends the body.

    """

    method: str
    target: str
    headers: Headers
    is_old: bool
    length: int | None
    options: tuple[str, ...]
    expects: bool


class _Lines:
    """What llhttp has found; it calls the methods whose names begin with on."""

    __slots__ = ("is_whole", "pairs")

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []
        self.is_whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_whole = True


def read(data: bytes) -> Head:
    """Read a head; one CR LF before it is passed over (RFC 9112, 2.2).

    Raises:
        BadHeadError: it is not one.

    """
    line = _REQUEST_LINE.match(data)
    if line is None:
        raise BadHeadError("the request line is malformed")
    method, target, minor = line.group(1, 2, 3)
    is_old = minor == b"0"
    headers = Headers(_pairs(_READ_AS[not is_old] + data[line.end() :]))
    if not HOST.fullmatch(headers.get("Host", "" if is_old else ",")):
        raise BadHeadError("one Host header is needed")  # RFC 9112, 3.2
    return Head(
        method=method.decode(),
        target=_without_authority(target.decode("latin-1"), headers),
        headers=headers,
        is_old=is_old,
        length=_length(headers, is_old=is_old),
        options=_options(headers),
        expects=not is_old and headers.get("Expect", "").lower() == "100-continue",
    )


def can_begin(data: bytes) -> bool:
    """Tell whether what has come so far may be the beginning of a head."""
    return _BEGINNING.match(data) is not None and data.count(b"\n") == data.count(b"\r\n")


def beginning_of(data: bytes, peer: str) -> HTTPRequest:
    """Read the beginning of a head that is too large: its whole lines."""
    line, _, lines = data.lstrip(b"\r\n").partition(b"\n")
    method, _, target = line.rstrip(b"\r").decode("latin-1").partition(" ")
    headers = Headers(_LINE.findall(lines))
    return HTTPRequest(method=method, target=target.partition(" ")[0], headers=headers, peer=peer, is_whole=False)


def _pairs(data: bytes) -> list[tuple[bytes, bytes]]:
    """Have llhttp read the lines of a head."""
    found = _Lines()
    try:
        with suppress(httptools.HttpParserUpgrade):  # to another protocol: nobody has to
            httptools.HttpRequestParser(found).feed_data(data)
    except httptools.HttpParserError as error:
        raise BadHeadError(str(error)) from None
    lines = len(found.pairs) + 2
    if not found.is_whole or not data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n") == lines:
        raise BadHeadError("a line does not end with CR LF")
    return found.pairs


def _without_authority(target: str, headers: Headers) -> str:
    """Return the path and query of a target. A host in it replaces the header Host (RFC 9112, 3.2.2)."""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        return target
    authority, rest = absolute.groups()
    if not HOST.fullmatch(authority):
        raise BadHeadError("the target does not name one host")
    headers.replace("host", authority)
    return rest if rest.startswith("/") else f"/{rest}"


def _length(headers: Headers, *, is_old: bool) -> int | None:
    """Return the length of the body (RFC 9112, 6.3); None where it comes in chunks."""
    coding, length = headers.get("Transfer-Encoding"), headers.get("Content-Length")
    if coding is not None:
        if length is not None or is_old or coding.lower() != "chunked":
            raise BadHeadError("where the body ends is not certain")
        return None
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise BadHeadError("the Content-Length is not a number of bytes")
    return int(length)


def _options(headers: Headers) -> tuple[str, ...]:
    options = headers.get("Connection")
    return () if options is None else tuple(option.strip() for option in options.lower().split(","))
