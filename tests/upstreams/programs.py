"""Servers to stand behind a gateway, each a process of its own: python -m tests.upstreams.programs KIND PORT.

All of them have the same methods, written for their own library as its users would, so that the same test bodies run
over all. JSON-RPC on lines is spoken over TLS, if CERT is set.
"""

import json
import os
import socketserver
import sqlite3
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xmlrpc.server import SimpleXMLRPCServer

PEOPLE = ((1, "Python", "Guido", "1991"), (2, "Python", "Monty", "1969"), (3, "Hopper", "Grace", "1959"))
stored: list[Any] = [None]


def add(a: Any, b: Any) -> Any:
    return a + b


def subtract(a: Any, b: Any) -> Any:
    return a - b


def multiply(a: Any, b: Any) -> Any:
    return a * b


def divide(a: Any, b: Any) -> Any:
    return a / b


def echo(value: Any) -> Any:
    return value


def pause(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def mark(path: str, seconds: float) -> int:
    """Write one line, so that a test sees how often this has run; take a while then."""
    with Path(path).open("a") as file:
        file.write("run\n")
    time.sleep(seconds)
    return len(Path(path).read_text().splitlines())


def get_object() -> Any:
    return stored[0]


def send_object(data: Any) -> bool:
    stored[0] = data
    return True


def search(number: str | None = None, last_name: str | None = None, first_name: str | None = None) -> list[Any]:
    """Find people by whatever is given, with parameters in the SQL."""
    wanted = {"number": number, "last_name": last_name, "first_name": first_name}
    given = {name: value for name, value in wanted.items() if value is not None}
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE people (id, last_name, first_name, number)")
        database.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", PEOPLE)
        where = " AND ".join(f"{name} = :{name}" for name in given) or "1"
        return [list(row) for row in database.execute(f"SELECT * FROM people WHERE {where} ORDER BY id", given)]  # noqa: S608


def flood(path: str) -> Iterator[str]:
    """Give large texts without waiting, and write down how many were taken, and that it has ended."""
    counted = Path(path)
    try:
        for number in range(400):
            counted.write_text(str(number))
            yield "x" * 100_000
    finally:
        counted.with_suffix(".ended").touch()


METHODS: dict[str, Callable[..., Any]] = {
    "add": add,
    "subtract": subtract,
    "multiply": multiply,
    "divide": divide,
    "echo": echo,
    "pause": pause,
    "mark": mark,
    "getObj": get_object,
    "sendObj": send_object,
    "search": search,
}


class _XMLServer(socketserver.ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True


class _TCPServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


class _Lines(socketserver.StreamRequestHandler):
    """JSON-RPC 2.0 over plain TCP, as short as in the articles: a line in, a line out, one after the other."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(answer(line) + b"\n")


class _Netstrings(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while length := b"".join(iter(lambda: self.rfile.read(1).rstrip(b":"), b"")):
            body = answer(self.rfile.read(int(length) + 1)[:-1])
            self.wfile.write(b"%d:%b," % (len(body), body))


def answer(request: bytes) -> bytes:
    call = json.loads(request)
    params = call.get("params", [])
    said: dict[str, Any] = {"jsonrpc": "2.0", "id": call["id"]}
    function = METHODS.get(call["method"])
    if function is None:
        return json.dumps(said | {"error": {"code": -32601, "message": "Method not found"}}).encode()
    try:
        said["result"] = function(**params) if isinstance(params, dict) else function(*params)
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told, as such servers do
        said["error"] = {"code": 1, "message": f"{type(error)}:{error}"}
    return json.dumps(said).encode()


def serve_xmlrpc(port: int) -> None:
    server = _XMLServer(("127.0.0.1", port), allow_none=True, logRequests=False, use_builtin_types=True)
    server.register_introspection_functions()
    for name, function in METHODS.items():
        server.register_function(function, name)
    server.serve_forever()


def serve_jsonrpc(port: int) -> None:
    from jsonrpclib.SimpleJSONRPCServer import (  # type: ignore[import-untyped] # not wherever the methods are
        SimpleJSONRPCServer,
    )

    class _JSONServer(socketserver.ThreadingMixIn, SimpleJSONRPCServer):  # type: ignore[misc]
        daemon_threads = True

    server = _JSONServer(("127.0.0.1", port), logRequests=False)
    server.register_introspection_functions()
    for name, function in METHODS.items():
        server.register_function(function, name)
    server.serve_forever()


def serve_lines(port: int) -> None:
    server = _TCPServer(("127.0.0.1", port), _Lines)
    if "CERT" in os.environ:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.environ["CERT"])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


def serve_netstrings(port: int) -> None:
    _TCPServer(("127.0.0.1", port), _Netstrings).serve_forever()


if __name__ == "__main__":
    kinds = {"xmlrpc": serve_xmlrpc, "jsonrpc": serve_jsonrpc, "lines": serve_lines, "netstrings": serve_netstrings}
    kinds[sys.argv[1]](int(sys.argv[2]))
