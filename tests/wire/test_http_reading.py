"""Responses of HTTP as cases: each is read whole, byte by byte, and with bytes behind it."""

import itertools

import pytest

from gateway.wire.http_reading import (
    _USUAL,
    IncompleteError,
    NotHTTPError,
    ReadResponse,
    ResponseReader,
    ResponseTooLongError,
)

OK = b"HTTP/1.1 200 OK\r\n"
WHOLE: dict[bytes, tuple[int, bytes, bool]] = {
    OK + b"Content-Length: 3\r\n\r\nabc": (200, b"abc", True),
    OK + b"content-length:\t3 \r\nX: \xff\r\n\r\nabc": (200, b"abc", True),
    OK + b"Content-Length: 3, 3\r\n\r\nabc": (200, b"abc", True),
    OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc": (200, b"abc", True),
    OK + b"Content-Length: 3\r\nConnection: x, Close\r\n\r\nabc": (200, b"abc", False),
    OK + b"Content-Length: 0\r\n\r\n": (200, b"", True),
    b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc": (200, b"abc", False),
    b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc": (200, b"abc", True),
    b"HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n": (500, b"", True),
    b"HTTP/1.1 204 No Content\r\n\r\n": (204, b"", True),
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n": (304, b"", True),
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na": (
        200,
        b"a",
        True,
    ),
    OK + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n": (200, b"abc", True),
    OK + b"Transfer-Encoding: chunked\r\n\r\nA \r\n0123456789\r\n01;a=b\r\n\r\r\n0\r\nT: x\r\nU: y\r\n\r\n": (
        200,
        b"0123456789\r",
        True,
    ),
}
BROKEN = {
    b"SSH-2.0-OpenSSH\r\n": "SSH-2.0-OpenSSH",
    b"\x15\x03\x01\x00\x02": "",
    b"HTTP/2 200 OK\r\n\r\n": "HTTP/2 200 OK",
    b"HTTP/1.1 20 OK\r\n\r\n": "not a line of a head: HTTP/1.1 20 OK",
    b"HTTP/1.1 200 O\0K\r\n\r\n": "not a line of a head: HTTP/1.1 200",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\r\n\r\n": "not a line of a head",
    OK + b"No colon\r\n\r\n": "not a line of a head: No colon",
    OK + b"Blank : x\r\n\r\n": "not a line of a head: Blank : x",
    OK + b"A: b\r\n folded\r\n\r\n": "not a line of a head: folded",
    OK + b"A: b\rc\r\n\r\n": "not a line of a head: A: b",
    OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n": "not told in one way",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n": "not told in one way: Transfer-Encoding gzip, chunked",
    OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n": "not told in one way",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n": "not told in one way",
    OK + b"Content-Length: 3, 4\r\n\r\n": "not a Content-Length",
    OK + b"Content-Length: +3\r\n\r\n": "not a Content-Length: +3",
    OK + b"Content-Length: \xb2\r\n\r\n": "not a Content-Length",
    OK + b"Content-Length:\r\n\r\n": "not a Content-Length",
    OK + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n": "does not begin with its size: 0x3",
    OK + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n": "does not begin with its size: 3",
    OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n": "longer than its size",
    OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 5000: "does not begin with its size",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n": "another protocol",
}
TOO_LONG = {
    OK + b"Content-Length: 21\r\n\r\n": "more than 20 bytes",
    OK + b"\r\n" + b"a" * 21: "more than 20 bytes",
    OK + b"Transfer-Encoding: chunked\r\n\r\nF\r\n" + b"a" * 15 + b"\r\n6\r\n": "more than 20 bytes",
    OK + b"A: " + b"a" * 65536: "its head has more than 65536 bytes",
    OK + b"A: " + b"a" * 65536 + b"\r\n\r\n": "its head has more than 65536 bytes",
    OK + b"Content-Length: 0\r\nA: " + b"a" * 65536 + b"\r\n\r\n": "its head has more than 65536 bytes",
    OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 11000: "its trailers have more than 65536 bytes",
}
CUT_SHORT = (
    b"",
    b"HTT",
    OK,
    OK + b"Content-Length: 3\r\n\r\nab",
    OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
)


