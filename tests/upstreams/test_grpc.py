"""gRPC services behind the gateway: the genuine library's servers, called over both protocols.

What every kind of upstream has in common, trouble above all, stands in test_trouble.py.
"""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from xmlrpc.client import Fault, ServerProxy

import grpc
import pytest
import trustme
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse
from msgspec.structs import replace

from gateway import Registry
from gateway.model.faults import BadUpstream, DeadlineExceeded, RequestTooLarge
from gateway.model.faults import Fault as AnyFault
from gateway.model.limits import Limits
from gateway.upstreams import Invocation, UpstreamConfigError
from gateway.upstreams.grpc import details, reflection
from gateway.upstreams.grpc.adapter import GRPC as GRPCUpstream  # noqa: N811 - a class, not a constant
from gateway.upstreams.grpc.line import Line
from gateway.upstreams.grpc.options import GRPCOptions
from gateway.upstreams.grpc.reflection import Reflected
from gateway.upstreams.grpc.status import STATUSES, StatusError, told
from gateway.upstreams.protobuf.files import ProtoOptions, Schema, from_options
from gateway.upstreams.protobuf.values import Values
from tests.cli.running import here
from tests.conftest import Logged
from tests.hosts.test_websocket import Client, call
from tests.raw_http import exchange, post, request
from tests.serving import Server, serving
from tests.upstreams.kinds import TYPED, Kind, descriptors, h2, h2_headers, h2_message, module
from tests.upstreams.running import ROOT, Program, Served, Wires, serve_upstream, until

GRPC = next(kind for kind in TYPED if kind.name == "grpc")
PROTO = descriptors("programs")
CALCULATOR = "proto = ['tests/upstreams/calculator.proto']"


def all_services(*options: str) -> Kind:
    """Return the kind without the option of one service."""
    return replace(GRPC, options="", command=(*GRPC.command, *options))


def proxy(url: str) -> Any:
    return ServerProxy(url, allow_none=True, use_builtin_types=True)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with Program(GRPC) as program:
        yield program.port


def service(name: str) -> Kind:
    return replace(GRPC, options=f"service = 'programs.{name}'\n{PROTO}")


@pytest.fixture(scope="module")
def values(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_upstream(service("Values"), port, tmp_path_factory.mktemp("values")) as up:
        yield up


@pytest.fixture(scope="module")
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_upstream(service("Values"), 1, tmp_path_factory.mktemp("unreachable")) as up:  # nobody is there
        yield up


@pytest.fixture(scope="module")
def failing(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_upstream(service("Failing"), port, tmp_path_factory.mktemp("failing")) as up:
        yield up


# ---- the articles' programs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["xmlrpc", "jsonrpc"])
def test_the_calculator_and_the_square_root(protocol: str, tmp_path: Path) -> None:
    kind = replace(GRPC, command=module("grpc_calculator", "all"), options=f"{CALCULATOR}\nprefix = ''")
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path) as up:
        calls = [("Add", 10, 5), ("Subtract", 10, 5), ("Multiply", 7, 3), ("Divide", 7, 3)]
        expected = [15, 5, 21, 7 / 3]
        if protocol == "xmlrpc":
            with proxy(up.server.url) as server:
                results = [getattr(server.Calculator, name)(a, b) for name, a, b in calls]
                assert (results, server.Calculate.Square(49)) == (expected, 7.0)
                with pytest.raises(Fault) as raised:
                    server.Calculator.Divide(7, 0)
                assert (raised.value.faultCode, raised.value.faultString) == (-32000, "division by zero")
        else:
            results = [called(up.server, f"Calculator.{name}", a=a, b=b) for name, a, b in calls]
            assert (results, called(up.server, "Calculate.Square", value=49)) == (expected, 7.0)


def called(server: Server, method: str, *args: Any, **kwargs: Any) -> Any:
    """Call a method by its whole name over JSON-RPC."""
    call = {"jsonrpc": "2.0", "method": method, "params": kwargs or list(args), "id": 1}
    return json.loads(post(server.port, json.dumps(call).encode()).body)["result"]


def test_two_nodes_and_one_client(tmp_path: Path) -> None:
    """``add`` goes to node 1, ``subtract`` to node 2; neither can do the other's."""
    adder = replace(GRPC, command=module("grpc_calculator", "adder"))
    subtracter = replace(GRPC, command=module("grpc_calculator", "subtracter"))
    with Program(adder) as one, Program(subtracter) as two:
        file = tmp_path / "nodes.toml"
        table = (
            "[upstreams.{}]\nurl = 'grpc://127.0.0.1:{}'\n{}\nservice = 'Calculator'\nprefix = ''\nexpose = ['{}']\n"
        )
        file.write_text(
            table.format("node1", one.port, CALCULATOR, "Add")
            + "rename = { Add = 'add' }\n"
            + table.format("node2", two.port, CALCULATOR, "Subtract")
            + "rename = { Subtract = 'subtract' }\n"
        )
        with serving(Registry(), None, file) as server:
            with proxy(server.url) as client:
                assert (client.add(10, 5), client.subtract(10, 5)) == (15, 5)
                assert {"add", "subtract"} <= set(client.system.listMethods())
            assert (called(server, "add", 10, 5), called(server, "subtract", a=10, b=5)) == (15, 5)


# ---- what is told of methods -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["reflection", "proto", "descriptor set"])
def test_names_types_and_texts_come_from_each_source(source: str, port: int, tmp_path: Path) -> None:
    plain = tmp_path / "programs.pb"  # without the texts
    protoc = (sys.executable, "-m", "grpc_tools.protoc", "-Itests/upstreams", "--include_imports")
    subprocess.run([*protoc, f"--descriptor_set_out={plain}", "programs.proto"], cwd=ROOT, check=True)
    proto = "proto = ['tests/upstreams/programs.proto']"
    named = {"reflection": "", "proto": proto, "descriptor set": f"descriptor_set = '{plain}'"}[source]
    kind = replace(GRPC, options=f"{named}")
    with serve_upstream(kind, port, tmp_path) as up:
        until(lambda: up.offers("programs.Programs.add"))
        with proxy(up.server.url) as server:
            assert server.up.programs.Programs.add(3, 4) == 7
            help_ = server.system.methodHelp("up.programs.Programs.add")
            declared = "rpc programs.Programs.add(programs.Two) returns (programs.Whole)"
            assert help_ == ("Add two ints.\n\nThey may be negative." if source == "proto" else declared)
            signatures = server.system.methodSignature("up.programs.Programs.add")
            assert signatures == [["int"], ["int", "int"], ["int", "int", "int"]]
            assert server.system.methodSignature("up.programs.Streams.Sum") == [["int", "array"]]
            assert server.system.methodSignature("up.programs.Streams.Count") == [["array"], ["array", "int"]]
            names = set(server.system.listMethods())
            assert "up.programs.Failing.End" in names
            assert not {name for name in names if "reflection" in name}
            described = {method["name"]: method for method in server.rpc.discover()["methods"]}
        add = described["up.programs.Programs.add"]
        bounds = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
        assert add["params"][0] == {"name": "a", "required": False, "schema": {"anyOf": [bounds, {"type": "null"}]}}


def test_a_server_without_reflection_says_so_until_its_types_are_named(tmp_path: Path, logged: Logged) -> None:
    kind = all_services("--silent")
    with Program(kind) as program:
        with serve_upstream(kind, program.port, tmp_path) as up:
            until(lambda: "no reflection" in up.upstream.status.error)
            assert up.fault("programs.Programs.add", 1, 2) == (-32002, "no")
        with serve_upstream(kind, program.port, tmp_path, f"{PROTO}") as up:
            assert up.call("programs.Programs.add", 1, 2) == 3
    assert logged.take("name its .proto files or")


def test_a_service_that_is_not_there_is_told_with_those_that_are(port: int, tmp_path: Path, logged: Logged) -> None:
    kind = replace(GRPC, options="service = 'programs.Program'")
    with serve_upstream(kind, port, tmp_path) as up:
        until(
            lambda: "there is no service programs.Program; did you mean programs.Programs?" in up.upstream.status.error
        )
    assert logged.take("there is no service")


def test_reflection_of_version_1(tmp_path: Path) -> None:
    kind = replace(GRPC, command=(*GRPC.command, "--reflection", "v1"))
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path) as up:
        until(lambda: up.offers("add"))
        assert up.call("add", 1, 2) == 3


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("nonsense", "the server's reflection sends an invalid response"),
        ("nothing", "the server's reflection ends without a response"),
        ("no file", "the server's reflection sends an invalid file"),
        ("half", "the server's reflection is incomplete: half.proto imports nowhere.proto, which is missing"),
    ],
)
def test_reflection_that_is_broken(said: str, error: str, tmp_path: Path, logged: Logged) -> None:
    kind = replace(GRPC, command=(*GRPC.command, "--reflection", said))
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path) as up:
        until(lambda: error in up.upstream.status.error)
        assert up.fault("add", 1, 2) == (-32002, "no")
    assert logged.take(error)


