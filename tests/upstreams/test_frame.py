"""What the frame does for every upstream: names, patterns, arguments, deadlines, places, faults."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar
from xmlrpc.client import ServerProxy

import pytest
from msgspec import Meta

from gateway import Fault, Registry
from gateway import upstreams as package
from gateway.config import load
from gateway.fleet.listing import Instance
from gateway.model.faults import BadUpstream, Unavailable
from gateway.model.limits import Limits
from gateway.upstreams import Failures, Invocation, Options, Parameter, Scheme, Signature
from gateway.upstreams.faults import unreachable
from gateway.upstreams.frame import UpstreamService
from tests.conftest import Logged
from tests.serving import Server, serving
from tests.upstreams.kinds import KINDS
from tests.upstreams.running import Program, Served, serve_upstream, until

INT64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
SIGNATURES = [
    Signature(
        name="Square", params=(Parameter(name="number", hint=float),), result=dict[str, Any], only=("value", float)
    ),
    Signature(
        name="Move",
        params=(
            Parameter(name="item", hint=str),
            Parameter(name="count", hint=INT64, required=False, default=1),
            Parameter(name="to", hint=str, required=False),
            Parameter(name="note", hint=bytes, required=False),
        ),
        doc="Move an item.",
    ),
    Signature(name="GetAny"),
    Signature(name="Hidden"),
    Signature(name="system.listMethods"),
    Signature(name="_private"),
]


class Fake:
    """An upstream without a server: it does what a test says, and notes what it is given."""

    Options: ClassVar[type[Options]] = Options
    takes: ClassVar[Any] = "list"
    failures: ClassVar[Failures] = {OSError: unreachable}
    calls: ClassVar[list[Invocation]] = []
    does: ClassVar[Callable[[Invocation], Any]] = lambda invocation: invocation.params
    tells: ClassVar[Callable[[], Any]] = lambda: SIGNATURES

    def __init__(self, options: Any, limits: Limits) -> None:
        self.options = options
        self.limits = limits

    def known(self) -> list[Signature] | None:
        return None

    async def describe(self, deadline: float) -> list[Signature] | None:
        assert deadline > time.monotonic()
        told: list[Signature] | None = type(self).tells()
        return told

    async def call(self, invocation: Invocation) -> Any:
        self.calls.append(invocation)
        value = type(self).does(invocation)
        return await value if asyncio.iscoroutine(value) else value

    def aim(self, instance: Instance) -> None:
        """Have one instance."""

    async def reach(self) -> None:
        """Need no connection."""

    def connections(self) -> tuple[int, int]:
        return 0, 0

    async def close(self) -> None:
        self.calls.append(Invocation(method="(closed)", params=[], deadline=0, request_id=""))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    """Make fake:// a scheme."""
    made = type("Made", (Fake,), {"calls": []})
    monkeypatch.setitem(package.SCHEMES, "fake", Scheme("fake", "Made", "fake"))
    monkeypatch.setitem(sys.modules, f"{package.__name__}.fake", SimpleNamespace(Made=made))
    return made


@contextmanager
def faked(folder: Path, options: str = "", settings: dict[str, Any] | None = None) -> Iterator[Served]:
    file = folder / "fake.toml"
    file.write_text(f"[upstreams.up]\nurl = 'fake://somewhere.internal:1'\n{options}\n")
    with serving(Registry(), settings, file) as server:
        yield Served(server)


def names(server: Server) -> set[str]:
    return {name for name in server.gateway.registry if not name.startswith(("system.", "rpc."))}


def proxy(server: Server) -> Any:
    return ServerProxy(server.url, allow_none=True, use_builtin_types=True)


# names


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {"up.Square", "up.Move", "up.GetAny", "up.Hidden"}),
        ("prefix = 'a.b.'", {"a.b.Square", "a.b.Move", "a.b.GetAny", "a.b.Hidden"}),
        ("prefix = ''", {"Square", "Move", "GetAny", "Hidden"}),
        ("expose = ['*e', 'G??Any']\nhide = ['M*']", {"up.Square", "up.GetAny"}),
        (
            "hide = ['Hid*', 'system.*']\nrename = { Square = 'math.square' }",
            {"up.math.square", "up.Move", "up.GetAny"},
        ),
    ],
)
def test_which_methods_are_offered_and_how_they_are_called(
    options: str, expected: set[str], fake: type[Fake], tmp_path: Path, logged: Logged
) -> None:
    with faked(tmp_path, options) as up:
        until(lambda: up.upstream.status.methods)
        assert names(up.server) == expected
    assert logged.take("left out: ") or "expose" in options


