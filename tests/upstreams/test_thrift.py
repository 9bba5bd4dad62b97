"""Thrift: the articles' calculator, every type in both protocols with both libraries, and replies that are none."""

import base64
import json
import signal
import socket
import struct
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from xmlrpc.client import Fault, ServerProxy

import pytest
import thrift.Thrift  # type: ignore[import-untyped]
import thriftpy2.thrift
from msgspec.structs import replace
from thrift.protocol.TBinaryProtocol import TBinaryProtocol  # type: ignore[import-untyped]
from thrift.protocol.TCompactProtocol import TCompactProtocol  # type: ignore[import-untyped]
from thrift.transport.TSocket import TServerSocket  # type: ignore[import-untyped]
from thrift.transport.TTransport import TBufferedTransport, TTransportException  # type: ignore[import-untyped]

from gateway import Registry
from gateway.app import build
from gateway.config import ConfigError, load
from gateway.upstreams.thrift.adapter import APPLICATION_EXCEPTIONS
from tests.conftest import Logged
from tests.raw_http import post
from tests.serving import serving
from tests.upstreams import kinds
from tests.upstreams.kinds import IDL, KINDS, Kind, binary
from tests.upstreams.running import Program, Served, serve_upstream, until

BUFFERED = KINDS[4]
ALL = [
    kinds.thrift(library, protocol, transport, (), b"")
    for library in ("thriftpy2", "official")
    for protocol in ("binary", "compact")
    for transport in ("buffered", "framed")
]
EVERYTHING: dict[str, Any] = {
    "truth": True,
    "tiny": -128,
    "small": 2**15 - 1,
    "medium": -(2**31),
    "large": 2**31 - 1,
    "real": -0.1,
    "text": "<ünï\u2028\U0001f600>",
    "data": b"\0\xff\x80",
    "color": "GREEN",
    "texts": ["", "a", "ü"],
    "ints": [3, -1, 2**31 - 1],
    "reals": {"": 0.5, "ü": 1e300},
    "by_int": {"-9223372036854775808": "least", "0": ""},
    "by_bool": {"true": "RED", "false": "GREEN"},
    "by_color": {"RED": False, "GREEN": True},
    "by_data": [[b"\xff", b""], [b"", b"\0"]],
    "truths": [True, False, True],
    "either": {"text": ""},
    "person": {"id": 0, "first_name": "Grace"},
    "inner": [{}, {"truth": False, "far": False}, {"inner": [{"inner": []}], "texts": []}],
    "deep": [{"a": [b"\xff", b""]}, {}],
    "far": False,
}
EDGES: list[dict[str, Any]] = [
    {"large": -(2**63), "tiny": 127, "small": -(2**15), "medium": 2**31 - 1},
    {"large": 2**63 - 1, "texts": ["x"] * 200, "truths": [True] * 15, "by_int": {"9223372036854775807": "most"}},
    {"real": 5e-324, "text": "\0\x01", "by_data": []},
    {"real": 2.0**53, "either": {"number": -1}, "color": 7, "by_color": {"7": True}},
]
REFUSED: list[tuple[str, Any, str]] = [
    ("echo", {"tiny": 128}, "params[0].tiny: expected i8, an int of 8 bits"),
    ("echo", {"small": -(2**15) - 1}, "params[0].small: expected i16, an int of 16 bits"),
    ("echo", {"medium": 2**31}, "params[0].medium: expected i32, an int of 32 bits"),
    ("echo", {"large": 2**63}, "params[0].large: expected i64, an int of 64 bits"),
    ("echo", {"large": 1.0}, "params[0].large: expected i64, got float"),
    ("echo", {"large": True}, "params[0].large: expected i64, got bool"),
    ("echo", {"truth": 1}, "params[0].truth: expected bool, got int"),
    ("echo", {"real": "1"}, "params[0].real: expected double, got str"),
    ("echo", {"real": 2**53 + 1}, "params[0].real: expected double: it cannot represent this int exactly"),
    ("echo", {"real": 10**400}, "params[0].real: expected double: it cannot represent this int exactly"),
    ("echo", {"text": 1}, "params[0].text: expected string, got int"),
    ("echo", {"data": "*"}, "params[0].data: expected binary as base64"),
    ("echo", {"data": 1}, "params[0].data: expected binary, got int"),
    ("echo", {"color": "BLUE"}, "params[0].color: expected Color: RED, GREEN"),
    ("echo", {"color": 2**31}, "params[0].color: expected Color, an int of 32 bits"),
    ("echo", {"texts": ["", None]}, "params[0].texts[1]: expected string, got NoneType"),
    ("echo", {"texts": {}}, "params[0].texts: expected list<string>, got dict"),
    ("echo", {"ints": [1, 2, 1]}, "params[0].ints[2]: given twice"),
    ("echo", {"reals": {"a": "x"}}, "params[0].reals.a: expected double, got str"),
    ("echo", {"reals": []}, "params[0].reals: expected map<string,double>, got list"),
    ("echo", {"by_int": {"01": ""}}, "params[0].by_int.01: expected i64, got str"),
    ("echo", {"by_int": {"1" * 30: ""}}, f"params[0].by_int.{'1' * 30}: expected i64, got str"),
    ("echo", {"by_bool": {"True": 1}}, "params[0].by_bool.True: expected bool, got str"),
    ("echo", {"by_color": {"RED": True, "1": True}}, "params[0].by_color.1: given twice"),
    ("echo", {"by_color": {"BLUE": True}}, "params[0].by_color.BLUE: expected Color: RED, GREEN"),
    ("echo", {"by_data": {"a": "b"}}, "params[0].by_data: expected map<binary,binary>, as a list of [key, value]"),
    ("echo", {"by_data": [["", ""], ["", "AA=="]]}, "params[0].by_data[1]: given twice"),
    ("echo", {"either": {"text": "", "number": 1}}, "params[0].either: expected Either, a union: one of text, number"),
    ("echo", {"either": {}}, "params[0].either: expected Either, a union: one of text, number"),
    ("echo", {"person": {"last_name": ""}}, "params[0].person.id: missing"),
    ("echo", {"person": 3}, "params[0].person: expected Person, got int"),
    ("echo", {"inner": [{}, {"inner": [{"tint": 1}]}]}, "params[0].inner[1].inner[0].tint: there is no such field"),
    ("echo", None, "params[0]: expected object, got null"),
    ("add", "1", "params[0]: expected int, got str"),
    ("paint", "BLUE", "params[0]: expected Color: RED, GREEN"),
    ("nest", [[1], [2, 300]], "params[0][1][1]: expected int <= 127"),
    ("reverse", "*", "params[0]: invalid base64 encoded string"),
    ("divide", 2**53 + 1, "params[0]: expected double: it cannot represent this int exactly"),
]


