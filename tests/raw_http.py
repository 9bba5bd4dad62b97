"""Raw HTTP on raw sockets: bytes out, responses in, and nothing in between that could mend either."""

import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from msgspec import Struct


class Response(Struct, frozen=True, kw_only=True):
    """A response as it came; header names in lower case."""

    status: int
    version: str
    headers: dict[str, str]
    body: bytes


class Wire:
    """A connection to 127.0.0.1, in TLS if there is a context.

    It comes from there, or from another address of this machine; from ::1 it goes to ::1.
    """

    def __init__(
        self, port: int, timeout: float = 10, tls: ssl.SSLContext | None = None, source: str = "127.0.0.1"
    ) -> None:
        host = "::1" if ":" in source else "127.0.0.1"
        self.socket = socket.create_connection((host, port), timeout=timeout, source_address=(source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_slowly(self, pieces: Iterable[bytes], pause: float = 0) -> None:
        """Send pieces in segments of their own."""
        for piece in pieces:
            self.socket.sendall(piece)
            if pause:
                time.sleep(pause)

    def read(self, *, head: bool = False) -> Response | None:
        """Read the next response; None where the connection is closed instead."""
        while b"\r\n\r\n" not in self.received:
            if not self._more():
                return None
        start, _, self.received = self.received.partition(b"\r\n\r\n")
        status_line, *lines = start.decode("latin-1").split("\r\n")
        version, status = status_line.split(" ")[:2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = 0 if head or int(status) < 200 else int(headers.get("content-length", "0"))
        while len(self.received) < length:
            if not self._more():
                raise AssertionError(f"the connection was closed inside of a body: {self.received!r}")
        body, self.received = self.received[:length], self.received[length:]
        return Response(status=int(status), version=version, headers=headers, body=body)

    def is_closed(self) -> bool:
        """Tell whether nothing more comes, and wait for it a little."""
        self.socket.settimeout(5)
        try:
            return not self._more()
        except TimeoutError:
            return False

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return False
        self.received += data
        return bool(data)


def request(
    path: str, headers: Mapping[str, str] | Iterable[tuple[str, str]], body: bytes, method: str = "POST"
) -> bytes:
    """Make the bytes of a request, with Host and Content-Length."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in pairs)]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def exchange(port: int, data: bytes, *, head: bool = False) -> Response:
    """Send bytes on a new connection, and read the one response."""
    with Wire(port) as wire:
        wire.send(data)
        response = wire.read(head=head)
        assert response is not None, "closed without a response"
        return response


def post(port: int, body: bytes, content_type: str = "application/json", path: str = "/api") -> Response:
    """POST a body, and read the response."""
    return exchange(port, request(path, {"Content-Type": content_type}, body))
