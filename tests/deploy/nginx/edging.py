"""What the tests of nginx share: how they ask, what a refusal is held against, and servers in a gateway's place."""

import json
import shutil
import socket
import subprocess
import threading
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from benchmarks.edge import Edge
from gateway.config import load
from gateway.deploy.nginx import render
from tests.raw_http import Response, Wire, request
from tests.serving import eventually

METHODS = ["tests.deploy.nginx.edge_methods:registry"]
FREE = ["nginx.rate=0", "nginx.connections=0"]
ADD = {
    "text/xml": b"<methodCall><methodName>add</methodName><params><param><value><int>2</int></value></param>"
    b"<param><value><int>3</int></value></param></params></methodCall>",
    "application/json": b'{"jsonrpc":"2.0","method":"add","params":[2,3],"id":1}',
}
KINDS = {  # how a Content-Type may be written: the Content-Type of the fault
    "text/xml": "text/xml; charset=utf-8",
    "text/xml; charset=iso-8859-1": "text/xml; charset=utf-8",
    "application/xml;charset=utf-8": "text/xml; charset=utf-8",
    "application/json": "application/json",
    "application/json; charset=utf-8": "application/json",
    "application/json-rpc": "application/json",
    "application/jsonrequest": "application/json",
    "application/x-www-form-urlencoded": "text/plain; charset=utf-8",
    "text/html?x=/../text/xml": "text/plain; charset=utf-8",
}


def ask(running: Edge, data: bytes, *, head: bool = False) -> Response:
    with Wire(running.port, tls=running.client()) as wire:
        wire.send(data)
        response = wire.read(head=head)
        assert response is not None, "closed without a response"
        return response


def calling(method: str, *params: Any, headers: dict[str, str] | None = None) -> bytes:
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
    return request("/api", {"Content-Type": "application/json", **(headers or {})}, body)


def result(response: Response) -> Any:
    assert response.status == 200, response
    return msgspec.json.decode(response.body)["result"]


def curl_2(running: Edge, kind: str, body: bytes, folder: Path, *options: str) -> str:
    """POST over HTTP/2; returns head, body, and the version of HTTP that came about."""
    (folder / "body").write_bytes(body)
    told = ["-D", "-", "-w", " version=%{http_version}", "-H", f"Content-Type: {kind}", "-H", "Expect:", *options]
    command = [str(shutil.which("curl")), "-sS", "--http2", "--cacert", str(running.certificate), *told]
    command += ["--data-binary", f"@{folder / 'body'}", running.url]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


def check_refusal(response: Response, status: int, code: int, kind: str) -> None:
    """Hold a refusal of nginx's against what the gateway itself would send."""
    assert response.status == status
    assert response.headers["content-type"] == KINDS[kind]
    assert "transfer-encoding" not in response.headers
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-request-id"]
    assert ("retry-after" in response.headers) == (status in (429, 503))
    assert b"<html" not in response.body
    assert response.headers["server"] == "nginx"
    if KINDS[kind].startswith("text/xml"):
        with pytest.raises(xmlrpc.client.Fault) as raised:
            xmlrpc.client.loads(response.body)
        assert raised.value.faultCode == code
    elif KINDS[kind] == "application/json":
        answer = msgspec.json.decode(response.body)
        assert (answer["error"]["code"], answer["id"]) == (code, None)
    else:
        assert response.body.endswith(b"\n")


def logged_lines(running: Edge, count: int) -> list[dict[str, Any]]:
    """Wait for so many lines in the access log, and read them."""
    log = running.folder / "access.log"
    eventually(lambda: log.read_text().count("\n") >= count, "the access log has too few lines")
    return [json.loads(line) for line in log.read_text().splitlines()]


class Upstream:
    """A server in the place of a gateway, which keeps what it is sent and does as it is told with the last of it."""

    def __init__(self, answer: Callable[[socket.socket, list[bytes]], None], port: int = 0) -> None:
        self.requests: list[bytes] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", port))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            received = b""
            while data := connection.recv(65536):
                received += data
                head, end, body = received.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                if end and len(body) >= length:
                    self.requests.append(received)
                    received = b""
                    self._answer(connection, self.requests)


def answer_five(connection: socket.socket, _: list[bytes]) -> None:
    body = b'{"jsonrpc":"2.0","result":5,"id":1}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    connection.sendall(head % len(body) + body)


def hang_up(connection: socket.socket, _: list[bytes]) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def rendered(*settings: str, longest: float = 30.0) -> str:
    return render(load(None, {}, settings), longest)


def children(pid: int) -> list[int]:
    """Return the processes that one has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
