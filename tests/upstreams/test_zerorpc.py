"""ZeroRPC: the articles' object, values, streams and heartbeats against its own library; and servers that are odd."""

import asyncio
import json
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from xmlrpc.client import ServerProxy

import msgspec
import pytest
from msgspec.structs import replace

from gateway.upstreams.zerorpc.connection import Connection
from tests.conftest import Logged
from tests.raw_http import post
from tests.upstreams.kinds import KINDS, router
from tests.upstreams.running import Program, Served, broken, serve_upstream, until

ZERO = next(kind for kind in KINDS if kind.name == "zerorpc")
OLD = replace(ZERO, command=(*ZERO.command, "old"))
QUICK = "heartbeat = 0.3\nstream = 1000"
UNAVAILABLE, DEADLINE, BAD = -32002, -32001, -32004


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with Program(ZERO) as running:
        yield running


@contextmanager
def served(program: Program, folder: Path, more: str = QUICK) -> Iterator[Served]:
    with serve_upstream(ZERO, program.port, folder, more) as up:
        until(lambda: up.offers("add"))
        yield up


def test_the_object_that_is_got_and_sent(program: Program, tmp_path: Path) -> None:
    with serve_upstream(ZERO, program.port, tmp_path, "prefix = ''") as up:
        until(lambda: up.server.gateway.registry.get("getObj", "xmlrpc"))
        thing = {"name": "thing", "parts": [1, 2.5, None, True, "ü"], "data": b"\0\xff"}
        with ServerProxy(up.server.url, allow_none=True, use_builtin_types=True) as server:
            for number in range(500):
                assert server.sendObj({**thing, "number": number}) is True
            for _ in range(500):
                assert server.getObj() == {**thing, "number": 499}
        for method, params, result in (("sendObj", [[1, None]], True), ("getObj", [], [1, None])):
            call = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
            assert json.loads(post(up.server.port, json.dumps(call).encode()).body)["result"] == result


def test_values_that_not_every_protocol_has(program: Program, tmp_path: Path) -> None:
    with served(program, tmp_path) as up:
        for value in (2**64 - 1, -(2**63), 2**53 + 1, [{"a": "\0\x01"}], "x" * 300_000, list(range(100_000))):
            assert up.call("echo", value) == value
        with ServerProxy(up.server.url, use_builtin_types=True) as server:
            assert server.up.echo([b"\0\xff", {"": b""}]) == [b"\0\xff", {"": b""}]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**64, "params[0]: cannot be sent as MessagePack: an int beyond 64 bits"),
        ([1, {"a": -(2**63) - 1}], "params[0][1].a: cannot be sent as MessagePack: an int beyond 64 bits"),
    ],
)
def test_what_cannot_be_said_is_refused_before_a_byte_is_sent(value: Any, reason: str, tmp_path: Path) -> None:
    with serve_upstream(ZERO, 1, tmp_path, "methods = ['echo']") as up:
        error = up.answer("echo", value)["error"]
        assert (error["code"], error["data"]["detail"]) == (-32602, reason)


def test_moments_are_refused(tmp_path: Path) -> None:
    moment = b"<value><dateTime.iso8601>20260101T00:00:00</dateTime.iso8601></value>"
    call = b"<methodCall><methodName>up.echo</methodName><params><param>%b</param></params></methodCall>" % moment
    with serve_upstream(ZERO, 1, tmp_path, "methods = ['echo']") as up:
        said = post(up.server.port, call, "text/xml").body
    assert b"params[0]: cannot be sent as MessagePack: a datetime; send it as text or a number" in said


FAULTS: list[tuple[str, tuple[Any, ...], int, str]] = [
    ("crash", ("a reason",), -32000, "a reason"),
    ("crash_inside", (), -32000, "the upstream failed"),
    ("undefined", (), -32000, "name 'x' is not defined"),
    ("divide", (1, 0), -32000, "division by zero"),
    ("add", (1,), -32602, "the method missing 1 required positional argument: 'b'"),
    ("add", (1, 2, 3), -32602, "the method takes 2 positional arguments but 3 were given"),
    ("odd", ("moment",), -32000, "can not serialize 'datetime.datetime' object"),
    ("odd", ("key",), BAD, "result[0].a: the name of a member must be a string, not int"),
    ("odd", ("deep",), BAD, "nested too deeply"),
    ("count", (5, 3), -32000, "enough"),
    ("count", (1001,), BAD, "the response stream has more than 1000 values, or more bytes than are taken"),
    ("fill", (40_000,), BAD, "the response stream has more than 1000 values, or more bytes than are taken"),
    ("missing", (), -32601, "the upstream has no such method"),
]


@pytest.mark.parametrize(("method", "params", "code", "message"), FAULTS)
def test_faults(
    method: str, params: tuple[Any, ...], code: int, message: str, *, program: Program, tmp_path: Path, logged: Logged
) -> None:
    names = ["add", method] if method != "add" else ["add"]
    with serve_upstream(ZERO, program.port, tmp_path, f"{QUICK}\nmethods = {names}") as up:
        error = up.answer(method, *params)["error"]
        assert error["code"] == code
        assert message in json.dumps(error, ensure_ascii=False)
        if method == "divide":
            assert error["data"] == {"type": "ZeroDivisionError"}
        assert up.call("add", 1, 2) == 3
    logged.take("upstream up: Bad upstream")