def textual(value: Any) -> Any:
    """Say bytes as JSON does."""
    return json.loads(json.dumps(value, default=lambda data: base64.b64encode(data).decode()))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_every_type_comes_back_as_it_was(kind: Kind, tmp_path: Path) -> None:
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path) as up:
        with ServerProxy(up.server.url, allow_none=True, use_builtin_types=True) as server:
            assert shown(server.up.echo(EVERYTHING)) == shown(in_order(EVERYTHING))
            server.up.sendObj(EVERYTHING)
            assert server.up.getObj() == in_order(EVERYTHING)
            assert server.up.reverse(b"\0\xff") == b"\xff\0"
        for value in (EVERYTHING, *EDGES):
            said = textual(value)
            assert shown(up.call("echo", said)) == shown(in_order(said))
        assert [up.call("negate", value) for value in (True, False)] == [False, True]
        assert up.call("paint", 5) == "GREEN"
        assert up.call("nest", [[-128], [], [127, 0]]) == [[-128], [], [127, 0]]
        assert up.call("echo", {"text": None}) == {}
        assert shown(up.call("echo", {"real": 2**53})) == shown({"real": 2.0**53})


def shown(value: Any) -> str:
    """Say a value so that True, 1 and 1.0 differ, and the order of members does not matter."""
    return json.dumps(value, sort_keys=True, default=repr)


