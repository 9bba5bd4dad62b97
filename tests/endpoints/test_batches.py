"""Batches whose calls run at once (``limits.batch_concurrency``), by raw HTTP."""

import asyncio
import json
import xmlrpc.client
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import Registry
from tests.conftest import Logged
from tests.raw_http import Wire, exchange, post, request
from tests.scraping import until
from tests.serving import Server, eventually, serving

SETTINGS = {"limits.batch_concurrency": 3, "limits.max_reply": 4096, "limits.timeout": 5}
registry = Registry()
running: list[int] = []
most: list[int] = []
log: list[str] = []
waiting: dict[str, asyncio.Event] = {}


def event(name: str) -> asyncio.Event:
    return waiting.setdefault(name, asyncio.Event())


@registry.register
async def wait_for(name: str) -> str:
    """Wait until another call says a name."""
    running.append(1)
    most.append(len(running))
    log.append(f"{name} begins")
    try:
        await event(name).wait()
    except asyncio.CancelledError:
        log.append(f"{name} is cancelled")
        raise
    finally:
        running.pop()
        waiting.pop(name, None)
    return name


@registry.register
async def say(name: str) -> None:
    event(name).set()


@registry.register
async def nap(name: str) -> str:
    running.append(1)
    most.append(len(running))
    log.append(f"{name} begins")
    for _ in range(5):
        await asyncio.sleep(0)
    log.append(f"{name} ends")
    running.pop()
    return name


@registry.register(run="inline")
def text(size: int) -> str:
    return "x" * size


@registry.register(run="inline")
def numbers() -> list[int]:
    return list(range(6000))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, SETTINGS) as found:
        yield found


@pytest.fixture(autouse=True)
def fresh() -> None:
    for seen in (running, most, log):
        seen.clear()


def call(call_id: int | None, method: str, *params: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": list(params)}
    return made if call_id is None else made | {"id": call_id}


def send(server: Server, *calls: Any) -> Any:
    response = post(server.port, json.dumps(calls).encode())
    return json.loads(response.body) if response.body else None


def test_calls_that_wait_for_each_other_are_answered_in_the_order_of_the_requests(server: Server) -> None:
    answers = send(server, call(1, "wait_for", "a"), call(2, "wait_for", "b"), call(3, "say", "b"), call(4, "say", "a"))
    assert [(answer["id"], answer["result"]) for answer in answers] == [(1, "a"), (2, "b"), (3, None), (4, None)]


def test_no_more_run_at_once_than_are_configured(server: Server) -> None:
    answers = send(server, *(call(number, "nap", str(number)) for number in range(10)))
    assert [answer["result"] for answer in answers] == [str(number) for number in range(10)]
    assert max(most) == 3


def test_without_the_option_they_run_in_order() -> None:
    with serving(registry) as server:
        answers = send(server, call(1, "nap", "a"), call(2, "nap", "b"))
    assert [answer["result"] for answer in answers] == ["a", "b"]
    assert log == ["a begins", "a ends", "b begins", "b ends"]


def test_a_multicall_runs_in_order(server: Server) -> None:
    calls = [{"methodName": "nap", "params": [name]} for name in "ab"]
    body = xmlrpc.client.dumps((calls,), "system.multicall").encode()
    answered = xmlrpc.client.loads(post(server.port, body, "text/xml").body)
    assert answered[0][0] == [["a"], ["b"]]
    assert log == ["a begins", "a ends", "b begins", "b ends"]


def test_notifications_have_no_response_and_what_is_no_call_has_a_fault(server: Server) -> None:
    answers = send(server, call(None, "nap", "a"), 17, call(2, "nap", "b"), call(None, "nothing"))
    assert [answer.get("result", answer.get("error", {}).get("code")) for answer in answers] == [-32600, "b"]
    assert send(server, call(None, "nap", "a"), call(None, "nap", "b")) is None
    assert log.count("a ends") == 2


def test_the_responses_share_the_bytes_of_one(server: Server, logged: Logged) -> None:
    answers = send(server, *(call(number, "text", 1500) for number in range(4)))
    faults = [answer["error"]["code"] for answer in answers if "error" in answer]
    assert faults == [-32007, -32007]
    assert len(logged.take("Response too large in text")) == 2
    answers = send(server, *(call(None, "text", 3000) for _ in range(4)), call(1, "text", 3000))
    assert [len(answer["result"]) for answer in answers] == [3000]  # of notifications nothing is sent


def test_large_responses_share_them_too_though_they_are_encoded_in_turns(logged: Logged) -> None:
    with serving(registry, SETTINGS | {"limits.max_reply": 40_000}) as server:
        answers = send(server, *(call(number, "numbers") for number in range(2)))
    assert sorted("error" in answer for answer in answers) == [False, True]
    logged.take("Response too large in numbers")


def test_each_call_is_charged() -> None:
    with serving(registry, SETTINGS | {"limits.client_rate": 0.001, "limits.client_burst": 3}) as server:
        answers = send(server, *(call(number, "text", 1) for number in range(5)))
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, None, None, -32003, -32003]


def test_each_call_has_the_deadline_of_the_request(server: Server) -> None:
    headers = {"Content-Type": "application/json", "X-Request-Timeout": "0.05"}
    calls = [call(number, "wait_for", f"never {number}") for number in range(5)]
    answers = json.loads(exchange(server.port, request("/api", headers, json.dumps(calls).encode())).body)
    assert [answer["error"]["code"] for answer in answers] == [-32001] * 5


def test_calls_of_a_caller_who_hangs_up_are_cancelled_and_counted(server: Server) -> None:
    with Wire(server.port) as wire:
        body = json.dumps([call(number, "wait_for", f"lost {number}") for number in range(5)]).encode()
        wire.send(request("/api", {"Content-Type": "application/json"}, body))
        eventually(lambda: len(log) == 3, "they do not begin")
    eventually(lambda: len(log) == 6, "they are not cancelled")
    assert sorted(log[3:]) == [f"lost {number} is cancelled" for number in range(3)]
    eventually(lambda: not running, "they run on")
    labels = {"method": "wait_for", "outcome": "cancelled"}
    until(server.metrics, lambda numbers: numbers.of("gateway_calls_total", **labels) == 3)
