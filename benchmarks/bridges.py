"""``make bench``, second part: calls of services behind the gateway, against the same calls without it.

For each protocol a real server offers ``add``. It is called directly, and over JSON-RPC through a gateway that bridges
to it, with one call in flight and with 64, round after round. A direct call costs its client as little as it can: the
bytes are sent as they are (benchmarks/load.py), unless the protocol needs other bytes for each call, where its own
library calls (benchmarks/clients.py). The gateway has one core to itself, clients and servers the other one.

Then come 500 ``getObj`` and 500 ``sendObj`` one after the other, by the clients that people have.
"""

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.calls import PROTOCOLS, served
from benchmarks.load import Exchange, Load, bytewise, drive, http
from benchmarks.objects import exchanged
from tests.upstreams.kinds import KINDS, TYPED, binary, frame, generic_frame
from tests.upstreams.running import Program, until

ROOT = Path(__file__).parent.parent
CALLS = (1, 64)
TORNADO = [sys.executable, "-m", "benchmarks.plain_tornado"]


class Upstream(NamedTuple):
    """A protocol.

    Attributes:
        name: what stands in the table.
        kind: the kind of tests/upstreams/kinds.py that serves it; an empty one is the plain Tornado handler.
        url: the URL, with ``{port}``, and the options of its table.
        direct: the bytes of a call, or the Python that has the library of a client.

    """

    name: str
    kind: str
    url: str
    options: str
    direct: Exchange | str


def _kind(name: str) -> Any:
    return next(kind for kind in (*KINDS, *TYPED) if kind.name == name)


def _upstream(name: str, kind: str, direct: Exchange | str, options: str | None = None) -> Upstream:
    found = _kind(kind)
    return Upstream(name, kind, found.url, found.options if options is None else options, direct)


_ADD = binary(kind=1, body=struct.pack(">bhqbhqb", 10, 1, 2, 10, 2, 3, 0))
_ADDED = binary(body=struct.pack(">bhqb", 10, 0, 5, 0))
_LINE = b'{"jsonrpc": "2.0", "method": "add", "params": [2, 3], "id": 1}\n'
UPSTREAMS = {
    "xmlrpc": Upstream("XML-RPC", "", "xmlrpc+http://127.0.0.1:{port}/RPC2", "methods = ['add']", PROTOCOLS["XML-RPC"]),
    "jsonrpc": Upstream(
        "JSON-RPC", "", "jsonrpc+http://127.0.0.1:{port}/jsonrpc", "methods = ['add']", PROTOCOLS["JSON-RPC"]
    ),
    "tcp": _upstream(
        "JSON-RPC over TCP", "jsonrpc+tcp", bytewise(_LINE, b'{"jsonrpc": "2.0", "id": 1, "result": 5}\n')
    ),
    "grpc": _upstream("gRPC", "grpc", sys.executable),
    "thrift": _upstream("Thrift", "thrift binary framed official", bytewise(frame(_ADD), frame(_ADDED))),
    "zerorpc": _upstream("ZeroRPC", "zerorpc", str(ROOT / ".venv-zerorpc" / "bin" / "python")),
    "rpyc": _upstream("RPyC", "rpyc", sys.executable),
    "protobuf": _upstream(
        "protobuf services", "protobuf", bytewise(generic_frame(b"\x08\x02\x10\x03"), generic_frame(b"\x08\x05"))
    ),
}


class Served(NamedTuple):
    """The ports of all servers, by the names of UPSTREAMS, and that of the gateway."""

    ports: dict[str, int]
    gateway: int


