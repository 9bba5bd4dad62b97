"""A response of HTTP/1.1 from its bytes, read strictly (RFC 9112). No socket.

    reader = ResponseReader(most_body=2**20)
    reader.feed(data) -> ReadResponse, when it is whole
                      -> None: more bytes are needed
    reader.end()      -> the same, where the connection has ended
    errors               NotHTTPError: this is not a response of HTTP; ResponseTooLongError; IncompleteError

Lines end with CR LF, names are tokens, and the length is told in exactly one way. 1xx responses are passed over. Bytes
behind the response make ``keeps`` false, because nobody has asked for them.
"""

import re
from collections.abc import Mapping

from msgspec import Struct

_MOST_HEAD = 65536  # bytes of a head, and of trailers
_MOST_CHUNK_LINE = 4096
_SHOWN = 60  # bytes of what is not HTTP
_VERSION = b"HTTP/1."
_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*+))?\r\n"
    rb"(?>(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n)*)"
)
_READ = re.compile(
    rb"\n(connection|content-encoding|content-length|content-type|location|retry-after|transfer-encoding):"
)  # in lower case
_OTHER = (
    rb"(?>(?:(?!(?:connection|content-encoding|content-length|content-type|location|retry-after|transfer-encoding):)"
    rb"[!#$%&'*+.^_`|~0-9a-z-]++:[\t -~\x80-\xff]*+\r\n)*)"
)
_LENGTH_LINE, _TYPE_LINE = (
    rb"content-length:[\t ]*+([0-9]{1,15})\r\n",
    rb"content-type:[\t ]*+([!-~]++(?>(?: [!-~]++)*))\r\n",
)
_USUAL = re.compile(  # a head that has nothing to decide but a length and a type, each once
    rb"HTTP/1\.1 (2[0-9]{2}) ([ -~]*+)\r\n(?i:%b(?:%b%b%b|%b%b%b)%b)\r\n"
    % (_OTHER, _LENGTH_LINE, _OTHER, _TYPE_LINE, _TYPE_LINE, _OTHER, _LENGTH_LINE, _OTHER),
)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15}+)[ \t]*+(?:;[\t -~\x80-\xff]*+)?\r\n")
_LENGTH = re.compile(r"[0-9]{1,15}", re.ASCII)


class NotHTTPError(Exception):
    """What was received is not a response of HTTP/1.1; the text says why."""


class ResponseTooLongError(Exception):
    """A response has more bytes than are taken; the text says of what."""


class IncompleteError(Exception):
    """The connection has ended within a response, or before it.

    Attributes:
        received: bytes of the response that came.

    """

    def __init__(self, received: int) -> None:
        super().__init__(f"the connection ended after {received} bytes of the response")
        self.received = received


