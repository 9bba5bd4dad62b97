"""Deadlines, places, and methods that misbehave: what a caller is told, and that nobody else is hurt."""

import asyncio
import functools
import threading
import time
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from gateway import (
    Context,
    DeadlineExceeded,
    Fault,
    InternalError,
    InvalidParams,
    Registry,
    Unavailable,
    current_context,
)
from gateway.model.calls import CURRENT
from tests.conftest import Logged
from tests.raw_http import Response, Wire, post, request
from tests.serving import Server, eventually, serving

registry = Registry()
gate = threading.Event()  # opened by tests that want blocked threads to end
stubborn_may_end = threading.Event()
cancelled: list[str] = []
started = threading.Semaphore(0)


@dataclass
class Crashing:
    number: int

    def __post_init__(self) -> None:
        raise KeyError("hunter2")


seen: list[object] = []


@dataclass
class Looking:
    """Notes, when it is made of an argument, which call is said to run."""

    number: int

    def __post_init__(self) -> None:
        seen.append(CURRENT.get(None))


@registry.register(run="inline")
def look(it: Looking) -> int:
    return it.number


@registry.register
async def look_async(it: Looking) -> int:
    return it.number


@registry.register(run="inline")
def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@registry.register(run="inline")
def blow_up(size: int) -> str:
    return "x" * size


@registry.register
def take_crashing(it: Crashing) -> None:
    del it


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register(timeout=0.2)
async def wait_for_ever() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cancelled.append("wait_for_ever")
        raise


@registry.register(timeout=60)
async def wait_until_hung_up() -> None:
    started.release()
    try:
        await asyncio.Event().wait()
    finally:
        cancelled.append("hung up")
        started.release()


@registry.register(timeout=0.2)
async def ignore_cancellation() -> None:
    while not stubborn_may_end.is_set():
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            cancelled.append("ignored")


@registry.register(timeout=0.2, concurrency=1)
def block() -> str:
    started.release()
    gate.wait(30)
    return "done"


@registry.register(timeout=30, concurrency=2)
def hold() -> str:
    started.release()
    gate.wait(30)
    return "held"


@registry.register
def crash() -> None:
    raise RuntimeError("the password is hunter2")


@registry.register
async def crash_async() -> None:
    raise ValueError("hunter2")


@registry.register(run="inline")
def crash_inline() -> None:
    raise KeyError("hunter2")


@registry.register
def leave() -> None:
    raise SystemExit(3)


@registry.register
async def leave_async() -> None:
    raise SystemExit(3)


@registry.register(run="inline")
def leave_inline() -> None:
    raise SystemExit(3)


@registry.register
async def interrupt_async() -> None:
    raise KeyboardInterrupt


@registry.register
async def cancel_itself() -> None:
    raise asyncio.CancelledError


@registry.register(run="inline")
def cancel_inline() -> None:
    raise asyncio.CancelledError


@registry.register
def stop_iteration() -> Any:
    return next(iter(()))


def _raising(kind: type[BaseException]) -> dict[str, Any]:
    """Make methods that raise an exception, run in each of the three ways."""

    def in_thread() -> None:
        raise kind

    async def on_loop() -> None:
        await asyncio.sleep(0)
        raise kind

    async def awaited() -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_exception, kind())
        await future

    return {"thread": in_thread, "async": on_loop, "inline": in_thread, "awaited": awaited}


UNUSUAL = [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration, asyncio.CancelledError]
RAISED = []
for _kind in UNUSUAL:
    for _way, _function in _raising(_kind).items():
        if (_way, _kind) != ("awaited", StopIteration):  # which no future takes
            RAISED.append(f"{_way}_{_kind.__name__}")
            registry.register(_function, name=RAISED[-1], run="inline" if _way == "inline" else None)


@registry.register
def recurse() -> Any:
    return recurse()


@registry.register(run="inline")
def recurse_inline() -> Any:
    return recurse_inline()


