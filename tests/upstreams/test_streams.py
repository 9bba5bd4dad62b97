"""Streams of gRPC, ZeroRPC and RPyC, over WebSocket and as server-sent events, from one instance or several."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from gateway import Registry
from gateway.fleet.listing import Instance
from gateway.fleet.seats import Seats
from gateway.model.faults import BadUpstream
from gateway.upstreams.zerorpc.connection import _Flow
from tests.conftest import Logged
from tests.endpoints.test_events import EVENTS, Caller, event
from tests.hosts.test_websocket import Client, call
from tests.scraping import until as scraped
from tests.serving import Server, eventually, serving
from tests.upstreams.kinds import KINDS, TYPED, Kind
from tests.upstreams.running import Program, Served, serve_upstream, until

ON: dict[str, Any] = {"websocket.enabled": True}


class Spoken(Struct, frozen=True):
    """A protocol, and what its program calls the methods of these tests."""

    kind: Kind
    count: str = "up.count"
    flood: str = "up.flood"
    failing: tuple[int, ...] = (3, 1)  # arguments with which count fails after one value

    def flooding(self, path: Path) -> tuple[Any, ...]:
        return (str(path),)


GRPC = Spoken(
    next(
        replace(kind, options=f"{kind.options.partition('service')[0]}service = 'programs.Streams'")
        for kind in TYPED
        if kind.name == "grpc"
    ),
    "up.Count",
    "up.Flood",
    (-1,),
)
ZERO = Spoken(replace(next(kind for kind in KINDS if kind.name == "zerorpc"), options="heartbeat = 0.3"))
RPYC = Spoken(next(kind for kind in KINDS if kind.name == "rpyc"))
ALL = {"grpc": GRPC, "zerorpc": ZERO, "rpyc": RPYC}


class Up(Struct):
    """A gateway with an upstream that streams."""

    spoken: Spoken
    served: Served

    @property
    def server(self) -> Server:
        return self.served.server


@pytest.fixture(scope="module", params=ALL)
def up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    spoken, folder = ALL[request.param], tmp_path_factory.mktemp("streams")
    with Program(spoken.kind) as program, serve_upstream(spoken.kind, program.port, folder, "", ON) as served:
        until(lambda: served.offers(spoken.count.removeprefix("up.")))
        yield Up(spoken, served)


def subscribe(client: Client, method: str, *params: Any) -> Any:
    client.send(call("rpc.subscribe", method, *params, call_id="s"))
    while (answer := client.read()).get("id") != "s":
        pass
    return answer.get("result", answer.get("error"))


def values(client: Client) -> tuple[list[Any], Any]:
    """Read a stream to its end: its values, and its fault."""
    found = []
    while (answer := client.read())["method"] != "rpc.ended":
        found.append(answer["params"]["result"])
    return found, answer["params"].get("error")


def stands_still(path: Path) -> int:
    """Wait until a flood is not asked for more, and tell how far it has come."""
    before = ""
    eventually(path.exists, "it does not begin")
    while before != (before := path.read_text()) or not before:
        time.sleep(0.4)
    return int(before)


def test_each_value_is_sent_when_it_is_there(up: Up) -> None:
    with Client(up.server) as client:
        subscribe(client, up.spoken.count, 3)
        assert values(client) == ([0, 1, 2], None)
        subscribe(client, up.spoken.count, 0)
        assert values(client) == ([], None)
        subscribe(client, up.spoken.count, *up.spoken.failing)
        found, fault = values(client)
        assert found == ([0] if len(up.spoken.failing) > 1 else [])
        assert fault["code"] == -32000
    with Caller(up.server.port) as caller:
        response = caller.ask(call(up.spoken.count, 2))
        assert [event(response)["params"]["result"] for _ in range(2)] == [0, 1]
        assert event(response)["result"] is None
        assert event(response) is None
    assert up.served.call(up.spoken.count.removeprefix("up."), 2) == [0, 1]  # elsewhere they are collected
    eventually(lambda: up.served.upstream.running == 0, "a stream is still counted")


def test_a_reader_makes_the_upstream_wait_and_ends_its_stream(up: Up, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    with Client(up.server) as client:
        subscribe(client, up.spoken.flood, *up.spoken.flooding(first))
        assert stands_still(first) < 300
        assert not first.with_suffix(".ended").exists()
    eventually(first.with_suffix(".ended").exists, "it runs on without a client")
    with Client(up.server) as client:
        number = subscribe(client, up.spoken.flood, *up.spoken.flooding(second))
        client.read()
        client.send(call("rpc.unsubscribe", number))
        while "id" not in client.read():
            pass
        eventually(second.with_suffix(".ended").exists, "it runs on without a subscription")
        subscribe(client, up.spoken.flood, *up.spoken.flooding(third))
        assert len(values(client)[0]) == 400  # and no value is lost
    with Caller(up.server.port) as caller:
        response = caller.ask(call(up.spoken.flood, *up.spoken.flooding(first)))
        first.with_suffix(".ended").unlink()
        event(response)
        assert stands_still(first) < 300
    eventually(first.with_suffix(".ended").exists, "it runs on without a caller")


def test_what_gives_no_stream_is_one_value(up: Up, tmp_path: Path) -> None:
    if up.spoken is GRPC:
        return  # its .proto says what streams
    with Client(up.server) as client:
        subscribe(client, "up.echo", [1, 2])
        assert values(client) == ([[1, 2]], None)
        subscribe(client, "up.echo")
        assert values(client)[1]["code"] in (-32000, -32602)
    with Caller(up.server.port) as caller:
        response = caller.ask(call("up.echo", [1, 2]))
        assert response.headers["Content-Type"] == "application/json"
        assert json.loads(response.read())["result"] == [1, 2]
        assert json.loads(caller.ask(call("up.divide", 1, 0)).read())["error"]["code"] == -32000
        path = tmp_path / "ran"
        assert json.loads(caller.ask(call("up.mark", str(path), 0)).read())["result"] == 1
        assert path.read_text() == "run\n"  # it has run once
        late = caller.ask(call("up.pause", 2), **{"X-Request-Timeout": "0.2"})
        assert json.loads(late.read())["error"]["code"] == -32001
    eventually(lambda: not up.server.gateway.running(), "a call keeps its place")
    assert up.served.call("add", 1, 2) == 3


def test_who_hangs_up_before_it_is_known_whether_there_is_a_stream_is_counted(tmp_path: Path) -> None:
    with Program(ZERO.kind) as program, serve_upstream(ZERO.kind, program.port, tmp_path, "", ON) as served:
        until(lambda: served.offers("pause"))
        with Caller(served.server.port) as caller:
            caller.connection.request("POST", "/api", json.dumps(call("up.pause", 3)), EVENTS)
            eventually(lambda: served.upstream.running, "it does not begin")
        with Caller(served.server.port) as caller:
            assert json.loads(caller.ask(call("up.pause", 0)).read())["result"] == 0
        labels = {"method": "up.pause", "outcome": "cancelled"}
        scraped(served.server.metrics, lambda numbers: numbers.of("gateway_calls_total", **labels) > 0)


def test_a_name_that_a_pattern_passes_on_streams_too(tmp_path: Path) -> None:
    with (
        Program(ZERO.kind) as program,
        serve_upstream(ZERO.kind, program.port, tmp_path, "methods = ['c*', 'add']", ON) as served,
        Client(served.server) as client,
    ):
        with Caller(served.server.port) as caller:
            response = caller.ask(call("up.count", 2))
            assert [event(response)["params"]["result"] for _ in range(2)] == [0, 1]
        assert served.offers("count")  # and is a method from then on
        subscribe(client, "up.count", 2)
        assert values(client) == ([0, 1], None)


@contextmanager
def spread(spoken: Spoken, folder: Path) -> Iterator[tuple[Program, Program, Server]]:
    with Program(spoken.kind) as one, Program(spoken.kind) as other:
        urls = [spoken.kind.url.replace("{port}", str(each.port)) for each in (one, other)]
        file = folder / "gateway.toml"
        file.write_text(f"[upstreams.up]\nurl = {urls}\n{spoken.kind.options}\nbalance = 'round-robin'\n")
        with serving(Registry(), ON, file) as server:
            until(lambda: server.gateway.registry.get(spoken.count, "jsonrpc") is not None)
            yield one, other, server


@pytest.mark.parametrize("spoken", ALL.values(), ids=ALL)
def test_several_instances_have_streams(spoken: Spoken, tmp_path: Path, logged: Logged) -> None:
    path = tmp_path / "flood"
    with spread(spoken, tmp_path) as (one, _, server), Client(server) as client, Client(server) as held:
        (upstream,) = server.gateway.upstreams
        assert upstream.instances is not None
        seats = upstream.instances.seats.all
        for _ in range(2):
            subscribe(client, spoken.count, 2)
            assert values(client) == ([0, 1], None)
        assert all(seat.seen for seat in seats)
        subscribe(held, spoken.flood, *spoken.flooding(path))
        stands_still(path)
        (holder,) = (seat for seat in seats if seat.load())
        assert (len(holder.running), len(holder.streams)) == (0, 1)
        for _ in range(2):  # no call takes the time of the stream
            subscribe(client, spoken.count, 1)
            values(client)
        assert holder.ewma < 5
        one.kill()
        if holder.instance.address.endswith(str(one.port)):
            assert values(held)[1]["code"] == -32002
        for _ in range(4):
            subscribe(client, spoken.count, 2)
            assert values(client) == ([0, 1], None)  # who refuses is passed over
    eventually(lambda: not any(seat.load() for seat in seats), "a stream is still counted")
    logged.take("is out of service")
    logged.take("is down")


def test_an_instance_is_judged_by_the_first_value_of_a_stream() -> None:
    seats = Seats("least")
    seats.update((Instance(address="a:1"), Instance(address="b:1")), 0, 0)
    one, other = seats.all
    seats.begin(one, "stream", 0)
    assert seats.flow(one, "stream", 2.0) is None
    assert one.ewma == 2.0
    assert seats.running == one.load() == 1
    assert seats.pick(3600.0) is other  # it counts as a call
    assert one.cost(2.0) == 4.0  # and has no age
    seats.begin(one, "call", 2.0)
    assert one.cost(2.0) == 6.0
    seats.end(one, "call", "ok", 2.0)
    seats.ebb(one, "stream")
    assert seats.running == one.load() == 0


def test_values_that_nobody_takes_are_bounded() -> None:
    async def taken() -> None:
        flow = _Flow(1000)
        assert flow.take("a", 10) == 0
        assert flow.give() == ("a", 32)  # so many more may come
        for number in range(32):
            flow.take(number, 1)
        assert [flow.give()[1] for _ in range(16)] == [0] * 15 + [16]
        flow.take("b", 400)
        assert [flow.give()[1] for _ in range(17)] == [0] * 17  # large ones are few
        flow.end()
        with pytest.raises(BadUpstream, match="more bytes on their way"):
            flow.take("c", 4001)

    asyncio.run(taken())
