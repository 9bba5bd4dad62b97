"""Heads that a mounted endpoint knows: what comes with them is answered as it was the first time."""

import asyncio
import json
import threading
from functools import partial
from typing import Any

import msgspec
import pytest

from gateway import Context, Registry
from gateway.hosts import mounted
from gateway.hosts.kept import Cut, KeptHeads, answered
from gateway.model.http import HTTPRequest, Plain
from gateway.model.limits import Limits
from tests.hosts.mounting import MOUNTS, endpoint_of, served
from tests.raw_http import Response, Wire, request
from tests.serving import eventually

KEPT = ("uvicorn", "hypercorn", "tornado", "tornado, router", "aiohttp", "aiohttp, packed", "django, async")
JSON = {"Content-Type": "application/json"}

registry = Registry()
requests: list[object] = []
state: list[str] = []
release = threading.Event()


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register
def seen(context: Context) -> list[Any]:
    requests.append(context.request)
    given = context.headers
    return [context.key, given.get("x-Request-ID"), given.get("traceParent"), given["Content-Length"], given["X-Other"]]


@registry.register
async def wait() -> None:
    state.append("waits")
    try:
        await asyncio.Event().wait()
    finally:
        state.append("cancelled")


def call(method: str, *params: object, **headers: str) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request("/api", {**JSON, "X-Other": "1", **named}, body)


