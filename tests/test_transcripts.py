"""The transcripts: what goes over the wire and what comes back, byte for byte.

``// `` begins a comment, ``--> `` the body of a request, ``<-- `` the body of its response. A body that begins with
``<`` is XML-RPC. All exchanges of a file use one connection.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import Fault, Registry
from tests.raw_http import Wire, request
from tests.serving import Server, serving

FILES = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
registry = Registry()


@registry.register
def subtract(minuend: int, subtrahend: int) -> int:
    """Take one integer from another."""
    return minuend - subtrahend


@registry.register(name="sum")
def total(*numbers: int) -> int:
    return sum(numbers)


@registry.register
def get_data() -> list[Any]:
    return ["hello", 5]


@registry.register
def echo(value: Any) -> Any:
    return value


@registry.register
def out_of_stock(item: str) -> None:
    raise Fault(1001, f"no {item} left", {"item": item})


@registry.register(aliases=["notify_hello", "notify_sum"])
def update(*values: Any) -> None:
    del values


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, {"limits.max_batch": 5}) as running:
        yield running


def exchanges(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the exchanges of a transcript: the line, the request and the response."""
    sent = None
    for number, line in enumerate(text.split("\n"), 1):
        mark, _, body = line.partition(" ")
        assert mark in ("", "//", "-->", "<--"), f"line {number}: {line}"
        if mark == "<--":
            assert sent is not None, f"line {number} answers nothing"
            yield number - 1, sent, body
        assert mark == "<--" or sent is None, f"line {number - 1} has no answer"
        sent = body if mark == "-->" else None
    assert sent is None, "the last request has no answer"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path, server: Server) -> None:
    with Wire(server.port) as wire:
        for number, sent, expected in exchanges(path.read_text("utf-8")):
            content_type = "text/xml" if sent.startswith("<") else "application/json"
            wire.send(request("/api", {"Content-Type": content_type}, sent.encode()))
            response = wire.read()
            assert response is not None, f"{path.name}:{number}: the connection was closed"
            assert (response.status, response.body.decode()) == (200, expected), f"{path.name}:{number}: {sent}"
