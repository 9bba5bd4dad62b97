"""Several instances of one upstream: every protocol, configuration, and what becomes of their connections."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from gateway import Registry
from gateway.config import ConfigError, load
from gateway.fleet.listing import Instance
from gateway.fleet.seats import Seat
from gateway.upstreams import Invocation
from gateway.upstreams import instances as module
from gateway.upstreams.instances import Instances
from gateway.upstreams.options import Options, target
from tests.conftest import Logged
from tests.serving import Server, serving
from tests.upstreams.kinds import KINDS, TYPED, Kind
from tests.upstreams.running import Program, Served, until

LINES = next(kind for kind in KINDS if kind.name == "jsonrpc+tcp")


def urls(kind: Kind, *programs: Program) -> list[str]:
    return [kind.url.replace("{port}", str(program.port)) for program in programs]


def instances_of(served: Served) -> Instances:
    found = served.upstream.instances
    assert found is not None
    return found


def written(folder: Path, kind: Kind, *programs: Program, options: str = "") -> Path:
    file = folder / "gateway.toml"
    file.write_text(f"[upstreams.up]\nurl = {urls(kind, *programs)}\n{kind.options}\n{kind.named}\n{options}\n")
    return file


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Serve an upstream of two instances."""
    with (
        Program(LINES) as one,
        Program(LINES) as other,
        serving(Registry(), None, written(tmp_path, LINES, one, other)) as running,
    ):
        yield running


def begun(instances: Instances, seat: Seat) -> module.Attempt:
    """Begin a call at an instance."""
    attempt = module.Attempt(seat, Invocation(method="add", params=[1, 2], deadline=0.0, request_id=""))
    instances.seats.begin(seat, attempt, time.monotonic())
    return attempt


@pytest.mark.parametrize("kind", [*KINDS, *TYPED], ids=lambda kind: kind.name)
def test_every_protocol_has_several_and_goes_on_where_one_dies(kind: Kind, tmp_path: Path, logged: Logged) -> None:
    with Program(kind) as one, Program(kind) as other:
        file = written(tmp_path, kind, one, other, options="balance = 'round-robin'\nidempotent = ['add']")
        with serving(Registry(), None, file) as server:
            served = Served(server)
            assert [served.call("add", 1, number) for number in range(4)] == [1, 2, 3, 4]
            assert all(seat.seen for seat in instances_of(served).seats.all)
            one.kill()
            assert [served.call("add", 1, number) for number in range(4)] == [1, 2, 3, 4]
    logged.take("is out of service")


def attempts(seat: Seat) -> list[module.Attempt]:
    return [attempt for attempt in seat.running if isinstance(attempt, module.Attempt)]


def test_one_that_dies_under_a_call_is_out_though_no_other_call_comes(tmp_path: Path, logged: Logged) -> None:
    """The others have lower costs for a minute, so no call would show that it is dead."""
    with (
        Program(LINES) as one,
        Program(LINES) as other,
        ThreadPoolExecutor(1) as pool,
        serving(Registry(), None, written(tmp_path, LINES, one, other)) as server,
    ):
        served = Served(server)
        seats = instances_of(served).seats.all
        call = pool.submit(served.answer, "pause", 30)
        until(lambda: any(running.invocation.sent == "maybe" for seat in seats for running in attempts(seat)))
        (one if seats[0].running else other).kill()
        assert call.result(20)["error"]["data"]["sent"] == "maybe"
        until(lambda: logged.take("is out of service: connection refused"))