def in_order(value: dict[str, Any]) -> dict[str, Any]:
    """Sort what is a set; a library may do so."""
    return {**value, "ints": sorted(value["ints"], key=EVERYTHING["ints"].index)} if "ints" in value else value


@pytest.mark.parametrize("kind", ALL[:2], ids=lambda kind: kind.name)
def test_the_calculator(kind: Kind, tmp_path: Path, logged: Logged) -> None:
    kind = replace(kind, options=kind.options.replace("'Programs'", "'Calculator'"))
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path, "prefix = ''") as up:
        with ServerProxy(up.server.url) as server:
            assert (server.add(10, 5), server.subtract(10, 5), server.multiply(7, 3)) == (15, 5, 21)
            assert server.divide(7, 3) == 7 / 3
            with pytest.raises(Fault) as raised:
                server.divide(7, 0)
            assert (raised.value.faultCode, raised.value.faultString) == (-32000, "division by zero")
            assert server.system.methodSignature("divide") == [["double", "double", "double"]]
            assert server.system.methodHelp("divide") == "Raises InvalidOperation."
        for params in ([10, 5], {"a": 10, "b": 5}):
            call = {"jsonrpc": "2.0", "method": "subtract", "params": params, "id": 1}
            assert json.loads(post(up.server.port, json.dumps(call).encode()).body)["result"] == 5
        call = {"jsonrpc": "2.0", "method": "divide", "params": [1, 0], "id": 1}
        assert json.loads(post(up.server.port, json.dumps(call).encode()).body)["error"] == {
            "code": -32000,
            "message": "division by zero",
            "data": {"type": "InvalidOperation", "value": {"operation": 4, "why": "division by zero"}},
        }
    assert not logged.lines


@pytest.mark.parametrize(("method", "value", "reason"), REFUSED)
def test_what_does_not_fit_is_refused_before_a_byte_is_sent(
    method: str, value: Any, reason: str, tmp_path: Path
) -> None:
    with serve_upstream(BUFFERED, 1, tmp_path) as up:  # nobody is asked
        more = (1,) if method in ("add", "divide") else ()
        error = up.answer(method, value, *more)["error"]
        assert (error["code"], error["data"]["detail"]) == (-32602, reason)


def test_arguments_are_counted_and_named_without_the_idls_signatures_too(tmp_path: Path) -> None:
    with (
        Program(BUFFERED) as program,
        serve_upstream(BUFFERED, program.port, tmp_path, "methods = ['add', 'search']") as up,
    ):
        assert up.call("add", a=1, b=2) == up.call("add", 1, 2) == 3
        for given, reason in (
            ([1, 2, 3], "params[2]: one too many, it takes 2 at most"),
            ([1], "params.b: missing"),
            ([1, None], "params.b: missing"),
        ):
            assert up.answer("add", *given)["error"]["data"]["detail"] == reason
        assert up.answer("add", a=1, c=2)["error"]["data"]["detail"] == "params.c: there is no such field"


def test_arguments_with_a_default_may_be_left_out(tmp_path: Path) -> None:
    with Program(BUFFERED) as program, serve_upstream(BUFFERED, program.port, tmp_path) as up:
        person = {"id": 3, "last_name": "Hopper", "first_name": "Grace", "number": "1959"}
        assert up.call("search", last_name="Hopper") == [person]
        assert up.call("search", "1959") == [person]
        assert up.call("search", first_name="Nobody") == []


def test_several_services_on_one_port(tmp_path: Path) -> None:
    for protocol in ("binary", "compact"):
        kind = kinds.thrift("thriftpy2-multiplexed", protocol, "framed", (), b"")
        with Program(kind) as program, serve_upstream(kind, program.port, tmp_path, "multiplexed = true") as up:
            assert up.call("add", 1, 2) == 3


