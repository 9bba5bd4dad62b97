"""Methods that are generators: collected over HTTP, and as subscriptions over WebSocket."""

import asyncio
import json
import threading
import time
import xmlrpc.client
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gateway import Context, Fault, RegistrationError, Registry, current_context
from gateway.model.calls import Call, Reply
from gateway.wire import websocket
from gateway.wire.websocket import Closed
from tests.conftest import Logged
from tests.hosts.test_websocket import Client, call
from tests.raw_http import exchange, post, request
from tests.scraping import until
from tests.serving import Server, eventually, serving

ON: dict[str, Any] = {"websocket.enabled": True}
SETTINGS = ON | {"limits.max_reply": 4096, "limits.timeout": 2, "websocket.subscriptions": 3}
registry = Registry()
log: list[str] = []
gate = asyncio.Event()
produced: list[int] = []
stopped: list[int] = []


@registry.register
async def count(to: int) -> AsyncIterator[int]:
    """Count from 0."""
    try:
        for number in range(to):
            assert current_context().method == "count"
            yield number
    finally:
        log.append("count ends")


@registry.register(concurrency=1)
async def ticks(context: Context) -> AsyncIterator[str]:
    log.append(f"ticks begin for {context.client}, deadline in {context.time_left:g}")
    try:
        while True:
            yield "tick"
            await asyncio.sleep(0.01)
    finally:
        log.append("ticks end")


@registry.register
def lines(text: str) -> Iterator[str]:
    """Split a text, in a thread."""
    assert threading.current_thread() is not threading.main_thread()
    try:
        yield from text.split()
    finally:
        log.append(f"lines end in {threading.current_thread().name.split('-')[0]}")


@registry.register
async def fails(how: str) -> AsyncIterator[int]:
    yield 1
    if how == "fault":
        raise Fault(7, "no more", data={"left": 0})
    if how == "value":
        yield float("nan")  # type: ignore[misc]
    if how == "large":
        yield "x" * 5000  # type: ignore[misc]
    raise KeyError(how)


@registry.register
async def endless() -> AsyncIterator[int]:
    try:
        number = 0
        while True:
            yield number
            number += 1
    finally:
        log.append("endless ends")


@registry.register
async def fast() -> AsyncIterator[int]:
    stopped.clear()
    log.append("fast begins")
    while not stopped:
        yield 1


@registry.register(run="inline")
def stop() -> None:
    stopped.append(1)


@registry.register(timeout=0.3)
async def brief() -> AsyncIterator[int]:
    yield 1
    await asyncio.sleep(30)


@registry.register
async def bulk() -> AsyncIterator[str]:
    for number in range(400):
        produced.append(number)
        yield f"{number:06}" + "x" * 100_000


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, SETTINGS) as found:
        yield found


@pytest.fixture(autouse=True)
def fresh() -> None:
    log.clear()
    produced.clear()


def ask(server: Server, method: str, *params: Any) -> Any:
    return json.loads(post(server.port, json.dumps(call(method, *params)).encode()).body)


def subscribe(client: Client, method: str, *params: Any, by: str = "rpc.subscribe") -> Any:
    client.send(call(by, method, *params, call_id="s"))
    answer = client.read()
    assert answer["id"] == "s"
    return answer.get("result", answer.get("error"))


def test_elsewhere_the_values_are_collected(server: Server) -> None:
    assert ask(server, "count", 3)["result"] == [0, 1, 2]
    assert ask(server, "lines", "a b c")["result"] == ["a", "b", "c"]
    body = xmlrpc.client.dumps((3,), "count").encode()
    assert xmlrpc.client.loads(post(server.port, body, "text/xml").body)[0][0] == [0, 1, 2]
    assert log == ["count ends", "lines end in gateway", "count ends"]
    assert ask(server, "count")["error"]["code"] == -32602
    with Client(server) as client:
        client.send([call("count", 2), call("add", 1, 2)])
        assert [answer["result"] for answer in client.read()] == [[0, 1], 3]