@registry.register
def return_itself() -> Any:
    nested: list[Any] = []
    nested.append(nested)
    return nested


@registry.register
def return_nonsense() -> Any:
    return [1, {"it": object()}]


@registry.register
def own_fault() -> None:
    raise Fault(7, "seven", {"seven": 7})


@registry.register
def plain_fault() -> None:
    raise Fault("no code")


@registry.register
def gateway_fault() -> None:
    raise InvalidParams("params[0]: it is Tuesday")


@registry.register
def reserved_code() -> None:
    raise Fault(-32601, "mine")


@registry.register
def library_fault() -> None:
    raise xmlrpc.client.Fault(42, "from a program of old")


@registry.register
def reserved_library_fault() -> None:
    raise xmlrpc.client.Fault(-32601, "from a program of old")


@registry.register
def unavailable() -> None:
    raise Unavailable("nobody is there")


@registry.register
def context_in_thread(context: Context) -> list[Any]:
    seen = current_context()
    return [seen is context, seen.method, seen.protocol, seen.client, seen.position, 0 < seen.time_left <= 30]


@registry.register
async def context_on_loop(context: Context) -> list[Any]:
    await asyncio.sleep(0)
    seen = current_context()
    return [seen is context, seen.method, seen.protocol, seen.client, seen.position, 0 < seen.time_left <= 30]


@registry.register(run="inline")
def context_inline(context: Context) -> list[Any]:
    seen = current_context()
    return [seen is context, seen.method, seen.protocol, seen.client, seen.position, 0 < seen.time_left <= 30]


@registry.register
def header(name: str, context: Context) -> str | None:
    return context.headers.get(name)


@registry.register
def time_left() -> float:
    return current_context().time_left


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = {"limits.threads": 20, "limits.waiting": 3, "limits.timeout": 30}
    with serving(registry, settings) as running:
        yield running


@pytest.fixture(autouse=True)
def closed_gate() -> Iterator[None]:
    gate.clear()
    cancelled.clear()
    yield
    gate.set()
    while started.acquire(blocking=False):
        pass


def call(server: Server, method: str, *params: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
    with Wire(server.port, timeout=30) as wire:
        wire.send(request("/api", {"Content-Type": "application/json", **(headers or {})}, body))
        response = wire.read()
    assert response is not None
    assert response.status == 200
    return decoded(response)


def decoded(response: Response) -> dict[str, Any]:
    return msgspec.json.decode(response.body, type=dict[str, Any])


def send(server: Server, method: str) -> Wire:
    """Send a call, and leave its answer for later."""
    wire = Wire(server.port, timeout=30)
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "id": 1})
    wire.send(request("/api", {"Content-Type": "application/json"}, body))
    return wire


def read(wire: Wire) -> dict[str, Any]:
    response = wire.read()
    assert response is not None
    wire.socket.close()
    return decoded(response)


def test_an_async_method_is_cancelled_at_its_deadline(server: Server) -> None:
    error = call(server, "wait_for_ever")["error"]
    assert error == {"code": DeadlineExceeded().code, "message": "Deadline exceeded: no answer within 0.2 s"}
    eventually(lambda: cancelled == ["wait_for_ever"], "it did not become true")


def test_a_method_that_ignores_its_cancellation_does_not_hold_up_the_answer(server: Server) -> None:
    stubborn_may_end.clear()
    assert call(server, "ignore_cancellation")["error"]["code"] == DeadlineExceeded().code
    eventually(lambda: "ignored" in cancelled, "it did not become true")
    stubborn_may_end.set()