def test_a_bug_of_the_service(tmp_path: Path, logged: Logged) -> None:
    with Program(BUFFERED) as program, serve_upstream(BUFFERED, program.port, tmp_path) as up:
        assert up.fault("crash", "a secret") == (-32002, "maybe")  # this library hangs up
    assert logged.take("is down: EOFError")
    official = KINDS[5]
    with Program(official) as program, serve_upstream(official, program.port, tmp_path) as up:
        assert up.answer("crash", "a secret")["error"] == {"code": -32000, "message": "the upstream failed"}


def test_a_method_that_the_server_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "newer.thrift").write_text("service Calculator { i32 newest() }")
    for kind in KINDS[4:6]:
        newer = replace(kind, options=kind.options.replace(str(IDL), str(tmp_path / "newer.thrift")))
        newer = replace(newer, options=newer.options.replace("'Programs'", "'Calculator'"))
        with Program(kind) as program, serve_upstream(newer, program.port, tmp_path) as up:
            assert up.answer("newest")["error"] == {
                "code": -32601,
                "message": "Method not found",
                "data": {"detail": "the upstream has no such method"},
            }


def test_calls_without_an_answer(tmp_path: Path, logged: Logged) -> None:
    marks, kind = tmp_path / "marks", KINDS[5]  # whose library goes on when a method fails
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path, "timeout = { '*' = 0.5 }") as up:
        for _ in range(3):
            assert up.call("leave", str(marks)) is None
        until(lambda: marks.exists() and len(marks.read_text()) == len("run\n") * 3)
        program.signal(signal.SIGSTOP)
        try:
            codes = [up.answer("leave", "x" * 500_000).get("error", {}).get("code") for _ in range(40)]
        finally:
            program.signal(signal.SIGCONT)
        assert -32001 in codes, "what nobody reads piles up here"
        until(lambda: up.answer("add", 1, 2).get("result") == 3)  # it has megabytes to read before
    logged.take("is down")


class Answering:
    """A server that answers each message of the binary protocol as a function says, which gets its number."""

    def __init__(self, answer: Callable[[int], bytes]) -> None:
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while data := connection.recv(65536):
                (length,) = struct.unpack_from(">i", data, 4)
                (number,) = struct.unpack_from(">i", data, 8 + length)
                connection.sendall(self._answer(number))

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@contextmanager
def answering(answer: Callable[[int], bytes], folder: Path, settings: dict[str, Any] | None = None) -> Iterator[Served]:
    server = Answering(answer)
    try:
        with serve_upstream(BUFFERED, server.port, folder, settings=settings) as up:
            yield up
    finally:
        server.close()


def result(code: int, body: bytes) -> bytes:
    return struct.pack(">bh", code, 0) + body + b"\0"


NEST = b"\x0f\0\0\0\x01" * 100
ANSWERS: list[tuple[str, tuple[Any, ...], bytes, str]] = [
    ("add", (1, 1), result(8, b"\0\0\0\1"), "response.success: the type is not that of the .thrift file"),
    ("negate", (True,), result(2, b"\2"), "response.success: a bool is neither true nor false"),
    (
        "echo",
        ({},),
        result(12, b"\x0b\0\7\0\0\0\1\xff\0"),
        "response.success.text: the string is not UTF-8; bytes need",
    ),
    ("echo", ({},), result(12, b"\x0f\0\x0a\x08\0\0\0\1\0\0\0\1\0"), "response.success.texts: the type is not that"),
    (
        "echo",
        ({},),
        result(12, b"\x0f\0\x0a\x0b\xff\xff\xff\xff\0"),
        "response.success.texts: the number of items is negative",
    ),
    (
        "echo",
        ({},),
        result(12, b"\x0d\0\x0c\x0b\4\0\0\0\2" + (b"\0\0\0\0" + b"\0" * 8) * 2 + b"\0"),
        "response.success.reals: the map has a key twice",
    ),
    ("echo", ({},), result(12, b"\x0b\0\7\x7f\xff\xff\xff\0"), "response.success.text: a value of 2147483647 bytes"),
    ("echo", ({},), result(12, b"\x63\0\x64\0"), "response.success: a field has an unknown type"),
    ("echo", ({},), result(12, b"\x0f\x7f\xff" + NEST + b"\0"), "response.success: nested too deeply"),
    ("echo", ({},), result(12, b"\x0f\0\x14\x0c\0\0\0\1" * 100), "nested too deeply"),
]


