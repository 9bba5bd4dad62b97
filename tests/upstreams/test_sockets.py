"""Unix sockets in the place of host and port, for every protocol; and probes of connections over TCP."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gateway import ConfigError, Registry
from gateway.app import build
from gateway.config import load
from gateway.upstreams.transport.addresses import connect, resolve
from tests.conftest import Logged
from tests.serving import serving
from tests.upstreams.kinds import KINDS, TYPED, Kind
from tests.upstreams.running import Program, Served
from tests.upstreams.transport.test_http import said, server


@contextmanager
def relayed(path: Path, port: int) -> Iterator[None]:
    """Listen on a Unix socket, and pass on what comes there."""

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def relay(near: socket.socket) -> None:
        with suppress(OSError), near, socket.create_connection(("127.0.0.1", port)) as far:
            back = threading.Thread(target=copy, args=(far, near), daemon=True)
            back.start()
            copy(near, far)
            back.join()

    def accept(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                relays.append(threading.Thread(target=relay, args=(listening.accept()[0],), daemon=True))
                relays[-1].start()

    relays: list[threading.Thread] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for each in relays:
                each.join(10)


def at(kind: Kind, path: Path) -> str:
    """Write the URL of a kind with a Unix socket; what comes after the port stays."""
    scheme, _, rest = kind.url.partition("://")
    behind = rest.partition("{port}")[2].removeprefix("/")
    return f"{scheme}://unix:{path}" + (f":/{behind}" if scheme.endswith("http") else "")


@pytest.mark.parametrize("kind", [*KINDS, *TYPED], ids=lambda kind: kind.name)
def test_every_protocol_goes_over_a_unix_socket(kind: Kind, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[upstreams.up]\nurl = '{at(kind, tmp_path / 'up.sock')}'\n{kind.options}\n{kind.named}\n")
    with (
        Program(kind) as program,
        relayed(tmp_path / "up.sock", program.port),
        serving(Registry(), None, file) as front,
    ):
        assert Served(front).call("add", 1, 2) == 3


def test_what_http_sends_there(tmp_path: Path) -> None:
    heads: list[bytes] = []

    def answer(request: bytes, connection: socket.socket) -> None:
        heads.append(request)
        connection.sendall(said(3))

    file = tmp_path / "gateway.toml"
    for behind, target in (("", "/"), (":/RPC2", "/RPC2"), (":/a%20b?key=c:d", "/a%20b?key=c:d")):
        file.write_text(f"[upstreams.up]\nurl = 'xmlrpc+http://unix:{tmp_path}/s{behind}'\nmethods = ['add']\n")
        (tmp_path / "s").unlink(missing_ok=True)
        with server(answer) as port, relayed(tmp_path / "s", port), serving(Registry(), None, file) as front:
            assert Served(front).call("add", 1, 2) == 3
            assert heads[-1].startswith(f"POST {target} HTTP/1.1\r\nHost: localhost\r\n".encode())


def test_a_socket_is_an_instance_like_others(tmp_path: Path, logged: Logged) -> None:
    file = tmp_path / "gateway.toml"
    with server(lambda _, connection: connection.sendall(said(3))) as port, relayed(tmp_path / "s", port):
        urls = [f"xmlrpc+http://unix:{tmp_path}/gone:/RPC2", f"xmlrpc+http://unix:{tmp_path}/s:/RPC2"]
        file.write_text(f"[upstreams.up]\nurl = {urls}\nmethods = ['add']\nbalance = 'round-robin'\n")
        with serving(Registry(), None, file) as front:
            served = Served(front)
            assert [served.call("add", 1, 2) for _ in range(4)] == [3] * 4
    assert logged.take(f"unix:{tmp_path}/gone is out of service: no such file or directory")


WRONG = {
    "'jsonrpc+tcp://unix:/a/'": "the url has no path of a socket; write it as scheme://unix:/path",
    "'jsonrpc+tcp://unix:/'": "the url has no path of a socket; write it as scheme://unix:/path",
    "'jsonrpc+tcp://unix:/a:/b'": "the url must be jsonrpc+tcp://unix:/a, with nothing after it",
    f"'jsonrpc+tcp://unix:/{'a' * 107}'": "the path of a Unix socket has at most 107 bytes",
    "['xmlrpc+http://unix:/a:/b', 'xmlrpc+http://c:1/d']": "the urls differ in more than host and port",
    "['jsonrpc+tcp://unix:/a', 'jsonrpc+tcp://unix:/a']": "unix:/a is in the list of urls twice",
}


@pytest.mark.parametrize("url", WRONG)
def test_what_is_wrong_with_a_socket_is_told(url: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[upstreams.up]\nurl = {url}\n")
    with pytest.raises(ConfigError) as error:
        build(load(file, {}, []), Registry())
    assert WRONG[url] in error.value.problems[0]


def test_connections_are_probed() -> None:
    async def options() -> list[int]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            connected = await connect(await resolve(*listening.getsockname()))
            with connected:
                return [
                    connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                    connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
                    connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
                ]

    assert asyncio.run(options()) == [1, 60, 15, 4]
