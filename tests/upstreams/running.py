"""What the tests of upstreams need: real servers to stop and start, broken ones, and a gateway in front of them."""

import asyncio
import atexit
import functools
import json
import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from gateway import Registry
from tests.raw_http import post
from tests.serving import Server, free_port, serving
from tests.upstreams.kinds import Kind

ROOT = Path(__file__).parents[2]
INTERNAL = re.compile(
    r"Traceback|<class|Error\b|Errno|127\.0\.0\.1|localhost|httptools|asyncio|File \"|thriftpy2|gevent|tests\.upstreams"
    r"| at 0x"
)

_CLASS = re.compile(r'"type":\s*"\w+"')  # what a fault names by intent


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until something is so, and return it; a test that waits for longer has failed."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it does not come to be"
        time.sleep(0.01)
    return found


def no_call_waits(call: Callable[[], Any]) -> None:
    """Hold that no call waits for the 40 ms after which a kernel acknowledges: ten in a row, some time, do not.

    On a busy machine a call may take as long for other reasons, but not all of them.
    """

    def is_fast() -> bool:
        start = time.monotonic()
        call()
        return time.monotonic() - start < 0.03

    for _ in range(20):  # the kernel acknowledges the first ones at once in any case
        call()
    until(lambda: all(is_fast() for _ in range(10)))


class ForkServer:
    """A process that has imported a module, and forks servers; see forkserver.py."""

    def __init__(self, python: str, module: str) -> None:
        self._process = subprocess.Popen(
            [python, "-m", "tests.upstreams.forkserver", module],
            cwd=ROOT,
            env=_unmeasured(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        atexit.register(self._process.communicate)

    def fork(self, *arguments: str) -> int:
        """Start a server, and return its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"arguments": arguments, "environment": _unmeasured()}), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


def _unmeasured() -> dict[str, str]:
    """Return an environment in which coverage is not measured: nothing of the gateway is in these servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


_fork_server = functools.cache(ForkServer)


class Program:
    """A real server in a process of its own."""

    def __init__(self, kind: Kind, port: int | None = None) -> None:
        self.port = port or free_port()
        self._python, _, self._module, *options = kind.command
        self._arguments = [part.replace("{port}", str(self.port)) for part in options]
        self._handle = -1  # of the process; -1 while it does not run
        self._id = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._id = _fork_server(self._python, self._module).fork(*self._arguments, str(self.port))
        self._handle = os.pidfd_open(self._id)
        until(lambda: listens(self.port) or self._has_ended(0))
        assert not self._has_ended(0), "the server has ended"

    def kill(self) -> None:
        """End it without a word."""
        if self._handle >= 0:
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            assert self._has_ended(20), "the server does not end"
            os.close(self._handle)
            self._handle = -1

    def signal(self, number: signal.Signals) -> None:
        """Stop it, and see it stopped, or let it go on."""
        signal.pidfd_send_signal(self._handle, number)
        if number == signal.SIGSTOP:
            stat = Path(f"/proc/{self._id}/stat")
            until(lambda: stat.read_text().rpartition(") ")[2].startswith("T"))

    def _has_ended(self, seconds: float) -> bool:
        return bool(select.select([self._handle], [], [], seconds)[0])


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def broken(
    said: bytes, again: bytes = b"", port: int | None = None, greeting: bytes = b"", cue: bytes = b""
) -> Iterator[int]:
    """Answer whatever comes with these bytes, and go on with others for ever; what comes first, with a greeting.

    What does not have the cue in it is not answered.
    """
    with socket.create_server(("127.0.0.1", port or 0)) as server, ExitStack() as connections:
        stop = threading.Event()

        def answer(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                connection.settimeout(20)
                if greeting and connection.recv(65536):
                    connection.sendall(greeting)
                while received := connection.recv(65536):
                    if cue not in received:
                        continue
                    connection.sendall(said)
                    while again and not stop.is_set():
                        connection.sendall(again)

        def accept() -> None:
            while not stop.is_set():
                with suppress(OSError):
                    connection, _ = server.accept()
                    connections.callback(connection.close)
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


class Wires:
    """Wires to a server that can be cut: a port that passes everything on to another one."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._silent = threading.Event()
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Cut all connections; new ones work."""
        cut, self._open = self._open, []
        for wire in cut:
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
            wire.close()

    def hush(self) -> None:
        """Let all connections stand, and pass nothing more on; new ones work."""
        self._silent.set()
        self._silent = threading.Event()

    def __len__(self) -> int:
        """Count the connections that were made since the last cut."""
        return len(self._open) // 2

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self._open += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=(source, sink, self._silent), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, silent: threading.Event) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            if not silent.is_set():
                sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class Served:
    """A gateway with one upstream, and calls of it; every fault is searched for what nobody outside may read."""

    def __init__(self, server: Server) -> None:
        self.server = server
        (self.upstream,) = server.gateway.upstreams

    def answer(self, method: str, /, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call over JSON-RPC, and return the response object."""
        call = {"jsonrpc": "2.0", "method": f"up.{method}", "params": kwargs or list(args), "id": 1}
        body = post(self.server.port, json.dumps(call).encode()).body.decode()
        said: dict[str, Any] = json.loads(body)
        assert "error" not in said or not INTERNAL.search(_CLASS.sub("", body)), body
        return said

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Return a result; a fault fails the test."""
        said = self.answer(method, *args, **kwargs)
        assert "result" in said, said
        return said["result"]

    def fault(self, method: str, /, *args: Any, **kwargs: Any) -> tuple[int, Any]:
        """Return the code of a fault, and how far the call has come."""
        said = self.answer(method, *args, **kwargs)
        assert "error" in said, said
        data = said["error"].get("data")
        return said["error"]["code"], data.get("sent") if isinstance(data, dict) else None

    def judged(self) -> None:
        """Wait until the results so far are judged, which is done in the next turn of the event loop."""
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.server.loop).result(20)

    def offers(self, method: str) -> bool:
        """Tell whether a method is known by now."""
        return self.server.gateway.registry.get(f"up.{method}", "jsonrpc") is not None


@contextmanager
def serve_upstream(
    kind: Kind, port: int, folder: Path, more: str = "", settings: dict[str, Any] | None = None
) -> Iterator[Served]:
    """Serve one upstream, under ``up.``, with what its kind and the test say of it."""
    file = folder / "gateway.toml"
    file.write_text(f'[upstreams.up]\nurl = "{kind.url.format(port=port)}"\n{kind.options}\n{more}\n')
    with serving(Registry(), settings, file) as server:
        yield Served(server)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
