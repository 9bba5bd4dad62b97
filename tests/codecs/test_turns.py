"""Large bodies and large results are read and written in turns, to the same values, bytes and faults as at once."""

import asyncio
import json
import random
import xmlrpc.client
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from gateway import Registry, app
from gateway.codecs import Codec
from gateway.codecs.contract import at_once, may_be_large
from gateway.codecs.jsonrpc import JSONRPC
from gateway.codecs.xmlrpc import XMLRPC
from gateway.config import load
from gateway.endpoints.rpc import Exchange
from gateway.model.calls import Call, Reply
from gateway.model.http import HTTPRequest, HTTPResponse
from gateway.wire.content_coding import packing, unpack
from tests.codecs.test_properties import ROOM, SEEDS
from tests.codecs.test_usual import ANSWERS, CALLS, mutated

DEPTH = 8
XML = XMLRPC(max_depth=DEPTH, max_batch=100)
JSON = JSONRPC(max_depth=DEPTH, max_batch=100)
CALL = Call(method="m", params=[], id=1)


@dataclass
class Item:
    id: int
    name: str
    price: float
    ordered: datetime


PLAIN = [{"id": number, "name": f"item {number}", "price": number / 4, "is": number % 2 == 0} for number in range(3000)]
ITEMS = [Item(number, "naïve", 1.5, datetime(2026, 11, 29)) for number in range(3000)]
RESULTS: list[Any] = [
    PLAIN,
    ITEMS,
    list(range(20_000)),
    {str(number): 1.5 for number in range(20_000)},
    [[PLAIN], (1,)],
]
XML_CALL = xmlrpc.client.dumps((PLAIN,), "echo").encode()
JSON_CALL = json.dumps({"jsonrpc": "2.0", "method": "echo", "params": [PLAIN], "id": 1}).encode()
BODIES = [
    (XML, XML_CALL),
    (XML, XML_CALL.replace(b"<params>", b"<!-- unusual --><params>")),
    (XML, XML_CALL.replace(b"</params>", b"<wrong/></params>")),
    (XML, XML_CALL[:-20]),
    (JSON, JSON_CALL),
    (JSON, JSON_CALL.replace(b'"id": 7,', b'"id": 7, "id": 8,')),
    (JSON, b"[%b,%b]" % (JSON_CALL, JSON_CALL)),
    (JSON, b"[%b,%b]" % (JSON_CALL, JSON_CALL.replace(b'"id": 7,', b'"id": 7, "id": 8,'))),
]
REFERENCES = "&amp;lt; &lt;b&gt; &quot;" * 100_000


@pytest.fixture(autouse=True)
def _pure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.codecs.xmlrpc.compiled", None)


def in_turns(work: Generator[None, None, Any]) -> tuple[int, Any]:
    """Do work to its end; return how many turns it took, and what it came to."""
    turns = 1
    while True:
        try:
            next(work)
        except StopIteration as end:
            return turns, end.value
        turns += 1


@pytest.mark.parametrize(
    ("codec", "body"), BODIES, ids=lambda each: len(each) if isinstance(each, bytes) else each.name
)
def test_large_bodies_are_read_in_turns(codec: Codec, body: bytes) -> None:
    turns, decoded = in_turns(codec.decoding(body, None))
    assert turns > (1 if codec is JSON else 10)
    assert repr(decoded) == repr(codec.decode(body, None))


def xml_text(text: str) -> bytes:
    return (
        XML_CALL.partition(b"<params>")[0]
        + f"<params><param><value>{text}</value></param></params></methodCall>".encode()
    )


def test_long_texts_with_references_are_read_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, call = in_turns(XML.decoding(xml_text(REFERENCES), None))
    assert turns > 15
    assert call.params == ['&lt; <b> "' * 100_000]
    monkeypatch.setattr("gateway.codecs.xmlrpc.usual._PIECE", 1)
    for text in ("a&amp;lt;b", "&lt;", "&lt;&gt;", "a&#38;lt;b", "no&b;", "x & y", "&amp", "a&amp;"):
        whole = repr(XML.decode(xml_text(text), None))
        for size in range(1, 12):
            monkeypatch.setattr("gateway.codecs.xmlrpc.usual._PIECE", size)
            assert repr(XML.decode(xml_text(text), None)) == whole


@pytest.mark.parametrize("codec", [XML, JSON], ids=lambda codec: codec.name)
def test_the_place_of_what_cannot_be_written_is_found_in_turns(codec: Codec) -> None:
    turns, _ = in_turns(codec.encoding(CALL, Reply(value=PLAIN), ROOM))
    more, answer = in_turns(codec.encoding(CALL, Reply(value=[*PLAIN, {"a": [object()]}]), ROOM))
    assert answer.fault is not None
    assert "result[3000].a[0]: values of type object" in answer.fault.message
    assert more > turns + 5


