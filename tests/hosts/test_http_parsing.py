"""What the HTTP host takes for a request: held against llhttp alone and against Tornado's parser, on mutated messages.

A proxy before the gateway must see the same requests as it does, or a second one can be hidden in the body of the
first. So whatever the host accepts, the other two accept and read in the same way. What Tornado accepts and the host
does not is in ``stricter``, and in docs/conformance.md.
"""

import asyncio
import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import zip_longest
from typing import Any

import httptools
import pytest
from tornado import httputil
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from gateway.hosts.http import HTTPHost
from gateway.hosts.http.bodies import BadBodyError, Body, Chunked, Sized
from gateway.hosts.http.heads import BadHeadError, can_begin, read
from gateway.hosts.listening import bind
from gateway.model.http import HTTPRequest, HTTPResponse
from gateway.model.limits import Limits
from tests.conftest import Logged

Request = tuple[str, str, dict[str, str], str]  # method, target, headers, body

BASES = [
    b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /api HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi",
    b"POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\nA\r\n0123456789\r\n0\r\n\r\n"
    b"GET / HTTP/1.1\r\nHost: b\r\n\r\n",
]
LINES = [
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: +5",
    b"Content-Length: 5, 5",
    b"Content-Length: 05",
    b"Content-Length: 0x5",
    b"Content-Length:",
    b"Content-Length : 5",
    b"content-length: 6",
    b"Content_Length: 7",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: CHUNKED",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding:\tchunked\t",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding",
    b"Host: b",
    b"Host:",
    b"Host: a b",
    b"Expect: 100-continue",
    b"Upgrade: h2c",
    b"Connection: Upgrade, close",
    b"Connection: keep-alive",
    b"X: y\r\n folded",
    b"\tX: y",
    b"X: \x80\xff",
    b"X\x80: y",
    b"X: y\rContent-Length: 1",
    b"X: y\nContent-Length: 1",
    b": y",
    b"X: \0",
    b"GET / HTTP/1.1",
    b"X-Request-ID: abc",
    b"x-request-id:def",
    b"X-Request-ID:  two",
    b"X-Request-Timeout: 2.5",
    b"Content-Length: 12",
]
BYTES = [bytes([each]) for each in b'\r\n\0\t\x0b\x7f\x80 :,;0159aAfFGx/_-"*']


def mutated(seed: int) -> bytes:
    """Make a message that may be wrong in some way, always the same for one seed."""
    rng = random.Random(seed)
    message = rng.choice(BASES)
    for _ in range(rng.randint(1, 3)):
        message = rng.choice([_line, _line, _replace, _insert, _delete, _swap, _version])(message, rng)
    return message


def _line(message: bytes, rng: random.Random) -> bytes:
    ends = [found.end() for found in re.finditer(rb"\r\n", message)]
    at = rng.choice(ends) if ends else len(message)
    return message[:at] + rng.choice(LINES) + b"\r\n" + message[at:]


def _replace(message: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(message))
    return message[:at] + rng.choice(BYTES) + message[at + 1 :]


def _insert(message: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(message) + 1)
    return message[:at] + rng.choice(BYTES) + message[at:]


def _delete(message: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(message))
    return message[:at] + message[at + rng.randint(1, 3) :]