def ask(wire: Wire, data: bytes) -> Response:
    wire.send(data)
    response = wire.read()
    assert response is not None
    return response


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the bodies of what takes the plain way, and is answered there."""
    bodies: list[bytes] = []

    async def noted(plain: Plain, cut: Cut, head: HTTPRequest, body: bytes) -> Any:
        response = await original(plain, cut, head, body)
        if response is not None:
            bodies.append(body)
        return response

    original = answered
    monkeypatch.setattr(mounted, "answered", noted)
    return bodies


@pytest.mark.parametrize("name", KEPT)
def test_a_head_that_is_known_is_answered_as_before(name: str, plainly: list[bytes]) -> None:
    requests.clear()
    with served(MOUNTS[name](endpoint_of(registry, {"limits.client_rate": 1000}))) as server, Wire(server.port) as wire:
        for number in range(2):
            assert json.loads(ask(wire, call("add", 1, 10**number)).body)["result"] == 1 + 10**number
        assert plainly == []  # a head is known when it has come twice
        responses = [ask(wire, call("add", *params)) for params in ((1, 2), (10, 20), (1,), ("x", 1))]
        bodies = [json.loads(response.body) for response in responses]
        assert [body.get("result") for body in bodies] == [3, 30, None, None]
        assert [body["error"]["code"] for body in bodies[2:]] == [-32602, -32602]
        fixed = [{**response.headers, "date": "", "x-request-id": "", "content-length": ""} for response in responses]
        assert fixed == [fixed[0]] * 4
        assert len({response.headers["x-request-id"] for response in responses}) == 4
        assert len(plainly) == 4

        own = ask(wire, call("seen", X_Request_ID="one", traceparent="two"))
        assert json.loads(own.body)["result"] == [None, "one", "two", str(len(plainly[-1])), "1"]
        assert own.headers["x-request-id"] == "one"
        assert json.loads(ask(wire, call("seen", X_Request_ID="three")).body)["result"][:3] == [None, "three", None]
        assert len({id(each) for each in requests}) == len(requests) == 2
        assert len(plainly) == 6
        late = json.loads(ask(wire, call("wait", X_Request_Timeout="0.05")).body)
        assert late["error"]["code"] == -32001
        assert len(plainly) == 7

        other = ask(wire, call("seen", X_User="ada"))  # another head
        assert json.loads(other.body)["result"][0] == "ada"
        batch = request("/api", {**JSON, "X-Other": "1"}, b'[{"jsonrpc":"2.0","method":"add","params":[1,2],"id":1}]')
        assert json.loads(ask(wire, batch).body)[0]["result"] == 3  # the plain way leaves it to the full way
        assert len(plainly) == 7


@pytest.mark.parametrize("name", ["uvicorn", "tornado", "aiohttp"])
def test_limits_hold_for_heads_that_are_known(name: str, plainly: list[bytes]) -> None:
    settings = {
        "limits.client_rate": 0.01,
        "limits.client_burst": 5,
        "limits.max_body": 1024,
        "limits.max_header": 1024,
    }
    with served(MOUNTS[name](endpoint_of(registry, settings))) as server, Wire(server.port) as wire:
        responses = [ask(wire, call("add", 1, 2)) for _ in range(6)]
        assert [response.status for response in responses[:5]] == [200] * 5
        assert responses[5].status == 429  # before a body was read, or behind it
        assert len(plainly) == 3
    with served(MOUNTS[name](endpoint_of(registry, settings))) as server:
        for extra, status in [("", 200)] * 3 + [("x" * 500, 413)]:
            with Wire(server.port) as wire:
                assert ask(wire, call("add", 1, 2) if not extra else call("add", extra, extra)).status == status
        with Wire(server.port) as wire:
            assert ask(wire, call("add", 1, 2, traceparent="x" * 1000)).status == 431


@pytest.mark.parametrize("name", [name for name in KEPT if name not in ("tornado, router", "aiohttp, packed")])
def test_a_call_whose_client_hangs_up_is_cancelled(name: str, plainly: list[bytes]) -> None:
    state.clear()
    with served(MOUNTS[name](endpoint_of(registry, {"limits.timeout": 300}))) as server:
        for _ in range(2):
            with Wire(server.port) as wire:
                ask(wire, call("add", 1, 2))
        with Wire(server.port) as wire:
            wire.send(call("wait"))
            eventually(lambda: state == ["waits"], "it is called")
        eventually(lambda: state == ["waits", "cancelled"], "it is cancelled")
    assert plainly == []


def heads(known: list[HTTPRequest] | None = None, **limits: Any) -> KeptHeads:
    def know(head: HTTPRequest) -> Any:
        if known is not None:
            known.append(head)
        return object()

    return KeptHeads(know, Limits(**limits))


PAIRS = (("Host", "a"), ("Content-Length", "2"), ("X-Request-ID", "one"))
HEAD = HTTPRequest(method="POST", target="/api", headers={}, peer="192.0.2.1")


@pytest.mark.parametrize(
    "pairs",
    [
        PAIRS[:1],
        (*PAIRS, ("content-length", "2")),
        (*PAIRS, ("x-request-id", "two")),
        (("Content-Length", "02"),),
        (("Content-Length", "+2"),),
        (("Content-Length", "101"),),
        (*PAIRS, ("traceparent", "a b")),
        (*PAIRS, ("X-Long", "x" * 2048)),
    ],
)
def test_a_head_that_is_not_kept(pairs: Any) -> None:
    assert heads(max_body=100).cut(HEAD, "1.1", PAIRS) is not None
    assert heads(max_body=100).cut(HEAD, "1.1", pairs) is None


def test_what_differs_in_anything_else_is_another_head() -> None:
    kept = heads()
    cut = partial(kept.cut, version="1.1", pairs=PAIRS)
    first = cut(HEAD)
    assert first is not None
    for _ in range(2):
        kept.learn(first, HEAD)
    assert kept.find(first) is not None
    changed: dict[str, Any] = {"method": "PUT", "target": "/", "peer": "192.0.2.2", "user": "ada"}
    others = [cut(msgspec.structs.replace(HEAD, **{name: value})) for name, value in changed.items()]
    others += [kept.cut(HEAD, "1.0", PAIRS), kept.cut(HEAD, "1.1", (("Host", "b"), *PAIRS[1:]))]
    for other in others:
        assert other is not None
        assert kept.find(other) is None
    assert kept.find(kept.cut(HEAD, "1.1", (("Host", "a"), ("content-length", "9"))) or first) is not None


def test_what_came_least_recently_is_forgotten() -> None:
    known: list[HTTPRequest] = []
    kept = heads(known)
    cuts = [kept.cut(HEAD, "1.1", (*PAIRS, ("X", str(number)))) for number in range(1025)]
    for cut in cuts[:1024]:
        assert cut is not None
        kept.learn(cut, HEAD)
    first, second, last = cuts[0], cuts[1], cuts[1024]
    assert first is not None
    assert second is not None
    assert last is not None
    kept.learn(first, HEAD)
    assert len(known) == 1
    kept.learn(last, HEAD)  # for which the second one goes
    kept.learn(second, HEAD)
    assert len(known) == 1
    assert kept.find(first) is not None


def test_a_configuration_that_judges_each_request_keeps_nothing(plainly: list[bytes]) -> None:
    own = Registry()
    own.register(add)
    own.authenticate(lambda _, caller: caller)
    with served(MOUNTS["uvicorn"](endpoint_of(own, {}))) as server, Wire(server.port) as wire:
        assert [ask(wire, call("add", 1, 2)).status for _ in range(4)] == [200] * 4
    assert plainly == []


def test_a_body_of_another_length_takes_the_full_way() -> None:
    """Something between server and endpoint has unpacked it: methods see the headers as they came."""
    plain: Any = None  # it is not asked
    assert asyncio.run(answered(plain, Cut((), ("9", None, None, None)), HEAD, b"12")) is None