def test_documents_are_compressed_in_turns() -> None:
    for body in (b"", b"x", JSON_CALL * 10):
        for coding in ("gzip", "deflate"):
            turns, packed = in_turns(packing(body, coding))
            assert unpack(packed, coding, 10**8) == body
            assert turns == max(1, -(-len(body) // 2**17))


@pytest.mark.parametrize(
    "value", RESULTS, ids=lambda value: f"{type(value).__name__} of {type(next(iter(value))).__name__}"
)
@pytest.mark.parametrize("codec", [XML, JSON], ids=lambda codec: codec.name)
def test_large_results_are_written_in_turns(codec: Codec, value: Any) -> None:
    turns, answer = in_turns(codec.encoding(CALL, Reply(value=value), ROOM))
    assert turns > 1
    assert answer == codec.encode(CALL, Reply(value=value), ROOM)


@pytest.mark.parametrize(
    "value", [1, "x" * 2**20, [1, {"a": [None]}], PLAIN[:100], ITEMS[:5]], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("codec", [XML, JSON], ids=lambda codec: codec.name)
def test_small_results_are_written_in_one(codec: Codec, value: Any) -> None:
    assert in_turns(codec.encoding(CALL, Reply(value=value), ROOM))[0] == 1


@pytest.mark.parametrize(
    "value",
    [[*PLAIN, object()], [*ITEMS, 2**70, "\ud800"], [[PLAIN] * 30], {"a": [*PLAIN, {1: 2}]}],
    ids=["object", "range", "large", "name"],
)
@pytest.mark.parametrize("codec", [XML, JSON], ids=lambda codec: codec.name)
def test_faults_are_the_same(codec: Codec, value: Any) -> None:
    _, answer = in_turns(codec.encoding(CALL, Reply(value=value), 2**20))
    assert answer.fault is not None
    assert answer.wire == codec.encode(CALL, Reply(value=value), 2**20).wire


def test_where_a_turn_ends_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(20261129)
    texts = [text.encode() for text in (*CALLS, *ANSWERS)] + SEEDS["xmlrpc"]
    texts += [mutated(text, chance).encode("utf-8", "replace") for text in CALLS * 20]
    whole = [(repr(XML.decode(text, None)), repr(XML.decode_answer(text))) for text in texts]
    monkeypatch.setattr("gateway.codecs.xmlrpc.usual._TURN", 1)
    for characters in (1, 7, 50):
        monkeypatch.setattr("gateway.codecs.xmlrpc.document._TURN", characters)
        assert [(repr(XML.decode(text, None)), repr(XML.decode_answer(text))) for text in texts] == whole


class Turns:
    """Counts the turns of the event loop until something is done."""

    def __init__(self) -> None:
        self.count = 0

    async def of(self, exchange: Exchange, body: bytes) -> HTTPResponse:
        task = asyncio.ensure_future(exchange.answer(body))
        while not task.done():
            self.count += 1
            await asyncio.sleep(0)
        return await task


registry = Registry()


@registry.register(run="inline")
def echo(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("body", "content_type", "least"), [(XML_CALL, "text/xml", 24), (JSON_CALL, "application/json", 3)]
)
def test_others_have_their_turns_while_a_large_call_is_answered(body: bytes, content_type: str, least: int) -> None:
    endpoint = app.build(load(None, {}, []), registry).rpc
    head = HTTPRequest(
        method="POST",
        target="/api",
        peer="127.0.0.1",
        headers={"Host": "127.0.0.1", "Content-Type": content_type, "Content-Length": str(len(body))},
    )
    admitted = endpoint.admit(head)
    assert isinstance(admitted, Exchange)
    turns = Turns()
    response = asyncio.run(turns.of(admitted, body))
    assert response.status == 200
    codec = XML if content_type == "text/xml" else JSON
    _, reply = codec.decode_answer(response.body) or (None, Reply())
    assert reply.value == PLAIN
    assert turns.count >= least


@registry.register(run="inline")
def many() -> Any:
    return PLAIN


@registry.register
async def many_later() -> Any:
    return ITEMS


class Calls:
    """What is told of calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outcomes: list[object] = []
        monkeypatch.setattr(
            "gateway.endpoints.observers.Observers.note", lambda _, record: self.outcomes.append(record.outcome)
        )


def begun(gateway: Any, method: str, responses: list[bytes], **more: str) -> Any:
    """Begin a call on the plain way."""
    body = XML.encode_call(method, [])
    headers = {"Host": "127.0.0.1", "Content-Type": "text/xml", "Content-Length": str(len(body)), **more}
    plain = gateway.know(HTTPRequest(method="POST", target="/api", peer="127.0.0.1", headers=headers))
    return plain.answer(body, None, None, None, responses.append)


@pytest.mark.parametrize("method", ["many", "many_later"])
def test_large_results_are_written_in_turns_on_the_plain_way(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, responses = Calls(monkeypatch), list[bytes]()
    gateway = app.build(load(None, {}, []), registry)

    async def call() -> int:
        running = begun(gateway, method, responses)
        assert not isinstance(running, bytes)
        turns = 0
        while not responses:
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(call()) > 5
    body = responses[0].partition(b"\r\n\r\n")[2]
    _, reply = XML.decode_answer(body)
    assert len(reply.value) == 3000
    assert body == XML.single(XML.encode(CALL, Reply(value=PLAIN if method == "many" else ITEMS), ROOM))
    assert calls.outcomes == [None]


@registry.register(run="inline")
def text() -> Any:
    return REFERENCES


@registry.register
async def text_later() -> Any:
    return REFERENCES


@pytest.mark.parametrize("method", ["text", "text_later"])
def test_large_responses_are_compressed_in_turns_on_both_ways(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, responses = Calls(monkeypatch), list[bytes]()
    gateway = app.build(load(None, {}, []), registry)
    body = XML.encode_call(method, [])
    accepts = {"Accept-Encoding": "gzip"}

    async def call() -> tuple[int, HTTPResponse, int]:
        running = begun(gateway, method, responses, **accepts)
        assert not isinstance(running, bytes)
        turns = 0
        while not responses:
            assert calls.outcomes == []
            turns += 1
            await asyncio.sleep(0)
        headers = {"Host": "127.0.0.1", "Content-Type": "text/xml", **accepts}
        admitted = gateway.rpc.admit(HTTPRequest(method="POST", target="/api", peer="127.0.0.1", headers=headers))
        assert isinstance(admitted, Exchange)
        others = Turns()
        return turns, await others.of(admitted, body), others.count

    turns, response, others = asyncio.run(call())
    assert (turns > 15, others > 15) == (True, True)
    head, _, packed = responses[0].partition(b"\r\n\r\n")
    assert b"\r\nContent-Encoding: gzip" in head
    assert response.body == packed
    assert XML.decode_answer(unpack(packed, "gzip", 10**8))[1].value == REFERENCES
    assert calls.outcomes == [None, None]


def test_what_is_written_in_turns_is_given_up_when_the_caller_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, responses = Calls(monkeypatch), list[bytes]()
    gateway = app.build(load(None, {}, []), registry)

    async def call() -> None:
        running = begun(gateway, "many", responses)
        await asyncio.sleep(0)
        running.cancel()
        for _ in range(30):
            await asyncio.sleep(0)
        running.cancel()

    asyncio.run(call())
    assert responses == []
    assert calls.outcomes == ["cancelled"]


SMALL: list[Any] = [None, 1, "x" * 10**6, [1, "a", None], {"a": 1.5}, [0] * 100]
LARGE: list[Any] = [[0] * 101, [[]], {"a": {}}, (1,), ITEMS[0], dict.fromkeys(map(str, range(101)))]


def test_what_may_be_large_has_many_values_or_others_inside() -> None:
    assert [may_be_large(value) for value in (*SMALL, *LARGE)] == [False] * len(SMALL) + [True] * len(LARGE)


def test_usual_calls_are_read_without_the_compiled_codec() -> None:
    call = CALLS[1].encode()
    assert XML.decode_usual(call, None) == XML.decode(call, None)
    for body in (b"\xff", b"<a/>", call.replace(b"a.b", b"system.multicall")):
        assert XML.decode_usual(body, None) is None


@pytest.mark.parametrize(
    ("value", "text"), [(1e-7, "0.0000001"), (1e20, "100000000000000000000"), (2**40, "1099511627776")]
)
def test_numbers_are_written_without_the_compiled_codec(value: float, text: str) -> None:
    assert f">{text}<".encode() in XML.encode(CALL, Reply(value=value), ROOM).wire


def test_what_the_options_forbid_is_a_fault_without_the_compiled_codec() -> None:
    codec = XMLRPC(max_depth=DEPTH, max_batch=1, none="fault", i8=False)
    for value in (None, 2**31, 2**63, float("nan"), [None], {"a" * 70: {"b": [2**31]}}):
        fault = codec.encode(CALL, Reply(value=value), ROOM).fault
        assert fault is not None
        assert "cannot be encoded as XML-RPC" in fault.message
    assert XML.encode(CALL, Reply(value=2**63), ROOM).fault is not None
    assert XML.encode(CALL, Reply(value="x" * 100), 99).fault is not None


def test_work_without_turns_is_done_at_once() -> None:
    def work() -> Generator[None, None, int]:
        yield
        yield
        return 3

    assert at_once(work()) == 3
