"""RPyC: the articles' service, results that are references, arguments that are lent; and what a service may not do."""

import asyncio
import itertools
import json
import socket
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from rpyc.core import brine as theirs  # type: ignore[import-untyped]
from rpyc.core import consts

from gateway.model.faults import BadUpstream
from gateway.upstreams.faults import raised
from gateway.upstreams.rpyc import adapter, brine, lent, shown
from gateway.upstreams.rpyc.connection import Connection
from tests.codecs.test_properties import fuzzed
from tests.conftest import Logged
from tests.raw_http import post
from tests.upstreams import kinds
from tests.upstreams.kinds import KINDS, root
from tests.upstreams.running import Program, Served, broken, no_call_waits, serve_upstream, until

RPYC = next(kind for kind in KINDS if kind.name == "rpyc")
BAD = -32004


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with Program(RPYC) as running:
        yield running


@contextmanager
def served(program: Program, folder: Path, more: str = "") -> Iterator[Served]:
    with serve_upstream(RPYC, program.port, folder, more) as up:
        until(lambda: up.offers("add"))
        yield up


def test_the_exposed_method_and_no_other(program: Program, tmp_path: Path) -> None:
    with serve_upstream(RPYC, program.port, tmp_path, "prefix = ''") as up:
        until(lambda: up.server.gateway.registry.get("cal", "xmlrpc"))
        with ServerProxy(up.server.url, allow_none=True) as server:
            assert server.cal(12) == 144
            assert server.system.methodHelp("cal") == "Return the square."
            names: Any = server.system.listMethods()
            assert {"cal", "getObj"} <= set(names)
            assert not {"secret", "exposed_cal", "get_service_name"} & set(names)
            with pytest.raises(Fault, match="Method not found"):
                server.secret()
        for params in ([1.5], {"num": 1.5}):
            call = {"jsonrpc": "2.0", "method": "cal", "params": params, "id": 1}
            assert json.loads(post(up.server.port, json.dumps(call).encode()).body)["result"] == 2.25


def test_what_is_not_exposed_cannot_be_called_by_configuration_either(program: Program, tmp_path: Path) -> None:
    with serve_upstream(RPYC, program.port, tmp_path, "methods = ['secret', 'missing']") as up:
        for name in ("secret", "missing"):
            assert up.answer(name)["error"]["data"]["detail"] == "the upstream exposes no such method"


RESULTS: list[tuple[str, Any]] = [
    ("list", [0.0, 1.5, 3.0]),
    ("rows", [[0, "0"], [1, "1"], [2, "2"]]),
    ("tuple", [0, 1, 2]),
    ("set", [7]),
    ("frozenset", [7]),
    ("deque", [1, [2]]),
    ("dict", {"k0": [0, {"n": None}], "k1": [1, {"n": None}], "k2": [2, {"n": None}]}),
    ("ordered", {"b": 1, "a": 2}),
    ("generator", [0, 1, 2]),
    ("moment", "2026-11-20T12:30:01"),
    ("zoned", "2026-11-20T12:30:01Z"),
    ("day", "2026-11-20"),
    ("decimal", "1.50"),
    ("uuid", "00000000-0000-0000-0000-000000000005"),
    ("bytes", "AP8A/wD/"),
    ("big", 10**4000),
    ("bytearray", "AP8="),
    ("range", [0, 1, 2]),
    ("keys", ["a"]),
    ("values", [[1]]),
    ("items", [["a", [1]]]),
    ("counter", {"a": 2}),
    ("span", -86399.5),
    ("second", 1.0),
    ("pair", [1, [1]]),
    ("color", [1, ["a>b", None], 3, "Ada", 3]),
    ("order", {"number": 1, "text": 'it\'s "x"', "things": [["a>b", None]], "pair": {"left": 1.5, "right": None}}),
    ("rich", [{"number": number, "text": "", "things": [], "pair": None} for number in range(3)]),
    ("local", {"raw": "AP8="}),
    (
        "things",
        {
            "number": 1,
            "text": "",
            "things": [
                *("1.50", "00000000-0000-0000-0000-000000000005", "2026-01-02", -86399.5, [1], [2], []),
                *({"a": 1}, {}, {"b": [None, True, -2, 1e300]}, {"a": 2}, [1], "eA==", [1], [], {}),
            ],
            "pair": None,
        },
    ),
    (
        "times",
        {
            "number": 1,
            "text": "",
            "things": ["2026-01-02T03:04:05.000006", "2026-01-02T03:04:00Z", "2026-01-02T03:04:00-01:00"],
            "pair": None,
        },
    ),
    ("struct", {"x": 1, "inner": None}),
    ("row", [1, [2]]),
    ("table", {"a": [1]}),
    ("crowd", [1]),
]