def read(*pieces: bytes, most: int = 20) -> ReadResponse | None:
    reader = ResponseReader(most)
    found = None
    for piece in pieces:
        found = reader.feed(piece)
    return found


@pytest.mark.parametrize(("data", "expected"), WHOLE.items())
def test_a_response(data: bytes, expected: tuple[int, bytes, bool]) -> None:
    for pieces in ((data,), [data[at : at + 1] for at in range(len(data))]):
        found = read(*pieces)
        assert found is not None
        assert (found.head.status, found.body, found.keeps) == expected
    assert read(data[:-1]) is None
    behind = read(data + b"H")
    assert behind is not None
    assert (behind.head.status, behind.body, behind.keeps) == (*expected[:2], False)


def test_a_response_that_the_end_of_the_connection_ends() -> None:
    reader = ResponseReader(20)
    assert reader.feed(OK + b"Content-Type: text/xml\r\nContent-Type: x\r\n\r\nab") is None
    assert reader.feed(b"c") is None
    found = reader.end()
    assert (found.body, found.keeps) == (b"abc", False)
    assert found.head.headers == {"content-type": "text/xml, x"}


@pytest.mark.parametrize(("data", "reason"), BROKEN.items())
def test_what_is_not_a_response(data: bytes, reason: str) -> None:
    with pytest.raises(NotHTTPError) as raised:
        read(data)
    assert reason in str(raised.value)
    with pytest.raises(NotHTTPError):
        read(*[data[at : at + 1] for at in range(len(data))])


@pytest.mark.parametrize(("data", "reason"), TOO_LONG.items(), ids=str)
def test_what_is_too_long(data: bytes, reason: str) -> None:
    with pytest.raises(ResponseTooLongError, match=reason):
        read(data)


@pytest.mark.parametrize("data", CUT_SHORT)
def test_what_is_cut_short(data: bytes) -> None:
    reader = ResponseReader(20)
    assert reader.feed(data) is None
    with pytest.raises(IncompleteError) as raised:
        reader.end()
    assert raised.value.received == len(data)


STATUSES = tuple(
    b"HTTP/1.1 200 OK|HTTP/1.1 299 |HTTP/1.1 200|HTTP/1.0 200 OK|HTTP/1.1 204 No|http/1.1 200 OK".split(b"|")
)
LENGTH = b"Content-Length: 5\r\n"
LINES = rb"""
content-length:6
Content-Length: +5
Content-Length: 05
content-type: text/xml; charset=utf-8
Content-Type:  a \t
Content-Type: \xe9
Date: x
X: \xe9
X-\xe9: x
X: \x00
 folded: x
no name: x
Connection: close
Content-Encoding: gzip
Transfer-Encoding: chunked
Retry-After: 5
"""


@pytest.mark.parametrize("status", STATUSES)
def test_a_response_in_one_piece_is_read_as_one_in_several(status: bytes) -> None:
    lines = [line.decode("unicode_escape").encode("latin-1") + b"\r\n" for line in LINES.split(b"\n")[1:-1]]
    usual = 0
    for chosen in itertools.chain(itertools.permutations(lines, 2), ((line,) for line in lines)):
        for head in ((*chosen, LENGTH), (LENGTH, *chosen), (chosen[0], LENGTH, *chosen[1:])):
            for body in (b"12345", b"1234", b"123456"):
                data = status + b"\r\n" + b"".join(head) + b"\r\n" + body
                assert told(data, len(data)) == told(data, len(data) - 1), data
                usual += _USUAL.match(data) is not None
    assert (usual > 0) == (status.startswith(b"HTTP/1.1 2") and status.count(b" ") > 1)


def told(data: bytes, piece: int) -> object:
    """Return what a reader makes of a response that comes in pieces of so many bytes."""
    reader = ResponseReader(100)
    try:
        fed = (reader.feed(data[start : start + piece]) for start in range(0, len(data), piece))
        response = next(filter(None, fed), None) or reader.end()
    except (NotHTTPError, ResponseTooLongError, IncompleteError) as error:
        return type(error), str(error)
    head = response.head
    headers = {name: value for name, value in head.headers.items() if name != "content-length"}
    return head.status, head.reason, headers, head.length, head.is_chunked, head.keeps, response.body