@pytest.mark.parametrize(("method", "arguments", "body", "reason"), ANSWERS)
def test_answers_that_are_not_as_the_idl_says(
    method: str, arguments: tuple[Any, ...], body: bytes, reason: str, *, tmp_path: Path, logged: Logged
) -> None:
    with answering(lambda number: binary(method.encode(), number=number, body=body), tmp_path) as up:
        for _ in range(2):
            error = up.answer(method, *arguments)["error"]
            assert error["code"] == -32004
            assert reason in error["message"]
    assert logged.take("upstream up: ")


def test_fields_of_a_newer_server_are_passed_over(tmp_path: Path) -> None:
    newer = (
        b"\x02\x10\x01\x01"
        b"\x03\x10\x02\x05"
        b"\x04\x10\x03" + b"\0" * 8 + b"\x06\x10\x04\0\1"
        b"\x08\x10\x05\0\0\0\1"
        b"\x0a\x10\x06" + b"\0" * 8 + b"\x0b\x10\x07\0\0\0\2ab"
        b"\x0c\x10\x08\x02\0\x01\x01\0"
        b"\x0d\x10\x09\x0b\x08\0\0\0\1\0\0\0\1a\0\0\0\1"
        b"\x0f\x10\x0a\x02\0\0\0\2\1\0"
        b"\x0e\x10\x0b\x03\0\0\0\1\7"
        b"\x10\x10\x0c" + b"\x7f" * 16
    )
    body = result(12, newer + b"\x0b\0\7\0\0\0\2hi\0")
    with answering(lambda number: binary(b"echo", number=number, body=body), tmp_path) as up:
        assert [up.call("echo", {}) for _ in range(3)] == [{"text": "hi"}] * 3


def test_nothing_but_an_end_is_none(tmp_path: Path) -> None:
    with answering(lambda number: binary(b"add", number=number, body=b"\0"), tmp_path) as up:
        assert up.call("add", 1, 2) is None


def test_a_long_answer_that_comes_in_pieces_lets_others_pass(tmp_path: Path) -> None:
    rows = struct.pack(">bi", 15, 100) + (struct.pack(">bi", 3, 1000) + b"\7" * 1000) * 100
    with answering(lambda number: binary(b"nest", number=number, body=result(15, rows)), tmp_path) as up:
        assert up.call("nest", []) == [[7] * 1000] * 100


@pytest.mark.parametrize("library", [thrift.Thrift, thriftpy2.thrift], ids=["official", "thriftpy2"])
def test_all_of_thrifts_own_exceptions_are_in_the_table(library: Any, tmp_path: Path, logged: Logged) -> None:
    kind = library.TApplicationException
    codes = {name: code for name, code in vars(kind).items() if name.isupper() and type(code) is int}
    assert {0, 1, 6} <= set(codes.values()) <= set(APPLICATION_EXCEPTIONS)
    for name, code in codes.items():
        body = b"\x0b\0\1\0\0\0\x0bno /etc/xyz\x08\0\2" + struct.pack(">i", code) + b"\0"
        with answering(lambda number, body=body: binary(kind=3, number=number, body=body), tmp_path) as up:  # type: ignore[misc]
            said = up.answer("add", 1, 2)
            if name == "MISSING_RESULT":
                assert said["result"] is None
            else:
                assert said["error"]["code"] == APPLICATION_EXCEPTIONS[code]("").code
                assert ("/etc" in json.dumps(said)) == (name == "UNKNOWN")
    logged.take("upstream up: ")


