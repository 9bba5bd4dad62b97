"""Protobuf's generic services behind the gateway: servers on what protobuf 5 generates, in their own environment.

What every kind of upstream has in common, trouble above all, stands in test_trouble.py.
"""

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import pytest
from google.protobuf import message as library
from msgspec.structs import replace

from gateway.upstreams.protobuf.frames import MethodFrames
from gateway.upstreams.protobuf.generic import ProtobufGeneric
from gateway.wire.framing import FrameTooLongError, FramingError
from tests.cli.running import here
from tests.conftest import Logged
from tests.upstreams.kinds import TYPED, Kind, generic_frame, generic_program
from tests.upstreams.running import ROOT, Program, Served, no_call_waits, serve_upstream, until

pytestmark = pytest.mark.unmeasured

FRAMES = next(kind for kind in TYPED if kind.name == "protobuf")
CALLBACKS = next(kind for kind in TYPED if kind.name == "protobuf callbacks")
GAME = replace(
    FRAMES,
    command=generic_program("game"),
    options="proto = ['tests/upstreams/game.proto']\nservice = 'GameService'\nclient_service = 'ClientService'\n"
    "callbacks = { connect_server = 'connect_reply' }\nhide = ['say']",
)
both = pytest.mark.parametrize("kind", [FRAMES, CALLBACKS], ids=lambda kind: kind.name)


def proxy(url: str) -> Any:
    return ServerProxy(url, allow_none=True, use_builtin_types=True)


def test_the_articles_game(tmp_path: Path) -> None:
    """The answer is a call back on the same connection, among other calls of the server's."""
    with Program(GAME) as program, serve_upstream(GAME, program.port, tmp_path) as up:
        assert up.call("connect_server", "Ada") == "welcome, Ada"
        assert up.call("connect_server", msg="Grace") == "welcome, Grace"
        with proxy(up.server.url) as server:
            for number in range(20):
                assert server.up.connect_server(f"player {number}") == f"welcome, player {number}"
            assert server.system.methodSignature("up.connect_server") == [["string", "string"]]
            assert "rpc GameService.connect_server" in server.system.methodHelp("up.connect_server")
        assert up.answer("connect_server")["error"]["data"]["detail"] == "params.msg: missing"
        assert up.answer("connect_server", 5)["error"]["data"]["detail"] == "params[0]: expected str, got int"


@both
def test_both_protocols_and_both_ways_to_answer(kind: Kind, tmp_path: Path) -> None:
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path) as up:
        assert (up.call("add", 10, 5), up.call("subtract", a=10, b=5), up.call("add", 2**62, 2**62 - 1)) == (
            15,
            5,
            2**63 - 1,
        )
        with proxy(up.server.url) as server:
            assert (server.up.add(10, 5), server.up.subtract(3)) == (15, 3)


def test_a_length_that_includes_itself(tmp_path: Path) -> None:
    kind = replace(FRAMES, command=generic_program("all"), options=f"{FRAMES.options}\nlength_includes_itself = true")
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path) as up:
        assert (up.call("add", 10, 5), up.call("add", 1, 1)) == (15, 2)


SAME: dict[str, list[Any]] = {
    "f_int32": [0, -(2**31)],
    "f_uint64": [2**64 - 1],
    "f_double": [0.1, -1e300],
    "f_float": [0.1],
    "f_bool": [True, False],
    "f_string": ["", "ünï\U0001f600\0"],
    "f_bytes": ["AP8=", ""],
    "f_enum": ["GREEN"],
    "ints": [[2**53 + 1, -1]],
    "more": [[{"f_int32": 5, "ints": [], "more": []}]],
    "inner": [{"name": "x"}],
    "with_default": ["y", ""],
}


@pytest.fixture(scope="module", params=[FRAMES, CALLBACKS], ids=lambda kind: kind.name)
def echoing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    kind: Kind = request.param
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path_factory.mktemp("echoing")) as up:
        yield up