def test_a_blocked_thread_keeps_its_place_until_it_ends_and_is_counted_as_overdue(server: Server) -> None:
    pool = server.gateway.pool
    assert call(server, "block")["error"]["code"] == DeadlineExceeded().code
    eventually(lambda: (pool.busy, pool.overdue) == (1, 1), "it did not become true")
    error = call(server, "block")["error"]  # the method's one place is taken, so it waits until its own deadline
    assert error["code"] == DeadlineExceeded().code
    eventually(lambda: (pool.busy, pool.overdue) == (1, 1), "it did not become true")
    gate.set()
    eventually(lambda: (pool.busy, pool.overdue) == (0, 0), "it did not become true")
    assert call(server, "block")["result"] == "done"


def test_the_caller_may_ask_for_less_time(server: Server) -> None:
    error = call(server, "hold", headers={"X-Request-Timeout": "0.1"})["error"]
    assert error["message"] == "Deadline exceeded: no answer within 0.1 s"


def test_the_caller_may_not_ask_for_more_time(server: Server) -> None:
    assert call(server, "wait_for_ever", headers={"X-Request-Timeout": "50"})["error"]["code"] == -32001


def test_time_left_is_what_the_caller_asked_for(server: Server) -> None:
    assert 4 < call(server, "time_left", headers={"X-Request-Timeout": "5"})["result"] <= 5


@pytest.mark.parametrize("wish", ["0", "-1", "soon", "1e3", "", "1,5", "inf", "nan", "99999999"])
def test_a_wish_that_is_no_time_is_refused(wish: str, server: Server) -> None:
    error = call(server, "add", 1, 2, headers={"X-Request-Timeout": wish})["error"]
    assert error["code"] == -32600
    assert error["data"]["detail"].startswith("X-Request-Timeout must be a number of seconds above 0")


def test_a_client_that_hangs_up_cancels_its_async_call(server: Server) -> None:
    wire = send(server, "wait_until_hung_up")
    assert started.acquire(timeout=10)
    wire.socket.close()
    assert started.acquire(timeout=10)
    assert cancelled == ["hung up"]


def test_more_calls_than_running_and_waiting_places_are_told_to_come_back(server: Server) -> None:
    wires = [send(server, "hold") for _ in range(2)]
    for _ in wires:
        assert started.acquire(timeout=10)
    wires += [send(server, "hold") for _ in range(3)]
    eventually(
        lambda: "retry_after" in str(call(server, "hold", headers={"X-Request-Timeout": "0.3"})),
        "it did not become true",
    )
    error = call(server, "hold")["error"]
    assert error["code"] == -32003
    assert error["message"].startswith("Overloaded: ")
    assert error["data"] == {"retry_after": 1}
    assert call(server, "add", 2, 3)["result"] == 5
    gate.set()
    assert [read(wire)["result"] for wire in wires] == ["held"] * 5


def test_a_call_that_gives_up_waiting_gives_its_waiting_place_back(server: Server) -> None:
    wires = [send(server, "hold") for _ in range(2)]
    for _ in wires:
        assert started.acquire(timeout=10)
    for _ in range(5):  # more than there are waiting places
        assert call(server, "hold", headers={"X-Request-Timeout": "0.05"})["error"]["code"] == -32001
    gate.set()
    assert [read(wire)["result"] for wire in wires] == ["held"] * 2


CRASHES = (
    "crash",
    "crash_async",
    "crash_inline",
    "leave",
    "leave_async",
    "leave_inline",
    "interrupt_async",
    "cancel_itself",
    "cancel_inline",
    "stop_iteration",
    "recurse",
    "recurse_inline",
    "reserved_code",
)


@pytest.mark.parametrize("method", CRASHES)
def test_a_crash_is_told_by_an_error_id_that_finds_the_traceback(method: str, server: Server, logged: Logged) -> None:
    error = call(server, method)["error"]
    assert error["code"] == InternalError().code
    assert error["message"] == "Internal error"
    assert set(error["data"]) == {"error_id"}
    (line,) = logged.take(error["data"]["error_id"])
    assert f"in {method} (request" in line
    assert "Traceback" in line
    assert "/gateway/" not in line.partition("Traceback")[2].partition('File "')[2].partition('File "')[0]
    assert call(server, "add", 2, 3)["result"] == 5