class ReadHead(Struct, frozen=True, kw_only=True):
    """The head of a response.

    ``length`` is None where only the end of the connection ends the body. ``keeps`` says whether the connection stays
    open. ``headers`` has those that are about the body, the connection and what to do now; their names are in lower
    case, and one that comes twice has both values, joined by a comma.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    length: int | None
    is_chunked: bool
    keeps: bool


class ReadResponse(Struct, frozen=True, kw_only=True):
    """A whole response; its body is as it was sent. ``keeps`` says whether the connection can be used again."""

    head: ReadHead
    body: bytes
    keeps: bool


class ResponseReader:
    """Reads one response of a POST."""

    def __init__(self, most_body: int) -> None:
        self._most = most_body
        self._held = bytearray()
        self._seen = 0  # bytes that hold no end of the head
        self._received = 0
        self._head: ReadHead | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._left: int | None = None  # bytes of the current chunk, with its line end; None before its size is known
        self._in_trailers = False

    def feed(self, data: bytes) -> ReadResponse | None:
        """Take what was received.

        Raises:
            NotHTTPError: this is not a response.
            ResponseTooLongError: it has too many bytes.

        """
        if not self._received and (whole := self._usual(data)) is not None:
            return whole
        self._received += len(data)
        self._held += data
        while self._head is None:
            head = self._read_head()
            if head is None:
                return None
            if head.status >= 200:
                self._head = head
            elif head.status == 101:
                raise NotHTTPError("the response switches to another protocol")
        if self._head.is_chunked:
            return self._read_chunks()
        if (self._head.length or 0) > self._most or (self._head.length is None and len(self._held) > self._most):
            raise self._too_long()
        if self._head.length is None or len(self._held) < self._head.length:
            return None
        return self._whole(bytes(self._held[: self._head.length]), len(self._held) == self._head.length)

    def _usual(self, data: bytes) -> ReadResponse | None:
        """Read a response that has come in one piece, with its length: nearly all of them do."""
        found = _USUAL.match(data)
        if found is None or found.end() > _MOST_HEAD:
            return None
        status, reason, length, kind, other_kind, other_length = found.groups()
        size = int(length or other_length)
        if status == b"204" or size != len(data) - found.end() or size > self._most:
            return None
        headers = {"content-type": (kind or other_kind).decode("ascii")}
        head = ReadHead(
            status=int(status),
            reason=reason.decode("ascii").strip(" "),
            headers=headers,
            length=size,
            is_chunked=False,
            keeps=True,
        )
        return ReadResponse(head=head, body=data[found.end() :], keeps=True)

    def end(self) -> ReadResponse:
        """Take the end of the connection, which ends a body that has no length.

        Raises:
            IncompleteError: the response is not whole.

        """
        if self._head is None or self._head.is_chunked or self._head.length is not None:
            raise IncompleteError(self._received)
        return self._whole(bytes(self._held), is_clean=False)

    def _whole(self, body: bytes, is_clean: bool) -> ReadResponse:  # noqa: FBT001 - of one caller in this file
        assert self._head is not None  # noqa: S101 - its callers have seen it
        return ReadResponse(head=self._head, body=body, keeps=self._head.keeps and is_clean)

    def _read_head(self) -> ReadHead | None:
        held = self._held
        if not held.startswith(_VERSION) and not _VERSION.startswith(held):
            raise NotHTTPError(shown(held))
        end = held.find(b"\r\n\r\n", max(0, self._seen - 3))
        if end < 0:
            self._seen = len(held)
        if max(end, self._seen if end < 0 else 0) > _MOST_HEAD:
            raise ResponseTooLongError(f"its head has more than {_MOST_HEAD} bytes")
        if end < 0:
            return None
        head = bytes(held[: end + 2])
        del held[: end + 4]
        self._seen = 0
        return parsed(head)

    def _read_chunks(self) -> ReadResponse | None:
        held = self._held
        while True:
            if self._in_trailers:
                return self._read_trailers()
            if self._left is None:
                line = _CHUNK_LINE.match(held)
                if line is None:
                    if b"\r\n" in held or len(held) > _MOST_CHUNK_LINE:
                        raise NotHTTPError(f"a chunk does not begin with its size: {shown(held)}")
                    return None
                size, end = int(line[1], 16), line.end()
                line = None  # it would pin the size of the bytearray
                del held[:end]
                self._size += size
                if self._size > self._most:
                    raise self._too_long()
                self._in_trailers, self._left = size == 0, size + 2
                continue
            if len(held) < self._left:
                return None
            if held[self._left - 2 : self._left] != b"\r\n":
                raise NotHTTPError("a chunk is longer than its size")
            self._parts.append(bytes(held[: self._left - 2]))
            del held[: self._left]
            self._left = None

    def _read_trailers(self) -> ReadResponse | None:
        """Pass over the trailer fields, up to an empty line."""
        held = self._held
        end = 2 if held.startswith(b"\r\n") else held.find(b"\r\n\r\n") + 4
        if end < 4 and not held.startswith(b"\r\n"):
            if len(held) > _MOST_HEAD:
                raise ResponseTooLongError(f"its trailers have more than {_MOST_HEAD} bytes")
            return None
        return self._whole(b"".join(self._parts), len(held) == end)

    def _too_long(self) -> ResponseTooLongError:
        return ResponseTooLongError(f"more than {self._most} bytes")


def parsed(head: bytes) -> ReadHead:
    """Read a head, up to the line end of its last line.

    Raises:
        NotHTTPError: it breaks the grammar, or does not tell the length in one way.

    """
    found = _HEAD.match(head)
    if found is None or found.end() < len(head):
        raise NotHTTPError(f"this is not a line of a head: {shown(head[found.end() :] if found else head)}")
    headers: dict[str, str] = {}
    for field in _READ.finditer(head.lower()):
        name = field[1].decode("ascii")
        value = head[field.end() : head.index(b"\r", field.end())].decode("latin-1").strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    status, is_old = int(found[2]), found[1] == b"0"
    is_chunked, length = _framing(headers, is_old=is_old)
    if status < 200 or status in (204, 304):
        is_chunked, length = False, 0
    options = headers.get("connection", "").lower()
    keeps = (is_chunked or length is not None) and not is_old
    if options:
        connection = {option.strip(" \t") for option in options.split(",")}
        keeps = (is_chunked or length is not None) and (
            "keep-alive" in connection if is_old else "close" not in connection
        )
    reason = found[3].decode("latin-1").strip(" \t") if found[3] else ""
    return ReadHead(status=status, reason=reason, headers=headers, length=length, is_chunked=is_chunked, keeps=keeps)


def _framing(headers: Mapping[str, str], *, is_old: bool) -> tuple[bool, int | None]:
    """Return whether the body is chunked, and its length (RFC 9112, section 6.3)."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked" or length is not None or is_old:
            raise NotHTTPError(f"its length is not told in one way: Transfer-Encoding {coding[:_SHOWN]}")
        return True, None
    if length is None:
        return False, None
    if _LENGTH.fullmatch(length):
        return False, int(length)
    said = {each.strip(" \t") for each in length.split(",")}
    if len(said) != 1 or not _LENGTH.fullmatch(length := said.pop()):
        raise NotHTTPError(f"this is not a Content-Length: {length[:_SHOWN]}")
    return False, int(length)


def shown(data: bytes | bytearray) -> str:
    """Show how foreign bytes begin, on one line."""
    text = bytes(data[:_SHOWN]).partition(b"\n")[0].decode("latin-1")
    return "".join(c if c.isprintable() else " " for c in text).strip()
