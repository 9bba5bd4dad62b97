"""What it costs to have a thousand instances in a list: a part of ``make bench``.

Until a gateway is ready, and the memory of its worker then and after calls that have gone to many of them. The
instances are addresses of one process, of 127.0.0.0/8; a worker has connections to a part of them.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.load import drive, http
from benchmarks.running import cores, serving
from tests.serving import children, free_port
from tests.upstreams.running import listens, until

SIZES = (1, 8, 1000)
CALLERS = 16
SECONDS = 4.0


def measured(addresses: Sequence[str]) -> tuple[float, float, float]:
    """Return the seconds until a gateway is ready, and the MB of its worker then and after calls."""
    with tempfile.TemporaryDirectory() as folder:
        rows, toml = Path(folder) / "list.json", Path(folder) / "gateway.toml"
        rows.write_text(json.dumps([{"address": address} for address in addresses]))
        toml.write_text(
            f"[server]\nmodules = []\nbind = '127.0.0.1:0'\n[log]\nlevel = 'warning'\n"
            f"[directories.list]\nkind = 'file'\npath = '{rows}'\n"
            "[upstreams.up]\nurl = 'jsonrpc+tcp://'\ndirectory = 'list'\nmethods = ['get']\n"
        )
        start = time.monotonic()
        with serving([sys.executable, "-m", "gateway", "serve", "--config", str(toml)], cores()[:1]) as server:
            seconds = time.monotonic() - start
            (worker,) = children(server.pid)
            before = _memory(worker)
            body = json.dumps({"jsonrpc": "2.0", "method": "up.get", "params": ["x"], "id": 1}).encode()
            drive(server.port, http("/api", "application/json", body, b'"result"'), CALLERS, SECONDS)
            return seconds, before, _memory(worker)


def _memory(process: int) -> float:
    """Return the MB that a process has for itself."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


def main() -> None:
    """Measure, and write the figures."""
    port = free_port()
    addresses = [f"127.0.{number // 250}.{number % 250 + 1}:{port}" for number in range(max(SIZES))]
    command = [sys.executable, "-m", "tests.fleet.program", "/dev/null", "well", f"0.0.0.0:{port}"]
    with ExitStack() as stack:
        program = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        stack.callback(program.kill)
        until(lambda: listens(port))
        print("| instances | seconds until it is ready | MB of the worker | after calls |\n| --- | --- | --- | --- |")
        for size in SIZES:
            runs = [measured(addresses[:size]) for _ in range(3)]
            print(f"| {size} | " + " | ".join(f"{min(figures):.2f}" for figures in zip(*runs, strict=True)) + " |")


if __name__ == "__main__":
    main()
