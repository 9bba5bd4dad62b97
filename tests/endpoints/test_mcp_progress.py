"""Tools that stream: progress and the result as events of one response, for agents that ask for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway import Fault, Registry
from gateway.endpoints import events
from tests.conftest import Logged
from tests.endpoints.test_events import Caller, event
from tests.scraping import until
from tests.serving import Server, eventually, serving

SETTINGS = {"mcp.expose": "*", "limits.timeout": 1, "limits.max_reply": 4096}
registry = Registry()
log: list[str] = []


@registry.register
async def ticks(to: int, text: str = "tick") -> AsyncIterator[Any]:
    try:
        for number in range(to):
            yield text if number else {"first": text}
    finally:
        log.append("ends")


@registry.register
async def fails(how: str) -> AsyncIterator[Any]:
    yield 1
    yield {"fault": 2, "value": float("nan"), "crash": 2}[how]
    if how == "crash":
        raise KeyError(how)
    raise Fault(7, "no more", {"left": 0})


@registry.register
async def slow(pause: float) -> AsyncIterator[int]:
    try:
        yield 1
        await asyncio.sleep(pause)
        yield 2
    finally:
        log.append("ends")


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    log.append("add")
    return a + b


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, SETTINGS) as found:
        yield found


@pytest.fixture(autouse=True)
def fresh() -> None:
    log.clear()


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def called(name: str, token: Any = "t", **arguments: Any) -> dict[str, Any]:  # noqa: S107 - it is no secret
    meta = {} if token is None else {"_meta": {"progressToken": token}}
    params = {"name": name, "arguments": arguments, **meta}
    return {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": params}


def told(caller: Caller, body: Any, **headers: str) -> tuple[list[Any], Any]:
    """Call, and read the progress and the result."""
    response, progress = caller.ask(body, "/mcp", **headers), []
    assert response.headers["Content-Type"] == "text/event-stream"
    while "method" in (said := event(response)):
        assert said["method"] == "notifications/progress"
        progress.append(said["params"])
    assert said["id"] == 3
    assert event(response) is None
    return progress, said["result"]


def test_each_value_is_progress_and_the_result_is_what_it_always_is(server: Server) -> None:
    with Caller(server.port) as caller:
        for token in ("t", 7):
            progress, result = told(caller, called("ticks", token, to=3))
            assert progress == [
                {"progressToken": token, "progress": 1, "message": '{"first":"tick"}'},
                {"progressToken": token, "progress": 2, "message": "tick"},
                {"progressToken": token, "progress": 3, "message": "tick"},
            ]
            assert result == json.loads(caller.ask(called("ticks", None, to=3), "/mcp").read())["result"]
            assert result == {"content": [{"type": "text", "text": '[{"first":"tick"},"tick","tick"]'}]}
        assert told(caller, called("ticks", to=0)) == ([], {"content": [{"type": "text", "text": "[]"}]})
        assert told(caller, called("ticks", to=2, text="x" * 1200))[0][1]["message"] == "x" * 997 + "..."
        body = called("ticks", to=1)
        body["params"]["_meta"] |= META
        modern = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "ticks"}
        progress, result = told(caller, body, **modern)
        assert len(progress) == 1
        assert result["resultType"] == "complete"
        assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "callgate"


@pytest.mark.parametrize(
    ("how", "text", "count"),
    [("fault", 'no more {"left":0} (code 7)', 2), ("value", "cannot be encoded", 1), ("crash", "Internal error", 2)],
)
def test_a_stream_that_fails_is_an_error_for_the_model(
    server: Server, how: str, text: str, count: int, logged: Logged
) -> None:
    with Caller(server.port) as caller:
        progress, result = told(caller, called("fails", how=how))
    assert len(progress) == count
    assert result["isError"] is True
    assert text in result["content"][0]["text"]
    logged.take("fails")


def test_what_is_collected_for_the_result_is_bounded(server: Server) -> None:
    with Caller(server.port) as caller:
        progress, result = told(caller, called("ticks", to=100, text="x" * 1000))
    assert len(progress) == 4
    assert result["isError"] is True
    assert "-32007" in result["content"][0]["text"]
    assert log == ["ends"]


def test_without_a_token_or_events_or_a_stream_there_is_one_object(server: Server) -> None:
    with Caller(server.port) as caller:
        for body, accept, text in (
            (called("ticks", None, to=1), "text/event-stream", '[{"first":"tick"}]'),
            (called("ticks", True, to=1), "text/event-stream", '[{"first":"tick"}]'),
            (called("ticks", [1], to=1), "text/event-stream", '[{"first":"tick"}]'),
            (called("ticks", to=1), "application/json", '[{"first":"tick"}]'),
            (called("add", a=1, b=2), "text/event-stream", "3"),
            (
                called("ticks", to="x"),
                "text/event-stream",
                "Invalid params: params.to: expected int, got str (code -32602)",
            ),
        ):
            response = caller.ask(body, "/mcp", Accept=accept)
            assert response.headers["Content-Type"] == "application/json"
            assert json.loads(response.read())["result"]["content"][0]["text"] == text
    assert log.count("add") == 1


def test_a_stream_goes_on_for_longer_than_a_call_with_comments(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_SILENCE", 0.4)
    with Caller(server.port) as caller:
        response = caller.ask(called("slow", pause=1.5), "/mcp")
        said = [event(response) for _ in range(7)]
        assert said.pop() is None
        assert said.count("comment") == 3  # limits.timeout is 1
        assert [each["params"]["progress"] for each in said if "params" in each] == [1, 2]
        late = told(caller, called("slow", pause=30), **{"X-Request-Timeout": "0.3"})[1]
        assert "(code -32001)" in late["content"][0]["text"]
        call = json.loads(caller.ask(called("slow", None, pause=30), "/mcp").read())["result"]
        assert "(code -32001)" in call["content"][0]["text"]  # without progress it is a call like any other


def test_an_agent_that_hangs_up_ends_the_stream(server: Server) -> None:
    with Caller(server.port) as caller:
        event(caller.ask(called("slow", pause=300), "/mcp"))
    eventually(lambda: log == ["ends"], "it runs on")
    labels = {"method": "slow", "outcome": "cancelled", "protocol": "mcp"}
    until(server.metrics, lambda numbers: numbers.of("gateway_calls_total", **labels) > 0)


def test_rules_and_rates_hold_for_tools_that_stream() -> None:
    rules = json.dumps([{"methods": ["ticks"], "networks": ["10.0.0.0/8"]}])
    with serving(registry, SETTINGS | {"access.rules": rules}) as server, Caller(server.port) as caller:
        assert json.loads(caller.ask(called("ticks", to=1), "/mcp").read())["error"]["code"] == -32602
    with (
        serving(registry, SETTINGS | {"limits.client_rate": 0.01, "limits.client_burst": 1}) as server,
        Caller(server.port) as caller,
    ):
        told(caller, called("ticks", to=1))
        said = json.loads(caller.ask(called("ticks", to=1), "/mcp").read())
        assert "-32003" in said["result"]["content"][0]["text"]
    assert log == ["ends"]
