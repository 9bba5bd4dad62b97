"""What holds for any value and for any bytes; the examples are always the same ones."""

import json
import os
import re
import xmlrpc.client
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import Registry
from gateway.codecs import Codec
from gateway.codecs.jsonrpc import JSONRPC
from gateway.codecs.xmlrpc import XMLRPC
from gateway.model.calls import Batch, Call, Id, InvalidCall, Reply
from gateway.model.faults import CATALOGUE, BadUpstream, Fault, ForeignFault
from tests.conftest import Logged
from tests.raw_http import Wire, request
from tests.serving import Server, serving
from tests.test_corpus import SMALL, body_of

pytestmark = pytest.mark.unmeasured

XML = XMLRPC(max_depth=64, max_batch=100)
JSON = JSONRPC(max_depth=64, max_batch=100)
CALL = Call(method="m", params=[], id=1)
ROOM = 2**24
ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
CODES = {entry.code for entry in CATALOGUE.values()}
TYPES = {"xmlrpc": "text/xml", "jsonrpc": "application/json"}
SEEDS = {kind: [body_of(case) for case in SMALL if case["proto"] == kind] for kind in TYPES}

registry = Registry()


@registry.register(run="inline")
def echo(*args: Any) -> Any:
    return args


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register(run="inline")
def boom(*args: Any) -> Any:
    raise Fault(7, "boom", args)


for name in ("subtract", "sum", "update", "get_data", "type_name", "opt"):
    registry.register(echo, name=name, run="inline")


def fixed(examples: int) -> settings:
    return settings(max_examples=examples, derandomize=True, database=None, deadline=None)