def test_what_callers_see_of_the_types(tmp_path: Path) -> None:
    with serve_upstream(BUFFERED, 1, tmp_path) as up, ServerProxy(up.server.url) as server:
        methods: Any = server.rpc.discover()
        described = {method["name"]: method for method in methods["methods"]}
        assert described["up.add"]["params"][0]["schema"] == {"type": "integer"} | {
            "minimum": -(2**63),
            "maximum": 2**63 - 1,
        }
        assert {"type": "string", "enum": ["RED", "GREEN"]} in described["up.paint"]["params"][0]["schema"]["anyOf"]
        everything = described["up.echo"]["params"][0]["schema"]
        assert everything["properties"]["person"] == {"type": "object", "title": "Person"}
        assert everything["properties"]["texts"] == {"type": "array", "items": {"type": "string"}}
        assert [param["required"] for param in described["up.search"]["params"]] == [False] * 3
        assert server.system.methodSignature("up.reverse") == [["base64", "base64"]]
        assert server.system.methodSignature("up.echo") == [["struct", "struct"]]


WRONG: dict[str, str] = {
    "service Other { void f() }": "the file {file} has no service Programs",
    "struct A { 1: i32 a }": "the file {file} has no service Programs",
    "": "the file {file} has no service Programs",
    "service Programs { i32 f(1: Missing m) }": "{file}:1:29: there is no type 'Missing'",
    "service Programs { i32 f( }": "{file}:1:27: expected a field, or ')', found '}}'",
    "service Programs { i32 f(1: i32 @) }": "{file}:1:33: the character '@' is not allowed here",
    'include "nowhere.thrift" service Programs extends nowhere.S {}': "{file}:1:9: the included file nowhere.thrift is",
}


