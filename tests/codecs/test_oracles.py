"""The standard library as an oracle: its XML-RPC client and server, and its JSON reader, made strict by its hooks."""

import json
import math
import xmlrpc.client
from collections.abc import Iterator
from typing import Any
from xmlrpc.server import SimpleXMLRPCDispatcher

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.codecs import Decoded
from gateway.model.calls import Batch, Call, InvalidCall, Reply
from gateway.model.faults import Fault, ParseError
from tests.codecs.test_properties import CALL, JSON, JSON_VALUES, ROOM, XML, XML_VALUES, bodies, fuzzed, registry
from tests.serving import Server, serving

pytestmark = pytest.mark.unmeasured


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry) as running:
        yield running


def without_returns(value: Any) -> Any:
    """Leave out CR, which the standard library writes raw, so that every XML parser makes LF of it."""
    if isinstance(value, str):
        return value.replace("\r", "")
    if isinstance(value, list):
        return [without_returns(inner) for inner in value]
    if isinstance(value, dict):
        return {without_returns(name): without_returns(inner) for name, inner in value.items()}
    return value


def sendable(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(sendable, value))
    if isinstance(value, dict):
        return all(map(sendable, value.values()))
    return type(value) is not int or abs(value) < 2**31


SENDABLE = XML_VALUES.map(without_returns).filter(sendable)


def test_the_standard_client_gets_back_what_it_sends(server: Server) -> None:
    with xmlrpc.client.ServerProxy(server.url, allow_none=True, use_builtin_types=True) as proxy:

        @fuzzed(300)
        @given(st.lists(SENDABLE, max_size=3))
        def echoed(values: list[Any]) -> None:
            assert repr(proxy.echo(*values)) == repr(values)

        echoed()


def test_the_standard_client_gets_many_results_of_one_call(server: Server) -> None:
    with xmlrpc.client.ServerProxy(server.url, allow_none=True, use_builtin_types=True) as proxy:

        @fuzzed(50)
        @given(st.lists(SENDABLE, max_size=5))
        def echoed(values: list[Any]) -> None:
            multicall = xmlrpc.client.MultiCall(proxy)
            for value in values:
                multicall.echo(value)
            assert repr(list(multicall())) == repr([[value] for value in values])  # type: ignore[call-overload]

        echoed()
        multicall = xmlrpc.client.MultiCall(proxy)
        multicall.echo()
        multicall.boom()
        results = multicall()
        assert results[0] == []
        with pytest.raises(xmlrpc.client.Fault, match="boom"):
            results[1]


@fuzzed(300)
@given(XML_VALUES)
def test_the_standard_client_reads_every_answer(value: Any) -> None:
    document = XML.single(XML.encode(CALL, Reply(value=value), ROOM))
    assert repr(xmlrpc.client.loads(document, use_builtin_types=True)) == repr(((value,), None))


@fuzzed(100)
@given(st.integers(-(2**31), 2**31 - 1).filter(lambda code: not -32768 <= code <= -32000), st.text())
def test_the_standard_client_reads_every_fault(code: int, text: str) -> None:
    document = XML.single(XML.encode(CALL, Reply(fault=Fault(code, text)), ROOM))
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xmlrpc.client.loads(document)
    assert caught.value.faultCode == code
    assert len(caught.value.faultString) == len(text)


@fuzzed(300)
@given(XML_VALUES)
def test_the_standard_server_reads_what_is_written(value: Any) -> None:
    noted = []

    def note(argument: Any) -> bool:
        noted.append(argument)
        return True

    dispatcher = SimpleXMLRPCDispatcher(use_builtin_types=True)
    dispatcher.register_function(note)
    written = XML.encode(CALL, Reply(value=value), ROOM).wire
    call = b"<methodCall><methodName>note</methodName><params><param>%b</param></params></methodCall>" % written
    answer: Any = dispatcher._marshaled_dispatch(call)
    assert xmlrpc.client.loads(answer) == ((True,), None)
    assert repr(noted) == repr([value])


@fuzzed(300)
@given(st.lists(SENDABLE, max_size=3))
def test_what_the_standard_client_writes_is_read(values: list[Any]) -> None:
    body = xmlrpc.client.dumps(tuple(values), "m", allow_none=True).encode()
    decoded = XML.decode(body, None)
    assert isinstance(decoded, Call), decoded
    assert repr(decoded.params) == repr(values)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("two members of the same name")
    return dict(pairs)


def finite(text: str) -> float:
    if math.isinf(float(text)):
        raise ValueError("out of range")
    return float(text)