LEFT_OUT: dict[str, str] = {
    "gone.Odd": "cannot be described: the server answers: ",
    "loud.Odd": "cannot be described: it has crashed",
    "bytes.Odd": "cannot be described: the server's reflection sends an invalid file",
    "half.Odd": "cannot be described: half.proto imports nowhere.proto, which is missing",
    "loop.Odd": "cannot be described: loop.proto imports itself",
    "twice.Odd": "cannot be described: twice.proto is not a valid file",
    "long.Odd.GoGo": "...: the name has more than 500 characters",
    "deep.Odd": "cannot be described: its messages contain each other on more than 60 levels",
}


def test_a_service_that_cannot_be_described_takes_no_other_down(tmp_path: Path, logged: Logged) -> None:
    kind = replace(GRPC, options="", command=(*GRPC.command, "--reflection", "partial"))
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path, "hide = ['loop.*']") as up:
        until(lambda: up.offers("programs.Programs.add"))
        assert up.call("programs.Programs.add", 1, 2) == 3
        assert up.offers("programs.Failing.End")
        assert up.offers("whole.Odd.Go")
        assert not any(up.offers(f"{name}.Go") for name in LEFT_OUT)
        with proxy(up.server.url) as server:
            assert "up.whole.Odd.Go" in {method["name"] for method in server.rpc.discover()["methods"]}
    lines = logged.take("left out: ")
    told = {name: reason for name, reason in LEFT_OUT.items() if any(name in line and reason in line for line in lines)}
    assert told == {name: reason for name, reason in LEFT_OUT.items() if name != "loop.Odd"}, lines
    assert len(lines) == len(told)


