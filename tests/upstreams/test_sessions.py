"""``session = "caller"``: what a stateful service keeps for a connection is seen by one caller, and by no other."""

import asyncio
import base64
import gc
import http.client
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from msgspec.structs import replace

from gateway import Registry
from gateway.core.access import make_key
from gateway.fleet.listing import Instance, Listing
from gateway.fleet.seats import Seat, Seats
from gateway.model.calls import Context
from gateway.upstreams import instances as instances_module
from gateway.upstreams.transport.pool import outside
from tests.conftest import Logged
from tests.serving import serving
from tests.upstreams.kinds import KINDS, TYPED, Kind
from tests.upstreams.running import Program, Served, broken, serve_upstream, until

STATEFUL = [kind for kind in (*KINDS, *TYPED) if kind.name in ("rpyc", "protobuf", "protobuf callbacks")]
RPYC = STATEFUL[0]
CALLER = "session = 'caller'"


@pytest.fixture(scope="module", params=STATEFUL, ids=lambda kind: kind.name)
def stateful(request: pytest.FixtureRequest) -> Iterator[tuple[Kind, int]]:
    with Program(request.param) as program:
        yield request.param, program.port


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with Program(RPYC) as program:
        yield program.port


@contextmanager
def served(
    kind: Kind, port: int, folder: Path, more: str = CALLER, settings: dict[str, Any] | None = None
) -> Iterator[Served]:
    with serve_upstream(kind, port, folder, more, settings) as up:
        until(lambda: up.offers("add_up"))
        yield up


class Caller:
    """A client with a connection of its own."""

    def __init__(self, up: Served, headers: dict[str, str] | None = None, address: str = "127.0.0.1") -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", up.server.port, source_address=(address, 0))
        self.headers = headers or {}

    def answer(self, method: str, *params: Any) -> Any:
        call = json.dumps({"jsonrpc": "2.0", "method": f"up.{method}", "params": params, "id": 1})
        self.connection.request("POST", "/api", call, {"Content-Type": "application/json", **self.headers})
        return json.loads(self.connection.getresponse().read())

    def add_up(self, number: int) -> Any:
        said = self.answer("add_up", number)
        return said["result"] if "result" in said else said["error"]


Clients: TypeAlias = Callable[..., Caller]


@pytest.fixture
def client() -> Iterator[Clients]:
    """Return what makes clients, which are closed at the end."""
    with ExitStack() as clients:

        def make(up: Served, headers: dict[str, str] | None = None, address: str = "127.0.0.1") -> Caller:
            made = Caller(up, headers, address)
            clients.callback(made.connection.close)
            return made

        yield make


def sessions(up: Served) -> int:
    """Count the sessions of an upstream; what is no more is collected first."""
    gc.collect()
    pool: Any = vars(vars(up.upstream)["_upstream"])["_pool"]
    return len(pool)


def test_each_connection_has_a_session_of_its_own(stateful: tuple[Kind, int], tmp_path: Path, client: Clients) -> None:
    with served(*stateful, tmp_path) as up:
        one, other = client(up), client(up)
        assert [one.add_up(1), one.add_up(2), other.add_up(10), one.add_up(3), other.add_up(20)] == [1, 3, 10, 6, 30]


def test_shared_connections_are_shared_by_callers(stateful: tuple[Kind, int], tmp_path: Path, client: Clients) -> None:
    with served(*stateful, tmp_path, "connections = 1") as up:
        assert [client(up).add_up(1), client(up).add_up(10)] == [1, 11]


