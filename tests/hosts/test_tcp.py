"""JSON-RPC over plain TCP, by raw sockets."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Self

import pytest

from gateway import Context, Registry
from gateway.hosts.listening import bind
from gateway.hosts.tcp import TCPHost
from gateway.model.http import HTTPRequest, HTTPResponse
from gateway.model.limits import Limits
from gateway.wire.framing import JSONTexts, Lines
from tests.scraping import scrape
from tests.serving import Server, serving
from tests.upstreams.running import until

SETTINGS: dict[str, Any] = {
    "server.tcp": "127.0.0.1:0",
    "limits.max_body": 4096,
    "limits.in_flight": 4,
    "limits.idle_timeout": 1,
    "limits.body_timeout": 1,
    "limits.write_timeout": 1,
    "limits.linger": 1,
}
registry = Registry()
running: list[int] = []
begun: list[int] = []
ended: list[str] = []


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register
async def wait(seconds: float) -> float:
    running.append(1)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise
    finally:
        running.pop()
    return seconds


@registry.register(run="inline")
def large() -> str:
    return "x" * 200_000


@registry.register(run="inline")
def count() -> None:
    begun.append(1)


@registry.register(run="inline")
def bulky() -> str:
    begun.append(1)
    return "x" * 300_000


@registry.register(run="inline")
def told(context: Context) -> list[str]:
    return [context.client, context.protocol, context.headers["content-type"]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, SETTINGS) as found:
        yield found


@pytest.fixture(scope="module")
def lines() -> Iterator[Server]:
    with serving(registry, SETTINGS | {"server.tcp_framing": "newline"}) as found:
        yield found


class Client:
    """A connection that speaks lines."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.lines = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lines.close()
        self.socket.close()

    def send(self, *calls: dict[str, Any] | bytes) -> None:
        self.socket.sendall(
            b"".join(call if isinstance(call, bytes) else json.dumps(call).encode() + b"\n" for call in calls)
        )

    def read(self) -> Any:
        """Read an answer; None where the connection is closed instead."""
        line = self.lines.readline()
        return json.loads(line) if line else None


