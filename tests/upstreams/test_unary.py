"""Unary calls of gRPC on the wire: servers that say by HTTP/2 what the genuine library's servers rarely do."""

import asyncio
import functools
import gzip
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from msgspec.structs import replace

from gateway.upstreams import Invocation
from gateway.upstreams.grpc.hpack import HeaderBlocks, literal
from gateway.upstreams.grpc.unary import Connection, UnaryCall, framed
from gateway.upstreams.transport.pool import Pool
from tests.conftest import Logged
from tests.raw_http import exchange, request
from tests.serving import free_port
from tests.upstreams.kinds import TYPED, Kind, descriptors, h2
from tests.upstreams.running import Program, Served, listens, serve_upstream, until

PROTO = descriptors("programs")
GRPC = next(kind for kind in TYPED if kind.name == "grpc")
VALUES = replace(GRPC, options="service = 'programs.Failing'")
HEAD = [(":status", "200"), ("content-type", "application/grpc")]
OK = [("grpc-status", "0"), ("grpc-message", "")]
SEVEN = b"\0\0\0\0\2\x08\7"
CODED_HEAD = b"\x88" + literal(b"content-type", b"application/grpc")
CODED_OK = literal(b"grpc-status", b"0")
BAD, DEADLINE, UNAVAILABLE, OVERLOADED, DENIED, NO_METHOD = -32004, -32001, -32002, -32003, -32005, -32601


class Peer:
    """A client of ours at the other end of a connection.

    Attributes:
        number: which connection it is, from 1.
        headers: of each stream.
        bodies: likewise.
        resets: the streams that the client has reset, and the codes.

    """

    def __init__(self, connection: socket.socket, number: int, settings: dict[SettingCodes, int]) -> None:
        self.number = number
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        # what is not given is as h2 has it
        self.h2.local_settings = Settings(client=False, initial_values={SettingCodes.MAX_FRAME_SIZE: 16384, **settings})
        self.h2.initiate_connection()
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.resets: dict[int, int] = {}
        self.wire = connection

    def send(self, raw: bytes = b"") -> None:
        self.wire.sendall(self.h2.data_to_send() + raw)

    def answer(self, stream: int, *messages: bytes, head: Any = HEAD, trailers: Any = OK) -> None:
        self.h2.send_headers(stream, head)
        for message in messages:
            self.h2.send_data(stream, message)
        self.h2.send_headers(stream, trailers, end_stream=True)
        self.send()


Script = Callable[[Peer, int], None]


class Speaker:
    """A server whose responses a test writes."""

    def __init__(self, script: Script, settings: dict[SettingCodes, int], tls: ssl.SSLContext | None) -> None:
        self.peers: list[Peer] = []
        self.errors: list[Exception] = []
        self._script = script
        self._settings = settings
        self._tls = tls
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.server.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.server.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            peer = Peer(connection, len(self.peers) + 1, self._settings)
            self.peers.append(peer)
            peer.send()
            try:
                while data := connection.recv(65536):
                    for event in peer.h2.receive_data(data):
                        self._note(peer, event)
                    peer.send()
            except ProtocolError as error:
                self.errors.append(error)

    def _note(self, peer: Peer, event: Any) -> None:
        if isinstance(event, RequestReceived):
            peer.headers[event.stream_id] = {str(name): str(value) for name, value in event.headers}
            peer.bodies[event.stream_id] = b""
        elif isinstance(event, DataReceived):
            peer.bodies[event.stream_id] += event.data
            peer.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamReset):
            peer.resets[event.stream_id] = int(event.error_code)
        elif isinstance(event, StreamEnded):
            self._script(peer, event.stream_id)