def _swap(message: bytes, rng: random.Random) -> bytes:
    lines = message.split(b"\r\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\r\n".join(lines)


def _version(message: bytes, rng: random.Random) -> bytes:
    versions = [b"HTTP/1.0", b"HTTP/1.15", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.01", b" HTTP/1.1"]
    return message.replace(b"HTTP/1.1", rng.choice(versions), 1)


class Echo:
    """Answers a request with what was understood of it."""

    client = "127.0.0.1"

    def __init__(self, head: HTTPRequest) -> None:
        self._head = head

    async def answer(self, body: bytes) -> HTTPResponse:
        head = self._head
        return HTTPResponse(body=told(head.method, head.target, dict(head.headers), body))

    def too_large(self) -> HTTPResponse:
        return HTTPResponse(status=413)

    def too_many(self) -> HTTPResponse:
        return HTTPResponse(status=429)

    def unreadable(self, status: int, reason: str) -> HTTPResponse:
        return HTTPResponse(status=status, body=reason.encode())


class PlainEcho:
    """The same for a head that is known; the others are answered on the full way."""

    client = "127.0.0.1"

    def __init__(self, head: HTTPRequest) -> None:
        self._head = head

    def answer(  # noqa: PLR0917 - what is known of one request
        self,
        body: bytes,
        request_id: str | None,
        wish: str | None,
        connection: object,
        respond: object,
        trace: str | None = None,
        request: object | None = None,
    ) -> bytes | None:
        head = self._head
        headers = {name.lower(): value for name, value in head.headers.items()}
        varying = {"x-request-id": request_id, "x-request-timeout": wish, "traceparent": trace, "content-length": None}
        for name, value in varying.items():
            headers.pop(name, None)
            if value is not None:
                headers[name] = value
        if body:
            headers["content-length"] = str(len(body))
        text = told(head.method, head.target, headers, body)
        return b"HTTP/1.1 200 OK\r\nX-Plain: yes\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)


def told(method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
    named = {name.lower(): value.strip(" \t") for name, value in headers.items()}
    return json.dumps([method, target, dict(sorted(named.items())), body.decode("latin-1")]).encode()


def tornado_echo(request: httputil.HTTPServerRequest) -> None:
    target = request.uri or ""
    body = told(request.method or "", target, dict(request.headers), request.body)
    start = httputil.ResponseStartLine("HTTP/1.1", 200, "OK")
    headers = httputil.HTTPHeaders({"Content-Length": str(len(body))})
    assert request.connection is not None
    request.connection.write_headers(start, headers, body)
    request.connection.finish()


class LLHTTP:
    """llhttp alone: all of a message at once, until it objects."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._parser = httptools.HttpRequestParser(self)

    def read(self, message: bytes) -> list[Request]:
        with suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._parser.feed_data(message)
        return self.requests

    def on_message_begin(self) -> None:
        self._target, self._body = b"", b""
        self._headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        text = value.decode("latin-1").strip(" \t")
        key = name.decode("latin-1").lower()
        self._headers[key] = f"{self._headers[key]},{text}" if key in self._headers else text

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        self.requests.append((method, self._target.decode("latin-1"), self._headers, self._body.decode("latin-1")))


def responses(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split what a server has sent into responses."""
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
        size = int(length[1]) if length and status >= 200 else 0
        yield status, data[:size]
        data = data[size:]


async def asked(port: int, message: bytes) -> list[Request]:
    """Send a message and the end of the stream, and return the requests that a server has seen in it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(message)
    writer.write_eof()
    try:
        data = await reader.read()
    except ConnectionError:
        data = b""
    writer.close()
    return [(each[0], each[1], each[2], each[3]) for each in _echoed(data)]


def _echoed(data: bytes) -> Iterator[list[Any]]:
    for status, body in responses(data):
        if status == 200:
            yield json.loads(body)


async def read_with_and_without_known_heads(messages: list[bytes]) -> list[tuple[list[Request], ...]]:
    """Have each message read three times by a host that keeps heads, and once by one that does not."""
    hosts = [HTTPHost(Echo, Limits(), know=PlainEcho), HTTPHost(Echo, Limits())]
    ports = []
    for host in hosts:
        sockets = bind("127.0.0.1", 0, 64)
        ports.append(sockets[0].getsockname()[1])
        host.serve(sockets)
    try:
        return [tuple([await asked(ports[number], message) for number in (0, 0, 0, 1)]) for message in messages]
    finally:
        for host in hosts:
            host.retire()
            await host.close()


async def read_by_both(messages: list[bytes]) -> list[tuple[list[Request], list[Request]]]:
    """Have messages read by the host and by Tornado."""
    host, sockets = HTTPHost(Echo, Limits()), bind("127.0.0.1", 0, 64)
    port = sockets[0].getsockname()[1]
    host.serve(sockets)
    tornado, bound = HTTPServer(tornado_echo), bind_sockets(0, "127.0.0.1")
    tornado.add_sockets(bound)
    other = bound[0].getsockname()[1]
    try:
        return [(await asked(port, message), await asked(other, message)) for message in messages]
    finally:
        tornado.stop()
        await tornado.close_all_connections()
        host.retire()
        await host.close()


def stricter(message: bytes) -> set[str]:
    """Tell what Tornado would accept of a message and the host does not."""
    lengths = re.findall(rb"\r\ncontent-length:[ \t]*([^\r]*)", message.lower())
    found = {
        "a line ends with LF alone": re.search(rb"(?<!\r)\n", message),
        "chunks in HTTP/1.0": b"HTTP/1.0" in message and b"transfer-encoding" in message.lower(),
        "close among other options": re.search(rb"connection:[^\r]*, *close", message.lower()),
        "a Content-Length twice": len(lengths) > 1 or any(b"," in length for length in lengths),
    }
    return {name for name, is_there in found.items() if is_there}


def is_beyond_llhttp(request: Request) -> bool:
    """Tell whether llhttp alone refuses a request for its first line: it knows few methods, and fewer targets."""
    return request[0] not in ("GET", "POST") or request[1][0] not in "/*"


def test_what_the_host_accepts_llhttp_and_tornado_read_in_the_same_way(logged: Logged) -> None:
    twice = BASES[0].replace(b"Content-Type: text/xml", b"Content-Length: 5")
    messages = [*BASES, twice, *map(mutated, range(500))]
    accepted, refused, reasons = 0, 0, set[str]()
    for message, (ours, tornados) in zip(messages, asyncio.run(read_by_both(messages)), strict=True):
        accepted, refused = accepted + len(ours), refused + (not ours)
        assert tornados[: len(ours)] == ours, message
        if len(tornados) > len(ours):
            assert stricter(message), message
            reasons |= stricter(message)
        for number, (request, llhttps) in enumerate(zip_longest(ours, LLHTTP().read(message))):
            if request is None or is_beyond_llhttp(request):
                break
            assert llhttps == request, (number, message)
    assert accepted > 100
    assert refused > 100
    assert len(reasons) == 4, "each of them is seen"
    logged.take("Malformed HTTP")


def test_a_head_that_is_known_is_read_as_if_it_were_not() -> None:
    rng = random.Random(5)
    messages = [*BASES, *map(mutated, range(250))]
    messages += [_line(rng.choice(BASES[:4]), rng) for _ in range(100)]
    for message, (*known, unknown) in zip(
        messages, asyncio.run(read_with_and_without_known_heads(messages)), strict=True
    ):
        assert known == [unknown] * 3, message


# Heads


def head(*lines: str, first: str = "POST /api HTTP/1.1") -> bytes:
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


def test_a_head_is_read() -> None:
    found = read(head("Host: a", "X-A:  b \t", "x-a: c", "Content-Length: 012", "Connection: TE, Close"))
    assert (found.method, found.target, found.length, found.options) == ("POST", "/api", 12, ("te", "close"))
    assert found.headers["X-A"] == "b,c"
    assert list(found.headers) == ["Host", "X-A", "Content-Length", "Connection"]
    assert not found.is_old
    assert not found.expects


@pytest.mark.parametrize(
    ("first", "is_old"), [("GET / HTTP/1.0", True), ("GET / HTTP/1.1", False), ("GET / HTTP/1.7", False)]
)
def test_a_later_version_is_read_as_1_1(first: str, is_old: bool) -> None:
    assert read(head("Host: a", first=first)).is_old is is_old


def test_one_empty_line_before_a_head_is_passed_over_and_two_are_not() -> None:
    assert read(b"\r\n" + head("Host: a")).method == "POST"
    with pytest.raises(BadHeadError):
        read(b"\r\n\r\n" + head("Host: a"))


@pytest.mark.parametrize(
    "lines",
    [
        ("Host: a", "Host: a"),
        ("X: y",),
        ("Host: a,b",),
        ("Host: a", "X : y"),
        ("Host: a", " X: y"),
        ("Host: a", "X: y", "\tz"),
        ("Host: a", "X: y\rz"),
        ("Host: a", "X: y\nZ: z"),
        ("Host: a\n",),
        ("Host: a", "X: \0"),
        ("Host: a", "X: \x0b"),
        ("Host: a", "X\xe9: y"),
        ("Host: a", ": y"),
        ("Host: a", "X"),
        ("Host: a", "Content-Length: 5", "Content-Length: 5"),
        ("Host: a", "Content-Length: 5, 5"),
        ("Host: a", "Content-Length: +5"),
        ("Host: a", "Content-Length: 5 5"),
        ("Host: a", "Content-Length: 1_0"),
        ("Host: a", "Content-Length:"),
        ("Host: a", "Content-Length: " + "9" * 19),
        ("Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Host: a", "Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Host: a", "Transfer-Encoding: gzip"),
        ("Host: a", "Transfer-Encoding: gzip, chunked"),
        ("Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Host: a", "Transfer-Encoding: identity"),
        ("Host: a", "Transfer-Encoding:"),
        ("Host: a", "Transfer-Encoding: chunked;x"),
    ],
)
def test_what_is_not_a_head(lines: tuple[str, ...]) -> None:
    with pytest.raises(BadHeadError):
        read(head(*lines))


@pytest.mark.parametrize(
    "first",
    [
        "POST /api HTTP/2.0",
        "POST /api HTTP/1.10",
        "POST /api http/1.1",
        "POST  /api HTTP/1.1",
        "POST /a pi HTTP/1.1",
        "POST /api",
        " POST /api HTTP/1.1",
        "PO(ST /api HTTP/1.1",
        "POST /\x7f HTTP/1.1",
        "POST http://a,b/api HTTP/1.1",
    ],
)
def test_what_is_not_a_request_line(first: str) -> None:
    with pytest.raises(BadHeadError):
        read(head("Host: a", first=first))


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\r\n"])
def test_line_ends_are_cr_lf_whatever_llhttp_lets_pass(end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    made = httptools.HttpRequestParser

    def lenient(protocol: object) -> httptools.HttpRequestParser:
        parser = made(protocol)
        parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_lf_after_cr=True, lenient_optional_cr_before_lf=True
        )
        return parser

    monkeypatch.setattr("gateway.hosts.http.heads.httptools.HttpRequestParser", lenient)
    with pytest.raises(BadHeadError):
        read(b"POST / HTTP/1.1\r\nHost: a\r\nX: y" + end + b"Z: z\r\n\r\n")


def test_chunks_belong_to_http_1_1() -> None:
    with pytest.raises(BadHeadError):
        read(head("Transfer-Encoding: chunked", first="POST / HTTP/1.0"))
    assert read(head("Host: a", "Transfer-Encoding: Chunked")).length is None


@pytest.mark.parametrize("data", [b"", b"\r", b"\r\n", b"P", b"POST ", b"\r\nPOST /x HTTP/1.1\r\nX"])
def test_what_may_begin_a_head(data: bytes) -> None:
    assert can_begin(data)


@pytest.mark.parametrize(
    "data", [b"\n", b"\r\r", b"\r\n\r\n", b"\x16\x03", b"P(", b" ", b"POST /\n", b"POST / HTTP/1.1\r\nX\n"]
)
def test_what_cannot(data: bytes) -> None:
    assert not can_begin(data)


# Bodies

CHUNKS = b"5\r\nhello\r\n00A\r\n0123456789\r\n1\r\n\n\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("make", "data", "expected"),
    [(Chunked, CHUNKS, b"hello0123456789\n"), (lambda: Sized(9), b"\r\n5\r\nabcd", b"\r\n5\r\nabcd")],
)
def test_a_body_is_the_same_however_it_is_cut(make: Callable[[], Body], data: bytes, expected: bytes) -> None:
    for step in (*range(1, len(data)), len(data) + 3):
        body, sent = make(), data + b"GET"
        for start in range(0, len(sent), step):
            piece = sent[start : start + step]
            at = body.take(piece, 0)
            if body.is_whole:
                assert sent[start + at :] == b"GET"
                break
            assert at == len(piece)
        assert body.data() == expected
        assert body.announced == len(expected)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"0x5\r\n",
        b"-5\r\n",
        b"+5\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"5;a=b\r\n",
        b"5\n",
        b"5\rx",
        b"5\r\nhello0",
        b"5\r\nhello\n0",
        b"5\r\nhello\r0",
        b"0\r\nX: y\r\n\r\n",
        b"0\r\n\n",
        b"g\r\n",
        b"1" * 17,
        b"1" * 17 + b"\r\n",
    ],
)
def test_chunks_that_are_malformed_are_refused(data: bytes) -> None:
    with pytest.raises(BadBodyError):
        Chunked().take(data, 0)
    body = Chunked()
    with pytest.raises(BadBodyError):
        all(body.take(bytes([each]), 0) for each in data)


def test_a_body_that_is_dropped_is_held_no_more() -> None:
    body = Sized(10)
    body.take(b"hello", 0)
    body.drop()
    body.take(b"world", 0)
    assert body.is_whole
    assert body.data() == b""
