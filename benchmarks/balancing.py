"""What it costs to spread calls over eight instances, beside an upstream of one: a part of ``make bench``.

The instances are eight ports of one process, and all have eight connections, so that nothing else differs: eight
processes would answer at other times, and so in smaller portions. Eight upstreams of one instance, each called by an
eighth of the callers, have the same connections as one of eight instances, and choose nothing. The gateway has one core
to itself, the instances and the callers have the other one. All are called by turns, round after round, by names of the
same length: requests whose heads differ from the first one's in Content-Length take longer. The processor time of the
gateway for each call says more on a busy machine than calls per second do. Before that, what a pick costs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.load import Exchange, drive, http
from benchmarks.machine import spent
from benchmarks.running import Running, cores, serving
from gateway.fleet.listing import Instance
from gateway.fleet.seats import Seats
from tests.serving import free_port
from tests.upstreams.running import listens, until

COUNT = 8
CALLERS = 64
SIZES = (8, 100, 1000)
PICKS = 100


def picks(count: int) -> float:
    """Return the seconds of a pick among so many instances, each with a call, at best."""
    seats = Seats("ewma", slow_start=20.0)
    seats.update(tuple(Instance(address=f"10.0.{n // 250}.{n % 250}:1") for n in range(count)), 0.0, 0.0)
    for seat in seats.all:
        for _ in range(2):
            seats.begin(seat, object(), 0.0)
        seats.end(seat, next(iter(seat.running)), "ok", 0.01)
    times = []
    for _ in range(500):  # short ones, of which some are not disturbed
        start = time.perf_counter()
        for _ in range(PICKS):
            seats.pick(1.0)
        times.append((time.perf_counter() - start) / PICKS)
    return min(times)


def called(upstream: str) -> Exchange:
    """Return a call of an upstream."""
    body = json.dumps({"jsonrpc": "2.0", "method": f"{upstream}.get", "params": ["x"], "id": 1}).encode()
    return http("/api", "application/json", body, b'"result"')


CALLED = {
    "one upstream of one instance": [called("single")],
    "eight upstreams of one instance": [called(f"alone{number}") for number in range(COUNT)],
    "one upstream of eight instances, least": [called("fewest")],
    "one upstream of eight instances": [called("spread")],
}


def measured(server: Running, calls: Sequence[Exchange], seconds: float) -> tuple[float, float]:
    """Return calls per second, and the gateway's processor time for each call in microseconds."""
    before = spent(server.pid)
    done = drive(server.port, calls, CALLERS, seconds)
    return done.calls_per_second, (spent(server.pid) - before) / (done.calls_per_second * seconds) * 1e6


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    for size in SIZES:
        print(f"a pick among {size} instances: {picks(size) * 1e6:.1f} us")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ports = [free_port() for _ in range(COUNT)]
        urls = [f"jsonrpc+tcp://127.0.0.1:{port}" for port in ports]
        command = [sys.executable, "-m", "tests.fleet.program", "/dev/null", "well", *map(str, ports)]
        program = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        os.sched_setaffinity(program.pid, cores()[-1:])
        stack.callback(program.kill)
        until(lambda: listens(ports[-1]))
        toml = Path(folder) / "gateway.toml"
        toml.write_text(
            f"[server]\nmodules = []\nbind = '127.0.0.1:0'\n[log]\nlevel = 'warning'\n"
            f"[upstreams.single]\nurl = '{urls[0]}'\nmethods = ['get']\nconnections = {COUNT}\n"
            f"[upstreams.spread]\nurl = {urls}\nmethods = ['get']\nconnections = 1\n"
            f"[upstreams.fewest]\nurl = {urls}\nmethods = ['get']\nconnections = 1\nbalance = 'least'\n"
            + "".join(
                f"[upstreams.alone{number}]\nurl = '{url}'\nmethods = ['get']\nconnections = 1\n"
                for number, url in enumerate(urls)
            )
        )
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(toml)]
        server = stack.enter_context(serving(command, cores()[:1]))
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in CALLED}
        for name in results:
            measured(server, CALLED[name], 0.3)
        for number in range(options.rounds):  # what comes behind the same one each time would have its caches
            for name in (CALLED, reversed(CALLED))[number % 2]:
                results[name].append(measured(server, CALLED[name], options.seconds))
    print("| called | calls per second | us of the gateway for each |\n| --- | --- | --- |")
    for name, found in results.items():
        rates, costs = zip(*found, strict=True)
        print(f"| {name} | {statistics.median(rates):.0f} | {statistics.median(costs):.1f} |")
    *others, eight = ([cost for _, cost in found] for found in results.values())
    for name, other in zip(results, others, strict=False):
        ratio = statistics.median(more / less for less, more in zip(other, eight, strict=True))
        print(f"eight instances cost {ratio - 1:+.1%} beside {name}, by the median of the rounds")


if __name__ == "__main__":
    main()
