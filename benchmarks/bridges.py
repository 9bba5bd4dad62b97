"""Calls of services behind the gateway, against the same calls without it; a part of ``make bench``.

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
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from benchmarks.load import Exchange, Load, bytewise, drive, http
from benchmarks.machine import spent
from benchmarks.objects import exchanged
from benchmarks.running import Running, cores, serving
from tests.upstreams.kinds import KINDS, TYPED, binary, frame, generic_frame
from tests.upstreams.running import Program, until

ROOT = Path(__file__).parent.parent
CALLS = (1, 64)
TORNADO = [sys.executable, "-m", "benchmarks.plain_tornado"]
_XML = (
    b"<?xml version='1.0'?><methodCall><methodName>add</methodName><params><param><value><int>2</int></value></param>"
    b"<param><value><int>3</int></value></param></params></methodCall>"
)
_JSON = b'{"jsonrpc": "2.0", "method": "add", "params": [2, 3], "id": 1}'


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
UPSTREAMS = {
    "xmlrpc": Upstream(
        "XML-RPC",
        "",
        "xmlrpc+http://127.0.0.1:{port}/RPC2",
        "methods = ['add']",
        http("/RPC2", "text/xml", _XML, b"<int>5</int>"),
    ),
    "jsonrpc": Upstream(
        "JSON-RPC",
        "",
        "jsonrpc+http://127.0.0.1:{port}/jsonrpc",
        "methods = ['add']",
        http("/jsonrpc", "application/json", _JSON, b"5"),
    ),
    "tcp": _upstream(
        "JSON-RPC over TCP", "jsonrpc+tcp", bytewise(_JSON + b"\n", b'{"jsonrpc": "2.0", "id": 1, "result": 5}\n')
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
    """The ports of all servers, by the names of UPSTREAMS, and the gateway."""

    ports: dict[str, int]
    gateway: Running


class Bridged(Struct, frozen=True, kw_only=True):
    """Medians of one protocol.

    Attributes:
        name: of the protocol, as in the table.
        in_flight: calls at once.
        direct: calls per second without the gateway.
        through: calls per second through it.
        per_cpu: calls through the gateway per second of its processor time.
        direct_us: median time of a call, in microseconds.
        through_us: the same through the gateway.
        added_us: the median over the rounds of their difference in one round.

    """

    name: str
    in_flight: int
    direct: float
    through: float
    per_cpu: float
    direct_us: float
    through_us: float
    added_us: float


@contextmanager
def everything() -> Iterator[Served]:
    """Run all servers, and a gateway in front of them that knows their methods."""
    all_cores = cores()
    os.sched_setaffinity(0, {all_cores[-1]})
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, all_cores)
        tornado = stack.enter_context(serving(TORNADO, all_cores[-1:])).port
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
        gateway = stack.enter_context(serving(command, all_cores[:1]))
        proxy = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{gateway.port}/", allow_none=True)
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


def through(name: str, gateway: Running, calls: int, seconds: float) -> tuple[Load, float]:
    """Call it through the gateway; also return the calls per second of the gateway's processor time."""
    body = json.dumps({"jsonrpc": "2.0", "method": f"{name}.add", "params": [2, 3], "id": 1}).encode()
    before = spent(gateway.pid)
    load = drive(gateway.port, http("/api", "application/json", body, b'"result":5'), calls, seconds)
    return load, load.calls_per_second * seconds / max(spent(gateway.pid) - before, 0.01)


Taken = tuple[Load, Load, float]  # directly, through the gateway, calls per second of its processor time


def measure(here: Served, seconds: float, rounds: int) -> list[Bridged]:
    """Measure all protocols in turn, round after round: directly, and through the gateway."""
    taken: dict[tuple[str, int], list[Taken]] = {}
    for number in range(rounds):
        print(f"bridges: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for name in UPSTREAMS:
            for calls in CALLS:
                before = direct(name, here.ports[name], calls, seconds)
                found = (before, *through(name, here.gateway, calls, seconds))
                taken.setdefault((name, calls), []).append(found)
    return [_medians(UPSTREAMS[name].name, calls, found) for (name, calls), found in taken.items()]


def _medians(name: str, calls: int, taken: list[Taken]) -> Bridged:
    def median(value: Callable[[Load, Load, float], float]) -> float:
        return statistics.median(value(*found) for found in taken)

    return Bridged(
        name=name,
        in_flight=calls,
        direct=median(lambda before, _after, _rate: before.calls_per_second),
        through=median(lambda _before, after, _rate: after.calls_per_second),
        per_cpu=median(lambda _before, _after, rate: rate),
        direct_us=median(lambda before, _after, _rate: before.median),
        through_us=median(lambda _before, after, _rate: after.median),
        added_us=median(lambda before, after, _rate: after.median - before.median),
    )


def report(bridged: Iterable[Bridged]) -> str:
    """Write a Markdown table: medians over the rounds, and what is added where no call waits for another one."""
    lines = [
        "| behind the gateway | in flight | direct calls/s | through | per CPU s | direct us | through us | added us |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in bridged:
        found = (each.direct, each.through, each.per_cpu, each.direct_us, each.through_us)
        numbers = " | ".join(f"{round(number):,}" for number in found)
        added = round(each.added_us) if each.in_flight == 1 else ""
        lines.append(f"| {each.name} | {each.in_flight} | {numbers} | {added} |")
    return "\n".join(lines)


def objects(here: Served, rounds: int, calls: int) -> dict[str, float]:
    """Time so many ``getObj`` and as many ``sendObj``, by clients and servers as they come: seconds, medians."""

    def proxy(port: int) -> xmlrpc.client.ServerProxy:
        return xmlrpc.client.ServerProxy(f"http://127.0.0.1:{port}/", allow_none=True)

    ways: dict[str, Callable[[], float]] = {
        "ServerProxy, the standard library's server": lambda: exchanged(proxy(here.ports["standard"]), calls),
        "the same, through the gateway": lambda: exchanged(proxy(here.gateway.port).standard, calls),
        "ServerProxy, the gateway's own method": lambda: exchanged(proxy(here.gateway.port), calls),
        "ZeroRPC's client, ZeroRPC's server": partial(_by_zerorpc, here.ports["zerorpc"], calls),
        "ServerProxy, ZeroRPC's server through the gateway": lambda: exchanged(proxy(here.gateway.port).zerorpc, calls),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(way())
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def objects_report(taken: dict[str, float], calls: int) -> str:
    """Write a Markdown table of it."""
    lines = [f"| {calls} getObj and {calls} sendObj | seconds |", "| --- | ---: |"]
    return "\n".join([*lines, *(f"| {name} | {seconds:.2f} |" for name, seconds in taken.items())])


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
        print(objects_report(objects(here, arguments.rounds, arguments.objects), arguments.objects))


if __name__ == "__main__":
    main()