def call(method: str, *params: Any, call_id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": list(params), "id": call_id}


def test_a_call_a_batch_a_notification_and_nonsense(server: Server) -> None:
    with Client(server.tcp_port) as client:
        client.send(call("add", 1, 2))
        assert client.read() == {"jsonrpc": "2.0", "result": 3, "id": 1}
        client.send(b'{"jsonrpc":"2.0","method":"add","params":[1,2]}\n\r\n\n', call("add", 3, 4, call_id="x"))
        assert client.read() == {"jsonrpc": "2.0", "result": 7, "id": "x"}
        client.send(json.dumps([call("add", 1, 1), call("nothing", call_id=2)]).encode() + b"\r\n")
        first, second = client.read()
        assert (first["result"], second["error"]["code"]) == (2, -32601)
        client.send(b"42\n", call("told"))
        assert client.read()["error"]["code"] == -32600
        assert client.read()["result"] == ["127.0.0.1", "jsonrpc", "application/json"]


@pytest.mark.parametrize("line", [b"rubbish", b"<methodCall/>", b'{"jsonrpc":"2.0",', b"[1] 2", b"Host: localhost"])
def test_nothing_behind_a_line_that_is_not_json_is_run(line: bytes, lines: Server) -> None:
    nothing_is_run_behind(line, lines)


@pytest.mark.parametrize(
    "text", [b"rubbish", b"<methodCall/>", b"[1,]", b"{x}", b"}", b"[}", b"Host: localhost", b"nul"]
)
def test_nothing_behind_bytes_that_are_not_json_is_run(text: bytes, server: Server) -> None:
    nothing_is_run_behind(text, server)


def nothing_is_run_behind(line: bytes, server: Server) -> None:
    begun.clear()
    with Client(server.tcp_port) as client:
        client.send(call("count"), line + b"\n" + json.dumps(call("count")).encode() + b"\n", call("count"))
        answers = [client.read(), client.read()]
        assert sorted(answer.get("error", {}).get("code", 0) for answer in answers) == [-32700, 0]
        client.send(call("count"))
        assert client.read() is None
    assert len(begun) == 1


@pytest.mark.parametrize("framing", ["json", "newline", "netstring"])
@pytest.mark.parametrize("verb", [b"POST", b"GET", b"OPTIONS"])
def test_a_web_page_cannot_call_a_method_here(verb: bytes, framing: str) -> None:
    """A browser POSTs text/plain to any port without asking, and the body of that would be a line like any other."""
    begun.clear()
    with (
        serving(registry, SETTINGS | {"server.tcp_framing": framing}) as server,
        socket.create_connection(("127.0.0.1", server.tcp_port), timeout=20) as client,
    ):
        body = json.dumps(call("count")).encode() + b"\n"
        head = b"%b /api HTTP/1.1\r\nHost: localhost\r\nOrigin: http://page.example\r\n" % verb
        client.sendall(head + b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert received(client) == b""
    assert begun == []


@pytest.mark.parametrize("verb", [b"P", b"POST", b"POST "])
def test_a_request_line_need_not_be_whole_to_be_known(verb: bytes, server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.tcp_port), timeout=20) as client:
        client.sendall(verb)
        assert received(client) == b""


@pytest.mark.parametrize("between", [b"", b" ", b"\0", b"\n\n", b"\r\n"])
def test_json_texts_are_answered_one_by_one_with_anything_or_nothing_between(between: bytes, server: Server) -> None:
    texts = [json.dumps(call("add", number, 1, call_id=number)).encode() for number in range(3)]
    with Client(server.tcp_port) as client:
        client.send(between.join(texts))  # nothing follows the last one
        assert [client.read()["result"] for _ in texts] == [1, 2, 3]
        for text in texts:
            client.send(text)
            assert client.read()["result"]


@pytest.mark.parametrize(
    ("framing", "call_of_one", "bad"),
    [
        ("json", b"%b", b"\x01"),
        ("newline", b"%b\n", b"\x01\n"),
        ("netstring", b"54:%b,", b"?"),
        ("json", b"%b", b"[" + b" " * 5000),
        ("newline", b"%b\n", b"x" * 5000),
        ("netstring", b"54:%b,", b"5000:"),
    ],
)
def test_whole_messages_before_a_bad_one_in_one_segment_are_answered(
    framing: str, call_of_one: bytes, bad: bytes
) -> None:
    message = ADD.strip()
    assert len(message) == 54
    with (
        serving(registry, SETTINGS | {"server.tcp_framing": framing}) as server,
        socket.create_connection(("127.0.0.1", server.tcp_port), timeout=20) as client,
    ):
        client.sendall(call_of_one % message * 3 + bad + call_of_one % message)
        data = received(client)
        assert data.count(b'"result":5') == 3
        assert (data.count(b"-32700"), data.count(b"-32006")) == ((1, 0) if len(bad) < 5 else (0, 1))


def received(client: socket.socket) -> bytes:
    """Read until the end, or until the connection is reset."""
    data = b""
    with suppress(ConnectionResetError):
        while more := client.recv(65536):
            data += more
    return data


def test_a_byte_order_mark_is_no_part_of_the_text(server: Server) -> None:
    with Client(server.tcp_port) as client:
        client.send(b"\xef\xbb\xbf", call("add", 1, 2), call("add", 1, 3))
        assert [client.read()["result"], client.read()["result"]] == [3, 4]


def test_bytes_one_by_one(server: Server) -> None:
    with Client(server.tcp_port) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in json.dumps(call("add", 1, 2)).encode() + b"\n":
            client.send(bytes([byte]))
        assert client.read()["result"] == 3


def test_calls_of_one_connection_run_together_and_within_bounds(server: Server) -> None:
    with Client(server.tcp_port) as client:
        client.send(*(call("wait", 0.5, call_id=number) for number in range(8)), call("add", 1, 1, call_id=8))
        until(lambda: len(running) == 4)
        time.sleep(0.1)
        assert len(running) == 4
        answers = [client.read() for _ in range(9)]
        assert sorted(answer["id"] for answer in answers) == list(range(9))
        client.send(call("wait", 0.5, call_id="slow"), call("add", 1, 1, call_id="fast"))
        assert [client.read()["id"], client.read()["id"]] == ["fast", "slow"]


def test_many_calls_in_one_segment(server: Server) -> None:
    with Client(server.tcp_port) as client:
        client.send(*(call("add", number, 1, call_id=number) for number in range(2000)))
        assert [client.read()["result"] for _ in range(2000)] == list(range(1, 2001))


@pytest.mark.parametrize("tail", [b"", b"\n", b" " * 500_000])
def test_what_is_too_long_is_refused_and_ends_the_connection(tail: bytes, server: Server) -> None:
    with Client(server.tcp_port) as client:
        client.send(call("add", 1, 2))
        assert client.read()["result"] == 3
        client.send(b"[" + b" " * 5000 + tail)
        assert client.read()["error"]["code"] == -32006
        assert client.read() is None


def test_half_closed_is_still_answered(server: Server) -> None:
    with Client(server.tcp_port) as client:
        client.send(call("wait", 0.3), call("add", 1, 2, call_id=2))
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.read()["id"], client.read()["id"], client.read()] == [2, 1, None]