@pytest.mark.parametrize("method", RAISED)
def test_whatever_a_method_raises_is_answered_and_keeps_no_place(method: str, server: Server, logged: Logged) -> None:
    error = call(server, method)["error"]
    assert error["code"] == InternalError().code
    (line,) = logged.take(error["data"]["error_id"])
    assert method.partition("_")[2] in line
    logged.take(f"in {method} (request")  # GeneratorExit that was awaited is seen twice, in the method and at its task
    assert call(server, "add", 2, 3)["result"] == 5
    assert server.gateway.pool.busy == server.gateway.pool.overdue == 0
    assert [place.running for places in server.gateway.limiters.values() for place in places if place.running] == []


def test_a_type_that_crashes_while_it_is_made_is_an_internal_error(server: Server, logged: Logged) -> None:
    error = call(server, "take_crashing", {"number": 1})["error"]
    assert error["code"] == InternalError().code
    assert len(logged.take(error["data"]["error_id"])) == 1


def test_an_error_id_stands_in_the_text_of_an_xmlrpc_fault(server: Server, logged: Logged) -> None:
    with xmlrpc.client.ServerProxy(server.url) as proxy, pytest.raises(xmlrpc.client.Fault) as caught:
        proxy.crash()
    text = caught.value.faultString
    assert text.startswith("Internal error [error_id=")
    assert len(logged.take(text.partition("error_id=")[2].rstrip("]"))) == 1


@pytest.mark.parametrize("method", ["return_itself", "return_nonsense"])
def test_a_result_that_cannot_be_said_is_a_fault_that_names_the_place(
    method: str, server: Server, logged: Logged
) -> None:
    place = {
        "return_itself": "result[0][0]",
        "return_nonsense": "result[1].it: values of type object are not supported",
    }
    error = call(server, method)["error"]
    assert error["code"] == InternalError().code
    assert place[method] in error["data"]["detail"]
    assert place[method] in logged.take(f"Internal error in {method} (request")[0]
    with xmlrpc.client.ServerProxy(server.url) as proxy, pytest.raises(xmlrpc.client.Fault) as caught:
        getattr(proxy, method)()
    assert place[method] in caught.value.faultString
    assert len(logged.take(f"Internal error in {method}")) == 1


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("own_fault", {"code": 7, "message": "seven", "data": {"seven": 7}}),
        ("plain_fault", {"code": -32000, "message": "no code"}),
        (
            "gateway_fault",
            {"code": -32602, "message": "Invalid params", "data": {"detail": "params[0]: it is Tuesday"}},
        ),
        ("library_fault", {"code": 42, "message": "from a program of old"}),
        ("reserved_library_fault", {"code": -32000, "message": "from a program of old (fault code -32601)"}),
        ("unavailable", {"code": -32002, "message": "Unavailable: nobody is there"}),
    ],
)
def test_a_method_raises_its_own_faults(method: str, error: dict[str, Any], server: Server) -> None:
    assert call(server, method)["error"] == error


@pytest.mark.parametrize("method", ["context_in_thread", "context_on_loop", "context_inline"])
def test_a_context_comes_by_annotation_and_by_current_context(method: str, server: Server) -> None:
    assert call(server, method)["result"] == [True, method, "jsonrpc", "127.0.0.1", None, True]
    with xmlrpc.client.ServerProxy(server.url, allow_none=True) as proxy:
        assert getattr(proxy, method)() == [True, method, "xmlrpc", "127.0.0.1", None, True]
        multicall = xmlrpc.client.MultiCall(proxy)
        multicall.add(1, 2)
        getattr(multicall, method)()
        assert multicall()[1] == [True, method, "xmlrpc", "127.0.0.1", 1, True]


