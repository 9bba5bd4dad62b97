"""Where a gateway listens: Unix sockets, sockets that others have opened, and several addresses at once."""

import contextlib
import http.client
import os
import signal
import socket
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import gateway
from benchmarks.edge import nginx
from gateway import Config, Context, Registry, StartupError
from gateway.config import load
from gateway.config.monitoring import MetricsSection
from gateway.process.sockets import close, listen
from tests.cli.running import environment
from tests.deploy.nginx.edging import METHODS, ask, calling, result
from tests.process.fleets import call, fleet, write_handlers
from tests.raw_http import post
from tests.serving import eventually

CONFIG = Config(metrics=MetricsSection(bind=""))

registry = Registry()


@registry.register
def client(context: Context) -> str:
    return context.client


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gw.sock"


def post_unix(path: Path, method: str, *params: object, **headers: str) -> Any:
    """Call a method over a Unix socket; returns the result, or the fault."""
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
    with closing(http.client.HTTPConnection("localhost")) as connection:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(path))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", "/api", body, {"Content-Type": "application/json", **named})
        answer = msgspec.json.decode(connection.getresponse().read())
        return answer.get("result", answer.get("error"))


@pytest.fixture
def stale(path: Path) -> Path:
    """Make the file of a Unix socket on which nobody listens any more."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    return path


def test_a_unix_socket_has_a_mode_and_goes_with_the_server(path: Path) -> None:
    with gateway.running(registry, f"unix:{path}", config=CONFIG) as server:
        assert server.url == f"http+unix://{str(path).replace('/', '%2F')}/api"
        assert server.port == 0
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert post_unix(path, "client") == "127.0.0.1"
    assert not path.exists()


def test_the_other_end_of_a_unix_socket_is_this_machine(path: Path) -> None:
    config = load(None, {}, ["access.allow=192.0.2.1", "access.trusted_proxies=127.0.0.1", "metrics.bind="])
    with gateway.running(registry, f"unix:{path}", config=config):
        assert post_unix(path, "client")["message"] == "Denied"
        assert post_unix(path, "client", X_Forwarded_For="192.0.2.1") == "192.0.2.1"


def test_a_file_that_nobody_listens_on_is_replaced(stale: Path) -> None:
    with gateway.running(registry, f"unix:{stale}", config=CONFIG):
        assert post_unix(stale, "client") == "127.0.0.1"


def test_a_socket_that_somebody_listens_on_is_left_to_them(path: Path) -> None:
    with gateway.running(registry, f"unix:{path}", config=CONFIG):
        with pytest.raises(StartupError, match="address already in use"):
            listen(load(None, {}, [f"server.bind=unix:{path}"]), None)
        assert post_unix(path, "client") == "127.0.0.1"


def test_a_socket_whose_queue_is_full_is_left_to_its_process(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as clients:
        busy.bind(str(path))
        busy.listen(0)
        for _ in range(2):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(str(path))
        with pytest.raises(StartupError, match="address already in use"):
            listen(load(None, {}, [f"server.bind=unix:{path}"]), None)
        assert path.exists()


def test_a_file_that_is_not_a_socket_is_left_alone(path: Path) -> None:
    path.write_text("a letter")
    with pytest.raises(StartupError, match="which is not a socket"):
        listen(load(None, {}, [f"server.bind=unix:{path}"]), None)
    assert path.read_text() == "a letter"


def test_several_addresses_are_served_at_once(path: Path) -> None:
    with gateway.running(registry, ["127.0.0.1:0", f"unix:{path}", "127.0.0.2:0"], config=CONFIG) as server:
        assert [url.partition("://")[0] for url in (server.url, *server.other_urls)] == ["http", "http+unix", "http"]
        assert post_unix(path, "client") == "127.0.0.1"
        assert post(server.port, b'{"jsonrpc":"2.0","method":"client","id":1}').status == 200


def test_an_inherited_socket_is_taken_over_and_left_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        os.set_inheritable(opened.fileno(), True)
        with gateway.running(registry, f"fd:{opened.fileno()}", config=CONFIG) as server:
            assert server.port == opened.getsockname()[1]
            assert post(server.port, b'{"jsonrpc":"2.0","method":"client","id":1}').status == 200
            assert not os.get_inheritable(opened.fileno())
        with gateway.running(registry, f"fd:{opened.fileno()}", config=CONFIG) as server:
            assert post(server.port, b'{"jsonrpc":"2.0","method":"client","id":1}').status == 200


@pytest.mark.parametrize("kind", ["a file", "one that does not listen", "none"])
def test_a_number_that_is_not_that_of_a_listening_socket(kind: str) -> None:
    with Path(os.devnull).open() as file, socket.socket() as unused:
        number = file.fileno() if kind == "a file" else unused.fileno()
        if kind == "none":
            unused.close()
        with pytest.raises(StartupError, match=f"cannot listen on fd:{number}"):
            listen(load(None, {}, [f"server.bind=fd:{number}"]), None)


def test_without_systemd_nothing_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    with pytest.raises(
        StartupError,
        match=r"systemd has passed no socket to this process \(LISTEN_FDS\): it needs a socket unit; choose",
    ):
        listen(load(None, {}, ["server.bind=systemd"]), None)


@pytest.mark.processes
def test_sockets_of_systemd_and_the_command(path: Path, tmp_path: Path) -> None:
    write_handlers(tmp_path)
    gw = f"exec {sys.executable} -m gateway serve --bind systemd --bind unix:{path} --set metrics.bind="
    with socket.create_server(("127.0.0.1", 0)) as opened, (tmp_path / "log").open("wb") as log:
        number = opened.fileno()
        process = subprocess.Popen(
            ["/bin/bash", "-c", f"exec 3<&{number}; LISTEN_FDS=1 LISTEN_PID=$$ {gw}"],
            cwd=tmp_path,
            env=environment({}),
            pass_fds=[number],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        port = opened.getsockname()[1]
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert f"ready at http://127.0.0.1:{port}/api and http+unix://%2F" in ready, (tmp_path / "log").read_text()
        assert call(port, "version") == post_unix(path, "version") == 1
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert not path.exists()


@pytest.mark.processes
def test_the_command_shows_how_to_call_a_unix_socket(path: Path, tmp_path: Path) -> None:
    write_handlers(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "--bind", f"unix:{path}", "--set", "metrics.bind="],
        cwd=tmp_path,
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        shown = [process.stdout.readline() for _ in range(4)]
        assert "python3" not in "".join(shown)
        for example in shown[1:3]:
            run = subprocess.run(["/bin/bash", "-c", example], capture_output=True, text=True, timeout=30, check=True)
            assert "version" in run.stdout
        process.terminate()
        process.communicate(timeout=30)


def test_a_reload_keeps_addresses_opens_new_ones_and_lets_old_ones_go(path: Path, tmp_path: Path) -> None:
    write_handlers(tmp_path)
    other = tmp_path / "other.sock"
    conf = tmp_path / "conf" / "gateway.toml"
    conf.parent.mkdir()
    conf.write_text(f'[server]\nbind = ["127.0.0.1:0", "unix:{path}"]\n')
    with fleet(tmp_path, workers=1, bind="") as running:
        before = path.stat().st_ino
        conf.write_text(f'[server]\nbind = ["127.0.0.1:0", "unix:{path}", "unix:{other}"]\nunix_mode = "600"\n')
        running.signal(signal.SIGHUP)
        eventually(lambda: "reloaded" in running.log, "it is not reloaded")
        assert call(running.port, "version") == post_unix(path, "version") == post_unix(other, "version") == 1
        assert path.stat().st_ino == before
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        conf.write_text(f'[server]\nbind = ["127.0.0.1:0", "unix:{other}"]\n')
        running.signal(signal.SIGHUP)
        eventually(lambda: running.log.count("reloaded;") == 2, "it is not reloaded")
        assert post_unix(other, "version") == 1
        eventually(lambda: is_refused(path), "the address is still open")
        running.signal(signal.SIGTERM)
        assert running.end() == 0
    assert not path.exists()
    assert not other.exists()


def is_refused(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as tried:
        return tried.connect_ex(str(path)) != 0


FORKING = """
import os
import time
from gateway import method