@contextmanager
def speaking(
    script: Script, settings: dict[SettingCodes, int] | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[Speaker]:
    speaker = Speaker(script, settings or {}, tls)
    try:
        yield speaker
    finally:
        speaker.server.shutdown(socket.SHUT_RDWR)
        speaker.thread.join(5)
        speaker.server.close()
        for peer in speaker.peers:
            with suppress(OSError):
                peer.wire.close()
    assert not speaker.errors


def seven(peer: Peer, stream: int) -> None:
    peer.answer(stream, SEVEN)


ONE = f"{PROTO}\nconnections = 1"


# ---- what a call says ------------------------------------------------------------------------------------------------


def test_what_a_call_says(tmp_path: Path) -> None:
    metadata = f"authorization = ' Bearer 7f3a ', x-long = '{'y' * 20_000}'"
    more = f"{ONE}\nmetadata = {{ {metadata} }}\nforward = ['X-Odd']\ntimeout = {{ add = 7 }}"
    with speaking(seven) as speaker, serve_upstream(GRPC, speaker.port, tmp_path, more) as up:
        call = json.dumps({"jsonrpc": "2.0", "method": "up.add", "params": [3, 4], "id": 1}).encode()
        headers = {"Content-Type": "application/json", "X-Odd": "z" * 300, "X-Request-ID": "abc"}
        assert json.loads(exchange(up.server.port, request("/api", headers, call)).body)["result"] == 7
        assert up.call("add", 3, 4) == 7
    (peer,) = speaker.peers
    said = peer.headers[1]
    timeout = said.pop("grpc-timeout")
    assert timeout.endswith("m")
    assert 0 < int(timeout[:-1]) <= 7000
    assert said == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/programs.Programs/add",
        ":authority": f"127.0.0.1:{speaker.port}",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "callgate",
        "grpc-accept-encoding": "identity,deflate,gzip",
        "authorization": "Bearer 7f3a",
        "x-request-id": "abc",
        "x-long": "y" * 20_000,
        "x-odd": "z" * 300,
    }
    assert peer.bodies[1] == b"\0\0\0\0\4\x08\3\x10\4"
    assert "x-odd" not in peer.headers[3]


# ---- what a response says --------------------------------------------------------------------------------------------


def unpacked(coding: str, packed: bytes) -> dict[str, Any]:
    return {"head": [*HEAD, ("grpc-encoding", coding)], "messages": [b"\1" + len(packed).to_bytes(4, "big") + packed]}


GOOD: dict[str, dict[str, Any]] = {
    "plain": {"messages": [SEVEN]},
    "in pieces": {"messages": [SEVEN[:1], b"", SEVEN[1:6], SEVEN[6:]]},
    "gzip": unpacked("gzip", gzip.compress(b"\x08\7")),
    "deflate": unpacked("deflate", zlib.compress(b"\x08\7")),
    "a coding that is not used": {"head": [*HEAD, ("grpc-encoding", "br")], "messages": [SEVEN]},
    "another type of messages": {"head": [HEAD[0], ("content-type", "application/grpc+proto")], "messages": [SEVEN]},
    "a long head": {"head": [*HEAD, *((f"x-{number}", "y" * 1000) for number in range(14))], "messages": [SEVEN]},
    "metadata in bytes": {"messages": [SEVEN], "trailers": [*OK, ("a-bin", "AAEC")]},
}


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    return {}