def test_a_context_has_the_headers_and_the_request_id(server: Server) -> None:
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": "header", "params": ["x-tenant"], "id": 1})
    with Wire(server.port) as wire:
        wire.send(request("/api", {"Content-Type": "application/json", "X-Tenant": "a", "X-Request-ID": "r-1"}, body))
        response = wire.read()
    assert response is not None
    assert decoded(response)["result"] == "a"
    assert response.headers["x-request-id"] == "r-1"


def test_there_is_no_context_outside_of_a_call() -> None:
    with pytest.raises(LookupError):
        current_context()


def test_the_contexts_of_calls_at_once_are_apart(server: Server) -> None:
    def ask(number: int) -> object:
        return call(server, "header", "x-number", headers={"X-Number": str(number)})["result"]

    answers: dict[int, object] = {}
    threads = [
        threading.Thread(target=lambda n: answers.__setitem__(n, ask(n)), args=(number,)) for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: str(number) for number in range(20)}


def test_a_batch_shares_one_deadline(server: Server) -> None:
    """Each call's time counts from the arrival of the request, so a batch cannot last longer than its longest call."""
    calls = [{"jsonrpc": "2.0", "method": "wait_for_ever", "id": number} for number in range(50)]
    answers = msgspec.json.decode(post(server.port, msgspec.json.encode(calls)).body)
    assert [answer["error"]["code"] for answer in answers] == [-32001] * 50
    assert len(cancelled) < 50


def test_a_function_stays_the_plain_function_that_it_is() -> None:
    assert add(2, 3) == 5
    assert functools.partial(add, 1)(1) == 2


@pytest.mark.parametrize("method", ["look", "look_async"])
def test_no_call_is_current_after_its_end(method: str, server: Server) -> None:
    seen.clear()
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": [{"number": 3}], "id": 1})
    with Wire(server.port) as wire:
        for _ in range(3):
            wire.send(request("/api", {"Content-Type": "application/json"}, body))
            response = wire.read()
            assert response is not None
            assert msgspec.json.decode(response.body)["result"] == 3
    assert seen == [None, None, None]


@pytest.mark.parametrize("protocol", ["jsonrpc", "xmlrpc"])
def test_the_answers_of_a_batch_share_the_room_of_one(protocol: str, logged: Logged) -> None:
    size, room = 30_000, 100_000
    with serving(registry, {"limits.max_reply": room}) as small:
        if protocol == "jsonrpc":
            calls = [{"jsonrpc": "2.0", "method": "blow_up", "params": [size], "id": i} for i in range(50)]
            response = post(small.port, msgspec.json.encode(calls))
            codes = [answer.get("error", {}).get("code") for answer in msgspec.json.decode(response.body)]
        else:
            calls = [{"methodName": "blow_up", "params": [size]} for _ in range(50)]
            body = xmlrpc.client.dumps((calls,), "system.multicall").encode()
            response = post(small.port, body, "text/xml")
            loaded: Any = xmlrpc.client.loads(response.body)
            ((answers,), _) = loaded
            codes = [None if isinstance(answer, list) else answer["faultCode"] for answer in answers]
    assert codes == [None] * 3 + [-32007] * 47
    assert len(logged.take("Response too large in blow_up")) == 47
    assert len(response.body) < room + 50 * 400  # the faults are told all the same


def test_between_the_calls_of_a_batch_it_is_the_turn_of_others(server: Server) -> None:
    """Of two requests, the one that came later and takes no time is answered before a batch that takes long."""
    calls = [{"jsonrpc": "2.0", "method": "spin", "params": [0.01], "id": i} for i in range(100)]
    with Wire(server.port) as long, Wire(server.port) as short:
        long.send(request("/api", {"Content-Type": "application/json"}, msgspec.json.encode(calls)))
        time.sleep(0.1)
        short.send(request("/healthz", {}, b"", "GET"))
        assert short.read() is not None
        long.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            long.socket.recv(1)
        long.socket.settimeout(30)
        assert long.read() is not None
