"""Recordings of several workers: their files, a reload, a disk that is full, and the end."""

import signal
import stat
import subprocess
import sys
import xmlrpc.client
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway import Registry
from gateway.app import mounted
from gateway.client import Client
from gateway.config import load
from tests.cli.running import environment, serving
from tests.hosts.mounting import served, uvicorn_of
from tests.serving import children, eventually
from tests.telemetry.test_recording import entries

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

METHODS = '''
import os
import resource

from gateway import method


@method
def login(user: str, password: str) -> str:
    return f"{user}, {password}"


@method(run="inline")
def process() -> int:
    return os.getpid()


@method(run="inline")
def most(size: int) -> int:
    """Let no file of this process have more bytes, as if the disk were full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    return size
'''


def project(folder: Path, **options: str) -> Path:
    (folder / "conf").mkdir()
    (folder / "served.py").write_text(METHODS)
    write(folder, **options)
    return folder / "recordings"


def write(where: Path, **options: str) -> None:
    said = {"methods": '["*"]', "folder": '"recordings"'} | options
    lines = "\n".join(f"{name} = {value}" for name, value in said.items())
    (where / "conf" / "gateway.toml").write_text(
        f'[server]\nworkers = {"1" if options else "2"}\n[metrics]\nbind = ""\n[record]\n{lines}\n'
    )


def test_two_workers_mix_no_lines_and_lose_none_at_their_end(tmp_path: Path) -> None:
    folder = project(tmp_path)
    with serving(tmp_path, "served") as running:

        def call(number: int) -> Any:
            if number % 2:
                with Client(running.url) as client:
                    return client.login(f"user {number}", f"hunter{number}" * 300)
            with xmlrpc.client.ServerProxy(running.url) as proxy:
                return proxy.login(f"user {number}", f"hunter{number}" * 300)

        with ThreadPoolExecutor(8) as pool:
            assert len(list(pool.map(call, range(100)))) == 100
        workers = children(running.process.pid)
        ended = running.stop()
    assert ended.code == 0
    found = entries(folder)
    assert sorted(each.params[0] for each in found) == sorted(f"user {number}" for number in range(100))
    assert {each.protocol for each in found} == {"jsonrpc", "xmlrpc"}
    assert {each.redacted[0] for each in found} == {"params[1]"}
    assert b"hunter" not in b"".join(path.read_bytes() for path in folder.iterdir())
    assert {int(path.name.split("-")[1]) for path in folder.iterdir()} == workers
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_reload_changes_what_is_recorded(tmp_path: Path) -> None:
    folder = project(tmp_path, share="1")
    with serving(tmp_path, "served") as running, Client(running.url) as client:
        first = client.process()
        write(tmp_path, methods="[]")
        running.process.send_signal(signal.SIGHUP)
        running.until_logged("reloaded")
        eventually(lambda: client.process() != first, "the other worker serves")
        write(tmp_path, folder='"others"', methods='["login"]')
        running.process.send_signal(signal.SIGHUP)
        eventually(lambda: client.login("a", "b") and (tmp_path / "others").exists(), "it is recorded again")
        client.process()
        assert running.stop().code == 0
    assert {(each.method, each.result) for each in entries(folder)} == {("process", first)}
    assert {each.method for each in entries(tmp_path / "others")} == {"login"}


MOUNTED = """
import asyncio
import sys
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

from gateway.app import mounted
from gateway.client import Client
from gateway.config import load
from gateway.hosts.wsgi import WSGIHost

config = load(None, {}, ["record.methods=*", "record.folder=recordings"])
WSGIRequestHandler.log_message = lambda *_: None
server = make_server("127.0.0.1", 0, WSGIHost(mounted.endpoint("served", config=config)))
threading.Thread(target=server.serve_forever, daemon=True).start()
with Client(f"http://127.0.0.1:{server.server_port}/api") as client:
    client.login("ann", "hunter2")
"""


def test_a_process_of_a_wsgi_server_writes_what_waits_when_it_ends(tmp_path: Path) -> None:
    folder = project(tmp_path)
    command = [sys.executable, "-c", MOUNTED]
    ended = subprocess.run(command, cwd=tmp_path, env=environment({}), capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    (found,) = entries(folder)
    assert (found.method, found.params[0], found.redacted) == ("login", "ann", ["params[1]", "result"])


def test_an_asgi_application_writes_what_waits_when_it_shuts_down(tmp_path: Path) -> None:
    registry = Registry()
    registry.register(lambda: 1, name="one")
    config = load(None, {}, ["record.methods=*", f"record.folder={tmp_path / 'a'}"])
    application = uvicorn_of(mounted.asgi(registry, config=config), lifespan="on")
    with served(application) as running, Client(f"http://127.0.0.1:{running.port}/api") as client:
        assert client.one() == 1
    (found,) = entries(tmp_path / "a")
    assert found.result == 1


def test_a_full_disk_fails_no_call_and_leaves_no_half_of_a_line(tmp_path: Path) -> None:
    folder = project(tmp_path, share="1")
    with serving(tmp_path, "served") as running, Client(running.url) as client:
        client.process()
        eventually(lambda: folder.exists() and len(entries(folder)) == 1, "the first call is recorded")
        (file,) = folder.iterdir()
        client.most(file.stat().st_size + 20)
        for number in range(50):
            assert client.login(f"user {number}", "")
        running.until_logged("cannot be written: file too large; calls are dropped")
        assert [each.method for each in entries(folder)][:1] == ["process"]
        client.most(2**40)
        eventually(lambda: client.process() and entries(folder)[-1].method == "process", "calls are recorded again")
        ended = running.stop()
    assert ended.code == 0
    assert ended.err.count("cannot be written") == 1
    assert len(entries(folder)) < 60