def test_what_is_collected_is_bounded_in_bytes_and_time(server: Server) -> None:
    assert ask(server, "endless")["error"]["code"] == -32007
    assert ask(server, "ticks")["error"]["code"] == -32001
    eventually(lambda: "ticks end" in log, "it runs on")
    assert log[0] == "endless ends"


def test_others_have_their_turn_while_values_are_collected() -> None:
    with serving(registry, ON) as server, Client(server) as client:
        client.send(call("fast", call_id="values"))
        eventually(lambda: log, "it does not begin")
        client.send(call("stop", call_id="stop"))
        answers = {answer["id"]: answer for answer in (client.read(), client.read())}
        assert set(answers["values"]["result"]) == {1}


@pytest.mark.parametrize(
    ("how", "code", "logs"),
    [("fault", 7, ""), ("value", -32603, "Internal error"), ("large", -32007, ""), ("crash", -32603, "error")],
)
def test_a_stream_that_fails(server: Server, how: str, code: int, logs: str, logged: Logged) -> None:
    assert ask(server, "fails", how)["error"]["code"] == code
    with Client(server) as client:
        number = subscribe(client, "fails", how)
        assert client.read()["params"] == {"subscription": number, "result": 1}
        ended = client.read()
        assert ended["method"] == "rpc.ended"
        assert ended["params"]["error"]["code"] == code
        if how == "fault":
            assert ended["params"]["error"] == {"code": 7, "message": "no more", "data": {"left": 0}}
    logged.take("fails")
    assert logs == "" or not logged.lines


def test_the_schema_and_the_signature_are_those_of_a_list(server: Server) -> None:
    described = {each["name"]: each for each in ask(server, "rpc.discover")["result"]["methods"]}
    assert described["count"]["result"]["schema"] == {"type": "array", "items": {"type": "integer"}}
    assert ask(server, "system.methodSignature", "count")["result"] == [["array", "int"]]


def test_a_generator_cannot_run_inline() -> None:
    with pytest.raises(RegistrationError, match="a generator cannot run as 'inline'"):
        Registry().register(lines, run="inline")
    with pytest.raises(RegistrationError, match="cannot run as 'thread'"):
        Registry().register(count, run="thread")


def test_a_subscription_has_an_id_then_values_then_its_end(server: Server) -> None:
    with Client(server) as client:
        number = subscribe(client, "count", 3)
        assert number.startswith("0x")
        for value in range(3):
            params = {"subscription": number, "result": value}
            assert client.read() == {"jsonrpc": "2.0", "method": "rpc.subscription", "params": params}
        assert client.read() == {"jsonrpc": "2.0", "method": "rpc.ended", "params": {"subscription": number}}
        number = subscribe(client, "lines", "a b")
        assert [client.read()["params"].get("result") for _ in range(3)] == ["a", "b", None]
        client.send(
            {"jsonrpc": "2.0", "method": "rpc.subscribe", "params": {"method": "count", "params": {"to": 1}}, "id": 5}
        )
        assert client.read()["id"] == 5
        assert [client.read()["params"].get("result") for _ in range(2)] == [0, None]
    assert log[-1] == "count ends"


def test_the_names_of_ethereum() -> None:
    names = {"subscribe": "eth_subscribe", "unsubscribe": "eth_unsubscribe", "notification": "eth_subscription"}
    settings = ON | {f"websocket.{kind}": name for kind, name in names.items()}
    with serving(registry, settings) as server, Client(server) as client:
        number = subscribe(client, "ticks", by="eth_subscribe")
        value = client.read()
        assert value["method"] == "eth_subscription"
        assert value["params"] == {"subscription": number, "result": "tick"}
        client.send(call("eth_unsubscribe", number, call_id=2))
        while (answer := client.read()).get("id") != 2:
            assert answer["method"] == "eth_subscription"
        assert answer["result"] is True
        client.send(call("eth_unsubscribe", number, call_id=3), call("rpc.subscribe", "ticks", call_id=4))
        assert client.read() == {"jsonrpc": "2.0", "result": False, "id": 3}
        assert client.read()["error"]["code"] == -32601
    assert log == ["ticks begin for 127.0.0.1, deadline in inf", "ticks end"]