def with_key(name: str, key: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{key}'.encode()).decode()}"}


def test_a_key_has_one_session_over_all_its_connections(
    stateful: tuple[Kind, int], tmp_path: Path, client: Clients
) -> None:
    keys = {name: make_key() for name in ("ada", "grace")}
    stored = json.dumps({name: digest for name, (_, digest) in keys.items()})
    settings = {"access.keys": stored, "access.trusted_proxies": "127.0.0.1"}
    with served(*stateful, tmp_path, CALLER, settings) as up:
        ada, grace = (with_key(name, keys[name][0]) for name in ("ada", "grace"))
        assert [client(up, ada).add_up(1), client(up, grace).add_up(10), client(up, ada).add_up(2)] == [1, 10, 3]
        proxied = {"X-Forwarded-For": "10.0.0.7"}
        shared = client(up, ada | proxied)  # a proxy's connection, with requests of both
        said = [shared.add_up(3)]
        shared.headers = grace | proxied
        assert [*said, shared.add_up(20)] == [6, 30]


def test_a_connection_of_a_proxy_is_nobodys(port: int, tmp_path: Path, client: Clients) -> None:
    with served(RPYC, port, tmp_path, CALLER, {"access.trusted_proxies": "127.0.0.1"}) as up:
        error = client(up, {"X-Forwarded-For": "10.0.0.7"}).add_up(1)
        assert (error["code"], "call with an API key" in error["message"]) == (-32005, True), error


def test_connections_over_plain_tcp_have_sessions(port: int, tmp_path: Path) -> None:
    file = tmp_path / "tcp.toml"
    file.write_text(f"[upstreams.up]\nurl = 'rpyc://127.0.0.1:{port}'\n{CALLER}\nmethods = ['add_up']\n")
    with serving(Registry(), {"server.tcp": "127.0.0.1:0"}, file) as server:
        sums: list[int] = []
        with (
            closing(socket.create_connection(("127.0.0.1", server.tcp_port))) as one,
            closing(socket.create_connection(("127.0.0.1", server.tcp_port))) as other,
        ):
            for connection, number in ((one, 1), (one, 2), (other, 10), (one, 3)):
                call = {"jsonrpc": "2.0", "method": "up.add_up", "params": [number], "id": 1}
                connection.sendall(json.dumps(call).encode() + b"\n")
                sums.append(json.loads(connection.recv(65536))["result"])
        assert sums == [1, 3, 10, 6]


def test_the_session_that_was_idle_for_longest_makes_room(port: int, tmp_path: Path, client: Clients) -> None:
    with served(RPYC, port, tmp_path, f"{CALLER}\nsessions = 2") as up:
        first, second, third = client(up), client(up), client(up)
        assert [first.add_up(1), second.add_up(10), first.add_up(2), third.add_up(100)] == [1, 10, 3, 100]
        assert [first.add_up(3), second.add_up(20), sessions(up)] == [6, 20, 2]


def test_an_address_with_many_connections_takes_no_session_from_another(
    port: int, tmp_path: Path, client: Clients
) -> None:
    with served(RPYC, port, tmp_path, f"{CALLER}\nsessions = 3") as up:
        other = client(up, None, "127.0.0.2")
        assert other.add_up(1) == 1
        assert [client(up).add_up(1) for _ in range(6)] == [1] * 6
        assert other.add_up(2) == 3


def test_there_are_no_more_sessions_than_may_be(port: int, tmp_path: Path, client: Clients) -> None:
    with served(RPYC, port, tmp_path, f"{CALLER}\nsessions = 1") as up, ThreadPoolExecutor(1) as pool:
        busy, other = client(up), client(up)
        mark = tmp_path / "mark"
        running = pool.submit(busy.answer, "mark", str(mark), 2)
        until(mark.exists)
        error = other.add_up(1)
        assert (error["code"], error["data"]["retry_after"]) == (-32003, 1)
        assert running.result()["result"] == 1
        assert other.add_up(1) == 1


def test_an_idle_session_ends(port: int, tmp_path: Path, client: Clients) -> None:
    with served(RPYC, port, tmp_path, f"{CALLER}\nsession_idle = 0.2") as up:
        caller = client(up)
        assert caller.add_up(1) == 1
        until(lambda: sessions(up) == 0)
        assert caller.add_up(2) == 2


def test_a_session_that_is_used_goes_on(port: int, tmp_path: Path, client: Clients) -> None:
    with served(RPYC, port, tmp_path, f"{CALLER}\nsession_idle = 3") as up:
        caller, start = client(up), time.monotonic()
        for number in itertools.count(1):
            assert caller.add_up(1) == number
            if time.monotonic() - start > 4:
                break
            time.sleep(0.05)


def test_a_connection_that_is_made_when_its_call_is_given_up_is_closed() -> None:
    closed: list[bool] = []

    class Made:
        def usable(self) -> bool:
            return True

        def close(self) -> None:
            closed.append(True)

    async def connect() -> Made:
        return Made()

    async def give_up() -> None:
        task = asyncio.create_task(outside(connect))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # by now it is made, and nobody has it yet
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert closed == [True]


def test_a_session_ends_with_the_connection_of_its_caller(port: int, tmp_path: Path, client: Clients) -> None:
    before = threading.active_count()
    with served(RPYC, port, tmp_path) as up:
        caller, other = client(up), client(up)
        assert [caller.add_up(1), other.add_up(1)] == [1, 1]
        caller.connection.close()
        until(lambda: sessions(up) == 1)
        assert other.add_up(2) == 3
    assert threading.active_count() <= before + 1


def test_a_call_that_was_given_up_ends_its_session(port: int, tmp_path: Path, client: Clients) -> None:
    with served(RPYC, port, tmp_path, f"{CALLER}\ntimeout = {{ pause = 0.3 }}") as up:
        caller = client(up)
        assert caller.add_up(1) == 1
        assert caller.answer("pause", 2)["error"]["code"] == -32001
        assert caller.add_up(2) == 2
        assert sessions(up) == 1


@contextmanager
def several(kind: Kind, folder: Path, programs: Sequence[Program], more: str = "") -> Iterator[tuple[Served, Listing]]:
    """Serve several instances with a session for each caller; all of them are given, for ``listed``."""
    listing = tuple(Instance(address=f"127.0.0.1:{program.port}") for program in programs)
    urls = [kind.url.replace("{port}", str(program.port)) for program in programs]
    file = folder / "gateway.toml"
    options = kind.options.replace("{folder}", str(folder))
    file.write_text(f"[upstreams.up]\nurl = {urls}\n{options}\n{CALLER}\n{more}\n")
    with serving(Registry(), None, file) as server:
        up = Served(server)
        until(lambda: up.offers("add_up"))
        yield up, listing


def seats(up: Served) -> list[Seat]:
    assert up.upstream.instances is not None
    return up.upstream.instances.seats.all


def home(up: Served) -> Seat:
    """Return the instance that was called last."""
    up.judged()
    return max(seats(up), key=lambda seat: seat.seen)


@pytest.mark.parametrize("kind", STATEFUL, ids=lambda kind: kind.name)
def test_a_session_stays_at_one_of_several_instances(kind: Kind, tmp_path: Path, client: Clients) -> None:
    with Program(kind) as one, Program(kind) as other, several(kind, tmp_path, [one, other]) as (up, _):
        callers = [client(up) for _ in range(16)]
        for count in range(1, 4):
            assert [caller.add_up(1) for caller in callers] == [count] * 16
        assert all(seat.seen for seat in seats(up))  # not all of them at the same one


def test_a_session_begins_elsewhere_where_its_instance_is_out_and_stays_there(
    tmp_path: Path, client: Clients, logged: Logged
) -> None:
    with Program(RPYC) as one, Program(RPYC) as other, several(RPYC, tmp_path, [one, other]) as (up, _):
        caller = client(up)
        assert [caller.add_up(1), caller.add_up(1)] == [1, 2]
        first = home(up)
        assert up.upstream.instances is not None
        up.server.loop.call_soon_threadsafe(up.upstream.instances.seats.refuse, first, time.monotonic())
        until(lambda: first.is_out)
        assert [caller.add_up(1), caller.add_up(1)] == [1, 2]
        second = home(up)
        assert second is not first
        up.server.loop.call_soon_threadsafe(up.upstream.instances.seats.back, first)
        until(lambda: not first.is_out)
        assert caller.add_up(1) == 3  # and not the older one of the first instance
        (one if first.instance.address.endswith(str(other.port)) else other).kill()
        assert caller.add_up(1) == 1
    logged.take("is out of service")


def test_a_session_stays_where_instances_are_added_and_is_lost_where_its_own_is_withdrawn(
    tmp_path: Path, client: Clients
) -> None:
    with ExitStack() as stack:
        programs = [stack.enter_context(Program(RPYC)) for _ in range(4)]
        up, listing = stack.enter_context(several(RPYC, tmp_path, programs))
        instances = up.upstream.instances
        assert instances is not None

        def listed(now: Listing) -> None:
            up.server.loop.call_soon_threadsafe(instances.listed, now)
            until(lambda: [seat.instance for seat in seats(up)] == [*now])

        listed(listing[:1])
        callers = [client(up) for _ in range(8)]
        assert [caller.add_up(1) for caller in callers] == [1] * 8
        listed(listing)
        assert [caller.add_up(1) for caller in callers] == [2] * 8
        listed((replace(listing[0], weight=0), *listing[1:]))  # it is drained
        assert [caller.add_up(1) for caller in callers] == [3] * 8
        listed(listing[1:])
        assert [caller.add_up(1) for caller in callers] == [1] * 8


def test_a_session_is_kept_for_longer_than_connections_without_calls(
    tmp_path: Path, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances_module, "_KEPT", 0.05)
    with Program(RPYC) as one, Program(RPYC) as other, several(RPYC, tmp_path, [one, other]) as (up, _):
        caller, another = client(up), client(up)
        assert [caller.add_up(1), another.add_up(1)] == [1, 1]
        time.sleep(0.3)
        assert [caller.add_up(1), another.add_up(1)] == [2, 2]


def test_many_calls_do_not_move_a_session(tmp_path: Path) -> None:
    """By the bound of other hashes, an instance with all of the calls would be passed over."""
    seats = Seats("hash", is_sticky=True)
    seats.update(tuple(Instance(address=f"10.0.0.{n}:1") for n in range(8)), 0.0, 0.0)
    first = seats.pick(0.0, (), b"ada")
    assert first is not None
    for _ in range(100):
        seats.begin(first, object(), 0.0)
        assert seats.pick(0.0, (), b"ada") is first


def test_without_a_key_a_shared_connection_has_no_session_at_several_either(tmp_path: Path, client: Clients) -> None:
    with Program(RPYC) as one, Program(RPYC) as other:
        urls = [RPYC.url.replace("{port}", str(program.port)) for program in (one, other)]
        file = tmp_path / "gateway.toml"
        file.write_text(f"[upstreams.up]\nurl = {urls}\n{CALLER}\nmethods = ['add_up']\n")
        with serving(Registry(), {"access.trusted_proxies": "127.0.0.1"}, file) as server:
            error = client(Served(server), {"X-Forwarded-For": "10.0.0.7"}).add_up(1)
            assert (error["code"], "call with an API key" in error["message"]) == (-32005, True), error


def test_what_has_no_sessions_does_not_take_the_option(tmp_path: Path) -> None:
    kind = replace(next(kind for kind in KINDS if kind.name == "zerorpc"), options="")
    with pytest.raises(Exception, match="session"), serve_upstream(kind, 1, tmp_path, CALLER):
        pass


@pytest.mark.usefixtures("only_new")
@pytest.mark.parametrize("kind", [*KINDS, *TYPED], ids=lambda kind: kind.name)
def test_no_connection_holds_the_call_that_it_was_made_for(kind: Kind, tmp_path: Path, client: Clients) -> None:
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path) as up:
        until(lambda: up.offers("add"))
        caller = client(up, {"X-Mark": kind.name})
        assert caller.answer("add", 1, 2)["result"] == 3
        caller.connection.close()
        until(lambda: not held(kind.name))