def test_names_of_the_configuration_are_there_before_anything_is_reached(fake: type[Fake], tmp_path: Path) -> None:
    fake.tells = lambda: pytest.fail("nobody is to be asked")
    with faked(tmp_path, "methods = { Sum = ['a', 'b?'] }\nrename = { Sum = 'add' }") as up:
        assert names(up.server) == {"up.add"}
        assert up.call("add", 1) == [1]
        assert up.call("add", a=1, b=2) == [1, 2]
        assert fake.calls[0].method == "Sum"


def test_a_name_that_is_taken_stays_what_it_is(fake: type[Fake], tmp_path: Path, logged: Logged) -> None:
    registry = Registry()
    registry.register(lambda: "mine", name="Square")
    file = tmp_path / "fake.toml"
    file.write_text("[upstreams.up]\nurl = 'fake://a:1'\nprefix = ''\n")
    with serving(registry, None, file) as server, proxy(server) as client:
        until(lambda: "Move" in server.gateway.registry)
        assert client.Square() == "mine"
    assert len(logged.take("'Square' is registered twice")) == 1
    logged.take("is private")


def test_an_upstream_that_tells_nothing_is_told_of(fake: type[Fake], tmp_path: Path, logged: Logged) -> None:
    fake.tells = lambda: None
    with faked(tmp_path) as up:
        until(lambda: up.upstream.status.error)
        assert up.fault("add")[0] == -32601
    assert logged.take("it does not tell its methods: name them in the configuration")


def test_an_upstream_that_fails_to_describe_is_asked_again(fake: type[Fake], tmp_path: Path, logged: Logged) -> None:
    answers: list[Any] = [ConnectionRefusedError(111, "x"), BadUpstream("eh"), KeyError("a bug"), SIGNATURES[:2]]

    def tell() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    fake.tells = tell
    with faked(tmp_path) as up:
        until(lambda: up.offers("Square"))
    assert len(logged.take("is down: ")) == 1
    assert len(logged.take("its adapter failed")) == 1


# descriptions and arguments


def test_what_is_described_is_shown(fake: type[Fake], tmp_path: Path, logged: Logged) -> None:
    with faked(tmp_path) as up, proxy(up.server) as server:
        until(lambda: up.offers("Square"))
        assert server.system.methodHelp("up.Move") == "Move an item."
        assert server.system.methodSignature("up.Square") == [["double", "double"]]
        assert server.system.methodSignature("up.GetAny") == "undef"
        described = {method["name"]: method for method in server.rpc.discover()["methods"]}
        assert described["up.Square"]["result"]["schema"] == {"type": "number"}
        assert [param["name"] for param in described["up.Move"]["params"]] == ["item", "count", "to", "note"]
        assert described["up.Move"]["params"][1]["schema"]["default"] == 1
        assert "default" not in described["up.Move"]["params"][2]["schema"]
        assert described["up.GetAny"]["paramStructure"] == "by-position"
    logged.take("left out")


ARRANGED: list[tuple[str, Any, Any]] = [
    ("list", ["a"], ["a"]),
    ("list", ["a", 2, "x"], ["a", 2, "x"]),
    ("list", {"item": "a"}, ["a"]),
    ("list", {"to": "x", "item": "a"}, ["a", 1, "x"]),
    ("list", {"item": "a", "note": "AA=="}, "params.to: missing, and note comes behind it"),
    ("dict", ["a", 2], {"item": "a", "count": 2}),
    ("dict", {"item": "a", "note": "AA=="}, {"item": "a", "note": b"\0"}),
    ("either", ["a", 2], ["a", 2]),
    ("either", {"item": "a", "to": "x"}, {"item": "a", "to": "x"}),
    ("list", [], "params.item: missing"),
    ("list", ["a", "2"], "params[1]: expected int, got str"),
    ("list", ["a", 2**63], "params[1]: expected int <= 9223372036854775807"),
    ("list", {"item": 3}, "params.item: expected str, got int"),
    ("list", {"item": "a", "x": 3}, "params.x: there is no such parameter"),
    ("list", ["a", 1, "b", "AA==", 5], "params[4]: one too many, it takes 4 at most"),
]


