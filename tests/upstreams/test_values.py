"""Every value of the neutral model on its way to an upstream and back: the same, or refused by its place."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import pytest

from tests.conftest import Logged
from tests.raw_http import post
from tests.upstreams.kinds import KINDS, Kind
from tests.upstreams.running import Program, serve_upstream, until

pytestmark = pytest.mark.unmeasured

XML, JSON, TCP, NETSTRING = KINDS[:4]
BOTH: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    2**31 - 1,
    -(2**31),
    1.5,
    -1e300,
    "",
    "a<&>\n\"'\\",
    "ünï\u2028\U0001f600",
    [],
    [1, [2, [None, {}]]],
    {"a": 1, "": {"b c": [True]}, "ü": "ü"},
)
MOMENT = datetime(2026, 11, 20, 12, 30, 1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.typed], ids=lambda kind: kind.name)
def test_what_both_sides_can_say_comes_back_as_it_was(kind: Kind, tmp_path: Path) -> None:
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path) as up:
        until(lambda: up.offers("echo"))
        for value in BOTH:
            assert repr(up.call("echo", value)) == repr(value)
        with ServerProxy(up.server.url, allow_none=True, use_builtin_types=True) as server:
            for value in BOTH:
                assert repr(server.up.echo(value)) == repr(value)


@pytest.mark.parametrize("kind", [JSON, TCP, NETSTRING], ids=lambda kind: kind.name)
def test_ints_have_no_bounds_in_json(kind: Kind, tmp_path: Path) -> None:
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path) as up:
        until(lambda: up.offers("echo"))
        for value in (2**31, 2**53 + 1, -(2**63), 2**64, 10**40):
            assert up.call("echo", value) == value


def test_an_int_that_reaches_the_standard_librarys_server_is_its_own_matter_on_the_way_back(tmp_path: Path) -> None:
    with Program(XML) as program, serve_upstream(XML, program.port, tmp_path) as up:
        until(lambda: up.offers("subtract"))
        assert up.call("subtract", 2**40, 2**40 - 7) == 7
        assert up.answer("echo", 2**31)["error"] == {"code": 1, "message": "int exceeds XML-RPC limits"}


def test_what_only_xml_has_comes_back_from_xml(tmp_path: Path) -> None:
    with Program(XML) as program, serve_upstream(XML, program.port, tmp_path) as up:
        until(lambda: up.offers("echo"))
        with ServerProxy(up.server.url, use_builtin_types=True) as server:
            for value in (b"\0\xff", MOMENT, [{"a": b"", "b": MOMENT}]):
                assert server.up.echo(value) == value


@pytest.mark.parametrize("kind", [JSON, TCP], ids=lambda kind: kind.name)
def test_what_json_has_no_word_for_is_said_as_by_the_gateway_itself(kind: Kind, tmp_path: Path) -> None:
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path) as up:
        until(lambda: up.offers("echo"))
        with ServerProxy(up.server.url) as server:
            assert server.up.echo(b"\0\xff") == "AP8="
            assert server.up.echo(MOMENT) == "2026-11-20T12:30:01"


REFUSED: dict[str, str] = {
    "18446744073709551616": "params[0]: cannot be encoded as XML-RPC: the int has more than 64 bits",
    '[1, {"a": "\\u0001"}]': "params[0][1].a: cannot be encoded as XML-RPC: a string has the character U+0001, which",
    '{"a\\u0000": 1}': "params[0].a\x00: cannot be encoded as XML-RPC: a string has the character U+0000, which",
}


@pytest.mark.parametrize(("value", "reason"), REFUSED.items())
def test_what_xml_cannot_say_is_refused_before_a_byte_is_sent(value: str, reason: str, tmp_path: Path) -> None:
    with Program(XML) as program, serve_upstream(XML, program.port, tmp_path) as up:
        until(lambda: up.offers("echo"))
        program.kill()  # nobody is asked
        error = up.answer("echo", json.loads(value))["error"]
        assert error["code"] == -32602
        assert error["data"]["detail"].startswith(reason)


@pytest.mark.parametrize(("option", "value"), [("nil = false", None), ("i8 = false", 2**31)])
def test_what_the_other_server_does_not_read_is_refused(option: str, value: Any, tmp_path: Path) -> None:
    with Program(XML) as program, serve_upstream(XML, program.port, tmp_path, option) as up:
        until(lambda: up.offers("echo"))
        assert up.answer("echo", [value])["error"]["data"]["detail"].startswith(
            "params[0][0]: cannot be encoded as XML-RPC"
        )


def test_a_result_that_the_caller_cannot_read_is_a_fault(tmp_path: Path, logged: Logged) -> None:
    with Program(TCP) as program, serve_upstream(TCP, program.port, tmp_path) as up:
        assert up.call("multiply", 2**40, 2**40) == 2**80
        call = b"<methodCall><methodName>up.multiply</methodName><params>%b%b</params></methodCall>"
        param = b"<param><value><i8>1099511627776</i8></value></param>"
        body = post(up.server.port, call % (param, param), "text/xml").body
        assert b"the result cannot be encoded as XML-RPC: result: the int has more than 64 bits" in body
    assert logged.take("cannot be encoded as XML-RPC")
