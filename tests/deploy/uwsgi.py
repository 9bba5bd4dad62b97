"""The real uWSGI, on what ``gateway uwsgi`` makes of a configuration, and on a port that is free."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.serving import free_port

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BACKLOG = {"limits.backlog": 100}  # which every kernel lets it have


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not become so"
        time.sleep(0.02)


class Running(Struct, frozen=True, kw_only=True):
    """A uWSGI that runs."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Have it stop, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


def rendered(settings: Mapping[str, Any], modules: tuple[str, ...] = (), *options: str) -> str:
    """Return what ``gateway uwsgi`` prints."""
    chosen = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command = [str(BIN / "gateway"), "uwsgi", *options, *chosen, *modules]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def environment(text: str) -> dict[str, str]:
    """Return the variables with which it says that uWSGI is started."""
    line = next(line for line in text.splitlines() if line.endswith("uwsgi --ini conf/uwsgi.ini"))
    return dict(word.split("=", 1) for word in shlex.split(line.removeprefix("#"))[:-3])


def failing(folder: Path, variables: Mapping[str, str]) -> tuple[int, str]:
    """Run a uWSGI that ends by itself, and return its exit code and its log."""
    ini = folder / "uwsgi.ini"
    ini.write_text(rendered(BACKLOG))
    done = subprocess.run(
        [str(BIN / "uwsgi"), "--ini", str(ini)],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout


@contextmanager
def running(folder: Path, settings: Mapping[str, Any], modules: tuple[str, ...]) -> Iterator[Running]:
    """Run uWSGI in a folder for its files."""
    ini, log = folder / "uwsgi.ini", folder / "uwsgi.log"
    port = free_port()
    ini.write_text(text := rendered({**BACKLOG, "server.bind": f"127.0.0.1:{port}", **settings}, modules))
    command = [str(BIN / "uwsgi"), "--ini", str(ini), "--binary-path", sys.executable]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, cwd=ROOT, stdout=errors, stderr=errors, env={**os.environ, **environment(text)}
        ) as process,
    ):
        try:
            until(lambda: "spawned uWSGI worker" in log.read_text() or process.poll() is not None, 30)
            assert process.poll() is None, log.read_text()
            yield Running(port=port, process=process, log=log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(30)
