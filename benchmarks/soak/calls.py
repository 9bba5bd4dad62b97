"""What callers do to a gateway: every kind of call, and every way of going wrong; and the methods that they call."""

import http.client
import os
import socket
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

METHODS = """
import asyncio
import time

from gateway import Fault, method


@method(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@method
def block(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@method
async def wait(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@method
def refuse() -> None:
    raise Fault(7, "no")


@method
def crash() -> None:
    raise ValueError("as it is meant to")


@method
def large(size: int) -> list[str]:
    return ["x" * 1000] * (size // 1000)


@method(timeout=0.05)
def late() -> None:
    time.sleep(1)
"""


class Served(NamedTuple):
    """A gateway that runs: its supervisor's process id, its ports, and its folder."""

    process: int
    port: int
    tcp: int
    folder: Path


def _post(served: Served, body: bytes, content_type: str = "application/json") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    try:
        connection.request("POST", "/api", body, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _request(method: str, *params: Any) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})


def _answer(served: Served, method: str, *params: Any) -> Any:
    """Call by JSON-RPC; return the result, or the code of the fault."""
    status, body = _post(served, _request(method, *params))
    _expect(status == 200, status)
    answer = msgspec.json.decode(body)
    return answer["result"] if "result" in answer else answer["error"]["code"]


def _expect(condition: object, found: object) -> None:
    if not condition:
        raise RuntimeError(f"a wrong answer: {found!r:.200}")


def _json(served: Served) -> None:
    for method, params, expected in (
        ("add", (2, 3), 5),
        ("block", (0.01,), "done"),
        ("wait", (0.01,), "done"),
        ("refuse", (), 7),
        ("crash", (), -32603),
        ("nothing", (), -32601),
        ("add", ("a", 1), -32602),
    ):
        found = _answer(served, method, *params)
        _expect(found == expected, (method, found))
    found = _answer(served, "late")
    _expect(found in {-32001, None}, ("late", found))  # a result that is there when its time is up is no error


def _xml(served: Served) -> None:
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{served.port}/api") as server:
        _expect(server.add(2, 3) == 5, "add")
        calls = xmlrpc.client.MultiCall(server)
        calls.add(1, 2)
        calls.block(0.01)
        found: Any = calls()
        _expect(tuple(found) == (3, "done"), "multicall")
        try:
            server.refuse()
        except xmlrpc.client.Fault as fault:
            _expect(fault.faultCode == 7, fault)


def _batch(served: Served) -> None:
    calls = [{"jsonrpc": "2.0", "method": "add", "params": [number, 1], "id": number} for number in range(20)]
    _, body = _post(served, msgspec.json.encode(calls))
    _expect([answer["result"] for answer in msgspec.json.decode(body)] == list(range(1, 21)), body)


def _garbage(served: Served) -> None:
    for body, content_type, status in (
        (b"{", "application/json", 200),
        (b"<a>", "text/xml", 200),
        (os.urandom(200), "text/xml", 200),
        (b"x" * (2**20 + 1), "text/xml", 413),
        (b"x", "image/png", 415),
    ):
        found, _ = _post(served, body, content_type)
        _expect(found == status, found)


def _large(served: Served) -> None:
    found = _answer(served, "large", 1_000_000)
    _expect(len(found) == 1000, "large")
    _expect(_answer(served, "large", 20_000_000) == -32007, "too large")


def _tcp(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.tcp), timeout=20) as line, line.makefile("rb") as answers:
        for number in range(10):
            try:
                line.sendall(_request("add", number, 1) + b"\n")
                received = answers.readline()
            except ConnectionError:
                received = b""
            if not received:  # a reload closes a connection between two calls
                return
            _expect(msgspec.json.decode(received)["result"] == number + 1, received)


def _upstream(served: Served) -> None:
    found = _answer(served, "far.echo", "text")
    _expect(found == "text" or found in (-32002, -32001), found)


def _hang_up(served: Served) -> None:
    head = b"POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    whole = _request("wait", 5)
    unread = _request("large", 3_000_000)
    for data in (head, head + b"500\r\n\r\n{", head + b"%d\r\n\r\n" % len(whole) + whole, head[:20]):
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
            connection.sendall(data)
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(head + b"%d\r\n\r\n" % len(unread) + unread)
        connection.recv(1)
    with socket.create_connection(("127.0.0.1", served.tcp), timeout=20) as line:
        line.sendall(whole + b"\n")


KINDS: dict[str, Callable[[Served], None]] = {
    "JSON-RPC": _json,
    "XML-RPC": _xml,
    "batches": _batch,
    "garbage": _garbage,
    "large results": _large,
    "plain TCP": _tcp,
    "upstream": _upstream,
    "hang-ups": _hang_up,
}