@pytest.mark.parametrize(
    ("sent", "answered"),
    [(b'{"jsonrpc":"2.0","method":"add","params":[1,2],"id":3}', b'"result":3'), (b'{"jsonrpc":"2.0",', b"-32700")],
)
@pytest.mark.parametrize("framing", ["json", "newline"])
def test_the_last_line_may_lack_its_end(sent: bytes, answered: bytes, framing: str) -> None:
    with (
        serving(registry, SETTINGS | {"server.tcp_framing": framing}) as server,
        socket.create_connection(("127.0.0.1", server.tcp_port), timeout=20) as client,
    ):
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answered in answer
        assert answer.count(b"\n") == 1


def test_a_client_that_is_gone_has_its_calls_cancelled(server: Server) -> None:
    ended.clear()
    with Client(server.tcp_port) as client:
        client.send(call("wait", 30))
        until(lambda: running)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset
    until(lambda: ended)


@pytest.mark.parametrize("begun", [b"", b'{"jsonrpc"'])
def test_idle_and_slow_connections_are_closed(begun: bytes, server: Server) -> None:
    with Client(server.tcp_port) as client:
        client.send(call("wait", 1.5))
        assert client.read()["result"] == 1.5, "a call that runs is not idle"
        client.send(begun)
        start = time.monotonic()
        assert client.read() is None
        assert 0.5 < time.monotonic() - start < 10


