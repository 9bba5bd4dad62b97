"""The command as people run it: a program in a folder, its two outputs, its exit code."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from click.testing import CliRunner
from msgspec import Struct

from gateway.cli import main
from tests.raw_http import Wire, request

HANDLERS = '''
import asyncio
from pathlib import Path
from typing import Any

from gateway import Fault, Registry, method

registry = Registry()


@registry.register
def registered() -> str:
    return "by hand"


@method
def add(a: int | float, b: int | float = 5) -> int | float:
    """Add two numbers."""
    return a + b


@method(run="inline", aliases="same")
def echo(*values: Any) -> list[Any]:
    return list(values)


@method
def named(**values: Any) -> str:
    return " ".join(f"{name}={values[name]!r}" for name in sorted(values))


@method
def text(value: str) -> str:
    return value


@method
def refuse() -> None:
    raise Fault(7, "not today", {"when": "tomorrow"})


@method
def crash() -> None:
    raise RuntimeError("a secret of the inside")


@method
def hold() -> str:
    Path("started").write_text(".")
    return Path("go").read_text()


@method
async def forever() -> None:
    Path("started").write_text(".")
    await asyncio.Event().wait()
'''


class Run(Struct, frozen=True, kw_only=True):
    """What a finished command leaves behind."""

    code: int
    out: str
    err: str


class Serving(Struct, kw_only=True):
    """A command that serves: the process, what it printed to be ready, its URL and port, and its log so far."""

    process: subprocess.Popen[str]
    ready: list[str]
    url: str
    port: int
    log: str = ""

    def stop(self, number: int = signal.SIGTERM) -> Run:
        """Send a signal, and wait for the end."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> Run:
        out, err = self.process.communicate(timeout=20)
        return Run(code=self.process.returncode, out=out, err=self.log + err)

    def until_logged(self, part: str) -> None:
        """Read the log up to the line with a part."""
        while part not in self.log:
            line = _output(self.process.stderr).readline()
            assert line, f"it has ended without a line of {part!r}: {self.log}"
            self.log += line


def _output(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def environment(changes: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "PYTHONHASHSEED"))}
    return kept | changes


def run(folder: Path, *arguments: str, **variables: str) -> Run:
    command = [sys.executable, "-m", "gateway", *arguments]
    ended = subprocess.run(
        command, cwd=folder, env=environment(variables), capture_output=True, text=True, timeout=30, check=False
    )
    return Run(code=ended.returncode, out=ended.stdout, err=ended.stderr)


def here(*arguments: str) -> Run:
    """Run a command in this process, which is faster."""
    ended = CliRunner().invoke(main, arguments, prog_name="gateway", catch_exceptions=False)
    return Run(code=ended.exit_code, out=ended.stdout, err=ended.stderr)


def called(*arguments: str) -> Run:
    return here("call", *arguments)


@contextmanager
def serving(folder: Path, *arguments: str, **variables: str) -> Iterator[Serving]:
    """Run ``gateway serve`` on a free port until it is ready, and end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "--bind", "127.0.0.1:0", *arguments],
        cwd=folder,
        env=environment(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        ready = [_output(process.stdout).readline() for _ in range(4)]
        match = re.match(r"gateway: ready at (http://127\.0\.0\.1:(\d+)\S*) ", ready[0])
        assert match is not None, (ready, _output(process.stderr).read())
        yield Serving(process=process, ready=ready, url=match[1], port=int(match[2]))
    finally:
        process.kill()
        process.communicate()


def fill(folder: Path) -> Path:
    """Make a folder a project with a package of handlers."""
    (folder / "handlers").mkdir()
    (folder / "handlers" / "__init__.py").touch()
    (folder / "handlers" / "some.py").write_text(HANDLERS)
    return folder


def start(wire: Wire, method: str, project: Path) -> None:
    """Send a call that does not end, and wait until it runs."""
    os.mkfifo(project / "started")
    started = os.open(project / "started", os.O_RDONLY | os.O_NONBLOCK)
    body = b'{"jsonrpc":"2.0","method":"%s","id":1}' % method.encode()
    wire.send(request("/api", {"Content-Type": "application/json"}, body))
    assert select.select([started], [], [], 20)[0], "it does not run"
    os.close(started)