@contextmanager
def everything() -> Iterator[Served]:
    """Run all servers, and a gateway in front of them that knows their methods."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    with ExitStack() as stack:
        tornado = stack.enter_context(served(TORNADO, cores[-1]))
        ports = {
            name: stack.enter_context(Program(_kind(each.kind))).port if each.kind else tornado
            for name, each in UPSTREAMS.items()
        }
        standard = stack.enter_context(Program(_kind("xmlrpc+http"))).port
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "gateway.toml"
        tables = [
            f'[upstreams.{name}]\nurl = "{each.url.format(port=ports[name])}"\n{each.options}\n'
            for name, each in UPSTREAMS.items()
        ]
        tables.append(f'[upstreams.standard]\nurl = "xmlrpc+http://127.0.0.1:{standard}/RPC2"\n')
        file.write_text("\n".join(tables))
        command = [sys.executable, "-m", "gateway", "serve", "handlers", "--config", str(file), "--bind", "127.0.0.1:0"]
        gateway = stack.enter_context(served(command, cores[0]))
        proxy = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{gateway}/", allow_none=True)
        wanted = {*(f"{name}.add" for name in UPSTREAMS), "standard.getObj"}
        until(lambda: wanted <= set(proxy.system.listMethods()))  # type: ignore[arg-type]
        yield Served(ports | {"standard": standard}, gateway)


def direct(name: str, port: int, calls: int, seconds: float) -> Load:
    """Call a server without the gateway."""
    how = UPSTREAMS[name].direct
    if isinstance(how, Exchange):
        return drive(port, how, calls, seconds)
    said = subprocess.run(
        [how, "-m", "benchmarks.clients", name, str(port), str(calls), str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rate, median = said.stdout.split()
    return Load(float(rate), float(median))


def through(name: str, port: int, calls: int, seconds: float) -> Load:
    """Call it through the gateway."""
    body = json.dumps({"jsonrpc": "2.0", "method": f"{name}.add", "params": [2, 3], "id": 1}).encode()
    return drive(port, http("/api", "application/json", body, b'"result":5'), calls, seconds)


Loads = dict[tuple[str, int], list[tuple[Load, Load]]]


def measure(here: Served, seconds: float, rounds: int) -> Loads:
    """Measure all protocols in turn, round after round: directly, and through the gateway."""
    loads: Loads = {}
    for number in range(rounds):
        print(f"bridges: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for name in UPSTREAMS:
            for calls in CALLS:
                pair = (direct(name, here.ports[name], calls, seconds), through(name, here.gateway, calls, seconds))
                loads.setdefault((name, calls), []).append(pair)
    return loads


def report(loads: Loads) -> str:
    """Write a Markdown table: medians over the rounds, and what is added where no call waits for another one."""
    lines = [
        "| behind the gateway | in flight | direct calls/s | through | direct median us | through | added us |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (name, calls), rounds in loads.items():
        rates = [statistics.median(load.calls_per_second for load in way) for way in zip(*rounds, strict=True)]
        medians = [statistics.median(load.median for load in way) for way in zip(*rounds, strict=True)]
        added = round(statistics.median(after.median - before.median for before, after in rounds))
        numbers = " | ".join(f"{round(number):,}" for number in (*rates, *medians))
        lines.append(f"| {UPSTREAMS[name].name} | {calls} | {numbers} | {added if calls == 1 else ''} |")
    return "\n".join(lines)


def objects(here: Served, rounds: int, calls: int) -> str:
    """Time so many ``getObj`` and as many ``sendObj``, by clients and servers as they come, and write a table."""

    def proxy(port: int) -> xmlrpc.client.ServerProxy:
        return xmlrpc.client.ServerProxy(f"http://127.0.0.1:{port}/", allow_none=True)

    ways: dict[str, Callable[[], float]] = {
        "ServerProxy, the standard library's server": lambda: exchanged(proxy(here.ports["standard"]), calls),
        "the same, through the gateway": lambda: exchanged(proxy(here.gateway).standard, calls),
        "ServerProxy, the gateway's own method": lambda: exchanged(proxy(here.gateway), calls),
        "ZeroRPC's client, ZeroRPC's server": partial(_by_zerorpc, here.ports["zerorpc"], calls),
        "ServerProxy, ZeroRPC's server through the gateway": lambda: exchanged(proxy(here.gateway).zerorpc, calls),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(way())
    lines = [f"| {calls} getObj and {calls} sendObj | seconds |", "| --- | ---: |"]
    lines += [f"| {name} | {statistics.median(seconds):.2f} |" for name, seconds in taken.items()]
    return "\n".join(lines)


def _by_zerorpc(port: int, calls: int) -> float:
    said = subprocess.run(
        [str(UPSTREAMS["zerorpc"].direct), "-m", "benchmarks.objects", str(port), str(calls)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(said.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--objects", type=int, default=500, help="how often an object is sent, and fetched")
    arguments = parser.parse_args()
    with everything() as here:
        print(report(measure(here, arguments.seconds, arguments.rounds)))
        print()
        print(objects(here, arguments.rounds, arguments.objects))


if __name__ == "__main__":
    main()
