"""Clients side by side: gateway.Client and AsyncClient, and those that people use otherwise.

    python -m benchmarks.callers                        5 rounds of 1 s of each; prints a table
    python -m benchmarks.callers --client NAME URL S    one of them for S seconds; prints a JSON object

All of them call ``add(2, 3)`` of a server that does next to nothing (benchmarks/answering.py) and has a core of its
own, one call after the other, or 16 at a time where they are for asyncio. Ratios are those of a round: of the time that
passes, and of processor time, which does not count the server. Where the system allows it, server and client run before
all else (SCHED_RR), so that other work on the machine does not count.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from benchmarks.concurrency.processes import ROOT
from benchmarks.running import cores, serving
from gateway.client import AsyncClient, Client

_AT_ONCE = 16


class Caller(Struct, frozen=True, kw_only=True):
    """A client: what it is called in the table, the one of ours that it is compared with, and what runs it."""

    name: str
    ours: str
    run: Callable[[str, float], int]


def _in_turn(call: Callable[[int, int], Any], seconds: float) -> int:
    calls = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        _check(call(2, 3))
        calls += 1
    return calls


async def _together(call: Callable[[int, int], Awaitable[Any]], seconds: float) -> int:
    end = time.perf_counter() + seconds

    async def run() -> int:
        calls = 0
        while time.perf_counter() < end:
            _check(await call(2, 3))
            calls += 1
        return calls

    return sum(await asyncio.gather(*(run() for _ in range(_AT_ONCE))))


def _check(result: Any) -> None:
    if result != 5:
        raise RuntimeError("a wrong answer")


def _blocking(url: str, seconds: float, protocol: str) -> int:
    with Client(url, protocol=protocol) as client:
        return _in_turn(client.add, seconds)


def _looping(url: str, seconds: float) -> int:
    async def run() -> int:
        async with AsyncClient(url, connections=_AT_ONCE) as client:
            return await _together(client.add, seconds)

    return asyncio.run(run())


def _server_proxy(url: str, seconds: float) -> int:
    with xmlrpc.client.ServerProxy(url) as proxy:
        return _in_turn(proxy.add, seconds)


def _pjrpc_requests(url: str, seconds: float) -> int:
    from pjrpc.client.backend import requests  # noqa: PLC0415 - only this client needs it

    with requests.Client(url) as client:
        return _in_turn(client.proxy.add, seconds)


def _pjrpc_aiohttp(url: str, seconds: float) -> int:
    from pjrpc.client.backend import aiohttp  # noqa: PLC0415 - likewise

    async def run() -> int:
        async with aiohttp.Client(url) as client:
            return await _together(client.proxy.add, seconds)

    return asyncio.run(run())


def _jsonrpclib(url: str, seconds: float) -> int:
    from jsonrpclib import ServerProxy  # type: ignore[import-untyped] # noqa: PLC0415 - likewise

    return _in_turn(ServerProxy(url).add, seconds)


CALLERS = {
    caller.name: caller
    for caller in (
        Caller(name="Client, XML-RPC", ours="Client, XML-RPC", run=lambda url, s: _blocking(url, s, "xmlrpc")),
        Caller(name="xmlrpc.client.ServerProxy", ours="Client, XML-RPC", run=_server_proxy),
        Caller(name="Client, JSON-RPC", ours="Client, JSON-RPC", run=lambda url, s: _blocking(url, s, "jsonrpc")),
        Caller(name="pjrpc on requests", ours="Client, JSON-RPC", run=_pjrpc_requests),
        Caller(name="jsonrpclib-pelix", ours="Client, JSON-RPC", run=_jsonrpclib),
        Caller(name="AsyncClient, JSON-RPC", ours="AsyncClient, JSON-RPC", run=_looping),
        Caller(name="pjrpc on aiohttp", ours="AsyncClient, JSON-RPC", run=_pjrpc_aiohttp),
    )
}


class Round(Struct, frozen=True, kw_only=True):
    """What a client did in a round: calls per second, and microseconds of its processor time for a call."""

    rate: float
    cost: float


def alone(name: str, url: str, seconds: float) -> Round:
    """Run a client in this process, after a tenth of the time to warm up."""
    run = CALLERS[name].run
    run(url, seconds / 10)
    begun, spent = time.perf_counter(), time.process_time()
    calls = run(url, seconds)
    return Round(rate=calls / (time.perf_counter() - begun), cost=(time.process_time() - spent) / calls * 1e6)


def first() -> list[str]:
    """Return what a command begins with that is to run before all else; nothing where that is not allowed."""
    command = ["chrt", "--rr", "5"]
    if (
        shutil.which("chrt") is None
        or subprocess.run([*command, "true"], check=False, stderr=subprocess.DEVNULL).returncode
    ):
        return []
    return command


def measured(rounds: int, seconds: float) -> dict[str, list[Round]]:
    """Run each client in each round, in a process of its own."""
    found: dict[str, list[Round]] = {name: [] for name in CALLERS}
    server, *others = cores()
    before = first()
    with serving([*before, sys.executable, "-m", "benchmarks.answering"], [server]) as running:
        for _ in range(rounds):
            for name, rows in found.items():
                command = [*before, "taskset", "--cpu-list", ",".join(map(str, others or [server])), sys.executable]
                command += [
                    "-m",
                    "benchmarks.callers",
                    "--client",
                    name,
                    f"http://127.0.0.1:{running.port}/",
                    str(seconds),
                ]
                ended = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
                rows.append(Round(**json.loads(ended.stdout)))
    return found


def table(found: dict[str, list[Round]]) -> str:
    """Write the table in Markdown: medians, and in parentheses the smallest and the largest."""
    lines = [
        "| client | calls/s | ours makes more by | processor us for a call | ours needs less by |",
        "| --- | ---: | --- | ---: | --- |",
    ]
    for name, rows in found.items():
        pairs = list(zip(rows, found[CALLERS[name].ours], strict=True))
        more = _ratio([ours.rate / row.rate for row, ours in pairs])
        less = _ratio([row.cost / ours.cost for row, ours in pairs])
        if name == CALLERS[name].ours:
            more = less = ""
        rate, cost = (statistics.median(getattr(row, field) for row in rows) for field in ("rate", "cost"))
        lines.append(f"| {name} | {rate:,.0f} | {more} | {cost:.0f} | {less} |")
    return "\n".join(lines)


def _ratio(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.1f} ({min(ratios):.1f} - {max(ratios):.1f})"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.callers", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="of a round")
    parser.add_argument("--client", nargs=3, metavar=("NAME", "URL", "SECONDS"))
    arguments = parser.parse_args()
    if arguments.client:
        name, url, seconds = arguments.client
        row = alone(name, url, float(seconds))
        print(json.dumps({"rate": row.rate, "cost": row.cost}))
    else:
        print(table(measured(arguments.rounds, arguments.seconds)))


if __name__ == "__main__":
    main()
