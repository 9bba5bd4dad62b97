"""Heads that are known by their bytes: what is kept of them, and what the host promises of requests with them."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from gateway import Registry
from gateway.hosts.http import HTTPHost
from gateway.hosts.http import known as module
from gateway.hosts.http.heads import read
from gateway.hosts.http.known import KnownHeads
from gateway.hosts.listening import bind
from gateway.model.http import HTTPRequest, HTTPResponse, Plain, Running
from gateway.model.limits import Limits
from tests.hosts.test_http_parsing import _delete, _insert, _line, _replace, _swap
from tests.raw_http import Wire
from tests.serving import serving

HEAD = b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Request-ID: one\r\n\r\n"


class Call:
    """A call that runs until the test lets it end."""

    def __init__(self, respond: Callable[[bytes], None]) -> None:
        self.respond = respond
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Judge:
    """Judges heads as plain, and answers requests with them as their bodies say."""

    def __init__(self, client: str = "127.0.0.1") -> None:
        self.client = client
        self.known: list[HTTPRequest] = []
        self.asked: list[tuple[bytes, str | None, str | None]] = []
        self.calls: list[Call] = []
        self.full: list[bytes] = []
        self.admitted = 0

    def know(self, head: HTTPRequest) -> Plain | None:
        self.known.append(head)
        return None if head.target == "/never" else self

    def answer(  # noqa: PLR0917 - what is known of one request
        self,
        body: bytes,
        request_id: str | None,
        wish: str | None,
        connection: object,
        respond: Callable[[bytes], None],
        trace: str | None = None,
        request: object | None = None,
    ) -> bytes | Running | None:
        assert isinstance(connection, object)
        if body == b"later":
            self.calls.append(Call(respond))
            return self.calls[-1]
        if body == b"full!":
            return None
        self.asked.append((body, request_id, wish))
        return response(b"plain")

    def admit(self, head: HTTPRequest) -> "Full":
        self.admitted += 1
        return Full(self.client, self.full)


class Full:
    """Answers on the full way, and takes its time."""

    def __init__(self, client: str, answered: list[bytes]) -> None:
        self.client = client
        self._answered = answered

    async def answer(self, body: bytes) -> HTTPResponse:
        self._answered.append(body)
        await asyncio.sleep(0)
        return HTTPResponse(body=body + b" on the full way")

    def too_large(self) -> HTTPResponse:
        return HTTPResponse(status=413)

    def too_many(self) -> HTTPResponse:
        return HTTPResponse(status=429)

    def unreadable(self, status: int, reason: str) -> HTTPResponse:
        return HTTPResponse(status=status, body=reason.encode())


def response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def request(body: bytes, *lines: bytes) -> bytes:
    head = b"\r\n".join([b"POST /api HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body), *lines])
    return head + b"\r\n\r\n" + body


def learnt(heads: KnownHeads, data: bytes, peer: str = "10.0.0.1", certificate: str | None = None) -> bool:
    """Have a head read twice, and tell whether it is known then."""
    head = read(data)
    for _ in range(2):
        made = HTTPRequest(
            method=head.method, target=head.target, headers=head.headers, peer=peer, certificate=certificate
        )
        heads.learn(data, head, made)
    return heads.find(data, peer, certificate) is not None


# What is kept


def test_a_head_is_kept_when_it_comes_again_and_found_with_other_values() -> None:
    judge = Judge()
    heads = KnownHeads(judge.know, 1000)
    head = read(HEAD)
    made = HTTPRequest(method=head.method, target=head.target, headers=head.headers, peer="10.0.0.1")
    heads.learn(HEAD, head, made)
    assert heads.find(HEAD, "10.0.0.1", None) is None
    heads.learn(HEAD, head, made)
    assert judge.known == [made]
    found = heads.find(HEAD, "10.0.0.1", None)
    assert found is not None
    assert (found.length, found.request_id, found.wish) == (5, "one", None)
    other = b"POST /api HTTP/1.1\r\nx-request-timeout:2.5\r\nHost: a\r\ncontent-length: 1000\r\n\r\n"
    found = heads.find(other, "10.0.0.1", None)
    assert found is not None
    assert (found.length, found.request_id, found.wish) == (1000, None, "2.5")
    assert heads.find(HEAD, "10.0.0.1", None) is heads.find(HEAD, "10.0.0.1", None)


UNLIKE = pytest.mark.parametrize(
    "other",
    [
        HEAD.replace(b"Host: a", b"Host: b"),
        HEAD.replace(b"Host: a", b"host: a"),
        HEAD.replace(b"/api", b"/RPC2"),
        HEAD.replace(b"Length: 5", b"Length: 1001"),
        HEAD.replace(b"Length: 5", b"Length: 05"),
        HEAD.replace(b"Length: 5", b"Length:  5"),
        HEAD.replace(b"Length: 5", b"Length: 5 "),
        HEAD.replace(b"Length: 5", b"Length: 5\r\nContent-Length: 5"),
        HEAD.replace(b"Length: 5", b"Length: 5\r\n folded: 5"),
        HEAD.replace(b"ID: one", b"ID: one\r\nX-Request-ID: one"),
        HEAD.replace(b"ID: one", b"ID: o\xe9"),
        b"\r\nContent-Length: 5" + HEAD,
        HEAD.replace(b"Host: a", b"Host: a\nX: y"),
    ],
)


@UNLIKE
def test_what_is_not_the_same_head(other: bytes) -> None:
    heads = KnownHeads(Judge().know, 1000)
    assert learnt(heads, HEAD)
    assert heads.find(other, "10.0.0.1", None) is None


TRACED = HEAD.replace(b"Host: a", b"Host: a\r\ntraceparent: 00-1-2-01\r\nX-Request-Timeout: 2")


@UNLIKE
def test_what_has_another_form(other: bytes) -> None:
    heads = KnownHeads(Judge().know, 1000)
    assert learnt(heads, HEAD)
    known = heads.find(HEAD, "10.0.0.1", None)
    assert known is not None
    assert known.again(other + b"hello", 0, 1000) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"", b""),
        (b"ID: one", b"ID: another"),
        (b"ID: one", b"ID: " + b"x" * 64),
        (b"Length: 5", b"Length: 1000"),
        (b"00-1-2-01", b"00-3-4-00"),
        (b"Timeout: 2", b"Timeout: 12.5"),
    ],
)
def test_a_head_of_the_same_form_is_known_as_if_it_were_looked_up(old: bytes, new: bytes) -> None:
    heads = KnownHeads(Judge().know, 1000)
    assert learnt(heads, TRACED)
    known, other = heads.find(TRACED, "10.0.0.1", None), TRACED.replace(old, new)
    found = heads.find(other, "10.0.0.1", None)
    assert known is not None
    assert found is not None
    assert known.again(b"before" + other + b"hello", 6, len(other)) == found
    assert (found.head, found.trace) == (other, "00-3-4-00" if old == b"00-1-2-01" else "00-1-2-01")
    assert known.again(other, 0, len(other) - 1) is None
    for cut in range(len(other)):
        assert known.again(other[:cut], 0, 1000) is None


VARIANTS = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    TRACED,
    TRACED.replace(b"ID: one", b"ID: two\r\nX: y"),
    b"POST / HTTP/1.1\r\nX-Request-ID: 1\r\ncontent-length:7\r\nHost: a\r\ntraceparent: 00\r\n\r\n",
)


def varied(message: bytes, rng: random.Random) -> bytes:
    """Change a head: its values, which are of the same form mostly, or anything else of it."""
    for value in (b"one", b"5", b"00-1-2-01", b"2", b"7"):
        if rng.random() < 0.3:
            message = message.replace(value, rng.choice([b"x" * rng.randrange(1, 70), b"%d" % rng.randrange(2000)]))
    for _ in range(rng.choice([0, 0, 1, 2])):
        message = rng.choice([_line, _replace, _insert, _delete, _swap])(message, rng)
    return message


def test_whatever_has_the_same_form_is_looked_up_to_the_same() -> None:
    heads = KnownHeads(Judge().know, 1000)
    assert all(learnt(heads, variant) for variant in VARIANTS)
    rng = random.Random(20261129)
    found = 0
    for _ in range(3000):
        base = rng.choice(VARIANTS)
        known = heads.find(base, "10.0.0.1", None)
        other = varied(base, rng)
        assert known is not None
        again = known.again(other + b"hello", 0, 4096)
        if again is not None:
            found += 1
            assert again == heads.find(again.head, "10.0.0.1", None)
            assert (other + b"hello").startswith(again.head)
    assert found > 500


def test_a_head_is_known_of_one_peer_and_one_certificate() -> None:
    heads = KnownHeads(Judge().know, 1000)
    assert learnt(heads, HEAD, "10.0.0.1", "odoo")
    assert heads.find(HEAD, "10.0.0.2", "odoo") is None
    assert heads.find(HEAD, "10.0.0.1", None) is None
    assert heads.find(HEAD, "10.0.0.1", "other") is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"/api", b"/never"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"POST", b"\r\nPOST"),
        (b"Host: a", b"Host: a\r\nConnection: close"),
        (b"Host: a", b"Host: a\r\nExpect: 100-continue"),
        (b"Host: a", b"Host: a\r\nUpgrade: h2c"),
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 5", b"Content-Length:  5"),
        (b"Content-Length: 5", b"Content-Length: 0"),
        (b"X-Request-ID: one", b"X-Request-ID:  one"),
        (b"X-Request-ID: one", b"X-Request-Timeout: soon"),
        (b"Host: a", b"Host: a\r\nX: " + b"x" * 2048),
    ],
)
def test_what_is_never_kept(old: bytes, new: bytes) -> None:
    assert not learnt(KnownHeads(Judge().know, 1000), HEAD.replace(old, new))


def test_the_least_recently_used_head_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 3)
    heads = KnownHeads(Judge().know, 1000)
    for name in (b"a", b"b", b"c"):
        assert learnt(heads, HEAD.replace(b"Host: a", b"Host: " + name))
    assert heads.find(HEAD, "10.0.0.1", None) is not None
    assert learnt(heads, HEAD.replace(b"Host: a", b"Host: d"))
    assert heads.find(HEAD, "10.0.0.1", None) is not None
    assert heads.find(HEAD.replace(b"Host: a", b"Host: b"), "10.0.0.1", None) is None


# On the wire


@asynccontextmanager
async def served(judge: Judge, limits: Limits | None = None) -> AsyncIterator[tuple[HTTPHost, int]]:
    """Serve a judge, which knows the head of ``request`` already."""
    host = HTTPHost(judge.admit, limits or Limits(), know=judge.know)
    sockets = bind("127.0.0.1", 0, 64)
    port = sockets[0].getsockname()[1]
    host.serve(sockets)
    for _ in range(2):
        assert b"\r\n\r\nhello on" in await answered(port, request(b"hello"), b"the full way")
    assert judge.admitted == 2
    try:
        yield host, port
    finally:
        if not host.connections.retired:
            host.retire()
        await host.close()


async def answered(port: int, data: bytes, end: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    received = await reader.readuntil(end)
    writer.close()
    return received


def test_requests_with_a_known_head_are_answered_however_they_are_cut() -> None:
    async def test() -> None:
        judge = Judge()
        async with served(judge) as (_, port):
            data = request(b"hello", b"X-Request-ID: mine", b"X-Request-Timeout: 2") + request(b"two")
            for step in (1, 7, len(data) - 3, len(data)):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for start in range(0, len(data), step):
                    writer.write(data[start : start + step])
                    await asyncio.sleep(0)
                assert await reader.readexactly(2 * len(response(b"plain"))) == response(b"plain") * 2
                writer.close()
            assert judge.asked == [(b"hello", "mine", "2"), (b"two", None, None)] * 4
            assert judge.admitted == 2

    asyncio.run(test())


def test_what_is_not_plain_after_all_takes_the_full_way() -> None:
    async def test() -> None:
        judge = Judge()
        async with served(judge) as (_, port):
            whole = request(b"full!")
            assert b"\r\n\r\nfull! on" in await answered(port, whole, b"the full way")
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(whole[:-2])
            await asyncio.sleep(0.05)
            writer.write(whole[-2:] + request(b"hello"))
            assert b"\r\n\r\nfull! on" in await reader.readuntil(b"the full way")
            assert await reader.readuntil(b"plain") == response(b"plain")
            writer.close()
            assert judge.full == [b"hello", b"hello", b"full!", b"full!"]

    asyncio.run(test())


def test_a_call_that_runs_is_counted_answered_in_order_and_cancelled_by_a_hang_up() -> None:
    async def test() -> None:
        judge = Judge()
        async with served(judge) as (host, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"later") + request(b"hello"))
            await eventually(lambda: bool(judge.calls))
            assert host.running() == 1
            assert judge.asked == []
            judge.calls[0].respond(response(b"late"))
            assert await reader.readuntil(b"plain") == response(b"late") + response(b"plain")
            assert host.running() == 0
            writer.write(request(b"later"))
            await eventually(lambda: len(judge.calls) == 2)
            writer.close()
            await eventually(lambda: judge.calls[1].is_cancelled)
            assert host.running() == 0

    asyncio.run(test())


def test_a_host_that_retires_says_so_in_the_responses_to_known_heads_too() -> None:
    async def test() -> None:
        judge = Judge()
        async with served(judge) as (host, port):
            late_reader, late_writer = await asyncio.open_connection("127.0.0.1", port)
            late_writer.write(request(b"later"))
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"hello"))
            await reader.readuntil(b"plain")
            host.retire()
            judge.calls[0].respond(response(b"late"))
            assert b"\r\nConnection: close\r\n" in await late_reader.read()
            writer.write(request(b"hello"))
            assert b"\r\nConnection: close\r\n" in await reader.read()
            late_writer.close()
            writer.close()

    asyncio.run(test())


def test_requests_with_a_known_head_are_counted_by_the_client_of_a_proxy() -> None:
    async def test() -> None:
        judge = Judge("10.0.0.9")
        async with served(judge, Limits(client_connections=1)) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"later"))
            await eventually(lambda: bool(judge.calls))
            assert (await answered(port, request(b"hello"), b"\r\n\r\n")).startswith(b"HTTP/1.1 429 ")
            judge.calls[0].respond(response(b"late"))
            await reader.readuntil(b"late")
            assert await answered(port, request(b"hello"), b"plain") == response(b"plain")
            writer.close()

    asyncio.run(test())


def test_a_call_that_takes_its_time_on_the_full_way_runs_once() -> None:
    ran: list[int] = []
    registry = Registry()

    @registry.register
    def run(number: int) -> int:
        ran.append(number)
        return number

    with serving(registry) as server, Wire(server.port) as wire:
        for number in range(4):
            body = b'<?xml version="1.0"?><!-- is not usual --><methodCall><methodName>run</methodName><params><param>'
            body += b"<value><int>%d</int></value></param></params></methodCall>" % number
            wire.send(request(body, b"Content-Type: text/xml"))
            received = wire.read()
            assert received is not None
            assert b"<int>%d</int>" % number in received.body
    assert ran == [0, 1, 2, 3]


async def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never comes true")