def refuse(text: str) -> Any:
    raise ValueError(f"no JSON: {text}")


def levels(document: Any) -> int:
    inner = list(document.values()) if isinstance(document, dict) else document
    return 1 + max(map(levels, inner), default=0) if isinstance(inner, list) else 0


def strictly(body: bytes) -> Any:
    """Read JSON with the standard library, as strictly as RFC 7493 wants it."""
    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    document = json.loads(text, object_pairs_hook=unique, parse_float=finite, parse_constant=refuse)
    json.dumps(document, ensure_ascii=False).encode("utf-8")
    if levels(document) > 64:
        raise ValueError("too deep")
    return document


def summary(decoded: Decoded) -> Any:
    """Tell what was read: the parts of calls, and the ids of what was no call."""
    if isinstance(decoded, Batch):
        return [summary(entry) for entry in decoded.entries]
    if isinstance(decoded, InvalidCall):
        return ("rejected", decoded.id)
    return (decoded.method, decoded.params, decoded.id, decoded.notification)


def expected(document: Any) -> Any:
    """Tell the same of a JSON document, by section 4 and 6 of the specification."""
    if isinstance(document, list) and 0 < len(document) <= 100:
        return [expected(entry) if isinstance(entry, dict) else ("rejected", None) for entry in document]
    if not isinstance(document, dict):
        return ("rejected", None)
    call_id = document.get("id")
    if isinstance(call_id, (bool, list, dict)):
        return ("rejected", None)
    method, params = document.get("method"), document.get("params", [])
    if document.get("jsonrpc") != "2.0" or not isinstance(method, str) or not isinstance(params, (list, dict)):
        return ("rejected", call_id)
    return (method, params, call_id, "id" not in document)


def agrees(body: bytes) -> None:
    decoded = JSON.decode(body, None)
    try:
        document = strictly(body)
    except (ValueError, RecursionError):
        assert isinstance(decoded, InvalidCall), body
        assert isinstance(decoded.fault, ParseError), body
    else:
        assert not (isinstance(decoded, InvalidCall) and isinstance(decoded.fault, ParseError)), decoded
        assert repr(summary(decoded)) == repr(expected(document))


def in_call(text: str) -> bytes:
    return f'{{"jsonrpc":"2.0","method":"m","params":[{text}],"id":1}}'.encode("utf-8", "surrogatepass")


NUMBERS = st.from_regex(r"-?[0-9]{0,3}(\.[0-9]{0,3})?([eE][+-]?[0-9]{0,3})?", fullmatch=True)
STRINGS = st.from_regex(
    r'"(\\u[dD][89abcdefAC][0-9a-f]{2}|\\u[0-9a-fA-F]{3,4}|\\["\\/a-z]|[ -~\ud7ff-\ue000])*"', fullmatch=True
)
OBJECTS = st.lists(
    st.tuples(st.sampled_from(['"a"', '"\\u0061"', '"a:"', '":"', '"\\":"']), NUMBERS | STRINGS), max_size=3
).map(lambda pairs: "{" + ",".join(f"{name}:{value}" for name, value in pairs) + "}")


@fuzzed(1000)
@given(NUMBERS | STRINGS | OBJECTS)
@example("-")
@example("NaN")
@example("-Infinity")
@example("1e400")
@example('"\\ud800"')
@example('"\ud800"')
@example('{"a":1,"\\u0061":1}')
@example("[" * 62 + "]" * 62)
@example("[" * 63 + "]" * 63)
@example("\u00a01")
@example("\f1")
def test_json_is_read_as_the_standard_library_does_strictly(text: str) -> None:
    agrees(in_call(text))


@fuzzed(500)
@given(JSON_VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_json_is_read_however_it_is_laid_out(value: Any, escaped: bool, indent: int | str | None) -> None:
    body = in_call(json.dumps(value, ensure_ascii=escaped, indent=indent))
    decoded = JSON.decode(body, None)
    assert isinstance(decoded, Call), decoded
    assert repr(decoded.params) == repr(json.loads(body)["params"])


@fuzzed(1000)
@given(bodies("jsonrpc"))
def test_broken_json_is_refused_where_the_standard_library_refuses_it(body: bytes) -> None:
    agrees(body)


@fuzzed(300)
@given(JSON_VALUES)
def test_the_standard_library_reads_every_answer(value: Any) -> None:
    assert repr(strictly(JSON.encode(CALL, Reply(value=value), ROOM).wire)) == repr(
        {"jsonrpc": "2.0", "result": value, "id": 1}
    )
