"""Memory of a server for each connection that is idle, and for each call that waits on one.

A server is started for each measurement. The calls of a few connections come first, so that what a server makes once is
there. Memory is the proportional set size of its processes (benchmarks/concurrency/processes.py).
"""

import socket
import time
from contextlib import ExitStack

from msgspec import Struct

from benchmarks.concurrency.processes import used
from benchmarks.running import serving
from benchmarks.speed.cases import Case, request
from benchmarks.speed.servers import XML, Server

_FEW = 4
_SETTLED = 0.5  # seconds until all calls that were sent have begun
KINDS = {"sleepAsync": 1000, "sleepThread": 500}  # what waits, and how many of them
SERVERS = ("gateway", "go", "standard-library")


class Memory(Struct, frozen=True, kw_only=True):
    """KiB of a server, for one idle connection, and for one call that waits on such a connection."""

    server: str
    method: str
    idle: float
    waiting: float


def measured(server: Server, method: str) -> Memory:
    """Open connections, and let a call wait on each."""
    number = KINDS[method]
    path = server.paths[XML]
    with serving(server.command, server.cores, server.environment) as running, ExitStack() as stack:
        _opened(running.port, _FEW, _sleep(path, method, 0), stack)
        start = used(running.pid)
        connections = _opened(running.port, number, request(Case(group="memory", protocol=XML), path), stack)
        idle = used(running.pid)
        for connection in connections:
            connection.sendall(_sleep(path, method, 20))
        time.sleep(_SETTLED + number / 1000)
        waiting = used(running.pid)
    per_kib = 1024 * number
    return Memory(server=server.key, method=method, idle=(idle - start) / per_kib, waiting=(waiting - idle) / per_kib)


def _opened(port: int, number: int, first: bytes, stack: ExitStack) -> list[socket.socket]:
    """Open so many connections, make a call on each, one after the other, and keep them open."""
    made = []
    for _ in range(number):
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        connection.sendall(first)
        if b"200 OK" not in connection.recv(65536):
            raise RuntimeError("a call is not answered")
        made.append(connection)
    return made


def _sleep(path: str, method: str, seconds: int) -> bytes:
    asked = request(Case(group="memory", protocol=XML, method=method), path)
    head, _, _ = asked.partition(b"Content-Length")
    body = (
        f"<?xml version='1.0'?><methodCall><methodName>{method}</methodName><params><param><value><int>{seconds}</int>"
        "</value></param></params></methodCall>"
    ).encode()
    return head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
