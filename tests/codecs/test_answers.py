"""The client's direction: calls as other servers read them, and what other servers answer."""

import json
import xmlrpc.client
from datetime import datetime
from typing import Any

import pytest

from gateway.codecs.jsonrpc import JSONRPC
from gateway.codecs.xmlrpc import XMLRPC
from gateway.model.calls import Call, Params, Reply
from gateway.model.faults import BadUpstream, ForeignFault, InvalidParams
from gateway.model.values import EncodingError
from tests.codecs.test_properties import JSON, XML, json_answer

MOMENT = datetime(2026, 11, 20, 12, 30, 1)
XML_START = b"<?xml version='1.0'?><methodResponse>"
NO_XML = {
    b"": "not well-formed: no element found, line 1, column 0",
    b"<html><body>502</body></html>": "unknown element",
    b"<methodCall><methodName>a</methodName></methodCall>": "misplaced element",
    b"<methodResponse/>": "a methodResponse has one params or one fault",
    b"<methodResponse><params/></methodResponse>": "the params of a methodResponse have one param",
    b"<methodResponse><params><param><value/></param><param><value/></param></params></methodResponse>": (
        "the params of a methodResponse have one param"
    ),
    b"<methodResponse><params><param><value/></param></params><params/></methodResponse>": (
        "a methodResponse has one params or one fault"
    ),
    b"<methodResponse><fault><value>no</value></fault></methodResponse>": "a fault is a struct",
    b"<methodResponse><fault><value><struct/></value></fault></methodResponse>": (
        "a fault has an int faultCode and a string faultString"
    ),
    b"<!DOCTYPE x><methodResponse/>": "a DOCTYPE is not allowed",
    b"<methodResponse><params><param><value><int>x</int></value></param></params></methodResponse>": "bad int",
    b"\xff<methodResponse/>": "byte 0 is not utf-8",
    b"<methodResponse>" + b"<value><array><data>" * 300: "misplaced element",
}
NO_JSON = {
    b"": "not JSON",
    b"<html>": "not JSON",
    b"[]": 'a response is an object with jsonrpc "2.0"',
    b'{"jsonrpc": "1.1", "result": 1, "id": 1}': 'a response is an object with jsonrpc "2.0"',
    b'{"result": 1}': "its id is a string, a number or null",
    b'{"error": {"code": 404, "message": "no"}}': "its id is a string, a number or null",
    b'{"id": 1, "error": [1]}': "an error has an int code and a string message",
    b'{"jsonrpc": "2.0", "result": 1}': "its id is a string, a number or null",
    b'{"jsonrpc": "2.0", "result": 1, "id": [1]}': "its id is a string, a number or null",
    b'{"jsonrpc": "2.0", "id": 1}': "it has either a result or an error",
    b'{"jsonrpc": "2.0", "id": 1, "result": 1, "error": {"code": 1, "message": ""}}': "it has either a result or an",
    b'{"jsonrpc": "2.0", "id": 1, "error": "no"}': "an error has an int code and a string message",
    b'{"jsonrpc": "2.0", "id": 1, "error": {"code": true, "message": "no"}}': "an error has an int code and a string",
    b'{"jsonrpc": "2.0", "id": 1, "error": null}': "it has either a result or an error",
    b'{"jsonrpc": "2.0", "id": 1, "result": 1, "result": 2}': "two members of the same name",
    b'{"jsonrpc": "2.0", "id": 1, "result": NaN}': "not JSON",
    b'{"jsonrpc": "2.0", "id": 1, "result": ' + b"[" * 100 + b"]" * 100 + b"}": "too deep: at most 64 levels",
}


def faulted(reply: Reply) -> str:
    assert isinstance(reply.fault, BadUpstream)
    return reply.fault.message


@pytest.mark.parametrize(("answer", "reason"), NO_XML.items())
def test_what_is_no_answer_in_xml(answer: bytes, reason: str) -> None:
    assert f"Bad upstream: the response is not XML-RPC: {reason}" in faulted(XML.decode_answer(answer)[1])


@pytest.mark.parametrize(("answer", "reason"), NO_JSON.items())
def test_what_is_no_answer_in_json(answer: bytes, reason: str) -> None:
    message = faulted(json_answer(answer)[1])
    assert message.startswith("Bad upstream: the response is not JSON-RPC: ")
    assert reason in message


def test_the_standard_library_reads_a_call_and_its_answer_is_read() -> None:
    params = [1, 2**40, -1.5, True, None, "a<&>\r\nb", b"\0\xff", MOMENT, [1, [2]], {"a": {"b": None}}]
    read, method = xmlrpc.client.loads(XML.encode_call("get<it>", params), use_builtin_types=True)
    assert (list(read), method) == (params, "get<it>")
    written = xmlrpc.client.dumps((params[3:],), methodresponse=True, allow_none=True).encode()
    params[5] = "a<&>\nb"  # the standard library writes a bare CR, and XML reads it as LF
    assert XML.decode_answer(written)[1] == Reply(value=params[3:])
    fault = XML.decode_answer(xmlrpc.client.dumps(xmlrpc.client.Fault(4, "too <many>")).encode(), "utf-8")[1].fault
    assert isinstance(fault, ForeignFault)
    assert (fault.code, fault.message) == (4, "too <many>")