@method
def live_on() -> int:
    child = os.fork()
    if not child:
        time.sleep(600)
    return child
"""


def test_a_process_that_a_method_forks_keeps_no_unix_socket_open(path: Path, tmp_path: Path) -> None:
    write_handlers(tmp_path, FORKING)
    with fleet(tmp_path, workers=1, bind=f"127.0.0.1:0,unix:{path}") as running:
        child = post_unix(path, "live_on")
        try:
            running.signal(signal.SIGTERM)
            assert running.end() == 0
            assert is_refused(path)
        finally:
            os.kill(child, signal.SIGKILL)


def test_sockets_are_closed_where_a_later_address_cannot_be_bound(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"server.bind=unix:{path},127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartupError, match="address already in use"):
            listen(load(None, {}, [bind]), None)
    assert is_refused(path)


def test_nginx_reaches_a_gateway_by_its_unix_socket(path: Path, tmp_path: Path) -> None:
    path.parent.chmod(0o755)
    settings = [f"server.bind=127.0.0.1:0,unix:{path}", "access.trusted_proxies=127.0.0.1", "nginx.rate=0"]
    config = load(None, {}, [*settings, "server.unix_mode=666", "metrics.bind="])
    folder = tmp_path / "edge"
    folder.mkdir()
    with gateway.running(registry, None, config=config), nginx(folder, settings, METHODS) as edge:
        assert "server unix:/" in (edge.folder / "nginx.conf").read_text()
        assert result(ask(edge, calling("client"))) == "127.0.0.1"


def test_listeners_can_be_closed_twice(path: Path) -> None:
    listeners = listen(load(None, {}, [f"server.bind=unix:{path}"]), None)
    close(listeners)
    close(listeners)
    assert not path.exists()