@pytest.fixture(scope="module")
def speaker(said: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve what ``said`` has: a response, or a script."""

    def script(peer: Peer, stream: int) -> None:
        if "script" in said:
            said["script"](peer, stream)
        else:
            peer.answer(stream, *said.get("messages", ()), **{k: v for k, v in said.items() if k != "messages"})

    settings = {"limits.max_reply": 65536}
    with (
        speaking(script) as speaker,
        serve_upstream(GRPC, speaker.port, tmp_path_factory.mktemp("speaker"), ONE, settings) as up,
    ):
        yield up


def say(said: dict[str, Any], what: dict[str, Any]) -> None:
    said.clear()
    said.update(what)


@pytest.mark.parametrize("case", GOOD)
def test_responses_that_are_good(case: str, speaker: Served, said: dict[str, Any], logged: Logged) -> None:
    say(said, GOOD[case])
    assert speaker.call("add", 3, 4) == 7
    logged.take("upstream up")


def http(status: str, **headers: str) -> dict[str, Any]:
    """Respond as a proxy does that speaks no gRPC."""

    def script(peer: Peer, stream: int) -> None:
        peer.h2.send_headers(stream, [(":status", status), *((k.replace("_", "-"), v) for k, v in headers.items())])
        peer.h2.send_data(stream, b"<html>inside.example</html>", end_stream=True)
        peer.send()

    return {"script": script}


def alone(*trailers: tuple[str, str]) -> dict[str, Any]:
    """Respond with trailers and nothing else."""

    def script(peer: Peer, stream: int) -> None:
        peer.h2.send_headers(stream, [*HEAD, *trailers], end_stream=True)
        peer.send()

    return {"script": script}


def reset(code: int) -> dict[str, Any]:
    def script(peer: Peer, stream: int) -> None:
        peer.h2.reset_stream(stream, code)
        peer.send()

    return {"script": script}


def in_pieces() -> dict[str, Any]:
    """Respond with a head in a HEADERS and two CONTINUATION frames."""

    def script(peer: Peer, stream: int) -> None:
        block = peer.h2.encoder.encode([*HEAD, ("x-long", "abc" * 1000)])
        parts = h2(1, 0, stream, block[:5]) + h2(9, 0, stream, block[5:900]) + h2(9, 4, stream, block[900:])
        peer.send(parts + h2(0, 0, stream, SEVEN) + h2(1, 5, stream, peer.h2.encoder.encode(OK)))

    return {"script": script}


BOMB = gzip.compress(bytes(70_000))
TEXT = (("grpc-status", "5"), ("grpc-message", "%E2%82%AC 5, 100%25 %zz"))
FAULTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "HTTP 400": (http("400"), BAD, ""),
    "HTTP 401": (http("401"), DENIED, ""),
    "HTTP 403": (http("403"), DENIED, ""),
    "HTTP 404": (http("404"), NO_METHOD, ""),
    "HTTP 429": (http("429"), UNAVAILABLE, ""),
    "HTTP 502": (http("502", content_type="text/html"), UNAVAILABLE, ""),
    "HTTP 503": (http("503", content_type="text/html"), UNAVAILABLE, ""),
    "HTTP 504": (http("504"), UNAVAILABLE, ""),
    "HTTP 500": (http("500"), BAD, ""),
    "HTTP 302": (http("302", location="http://inside.example/"), BAD, ""),
    "HTTP 200": (http("200", content_type="text/html", grpc_status="0"), BAD, ""),
    "HTTP 200 and a message": ({"head": [HEAD[0], ("content-type", "text/html")], "messages": [SEVEN]}, BAD, ""),
    "HTTP 503 and gRPC": (http("503", content_type="application/grpc"), UNAVAILABLE, ""),
    "a status alone": (alone(*TEXT), -32000, "\u20ac 5, 100% %zz"),
    "a status behind": ({"messages": [SEVEN], "trailers": TEXT}, -32000, "\u20ac 5, 100% %zz"),
    "OK alone": (alone(*OK), BAD, ""),
    "no status": ({"messages": [SEVEN], "trailers": [("a", "b")]}, BAD, ""),
    "a status that is none": ({"messages": [SEVEN], "trailers": [("grpc-status", "OK")]}, BAD, ""),
    "a status that is not known": (alone(("grpc-status", "99"), ("grpc-message", "odd")), -32000, "odd"),
    "words that the library has, too": (
        alone(("grpc-status", "9"), ("grpc-message", "Stream removed (x)")),
        -32000,
        "",
    ),
    "details that are none": (alone(*TEXT, ("grpc-status-details-bin", "a")), -32000, ""),
    "no message": ({}, BAD, ""),
    "two messages": ({"messages": [SEVEN, SEVEN]}, BAD, ""),
    "a part of one": ({"messages": [SEVEN[:6]]}, BAD, ""),
    "fewer bytes than it says": ({"messages": [b"\0\0\0\0\3" + SEVEN[5:]]}, BAD, ""),
    "not the message": ({"messages": [b"\0\0\0\0\1\xff"]}, BAD, ""),
    "an unknown coding": (unpacked("br", b"x"), BAD, ""),
    "no coding": (unpacked("identity", b"\x08\7"), BAD, ""),
    "not gzip": (unpacked("gzip", b"\x08\7"), BAD, ""),
    "too much when unpacked": (unpacked("gzip", BOMB), BAD, "more bytes than limits.max_reply"),
    "too much": ({"messages": [*[bytes(16384)] * 4, bytes(200)]}, BAD, "more bytes than limits.max_reply"),
    "PROTOCOL_ERROR": (reset(1), BAD, ""),
    "INTERNAL_ERROR": (reset(2), BAD, ""),
    "REFUSED_STREAM": (reset(7), UNAVAILABLE, ""),
    "CANCEL": (reset(8), BAD, ""),
    "ENHANCE_YOUR_CALM": (reset(11), BAD, ""),
    "INADEQUATE_SECURITY": (reset(12), BAD, ""),
}


@pytest.mark.parametrize("case", FAULTS)
def test_responses_that_are_faults(case: str, speaker: Served, said: dict[str, Any], logged: Logged) -> None:
    answer, code, words = FAULTS[case]
    say(said, answer)
    error = speaker.answer("add", 3, 4)["error"]
    assert error["code"] == code, error
    assert words in f"{error['message']} {error.get('data', {}).get('detail', '')}"
    assert "inside" not in json.dumps(error)
    if code == UNAVAILABLE:
        assert error["data"]["sent"] == ("no" if case == "REFUSED_STREAM" else "maybe")
    say(said, GOOD["plain"])
    assert speaker.call("add", 3, 4) == 7
    logged.take("upstream up")


def test_a_head_in_several_frames(speaker: Served, said: dict[str, Any]) -> None:
    say(said, in_pieces())
    assert [speaker.call("add", 3, 4) for _ in range(2)] == [7, 7]


def test_a_long_text_and_details_are_read(speaker: Served, said: dict[str, Any]) -> None:
    detail = b"CAESAXgaLQoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlVuaGVhcmQSAA".decode()
    say(said, alone(("grpc-status", "9"), ("grpc-message", "no"), ("grpc-status-details-bin", detail)))
    assert speaker.answer("add", 3, 4)["error"]["message"] == "no"


# ---- streams and windows ---------------------------------------------------------------------------------------------


def test_calls_wait_for_the_streams_that_the_server_allows(tmp_path: Path) -> None:
    """h2 itself ends a connection that has more streams."""

    def slow(peer: Peer, stream: int) -> None:
        time.sleep(0.01)
        seven(peer, stream)

    with (
        speaking(slow, {SettingCodes.MAX_CONCURRENT_STREAMS: 2}) as speaker,
        serve_upstream(GRPC, speaker.port, tmp_path, ONE) as up,
        ThreadPoolExecutor(10) as pool,
    ):
        assert list(pool.map(lambda _: up.call("add", 3, 4), range(40))) == [7] * 40
        assert len(speaker.peers) == 1


def test_a_call_that_waits_for_a_stream_until_its_deadline_was_not_sent(tmp_path: Path, logged: Logged) -> None:
    more = f"{ONE}\ntimeout = {{ subtract = 0.3 }}"
    with (
        speaking(lambda *_: None, {SettingCodes.MAX_CONCURRENT_STREAMS: 1}) as speaker,
        serve_upstream(GRPC, speaker.port, tmp_path, more) as up,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(up.answer, "add", 1, 2)
        until(lambda: speaker.peers and speaker.peers[0].headers)
        assert up.fault("subtract", 1, 2) == (DEADLINE, "no")
        seven(speaker.peers[0], 1)
        assert first.result(5)["result"] == 7
        assert list(speaker.peers[0].headers) == [1]
    logged.take("no connection became free")


def test_calls_wait_where_a_server_allows_fewer_streams_than_before(tmp_path: Path) -> None:
    def fewer(peer: Peer, stream: int) -> None:
        if stream == 1:
            peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
        else:
            time.sleep(0.01)
        seven(peer, stream)

    with (
        speaking(fewer) as speaker,
        serve_upstream(GRPC, speaker.port, tmp_path, ONE) as up,
        ThreadPoolExecutor(10) as pool,
    ):
        assert up.call("add", 3, 4) == 7
        assert up.call("add", 3, 4) == 7  # the settings are here
        assert list(pool.map(lambda _: up.call("add", 3, 4), range(20))) == [7] * 20
        assert len(speaker.peers) == 1


@pytest.mark.parametrize("window", [1000, 65535])
def test_large_requests_go_as_far_as_windows_let_them(window: int, tmp_path: Path) -> None:
    def opened(peer: Peer, stream: int) -> None:
        assert len(peer.bodies[stream]) > 300_000
        peer.answer(stream, SEVEN[:4] + b"\3\x0a\1x")

    settings = {SettingCodes.INITIAL_WINDOW_SIZE: window}
    with (
        speaking(opened, settings) as speaker,
        serve_upstream(VALUES, speaker.port, tmp_path, ONE) as up,
        ThreadPoolExecutor(3) as pool,
    ):
        assert list(pool.map(lambda _: up.call("Crash", "y" * 300_000), range(6))) == ["x"] * 6


def test_a_response_that_comes_before_the_request_is_sent(tmp_path: Path) -> None:
    with speaking(seven) as speaker, serve_upstream(VALUES, speaker.port, tmp_path, ONE) as up:

        def early(peer: Peer, event: Any, note: Any = speaker._note) -> None:
            if isinstance(event, DataReceived):
                peer.h2.increment_flow_control_window(len(event.data))
            if isinstance(event, DataReceived) and peer.headers[event.stream_id].pop("te", ""):
                peer.answer(event.stream_id, SEVEN[:4] + b"\3\x0a\1x")
            elif isinstance(event, (RequestReceived, StreamReset)):
                note(peer, event)

        speaker._note = early  # type: ignore[method-assign]
        for _ in range(2):
            assert up.call("Crash", "y" * 300_000) == "x"
        until(lambda: set(speaker.peers[0].resets.values()) == {8})


def test_a_server_that_reads_nothing_holds_back_calls_and_no_others(tmp_path: Path) -> None:
    more = f"{ONE}\ntimeout = {{ Crash = 0.5 }}"
    stuck = threading.Event()

    def wait(peer: Peer, stream: int) -> None:
        stuck.wait(20)
        with suppress(OSError):
            seven(peer, stream)

    settings = {SettingCodes.INITIAL_WINDOW_SIZE: 2**30}
    with speaking(wait, settings) as speaker, serve_upstream(VALUES, speaker.port, tmp_path, more) as up:
        with ThreadPoolExecutor(4) as pool:
            faults = list(pool.map(lambda _: up.fault("Crash", "y" * 900_000), range(4)))
        assert {code for code, _ in faults} == {DEADLINE}
        stuck.set()


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


class _Transport(asyncio.Transport):
    """A transport that keeps what is written, and takes nothing more once it is closed, as uvloop's."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        if self.is_closed:
            raise RuntimeError("the handler is closed")
        self.written += bytes(data)

    def take(self) -> bytes:
        written, self.written = self.written, b""
        return written

    def is_closing(self) -> bool:
        return self.is_closed

    def abort(self) -> None:
        self.is_closed = True


class _Outcome:
    """What waits for a call."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def done(self) -> bool:
        return bool(self.told)

    def set_result(self, value: Any) -> None:
        self.told.append(value)

    def set_exception(self, error: Exception) -> None:
        self.told.append(error)


def connected() -> tuple[Connection, _Transport]:
    connection, transport = Connection(1000, HeaderBlocks()), _Transport()
    connection.connection_made(transport)
    connection.data_received(h2(4, 0, 0, b""))
    transport.take()
    return connection, transport


def sent(connection: Connection, message: bytes = b"\x08\1") -> tuple[UnaryCall, _Outcome, Callable[[], None]]:
    invocation = Invocation(method="x", params={}, deadline=time.monotonic() + 60, request_id="1")
    call, outcome = UnaryCall(b"\x83", framed(message), bytes, invocation), _Outcome()
    return call, outcome, call.send(outcome, connection)


@on_a_loop
async def test_what_cannot_be_written_waits_unsent() -> None:
    connection, transport = connected()
    connection.pause_writing()
    first, outcome, _ = sent(connection)
    second, nothing, stop = sent(connection)
    assert (transport.take(), first.invocation.sent, first.invocation.waits) == (b"", "no", True)
    stop()
    connection.data_received(h2(6, 0, 0, bytes(8)))
    assert transport.take() == h2(6, 1, 0, bytes(8))
    connection.resume_writing()
    assert transport.take().endswith(h2(0, 1, 1, framed(b"\x08\1")))
    assert (first.invocation.sent, first.invocation.waits, second.invocation.sent) == ("maybe", False, "no")
    connection.data_received(h2(1, 4, 1, CODED_HEAD) + h2(0, 0, 1, SEVEN) + h2(1, 5, 1, CODED_OK))
    assert (outcome.told, nothing.told, first.invocation.sent) == ([b"\x08\7"], [], "yes")
    assert connection.usable()


@on_a_loop
async def test_a_large_request_waits_while_nothing_can_be_written() -> None:
    connection, transport = connected()
    sent(connection, bytes(100_000))
    connection.pause_writing()
    transport.take()
    connection.data_received(h2(8, 0, 0, b"\0\1\0\0") + h2(8, 0, 1, b"\0\1\0\0"))
    assert transport.take() == b""
    connection.resume_writing()
    assert len(transport.take()) > 30_000


@on_a_loop
async def test_calls_that_wait_when_the_server_leaves_were_not_sent() -> None:
    connection, _ = connected()
    connection.pause_writing()
    call, outcome, _ = sent(connection)
    connection.data_received(h2(7, 0, 0, bytes(8)))
    assert not connection.usable()
    (error,) = outcome.told
    assert (str(error), call.invocation.sent) == ("UNAVAILABLE: REFUSED_STREAM: GOAWAY", "no")


@on_a_loop
async def test_a_call_that_is_cancelled_makes_room_for_one_that_waits() -> None:
    connection, transport = connected()
    connection.data_received(h2(4, 0, 0, b"\0\3\0\0\0\1"))
    assert connection.most_calls == 1
    _, _, stop = sent(connection)
    call, _, _ = sent(connection)
    transport.take()
    connection.data_received(h2(6, 1, 0, bytes(8)))
    stop()
    assert transport.take().startswith(h2(3, 0, 1, b"\0\0\0\x08"))
    assert call.invocation.sent == "maybe"
    assert connection.usable()


@on_a_loop
async def test_a_connection_with_a_response_that_is_not_grpc_takes_no_more_calls() -> None:
    connection, _ = connected()
    call, outcome, _ = sent(connection)
    connection.data_received(h2(1, 4, 1, CODED_HEAD) + h2(0, 1, 1, SEVEN))
    assert [str(told) for told in outcome.told] == ["a response has no status of gRPC"]
    assert (call.invocation.sent, connection.usable()) == ("yes", False)


@on_a_loop
async def test_a_pool_has_calls_wait_where_a_server_allows_few() -> None:
    connection, _ = connected()
    connection.data_received(h2(4, 0, 0, b"\0\3\0\0\0\2"))

    async def connect() -> Connection:
        return connection

    pool = Pool(connect, 1, 100)
    async with pool.lend(), pool.lend():
        third = asyncio.create_task(pool.lend().__aenter__())
        await asyncio.sleep(0)
        assert pool.load() == (1, 1)
    assert await third is connection


@on_a_loop
async def test_an_outcome_that_nobody_wants_is_not_told() -> None:
    connection, _ = connected()
    _, outcome, _ = sent(connection)
    outcome.told.append("given up")
    connection.data_received(h2(1, 4, 1, CODED_HEAD) + h2(0, 0, 1, SEVEN) + h2(1, 5, 1, CODED_OK))
    connection.connection_lost(None)
    assert outcome.told == ["given up"]


@on_a_loop
async def test_a_connection_that_breaks_is_told_to_all_calls_on_it() -> None:
    connection, transport = connected()
    _, first, stop = sent(connection)
    connection.pause_writing()
    _, second, _ = sent(connection)
    transport.take()
    connection.connection_lost(None)
    assert [type(told) for outcome in (first, second) for told in outcome.told] == [EOFError, EOFError]
    stop()
    assert transport.take() == b""  # there is nobody to write to
    assert not connection.usable()


# ---- the end of a stream and of a connection -------------------------------------------------------------------------


@on_a_loop
async def test_a_call_can_be_given_up_on_a_connection_that_was_just_closed() -> None:
    connection, transport = connected()
    _, outcome, stop = sent(connection)
    transport.take()
    connection.close()
    stop()
    connection.connection_lost(None)
    assert (transport.take(), outcome.told) == (b"", [])


def test_a_call_that_is_late_or_given_up_is_cancelled_at_the_server(tmp_path: Path) -> None:
    more = f"{ONE}\ntimeout = {{ subtract = 0.2 }}"
    with (
        speaking(lambda *_: None) as speaker,
        serve_upstream(GRPC, speaker.port, tmp_path, more) as up,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(up.answer, "add", 1, 2)
        until(lambda: speaker.peers and speaker.peers[0].headers)
        assert up.fault("subtract", 1, 2) == (DEADLINE, "maybe")
        until(lambda: speaker.peers[0].resets == {3: 8})
        seven(speaker.peers[0], 1)  # the connection lives until its calls have ended
        assert first.result(5)["result"] == 7


def test_a_reset_at_the_deadline_is_the_deadline(tmp_path: Path) -> None:
    def late(peer: Peer, stream: int) -> None:
        time.sleep(int(peer.headers[stream]["grpc-timeout"][:-1]) / 1000 - 0.008)
        with suppress(ProtocolError):  # our own clock may have been first
            peer.h2.reset_stream(stream, 8)
        peer.send()

    with (
        speaking(late) as speaker,
        serve_upstream(GRPC, speaker.port, tmp_path, f"{ONE}\ntimeout = {{ add = 0.2 }}") as up,
    ):
        for _ in range(5):
            assert up.fault("add", 1, 2) == (DEADLINE, "maybe")


def test_calls_that_a_leaving_server_has_not_begun_with_go_elsewhere(tmp_path: Path, logged: Logged) -> None:
    ran: list[tuple[int, int]] = []

    def leave(peer: Peer, stream: int) -> None:
        if peer.number > 1:
            ran.append((peer.number, stream))
            seven(peer, stream)
        elif len(peer.bodies) == 4:
            peer.send(h2(7, 0, 0, b"\0\0\0\3" + bytes(4)))
            for number in (1, 3):
                ran.append((1, number))
                seven(peer, number)

    with (
        speaking(leave, {SettingCodes.MAX_CONCURRENT_STREAMS: 4}) as speaker,
        serve_upstream(GRPC, speaker.port, tmp_path, ONE) as up,
        ThreadPoolExecutor(6) as pool,  # of which two wait for a stream
    ):
        assert list(pool.map(lambda _: up.call("add", 3, 4), range(6))) == [7] * 6
        assert len(ran) == 6
        assert ran[:2] == [(1, 1), (1, 3)]
        assert len(speaker.peers) == 2
    logged.take("is down")


def test_numbers_of_streams_that_are_used_up_are_followed_by_a_new_connection(tmp_path: Path) -> None:
    with speaking(seven) as speaker, serve_upstream(GRPC, speaker.port, tmp_path, ONE) as up:
        assert up.call("add", 3, 4) == 7
        pool: Any = up.upstream._upstream._pool  # type: ignore[attr-defined]
        pool._held[0].connection._http2._next = 2**31 - 1
        assert [up.call("add", 3, 4) for _ in range(2)] == [7, 7]
        assert [list(peer.headers) for peer in speaker.peers] == [[1, 2**31 - 1], [1]]


def test_garbage_between_good_responses_fails_the_calls_that_wait_and_no_other(tmp_path: Path, logged: Logged) -> None:
    def odd(peer: Peer, stream: int) -> None:
        if len(peer.bodies) == 2 and peer.number == 1:
            peer.h2.send_headers(1, HEAD)
            peer.h2.send_data(1, SEVEN)
            peer.h2.send_headers(1, OK, end_stream=True)
            peer.send(b"\xff" * 100)
        elif peer.number > 1:
            seven(peer, stream)

    with (
        speaking(odd) as speaker,
        serve_upstream(GRPC, speaker.port, tmp_path, ONE) as up,
        ThreadPoolExecutor(2) as pool,
    ):
        first = pool.submit(up.answer, "add", 3, 4)
        until(lambda: speaker.peers and speaker.peers[0].headers)
        assert up.fault("subtract", 3, 4) == (BAD, "maybe")
        assert first.result(5)["result"] == 7  # it was whole
        assert up.call("add", 3, 4) == 7
    assert logged.take("a frame is longer than HTTP/2 allows")


@pytest.mark.parametrize(
    "first", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", h2(6, 0, 0, bytes(8))]
)
def test_what_is_not_http2_is_found_before_a_call_is_sent(first: bytes, tmp_path: Path, logged: Logged) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(first)
                        connection.recv(65536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with serve_upstream(GRPC, server.getsockname()[1], tmp_path, PROTO) as up:
            assert up.fault("add", 1, 2) == (BAD, "no")
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    assert logged.take("upstream up")


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_connect_timeout(
    tmp_path: Path, logged: Logged
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        serve_upstream(GRPC, server.getsockname()[1], tmp_path, f"{PROTO}\nconnect_timeout = 0.2") as up,
    ):
        assert up.fault("add", 1, 2) == (UNAVAILABLE, "no")
    assert logged.take("is down")


def test_a_status_with_an_endless_text_is_no_matter_of_other_calls(tmp_path: Path, logged: Logged) -> None:
    with Program(GRPC) as program, serve_upstream(VALUES, program.port, tmp_path, ONE) as up:
        for size in (10_000, 100_000):
            error = up.answer("Crash", "x" * size)["error"]
            assert error["code"] in (-32000, BAD), error
        assert up.call("Large", 1) == "x"
    logged.take("upstream up")


# ---- TLS, proxies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [["h2"], ["http/1.1"], []], ids=["h2", "http/1.1", "nothing"])
def test_the_server_must_choose_h2(chosen: list[str], tmp_path: Path, logged: Logged) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("calc.example").configure_cert(context)
    if chosen:
        context.set_alpn_protocols(chosen)
    kind: Kind = replace(GRPC, url="grpcs://127.0.0.1:{port}")
    more = f"{ONE}\nca = '{tmp_path}/ca.pem'\nserver_name = 'calc.example'"
    with speaking(seven, tls=context) as speaker, serve_upstream(kind, speaker.port, tmp_path, more) as up:
        if chosen == ["h2"]:
            assert up.call("add", 3, 4) == 7
            said = speaker.peers[0].headers[1]
            assert (said[":scheme"], said[":authority"]) == ("https", "calc.example")
        else:
            assert up.fault("add", 3, 4) == (BAD, "no")
            assert logged.take("it has not chosen h2 in the TLS handshake")


NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ }}
http {{
    access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e; client_max_body_size 10m;
    server {{
        listen 127.0.0.1:{port} http2;
        location / {{ grpc_pass grpc://127.0.0.1:{to}; }}
    }}
}}
"""


def test_nginx_in_between(tmp_path: Path, logged: Logged) -> None:
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    with Program(GRPC) as program:
        port = free_port()
        file = tmp_path / "nginx.conf"
        file.write_text(NGINX.format(folder=tmp_path, port=port, to=program.port))
        with subprocess.Popen([binary, "-c", str(file), "-p", str(tmp_path)], stderr=subprocess.DEVNULL) as nginx:
            try:
                until(lambda: listens(port))
                with serve_upstream(GRPC, port, tmp_path, ONE) as up, ThreadPoolExecutor(8) as pool:
                    assert list(pool.map(lambda n: up.call("add", n, 4), range(100))) == list(range(4, 104))
                    program.kill()
                    assert up.fault("add", 1, 2) == (UNAVAILABLE, "maybe")
                    program.start()
                    assert up.call("add", 1, 2) == 3
                with serve_upstream(VALUES, port, tmp_path, ONE) as up:
                    assert len(up.call("Large", 1_000_000)) == 1_000_000
                    assert up.answer("End", 5, "why")["error"]["message"] == "why"
                with serve_upstream(replace(GRPC, options="service = 'programs.Values'"), port, tmp_path, ONE) as up:
                    assert up.call("Echo", f_string="y" * 500_000)["f_string"] == "y" * 500_000
            finally:
                nginx.terminate()
    logged.take("is down")