def test_a_json_error_is_kept_as_it_stands() -> None:
    error = {"code": -32050, "message": "no", "data": {"why": [1]}}
    body = json.dumps({"jsonrpc": "2.0", "id": "x", "error": error}).encode()
    call_id, reply = json_answer(body)
    assert call_id == "x"
    assert isinstance(reply.fault, ForeignFault)
    assert (reply.fault.code, reply.fault.message, reply.fault.data) == (-32050, "no", {"why": [1]})


def test_what_a_json_server_says_itself_is_no_answer() -> None:
    assert JSON.decode_answer(b'{"jsonrpc": "2.0", "method": "changed", "params": [1]}') is None
    assert JSON.decode_answer(b'{"jsonrpc": "2.0", "method": "ask", "id": 1}') is None


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([0, {"a": ["\x01"]}], "params[1].a[0]: cannot be encoded as XML-RPC: a string has the character U+0001"),
        ([2**64], "params[0]: cannot be encoded as XML-RPC: the int has more than 64 bits"),
    ],
)
def test_an_argument_that_xml_cannot_say_is_refused_by_its_place(value: Any, place: str) -> None:
    with pytest.raises(InvalidParams) as raised:
        XML.encode_call("m", value)
    assert place in raised.value.message


@pytest.mark.parametrize(
    ("params", "place"),
    [
        ([1, float("inf")], "params[1]: cannot be encoded as JSON: inf"),
        ({"a": ["\ud800"]}, "params.a[0]: cannot be encoded as JSON"),
    ],
)
def test_an_argument_that_json_cannot_say_is_refused_by_its_place(params: Any, place: str) -> None:
    with pytest.raises(InvalidParams) as raised:
        JSON.encode_call("m", params, 1)
    assert place in raised.value.message


@pytest.mark.parametrize("text", ["nan", "NaN", "-inf", " Infinity "])
def test_doubles_that_are_not_finite_are_read_from_responses_where_that_is_wanted(text: str) -> None:
    body = f"<methodResponse><params><param><value><double>{text}</double></value></param></params></methodResponse>"
    (_, reply), strict = XML.decode_answer(body.encode()), XMLRPC(max_depth=8, max_batch=1, nan=False)
    assert repr(reply.value) == repr(float(text))
    assert "bad double" in faulted(strict.decode_answer(body.encode())[1])


def test_xml_rpc_has_no_arguments_by_name() -> None:
    with pytest.raises(InvalidParams, match="XML-RPC has no arguments by name"):
        XML.encode_call("m", {"a": 1})


OLD: list[tuple[bytes, Any]] = [
    (b'{"result": 7, "error": null, "id": 1}', 7),
    (b'{"jsonrpc": "1.0", "result": 7, "error": null, "id": 1}', 7),
    (b'{"result": null, "error": null, "id": 1}', None),
    (b'{"result": null, "error": {"code": -5, "message": "no", "data": 1}, "id": 1}', (-5, "no", 1)),
    (b'{"result": null, "error": "no", "id": 1}', (-32000, "no", None)),
    (b'{"result": null, "error": [20, "no", null], "id": 1}', (20, "no", None)),
]


@pytest.mark.parametrize(("body", "expected"), OLD)
def test_servers_of_json_rpc_1_are_read(body: bytes, expected: Any) -> None:
    call_id, reply = json_answer(body)
    assert call_id == 1
    if isinstance(expected, tuple):
        assert reply.fault is not None
        assert (reply.fault.code, reply.fault.message, reply.fault.data) == expected
    else:
        assert (reply.value, reply.fault) == (expected, None)


def test_an_error_without_an_id_is_read() -> None:
    call_id, reply = json_answer(b'{"jsonrpc": "2.0", "error": {"code": 5, "message": "warming up"}}')
    assert call_id is None
    assert reply.fault is not None
    assert (reply.fault.code, reply.fault.message) == (5, "warming up")


def fault_of(code: str, text: str = "<string>no</string>") -> ForeignFault:
    members = f"<member><name>faultCode</name><value>{code}</value></member>"
    members += f"<member><name>faultString</name><value>{text}</value></member>"
    body = f"<methodResponse><fault><value><struct>{members}</struct></value></fault></methodResponse>"
    fault = XML.decode_answer(body.encode())[1].fault
    assert isinstance(fault, ForeignFault)
    return fault


