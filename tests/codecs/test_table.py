"""A protocol is a codec and a row of CODECS: MessagePack-RPC, which the gateway does not have, is put there and called.

github.com/msgpack-rpc/msgpack-rpc/blob/master/spec.md: a request is [0, id, method, params], a notification
[2, method, params], a response [1, id, error, result].
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from gateway import Fault, Registry
from gateway.app import build
from gateway.client import Client
from gateway.codecs import CODECS, Codec, Decoded
from gateway.codecs.contract import Turns, at_once, encoded
from gateway.config import Config, ConfigError
from gateway.deploy import nginx
from gateway.model.calls import Answer, Call, Entry, Id, InvalidCall, Params, Reply
from gateway.model.faults import BadUpstream, ForeignFault, InvalidParams, InvalidRequest, ParseError
from tests.raw_http import Response, post
from tests.scraping import until
from tests.serving import Server, serving

registry = Registry()


@dataclass
class Note:
    text: str
    written: datetime


@registry.register
def shift(note: Note, data: bytes) -> dict[str, Any]:
    return {"note": note, "data": data[::-1]}


@registry.register(protocols="msgpackrpc")
def only_here() -> int:
    return 3


@registry.register
def fail() -> None:
    raise Fault(7, "no")


class MessagePackRPC:
    """The codec: what a row needs, and nothing else."""

    name = "msgpackrpc"
    title = "MessagePack-RPC"
    media_types: tuple[str, ...] = ("application/msgpack", "application/x-msgpack")
    content_type = "application/msgpack"
    charsets: frozenset[str] | None = None
    first_bytes = b"\x93\x94"
    native: tuple[type, ...] = (bytes, datetime)
    wide_ints = True
    batch_method = ""
    written_as = "MessagePack"

    def __init__(self, *, max_depth: int, max_batch: int) -> None:
        self.capabilities: dict[str, dict[str, str | int]] = {"msgpackrpc": {"specVersion": 1}}

    def decode(self, body: bytes, charset: str | None) -> Decoded:
        try:
            match msgspec.msgpack.decode(body):
                case [0, int(number), str(method), list(params)]:
                    return Call(method=method, params=params, id=number)
                case [2, str(method), list(params)]:
                    return Call(method=method, params=params, notification=True)
        except msgspec.DecodeError:
            return InvalidCall(fault=ParseError("not MessagePack"))
        return InvalidCall(fault=InvalidRequest("a request is [0, id, method, params]"))

    def decoding(self, body: bytes, charset: str | None) -> Turns[Decoded]:
        yield
        return self.decode(body, charset)

    def encode(self, entry: Entry, reply: Reply, room: int) -> Answer:
        return at_once(self.encoding(entry, reply, room))

    def encoding(self, entry: Entry, reply: Reply, room: int) -> Turns[Answer]:
        return encoded(self, entry, reply, room)

    def write_value(self, value: Any, call_id: Id, _: int) -> Turns[bytes]:
        yield
        return msgspec.msgpack.encode([1, call_id, None, value])

    def write_fault(self, fault: Fault, call_id: Id) -> bytes:
        return msgspec.msgpack.encode([1, call_id, {"code": fault.code, "message": fault.message}, None])

    def single(self, answer: Answer) -> bytes:
        return answer.wire

    def batch(self, answers: list[Answer]) -> bytes:
        raise NotImplementedError("MessagePack-RPC has no batches")

    def decode_usual(self, body: bytes, charset: str | None) -> Call | None:
        return None

    def encode_call(self, method: str, params: Params, call_id: Id, /) -> bytes:
        return msgspec.msgpack.encode([0, call_id, method, params])

    def encode_notification(self, method: str, params: Params, /) -> bytes:
        return msgspec.msgpack.encode([2, method, params])

    def encode_batch(self, calls: Sequence[Call], /) -> bytes:
        raise InvalidParams("MessagePack-RPC has no batches")

    def decode_batch(self, body: bytes, charset: str | None = None, *, lenient: bool = False) -> Reply:
        return Reply(fault=BadUpstream("MessagePack-RPC has no batches"))

    def decode_answer(
        self, body: bytes, charset: str | None = None, *, lenient: bool = False
    ) -> tuple[Id, Reply] | None:
        _, call_id, error, result = msgspec.msgpack.decode(body)
        return call_id, Reply(value=result, fault=error and ForeignFault(error["code"], error["message"]))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    row: type[Codec] = MessagePackRPC
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CODECS, row.name, row)
        with serving(registry, {"metrics.bind": "127.0.0.1:0"}) as serving_it:
            yield serving_it


def send(server: Server, message: Any, content_type: str = "application/msgpack") -> Response:
    return post(server.port, msgspec.msgpack.encode(message), content_type)


def test_it_is_called(server: Server) -> None:
    written = datetime(2026, 11, 29, 12, tzinfo=UTC)
    response = send(server, [0, 1, "shift", [{"text": "a", "written": written}, b"\x00\x01\xff"]])
    assert response.headers["content-type"] == "application/msgpack"
    result = {"note": {"text": "a", "written": written}, "data": b"\xff\x01\x00"}
    assert msgspec.msgpack.decode(response.body) == [1, 1, None, result]


def test_its_native_types_are_not_taken_from_texts(server: Server) -> None:
    response = send(server, [0, 2, "shift", [{"text": "a", "written": "2026-11-29T12:00:00Z"}, b""]])
    assert msgspec.msgpack.decode(response.body)[2]["code"] == -32602


@pytest.mark.parametrize("content_type", ["application/octet-stream", "application/x-msgpack"])
def test_it_is_told_by_another_type_or_by_its_first_byte(server: Server, content_type: str) -> None:
    assert msgspec.msgpack.decode(send(server, [0, 3, "only_here", []], content_type).body) == [1, 3, None, 3]


@pytest.mark.parametrize(
    ("message", "code"), [([0, 4, "fail", []], 7), ([0, 4, "absent", []], -32601), ([0, 4], -32600), ("x", -32600)]
)
def test_its_faults_are_its_own(server: Server, message: Any, code: int) -> None:
    assert msgspec.msgpack.decode(send(server, message).body)[2]["code"] == code


def test_a_notification_has_no_answer(server: Server) -> None:
    assert send(server, [2, "only_here", []]).body == b""


def test_a_refusal_is_a_fault_of_it(server: Server) -> None:
    response = post(server.port, b"x" * 2_000_000, "application/msgpack")
    assert (response.status, msgspec.msgpack.decode(response.body)[2]["code"]) == (413, -32006)


def test_texts_name_it(server: Server) -> None:
    assert b"MessagePack-RPC" in post(server.port, b"", "image/png").body
    assert b"MessagePack-RPC" in post(server.port, b"\x00", "text/plain").body


def test_a_method_of_one_protocol_is_nowhere_else(server: Server) -> None:
    body = b'{"jsonrpc":"2.0","method":"only_here","id":1}'
    assert b"-32601" in post(server.port, body).body
    names = msgspec.msgpack.decode(send(server, [0, 5, "system.listMethods", []]).body)[3]
    assert "only_here" in names
    assert "system.multicall" not in names
    spoken = msgspec.msgpack.decode(send(server, [0, 6, "system.getCapabilities", []]).body)[3]
    assert {"xmlrpc", "msgpackrpc"} <= spoken.keys()


def test_the_client_speaks_it(server: Server) -> None:
    with Client(server.url, protocol="msgpackrpc") as client:
        assert client.only_here() == 3
        with pytest.raises(ForeignFault) as raised:
            client.fail()
    assert (raised.value.code, raised.value.message) == (7, "no")


def test_it_is_counted(server: Server) -> None:
    send(server, [0, 7, "only_here", []])
    until(server.metrics, lambda seen: seen.of("gateway_calls_total", method="only_here", protocol="msgpackrpc") > 0)


def test_nginx_answers_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Textual(MessagePackRPC):
        def single(self, answer: Answer) -> bytes:
            return base64.b64encode(answer.wire)

    monkeypatch.setitem(CODECS, "textual", Textual)
    text = nginx.render(Config(), 60)
    assert "location /_fault/application/msgpack {" in text
    assert 'default_type "application/msgpack";' in text
    assert "location /_fault/application/x-msgpack {" in text


@pytest.mark.usefixtures("server")
def test_what_is_not_text_nginx_leaves_to_plain_text() -> None:
    assert "msgpack" not in nginx.render(Config(), 60)


def test_a_method_for_a_protocol_that_there_is_not_is_refused() -> None:
    wrong = Registry()
    wrong.register(fail, protocols=("jsonrpc", "soap"))
    problem = r"test_table\.py:\d+ \(fail\): protocols: there is no 'soap'; the protocols are xmlrpc, jsonrpc"
    with pytest.raises(ConfigError, match=problem):
        build(Config(), wrong)