@pytest.mark.usefixtures("only_new")
@pytest.mark.parametrize("kind", [*KINDS, *TYPED], ids=lambda kind: kind.name)
def test_nothing_holds_a_call_that_has_failed(kind: Kind, tmp_path: Path, client: Clients, logged: Logged) -> None:
    """A fault that was raised has a traceback, and that has the frames with all arguments."""
    named = f"{kind.named}\ntimeout = {{ pause = 0.3 }}"
    with Program(kind) as program, serve_upstream(kind, program.port, tmp_path, named) as up:
        caller = client(up, {"X-Mark": f"a {kind.name}"})
        assert caller.answer("add", 1, 2)["result"] == 3
        if "protobuf" not in kind.name:
            assert "error" in caller.answer("divide", 1, 0)
        assert caller.answer("pause", 2)["error"]["code"] == -32001
        program.kill()
        assert "error" in caller.answer("add", 1, 2)
        until(lambda: not held(f"a {kind.name}"))
    for place, said in enumerate(kind.garbage[-2:]):
        folder = tmp_path / str(place)
        folder.mkdir()
        with (
            broken(said, greeting=kind.greeting, cue=kind.cue) as port,
            serve_upstream(kind, port, folder, named) as up,
        ):
            assert client(up, {"X-Mark": f"b {kind.name}"}).answer("add", 1, 2)["error"]["code"] == -32004
            until(lambda: not held(f"b {kind.name}"))
    logged.take("upstream up")


def held(mark: str) -> list[Context]:
    """Return the contexts of calls that are still there."""
    gc.collect()
    contexts = [
        each for each in gc.get_objects() if type(each) is Context
    ]  # asking others for their class may run their code
    return [each for each in contexts if each.headers.get("X-Mark") == mark]