def test_one_that_has_failed_and_lives_stays_in_service(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DOUBT", 0.01)
    tried: list[Seat] = []
    instances = instances_of(Served(server))
    seat, reach = instances.seats.all[0], instances._try

    async def noted(seat: Seat) -> bool:
        tried.append(seat)
        return await reach(seat)

    async def fail(at_last: Any) -> None:
        for ended in ("bad", "bad", at_last):
            instances.end(begun(instances, seat), ended, "it broke")

    monkeypatch.setattr(instances, "_try", noted)
    for at_last, expected in (("ok", []), ("bad", [seat])):
        asyncio.run_coroutine_threadsafe(fail(at_last), server.loop).result(20)
        until(lambda: not instances._probes and not instances._tasks)
        assert tried == expected
    assert not seat.is_out


def test_no_instance_is_tried_because_of_calls_that_the_end_of_the_upstream_ends(server: Server) -> None:
    instances = instances_of(Served(server))
    seat = instances.seats.all[0]

    def fail() -> int:
        instances.end(begun(instances, seat), "bad", "it broke")
        return len(instances._probes)

    async def end() -> list[int]:
        before = fail()
        await instances.close()
        after = fail()
        await instances.follow()  # it begins again
        return [before, after, fail()]

    assert asyncio.run_coroutine_threadsafe(end(), server.loop).result(20) == [1, 0, 1]


@pytest.mark.parametrize("is_out", [False, True])
def test_one_that_is_listed_no_longer_when_it_could_not_be_reached_is_forgotten(
    is_out: bool, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    instances = instances_of(Served(server))
    seat = instances.seats.all[0]

    async def gone(_: Seat) -> Exception:
        instances.listed((instances.seats.all[1].instance,))
        return ConnectionRefusedError("connection refused")

    async def probe() -> int:
        seat.is_out = is_out
        await instances._probe(seat)
        return len(instances._probes)

    monkeypatch.setattr(instances, "_problem_of", gone)
    assert asyncio.run_coroutine_threadsafe(probe(), server.loop).result(20) == 0


def test_results_are_judged_behind_what_is_read_with_them_but_before_a_failure(server: Server) -> None:
    instances = instances_of(Served(server))
    seat = instances.seats.all[0]

    async def fail() -> list[tuple[int, int]]:
        seen = []
        for ended in ("bad", "bad", "ok", "bad"):
            attempt = begun(instances, seat)
            if ended == "ok":
                instances.succeed(attempt)
            else:
                instances.end(attempt, "bad", "it broke")
            seen.append((seat.failures, seat.load()))
        instances.succeed(begun(instances, seat))
        await asyncio.sleep(0)
        return [*seen, (seat.failures, seat.load())]

    seen = asyncio.run_coroutine_threadsafe(fail(), server.loop).result(20)
    assert seen == [(1, 0), (2, 0), (2, 1), (1, 0), (0, 0)]


def test_connections_are_closed_when_no_call_comes_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 0.1)
    with Program(LINES) as one, Program(LINES) as other:
        file = written(tmp_path, LINES, one, other, options="balance = 'random'")
        with serving(Registry(), None, file) as server:
            served = Served(server)
            held = instances_of(served)._adapters
            assert not held
            until(lambda: served.call("add", 1, 2) == 3 and len(held) == 2)
            until(lambda: not held)
            assert served.call("add", 1, 2) == 3


def test_one_that_is_listed_no_longer_ends_its_calls_and_has_no_new_ones(tmp_path: Path) -> None:
    with Program(LINES) as one, Program(LINES) as other:
        file = written(tmp_path, LINES, one, other)
        with serving(Registry(), None, file) as server:
            served = Served(server)
            instances = instances_of(served)

            async def leave() -> Any:
                """Begin a call at each instance, and take the first one out."""
                first = instances.seats.all[0]
                calls = [asyncio.ensure_future(called(seat)) for seat in instances.seats.all]
                await asyncio.sleep(0.1)
                instances.listed((Instance(address=f"127.0.0.1:{other.port}"),))
                assert first in instances._adapters
                said = await asyncio.gather(*calls)
                assert first not in instances._adapters
                return said

            async def called(seat: Any) -> Any:
                invocation = Invocation(
                    method="pause", params=[0.3], deadline=asyncio.get_running_loop().time() + 9, request_id=""
                )
                attempt = module.Attempt(seat, invocation)
                instances.seats.begin(seat, attempt, time.monotonic())
                value = await instances.adapter(seat).call(invocation)
                instances.end(attempt, "ok")
                return value

            assert asyncio.run_coroutine_threadsafe(leave(), server.loop).result(20) == [0.3, 0.3]
            one.kill()
            assert [served.call("add", 1, 2) for _ in range(5)] == [3] * 5


def test_one_that_is_listed_no_longer_is_not_tried_again(tmp_path: Path) -> None:
    """Its last call is refused: nobody wants to know when it is back, and the log says nothing."""
    with Program(LINES) as one, Program(LINES) as other:
        file = written(tmp_path, LINES, one, other)
        with serving(Registry(), None, file) as server:
            instances = instances_of(Served(server))

            async def end() -> bool:
                first = instances.seats.all[0]
                left = tuple(seat.instance for seat in instances.seats.all[1:])
                attempt = begun(instances, first)
                instances.listed(left)
                instances.end(attempt, "refused", "connection refused")
                return bool(instances._probes)

            assert not asyncio.run_coroutine_threadsafe(end(), server.loop).result(20)


def test_a_call_at_one_that_is_listed_no_longer_has_so_much_time(tmp_path: Path) -> None:
    with Program(LINES) as one, Program(LINES) as other:
        file = written(tmp_path, LINES, one, other, options="balance = 'round-robin'\nidempotent = ['add']")
        with serving(Registry(), {"server.drain": "0.2"}, file) as server, ThreadPoolExecutor(2) as pool:
            served = Served(server)
            instances = instances_of(served)
            start = time.monotonic()
            calls = [pool.submit(served.answer, "pause", 5) for _ in range(2)]
            until(lambda: all(seat.running for seat in instances.seats.all))
            left = (Instance(address=f"127.0.0.1:{other.port}"),)
            server.loop.call_soon_threadsafe(instances.listed, left)
            error = next(wait(calls, return_when=FIRST_COMPLETED).done.__iter__()).result()["error"]
            assert time.monotonic() - start < 4
            assert (error["code"], error["data"]["sent"]) == (-32002, "maybe")
            assert served.call("add", 1, 2) == 3


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ([], 'upstreams.a.url: expected url = "scheme://host:port"'),
        (["thrift://a:1", 7], "upstreams.a.url"),
        (["jsonrpc+tcp://a:1", "jsonrpc+tls://b:1"], "upstreams.a: the urls differ in more than host and port"),
        (["jsonrpc+http://a/x", "jsonrpc+http://b/y"], "upstreams.a: the urls differ in more than host and port"),
        (
            ["jsonrpc+http://a", "jsonrpc+http://b", "jsonrpc+http://a:80"],
            "upstreams.a: a:80 is in the list of urls twice",
        ),
        (["jsonrpc+tcp://a:1", "jsonrpc+tcp://b"], "upstreams.a: the url must be jsonrpc+tcp://host:port"),
        (["jsonrpc+http://a", "jsonrpc+http://:80"], "upstreams.a: the url has no host"),
    ],
)
def test_a_wrong_list_is_told(url: list[Any], problem: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[upstreams.a]\nurl = {url}\n")
    with pytest.raises(ConfigError) as error:
        load(file, {}, ())
    assert problem in str(error.value)


def test_a_list_on_the_command_line_is_json() -> None:
    config = load(
        None, {}, ['upstreams.a.url=["jsonrpc+tcp://a:1", "jsonrpc+tcp://b:1"]', "upstreams.b.url=jsonrpc+http://a/x,y"]
    )
    assert config.upstreams["a"].urls == ("jsonrpc+tcp://a:1", "jsonrpc+tcp://b:1")
    assert config.upstreams["b"].url == "jsonrpc+http://a/x,y"


def test_what_connections_are_made_to() -> None:
    options = Options(url=("xmlrpc+https://A.example/", "xmlrpc+https://[::1]:7/", "xmlrpc+https://b:1/"))
    assert [target(each) for each in options.instances] == [
        ("a.example", 443, "a.example", ""),
        ("::1", 7, "::1", ""),
        ("b", 1, "b", ""),
    ]
    assert target(Instance(address="10.0.0.7:1", server_name="stock")) == ("10.0.0.7", 1, "stock", "")
    assert target(Instance(address="unix:/run/a.sock")) == ("", 0, "localhost", "/run/a.sock")


@pytest.mark.parametrize("option", ["balance = 'least'", "hash_by = 'key'", "hedge = 1.0"])
def test_a_session_decides_by_itself(option: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[upstreams.a]\nurl = ['rpyc://a:1', 'rpyc://b:1']\nsession = 'caller'\n{option}\n")
    with (
        pytest.raises(ConfigError, match="leave balance, hash_by and hedge out"),
        serving(Registry(), None, file),
    ):
        pass