def test_a_description_is_read_outside_of_the_loop(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[asyncio.AbstractEventLoop | None] = []

    def schema(*args: Any, **options: Any) -> Schema:
        loops.append(asyncio._get_running_loop())
        return Schema(*args, **options)

    monkeypatch.setattr("gateway.upstreams.grpc.adapter.Schema", schema)
    with serve_upstream(GRPC, port, tmp_path) as up:
        until(lambda: up.offers("add"))
    assert loops == [None]


def large(methods: int = 1, values: int = 1) -> FileDescriptorProto:
    """Describe a service with many methods, or an enum with many values."""
    file = FileDescriptorProto(name="large.proto", package="large", syntax="proto3")
    enum = file.enum_type.add(name="E")
    for number in range(values):
        enum.value.add(name=f"V{number}", number=number)
    file.message_type.add(name="M").field.add(name="e", number=1, label=1, type=14, type_name=".large.E")
    service = file.service.add(name="S")
    for number in range(methods):
        service.method.add(name=f"m{number}", input_type=".large.M", output_type=".large.M")
    return file


def test_a_server_has_10_000_methods_at_most() -> None:
    upstream = GRPCUpstream(GRPCOptions(url="grpc://localhost:1"), Limits())
    for methods in (10_000, 10_001):
        reflected = Reflected(("large.S",), (large(methods),), {})
        if methods == 10_000:
            assert len(upstream._described(reflected)) == methods
        else:
            with pytest.raises(BadUpstream, match="more than 10000 methods"):
                upstream._described(reflected)


def test_the_names_of_a_large_enum_are_checked_but_not_listed(tmp_path: Path, logged: Logged) -> None:
    (tmp_path / "large.pb").write_bytes(FileDescriptorSet(file=[large(values=1001)]).SerializeToString())
    kind = replace(GRPC, options=f"service = 'large.S'\ndescriptor_set = '{tmp_path}/large.pb'")
    with serve_upstream(kind, 1, tmp_path) as up:
        assert up.answer("m0", "V1001")["error"]["data"]["detail"].startswith("params.e: expected one of V0, V1")
        assert up.fault("m0", "V1000") == (-32002, "no")
        with proxy(up.server.url) as server:
            assert "V1000" not in json.dumps(server.rpc.discover())
    assert logged.take("is down")


def asked(services: int, size: int, most: int) -> Reflected | None:
    """Reflect a server that lists services, and has a file of some bytes for each of them."""

    async def answered(request: Any) -> Any:
        response = ServerReflectionResponse()
        if request.HasField("list_services"):
            for number in range(services):
                response.list_services_response.service.add(name=f"s{number}")
        else:
            file = FileDescriptorProto(name=request.file_containing_symbol, package="x" * size)
            response.file_descriptor_response.file_descriptor_proto.append(file.SerializeToString())
        return response

    return asyncio.run(reflection._reflect(answered, None, most))


def test_what_a_server_tells_of_itself_is_bounded() -> None:
    assert asked(1000, 10, 100_000) is not None
    with pytest.raises(BadUpstream, match="more than 1000 services"):
        asked(1001, 10, 100_000)
    with pytest.raises(BadUpstream, match="description of itself is too large"):
        asked(3, 50_000, 100_000)


def test_the_one_service_that_is_meant_must_be_described(tmp_path: Path, logged: Logged) -> None:
    kind = replace(GRPC, command=(*GRPC.command, "--reflection", "partial"))
    with Program(kind) as program:
        for name, error in (
            ("gone.Odd", "the server answers: "),
            ("none.Odd", "there is no service none.Odd"),
            ("half.Odd", "which is missing"),
        ):
            with serve_upstream(replace(kind, options=f"service = '{name}'"), program.port, tmp_path) as up:
                until(lambda: error in up.upstream.status.error)  # noqa: B023 - it is asked at once
    assert logged.take("is down")


# ---- values ----------------------------------------------------------------------------------------------------------

SAME: dict[str, Any] = {
    "f_double": [0.1, -1e300, 5e-324],
    "f_float": [0.1, 1.5, -3.4e38, 1022.70557],
    "f_int32": [2**31 - 1, -(2**31)],
    "f_int64": [2**63 - 1, -(2**63), 2**53 + 1],
    "f_uint32": [2**32 - 1],
    "f_uint64": [2**64 - 1],
    "f_sint32": [-(2**31)],
    "f_sint64": [2**53 + 1, -(2**63)],
    "f_fixed32": [2**32 - 1],
    "f_fixed64": [2**64 - 1],
    "f_sfixed32": [-(2**31)],
    "f_sfixed64": [2**63 - 1],
    "f_bool": [True],
    "f_string": ["ünï\U0001f600", "\0\x01", "a" * 10_000],
    "f_enum": ["GREEN", "VERT", 7],
    "maybe": [0, -5],
    "leaf": [{"name": "x", "raw": "AP8="}],
    "ints": [[2**53 + 1, -1, 0]],
    "leaves": [[{"name": "", "raw": ""}, {"name": "y", "raw": ""}]],
    "by_name": [{"a": {"name": "x", "raw": ""}, "": {"name": "", "raw": ""}}],
    "by_number": [{"-7": 1.5, "0": 2.0}],
    "by_truth": [{"true": "yes", "false": "no"}],
    "text": ["", "one"],
    "number": [0, 5],
    "at": ["2026-11-20T12:30:01.000123Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"],
    "lasting": [0.0, -1.5, 0.000000001, 315_576_000_000.0],
    "struct": [{"a": None, "b": [1, 2.5, "x", {"c": False}], "": {}, "d": 2**53}],
    "any": [True, "x", 1.5, [], {}, [[None]]],
    "list": [[], [1, "a", None]],
    "wrapped": [0, 2**53 + 1],
    "wrapped_bytes": ["", "AP8="],
    "empty": [{}],
    "moments": [["2026-11-20T12:30:01Z"]],
    "colors": [["RED", "GREEN"]],
    "when": [{"18446744073709551615": "2026-11-20T12:30:01Z"}],
    "values": [[None, 1, [None], {"a": None}]],
    "class": [True],
    "floats": [[0.1, 0.2]],
}


def said(value: Any) -> str:
    """Write a value so that 1 and 1.0 differ; a map has no order."""
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("field", SAME)
def test_every_type_comes_back_as_it_was_over_json(field: str, values: Served) -> None:
    for value in SAME[field]:
        assert said(values.call("Echo", **{field: value})[field]) == said(value)


def test_what_xml_has_beyond_json_comes_back_as_it_was(port: int, tmp_path: Path) -> None:
    moment = datetime(2026, 11, 20, 12, 30, 1)
    with serve_upstream(service("Values"), port, tmp_path) as up, proxy(up.server.url) as server:
        assert server.up.Echo(*[None] * 14, b"\0\xff")["f_bytes"] == b"\0\xff"
        assert server.up.Moment(moment) == moment
        assert server.up.Nothing() is None
        value: Any
        for value in (None, True, 5, 1.5, "x", [1, None], {"a": {}}):
            assert server.up.Anything(value) == value
        with pytest.raises(Fault) as raised:
            server.up.Anything([b"x"])
        assert raised.value.faultString == "Invalid params: params.value[0]: google.protobuf.Value cannot hold bytes"
        with pytest.raises(Fault) as raised:
            server.up.Echo(*[None] * 14, "eHg=")  # a string is no base64 where there are bytes
        assert raised.value.faultString == "Invalid params: params[14]: expected bytes | null, got str"


def test_an_int_is_taken_where_there_is_a_float(port: int, tmp_path: Path) -> None:
    with serve_upstream(service("Values"), port, tmp_path) as up:
        got = up.call("Echo", f_double=-(2**53), f_float=-(2**24), lasting=3)
        assert said([got["f_double"], got["f_float"], got["lasting"]]) == "[-9007199254740992.0, -16777216.0, 3.0]"
        assert up.call("Echo", f_double=10**22)["f_double"] == 1e22


def test_a_moment_of_another_zone_comes_back_in_utc(port: int, tmp_path: Path) -> None:
    with serve_upstream(service("Values"), port, tmp_path) as up:
        assert up.call("Moment", "2026-11-20T12:30:01+02:00") == "2026-11-20T10:30:01Z"
        assert up.call("Moment") == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("said", "returned"),
    [
        ("2026-12-31T23:59:59.999999999Z", "2026-12-31T23:59:59.999999Z"),
        ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999Z"),
        ("2027-01-01T01:59:59.9999995+02:00", "2026-12-31T23:59:59.999999Z"),
        ("0001-01-01T00:00:00.0000019Z", "0001-01-01T00:00:00.000001Z"),
        ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
    ],
)
def test_a_datetime_is_cut_to_microseconds_and_stays_in_its_year(said: str, returned: str, values: Served) -> None:
    assert values.call("Moment", said) == returned
    got = values.call("Echo", at=said, moments=[said], when={"7": said})
    assert (got["at"], got["moments"], got["when"]) == (returned, [returned], {"7": returned})