def test_calls_go_on_beside_a_subscription_and_a_place_is_kept(server: Server) -> None:
    with Client(server) as client, Client(server) as other:
        number = subscribe(client, "ticks")
        client.send(call("add", 1, 2, call_id="sum"))
        while (answer := client.read()).get("id") != "sum":
            assert answer["params"]["subscription"] == number
        other.send(call("rpc.subscribe", "ticks"))
        for _ in range(5):
            other.send(call("add", 1, 2, call_id="sum"))
            assert other.read()["id"] == "sum"  # the other one waits, because concurrency is 1
        client.send(call("rpc.unsubscribe", number))
        assert other.read()["id"] == 1
    eventually(lambda: log.count("ticks end") == 2, "they run on when their clients are gone")
    eventually(lambda: not server.gateway.running(), "they keep places")


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ([], -32602),
        ([7], -32602),
        ({"method": "count", "params": 3}, -32602),
        ({"method": "count", "to": 3}, -32602),
        (["add", 1, 2], -32602),  # it does not stream
        (["count", "x"], -32602),
        (["nothing"], -32601),
        (["rpc.subscribe", "count", 1], -32601),
    ],
)
def test_what_cannot_be_subscribed_to(server: Server, params: Any, code: int) -> None:
    with Client(server) as client:
        client.send({"jsonrpc": "2.0", "method": "rpc.subscribe", "params": params, "id": 1})
        assert client.read()["error"]["code"] == code
        client.send({"jsonrpc": "2.0", "method": "rpc.subscribe", "params": ["count", 1]}, call("add", 1, 1))
        assert client.read()["result"] == 2  # a notification subscribes to nothing
        assert not log


def test_a_connection_has_so_many_subscriptions(server: Server) -> None:
    with Client(server) as client:
        client.send(*(call("rpc.subscribe", "endless", call_id=number) for number in range(3)))
        client.send(call("rpc.subscribe", "endless", call_id="last"))
        while (answer := client.read()).get("id") != "last":
            pass
        assert answer["error"]["code"] == -32003
    eventually(lambda: not server.gateway.running(), "they run on")


def test_rules_hold_for_what_is_subscribed_to() -> None:
    rules = json.dumps([{"methods": ["count"], "networks": ["10.0.0.0/8"]}])
    with serving(registry, ON | {"access.rules": rules}) as server, Client(server) as client:
        assert subscribe(client, "count", 3)["code"] == -32005
        assert subscribe(client, "lines", "a").startswith("0x")


def test_the_timeout_of_a_method_ends_its_stream(server: Server) -> None:
    with Client(server) as client:
        number = subscribe(client, "brief")
        assert client.read()["params"] == {"subscription": number, "result": 1}
        assert client.read()["params"]["error"]["code"] == -32001
        number = subscribe(client, "ticks")  # limits.timeout is not for streams
        begin = time.monotonic()
        while time.monotonic() < begin + 2.5:
            assert client.read()["params"]["result"] == "tick"


def stands_still() -> None:
    """Wait until the method is not asked for more."""
    before = -1
    while before != len(produced) or not produced:
        before = len(produced)
        time.sleep(0.3)


def test_a_method_waits_for_a_client_that_reads_slowly() -> None:
    with serving(registry, ON) as server, Client(server) as client:
        subscribe(client, "bulk")
        stands_still()
        assert 0 < len(produced) < 200
        values = [client.read()["params"].get("result") for _ in range(401)]
        assert [int(value[:6]) for value in values[:-1]] == list(range(400))