def test_a_service_that_has_gone_is_told_nothing_more() -> None:
    async def end() -> None:
        loop, (ours, theirs) = asyncio.get_running_loop(), socket.socketpair()
        _, connection = await loop.create_connection(lambda: Connection(65536), sock=ours)
        theirs.close()
        while connection._error is None:  # noqa: ASYNC110 - the event loop sees it in one of its next turns
            await asyncio.sleep(0)
        connection.forget([("builtins.generator", 1, 2)])

    uvloop.run(end())  # whose transports refuse what is written then


@pytest.mark.parametrize(("kind", "value"), RESULTS)
def test_results_are_made_plain(kind: str, value: Any, program: Program, tmp_path: Path) -> None:
    with served(program, tmp_path) as up:
        for _ in range(2):
            assert repr(up.call("make", kind)) == repr(value)


SHOWN: list[tuple[str, Any]] = [
    ("[inf, -inf, -1, 1e-07]", [float("inf"), float("-inf"), -1, 1e-07]),
    ("Counter(a=1)", {"a": 1}),
    ("tests.<locals>.Point()", {}),
    ("<A|B: 3>", 3),
    ("Decimal('NaN')", "NaN"),
    ("'\\'\\n\\x00'", "'\n\0"),
]
NOT_SHOWN = [
    *("", "x", "x.y", "[", "[1", "[1 2]", "(1", "1 1", "Point(1)", "Point(1, x=2)", "Point(x=)", "Point(x=1", "{1: 2}"),
    *("{'a': 1, 2}", "<A: 1", "<object object at 0x7f0000000000>", "<function f at 0x7f>", "lambda: 1", "open('x')"),
    *("1 + 1", "'a' 'b'", "f'{1}'", "'", r"b'\x4'", r"'\d'", r"'\UFFFFFFFF'", r"b'\u1234'", "'\n'", "'\0'", "[...]"),
    *("datetime.datetime(1)", "datetime.datetime(2026, 1, 99)", "datetime.timezone.utc", "datetime.timezone(1)"),
    *("Point(x=datetime.timezone.utc)", "Point(x=datetime.timezone.min)", "datetime.timedelta(days=9999999999)"),
    *("bytearray(10000000000)", "bytearray(1)", "bytearray([1, 2])", "bytearray(b'', b'')"),
    *("Point(x=datetime.timezone(inf))", "Point(x=datetime.timezone(1e300))", "Point(x=datetime.timezone(nan))"),
    *("Counter({1: 2})", "9" * 5000, "deque(1, 2, 3)", "datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone(1))"),
]


@pytest.mark.parametrize(("text", "value"), SHOWN)
def test_what_an_object_shows_is_read(text: str, value: Any) -> None:
    assert shown.read(text, 5, lambda items, depth: None) == value


