"""What one client may take of a host: connections, and memory for answers that it does not read."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest

from gateway import Registry
from gateway.hosts.fairness import Crowd
from gateway.model.networks import client_of
from tests.conftest import Logged
from tests.raw_http import request
from tests.serving import Server, serving
from tests.upstreams.running import until

JSON = {"Content-Type": "application/json"}
registry = Registry()


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register(run="inline")
def large() -> str:
    return "x" * 8_000_000


def said(method: str, *params: int) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()


def over_http(server: Server, document: bytes, source: str = "127.0.0.9") -> socket.socket:
    return sent(server.port, request("/api", JSON, document), source)


def over_tcp(server: Server, document: bytes, source: str = "127.0.0.9") -> socket.socket:
    return sent(server.tcp_port, document + b"\n", source)


def sent(port: int, data: bytes, source: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
    client.sendall(data)
    return client


def first(client: socket.socket) -> bytes:
    """Return what comes first, nothing where the connection is closed."""
    try:
        return client.recv(4096)
    except ConnectionError:
        return b""


WAYS = pytest.mark.parametrize("way", [over_http, over_tcp])
Way = Callable[..., socket.socket]


@WAYS
def test_a_client_with_too_many_connections_gets_no_more(way: Way, logged: Logged) -> None:
    with (
        serving(registry, {"limits.client_connections": 3, "server.tcp": "127.0.0.1:0"}) as server,
        ExitStack() as opened,
    ):
        kept = [opened.enter_context(way(server, said("add", 1, 2))) for _ in range(3)]
        assert all(b"200 OK" in answer or b"result" in answer for answer in map(first, kept))
        with way(server, said("add", 1, 2)) as refused:
            assert first(refused) == b""
        for source in ("127.0.0.8", "127.0.0.1"):
            with way(server, said("add", 1, 2), source) as other:
                assert first(other)
        kept[0].close()
        until(lambda: answered(way, server))
        until(lambda: logged.lines)
    assert logged.take("connections closed because their clients have too many: ")


def answered(way: Way, server: Server) -> bool:
    with way(server, said("add", 1, 2)) as client:
        return bool(first(client))


@WAYS
def test_trusted_proxies_are_not_counted(way: Way) -> None:
    settings = {"limits.client_connections": 1, "server.tcp": "127.0.0.1:0", "access.trusted_proxies": "127.0.0.9"}
    with serving(registry, settings) as server, ExitStack() as opened:
        kept = [opened.enter_context(way(server, said("add", 1, 2))) for _ in range(3)]
        assert all(map(first, kept))


@WAYS
def test_answers_that_nobody_reads_are_bounded_over_all_connections(way: Way) -> None:
    """Both hosts have half of the budget. The slowest readers are closed, and new clients are answered."""
    settings = {"limits.unread": 64 * 2**20, "limits.write_timeout": 600, "server.tcp": "127.0.0.1:0"}
    with serving(registry, settings) as server, ExitStack() as opened:
        clients = [opened.enter_context(way(server, said("large"))) for _ in range(40)]
        with way(server, said("add", 1, 2)) as other:
            assert first(other)
        whole = sum(len(read_all(client)) >= 8_000_000 for client in clients)
        assert 1 <= whole <= 32 * 2**20 // 8_000_000 + 1  # though the kernel holds some of each


def read_all(client: socket.socket) -> bytes:
    """Read an answer of a little more than 8 MB, or what comes before the connection is closed."""
    data = bytearray()
    with suppress(ConnectionError):
        while len(data) < 8_000_000 and (more := client.recv(2**20)):
            data += more
    return bytes(data)


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_who_is_one_client(peer: str, client: str) -> None:
    assert client_of(peer) == client


def test_a_proxy_that_leaves_frees_no_place_of_its_network() -> None:
    crowd = Crowd(1, lambda peer: peer == "2001:db8::1")
    assert crowd.enter("2001:db8::2")
    assert crowd.enter("2001:db8::1")
    crowd.leave("2001:db8::1")
    assert not crowd.enter("2001:db8::3")
    crowd.leave("2001:db8::2")
    assert crowd.enter("2001:db8::3")


IN_BLOCKS_OF_THEIR_OWN = """
import ctypes
from gateway import Registry
from tests.raw_http import exchange, request
from tests.serving import serving

class Info(ctypes.Structure):
    _fields_ = [(str(number), ctypes.c_size_t) for number in range(10)]  # mallinfo2(3); the fifth: bytes mapped

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
with serving(Registry()) as server:
    assert exchange(server.port, request("/healthz", {}, b"", "GET")).status == 200
    blocks = [bytes(2**22) for _ in range(10)]
    del blocks  # from now on glibc would keep blocks of this size
    blocks = [bytes(2**22) for _ in range(10)]
    print(getattr(libc.mallinfo2(), "4") // 2**22)
"""


def test_large_blocks_go_back_to_the_system_when_they_are_freed() -> None:
    """Glibc maps a block by itself, or it takes it from a heap in which holes stay."""
    arguments = [sys.executable, "-c", IN_BLOCKS_OF_THEIR_OWN]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert int(ended.stdout) >= 10, ended.stderr
