"""Two gateways, their upstream, and their callers; and a look at the processes every half second."""

import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from benchmarks.soak.calls import KINDS, METHODS, Served
from benchmarks.soak.report import Outcome, Sample

_UPSTREAM = """
import sys
from xmlrpc.server import SimpleXMLRPCServer

SimpleXMLRPCServer.allow_reuse_address = True
server = SimpleXMLRPCServer(("127.0.0.1", int(sys.argv[1])), logRequests=False)
server.register_function(lambda a: a, "echo")
server.serve_forever()
"""
_CALLERS = 3  # for each gateway
_RELOAD = 8.0  # seconds between two reloads
_RESTART = 5.0  # seconds between two ends of the upstream
_SAMPLE = 0.5  # seconds


def run(seconds: float) -> Outcome:
    """Call two gateways for so long, and look at their processes."""
    outcome = Outcome({}, Counter(), [])
    over = threading.Event()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(_reserved_port())
        steady = stack.enter_context(_gateway(folder / "steady", port))
        reloaded = stack.enter_context(_gateway(folder / "reloaded", port))
        work: list[Callable[[], None]] = [lambda: _restart_upstream(folder, port, over)]
        work += [partial(_call, served, outcome, over) for served in (steady, reloaded)] * _CALLERS
        threads = [threading.Thread(target=function) for function in work]
        for thread in threads:
            thread.start()
        try:
            _watch({"steady": steady, "reloaded": reloaded}, seconds, outcome.samples)
        finally:
            over.set()
            for thread in threads:
                thread.join()
    return outcome


@contextmanager
def _gateway(folder: Path, upstream: int) -> Iterator[Served]:
    (folder / "handlers").mkdir(parents=True)
    (folder / "conf").mkdir()
    (folder / "handlers" / "__init__.py").write_text(METHODS, "utf-8")
    (folder / "conf" / "gateway.toml").write_text(
        "[server]\nbind = '127.0.0.1:0'\ntcp = '127.0.0.1:0'\ndrain = 2.0\n[log]\nlevel = 'error'\n"
        f"[upstreams.far]\nurl = 'xmlrpc+http://127.0.0.1:{upstream}/RPC2'\nmethods = ['echo']\nprefix = 'far.'\n",
        "utf-8",
    )
    command = [sys.executable, "-m", "gateway", "serve"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            line = process.stdout.readline().decode()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/.* tcp://127\.0\.0\.1:(\d+)", line)
            if found is None:
                raise RuntimeError(f"the gateway does not start: {(folder / 'log').read_text()}")
            yield Served(process.pid, int(found[1]), int(found[2]), folder)
        finally:
            process.terminate()


def _call(served: Served, outcome: Outcome, over: threading.Event) -> None:
    chosen = iter(lambda: random.choice(list(KINDS)), "")  # noqa: S311 - any order will do
    for kind in itertools.chain(KINDS, itertools.takewhile(lambda _: not over.is_set(), chosen)):
        try:
            KINDS[kind](served)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told at the end
            outcome.wrong.append(f"{kind}: {error!r}")
        outcome.calls[kind] += 1


def _restart_upstream(folder: Path, port: int, over: threading.Event) -> None:
    program = folder / "upstream.py"
    program.write_text(_UPSTREAM, "utf-8")
    while not over.is_set():
        with subprocess.Popen([sys.executable, str(program), str(port)]) as process:
            over.wait(_RESTART)
            process.kill()


@contextmanager
def _reserved_port() -> Iterator[int]:
    """Keep a port from everybody who asks for any free one; who asks for it with SO_REUSEADDR gets it."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield int(reserved.getsockname()[1])


def _watch(gateways: dict[str, Served], seconds: float, samples: dict[str, list[Sample]]) -> None:
    end = time.monotonic() + seconds
    reload_at = time.monotonic() + _RELOAD
    while (now := time.monotonic()) < end:
        for name, served in gateways.items():
            with suppress(OSError, ValueError):  # a worker may end while it is looked at
                worker = max(map(int, _read(served.process, f"task/{served.process}/children").split()))
                found = {"supervisor": measured(served.process), "worker": measured(worker)}
                for role, sample in found.items():
                    samples.setdefault(f"{name} {role}", []).append(sample)
        if now >= reload_at:
            os.kill(gateways["reloaded"].process, signal.SIGHUP)
            reload_at = now + _RELOAD
        time.sleep(_SAMPLE)


def measured(process: int) -> Sample:
    """Measure a process.

    Raises:
        OSError: it is gone.
        ValueError: it is about to go.

    """
    found = re.search(r"RssAnon:\s+(\d+) kB", _read(process, "status"))
    if found is None:
        raise ValueError("it has no memory any more")
    return Sample(float(found[1]), float(len(list(Path(f"/proc/{process}/fd").iterdir()))))


def _read(process: int, file: str) -> str:
    return Path(f"/proc/{process}/{file}").read_text("ascii")