@pytest.mark.parametrize(("text", "problem"), WRONG.items())
def test_an_idl_that_cannot_be_used_is_told_at_the_start(text: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.thrift"
    file.write_text(text)
    assert "upstreams.up: " + problem.format(file=file) in told(BUFFERED.options.replace(str(IDL), str(file)), tmp_path)


def told(options: str, folder: Path) -> str:
    toml = folder / "gateway.toml"
    toml.write_text(f"[upstreams.up]\nurl = 'thrift://127.0.0.1:1'\n{options}")
    with pytest.raises(ConfigError) as raised:
        build(load(toml, {}, ()), Registry())
    (problem,) = raised.value.problems
    return str(problem)


def test_options_that_cannot_be(tmp_path: Path) -> None:
    assert told("", tmp_path).endswith("upstreams.up.idl is missing: the .thrift file of the service")
    assert told("idl = '/nowhere/a.thrift'", tmp_path) == (
        "upstreams.up: the file /nowhere/a.thrift cannot be read: no such file or directory"
    )
    assert told(f"idl = '{IDL}'", tmp_path) == (
        f"upstreams.up: the file {IDL} has several services: name one, service = one of Calculator, Programs"
    )
    assert told(f"idl = '{IDL}'\nservice = 'Program'", tmp_path) == (
        f"upstreams.up: the file {IDL} has no service Program; did you mean Programs?"
    )
    assert told(f"idl = '{IDL}'\nservice = 'Programs'\nmethods = ['ad']", tmp_path) == (
        f"upstreams.up: the file {IDL} has no method ad; did you mean add?"
    )
    file = tmp_path / "one.thrift"
    file.write_text("service One { void f() }")
    assert told(f"idl = '{file}'\nmultiplexed = true", tmp_path) == (
        "upstreams.up: multiplexed needs the name of the service: service = ..."
    )


LANGUAGE = f"idl = '{IDL.parent}/language.thrift'\nservice = 'Second'\nincludes = ['{IDL.parent}/included']"


def test_comments_and_defaults_are_shown_to_callers(tmp_path: Path) -> None:
    with serve_upstream(replace(BUFFERED, options=LANGUAGE), 1, tmp_path) as up, ServerProxy(up.server.url) as server:
        assert server.system.methodHelp("up.add") == (
            "Adds two numbers.\n\n  Indented, as it is.\n\nRaises Trouble, Worse."
        )
        documents: Any = server.rpc.discover()
    shown = {each["name"]: each for each in documents["methods"]}
    assert shown["up.said"]["summary"] == "Says it in two lines."
    assert shown["up.add"]["description"] == "Indented, as it is.\n\nRaises Trouble, Worse."
    name, often = shown["up.said"]["params"]
    assert (name["schema"]["description"], name["required"]) == ("The name of somebody.", True)
    assert (often["schema"]["description"], often["required"]) == ("How often", False)
    assert shown["up.add"]["params"][1]["schema"]["default"] == 3
    assert shown["up.color"]["params"][0]["schema"]["default"] == "GREEN"
    everything = shown["up.everything"]["params"][0]["schema"]
    assert everything["properties"]["data"]["default"] == "Ynl0ZXM="
    assert everything["properties"]["later"]["default"] == {"name": "x", "id": 9}


def test_a_required_field_with_a_default_is_sent(tmp_path: Path) -> None:
    """A service refuses a struct without a required field, whatever the default in its file."""
    (tmp_path / "a.thrift").write_text(
        "struct A { 1: required i32 x = 7; 2: i32 y = 8 } service S { void f(1: required A a = {}, 2: optional i32 b) }"
    )
    options = BUFFERED.options.replace(str(IDL), str(tmp_path / "a.thrift")).replace("'Programs'", "'S'")
    with Echoing("binary") as service, serve_upstream(replace(BUFFERED, options=options), service.port, tmp_path) as up:
        assert up.call("f", {"y": 9}) is None
        assert service.received.pop() == {1: {1: 7, 2: 9}}
        assert up.call("f") is None
        assert service.received.pop() == {}


@pytest.mark.parametrize("protocol", ["binary", "compact"])
def test_fields_without_numbers_on_the_wire(protocol: str, tmp_path: Path) -> None:
    (tmp_path / "a.thrift").write_text("struct A { i32 x; 7: i32 y; i32 z } service S { void f(A a, i32 b) }")
    options = f"idl = '{tmp_path}/a.thrift'\nprotocol = '{protocol}'"
    with Echoing(protocol) as service, serve_upstream(replace(BUFFERED, options=options), service.port, tmp_path) as up:
        assert up.call("f", {"x": 1, "y": 2, "z": 3}, 4) is None
        assert service.received.pop() == {-1: {-1: 1, 7: 2, -2: 3}, -2: 4}


class Echoing:
    """A service with Apache's protocols and no code from its compiler, which answers with its first argument."""

    def __init__(self, protocol: str) -> None:
        kind = TBinaryProtocol if protocol == "binary" else TCompactProtocol
        self._protocol = kind
        self._server = TServerSocket("127.0.0.1", 0)
        self.received: list[dict[int, Any]] = []

    def __enter__(self) -> Self:
        self._server.listen()
        self.port: int = self._server.handle.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._server.handle.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError, TTransportException):
            while True:
                threading.Thread(target=self._talk, args=(self._server.accept(),), daemon=True).start()

    def _talk(self, connection: Any) -> None:
        protocol = self._protocol(TBufferedTransport(connection))
        with suppress(OSError, TTransportException), closing(connection):
            while True:
                name, _, number = protocol.readMessageBegin()
                kinds: dict[int, int] = {}
                fields = _struct(protocol, kinds)
                protocol.readMessageEnd()
                self.received.append(fields)
                protocol.writeMessageBegin(name, 2, number)
                protocol.writeStructBegin("result")
                if name.startswith("echo"):
                    protocol.writeFieldBegin("success", kinds[1], 0)
                    _write(protocol, kinds[1], fields[1])
                    protocol.writeFieldEnd()
                protocol.writeFieldStop()
                protocol.writeStructEnd()
                protocol.writeMessageEnd()
                protocol.trans.flush()


def _struct(protocol: Any, kinds: dict[int, int]) -> dict[int, Any]:
    fields: dict[int, Any] = {}
    protocol.readStructBegin()
    while True:
        _, kind, number = protocol.readFieldBegin()
        if kind == 0:
            protocol.readStructEnd()
            return fields
        kinds[number] = kind
        fields[number] = _read(protocol, kind)
        protocol.readFieldEnd()