def test_a_client_that_reads_slowly_gets_all_of_its_answer() -> None:
    with serving(registry, SETTINGS) as server, Client(server.tcp_port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.send(*(call("large", call_id=number) for number in range(60)))
        client.socket.shutdown(socket.SHUT_WR)
        got = rests = 0
        while piece := client.socket.recv(40_000):
            got += len(piece)
            if got > rests * 400_000:
                rests += 1
                time.sleep(0.1)  # which makes three seconds, three times the limit for who takes nothing
        assert got > 60 * 200_000


def test_at_one_connection_too_many_the_one_that_has_waited_for_longest_ends() -> None:
    with (
        serving(registry, SETTINGS | {"limits.connections": 4, "limits.idle_timeout": 60}) as server,
        Client(server.tcp_port) as busy,
        Client(server.tcp_port) as idle,
    ):
        busy.send(call("wait", 2))
        idle.send(call("add", 1, 1))
        assert idle.read()["result"] == 2
        until(lambda: running)
        with Client(server.tcp_port) as late:
            late.send(call("add", 1, 2))
            assert late.read()["result"] == 3
            assert idle.read() is None
            assert busy.read()["result"] == 2


def test_a_client_that_reads_nothing_is_closed_and_costs_little(server: Server) -> None:
    with Client(server.tcp_port) as client:
        calls = (json.dumps(call("large")).encode() + b"\n") * 100
        with pytest.raises(OSError):  # noqa: PT011, PT012 - reset or broken pipe, as it comes
            while True:
                client.send(calls)


def test_no_more_calls_are_begun_for_a_client_that_does_not_read() -> None:
    """3,000 answers of 300 kB would be 900 MB; what is begun is what the kernel takes, and one answer more."""
    begun.clear()
    with (
        serving(registry, SETTINGS | {"limits.max_body": 2**20, "limits.write_timeout": 60}) as server,
        Client(server.tcp_port) as client,
    ):
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.send(*(call("bulky", call_id=number) for number in range(3000)))
        until(lambda: begun)
        with Client(server.tcp_port) as other:
            for _ in range(200):  # turns of the server's loop, in each of which it could begin more
                other.send(call("add", 1, 2))
                assert other.read()["result"] == 3
        assert len(begun) * 300_000 < 16 * 2**20
        assert client.read()["id"] == 0


def test_netstrings() -> None:
    body = json.dumps(call("add", 1, 2)).encode()
    answer = b'{"jsonrpc":"2.0","result":3,"id":1}'
    expected = b"%d:%b," % (len(answer), answer)
    with (
        serving(registry, SETTINGS | {"server.tcp_framing": "netstring"}) as server,
        socket.create_connection(("127.0.0.1", server.tcp_port), timeout=20) as client,
    ):
        client.sendall((b"%d:%b," % (len(body), body)) * 2)
        assert read(client, 2 * len(expected)) == expected * 2
        client.sendall(b"what?")
        assert b'"code":-32700' in read(client, 2**20)


def read(client: socket.socket, most: int) -> bytes:
    """Read so many bytes, or what comes until the end."""
    data = b""
    while len(data) < most and (more := client.recv(most - len(data))):
        data += more
    return data


@pytest.mark.parametrize(
    ("refusal", "seen"),
    [
        (HTTPResponse(status=403, headers=(("Content-Type", "application/json"),), body=b'{"no":1}'), b'{"no":1}\n'),
        (HTTPResponse(status=403, headers=(("Content-Type", "text/plain"),), body=b"no"), b""),
    ],
)
def test_a_peer_that_is_not_admitted_is_refused_and_closed(refusal: HTTPResponse, seen: bytes) -> None:
    """Rules by address come in here: ``admit`` sees the peer before a byte is read."""
    peers: list[str] = []

    def admit(head: HTTPRequest) -> HTTPResponse:
        peers.append(head.peer)
        return refusal

    async def test() -> None:
        host = TCPHost(admit, Limits(linger=1), "/api", Lines)
        sockets = bind("127.0.0.1", 0, 10)
        host.serve(sockets)
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        writer.write(b'{"jsonrpc":"2.0","method":"add","id":1}\n')
        assert await asyncio.wait_for(reader.read(), 20) == seen
        writer.close()
        host.retire()
        await host.close()

    asyncio.run(test())
    assert peers == ["127.0.0.1"]


class Echo:
    """Answers each message with itself."""

    client = "127.0.0.1"

    async def answer(self, body: bytes) -> HTTPResponse:
        return HTTPResponse(body=body)

    def too_large(self) -> HTTPResponse:
        return HTTPResponse(status=413)

    def too_many(self) -> HTTPResponse:
        return HTTPResponse(status=429)

    def unreadable(self, status: int, reason: str) -> HTTPResponse:
        return HTTPResponse(status=status, body=reason.encode())


def test_the_time_of_a_message_begins_with_its_first_byte_and_its_progress_is_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        host = TCPHost(lambda _: Echo(), Limits(), "/api", JSONTexts)
        begun: list[float] = []
        sizes: list[int] = []
        monkeypatch.setattr(host.connections, "note_body", lambda _, time: begun.append(time))
        monkeypatch.setattr(host.connections, "note_progress", lambda _, size: sizes.append(size))
        sockets = bind("127.0.0.1", 0, 10)
        host.serve(sockets)
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        writer.write(b"[1,")
        await eventually(lambda: len(sizes) == 1)
        writer.write(b"2,")
        await eventually(lambda: len(sizes) == 2)
        writer.write(b"3][4")
        assert await reader.readline() == b"[1,2,3]\n"
        await eventually(lambda: len(sizes) == 3)
        first, *_, last = begun
        assert begun[:2] == [first, first]
        assert first < last
        assert sizes == [3, 2, 4]
        writer.close()
        host.retire()
        await host.close()

    asyncio.run(test())


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def test_a_connection_that_is_closed_before_it_is_made_ends() -> None:
    asked: list[HTTPRequest] = []

    def admit(head: HTTPRequest) -> HTTPResponse:
        asked.append(head)
        return HTTPResponse(status=403)

    async def test() -> None:
        host = TCPHost(admit, Limits(linger=60), "/api", Lines)
        sockets = bind("127.0.0.1", 0, 10)
        host.serve(sockets)
        client = socket.create_connection(sockets[0].getsockname())
        while not host.connected():  # noqa: ASYNC110 - it is a matter of turns of the loop
            await asyncio.sleep(0)
        host.retire()
        await host.close()
        assert host.connected() == 0
        reader, writer = await asyncio.open_connection(sock=client)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        assert asked == []

    asyncio.run(test())


# Access rules

ADD = b'{"jsonrpc":"2.0","method":"add","params":[2,3],"id":1}\n'


def answered(port: int, *messages: bytes) -> list[Any]:
    """Send messages on one connection, and return their answers; a lost connection has no more of them."""
    with Client(port) as client:
        client.socket.sendall(b"".join(messages))
        client.socket.shutdown(socket.SHUT_WR)
        return [json.loads(line) for line in client.lines]


def test_who_is_not_allowed_is_refused_and_closed() -> None:
    with serving(registry, SETTINGS | {"access.allow": "10.0.0.0/8"}) as server:
        (answer,) = answered(server.tcp_port, ADD, ADD)
    assert answer == {"jsonrpc": "2.0", "error": {"code": -32005, "message": "Denied"}, "id": None}


def test_where_keys_are_needed_nobody_is_let_in_here() -> None:
    keys = json.dumps({"odoo": "sha256:" + "0" * 64})
    with serving(registry, SETTINGS | {"access.keys": keys}) as server:
        assert [answer["error"]["code"] for answer in answered(server.tcp_port, ADD)] == [-32005]
    with serving(registry, SETTINGS | {"access.keys": keys, "access.anonymous": "true"}) as server:
        assert [answer["result"] for answer in answered(server.tcp_port, ADD)] == [5]


def test_rules_for_methods_hold_here() -> None:
    rules = json.dumps([{"methods": ["add"], "networks": ["10.0.0.0/8"]}])
    with serving(registry, SETTINGS | {"access.rules": rules}) as server:
        told_so = answered(server.tcp_port, ADD, ADD.replace(b"add", b"told").replace(b"[2,3]", b"[]"))
    assert [answer.get("error", {}).get("code") for answer in told_so] == [-32005, None]


def test_each_call_is_charged_and_a_refusal_bears_its_id() -> None:
    batch = b"[%b,%b]\n" % (ADD.strip(), ADD.strip())
    with serving(registry, SETTINGS | {"limits.client_rate": 0.01, "limits.client_burst": 4}) as server:
        answers = answered(server.tcp_port, ADD, b"{}\n", batch, ADD.replace(b":1}", b":7}"))
    assert [answer["result"] for answer in (answers[0], *answers[2])] == [5, 5, 5]
    assert (answers[3]["error"]["code"], answers[3]["id"]) == (-32003, 7)


def test_messages_are_counted_by_the_metrics(server: Server) -> None:
    before = scrape(server.metrics).of("gateway_calls_total", method="add", protocol="jsonrpc")
    assert len(answered(server.tcp_port, ADD, ADD)) == 2
    until(lambda: scrape(server.metrics).of("gateway_calls_total", method="add", protocol="jsonrpc") == before + 2)
