"""Transcripts of agents, played to a server: tests/corpus/mcp.jsonl and mcp_rules.jsonl.

A step is a request, and what is expected of its response: the status, and members that the body must have; what else it
has is not looked at. Items of an array are compared in order, and there are as many.
"""

import json
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.raw_http import Response, Wire, request

CORPUS = Path(__file__).parents[1] / "corpus"


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CORPUS / name).read_text("utf-8").splitlines()]


TRANSCRIPTS = lines("mcp.jsonl")
RULES = lines("mcp_rules.jsonl")


def sent(step: dict[str, Any], path: str = "/mcp") -> bytes:
    """Make the bytes of a step's request."""
    body = step["raw"].encode() if "raw" in step else json.dumps(step["body"]).encode() if "body" in step else b""
    return request(step.get("path", path), step["headers"], body, step.get("verb", "POST"))


def problem(step: dict[str, Any], response: Response) -> str | None:
    """Tell what is wrong with a response; None for nothing."""
    if response.status != step["status"]:
        return f"status {response.status}: {response.body!r}"
    if response.status == 405 and response.headers.get("allow") != "POST":
        return "no Allow"
    if response.status in (202, 405) and response.body:
        return f"a body: {response.body!r}"
    if "expect" not in step:
        return None
    if response.headers["content-type"] != "application/json":
        return response.headers["content-type"]
    said = json.loads(response.body)
    return None if has(said, step["expect"]) else response.body.decode()


def has(said: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return isinstance(said, dict) and all(name in said and has(said[name], each) for name, each in expected.items())
    if isinstance(expected, list):
        return isinstance(said, list) and len(said) == len(expected) and all(map(has, said, expected))
    return type(said) is type(expected) and bool(said == expected)


def problems(
    steps: list[dict[str, Any]],
    port: int,
    skipped: frozenset[int] = frozenset(),
    tls: Callable[[], ssl.SSLContext | None] = lambda: None,
) -> list[str]:
    """Play steps on one connection, as long as it lasts; the status of those that are skipped is another server's."""
    found: list[str] = []
    with ExitStack() as wires:
        wire: Wire | None = None
        for step in steps:
            if step["status"] in skipped and "path" in step:
                continue
            response = answered(wire, sent(step)) if wire is not None else None
            if response is None:
                wires.close()
                wire = wires.enter_context(Wire(port, 20, tls()))
                response = answered(wire, sent(step))
            assert response is not None, step
            said = problem(step, response)
            if said is not None:
                found.append(f"{step.get('case') or step.get('body')}: {said}")
            wire = None if response.headers.get("connection") == "close" else wire
    return found


def answered(wire: Wire, data: bytes) -> Response | None:
    """Send a request, and read its response; None where the connection has ended."""
    try:
        wire.send(data)
        return wire.read()
    except OSError:
        return None


def play(
    port: int, skipped: frozenset[int] = frozenset(), tls: Callable[[], ssl.SSLContext | None] = lambda: None
) -> list[str]:
    """Play everything."""
    steps = [step for each in TRANSCRIPTS for step in each["steps"]] + RULES
    return problems(steps, port, skipped, tls)