def test_the_oldest_values_are_dropped_for_a_client_that_reads_slowly() -> None:
    settings = ON | {"websocket.slow_readers": "drop", "websocket.buffer": 5}
    with serving(registry, settings) as server, Client(server) as client:
        subscribe(client, "bulk")
        eventually(lambda: len(produced) == 400, "the method waits")
        seen, dropped = [], 0
        while (params := client.read()["params"]).get("result"):
            seen.append(int(params["result"][:6]))
            dropped += params.get("dropped", 0)
        assert seen[-5:] == list(range(395, 400))
        assert seen == sorted(seen)
        assert dropped == 400 - len(seen) > 0


def test_what_is_kept_is_bounded_in_bytes_too() -> None:
    settings = ON | {"websocket.slow_readers": "drop", "websocket.buffer": 1000, "limits.max_reply": 250_000}
    with serving(registry, settings) as server, Client(server) as client:
        subscribe(client, "bulk")
        eventually(lambda: len(produced) == 400, "the method waits")
        seen = []
        while (params := client.read()["params"]).get("result"):
            seen.append(int(params["result"][:6]))
        assert seen[-3:] != [397, 398, 399]
        assert seen[-2:] == [398, 399]


def test_a_subscription_ends_for_a_client_that_reads_slowly() -> None:
    settings = ON | {"websocket.slow_readers": "end", "websocket.buffer": 5}
    with serving(registry, settings) as server, Client(server) as client:
        subscribe(client, "bulk")
        stands_still()
        seen = []
        while (answer := client.read())["method"] != "rpc.ended":
            seen.append(int(answer["params"]["result"][:6]))
        assert answer["params"]["error"]["code"] == -32003
        assert seen == list(range(len(seen)))
        assert len(produced) < 400


def test_streams_are_counted_when_they_end(server: Server) -> None:
    def calls(**labels: str) -> Callable[[Any], bool]:
        return lambda numbers: numbers.of("gateway_calls_total", **labels) > 0

    with Client(server) as client:
        subscribe(client, "ticks")
        client.read()
    until(server.metrics, calls(method="ticks", outcome="cancelled"))


def test_a_gateway_that_stops_says_that_streams_have_ended() -> None:
    with serving(registry, ON | {"server.drain": 60, "limits.linger": 0.5}) as server:
        client = Client(server)
        number = subscribe(client, "ticks")
    while (answer := client.read())["method"] == "rpc.subscription":
        pass
    assert answer["params"]["subscription"] == number
    assert answer["params"]["error"]["code"] == -32002
    event = client.event()
    assert isinstance(event, Closed)
    assert event.code == 1001
    client.wire.socket.close()
    assert log[-1] == "ticks end"


def test_middleware_is_around_the_beginning_of_a_stream() -> None:
    around = Registry()
    around.mount(registry)
    seen: list[str] = []

    @around.middleware
    async def watch(call: Call, context: Context, following: Any) -> Reply:
        seen.append(f"{call.method} {context.streaming}")
        reply: Reply = await following(call, context)
        return reply

    with serving(around, ON) as server, Client(server) as client:
        subscribe(client, "count", 1)
        assert client.read()["params"]["result"] == 0
        client.send(call("count", 1))
        while (answer := client.read()).get("id") != 1:
            pass
        assert answer["result"] == [0]
    assert seen == ["count must", "count no"]


def test_an_upgrade_may_bound_the_time_of_streams(server: Server) -> None:
    with Client(server, {"X-Request-Timeout": "0.2"}) as client:
        subscribe(client, "ticks")
        while (answer := client.read())["method"] == "rpc.subscription":
            pass
        assert answer["params"]["error"]["code"] == -32001


def test_http_does_not_know_subscriptions(server: Server) -> None:
    body = json.dumps(call("rpc.subscribe", "count", 1)).encode()
    response = exchange(server.port, request("/api", {"Content-Type": "application/json"}, body))
    assert json.loads(response.body)["error"]["code"] == -32601
    assert websocket.TEXT == 1
