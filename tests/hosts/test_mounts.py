"""The gateway mounted in each framework: whose request it is, what is refused before it is read, and who hangs up."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway import Context, Registry
from gateway.hosts.asgi import peer
from gateway.hosts.mounted import peer_of
from tests.hosts.mounting import MOUNTS, Mounted, endpoint_of, served
from tests.process.test_sockets import post_unix
from tests.raw_http import Response, Wire, exchange, post, request
from tests.serving import eventually

SETTINGS = {
    "access.origins": "https://app.example",
    "limits.max_body": 4096,
    "limits.max_header": 2048,
    "limits.client_connections": 2,
    "limits.body_timeout": 2,
    "limits.linger": 1,
    "limits.timeout": 300,  # so that no deadline ends what a client that hangs up should
}
REQUESTS = {  # what a method sees as context.request
    "uvicorn": "dict",
    "hypercorn": "dict",
    "tornado": "RPCHandler",
    "tornado, router": "RPCHandler",
    "aiohttp": "Request",
    "flask": "Request",
    "django": "WSGIRequest",
    "django, async": "ASGIRequest",
    "django, threads": "ASGIRequest",
}
ASYNC = (
    "uvicorn",
    "hypercorn",
    "tornado",
    "tornado, router",
    "aiohttp",
    "django, async",
)  # the server tells when a client hangs up
STREAMED = (
    "uvicorn",
    "hypercorn",
    "tornado",
    "tornado, router",
    "aiohttp",
)  # the application is called before the body is read
CONTINUED = ("uvicorn", "tornado", "tornado, router", "aiohttp")  # and 100 Continue is sent when it asks for that
JSON = {"Content-Type": "application/json"}
ADD = b'{"jsonrpc":"2.0","method":"add","params":[2,3],"id":1}'
ADD_XML = (
    b"<methodCall><methodName>add</methodName><params><param><value><int>2</int></value></param>"
    b"<param><value><int>3</int></value></param></params></methodCall>"
)

registry = Registry()
running: list[str] = []
cancelled: list[str] = []
release = threading.Event()


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register
def seen(context: Context) -> list[str | None]:
    return [type(context.request).__name__, context.key]


@registry.register
def client(context: Context) -> str:
    return context.client


@registry.register
async def wait(name: str) -> str:
    running.append(name)
    try:
        while not release.is_set():  # noqa: ASYNC110 - it is set in another thread
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        cancelled.append(name)
        raise
    return name


@pytest.fixture(scope="module", params=REQUESTS)
def mounted(request: pytest.FixtureRequest) -> Iterator[tuple[str, Mounted]]:
    with served(MOUNTS[request.param](endpoint_of(registry, SETTINGS))) as server:
        yield request.param, server


@pytest.fixture(autouse=True)
def nothing_runs() -> None:
    running.clear()
    cancelled.clear()
    release.clear()


def call(method: str, *params: Any) -> bytes:
    return request("/api", JSON, json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode())


def sent_from(source: str, port: int, data: bytes) -> Wire:
    wire = Wire(port, 20, source=source)
    wire.send(data)
    return wire


def read(wire: Wire) -> Response:
    response = wire.read()
    assert response is not None
    return response


def test_both_protocols_are_answered_at_each_path(mounted: tuple[str, Mounted]) -> None:
    port = mounted[1].port
    for path in ("/api", "/RPC2", "/jsonrpc", "/"):
        assert json.loads(post(port, ADD, path=path).body) == {"jsonrpc": "2.0", "result": 5, "id": 1}
    response = post(port, ADD_XML, "text/xml")
    assert response.headers["content-type"] == "text/xml; charset=utf-8"
    assert int(response.headers["content-length"]) == len(response.body)
    assert b"<int>5</int>" in response.body


def test_a_call_is_no_page_and_a_page_no_call(mounted: tuple[str, Mounted]) -> None:
    name, port = mounted[0], mounted[1].port
    for verb in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        response = exchange(port, request("/api", {}, b"", verb))
        assert (response.status, response.headers["allow"]) == (405, "POST")
    response = exchange(port, request("/api", {}, b"", "HEAD"), head=True)
    assert response.status == 405
    assert int(response.headers["content-length"]) > 0
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    response = exchange(port, request("/api", asked, b"", "OPTIONS"))
    assert response.status == 204
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    assert name == "flask" or "content-type" not in response.headers  # Flask adds one to whatever has none
    page = {**JSON, "Origin": "https://app.example", "Sec-Fetch-Site": "cross-site", "Cookie": "a=b"}
    assert exchange(port, request("/api", page, ADD)).status == 200
    assert exchange(port, request("/api", {**page, "Origin": "https://evil.example"}, ADD)).status == 403


def test_a_method_sees_the_frameworks_request_and_its_user(mounted: tuple[str, Mounted]) -> None:
    name, server = mounted
    response = exchange(server.port, call("seen"))
    assert json.loads(response.body)["result"] == [REQUESTS[name], None]
    head, _, body = call("seen").partition(b"\r\n\r\n")
    response = exchange(server.port, head + b"\r\nX-User: ada\r\n\r\n" + body)
    assert json.loads(response.body)["result"] == [REQUESTS[name], "ada"]


def test_what_is_too_large_is_refused_with_a_fault(mounted: tuple[str, Mounted]) -> None:
    port = mounted[1].port
    declared = exchange(port, request("/api", JSON, b" " * 5000))
    chunks = b"Host: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked = exchange(port, b"POST /api HTTP/1.1\r\n" + chunks + b"1388\r\n" + b" " * 5000 + b"\r\n0\r\n\r\n")
    for response in (declared, chunked):
        assert response.status == 413
        assert json.loads(response.body)["error"]["code"] == -32006


def test_a_head_that_is_too_large_is_refused(mounted: tuple[str, Mounted]) -> None:
    response = exchange(mounted[1].port, request("/api", {**JSON, "X-Long": "x" * 2000}, ADD))
    assert response.status == 431
    assert json.loads(response.body)["error"]["code"] == -32006


def test_of_a_refused_upload_nothing_is_asked_for(mounted: tuple[str, Mounted]) -> None:
    name, server = mounted
    if name not in CONTINUED:
        return
    asked = {"Content-Length": "4000", "Expect": "100-continue"}
    for headers, status in (({"Content-Type": "image/png"}, 415), ({**JSON, "Origin": "https://evil.example"}, 403)):
        with sent_from(
            "127.0.0.1", server.port, request("/api", {**headers, **asked}, b"", "PUT").replace(b"PUT", b"POST")
        ) as wire:
            assert read(wire).status == status
    with sent_from(
        "127.0.0.1", server.port, request("/api", {**JSON, **asked}, b"", "PUT").replace(b"PUT", b"POST")
    ) as wire:
        assert read(wire).status == 100
        wire.send(ADD.ljust(4000))
        assert json.loads(read(wire).body)["result"] == 5


def test_a_large_upload_sees_its_refusal(mounted: tuple[str, Mounted]) -> None:
    """It is read on for a moment, or closed behind the response; a reset connection would have none."""
    name, server = mounted
    if name in ("flask", "django"):  # waitress reads the whole of it
        return
    with Wire(server.port, 20) as wire:
        sending = threading.Thread(target=lambda: send_all(wire, request("/api", JSON, b" " * 5_000_000)), daemon=True)
        sending.start()
        assert read(wire).status == 413
        sending.join(20)


def send_all(wire: Wire, data: bytes) -> None:
    try:
        wire.send(data)
    except OSError:
        return


def test_a_client_has_so_many_requests_at_once(mounted: tuple[str, Mounted]) -> None:
    name, server = mounted
    if name not in ASYNC:
        return
    with ExitStack() as wires:
        waiting = [wires.enter_context(sent_from("127.0.0.2", server.port, call("wait", name))) for _ in range(2)]
        eventually(lambda: len(running) == 2, "they run")
        with sent_from("127.0.0.2", server.port, call("add", 2, 3)) as wire:
            response = read(wire)
            assert response.status == 429
            assert response.headers["retry-after"] == "1"
        assert exchange(server.port, call("add", 2, 3)).status == 200
        release.set()
        assert [json.loads(read(wire).body)["result"] for wire in waiting] == [name, name]
    with sent_from("127.0.0.2", server.port, call("add", 2, 3)) as wire:
        assert read(wire).status == 200


def test_who_hangs_up_cancels_the_call_and_is_counted_no_longer(mounted: tuple[str, Mounted]) -> None:
    name, server = mounted
    if name not in ASYNC:
        return
    for times in ([name], [name] * 2, [name] * 3):
        with sent_from("127.0.0.2", server.port, call("wait", name)):
            eventually(partial(running.__eq__, times), "it runs")
        eventually(partial(cancelled.__eq__, times), "it is cancelled")


def test_who_hangs_up_while_it_sends_is_counted_no_longer(mounted: tuple[str, Mounted]) -> None:
    name, server = mounted
    if name not in ASYNC:
        return
    for _ in range(3):
        with sent_from("127.0.0.2", server.port, call("add", 2, 3)[:-10]):
            pass
    eventually(lambda: is_served(server.port), "there is room again")


def is_served(port: int) -> bool:
    with sent_from("127.0.0.2", port, call("add", 2, 3)) as wire:
        return read(wire).status == 200


def test_a_body_that_does_not_come_in_time_is_not_waited_for(mounted: tuple[str, Mounted]) -> None:
    name, server = mounted
    if name not in STREAMED:
        return
    with sent_from("127.0.0.1", server.port, call("add", 2, 3)[:-10]) as wire:
        response = wire.read()
        assert response is None if name.startswith("tornado") else response is not None and response.status == 408


@pytest.mark.parametrize("name", MOUNTS)
def test_the_other_end_of_a_unix_socket_is_this_machine(name: str, tmp_path: Path) -> None:
    """Each server has a name of its own for it; nginx on this machine is trusted by one."""
    endpoint = endpoint_of(registry, {"access.trusted_proxies": "127.0.0.1", "access.allow": "127.0.0.1,192.0.2.1"})
    path = tmp_path / "gw.sock"
    with served(MOUNTS[name](endpoint), str(path)):
        assert post_unix(path, "client") == "127.0.0.1"
        assert post_unix(path, "client", X_Forwarded_For="192.0.2.1") == "192.0.2.1"
        assert post_unix(path, "client", X_Forwarded_For="192.0.2.2")["message"] == "Denied"


def test_a_peer_that_asgi_does_not_know_is_not_taken_for_this_machine() -> None:
    assert peer({"client": None, "server": ("127.0.0.1", 80)}) == ""  # it has hung up already
    assert peer({"server": None}) == peer({"client": None}) == ""
    assert peer_of(None) == ""
