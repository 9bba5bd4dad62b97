"""DNS as a directory, of a real server: what changes, what is not there, what is large, and what is away."""

import asyncio
from collections.abc import Iterator
from typing import Any

import dns.resolver
import pytest

from gateway.fleet.directories import DirectoryConfigError, watching
from gateway.fleet.directories import dns as kind
from tests.conftest import Logged
from tests.fleet.directories.following import following, made
from tests.fleet.directories.knot import Knot, knot


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    with knot(tmp_path_factory.mktemp("knot")) as running:
        yield running


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "_SOONEST", 0.05)
    monkeypatch.setattr(kind, "_LIFETIME", 0.3)
    monkeypatch.setattr(watching, "_AGAIN", (0.05, 0.06))


def asked(server: Knot, **options: Any) -> Any:
    return made("dns", nameservers=(server.server,), **options)


def test_addresses_that_change_vanish_and_come_again(server: Knot, logged: Logged) -> None:
    server.write("stock A 10.0.0.2", "stock A 10.0.0.1", "stock AAAA 2001:db8::1")

    async def main() -> None:
        async with following(asked(server, keep_empty=0), "stock.t:9000") as followed:
            await followed.until(lambda: followed.addresses == ["10.0.0.1:9000", "10.0.0.2:9000", "[2001:db8::1]:9000"])
            assert {each.server_name for each in followed.lists[0]} == {"stock.t"}
            server.write("stock A 10.0.0.2", "stock A 10.0.0.3")
            await followed.until(lambda: followed.addresses == ["10.0.0.2:9000", "10.0.0.3:9000"])
            server.write("stock TXT none")  # a name without addresses
            await followed.until(lambda: followed.addresses == [])
            server.write("stock A 10.0.0.4")
            await followed.until(lambda: followed.addresses == ["10.0.0.4:9000"])
            server.write()  # no such name
            await followed.until(lambda: followed.addresses == [])
            assert followed.status.state == "up"

    asyncio.run(main())
    assert logged.lines == []


@pytest.mark.parametrize(("family", "addresses"), [("ipv4", ["10.0.0.1:9"]), ("ipv6", ["[2001:db8::1]:9"])])
def test_addresses_of_one_family(server: Knot, family: str, addresses: list[str]) -> None:
    server.write("stock A 10.0.0.1", "stock AAAA 2001:db8::1")

    async def main() -> list[str] | None:
        async with following(asked(server, family=family), "stock.t.:9") as followed:
            await followed.until(lambda: followed.lists)
            return followed.addresses

    assert asyncio.run(main()) == addresses


def test_service_records_with_priorities_and_weights(server: Knot, logged: Logged) -> None:
    server.write(
        "_rpc._tcp.stock SRV 0 0 9001 one",
        "_rpc._tcp.stock SRV 0 300 9002 two",
        "_rpc._tcp.stock SRV 5 10 9003 two",
        "_rpc._tcp.stock SRV 5 10 9004 gone",
        "_rpc._tcp.stock SRV 5 10 9004 .",
        "one A 10.0.0.1",
        "two A 10.0.0.2",
        "two AAAA 2001:db8::2",
    )

    async def main() -> Any:
        async with following(asked(server), "_rpc._tcp.stock.t") as followed:
            await followed.until(lambda: followed.lists)
            return followed.lists[0]

    assert [(each.address, each.priority, each.weight, each.server_name) for each in asyncio.run(main())] == [
        ("10.0.0.1:9001", 0, 1, "one.t"),
        ("10.0.0.2:9002", 0, 300, "two.t"),
        ("10.0.0.2:9003", 5, 10, "two.t"),
        ("[2001:db8::2]:9002", 0, 300, "two.t"),
        ("[2001:db8::2]:9003", 5, 10, "two.t"),
    ]
    assert logged.take("directory list") == [
        "WARNING gateway.directories directory list: _rpc._tcp.stock.t: 'gone.t.' is left out: it has no address"
    ]