def test_a_fault_code_may_be_a_text() -> None:
    assert (fault_of("Client").word, fault_of("Client").code, fault_of("Client").message) == ("Client", -32000, "no")
    assert (fault_of(" 4 ").word, fault_of(" 4 ").code) == (None, 4)
    assert fault_of("<string>warning -- no</string>", "<string></string>").message == "warning -- no"
    for code in ("<boolean>1</boolean>", "<double>4</double>", "<nil/>"):
        with pytest.raises(AssertionError):
            fault_of(code)


LENIENT = [
    ("<dateTime.iso8601/>", None),
    ("<dateTime.iso8601>00000000T00:00:00Z</dateTime.iso8601>", None),
    ("<dateTime.iso8601>0000-00-00T00:00:00+00:00</dateTime.iso8601>", None),
    ("<dateTime.iso8601>-00011130T00:00:00Z</dateTime.iso8601>", None),
    ("<double>nan</double>", None),
    ("<double> -INF </double>", None),
    ("<ex:float>Infinity</ex:float>", None),
    ("<double>1.5</double>", 1.5),
    ("<dateTime.iso8601>20261120T12:30:01</dateTime.iso8601>", MOMENT),
    (
        "<struct><member><name>a</name><value>1</value></member>"
        "<member><name>a</name><value>2</value></member></struct>",
        {"a": "2"},
    ),
]


@pytest.mark.parametrize(("value", "expected"), LENIENT)
def test_what_is_read_leniently_is_otherwise_refused(value: str, expected: Any) -> None:
    body = f"<methodResponse><params><param><value>{value}</value></param></params></methodResponse>".encode()
    assert XML.decode_answer(body, lenient=True) == (None, Reply(value=expected))
    strict = XMLRPC(max_depth=8, max_batch=1, nan=False).decode_answer(body)[1]
    assert isinstance(strict.fault, BadUpstream) if strict.fault else strict.value == expected
    assert (strict.fault is None) is (expected in (1.5, MOMENT))


@pytest.mark.parametrize("value", ["<double>x</double>", "<dateTime.iso8601>1</dateTime.iso8601>", "<boolean/>"])
def test_what_is_not_read_even_leniently(value: str) -> None:
    body = f"<methodResponse><params><param><value>{value}</value></param></params></methodResponse>".encode()
    faulted(XML.decode_answer(body, lenient=True)[1])


def test_duplicate_members_are_read_leniently_in_json() -> None:
    body = b'{"jsonrpc": "2.0", "id": 1, "result": {"a": 1, "a": 2}}'
    assert JSON.decode_answer(body, lenient=True) == (1, Reply(value={"a": 2}))


def test_white_space_stands_between_members_that_are_read_leniently() -> None:
    member = b"<member><name>a</name><value>%b</value></member>"
    struct = b"<value><struct>\n  %b\n  %b\n</struct></value>" % (member % b"1", member % b"2")
    answer = b"<methodResponse><params><param>%b</param></params></methodResponse>" % struct
    assert XML.decode_answer(answer, None, lenient=True) == (None, Reply(value={"a": "2"}))


def test_a_batch_names_the_call_and_the_place_of_what_cannot_be_encoded() -> None:
    calls = [Call(method="a", params=[1]), Call(method="b", params=["x", float("nan")])]
    with pytest.raises(InvalidParams, match=r"call 2: params\[1\]: cannot be encoded as JSON: nan"):
        JSONRPC(max_depth=9, max_batch=1).encode_batch(calls)
    with pytest.raises(InvalidParams, match=r"params\[0\]\[1\].params\[1\]: cannot be encoded as XML-RPC: nan"):
        XMLRPC(max_depth=9, max_batch=1).encode_batch(calls)


@pytest.mark.parametrize("params", [["a", "\ud800"], {"a": "\ud800"}, {"\ud800": 1}])
def test_usual_arguments_with_a_lone_surrogate(params: Params) -> None:
    with pytest.raises(InvalidParams, match="cannot be encoded as JSON: a string has a lone surrogate"):
        JSONRPC(max_depth=9, max_batch=1).encode_call("a", params, 1)


def test_a_value_of_a_stream_with_a_lone_surrogate() -> None:
    with pytest.raises(EncodingError, match="a string has a lone surrogate"):
        list(JSONRPC(max_depth=9, max_batch=1).write_result({"a": ["\ud800"]}, 1000))


def test_arguments_are_as_deep_as_they_may_be_and_no_deeper() -> None:
    codec = JSONRPC(max_depth=4, max_batch=1)
    assert codec.encode_call("a", [[["x"]]], 1) == b'{"jsonrpc":"2.0","method":"a","params":[[["x"]]],"id":1}'
    with pytest.raises(InvalidParams, match="more than 4 levels"):
        codec.encode_call("a", [[[["x"]]]], 1)
