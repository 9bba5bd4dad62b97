"""One test for both clients: steps that are the same code, and what becomes of each of them."""

import asyncio
import inspect
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from gateway.client import AsyncClient, CallError, Client
from gateway.model.faults import Fault


class Ask(Protocol):
    """Makes a client, goes through steps with it, and returns the result or the exception of each."""

    def __call__(self, url: str, *steps: Callable[[Any], Any], **options: Any) -> list[Any]: ...


def blocking(url: str, *steps: Callable[[Any], Any], **options: Any) -> list[Any]:
    found: list[Any] = []
    with Client(url, **options) as client:
        for step in steps:
            try:
                found.append(step(client))
            except (CallError, Fault) as error:
                found.append(error)
    return found


def looping(url: str, *steps: Callable[[Any], Any], **options: Any) -> list[Any]:
    async def ask() -> list[Any]:
        found: list[Any] = []
        async with AsyncClient(url, **options) as client:
            for step in steps:
                try:
                    result = step(client)
                    found.append(await result if inspect.isawaitable(result) else result)
                except (CallError, Fault) as error:
                    found.append(error)
        return found

    return asyncio.run(ask())


both = pytest.mark.parametrize("ask", [blocking, looping])
protocols = pytest.mark.parametrize("protocol", ["jsonrpc", "xmlrpc"])


class Liar:
    """A server on a raw socket: for each connection it goes through the next list of steps, and keeps what it reads.

    A step is bytes to send after a request has been read, or a function of the connection.
    """

    def __init__(self, *connections: list[Any], tls: ssl.SSLContext | None = None) -> None:
        self._connections = list(connections)
        self._tls = tls
        self.requests: list[bytes] = []
        self.accepted = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def serve(self, listening: socket.socket) -> None:
        for steps in self._connections:
            try:
                accepted, _ = listening.accept()
            except OSError:  # the test is over
                return
            self.accepted += 1
            accepted.settimeout(20)
            if self._tls is not None:
                accepted = self._tls.wrap_socket(accepted, server_side=True)
            with accepted, suppress(OSError):  # the client has had enough
                self._talk(accepted, steps)

    def _talk(self, connection: socket.socket, steps: list[Any]) -> None:
        for step in steps:
            if callable(step):
                step(connection)
                continue
            self.requests.append(read_request(connection))
            connection.sendall(step)


def read_request(connection: socket.socket) -> bytes:
    """Read a request with a Content-Length, or a line."""
    received = b""
    while True:
        data = connection.recv(65536)
        received += data
        head, blank, body = received.partition(b"\r\n\r\n")
        if not data or (not received.startswith(b"POST") and received.endswith(b"\n")):
            return received
        if blank:
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(body) >= length:
                return received


@contextmanager
def lying(*connections: list[Any], path: Path | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Liar]:
    """Run a Liar for as many connections, on a port or a Unix socket."""
    liar = Liar(*connections, tls=tls)
    made = socket.create_server(("127.0.0.1", 0)) if path is None else socket.socket(socket.AF_UNIX)
    with made as listening:
        if path is None:
            liar.port = listening.getsockname()[1]
        else:
            listening.bind(str(path))
            listening.listen()
        thread = threading.Thread(target=liar.serve, args=(listening,))
        thread.start()
        try:
            yield liar
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(20)


def http(body: bytes, head: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Make a response."""
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, head, len(body), body)


def result(value: bytes, call_id: int = 1) -> bytes:
    """Make the response object of a result."""
    return b'{"jsonrpc":"2.0","result":%b,"id":%d}' % (value, call_id)
