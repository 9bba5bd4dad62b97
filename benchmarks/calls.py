"""``make bench``: calls per second of ``add``, the gateway against a plain Tornado handler, both protocols.

Each server has one core to itself, the client (benchmarks/load.py) the other one. In each round every server is driven
in turn, so what slows the machine slows them all; the ratios are of medians over the rounds. The gateway runs as it is
served to users, its log line for each call included, written to a file that keeps nothing.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.load import Load, drive, http

SERVERS = {
    "gateway": [sys.executable, "-m", "gateway", "serve", "handlers", "--bind", "127.0.0.1:0"],
    "plain Tornado": [sys.executable, "-m", "benchmarks.plain_tornado"],
    "plain Tornado on uvloop": [sys.executable, "-m", "benchmarks.plain_tornado", "uvloop"],
}
XML = b"<?xml version='1.0'?>\n<methodCall>\n<methodName>add</methodName>\n<params>\n<param>\n<value><int>2</int></value>\n</param>\n<param>\n<value><int>3</int></value>\n</param>\n</params>\n</methodCall>\n"  # noqa: E501 - as ServerProxy writes it
JSON = b'{"jsonrpc": "2.0", "method": "add", "params": [2, 3], "id": 1}'
PROTOCOLS = {
    "XML-RPC": http("/RPC2", "text/xml", XML, b"<int>5</int>"),
    "JSON-RPC": http("/jsonrpc", "application/json", JSON, b"5"),
}
CONNECTIONS = (1, 16, 64)


@contextmanager
def served(command: list[str], core: int) -> Iterator[int]:
    """Run a server on one core, and yield its port."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        os.sched_setaffinity(process.pid, {core})
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        ready = process.stdout.readline()
        if "http://" not in ready:
            raise RuntimeError(f"{' '.join(command)} does not start; run it by hand to see why")
        yield int(ready.partition("http://")[2].partition("/")[0].rpartition(":")[2])
    finally:
        process.terminate()
        process.wait(10)


def measure(seconds: float, rounds: int) -> dict[tuple[str, int, str], list[Load]]:
    """Drive all servers in turn, round after round."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    loads: dict[tuple[str, int, str], list[Load]] = {}
    with ExitStack() as stack:
        ports = {name: stack.enter_context(served(command, cores[0])) for name, command in SERVERS.items()}
        for port in ports.values():
            for exchange in PROTOCOLS.values():
                drive(port, exchange, 4, 0.5)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for protocol, exchange in PROTOCOLS.items():
                for connections in CONNECTIONS:
                    for name, port in ports.items():
                        load = drive(port, exchange, connections, seconds)
                        loads.setdefault((protocol, connections, name), []).append(load)
    return loads


def report(loads: dict[tuple[str, int, str], list[Load]]) -> str:
    """Write a Markdown table: medians over the rounds, and the ratios of pairs of the same round."""
    lines = [
        "| protocol | connections | server | calls/s | median us | gateway is faster by (min - max) |",
        "| --- | ---: | --- | ---: | ---: | --- |",
    ]
    for (protocol, connections, name), rounds in loads.items():
        rate = statistics.median(load.calls_per_second for load in rounds)
        median = statistics.median(load.median for load in rounds)
        ours = loads[protocol, connections, "gateway"]
        ratios = [a.calls_per_second / b.calls_per_second for a, b in zip(ours, rounds, strict=True)]
        factor = (
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})" if rounds is not ours else ""
        )
        lines.append(f"| {protocol} | {connections} | {name} | {rate:,.0f} | {median:,.0f} | {factor} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(report(measure(arguments.seconds, arguments.rounds)))


if __name__ == "__main__":
    main()
