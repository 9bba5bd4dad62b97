"""Both clients and other programs' servers: the standard library's, and what others write on the wire."""

import threading
import xmlrpc.client
from collections.abc import Iterator
from datetime import datetime
from socketserver import ThreadingMixIn
from typing import Any
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

import pytest

from gateway.model.faults import ForeignFault, InvalidParams, MethodNotFound
from tests.client.asking import Ask, both, http, lying, result


class Quiet(SimpleXMLRPCRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class Keeping(Quiet):
    protocol_version = "HTTP/1.1"


class Threading(ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True


def values() -> list[Any]:
    return [1, "ü", 1.5, True, None, datetime(2024, 2, 29, 12, 34, 56), b"\x00", {"a": [{}]}]


def fail() -> None:
    raise KeyError("k")


def refuse() -> None:
    raise xmlrpc.client.Fault(42, "not today")


@pytest.fixture(scope="module", params=[Quiet, Keeping])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with Threading(("127.0.0.1", 0), request.param, allow_none=True, use_builtin_types=True) as server:
        for function in (values, fail, refuse):
            server.register_function(function)
        server.register_function(lambda a, b: a + b, "deep.name.add")
        server.register_function(lambda *given: list(given), "echo")
        server.register_function(str, "text")
        server.register_introspection_functions()
        server.register_multicall_functions()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/RPC2"
        server.shutdown()
        thread.join(10)


@both
def test_the_standard_librarys_server(ask: Ask, url: str) -> None:
    wide = [2**31 - 1, -(2**31), datetime(1999, 1, 1), b"\xff", {"": None}, ["\n"]]
    added, given, echoed, text, failed, refused, absent, known = ask(
        url,
        lambda c: c.deep.name.add(1, 2),
        lambda c: c.values(),
        lambda c: c.echo(*wide),
        lambda c: c.text(2**40),
        lambda c: c.fail(),
        lambda c: c.refuse(),
        lambda c: c.absent(),
        lambda c: c.system.listMethods(),
        protocol="xmlrpc",
    )
    assert (added, given, echoed, text) == (3, values(), wide, "1099511627776")
    assert (type(failed), failed.code, failed.message) == (ForeignFault, 1, "<class 'KeyError'>:'k'")
    assert (refused.code, refused.message) == (42, "not today")
    assert (absent.code, absent.message) == (1, "<class 'Exception'>:method \"absent\" is not supported")
    assert "deep.name.add" in known


@both
def test_the_standard_librarys_multicall(ask: Ask, url: str) -> None:
    def send(client: Any) -> Any:
        batch = client.batch()
        batch.deep.name.add(1, 2)
        batch.refuse()
        batch.absent()
        return batch.send()

    (outcomes,) = ask(url, send, protocol="xmlrpc")
    assert outcomes[0].result() == 3
    assert [type(outcome.error) for outcome in outcomes[1:]] == [ForeignFault, ForeignFault]
    assert outcomes[1].error.code == 42


@both
def test_none_and_wide_ints_that_a_server_does_not_read(ask: Ask, url: str) -> None:
    options = {"protocol": "xmlrpc", "nil": False, "i8": False}
    for refused in ask(url, lambda c: c.echo(None), lambda c: c.echo(2**40), **options):
        assert "cannot be encoded as XML-RPC" in str(refused)
        assert refused.sent == "no"


FAULT = b"<methodResponse><fault><value><struct>%b</struct></value></fault></methodResponse>"
MEMBER = b"<member><name>faultCode</name><value><string>%b</string></value></member>"
STRING = b"<member><name>faultString</name><value><string>%b</string></value></member>"


@both
def test_faults_whose_codes_are_texts(ask: Ask) -> None:
    own = http(FAULT % (MEMBER % b"warning -- Warning\n\nNo stock" + STRING % b""))
    digits = http(FAULT % (MEMBER % b"4" + STRING % b"Odoo Server Error"))
    specified = http(FAULT % (MEMBER % b"-32601" + STRING % b"server error. requested method not found"))
    with lying([own, digits, specified]) as liar:
        word, number, absent = ask(liar.url, *[lambda c: c.execute("db", 1)] * 3, protocol="xmlrpc")
    assert (type(word), word.word, word.message) == (ForeignFault, "warning -- Warning\n\nNo stock", word.word)
    assert (number.code, number.message) == (4, "Odoo Server Error")
    assert (type(absent), absent.message) == (MethodNotFound, "server error. requested method not found")


@both
def test_json_servers(ask: Ask) -> None:
    kind = b"Content-Type: application/json; charset=utf-8\r\n"
    error = b'{"jsonrpc": "2.0", "id": %d, "error": {"code": %d, "message": "%b", "data": %b}}'
    with lying(
        [
            http(b'{"jsonrpc": "2.0", "id": 1, "result": null}\n', kind),
            http(b'{"result": [1.5, 1e400000], "error": null, "id": 2}', kind),
            http(b'{"result": 5, "error": null, "id": 3}', kind),
            http(b'{"result": null, "error": {"code": -5, "message": "Invalid address"}, "id": 4}', kind, b"500 Error"),
        ],
        [
            http(error % (5, 200, b"Odoo Server Error", b'{"name": "odoo.exceptions.AccessDenied"}'), kind),
            http(error % (6, -32602, b"Invalid params", b'["a", "b"]'), kind),
            http(error % (7, -32001, b"Resource not found", b"null"), kind),
            http(b'{"jsonrpc":"2.0","result":1,"result":2,"id":8}', kind),
        ],
    ) as liar:
        found = ask(liar.url, *[lambda c: c.multiply(1, 2)] * 8)
    nothing, out_of_range, old, bitcoin, odoo, wrong, ethereum, twice = found
    assert (nothing, old) == (None, 5)
    assert "a number is out of range" in str(out_of_range)
    assert (bitcoin.code, bitcoin.message) == (-5, "Invalid address")
    assert (odoo.code, odoo.data) == (200, {"name": "odoo.exceptions.AccessDenied"})
    assert (type(wrong), wrong.data, wrong.foreign.data) == (InvalidParams, {"data": ["a", "b"]}, ["a", "b"])
    assert (type(ethereum), ethereum.code) == (ForeignFault, -32001)
    assert "two members of the same name" in str(twice)


@both
def test_jayson(ask: Ask) -> None:
    """The bytes of jayson 4 on node: ids before results, a charset, keep-alive, and 204 for notifications."""
    kept = b"Date: Sun, 29 Nov 2026 16:48:32 GMT\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n"
    kind = b"content-type: application/json; charset=utf-8\r\n" + kept
    none = b"HTTP/1.1 204 No Content\r\n" + kept + b"\r\n"
    absent = b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32601,"message":"Method not found"}}'

    def send(client: Any) -> Any:
        batch = client.batch()
        batch.add(1, 2)
        batch.missing()
        batch.notify("add", 1, 2)
        return batch.send()

    with lying(
        [
            http(b'{"jsonrpc":"2.0","id":1,"result":5}', kind),
            none,
            http(absent % 2, kind),
            http(b'[{"jsonrpc":"2.0","id":1,"result":3},' + absent % 2 + b"]", kind),
            http(b'{"jsonrpc":"2.0","id":3,"error":{"code":5,"message":"own","data":{"a":1}}}', kind),
        ]
    ) as liar:
        added, told, missing, outcomes, own = ask(
            liar.url,
            lambda c: c.add(2, 3),
            lambda c: c.notify("add", 1, 2),
            lambda c: c.missing(),
            send,
            lambda c: c.err(),
        )
    assert (added, told, type(missing)) == (5, None, MethodNotFound)
    assert [outcome.value for outcome in outcomes] == [3, None]
    assert type(outcomes[1].error) is MethodNotFound
    assert (own.code, own.message, own.data) == (5, "own", {"a": 1})
    assert liar.accepted == 1