def _read(protocol: Any, kind: int) -> Any:
    if kind == 12:
        return _struct(protocol, {})
    if kind == 15:
        item, length = protocol.readListBegin()
        items = [_read(protocol, item) for _ in range(length)]
        protocol.readListEnd()
        return item, items
    if kind == 13:
        key, value, length = protocol.readMapBegin()
        entries = {_read(protocol, key): _read(protocol, value) for _ in range(length)}
        protocol.readMapEnd()
        return key, value, entries
    return protocol.readUuid() if kind == 16 else protocol.readI32()


def _write(protocol: Any, kind: int, value: Any) -> None:
    if kind == 15:
        protocol.writeListBegin(value[0], len(value[1]))
        for each in value[1]:
            _write(protocol, value[0], each)
        protocol.writeListEnd()
    elif kind == 13:
        protocol.writeMapBegin(*value[:2], len(value[2]))
        for key, each in value[2].items():
            _write(protocol, value[0], key)
            _write(protocol, value[1], each)
        protocol.writeMapEnd()
    else:
        protocol.writeUuid(value) if kind == 16 else protocol.writeI32(value)


@pytest.mark.parametrize("protocol", ["binary", "compact"])
def test_uuids_are_texts(protocol: str, tmp_path: Path) -> None:
    (tmp_path / "a.thrift").write_text(
        "service S { uuid echo(1: uuid a), list<uuid> echo_all(1: list<uuid> a)"
        " map<uuid,i32> echo_map(1: map<uuid,i32> a) void take(1: uuid a = 'F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6') }"
    )
    options = f"idl = '{tmp_path}/a.thrift'\nprotocol = '{protocol}'"
    one, two = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "00112233-4455-6677-8899-aabbccddeeff"
    with Echoing(protocol) as service, serve_upstream(replace(BUFFERED, options=options), service.port, tmp_path) as up:
        assert up.call("echo", one.upper()) == one
        assert service.received.pop() == {1: uuid.UUID(one)}
        assert up.call("echo_all", [one, two]) == [one, two]
        assert up.call("echo_map", {one: 1, two: 2}) == {one: 1, two: 2}
        for wrong, reason in (
            (one[1:], "params[0]: expected uuid, such as 123e4567-e89b-12d3-a456-426614174000"),
            (f"{{{one}}}", "params[0]: expected uuid, such as 123e4567-e89b-12d3-a456-426614174000"),
        ):
            assert up.answer("echo", wrong)["error"]["data"]["detail"] == reason
        assert up.answer("echo_map", {"5": 1})["error"]["data"]["detail"].startswith("params[0].5: expected uuid, such")
        assert up.answer("echo_all", [5])["error"]["data"]["detail"] == "params[0][0]: expected str, got int"
        with ServerProxy(up.server.url) as server:
            documents: Any = server.rpc.discover()
        (take,) = (each for each in documents["methods"] if each["name"] == "up.take")
        assert take["params"][0]["schema"] == {"type": "string", "format": "uuid", "default": one}


def test_files_of_one_name_do_not_take_each_others_includes(tmp_path: Path) -> None:
    lines = []
    for name, word in (("one", "i32"), ("two", "string")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "shared.thrift").write_text(f"typedef {word} Id\nstruct Thing {{ 1: Id id }}")
        (folder / "main.thrift").write_text('include "shared.thrift"\nservice S { void f(1: shared.Thing thing) }')
        lines.append(f"[upstreams.{name}]\nurl = 'thrift://127.0.0.1:1'\nidl = '{folder}/main.thrift'\n")
    (tmp_path / "gateway.toml").write_text("".join(lines))
    with serving(Registry(), None, tmp_path / "gateway.toml") as server, ServerProxy(server.url) as proxy:
        documents: Any = proxy.rpc.discover()
    shown = {each["name"]: each["params"][0]["schema"] for each in documents["methods"] if each["params"]}
    assert shown["one.f"]["properties"]["id"]["type"] == "integer"
    assert shown["two.f"]["properties"]["id"] == {"type": "string"}