@pytest.mark.parametrize("field", SAME)
def test_every_type_comes_back_as_it_was(field: str, echoing: Served) -> None:
    for value in SAME[field]:
        assert echoing.call("echo", **{field: value}) == {"ints": [], "more": []} | {field: value}
    if field == "f_bytes":
        with proxy(echoing.server.url) as server:
            assert server.up.echo(*[None] * 6, b"\0\xff")["f_bytes"] == b"\0\xff"


REFUSED: dict[str, tuple[str, Any, str]] = {
    "closed enum": ("f_enum", 2, "params.f_enum: invalid enum value 2"),
    "nested": ("inner", {}, "params.inner"),
    "uint64": ("f_uint64", -1, "params.f_uint64: expected int"),
    "deep": ("more", [{"f_uint64": 2**64}], "params.more[0].f_uint64: expected an int from 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_its_place_before_a_byte_is_sent(case: str, tmp_path: Path) -> None:
    field, value, detail = REFUSED[case]
    with serve_upstream(FRAMES, 1, tmp_path) as up:  # nobody is there
        error = up.answer("echo", **{field: value})["error"]
        assert (error["code"], error["data"]["detail"][: len(detail)]) == (-32602, detail)


@both
def test_a_call_that_nobody_answers(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "marks"
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path) as up:
        for number in range(1, 6):
            assert up.call("forget", str(path)) is None
            assert up.call("add", number, 1) == number + 1
        until(lambda: len(path.read_text().splitlines()) == 5)


def test_a_server_that_writes_twice_to_answer_is_not_kept_waiting(tmp_path: Path) -> None:
    """Its kernel holds the second frame back until the first is acknowledged, which ours does after 40 ms if it may."""
    with Program(CALLBACKS) as program, serve_upstream(CALLBACKS, program.port, tmp_path) as up:
        no_call_waits(lambda: up.call("add", 1, 2))


@contextmanager
def scripted(*answers: bytes) -> Iterator[int]:
    """Answer the first call of each connection with all of these bytes, and the next ones with nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections: list[socket.socket] = []

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                connections.append(connection)
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)
        for connection in connections:
            connection.close()


def test_a_call_without_an_answer_waits_until_it_is_on_its_way(tmp_path: Path) -> None:
    """Nobody reads at the other end, so a large one is not, and a second attempt could run it twice."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        more = "timeout = { '*' = 0.5 }"
        with serve_upstream(FRAMES, server.getsockname()[1], tmp_path, more, {"limits.max_body": 64 * 2**20}) as up:
            assert up.call("forget", "x") is None
            assert up.fault("forget", "x" * 32 * 2**20) == (-32001, "maybe")


def test_a_connection_that_has_lost_its_place_is_not_used_again(tmp_path: Path) -> None:
    """Two answers to one call: the second would be taken for the next call's."""
    three, nine = generic_frame(b"\x08\x03"), generic_frame(b"\x08\x09")
    with scripted(three + nine, three) as port, serve_upstream(FRAMES, port, tmp_path, "connections = 1") as up:
        assert up.call("add", 1, 2) == 3
        assert up.call("add", 1, 2) == 3


def test_what_the_server_calls_beside_the_answer_is_passed_over(tmp_path: Path) -> None:
    tick, added = generic_frame(b"\x08\x07"), generic_frame(b"\x08\x03", index=1)
    more = "connections = 1\ntimeout = { '*' = 1 }"
    with scripted(tick * 50 + added + tick * 50, added) as port, serve_upstream(CALLBACKS, port, tmp_path, more) as up:
        assert up.call("add", 1, 2) == 3
        assert up.fault("add", 1, 2) == (-32001, "maybe")  # the connection is the same, and says no more
        assert up.call("add", 1, 2) == 3


def test_the_answer_to_another_method_is_no_answer(tmp_path: Path, logged: Logged) -> None:
    added, subtracted = generic_frame(b"\x08\x03", index=1), generic_frame(b"\x08\x03", index=2)
    with scripted(subtracted + added) as port, serve_upstream(CALLBACKS, port, tmp_path) as up:
        assert up.fault("add", 1, 2) == (-32004, "maybe")
    assert logged.take("index 2")


def test_frames_in_any_pieces() -> None:
    frames = [generic_frame(bytes([number]) * number, index=number) for number in range(20)]
    data = b"".join(frames)
    for size in (1, 2, 5, 7, 100, len(data)):
        reader = MethodFrames(100)
        read = [each for start in range(0, len(data), size) for each in reader.feed(data[start : start + size])]
        assert read == [(number, bytes([number]) * number) for number in range(20)]
    assert MethodFrames(100).frame(7, b"abc") == struct.pack("<IH", 5, 7) + b"abc"
    assert MethodFrames(100, length_includes_itself=True).frame(7, b"abc") == struct.pack("<IH", 9, 7) + b"abc"
    with pytest.raises(FrameTooLongError):
        MethodFrames(100).feed(generic_frame(b"x" * 101)[:6])  # before the message is here
    assert MethodFrames(100).feed(generic_frame(b"x" * 100)) == [(0, b"x" * 100)]
    with pytest.raises(FramingError):
        MethodFrames(100, length_includes_itself=True).feed(generic_frame(b"", length=5))


def test_the_table_has_every_exception_of_the_library() -> None:
    raised = [kind for kind in vars(library).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    never = {"EncodeError", "Error", "FrozenInstanceError"}  # a message is complete before it is written
    assert {kind.__name__ for kind in raised if kind not in ProtobufGeneric.failures} <= never
    assert library.DecodeError in raised


WRONG: dict[str, str] = {
    "": "proto or descriptor_set is needed",
    "proto = ['generic.proto']": "set service to the one that is called: generic.Client, generic.Programs",
    "proto = ['generic.proto']\nservice = 'Programs'": "there is no service Programs; did you mean generic.Programs?",
    "proto = ['generic.proto']\nservice = 'generic.Programs'\noneway = ['forge']": (
        "oneway: generic.Programs has no method forge"
    ),
    "proto = ['generic.proto']\nservice = 'generic.Programs'\nclient_service = 'generic.Client'": (
        "client_service and callbacks belong together"
    ),
    "proto = ['generic.proto']\nclient_service = 'generic.Client'\ncallbacks = { ad = 'added' }": (
        "callbacks: generic.Programs has no method ad"
    ),
    "proto = ['generic.proto']\nclient_service = 'generic.Client'\ncallbacks = { add = 'ad' }": (
        "callbacks: generic.Client has no method ad"
    ),
    "proto = ['generic.proto']\nclient_service = 'generic.Client'\ncallbacks = { add = 'added' }\noneway = ['add']": (
        "add is in oneway and in callbacks: choose one"
    ),
    "proto = ['generic.proto']\nclient_service = 'generic.Client'\ncallbacks = { add = 'added' }": (
        "subtract has no response: name it in callbacks or oneway; leave it out with hide"
    ),
}


@pytest.mark.parametrize("options", WRONG)
def test_what_is_wrong_in_the_configuration_is_told(
    options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = options.replace("generic.proto'", f"{ROOT}/tests/upstreams/generic.proto'")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "gateway.toml").write_text(
        f"[server]\nmodules = []\n[upstreams.up]\nurl = 'protobuf://127.0.0.1:1'\n{options}\n"
    )
    monkeypatch.chdir(tmp_path)
    ended = here("check")
    expected = WRONG[options.replace(f"{ROOT}/tests/upstreams/", "")]
    assert (ended.code, expected in ended.err, len(ended.err.splitlines())) == (1, True, 1), ended.err


def test_it_is_shown_with_its_methods(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    options = CALLBACKS.options.replace("tests/", f"{ROOT}/tests/")
    with Program(CALLBACKS) as program:
        (tmp_path / "conf" / "gateway.toml").write_text(
            f"[server]\nmodules = []\n[upstreams.up]\nurl = 'protobuf://127.0.0.1:{program.port}'\n{options}\n"
        )
        ended = subprocess.run(
            [sys.executable, "-m", "gateway", "upstreams"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
    assert ended.stdout.splitlines()[1].split() == ["up", f"protobuf://127.0.0.1:{program.port}", "up", "7"]
    assert (ended.returncode, ended.stderr) == (0, "")