def test_sixty_service_records(server: Knot) -> None:
    """They do not fit a datagram, so the answer comes over TCP."""
    server.write(
        *(f"_rpc._tcp.stock SRV 0 10 9000 an-instance-with-a-long-name-{number}" for number in range(60)),
        *(f"an-instance-with-a-long-name-{number} A 10.0.0.{number}" for number in range(60)),
    )

    async def main() -> list[str] | None:
        async with following(asked(server), "_rpc._tcp.stock.t") as followed:
            await followed.until(lambda: followed.lists)
            return followed.addresses

    assert asyncio.run(main()) == sorted(f"10.0.0.{number}:9000" for number in range(60))


def test_a_server_that_is_silent_dead_or_refuses_is_away(server: Knot, logged: Logged) -> None:
    server.write("stock A 10.0.0.1")

    async def main() -> None:
        async with following(asked(server, keep_empty=0), "stock.t:9000") as followed:
            await followed.until(lambda: followed.addresses)
            server.stop()
            await followed.until(lambda: "within 0.3 s" in followed.status.error)
            server.go_on()
            await followed.until(lambda: followed.status.state == "up")
            server.kill()
            await followed.until(lambda: followed.status.state == "stale")
            server.start()
            await followed.until(lambda: followed.status.state == "up")
            assert followed.lists == [followed.lists[0]]
        async with following(asked(server), "stock.elsewhere:9000") as followed:
            await followed.until(lambda: "REFUSED" in followed.status.error)
            assert followed.lists == []

    asyncio.run(main())
    assert len(logged.take("it is away")) == 3


def test_the_time_to_live_is_kept(server: Knot, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def no_sleep(seconds: float) -> None:
        if seconds >= 0.05:
            slept.append(seconds)
        await sleep(0.001)

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    monkeypatch.setattr(watching, "_COLLECT", (0.0, 0.0))

    def waits(service: str) -> float:
        async def main() -> None:
            async with following(asked(server, keep_empty=0), service) as followed:
                await followed.until(lambda: len(slept) > 3)

        slept.clear()
        asyncio.run(main())
        return slept[0]

    server.write("stock 20 A 10.0.0.1", "stock 10 AAAA 2001:db8::2", "b 900 A 10.0.0.1", ttl=5)
    eventually_up(server)
    assert 8.9 < waits("stock.t:1") < 11.1
    assert 4.4 < waits("b.t:1") < 5.6  # that there is no AAAA is true for 5 s
    assert 4.4 < waits("none.t:1") < 5.6
    assert 26.9 < waits_of(server, "b.t:1", waits, monkeypatch) < 33.1


def waits_of(server: Knot, service: str, waits: Any, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setitem(kind._FAMILIES, "any", ("A",))
    seconds: float = waits(service)
    return seconds


def eventually_up(server: Knot) -> None:
    """Wait until the zone with a time to live of 5 s is served."""
    asyncio.run(_ttl(server))


async def _ttl(server: Knot) -> None:
    resolver = kind.DNSKind(kind.DNSOptions(kind="dns", nameservers=(server.server,)))._resolver
    while True:
        answer = await resolver.resolve("t.", "SOA")
        if answer.rrset is not None and answer.rrset.ttl == 5:
            return
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("10.0.0.2", ("10.0.0.2", 53)),
        ("10.0.0.2:5353", ("10.0.0.2", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
    ],
)
def test_servers_are_written_in_four_ways(text: str, place: tuple[str, int]) -> None:
    server: Any = kind._server(text)
    assert (server.address, server.port) == place


@pytest.mark.parametrize(
    ("service", "is_good"),
    [("a:1", True), ("_a._tcp.b", True), ("a", False), ("", False), ("a:0", False), ("a:b", False), ("_a:1", False)],
)
def test_what_can_be_asked_for(service: str, is_good: bool) -> None:
    assert (made("dns", nameservers=("127.0.0.1",)).problem_of(service) == "") is is_good


def test_a_system_without_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: object, file: object) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", none)
    with pytest.raises(DirectoryConfigError, match="set nameservers"):
        made("dns")