@both
def test_lenient_reading(ask: Ask) -> None:
    twice = http(b'{"jsonrpc":"2.0","result":{"a":1,"a":2},"id":1}')
    date = b"<methodResponse><params><param><value><dateTime.iso8601/></value></param></params></methodResponse>"
    with lying([twice], [http(date)]) as liar:
        assert ask(liar.url, lambda c: c.x(), lenient=True) == [{"a": 2}]
        assert ask(liar.url, lambda c: c.x(), lenient=True, protocol="xmlrpc") == [None]


@both
def test_what_is_sent(ask: Ask) -> None:
    with lying([http(result(b"1"))], [http(b"x", status=b"404 No")]) as liar:
        ask(liar.url + "/ü?a=b c", lambda c: c.add(1, b"\xff"), headers={"traceparent": "00-ab-cd-01"})
        ask(liar.url, lambda c: c.add("ü"), protocol="xmlrpc", auth=("Aladdin", "open sesame"), timeout=100)
    first, second = liar.requests
    head, _, body = first.partition(b"\r\n\r\n")
    assert body == b'{"jsonrpc":"2.0","method":"add","params":[1,"/w=="],"id":1}'
    assert head.split(b"\r\n") == [
        b"POST /api/%C3%BC?a=b%20c HTTP/1.1",
        b"Host: 127.0.0.1:%d" % liar.port,
        b"User-Agent: callgate",
        b"Accept-Encoding: gzip",
        b"Content-Type: application/json",
        b"traceparent: 00-ab-cd-01",
        head.split(b"\r\n")[6],
        b"Content-Length: %d" % len(body),
    ]
    assert head.split(b"\r\n")[6].startswith(b"X-Request-Timeout: 59.")
    assert b"\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\nX-Request-Timeout: 99." in second
    assert b"\r\nContent-Type: text/xml; charset=utf-8\r\n" in second
    assert second.endswith("<value><string>ü</string></value></param></params></methodCall>".encode())
