"""`gateway serve` as people run it: what it says, what it refuses, and how it ends."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import msgspec
import pytest

from gateway.cli.serving import _ready
from gateway.config import load
from gateway.process.sockets import URLs
from tests.cli.running import fill, run, serving, start
from tests.raw_http import Wire

pytestmark = pytest.mark.unmeasured


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return fill(tmp_path)


def test_the_start_tells_where_agents_are() -> None:
    config = load(None, {}, ["mcp.expose=*", "server.paths=/calls"])
    told = _ready(URLs(calls="http://127.0.0.1:8000/calls", metrics=None, tcp=None), 1, config)
    assert told.splitlines()[-1] == "gateway: agents (MCP) at http://127.0.0.1:8000/mcp"


def test_the_ready_line_tells_the_url_and_three_calls_that_work(project: Path) -> None:
    with serving(project) as server:
        assert server.ready[0] == f"gateway: ready at {server.url} (9 methods). To call it:\n"
        assert server.url == f"http://127.0.0.1:{server.port}/api"
        kinds = ("python3 -c", "curl -H 'Content-Type: text/xml'", "curl -H 'Content-Type: application/json'")
        for line, kind in zip(server.ready[1:], kinds, strict=True):
            assert line.startswith(f"  {kind} ")
            pasted = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=30, check=True)
            assert "system.listMethods" in pasted.stdout
            assert "add" in pasted.stdout
            assert "fault" not in pasted.stdout
            assert "error" not in pasted.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(number: int, project: Path) -> None:
    with serving(project) as running:
        ended = running.stop(number)
    assert (ended.code, ended.out) == (0, "")
    assert "Traceback" not in ended.err


def test_a_running_call_is_answered_after_the_signal_and_new_callers_are_not_let_in(project: Path) -> None:
    os.mkfifo(project / "go")
    with serving(project) as running, Wire(running.port) as wire:
        start(wire, "hold", project)
        running.process.send_signal(signal.SIGTERM)
        running.until_logged("stopping; running calls: 1")
        with pytest.raises(ConnectionRefusedError):
            Wire(running.port)
        (project / "go").write_text("held")
        response = wire.read()
        assert response is not None
        assert msgspec.json.decode(response.body)["result"] == "held"
        assert running.end().code == 0


@pytest.mark.parametrize("method", ["hold", "forever"])
def test_a_call_that_does_not_end_holds_it_up_no_longer_than_it_is_given(method: str, project: Path) -> None:
    os.mkfifo(project / "go")
    with serving(project, "--set", "server.drain=0.05") as running, Wire(running.port) as wire:
        start(wire, method, project)
        assert running.stop().code == 0
        assert wire.read() is None


def test_a_second_signal_ends_it_at_once(project: Path) -> None:
    with serving(project) as running, Wire(running.port) as wire:
        start(wire, "forever", project)
        running.process.send_signal(signal.SIGTERM)
        running.until_logged("stopping; running calls: 1")
        assert running.stop().code == -signal.SIGTERM


def test_a_port_in_use_is_told_in_one_line(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run(project, "serve", "--bind", address)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        f"gateway: cannot listen on {address}: address already in use; choose another address with --bind HOST:PORT"
    ]


BINDS = {
    "127.0.0.1:99999": "command line: server.bind: expected host:port, like 127.0.0.1:8000, with a port from 0, which"
    " takes a free one, to 65535, not '127.0.0.1:99999'",
    "192.0.2.1:0": "cannot listen on 192.0.2.1:0: cannot assign requested address; choose another address with --bind"
    " HOST:PORT",
    "a..b:0": "cannot listen on a..b:0: ",
}


@pytest.mark.parametrize(("bind", "problem"), BINDS.items())
def test_an_address_that_cannot_be_bound_is_told_in_one_line(bind: str, problem: str, project: Path) -> None:
    ended = run(project, "serve", "--bind", bind)
    assert (ended.code, ended.out) == (1, "")
    (line,) = [line for line in ended.err.splitlines() if " info " not in line]
    assert line.startswith(f"gateway: {problem}")


def test_serve_tells_what_is_wrong_with_the_configuration_before_it_imports_anything(project: Path) -> None:
    (project / "handlers" / "loud.py").write_text("print('imported')")
    refused = run(project, "serve", "--set", "limits.timeout=0", "--set", "limits.calls=0")
    assert (refused.code, refused.out, len(refused.err.splitlines())) == (1, "", 2)