@pytest.mark.parametrize("text", NOT_SHOWN)
def test_what_is_not_the_notation_of_plain_data_is_not_read(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind
        shown.read(text, 5, lambda items, depth: None)


@fuzzed(300)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_pythons_own_notation_is_read_as_it_is(value: Any) -> None:
    assert repr(shown.read(repr(value), 50, lambda items, depth: None)) == repr(value)


NOT_PLAIN: list[tuple[str, str]] = [
    ("object", "result[1][1].o: an object of the class object is not plain data"),
    ("complex", "result: an object of the class complex is not plain data"),
    ("slice", "result[1]: an object of the class slice is not plain data"),
    ("class", "result: an object of the class Service is not plain data"),
    ("self", "result: an object of the class Service is not plain data"),
    ("iterator", "result: an object of the class list_iterator is not plain data"),
    ("key", "result[0].a: a member's name is not a string"),
    ("cycle", "[0][0][0]: nested too deeply"),
    ("deep", "[0][0][0]: nested too deeply"),
    ("quiet", "result: an object of the class Quiet is not plain data"),
    ("broken", "result: an object of the class Broken is not plain data"),
    ("holder", "result: an object of the class Order is not plain data"),
    ("zone", "result: an object of the class Order is not plain data"),
    ("itself", "result: an object of the class Order is not plain data"),
    ("nest", "result: nested too deeply"),
    ("endless", "result: more items than the option items allows"),
]


@pytest.mark.parametrize(("kind", "reason"), NOT_PLAIN)
def test_results_that_are_not_plain_are_refused(
    kind: str, reason: str, program: Program, tmp_path: Path, logged: Logged
) -> None:
    with served(program, tmp_path) as up:
        error = up.answer("make", kind)["error"]
        assert error["code"] == BAD
        assert reason in error["message"]
        assert up.call("add", 1, 2) == 3
    assert logged.take("upstream up: Bad upstream")


def test_results_are_bounded_in_items_and_bytes(program: Program, tmp_path: Path, logged: Logged) -> None:
    with (
        served(program, tmp_path, "items = 100") as up,
        ThreadPoolExecutor(4) as pool,
    ):
        assert len(up.call("make", "list", 100)) == 100
        assert len(up.call("make", "rows", 33)) == 33
        assert len(up.call("make", "many", 90)["things"]) == 90
        for kind, size in (("list", 101), ("tuple", 101), ("rows", 34), ("dict", 26), ("many", 98)):
            assert "more items than the option items allows" in up.answer("make", kind, size)["error"]["message"]
        assert list(pool.map(lambda size: len(up.call("make", "dict", size)), (22, 23, 24, 25))) == [22, 23, 24, 25]
    folder = tmp_path / "small"
    folder.mkdir()
    with serve_upstream(RPYC, program.port, folder, settings={"limits.max_reply": 65536}) as up:
        until(lambda: up.offers("make"))
        assert len(up.call("make", "long", 60_000)) == 60_000
        assert up.answer("make", "long", 70_000)["error"]["code"] == BAD  # compressed it is a few bytes
        for _ in range(2):
            assert len(up.call("make", "heavy", 2)) == 2
            assert up.answer("make", "heavy", 3)["error"]["message"].endswith("more bytes than limits.max_reply")
    assert logged.take("upstream up: Bad upstream")


def test_a_compressed_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(b"\0" * 100_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(BadUpstream):
            Connection(65536)._unpacked(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_large_dicts_are_read_in_portions(program: Program, tmp_path: Path) -> None:
    with served(program, tmp_path) as up:
        assert up.call("make", "dict", 1001)["k1000"] == [1000, {"n": None}]


def test_no_reply_waits_for_a_delayed_acknowledgement(program: Program, tmp_path: Path) -> None:
    with served(program, tmp_path) as up:
        no_call_waits(lambda: up.call("make", "dict"))


def test_arguments_are_lent_while_the_call_runs(program: Program, tmp_path: Path) -> None:
    with served(program, tmp_path) as up:
        said = up.call("read", {"list": [1, 2, 3], "same": [1, 2, 3], "empty": [], "dict": {"a": 1}})
        names = ["dict", "empty", "list", "same"]
        kinds_of = ["builtins.list", "builtins.list", "builtins.list", "builtins.dict"]
        assert said == [
            *("builtins.dict", False, 3, 2, [2, 3], [1, 3], names, names, names, kinds_of, 5, True, True, 2),
            *("[1, 2, 3]", True, False, False, [3, 2, 1], "empty"),
        ]
        assert up.call("sendObj", {"a": [1, {"b": None}]}) is True
        assert up.call("getObj") == {"a": [1, {"b": None}]}
        assert up.call("keep", [1]) is None
        assert up.answer("kept")["error"]["message"] == "this argument is not available any more"


@pytest.mark.parametrize(
    "how", ["class", "dict", "reduce", "append", "set", "attribute", "sort", "function", "unlent", "equal", "hash"]
)
def test_a_service_can_read_what_is_lent_and_no_more(how: str, program: Program, tmp_path: Path) -> None:
    with served(program, tmp_path) as up:
        call = {"jsonrpc": "2.0", "method": "up.reach", "params": [[1, 2], how], "id": 1}
        said = json.loads(post(up.server.port, json.dumps(call).encode()).body)
        assert said["error"]["code"] == -32000
        assert up.call("echo", [[1, 2]]) == [[1, 2]]


FAULTS: list[tuple[str, tuple[Any, ...], int, str]] = [
    ("divide", (1, 0), -32000, "division by zero"),
    ("crash", ("own",), -32000, "a reason, 5"),
    ("crash", ("object",), -32000, "the upstream failed"),
    ("crash", ("exit",), -32000, "3"),
    ("crash", ("stop",), -32000, "the upstream failed"),
    ("crash", ("none",), -32000, "the upstream failed"),
    ("crash", ("denied",), -32000, "cannot access 'nothing'"),
    ("add", (1,), -32602, "the method missing 1 required positional argument: 'b'"),
    ("crash", (), -32602, "the method missing 1 required positional argument: 'kind'"),
]


@pytest.mark.parametrize(("method", "params", "code", "message"), FAULTS)
def test_faults(
    method: str, params: tuple[Any, ...], code: int, message: str, *, program: Program, tmp_path: Path
) -> None:
    with served(program, tmp_path) as up:
        error = up.answer(method, *params)["error"]
        assert (error["code"], message in json.dumps(error)) == (code, True), error
        assert up.call("add", 1, 2) == 3


def test_a_fault_names_the_class_that_was_raised(program: Program, tmp_path: Path) -> None:
    with served(program, tmp_path) as up:
        assert up.answer("divide", 1, 0)["error"]["data"] == {"type": "ZeroDivisionError"}
        assert up.answer("crash", "own")["error"]["data"] == {"type": "OwnError"}


@pytest.mark.parametrize("name", ["", "a b", "<script>", "x" * 101])
def test_a_class_whose_name_is_not_one_is_not_named(name: str) -> None:
    assert raised(name, "why").data is None


def test_what_cannot_be_said_is_refused_before_a_byte_is_sent(tmp_path: Path) -> None:
    moment = b"<value><dateTime.iso8601>20260101T00:00:00</dateTime.iso8601></value>"
    call = b"<methodCall><methodName>up.echo</methodName><params><param>%b</param></params></methodCall>" % moment
    with serve_upstream(RPYC, 1, tmp_path, "methods = ['echo']") as up:
        said = post(up.server.port, call, "text/xml").body
    assert b"params[0]: cannot be sent over RPyC: a datetime; send it as text or a number" in said


def test_bytes_and_moments_over_xml(program: Program, tmp_path: Path) -> None:
    with served(program, tmp_path) as up, ServerProxy(up.server.url, use_builtin_types=True) as server:
        assert server.up.echo([b"\0\xff", {"": b""}]) == [b"\0\xff", {"": b""}]
        assert str(server.up.make("moment")) == "2026-11-20 12:30:01"


@contextmanager
def asking(
    questions: list[Any], folder: Path, reply: Any = (1, 3), *, reads: bool = True
) -> Iterator[tuple[Served, list[Any]]]:
    """Serve a gateway in front of a service that asks these questions before it replies; what it is told is kept."""
    told: list[Any] = []

    def talk(connection: socket.socket) -> None:
        with suppress(OSError, EOFError), closing(connection), connection.makefile("rb") as stream:

            def read() -> Any:
                length = int.from_bytes(stream.read(4))
                body = stream.read(length + 2)[1:-1]
                if not body:
                    raise EOFError
                return body[0], *theirs.load(body[1:])

            for _ in itertools.count():
                _, number, (handler, _) = read()
                if handler == consts.HANDLE_GETROOT:
                    connection.sendall(root())
                    continue
                for place, question in enumerate(questions):
                    connection.sendall(kinds.rpyc(1, place, question))
                    if reads:
                        told.append(read())
                connection.sendall(kinds.rpyc(2, number, reply))

    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        with serve_upstream(RPYC, server.getsockname()[1], folder, "methods = ['add']\ntimeout = { '*' = 5 }") as up:
            yield up, told
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


LENT = ("builtins.list", 1, 1)
QUESTIONS: list[tuple[Any, int]] = [
    ((consts.HANDLE_PING, (2, ((1, "x"),))), 2),
    ((consts.HANDLE_CALLATTR, (2, ((3, LENT), (1, "__len__"), (1, ()), (1, ())))), 2),
    ((consts.HANDLE_DIR, (2, ((3, LENT),))), 2),
    ((consts.HANDLE_INSPECT, (2, ((1, LENT),))), 2),
    ((consts.HANDLE_BUFFITER, (2, ((3, LENT), (1, 1)))), 2),
    ((consts.HANDLE_DEL, (2, ((3, LENT), (1, 1)))), 2),
    ((consts.HANDLE_REPR, (2, ((3, LENT),))), 2),
    ((consts.HANDLE_GETROOT, (2, ())), 3),
    ((consts.HANDLE_PICKLE, (2, ((3, LENT), (1, 2)))), 3),
    ((consts.HANDLE_SETATTR, (2, ((3, LENT), (1, "x"), (1, 1)))), 3),
    ((consts.HANDLE_DELATTR, (2, ((3, LENT), (1, "x")))), 3),
    ((consts.HANDLE_INSTANCECHECK, (2, ((3, LENT), (1, LENT)))), 3),
    ((consts.HANDLE_CTXEXIT, (2, ((3, LENT), (1, None)))), 3),
    ((consts.HANDLE_OLDSLICING, (2, ((3, LENT), (1, "a"), (1, "b"), (1, 0), (1, 1), (1, ())))), 3),
    ((consts.HANDLE_GETATTR, (2, ((3, LENT), (1, "__class__")))), 3),
    ((consts.HANDLE_GETATTR, (2, ((3, LENT), (1, b"__class__")))), 3),
    ((consts.HANDLE_GETATTR, (2, ((3, ("builtins.list", 1, 999)), (1, "index")))), 3),
    ((consts.HANDLE_GETATTR, (2, ((1, "text"), (1, "format")))), 3),
    ((consts.HANDLE_CALL, (2, ((3, LENT), (1, ())))), 3),
    ((consts.HANDLE_CALL, (2, ((1, "text"), (1, ())))), 3),
    ((consts.HANDLE_CMP, (2, ((3, LENT), (1, 1), (1, "__class__")))), 3),
    ((consts.HANDLE_BUFFITER, (2, ((1, "text"), (1, 1)))), 3),
    ((consts.HANDLE_BUFFITER, (2, ((3, LENT), (1, "1")))), 3),
    ((consts.HANDLE_CALLATTR, (2, ((3, LENT), (1, "index"), (2, ((4, ("x", 1, 2)),)), (1, ())))), 3),
    ((consts.HANDLE_CALLATTR, (1, 5)), 3),
    ((consts.HANDLE_CALLATTR, (2, ())), 3),
    ((99, (2, ())), 3),
    ((None, 5), 3),
    (5, 3),
]


@pytest.mark.parametrize(("question", "kind"), QUESTIONS)
def test_questions_of_a_service_have_an_answer_each(question: Any, kind: int, tmp_path: Path) -> None:
    with asking([question, question], tmp_path) as (up, told):
        assert up.call("add", [1, 2], 1) == 3
        assert [(answer[0], answer[1]) for answer in told] == [(kind, 0), (kind, 1)]
        assert "gateway" not in repr(told)


def test_all_questions_of_the_library_are_known() -> None:
    """A handler that a new version brings is refused; this says that it is there."""
    handlers = {name for name in vars(consts) if name.startswith("HANDLE_")}
    asked = {question[0] for question, _ in QUESTIONS if isinstance(question, tuple)}
    missing = {name for name in handlers if getattr(consts, name) not in asked}
    assert missing == {"HANDLE_CLOSE", "HANDLE_STR", "HANDLE_HASH"}  # these three are tried with the real library


def test_the_labels_are_those_of_the_library() -> None:
    for name in ("PING", "CLOSE", "GETROOT", "GETATTR", "CALL", "CALLATTR", "REPR", "STR", "CMP", "HASH", "DIR"):
        assert getattr(lent, name) == getattr(consts, f"HANDLE_{name}")
    for name in ("DEL", "INSPECT", "BUFFITER"):
        assert getattr(lent, name) == getattr(consts, f"HANDLE_{name}")
    for name in ("VALUE", "TUPLE", "LOCAL_REF", "REMOTE_REF"):
        assert getattr(lent, name) == getattr(consts, f"LABEL_{name}")


def test_an_argument_that_is_returned_many_times_is_bounded(tmp_path: Path, logged: Logged) -> None:
    asked = [(consts.HANDLE_PING, (2, ((1, "x"),)))]
    for argument, times in (([], 9000), (["x" * 5000], 3000)):
        with asking(asked, tmp_path, (2, ((3, LENT),) * times)) as (up, _):
            assert up.call("add", argument, 1) == [argument] * times
    with asking(asked, tmp_path, (2, ((3, LENT),) * 9000)) as (up, _):
        error = up.answer("add", [{"a": "x" * 5000}], 1)["error"]
        assert error["message"] == "Bad upstream: the result has more bytes than limits.max_reply"
    assert logged.take("more bytes than limits.max_reply")


def test_answers_that_a_service_does_not_read_are_bounded(tmp_path: Path, logged: Logged) -> None:
    asked = [(consts.HANDLE_STR, (2, ((3, LENT),)))] * 200
    with asking(asked, tmp_path, reads=False) as (up, _):
        error = up.answer("add", ["x" * 900_000], 1)["error"]
        assert error["message"] == "Bad upstream: the upstream does not read the answers to its requests"
    assert logged.take("does not read")


def test_an_enum_inside_of_many_is_bounded() -> None:
    def count(_: int, depth: int) -> None:
        if depth == 0:
            raise ValueError("deep")

    for text in ("[[]]", "[A()]"):
        with pytest.raises(ValueError, match="deep"):
            shown.read(text, 1, count)
    with pytest.raises(ValueError, match="deep"):
        shown.read("<A: " * 10_000 + "1" + ">" * 10_000, 60, count)


def test_a_service_has_10_000_methods_at_most() -> None:
    for methods, is_taken in ((10_000, True), (10_001, False)):
        told = (1, tuple((f"exposed_m{number}", None) for number in range(methods)))
        if is_taken:
            assert len(adapter._signatures(told)) == methods
        else:
            with pytest.raises(BadUpstream, match="more than 10000 methods"):
                adapter._signatures(told)


def test_a_service_that_closes(tmp_path: Path, logged: Logged) -> None:
    with asking([(consts.HANDLE_CLOSE, (2, ()))], tmp_path) as (up, _):
        assert up.fault("add", 1, 2) == (BAD, "maybe")
    assert logged.take("the upstream closed the connection")


@pytest.mark.parametrize(
    "greeting", [kinds.rpyc(2, 0, (1, None)), kinds.rpyc(3, 0, (("a", "b"), (), (), "")), b"SSH-2.0"]
)
def test_a_server_without_a_service(greeting: bytes, tmp_path: Path, logged: Logged) -> None:
    with broken(greeting) as port, serve_upstream(RPYC, port, tmp_path, "methods = ['add']") as up:
        assert up.fault("add", 1, 2) == (BAD, "no")
    assert logged.take("upstream up: Bad upstream")


plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=6).map(tuple),
    max_leaves=20,
)


@fuzzed(300)
@given(plain)
def test_brine_is_the_librarys(value: Any) -> None:
    assert brine.dump(value) == theirs.dump(value)
    assert repr(brine.load(theirs.dump(value))) == repr(value)


@pytest.mark.parametrize(
    "value",
    [10**300, -(10**300), "x" * 300, b"x" * 300, (1,) * 300, frozenset({1}), slice(1, 2), 1j, ..., NotImplemented],
)
def test_brine_of_lengths_and_kinds_of_its_own(value: Any) -> None:
    assert repr(brine.load(theirs.dump(value))) == repr(value)


@fuzzed(500)
@given(st.binary(max_size=40))
def test_whatever_comes_is_a_value_or_misbrined(data: bytes) -> None:
    with suppress(brine.BrineError):
        brine.load(data)


def test_nothing_of_the_library_is_loaded_with_the_upstream() -> None:
    code = "import sys, gateway.upstreams.rpyc.adapter; sys.exit('rpyc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