def fuzzed(examples: int) -> settings:
    """Take so many examples in ``make fuzz``, and a fifth of them otherwise."""
    return fixed(examples if "FUZZ" in os.environ else examples // 5)


texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.text('&<>\r\n"\\:]{}\U0001f600\u2028 ', max_size=6)
legal = texts.map(lambda text: ILLEGAL.sub("", text))
doubles = st.floats(allow_nan=False, allow_infinity=False)


def values(scalars: st.SearchStrategy[Any], names: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
        max_leaves=12,
    )


XML_VALUES = values(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | doubles
    | legal
    | st.binary(max_size=20)
    | st.datetimes().map(lambda moment: moment.replace(microsecond=0, fold=0)),
    legal,
)
JSON_VALUES = values(st.none() | st.booleans() | st.integers() | doubles | texts, texts)


@fuzzed(500)
@given(XML_VALUES)
def test_xml_is_read_as_the_value_that_it_was_written_from(value: Any) -> None:
    answer = XML.encode(CALL, Reply(value=value), ROOM)
    body = b"<methodCall><methodName>m</methodName><params><param>%b</param></params></methodCall>" % answer.wire
    decoded = XML.decode(body, None)
    assert isinstance(decoded, Call), decoded
    assert repr(decoded.params) == repr([value])


@fuzzed(500)
@given(JSON_VALUES, st.integers() | doubles | texts)
def test_json_is_read_as_the_value_that_it_was_written_from(value: Any, call_id: Any) -> None:
    answer = JSON.encode(Call(method="m", params=[], id=call_id), Reply(value=[value]), ROOM)
    body = answer.wire.replace(b'"result":', b'"method":"m","params":', 1)
    decoded = JSON.decode(body, None)
    assert isinstance(decoded, Call), decoded
    assert repr([decoded.params, decoded.id]) == repr([[value], call_id])


anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.dates()
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.complex_numbers()
    | st.builds(object),
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("codec", [XML, JSON], ids=["xmlrpc", "jsonrpc"])
@fuzzed(300)
@given(value=anything, room=st.integers(-1, 200) | st.just(ROOM))
def test_whatever_a_method_returns_is_answered(codec: Codec, value: Any, room: int) -> None:
    answer = codec.encode(CALL, Reply(value=value), room)
    assert_well_formed(codec.name, codec.single(answer))
    assert (answer.fault is None and len(answer.wire) <= room) or isinstance(answer.fault, Fault)


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Take a body of the corpus; cut, repeat, overwrite and insert here and there."""
    body = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 40)))
        other = draw(st.sampled_from(seeds))
        cut = draw(st.integers(0, len(other)))
        put = draw(
            st.sampled_from(
                [b"", body[start:end] * 2, other[cut : cut + 30], b"<", b'"', b":", b"\\u", b"\xff", b"\0", b"1e9"]
            )
            | st.binary(max_size=4)
        )
        body = body[:start] + put + body[end:]
    return body


def bodies(kind: str) -> st.SearchStrategy[bytes]:
    opening = {"xmlrpc": b"<methodCall>", "jsonrpc": b'{"jsonrpc":"2.0",'}[kind]
    return mutated(SEEDS[kind]) | st.binary(max_size=60) | st.binary(max_size=30).map(opening.__add__)


def assert_well_formed(kind: str, document: bytes) -> None:
    if kind == "xmlrpc":
        assert document.startswith(b'<?xml version="1.0" encoding="utf-8"?><methodResponse>')
        try:
            (_,), method = xmlrpc.client.loads(document, use_builtin_types=True)
        except xmlrpc.client.Fault as fault:
            assert vars(fault).keys() == {"faultCode", "faultString"}  # noqa: PT017 - a fault is as good as a result
        else:
            assert method is None
        return
    answers = json.loads(document.decode()) if document else []
    for answer in answers if isinstance(answers, list) else [answers]:
        assert answer.keys() in ({"jsonrpc", "result", "id"}, {"jsonrpc", "error", "id"})
        assert answer["jsonrpc"] == "2.0"
        assert type(answer["id"]) in (str, int, float, type(None))
        if "error" in answer:
            assert answer["error"].keys() - {"data"} == {"code", "message"}
            assert type(answer["error"]["code"]) is int
            assert type(answer["error"]["message"]) is str


@pytest.mark.parametrize("codec", [XML, JSON], ids=["xmlrpc", "jsonrpc"])
@pytest.mark.parametrize("charset", [None, "us-ascii", "iso-8859-1"])
@fuzzed(300)
@given(data=st.data())
def test_any_bytes_are_a_call_or_a_fault_of_the_catalogue(
    codec: Codec, charset: str | None, data: st.DataObject
) -> None:
    decoded = codec.decode(data.draw(bodies(codec.name)), charset)
    for entry in decoded.entries if isinstance(decoded, Batch) else [decoded]:
        if isinstance(entry, InvalidCall):
            assert entry.fault.code in CODES
            reply = Reply(fault=entry.fault)
        else:
            reply = Reply(value=entry.params)
        answer = codec.encode(entry, reply, ROOM)
        assert_well_formed(codec.name, codec.single(answer))
        assert_well_formed(codec.name, codec.batch([answer, answer]))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry) as running:
        yield running


@pytest.mark.parametrize("kind", TYPES)
def test_any_bytes_have_a_well_formed_answer_on_the_same_connection(kind: str, server: Server, logged: Logged) -> None:
    with Wire(server.port) as wire:

        @fuzzed(500)
        @given(bodies(kind))
        def answered(body: bytes) -> None:
            wire.send(request("/api", {"Content-Type": TYPES[kind]}, body))
            response = wire.read()
            assert response is not None, "the connection was closed"
            assert response.status == 200
            assert b"Traceback" not in response.body
            assert_well_formed(kind, response.body)

        answered()
    logged.take("cannot be encoded as")


def test_bytes_without_a_type_are_told_by_the_first_one(server: Server, logged: Logged) -> None:
    @fuzzed(200)
    @given(st.binary(max_size=40) | mutated([*SEEDS["xmlrpc"], *SEEDS["jsonrpc"]]))
    def answered(body: bytes) -> None:
        first = body.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        kind = "xmlrpc" if first == b"<" else "jsonrpc" if first in (b"{", b"[") else ""
        wire.send(request("/api", {}, body))
        response = wire.read()
        assert response is not None, "the connection was closed"
        assert response.status == (200 if kind else 415)
        assert response.headers["content-type"].partition(";")[0] == TYPES.get(kind, "text/plain")
        if kind:
            assert_well_formed(kind, response.body)

    with Wire(server.port) as wire:
        answered()
    logged.take("cannot be encoded as")


@fuzzed(300)
@given(st.datetimes(timezones=st.timezones()))
def test_a_moment_with_a_zone_stays_the_same_moment(moment: datetime) -> None:
    answer = JSON.encode(CALL, Reply(value=moment), ROOM)
    if answer.fault is None:
        told = datetime.fromisoformat(json.loads(answer.wire)["result"])
        assert told - moment == timedelta(0)
    answer = XML.encode(CALL, Reply(value=moment), ROOM)
    if answer.fault is None:
        told = datetime.strptime(answer.wire.decode()[25:42], "%Y%m%dT%H:%M:%S").replace(tzinfo=UTC)
        assert timedelta(0) <= moment - told < timedelta(seconds=1)


def json_answer(body: bytes) -> tuple[Id, Reply]:
    answer = JSON.decode_answer(body)
    assert answer is not None
    return answer


@fuzzed(300)
@given(st.lists(XML_VALUES, max_size=3))
def test_an_xml_call_is_read_as_it_was_written(params: list[Any]) -> None:
    decoded = XML.decode(XML.encode_call("a.b", params), None)
    assert isinstance(decoded, Call)
    assert repr((decoded.method, decoded.params)) == repr(("a.b", params))


@fuzzed(300)
@given(XML_VALUES)
def test_an_xml_answer_is_read_as_it_was_written(value: Any) -> None:
    _, reply = XML.decode_answer(XML.single(XML.encode(CALL, Reply(value=value), ROOM)))
    assert (repr(reply.value), reply.fault) == (repr(value), None)


@fuzzed(300)
@given(st.lists(JSON_VALUES, max_size=3) | st.dictionaries(st.text("ab"), JSON_VALUES, max_size=3))
def test_a_json_call_and_its_answer_are_read_as_they_were_written(params: Any) -> None:
    decoded = JSON.decode(JSON.encode_call("m", params, 7), None)
    assert repr(decoded) == repr(Call(method="m", params=params, id=7))
    assert isinstance(decoded, Call)
    call_id, reply = json_answer(JSON.encode(decoded, Reply(value=params), ROOM).wire)
    assert repr((call_id, reply)) == repr((7, Reply(value=params)))


@fuzzed(300)
@given(st.binary(max_size=60))
def test_any_bytes_are_an_answer_or_a_bad_upstream(noise: bytes) -> None:
    for body in (noise, b"<?xml version='1.0'?><methodResponse>" + noise, b'{"jsonrpc":"2.0",' + noise):
        for reply in (XML.decode_answer(body)[1], (JSON.decode_answer(body) or (None, Reply()))[1]):
            assert reply.fault is None or isinstance(reply.fault, BadUpstream | ForeignFault)