@pytest.mark.parametrize("said", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_datetime_that_has_no_year_in_utc_is_refused(said: str, tmp_path: Path) -> None:
    with serve_upstream(service("Values"), 1, tmp_path) as up:
        error = up.answer("Echo", at=said)["error"]
        assert error["data"]["detail"] == "params.at: the datetime is out of range in UTC"


def test_whole_numbers_are_taken_for_ints(port: int, tmp_path: Path) -> None:
    with serve_upstream(service("Values"), port, tmp_path) as up:
        got = up.call("Echo", f_int64=2.0, ints=[1e6], leaf={"name": "x"})
        assert said([got["f_int64"], got["ints"]]) == "[2, [1000000]]"


def test_what_is_absent_and_what_is_not(port: int, tmp_path: Path) -> None:
    with serve_upstream(service("Values"), port, tmp_path) as up:
        got = up.call("Echo")
        assert (got["f_double"], got["f_string"], got["f_bytes"], got["f_enum"]) == (0.0, "", "", "RED")
        assert (got["ints"], got["by_name"]) == ([], {})
        unset = {"maybe", "leaf", "text", "number", "at", "struct", "any", "wrapped", "empty", "tree"}
        assert not unset & got.keys()
        assert up.call("Echo", maybe=None, leaf=None, f_int32=None, ints=None) == got
        assert up.call("Echo", any=None)["any"] is None  # a Value can hold it
        assert up.call("Perhaps", leaf={"name": "x"}) == {"name": "x", "raw": ""}
        assert up.call("Perhaps") is None
    with serve_upstream(service("Values"), port, tmp_path, "bare = false") as up:
        assert up.call("Perhaps", leaf={"name": "x"}) == {"leaf": {"name": "x", "raw": ""}}
        assert up.call("Perhaps") == {}


def test_a_message_that_contains_itself(port: int, tmp_path: Path) -> None:
    tree = {"leaf": {"name": "a", "raw": "AP8="}, "branches": [{"branches": [], "named": {}}], "named": {}}
    tree["named"] = {"b": {"leaf": {"name": "c", "raw": ""}, "branches": [], "named": {}}}
    with serve_upstream(service("Values"), port, tmp_path) as up:
        assert up.call("Echo", tree=tree)["tree"] == tree
        error = up.answer("Echo", tree={"branches": [{}, {"leaf": {"raw": "*"}}]})["error"]
        assert error["data"]["detail"].startswith("params.tree.branches[1].leaf.raw: invalid base64")


REFUSED: dict[str, tuple[str, Any, str]] = {
    "int32 + 1": ("f_int32", 2**31, "params.f_int32: expected int"),
    "uint32 - 1": ("f_uint32", -1, "params.f_uint32: expected int"),
    "uint64 + 1": ("f_uint64", 2**64, "params.f_uint64: expected an int from 0 to 18446744073709551615"),
    "int as text": ("f_int64", "5", "params.f_int64: expected int"),
    "bool as int": ("f_int64", True, "params.f_int64: expected int"),
    "fraction": ("f_int64", 1.5, "params.f_int64: expected int"),
    "int as bool": ("f_bool", 1, "params.f_bool: expected bool"),
    "beyond a double": ("f_double", 2**53 + 1, "params.f_double: the int cannot be a float without rounding"),
    "far beyond": ("f_double", 10**400, "params.f_double: the int cannot be a float without rounding"),
    "beyond a float": ("f_float", 1e39, "params.f_float: too large for a 32-bit float"),
    "int no float": ("f_float", 16777217, "params.f_float: the int has more than the 24 bits of a 32-bit float"),
    "bad base64": ("f_bytes", "***", "params.f_bytes: "),
    "enum": ("f_enum", "BLUE", "params.f_enum: "),
    "enum number": ("f_enum", 2**31, "params.f_enum: "),
    "nested": ("leaves", [{}, {"name": 5}], "params.leaves[1].name: expected str"),
    "unknown": ("leaf", {"nam": "x"}, "params.leaf.nam: there is no such field"),
    "no such": ("no_such", 1, "params.no_such: there is no such parameter"),
    "key": ("by_number", {"07": 1.0}, "params.by_number.07: expected an int as key"),
    "key range": ("by_number", {str(2**31): 1.0}, "params.by_number.2147483648: expected an int from"),
    "truth": ("by_truth", {"True": "x"}, "params.by_truth.True: expected the key true or false"),
    "none inside": ("ints", [1, None], "params.ints[1]: expected int"),
    "day": ("at", "2026-11-20", "params.at: "),
    "moment": ("at", 5, "params.at: "),
    "duration": ("lasting", 315_576_000_001, "params.lasting: expected a number of seconds from"),
    "number": ("any", 2**53 + 1, "params.any: the int cannot be a float without rounding"),
    "deep": ("struct", {"a": [{"b": 2**60 + 1}]}, "params.struct.a[0].b: the int cannot be a float without rounding"),
    "list": ("ints", 5, "params.ints: expected array"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_its_place_before_a_byte_is_sent(case: str, unreachable: Served) -> None:
    field, value, detail = REFUSED[case]
    error = unreachable.answer("Echo", **{field: value})["error"]
    assert error["code"] == -32602
    assert error["data"]["detail"].startswith(detail), error


def test_only_one_of_several_can_be_given(tmp_path: Path) -> None:
    with serve_upstream(service("Values"), 1, tmp_path) as up:
        error = up.answer("Echo", text="a", number=5)["error"]
        assert error["data"]["detail"] == "params.number: only one of text and number can be given"


def test_few_bytes_do_not_become_much_memory(port: int, tmp_path: Path, logged: Logged) -> None:
    with serve_upstream(service("Values"), port, tmp_path, "", {"limits.max_reply": 65536}) as up:
        assert up.call("Echo", leaves=[{}] * 1000)["leaves"] == [{"name": "", "raw": ""}] * 1000
        for name, item, many in (
            ("leaves", {}, 20_000),
            ("moments", "1970-01-01T00:00:00Z", 3000),
            ("colors", "GREEN", 10_000),
        ):
            error = up.answer("Echo", **{name: [item] * many}).get("error", {})
            assert error.get("code") == -32004, name
    assert len(logged.take("more values than limits.max_reply allows")) == 3


def test_an_answer_that_is_no_moment() -> None:
    values = Values(1000)
    descriptor = Timestamp.DESCRIPTOR
    for wrong in (Timestamp(seconds=2**40), Timestamp(seconds=-(2**40)), Timestamp(nanos=-1), Timestamp(nanos=10**9)):
        with pytest.raises(BadUpstream):
            values.plain(wrong)
    assert values.plain(values.build(descriptor, {"value": datetime(2026, 1, 1, 0, 0, 0, 999_999)})) == {
        "value": datetime(2026, 1, 1, 0, 0, 0, 999_999, tzinfo=UTC)
    }
    assert values.plain(Timestamp(seconds=1, nanos=1999)) == {"value": datetime(1970, 1, 1, 0, 0, 1, 1, tzinfo=UTC)}


# ---- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_of_answers_is_an_array(port: int, tmp_path: Path) -> None:
    with serve_upstream(service("Streams"), port, tmp_path) as up:
        assert up.call("Count", 1000) == list(range(1000))
        assert up.call("Count", 0) == []
        assert up.call("Pairs", 2) == [{"a": 0, "b": 0}, {"a": 1, "b": -1}]
    with serve_upstream(service("Streams"), port, tmp_path, "bare = false") as up:
        assert up.call("Count", 2) == [{"value": 0}, {"value": 1}]


def test_a_stream_that_is_too_long_is_a_fault_and_ends(port: int, tmp_path: Path, logged: Logged) -> None:
    path = tmp_path / "ended"
    with serve_upstream(service("Streams"), port, tmp_path, "most_messages = 5", {"limits.max_reply": 65536}) as up:
        assert up.call("Count", 5) == [0, 1, 2, 3, 4]
        assert up.fault("Count", 6) == (-32004, "yes")
        assert up.fault("Forever", str(path), 0.0) == (-32004, "yes")
        until(path.exists)
        assert len(up.call("Fill", 5)) == 5
    with serve_upstream(service("Streams"), port, tmp_path, "", {"limits.max_reply": 65536}) as up:
        assert up.fault("Fill", 7) == (-32004, "yes")
        assert up.call("Count", 3) == [0, 1, 2]
    assert len(logged.take("the response stream has more than")) == 3


def test_a_stream_ends_with_its_deadline(port: int, tmp_path: Path) -> None:
    path = tmp_path / "ended"
    with serve_upstream(service("Streams"), port, tmp_path, "timeout = { Forever = 2 }") as up:
        error = up.answer("Forever", str(path), 0.02)["error"]
        count = len(error["data"]["messages"])
        assert (error["code"], error["data"]["messages"]) == (-32001, list(range(count)))
        assert error["message"] == f"Deadline exceeded: the stream did not end in time; messages received: {count}"
        until(path.exists)
        path.unlink()
        with proxy(up.server.url) as server, pytest.raises(Fault, match=r"messages received: \d"):
            server.up.Forever(str(path), 0.02)
        until(path.exists)


class _Stream:
    """A call that has one response, and then an error, or none for ever."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.is_cancelled = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"\x08\x01"
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()

    def cancel(self) -> None:
        self.is_cancelled = True


def collected(stream: _Stream, seconds: float) -> list[bytes]:
    """Collect a stream whose caller gives it up at once, and has some seconds left."""
    method: Any = None

    async def collect() -> list[bytes]:
        upstream: Any = GRPCUpstream(GRPCOptions(url="grpc://localhost:1"), Limits())
        upstream._answer = lambda _, answers: answers
        invocation = Invocation(method="x", params={}, deadline=time.monotonic() + seconds, request_id="1")
        task = asyncio.create_task(upstream._collected(stream, method, invocation))
        await asyncio.sleep(0)
        task.cancel()
        made: list[bytes] = await task
        return made

    return asyncio.run(collect())


def test_a_caller_who_hangs_up_is_no_deadline() -> None:
    stream = _Stream(None)
    with pytest.raises(asyncio.CancelledError):
        collected(stream, 60)
    assert stream.is_cancelled


def test_what_has_come_is_told_whoever_sees_the_deadline_first() -> None:
    nothing = grpc.aio.Metadata()
    late = grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, nothing, nothing, "Deadline Exceeded")
    for stream, seconds in ((_Stream(None), 0), (_Stream(late), 60)):
        with pytest.raises(DeadlineExceeded) as raised:
            collected(stream, seconds)
        assert raised.value.data["messages"] == [b"\x08\x01"]


def test_a_stream_both_ways_takes_an_array_and_gives_an_array(port: int, tmp_path: Path, logged: Logged) -> None:
    with serve_upstream(service("Streams"), port, tmp_path, "most_messages = 4000") as up:
        assert up.call("Chat", ["a", {"text": "b"}]) == ["a", "A", "b", "B"]
        assert up.call("Chat", messages=[]) == []
        assert len(up.call("Chat", ["x" * 400] * 2000)) == 4000
        assert up.fault("Chat", ["x"] * 2001) == (-32004, "yes")
    assert logged.take("the response stream has more than")


def test_an_array_is_a_stream_of_requests(port: int, tmp_path: Path) -> None:
    with serve_upstream(service("Streams"), port, tmp_path) as up:
        assert up.call("Sum", [1, 2, 3]) == 6
        assert up.call("Sum", messages=[{"value": 1}, 2, {}]) == 3
        assert up.call("Sum", []) == 0
        assert up.call("Sum", list(range(5000))) == sum(range(5000))
        assert up.call("Join", [{"a": 1}, {"b": 5}]) == {"a": 1, "b": 5}
        detail = up.answer("Sum", [1, "x"])["error"]["data"]["detail"]
        assert detail.startswith("params[0][1]: expected")
        assert up.answer("Sum", [1, 2**63])["error"]["code"] == -32602
        assert up.answer("Sum")["error"]["data"]["detail"] == "params.messages: missing"
        with proxy(up.server.url) as server:
            assert server.up.Sum([4, {"value": 5}]) == 9


# ---- faults ----------------------------------------------------------------------------------------------------------

FAILED = (-32004, "Bad upstream: the upstream failed")
TOLD: dict[int, tuple[int, str]] = {
    1: FAILED,
    2: (-32000, "why"),
    3: (-32602, "Invalid params: why"),
    4: (-32001, "Deadline exceeded: no response from the upstream in time"),
    5: (-32000, "why"),
    6: (-32000, "why"),
    7: (-32005, "Denied: why"),
    8: (-32003, "Overloaded: why"),
    9: (-32000, "why"),
    10: (-32000, "why"),
    11: (-32602, "Invalid params: why"),
    12: (-32601, "Method not found: the upstream has no such method"),
    13: FAILED,
    14: (-32002, "Unavailable: why"),
    15: (-32000, "why"),
    16: (-32005, "Denied: why"),
}


@pytest.mark.parametrize("code", TOLD)
def test_each_status_is_a_fault(code: int, failing: Served, logged: Logged) -> None:
    error = failing.answer("End", code, "why")["error"]
    detail = error.get("data", {}).get("detail")  # which stands beside the message where the code has its own
    assert (error["code"], f"{error['message']}: {detail}" if detail else error["message"]) == TOLD[code]
    if error["code"] == -32000:
        assert error["data"]["grpc"]["code"] == code
    assert failing.answer("End", code, "")["error"]["code"] == TOLD[code][0]
    logged.take("upstream up")


def test_a_service_that_turns_a_call_down_is_up(port: int, tmp_path: Path) -> None:
    with serve_upstream(service("Failing"), port, tmp_path) as up:
        assert up.fault("End", 5, "why")[0] == -32000
        assert up.upstream.status.state == "up"


def test_the_table_has_every_status_and_every_exception_of_the_library() -> None:
    assert set(STATUSES) == set(grpc.StatusCode)
    for code in grpc.StatusCode:
        assert isinstance(told(StatusError(code, "why")), AnyFault)
    raised = [value for value in vars(grpc.aio).values() if isinstance(value, type) and issubclass(value, Exception)]
    converted = (grpc.aio.AioRpcError,)  # to StatusError
    assert len(raised) > 3
    for kind in raised:
        assert issubclass(kind, (*GRPCUpstream.failures, *converted)), kind


def test_what_a_method_raises_stays_inside(port: int, tmp_path: Path) -> None:
    with serve_upstream(service("Failing"), port, tmp_path) as up:
        error = up.answer("Crash", "the password is wrong")["error"]
        data = {"grpc": {"code": 2, "name": "UNKNOWN"}}
        assert error == {"code": -32000, "message": "the upstream failed", "data": data}


def test_what_a_stream_raises_stays_inside(port: int, tmp_path: Path) -> None:
    with serve_upstream(service("Streams"), port, tmp_path) as up:
        error = up.answer("Count", -1)["error"]
        assert (error["code"], error["data"]) == (-32000, {"grpc": {"code": 2, "name": "UNKNOWN"}})
        assert "secret" not in json.dumps(error)


@pytest.mark.parametrize("text", ["Exception calling application: x", "Unexpected <class 'KeyError'>: x"])
def test_what_grpcs_servers_say_of_an_exception_is_not_passed_on(text: str) -> None:
    assert "x" not in told(StatusError(grpc.StatusCode.UNKNOWN, text)).message.split()
    assert told(StatusError(grpc.StatusCode.ABORTED, text)).message.endswith("x")  # a service's own words


def test_the_details_of_a_status_are_data(port: int, tmp_path: Path, logged: Logged) -> None:
    details = [
        {"@type": "google.rpc.RetryInfo", "retry_delay": 6.000000001},
        {
            "@type": "google.rpc.BadRequest",
            "field_violations": [{"field": "items[2].price", "description": "must be positive", "reason": ""}],
        },
        {
            "@type": "google.rpc.ErrorInfo",
            "reason": "NO_STOCK",
            "domain": "shop.example",
            "metadata": {"item": "pen"},
        },
        {"@type": "google.rpc.Unheard"},
    ]
    with serve_upstream(service("Failing"), port, tmp_path) as up:
        for code in (2, 3, 5, 7, 8, 9, 14):
            error = up.answer("End", code, "rich")["error"]
            assert error["data"]["details"] == details, code
            assert error["data"].get("retry_after") == (7 if code in (8, 14) else None)
    assert logged.take("is down")


@pytest.mark.parametrize("trailer", [b"\xff", b"\x1a\x01\xff", b"\x1a\x03\x0a\x01\xff"])
def test_details_that_cannot_be_read_leave_the_status(trailer: bytes) -> None:
    assert told(StatusError(grpc.StatusCode.ABORTED, "why", trailer)).data == {"grpc": {"code": 10, "name": "ABORTED"}}


def retry(seconds: int, nanos: int = 0) -> bytes:
    """Make a status with a RetryInfo."""
    info: Any = details._CLASSES["google.rpc.RetryInfo"]()
    info.retry_delay.seconds, info.retry_delay.nanos = seconds, nanos
    status: Any = details._CLASSES["google.rpc.Status"]()
    status.details.add(type_url="type.googleapis.com/google.rpc.RetryInfo", value=info.SerializeToString())
    made: bytes = status.SerializeToString()
    return made


@pytest.mark.parametrize(
    ("seconds", "nanos", "told_as"), [(0, 1, 1), (0, 0, 1), (-5, 0, 1), (2, 0, 2), (10**9, 0, 86400)]
)
def test_the_time_until_a_retry_is_a_sensible_one(seconds: int, nanos: int, told_as: int) -> None:
    fault = told(StatusError(grpc.StatusCode.UNAVAILABLE, "why", retry(seconds, nanos)))
    assert fault.data["retry_after"] == told_as


def test_details_and_texts_are_bounded() -> None:
    status: Any = details._CLASSES["google.rpc.Status"]()
    request: Any = details._CLASSES["google.rpc.BadRequest"]()
    for _ in range(2000):
        request.field_violations.add()
    status.details.add(type_url="type.googleapis.com/google.rpc.BadRequest", value=request.SerializeToString())
    refused = StatusError(grpc.StatusCode.ABORTED, "x" * 5000, status.SerializeToString())
    assert (refused.rich, len(refused.details)) == ([], 2000)


GRPC_SAYS = (
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.7:1: Failed to connect to remote host",
    "Socket closed",
    "GOAWAY received",
    "recvmsg:Connection reset by peer",
    "DNS resolution failed for inside.example:1",
)


@pytest.mark.parametrize("text", GRPC_SAYS)
def test_what_grpc_says_of_connections_stays_inside(text: str) -> None:
    assert told(StatusError(grpc.StatusCode.UNAVAILABLE, text)).detail == "the upstream cannot be reached"


TOO_LARGE = (
    "SERVER: Received message larger than max (200004 vs. 100000)",
    "Received message larger than max (200004 vs. 100000)",
    "grpc: received message larger than max (200004 vs. 100000)",
    "gRPC message exceeds maximum size 100000: 200004",
)


@pytest.mark.parametrize("text", TOO_LARGE)
def test_a_request_that_the_server_finds_too_large_is_told_as_the_callers(text: str) -> None:
    fault = told(StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, text))
    assert (type(fault), fault.code) == (RequestTooLarge, -32006)


def test_a_request_beyond_the_servers_limit(port: int, tmp_path: Path) -> None:
    with serve_upstream(service("Failing"), port, tmp_path, "", {"limits.max_body": 10_000_000}) as up:
        error = up.answer("Crash", "x" * 5_000_000)["error"]
        assert error["code"] == -32006
        assert error["message"] == "Request too large: the upstream does not take a request of this size"


def test_an_answer_of_too_many_bytes(port: int, tmp_path: Path, logged: Logged) -> None:
    with serve_upstream(service("Failing"), port, tmp_path, "", {"limits.max_reply": 65536}) as up:
        assert len(up.call("Large", 60_000)) == 60_000
        for _ in range(3):
            error = up.answer("Large", 70_000)["error"]
            assert (error["code"], error["data"]["sent"]) == (-32004, "maybe")
            assert error["message"].endswith("the response of the upstream has more bytes than limits.max_reply")
            assert len(up.call("Large", 60_000)) == 60_000
    assert len(logged.take("larger than max")) == 3


def test_a_server_that_compresses(tmp_path: Path, logged: Logged) -> None:
    with Program(replace(GRPC, command=(*GRPC.command, "--gzip"))) as program:
        limits = {"limits.max_reply": 65536}
        with serve_upstream(service("Failing"), program.port, tmp_path, "", limits) as up:
            assert len(up.call("Large", 60_000)) == 60_000
            error = up.answer("Large", 10_000_000)["error"]
            assert (error["code"], error["data"]["sent"]) == (-32004, "maybe")
            assert error["message"].endswith("the response of the upstream has more bytes than limits.max_reply")
            assert up.call("Large", 1) == "x"
    assert len(logged.take("larger than max")) == 1


# ---- connections -----------------------------------------------------------------------------------------------------

HURRY = f"{PROTO}\nconnections = 1\ntimeout = {{ '*' = 0.5 }}"


def test_a_connection_without_a_sign_of_life_is_not_used_again(port: int, tmp_path: Path) -> None:
    with Wires(port) as wires, serve_upstream(GRPC, wires.port, tmp_path, HURRY) as up:
        assert up.call("add", 1, 2) == 3
        wires.hush()
        assert up.fault("add", 1, 2) == (-32001, "maybe")
        assert up.call("add", 3, 4) == 7
        assert len(wires) == 2


def test_a_connection_that_has_answered_others_since_is_kept(port: int, tmp_path: Path) -> None:
    with Wires(port) as wires, serve_upstream(GRPC, wires.port, tmp_path, HURRY) as up, ThreadPoolExecutor(1) as pool:
        late = pool.submit(up.fault, "pause", 2.0)
        until(lambda: up.upstream.running == 1)
        until(lambda: up.call("add", 1, 2) == 3 and late.done())
        assert late.result() == (-32001, "maybe")
        assert up.call("add", 3, 4) == 7
        assert len(wires) == 1


def test_a_connection_that_has_told_a_fault_since_is_kept(port: int, tmp_path: Path) -> None:
    more = "connections = 1\ntimeout = { 'Told' = 1.5 }"
    with Wires(port) as wires, serve_upstream(service("Failing"), wires.port, tmp_path, more) as up:
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(up.fault, "Told", "late")
            until(lambda: up.upstream.running == 1)
            while not late.done():
                assert up.fault("End", 5, "why")[0] == -32000
        assert late.result() == (-32001, "maybe")
        assert up.fault("End", 5, "why")[0] == -32000
        assert len(wires) == 1


class _Channel:
    """A channel that is ready."""

    def get_state(self) -> grpc.ChannelConnectivity:
        return grpc.ChannelConnectivity.READY


@pytest.mark.parametrize(
    ("code", "details", "is_kept"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", False),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", False),
        (grpc.StatusCode.INTERNAL, "Stream removed (x)", False),
        (grpc.StatusCode.INTERNAL, "why", True),
        (grpc.StatusCode.NOT_FOUND, "why", True),
    ],
)
def test_which_status_ends_the_use_of_a_connection(code: grpc.StatusCode, details: str, *, is_kept: bool) -> None:
    line = Line(cast("grpc.aio.Channel", _Channel()), set())
    invocation = Invocation(method="x", params={}, deadline=0, request_id="1")

    async def fail() -> None:
        async with line.calling(invocation):
            raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)

    with pytest.raises(StatusError):
        asyncio.run(fail())
    assert line.usable() is is_kept


@contextmanager
def refusing(*first: bytes) -> Iterator[int]:
    """Answer the first call on each of the first connections with these frames, and on others as a service does."""
    stop = threading.Event()
    answers = iter(first)

    def serve(connection: socket.socket, answer: bytes) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as stream:
            connection.sendall(h2(4, 0, 0, b""))
            stream.read(24)  # the preface of a client
            while head := stream.read(9):
                stream.read(int.from_bytes(head[:3], "big"))
                if head[3] == 1:
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while not stop.is_set():
                    connection, _ = server.accept()
                    threading.Thread(target=serve, args=(connection, next(answers, SEVEN)), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


SEVEN = (
    h2_headers((b":status", b"200"), (b"content-type", b"application/grpc"))
    + h2_message(b"\x08\x07")
    + h2_headers((b"grpc-status", b"0"), end=True)
)
GOAWAY = h2(7, 0, 0, bytes(8))  # the last stream that was begun with: none; no error
REFUSED_STREAM = h2(3, 0, 1, b"\0\0\0\7")


@pytest.mark.parametrize("said", [GOAWAY, REFUSED_STREAM], ids=["goaway", "refused"])
def test_a_call_that_the_server_has_not_begun_with_is_sent_again(said: bytes, tmp_path: Path, logged: Logged) -> None:
    with refusing(said) as port, serve_upstream(GRPC, port, tmp_path, PROTO) as up:
        assert up.call("add", 3, 4) == 7
    logged.take("is down")


def test_connections_that_a_server_rotates_fail_no_call(tmp_path: Path, logged: Logged) -> None:
    kind = replace(service("Failing"), command=(*GRPC.command, "--age", "100"))
    seen: set[str] = set()
    with (
        Program(kind) as program,
        serve_upstream(kind, program.port, tmp_path) as up,
        ThreadPoolExecutor(4) as pool,
    ):
        while len(seen) < 12:
            seen |= set(pool.map(lambda _: up.call("Told", "peer"), range(20)))
    logged.take("is down")


def test_a_call_that_the_server_refuses_each_time_was_not_sent(tmp_path: Path, logged: Logged) -> None:
    with refusing(*[REFUSED_STREAM] * 100) as port, serve_upstream(GRPC, port, tmp_path, PROTO) as up:
        assert up.fault("add", 3, 4) == (-32002, "no")
    assert logged.take("is down")


# ---- on the way ------------------------------------------------------------------------------------------------------


def test_metadata_the_exchange_and_the_time_left_go_along(port: int, tmp_path: Path) -> None:
    with serve_upstream(service("Failing"), port, tmp_path, "metadata = { authorization = 'Bearer 7f3a' }") as up:
        assert up.call("Told", "authorization") == "Bearer 7f3a True"
        assert up.call("Told", "x-request-id").endswith("-2 True")


def test_what_is_asked_for_goes_along(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLING_KEY", "Bearer 5ecre7")
    more = """
    metadata = { authorization = { env = "BILLING_KEY" } }
    forward = ["Traceparent", "X-Odd"]
    client_address = "X-Forwarded-For"
    idempotency_key = "idempotency-key"
    """

    def told(up: Served, name: str) -> str:
        call = json.dumps({"jsonrpc": "2.0", "method": "up.Told", "params": [name], "id": 1}).encode()
        headers = {"Content-Type": "application/json", "traceparent": "00-ab", "X-Odd": "\xe9", "idempotency-key": "k"}
        said = json.loads(exchange(up.server.port, request("/api", headers, call)).body)
        return str(said.get("result", said.get("error")))

    names = ("authorization", "traceparent", "x-forwarded-for", "idempotency-key")
    with serve_upstream(service("Failing"), port, tmp_path, more) as up:
        assert [told(up, name) for name in names] == [
            "Bearer 5ecre7 True",
            "00-ab True",
            "127.0.0.1 True",
            "k True",
        ]
        assert "the upstream failed" in told(up, "x-odd")
    with serve_upstream(service("Failing"), port, tmp_path) as up:
        for name in names:
            assert "the upstream failed" in told(up, name)


def test_tls_with_certificates_on_both_sides(tmp_path: Path, logged: Logged) -> None:
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    for name, issued in (("server", ca.issue_cert("calc.example")), ("client", ca.issue_cert("gateway"))):
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    files = ("--cert", "server.pem", "--key", "server.key", "--ca", "ca.pem")
    kind = replace(
        GRPC,
        url="grpcs://127.0.0.1:{port}",
        command=(*GRPC.command, *(name if name.startswith("-") else str(tmp_path / name) for name in files)),
        options=f"service = 'programs.Programs'\n{PROTO}",
    )
    ours = f"cert = '{tmp_path}/client.pem'\nkey = '{tmp_path}/client.key'\n"
    with Program(kind) as program:
        with serve_upstream(
            kind, program.port, tmp_path, f"{ours}ca = '{tmp_path}/ca.pem'\nserver_name = 'calc.example'"
        ) as up:
            assert up.call("add", 1, 2) == 3
        for wrong in (
            f"{ours}ca = '{tmp_path}/other.pem'\nserver_name = 'calc.example'",
            f"{ours}ca = '{tmp_path}/ca.pem'",
            f"ca = '{tmp_path}/ca.pem'\nserver_name = 'calc.example'",
            f"{ours}",
        ):
            with serve_upstream(kind, program.port, tmp_path, wrong) as up:
                assert up.fault("add", 1, 2)[0] == -32002
        with serve_upstream(replace(kind, url="grpc://127.0.0.1:{port}"), program.port, tmp_path) as up:
            assert up.fault("add", 1, 2)[0] == -32002
    assert logged.take("is down")


WRONG: dict[str, str] = {
    f"{CALCULATOR}\ndescriptor_set = 'x.pb'": "upstreams.up: use proto or descriptor_set, not both",
    "include = ['x']": "upstreams.up: include needs proto",
    "methods = ['add']": "upstreams.up: the service's own description names the methods",
    "ca = 'x.pem'": "upstreams.up: ca, cert, key and server_name are for a url with grpcs",
    "metadata = { 'Authorization' = 'x' }": "upstreams.up.metadata.Authorization: expected a table of names in small",
    "metadata = { 'grpc-x' = 'x' }": "upstreams.up.metadata.grpc-x: expected a table of names in small letters",
    "metadata = { a = 'ü' }": "upstreams.up.metadata.a: expected a table of names in small letters",
    "most_messages = 0": "upstreams.up.most_messages: expected an integer >= 1",
    "proto = ['no.proto']": "upstreams.up: there is no file no.proto",
    "proto = ['bad.proto']": "upstreams.up: protoc: bad.proto:1:1: Expected",
    "proto = ['lost.proto']": "upstreams.up: protoc: no.proto: File not found",
    "descriptor_set = 'no.pb'": "upstreams.up: no.pb cannot be read: no such file or directory",
    "descriptor_set = 'bad.proto'": "upstreams.up: bad.proto has no descriptors",
    "descriptor_set = 'loop.pb'": "upstreams.up: a.proto imports itself",
    "descriptor_set = 'half.pb'": "upstreams.up: half.proto imports google/api/http.proto, which is missing",
    f"service = 'Add'\nproto = ['{ROOT}/tests/upstreams/calculator.proto']": "upstreams.up: there is no service Add",
}


@pytest.mark.parametrize("options", WRONG)
def test_what_is_wrong_in_the_configuration_is_told(
    options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.proto").write_text("what?")
    (tmp_path / "lost.proto").write_text('syntax = "proto3"; import "no.proto";')
    half = FileDescriptorProto(name="half.proto", dependency=["google/api/http.proto"])
    loop = [FileDescriptorProto(name=a, dependency=[b]) for a, b in (("a.proto", "b.proto"), ("b.proto", "a.proto"))]
    (tmp_path / "loop.pb").write_bytes(FileDescriptorSet(file=loop).SerializeToString())
    (tmp_path / "half.pb").write_bytes(FileDescriptorSet(file=[half]).SerializeToString())
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "gateway.toml").write_text(
        f"[server]\nmodules = []\n[upstreams.up]\nurl = 'grpc://127.0.0.1:1'\n{options}\n"
    )
    monkeypatch.chdir(tmp_path)
    ended = here("check")
    assert ended.code == 1
    told = re.sub(r"^gateway: error\[\w+\]: (conf/gateway\.toml: )?", "", ended.err)
    assert told.startswith(WRONG[options])
    assert len(ended.err.splitlines()) == 1


def test_a_proto_without_protoc_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UpstreamConfigError, match=r"needs the package grpcio-tools: pip install '\.\[protobuf\]'"):
        from_options(ProtoOptions(url="grpc://localhost:1", proto=("x.proto",)))


def test_missing_packages_are_told_by_their_extra(tmp_path: Path) -> None:
    (tmp_path / "grpc.py").write_text("raise ModuleNotFoundError(\"No module named 'grpc'\", name='grpc')")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "gateway.toml").write_text(
        "[server]\nmodules = []\n[upstreams.a]\nurl = 'grpc://localhost:1'\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "check"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == (
        "gateway: error[configuration]: conf/gateway.toml: upstreams.a.url: grpc:// needs the package grpc:"
        " pip install '.[grpc]' in the gateway's clone\n"
    )


def test_a_method_that_its_proto_calls_idempotent_may_run_twice(tmp_path: Path) -> None:
    proto = tmp_path / "levels.proto"
    rpcs = "".join(
        f"rpc {name}(A) returns (A) {{ option idempotency_level = {level}; }}\n"
        for name, level in (("Read", "NO_SIDE_EFFECTS"), ("Put", "IDEMPOTENT"), ("Add", "IDEMPOTENCY_UNKNOWN"))
    )
    proto.write_text(
        f'syntax = "proto3";\npackage levels;\nmessage A {{}}\nservice S {{\n{rpcs}rpc Pop(A) returns (A);\n}}\n'
    )
    known = GRPCUpstream(GRPCOptions(url="grpc://localhost:1", proto=(str(proto),)), Limits()).known()
    assert known is not None
    assert {each.name.rpartition(".")[2]: each.is_idempotent for each in known} == {
        "Read": True,
        "Put": True,
        "Add": False,
        "Pop": False,
    }


# Streams, one answer after the other


def subscribe(client: Client, method: str, *params: Any) -> str:
    client.send(call("rpc.subscribe", method, *params))
    return str(client.read()["result"])


def test_the_answers_of_a_stream_come_when_they_are_there(port: int, tmp_path: Path) -> None:
    path, more = tmp_path / "ended", {"websocket.enabled": True}
    with serve_upstream(service("Streams"), port, tmp_path, settings=more) as up, Client(up.server) as client:
        for method, params, values in (
            ("up.Count", 3, [0, 1, 2]),
            ("up.Pairs", 1, [{"a": 0, "b": 0}]),
            ("up.Chat", ["a", "b"], ["a", "A", "b", "B"]),
        ):
            subscribe(client, method, params)
            assert [client.read()["params"].get("result") for _ in (*values, None)] == [*values, None]
        subscribe(client, "up.Count", -1)
        assert client.read()["params"]["error"]["code"] == up.fault("Count", -1)[0]
        number = subscribe(client, "up.Forever", str(path), 0.01)
        assert [client.read()["params"]["result"] for _ in range(3)] == [0, 1, 2]
        client.send(call("rpc.unsubscribe", number))
        until(path.exists)
        assert up.answer("Count", 2)["result"] == [0, 1]  # a call is collected as ever
        until(lambda: up.server.gateway.upstreams[0]._calls.running == 0)
        assert up.server.gateway.upstreams[0]._upstream.connections()[0] == 1  # no stream has cost a connection


def test_what_does_not_stream_is_not_subscribed_to_and_a_stream_is_a_call(port: int, tmp_path: Path) -> None:
    path, more = tmp_path / "ended", {"websocket.enabled": True}
    with serve_upstream(service("Streams"), port, tmp_path, "calls = 1", more) as up:
        with Client(up.server) as client:
            for method, param in (("up.Sum", [1]), ("up.Count", "x")):
                client.send(call("rpc.subscribe", method, param))
                assert client.read()["error"]["code"] == -32602
            subscribe(client, "up.Forever", str(path), 0.01)
            client.read()
            assert up.fault("Count", 1)[0] == -32003  # the stream is the one call that may run
        until(path.exists)