def test_streams(program: Program, tmp_path: Path) -> None:
    with served(program, tmp_path) as up:
        assert up.call("count", 0) == []
        with ThreadPoolExecutor(8) as pool:
            assert set(map(len, pool.map(lambda _: up.call("count", 1000), range(8)))) == {1000}
        assert up.call("count", 777) == list(range(777))


def test_a_call_that_takes_longer_than_the_servers_patience(program: Program, tmp_path: Path) -> None:
    """The server gives up callers who say nothing for two of its heartbeats of 0.5 s."""
    with served(program, tmp_path) as up, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda seconds: up.call("pause", seconds), (2.5, 2.0))) == [2.5, 2.0]


def test_a_server_without_a_sign_of_life(tmp_path: Path, logged: Logged) -> None:
    with Program(ZERO) as program, served(program, tmp_path) as up:
        program.signal(signal.SIGSTOP)
        try:
            error = up.answer("add", 1, 2)["error"]
        finally:
            program.signal(signal.SIGCONT)
        assert (error["code"], error["data"]["sent"]) == (UNAVAILABLE, "maybe")
        assert "sends no heartbeats" in error["message"]
        assert up.call("add", 1, 2) == 3
    assert logged.take("is down: Unavailable: the upstream sends no heartbeats")


def test_parameters_are_told_where_the_library_can(tmp_path: Path) -> None:
    with Program(OLD) as program, served(program, tmp_path) as up:
        assert up.call("subtract", b=1, a=3) == up.call("subtract", 3) == 2
        assert up.answer("subtract", c=1, a=1)["error"]["data"]["detail"] == "params.c: there is no such parameter"
        assert up.answer("subtract")["error"]["data"]["detail"] == "params.a: missing"
        with ServerProxy(up.server.url) as server:
            assert server.system.methodHelp("up.subtract") == "Take b from a."
            names: Any = server.system.listMethods()
            assert "up._zerorpc_list" not in names


def ok(value: Any) -> Callable[[bytes], bytes]:
    return lambda call_id: event(call_id, "OK", [value])


def event(call_id: Any, name: Any, args: Any) -> bytes:
    body = msgspec.msgpack.encode([{"message_id": b"1", "v": 3, "response_to": call_id}, name, args])
    return b"\1\0\2" + len(body).to_bytes(8) + body