@pytest.mark.parametrize(("takes", "params", "expected"), ARRANGED)
def test_arguments_reach_the_upstream_in_its_form_or_not_at_all(  # noqa: PLR0917
    takes: str, params: Any, expected: Any, fake: type[Fake], tmp_path: Path, logged: Logged
) -> None:
    fake.takes = takes
    fake.does = lambda invocation: None
    with faked(tmp_path) as up:
        until(lambda: up.offers("Move"))
        said = up.answer("Move", **params) if isinstance(params, dict) else up.answer("Move", *params)
        if isinstance(expected, str):
            assert said["error"]["data"]["detail"].startswith(expected)
            assert fake.calls == []
        else:
            assert "result" in said, said
            assert fake.calls[0].params == expected
    logged.take("left out")


@pytest.mark.parametrize(("takes", "named"), [("list", False), ("either", True), ("dict", True)])
def test_where_nothing_is_known_of_the_parameters(
    takes: str, named: bool, fake: type[Fake], tmp_path: Path, logged: Logged
) -> None:
    fake.takes = takes
    with faked(tmp_path) as up:
        until(lambda: up.offers("GetAny"))
        if takes != "dict":
            assert up.call("GetAny", 1, [2]) == [1, [2]]
        assert ("result" in up.answer("GetAny", signature=1, self=2)) is named
    logged.take("left out")


@pytest.mark.parametrize(("bare", "expected"), [("true", 9.0), ("false", {"value": 9.0})])
def test_a_result_of_one_field_is_bare_unless_it_shall_not(
    bare: str, expected: Any, fake: type[Fake], tmp_path: Path, logged: Logged
) -> None:
    fake.does = lambda invocation: {"value": 9.0}
    with faked(tmp_path, f"bare = {bare}") as up:
        until(lambda: up.offers("Square"))
        assert up.call("Square", number=3) == up.call("Square", 3) == expected
    logged.take("left out")


# time, places, faults


def test_time_and_exchange_are_passed_on(fake: type[Fake], tmp_path: Path, logged: Logged) -> None:
    fake.does = lambda invocation: [invocation.time_left, invocation.request_id]
    with faked(tmp_path, "timeout = { 'G*' = 50, '*' = 5 }") as up:
        until(lambda: up.offers("GetAny"))
        (left, exchange), (short, _) = up.call("GetAny"), up.call("Move", "a")
        assert 40 < left < 50
        assert 3 < short < 5
        assert "-" in exchange
    logged.take("left out")


def test_the_deadline_tells_how_far_the_call_had_come(fake: type[Fake], tmp_path: Path, logged: Logged) -> None:
    async def wait(invocation: Invocation) -> None:
        invocation.sent = "maybe" if invocation.params else "no"
        await asyncio.Event().wait()

    fake.does = wait
    with faked(tmp_path, "timeout = { '*' = 0.2 }") as up:
        until(lambda: up.offers("GetAny"))
        assert up.fault("GetAny") == (-32001, "no")
        assert up.fault("GetAny", 1) == (-32001, "maybe")
        assert len(fake.calls) == 2, "a call was tried again after its deadline"
    logged.take("left out")


def test_too_many_calls_at_once_are_refused(fake: type[Fake], tmp_path: Path, logged: Logged) -> None:
    async def wait(invocation: Invocation) -> int:
        await asyncio.sleep(1)
        return 1

    fake.does = wait
    with faked(tmp_path, "calls = 3") as up, ThreadPoolExecutor(6) as pool:
        until(lambda: up.offers("GetAny"))
        said = list(pool.map(lambda _: up.answer("GetAny"), range(6)))
        assert sorted(str(each.get("error", {}).get("code")) for each in said) == ["-32003"] * 3 + ["None"] * 3
        assert next(each["error"]["data"]["retry_after"] for each in said if "error" in each) == 1
        assert up.call("GetAny") == 1
    logged.take("left out")


