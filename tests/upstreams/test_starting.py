"""Processes that start while upstreams are there, silent, or replaced by a reload."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.upstreams import frame
from tests.process.conftest import project
from tests.process.fleets import Callers, call, fleet, processes
from tests.serving import eventually
from tests.upstreams.kinds import KINDS
from tests.upstreams.running import ROOT, Program, serve_upstream

pytestmark = pytest.mark.unmeasured

__all__ = ["project"]

TABLE = '[upstreams.{name}]\nurl = "xmlrpc+http://127.0.0.1:{port}/RPC2"\nidempotent = ["*"]\n'


def write_config(folder: Path, **ports: int) -> None:
    (folder / "conf").mkdir(exist_ok=True)
    (folder / "conf" / "gateway.toml").write_text("".join(TABLE.format(name=n, port=p) for n, p in ports.items()))


class Adders(Callers):
    """Callers of an upstream's method."""

    body = '{"jsonrpc":"2.0","method":"old.add","params":[2,3],"id":1}'


def test_workers_serve_upstreams_and_a_reload_loses_no_call_and_takes_upstreams_anew(project: Path) -> None:
    with Program(KINDS[0]) as program:
        write_config(project, old=program.port)
        with fleet(project) as running, Adders(running.port) as callers:
            before = processes(running)
            eventually(lambda: len(callers.answers) > 100, "callers are not served")
            write_config(project, old=program.port, new=program.port)
            running.signal(signal.SIGHUP)
            eventually(lambda: not processes(running) & before, "the old workers do not end")
            seen = {tuple(_names(running.port)) for _ in range(20)}
            assert call(running.port, "new.add", 2, 3) == 5
        assert len(seen) == 1, "all workers have the same methods"
        assert {"old.add", "new.add"} <= set(next(iter(seen)))
    assert callers.failures == []
    assert set(callers.answers) == {5}


def _names(port: int) -> list[str]:
    names = call(port, "system.listMethods")
    assert isinstance(names, list)
    return sorted(names)


FIRST_CALL = """
import io, json
from gateway import Registry
from gateway.app.mounted import endpoint
from gateway.hosts.wsgi import WSGIHost

body = json.dumps({"jsonrpc": "2.0", "method": "up.add", "params": [2, 3], "id": 1}).encode()
environ = {
    "REQUEST_METHOD": "POST", "PATH_INFO": "/api", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "localhost",
    "REMOTE_ADDR": "127.0.0.1", "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)),
    "wsgi.input": io.BytesIO(body), "wsgi.url_scheme": "http",
}
print(b"".join(WSGIHost(endpoint(Registry()))(environ, lambda *_: None)).decode())
"""


def test_the_first_call_of_a_wsgi_process_knows_the_methods(tmp_path: Path) -> None:
    with Program(KINDS[0]) as program:
        write_config(tmp_path, up=program.port)
        told = subprocess.run(
            [sys.executable, "-c", FIRST_CALL],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    answer: dict[str, Any] = msgspec.json.decode(told.stdout)
    assert answer == {"jsonrpc": "2.0", "result": 5, "id": 1}


def test_a_silent_upstream_holds_up_a_start_for_a_moment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "_DESCRIBE", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with serve_upstream(KINDS[0], silent.getsockname()[1], tmp_path) as up:
            assert up.fault("add", 2, 3) == (-32002, "no")
            assert time.monotonic() - start < 50, "it waits for as long as the upstream has"