@contextmanager
def answering(answer: Callable[[bytes], bytes], folder: Path) -> Iterator[Served]:
    """Serve a gateway in front of a server that answers each call as a function says, which gets the call's id."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection: socket.socket) -> None:
            with suppress(OSError), closing(connection):
                connection.recv(65536)
                connection.sendall(router())
                while data := connection.recv(65536):
                    start = 4 if data[2] in (0, 1) else 11
                    connection.sendall(answer(msgspec.msgpack.decode(data[start:])[0]["message_id"]))

        threading.Thread(target=serve, daemon=True).start()
        with serve_upstream(
            ZERO, server.getsockname()[1], folder, "methods = ['add', 'echo']\ntimeout = { '*' = 2 }"
        ) as up:
            yield up
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "before",
    [
        lambda _: event(b"unknown", "OK", [1]),
        lambda _: event(None, "OK", [1]),
        lambda _: event({"a": 1}, "OK", [1]),
        lambda call_id: event(call_id, "_zpc_more", [5]),
        lambda call_id: event(call_id, "_zpc_hb", [0]),
        lambda call_id: event(call_id, "NEW", [1]),
        lambda call_id: event(call_id, 3, [1]),
    ],
)
def test_what_belongs_to_no_call_is_passed_over(before: Callable[[bytes], bytes], tmp_path: Path) -> None:
    with answering(lambda call_id: before(call_id) + ok(3)(call_id), tmp_path) as up:
        assert [up.call("add", 1, 2) for _ in range(3)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("name", "args", "code", "message"),
    [
        ("OK", [], BAD, "the response is not one value"),
        ("OK", [1, 2], BAD, "the response is not one value"),
        ("OK", 3, BAD, "the response is not one value"),
        ("OK", [msgspec.msgpack.Ext(5, b"x")], BAD, "result: an extension type of MessagePack"),
        ("STREAM", {"a": [{2: 1}]}, BAD, "result.a[0]: the name of a member must be a string, not int"),
        ("ERR", ["RuntimeError('of version 1')"], -32000, "the upstream failed"),
        ("ERR", ["A", "b", "Traceback (most recent call last):\n  File x"], -32000, "b"),
        ("ERR", ["A", "b\nTraceback (most recent call last):\n  File x", ""], -32000, "b"),
        ("ERR", ["A", None, 3], -32000, "the upstream failed"),
        ("ERR", None, -32000, "the upstream failed"),
    ],
)
def test_answers_that_are_odd(name: str, args: Any, code: int, message: str, *, tmp_path: Path, logged: Logged) -> None:
    with answering(lambda call_id: event(call_id, name, args), tmp_path) as up:
        for _ in range(2):
            error = up.answer("echo", 1)["error"]
            assert (error["code"], message in error["message"]) == (code, True), error
    logged.take("upstream up: ")


def test_a_text_that_is_no_utf8_is_the_fault_of_its_own_call_only(tmp_path: Path, logged: Logged) -> None:
    spoilt = iter([True, False, True])

    def answer(call_id: bytes) -> bytes:
        said = ok("text")(call_id)
        return said.replace(b"text", b"\xff\xfe\xff\xfe") if next(spoilt) else said

    with answering(answer, tmp_path) as up:
        assert up.fault("echo", 1) == (BAD, "maybe")
        assert up.call("echo", 1) == "text"
        assert up.fault("echo", 1) == (BAD, "maybe")
    assert len(logged.take("a text that is not UTF-8")) == 2


def test_a_ping_is_answered(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with closing(connection):
            connection.recv(65536)
            connection.sendall(router() + b"\4\x09\4PING\0\x05ab")
            seen.append(connection.recv(65536))
            while len(seen[-1]) < 30:
                seen[-1] += connection.recv(65536)
            start = seen[-1].index(b"\1\0") + 4
            connection.sendall(ok(3)(msgspec.msgpack.decode(seen[-1][start:])[0]["message_id"]))
            connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        with serve_upstream(ZERO, server.getsockname()[1], tmp_path, "methods = ['add']") as up:
            assert up.call("add", 1, 2) == 3
    assert seen[0].startswith(b"\4\7\4PONGab")


GREETINGS: list[tuple[bytes, str]] = [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the upstream does not speak ZeroMQ"),
    (b"\xff" + b"\0" * 9, "the upstream does not speak ZeroMQ"),
    (b"\xff" + b"\0" * 8 + b"\x7f\1", "the upstream's ZeroMQ is older than version 4"),
    ((b"\xff" + b"\0" * 8 + b"\x7f\3\0CURVE").ljust(64, b"\0"), "requires a security mechanism"),
    (router(b"PUB"), "socket is not a ROUTER"),
    (router()[:64] + b"\4\6\5ERROR", "the upstream refused the connection"),
    (router()[:64] + b"\4\0", "the upstream refused the connection"),
    (router()[:64] + b"\4\x08\5READY\1a", "the upstream's READY command is cut off"),
    (router()[:64] + b"\0\0", "the upstream sent a message before it was ready"),
]


@pytest.mark.parametrize(("greeting", "reason"), GREETINGS)
def test_a_server_that_is_no_zerorpc_server(greeting: bytes, reason: str, tmp_path: Path, logged: Logged) -> None:
    with broken(greeting) as port, serve_upstream(ZERO, port, tmp_path, "methods = ['add']") as up:
        error = up.answer("add", 1, 2)["error"]
        assert (error["code"], error["data"]["sent"]) == (BAD, "no")
        assert reason in error["message"]
    assert logged.take(reason)


def test_a_server_that_says_nothing_at_all(tmp_path: Path, logged: Logged) -> None:
    with broken(b"") as port, serve_upstream(ZERO, port, tmp_path, "methods = ['add']\nconnect_timeout = 0.2") as up:
        assert up.fault("add", 1, 2) == (UNAVAILABLE, "no")
    assert logged.take("is down: TimeoutError")


def test_all_of_the_librarys_exceptions_have_an_answer() -> None:
    """Its client raises these three: here sends no heartbeats, the frame's deadline, and the service's own fault."""
    code = (
        "import zerorpc.exceptions as e; print(sorted(n for n, k in vars(e).items()"
        " if isinstance(k, type) and issubclass(k, Exception)))"
    )
    ran = subprocess.run([ZERO.command[0], "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "['LostRemote', 'RemoteError', 'TimeoutExpired']"


class _Transport:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.written.append(b"aborted")


def test_pings_of_a_server_that_reads_nothing_are_not_answered() -> None:
    ping = b"\4\x09\4PING\0\x05ab"

    async def talk() -> list[bytes]:
        transport, connection = _Transport(), Connection(65536, 60, 10, 5.0)
        connection.connection_made(cast("asyncio.Transport", transport))
        connection.data_received(router() + ping)
        connection.pause_writing()
        connection.data_received(ping * 1000)
        connection.resume_writing()
        connection.data_received(ping)
        return transport.written[1:]

    assert asyncio.run(talk()) == [b"\4\7\4PONGab"] * 2


def test_a_ping_that_is_too_long_ends_the_connection() -> None:
    async def talk() -> list[bytes]:
        transport, connection = _Transport(), Connection(65536, 60, 10, 5.0)
        connection.connection_made(cast("asyncio.Transport", transport))
        connection.data_received(router())
        for size in (18, 19):
            connection.data_received(b"\4" + bytes((5 + size,)) + b"\4PING" + bytes(size))
        return transport.written[1:]

    assert asyncio.run(talk()) == [b"\4\x15\4PONG" + bytes(16), b"aborted"]