ATTEMPTS: list[tuple[Exception, str, bool, int, tuple[int, Any]]] = [
    (ConnectionRefusedError(111, "db.internal"), "no", False, 2, (-32002, "no")),
    (ConnectionResetError("db.internal"), "maybe", False, 1, (-32002, "maybe")),
    (ConnectionResetError("db.internal"), "maybe", True, 2, (-32002, "maybe")),
    (ConnectionResetError("db.internal"), "yes", True, 1, (-32002, "yes")),
    (Unavailable("closing"), "yes", True, 1, (-32002, "yes")),
    (BadUpstream("eh"), "maybe", True, 1, (-32004, "maybe")),
    (Fault(7, "no"), "yes", True, 1, (7, None)),
    (Fault(7, "no"), "no", True, 1, (7, None)),
    (KeyError("db.internal"), "maybe", True, 1, (-32603, None)),
]


def test_what_an_idl_calls_idempotent_is_sent_once_more(fake: type[Fake], tmp_path: Path, logged: Logged) -> None:
    def fail(invocation: Invocation) -> None:
        invocation.sent = "maybe"
        raise ConnectionResetError

    fake.does = fail
    fake.tells = lambda: [Signature(name="Read", is_idempotent=True), Signature(name="Add")]
    with faked(tmp_path) as up:
        until(lambda: up.offers("Read"))
        for method in ("Read", "Add"):
            assert up.fault(method) == (-32002, "maybe")
        assert [call.method for call in fake.calls] == ["Read", "Read", "Add"]
    logged.take("is down")


@pytest.mark.parametrize(("error", "sent", "idempotent", "attempts", "told"), ATTEMPTS)
def test_what_becomes_of_a_failure(  # noqa: PLR0917
    error: Exception,
    sent: Any,
    idempotent: bool,
    attempts: int,
    told: tuple[int, Any],
    fake: type[Fake],
    tmp_path: Path,
    logged: Logged,
) -> None:
    def fail(invocation: Invocation) -> None:
        invocation.sent = sent
        raise error

    fake.does = fail
    with faked(tmp_path, "idempotent = ['Get*']" if idempotent else "idempotent = ['Move']") as up:
        until(lambda: up.offers("GetAny"))
        said = up.answer("GetAny")
        data = said["error"].get("data") or {}
        assert (said["error"]["code"], data.get("sent")) == told
        assert "internal" not in json.dumps(said).replace("Internal error", "")
        assert len(fake.calls) == attempts
    for part in ("left out", "is down", "upstream up: ", "error "):
        logged.take(part)


def test_close_is_called_once_when_the_gateway_stops(fake: type[Fake], tmp_path: Path, logged: Logged) -> None:
    with faked(tmp_path) as up:
        until(lambda: up.offers("GetAny"))
    assert [call.method for call in fake.calls] == ["(closed)"]
    logged.take("left out")


def test_the_status_follows_the_calls(tmp_path: Path, logged: Logged) -> None:
    kind = KINDS[2]
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path) as up:
        assert up.upstream.status.methods == 10
        assert up.call("add", 1, 2) == 3
        assert up.upstream.status.state == "up"
        program.kill()
        assert up.fault("add", 1, 2) == (-32002, "no")
        assert (up.upstream.status.state, up.upstream.status.error) == ("down", "connection refused")
        program.start()
        assert up.call("add", 1, 2) == 3
        assert up.upstream.status.state == "up"
    assert logged.take("is down: connection refused")


def test_an_upstream_connects_to_nobody_before_it_is_called(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    for kind in KINDS:
        file.write_text(f"[upstreams.up]\nurl = '{kind.url.format(port=1)}'\n{kind.options}")
        config = load(file, {}, ())
        # No loop runs here, and nothing listens there.
        upstream = UpstreamService("up", config.upstreams["up"], config.limits)
        assert upstream.status.state == "unknown"
