"""The drills of directories: they die, hang, forget and come back, while 300 calls a second go to what they list.

Real servers: ZooKeeper (one, or three of them) and knot. The instances are listed by kazoo, as other programs do it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tests.fleet.directories.knot import Knot, knot
from tests.fleet.directories.zookeeper import ZooKeeper
from tests.fleet.load import Fleet
from tests.serving import eventually, free_port

_PROVIDERS = "/dubbo/stock/providers"


class Directory(NamedTuple):
    """A directory that lists the instances of a fleet: its table in gateway.toml, and what can be done to it."""

    table: str
    servers: Sequence[ZooKeeper]
    knot: Knot | None
    list: Callable[[Fleet], None]


class DirectoryDrill(NamedTuple):
    """A drill: what happens meanwhile, and with which directory."""

    name: str
    happens: Callable[[Fleet, Directory], None]
    make: Callable[[Path, Fleet], AbstractContextManager[Directory]]
    service: str = "stock"


def killed(fleet: Fleet, directory: Directory) -> None:
    """Kill the server for longer than a session, and an instance meanwhile."""
    directory.servers[0].kill()
    time.sleep(3)
    fleet.programs[0].kill()
    time.sleep(3)
    fleet.programs[0].start()
    directory.servers[0].start()
    time.sleep(2)


def stopped(fleet: Fleet, directory: Directory) -> None:
    """Stop the server for longer than a session, and kill an instance meanwhile."""
    directory.servers[0].stop()
    time.sleep(4)
    fleet.programs[1].kill()
    time.sleep(2)
    directory.servers[0].go_on()
    fleet.programs[1].start()
    time.sleep(2)


def forgotten(fleet: Fleet, directory: Directory) -> None:
    """Lose all data; the instances are listed again after a while."""
    directory.servers[0].kill()
    directory.servers[0].lose_data()
    directory.servers[0].start()
    time.sleep(3)
    directory.list(fleet)
    time.sleep(2)


def without_quorum(fleet: Fleet, directory: Directory) -> None:
    """Kill two servers of three, and an instance meanwhile."""
    for server in directory.servers[:2]:
        server.kill()
    time.sleep(3)
    fleet.programs[0].kill()
    time.sleep(3)
    fleet.programs[0].start()
    for server in directory.servers[:2]:
        server.begin()
    eventually(lambda: all(server.serves() for server in directory.servers), "there is no quorum")
    time.sleep(2)


def silent(fleet: Fleet, directory: Directory) -> None:
    """Stop the server of names, kill it, and start it again; an instance dies meanwhile."""
    assert directory.knot is not None  # noqa: S101 - it is of this drill
    directory.knot.stop()
    time.sleep(4)
    fleet.programs[0].kill()
    time.sleep(1)
    directory.knot.kill()
    time.sleep(2)
    fleet.programs[0].start()
    directory.knot.start()
    time.sleep(2)


@contextmanager
def one(folder: Path, fleet: Fleet) -> Iterator[Directory]:
    """Run one server of ZooKeeper."""
    with _ensemble(folder, fleet, [ZooKeeper(folder)]) as made:
        yield made


@contextmanager
def three(folder: Path, fleet: Fleet) -> Iterator[Directory]:
    """Run three of them."""
    peers = [(free_port(), free_port()) for _ in range(3)]
    servers = []
    for number in range(3):
        (folder / str(number)).mkdir()
        servers.append(ZooKeeper(folder / str(number), number=number, peers=peers))
    with _ensemble(folder, fleet, servers) as made:
        yield made


@contextmanager
def _ensemble(folder: Path, fleet: Fleet, servers: Sequence[ZooKeeper]) -> Iterator[Directory]:
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.kill)
            server.begin()
        eventually(lambda: all(server.serves() for server in servers), "ZooKeeper does not start")

        def register(fleet: Fleet) -> None:
            client = servers[0].client()
            for program in fleet.programs:
                name = quote(f"jsonrpc+tcp://127.0.0.1:{program.port}?interface=stock", safe="")
                client.create(f"{_PROVIDERS}/{name}", makepath=True)
            client.stop()
            client.close()

        register(fleet)
        shown = [server.server for server in servers]
        table = f"kind = 'zookeeper'\nservers = {shown}\nsession = 4.0\ncache = '{folder}'"
        yield Directory(table, servers, None, register)


@contextmanager
def names(folder: Path, fleet: Fleet) -> Iterator[Directory]:
    """Run a server of names, with SRV records."""
    records = [f"_rpc._tcp.stock SRV 0 1 {program.port} here" for program in fleet.programs]
    with knot(folder, *records, "here A 127.0.0.1") as running:
        table = f"kind = 'dns'\nnameservers = ['{running.server}']\nfamily = 'ipv4'"
        yield Directory(table, (), running, lambda _: None)


DRILLS = (
    DirectoryDrill("ZooKeeper is killed for 6 s, an instance meanwhile", killed, one),
    DirectoryDrill("ZooKeeper is stopped for 6 s, an instance is killed meanwhile", stopped, one),
    DirectoryDrill("ZooKeeper loses its data", forgotten, one),
    DirectoryDrill("two of three ZooKeepers are killed for 6 s, an instance meanwhile", without_quorum, three),
    DirectoryDrill("DNS is silent, then killed, for 7 s, an instance meanwhile", silent, names, "_rpc._tcp.stock.t"),
)
