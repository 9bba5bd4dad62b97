"""What one framework alone has: Tornado's limits, Django's kinds of requests, a request that ends while it opens."""

import asyncio
import json
import socket
from typing import Any

import pytest
from django.test import AsyncRequestFactory, RequestFactory

from gateway import Registry
from gateway.hosts import django as django_host
from gateway.hosts.mounted import Mount
from gateway.model.http import Admission, Endpoint, HTTPRequest, HTTPResponse
from gateway.model.limits import Limits
from tests.hosts.mounting import MOUNTS, endpoint_of, served
from tests.raw_http import Wire, request

ADD = b'{"jsonrpc":"2.0","method":"add","params":[2,3],"id":1}'
registry = Registry()


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


def test_tornado_reads_no_body_that_is_refused_for_ever() -> None:
    """A chunk that says it is huge is refused, too, when it begins."""
    head = b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with served(MOUNTS["tornado"](endpoint_of(registry, {"limits.linger": 0.1}))) as running:
        with Wire(running.port, 20) as wire:
            wire.send(head + b"ffffff\r\n")
            response = wire.read()
            assert response is not None
            assert response.status == 400
        with Wire(running.port, 20) as wire:
            wire.send(request("/api", {"Content-Type": "image/png"}, b"x" * 10)[:-1])
            response = wire.read()
            assert response is not None
            assert response.status == 415
            assert wire.is_closed()


def django_request(**options: Any) -> Any:
    MOUNTS["django"](endpoint_of(registry, {}))  # it configures Django
    return RequestFactory().post(
        "/rpc", ADD.ljust(2000), content_type="application/json", HTTP_HOST="localhost", **options
    )


def test_django_under_wsgi_wants_the_other_view() -> None:
    view = django_host.async_view(endpoint_of(registry, {}))
    asked = django_request()

    async def call() -> None:
        await view(asked)

    with pytest.raises(TypeError, match="under WSGI"):
        asyncio.run(call())


def test_a_response_of_django_to_head_has_no_body() -> None:
    MOUNTS["django"](endpoint_of(registry, {}))
    view = django_host.async_view(endpoint_of(registry, {}))

    async def call() -> Any:
        return await view(AsyncRequestFactory().head("/rpc"))

    response = asyncio.run(call())
    assert (response.status_code, response.content) == (405, b"")
    assert int(response.headers["Content-Length"]) > 0


def test_middleware_of_django_may_read_the_body_first() -> None:
    asked = django_request()
    assert len(asked.body) == 2000
    response = django_host.view(endpoint_of(registry, {}))(asked)
    assert json.loads(response.content)["result"] == 5


def test_django_takes_the_connection_of_a_refused_upload_from_gunicorn_behind_the_response() -> None:
    client, server = socket.socketpair()
    with client, server:
        client.settimeout(20)
        view = django_host.view(endpoint_of(registry, {"limits.max_body": 1024}))
        response = view(django_request(**{"gunicorn.socket": server}))
        assert response.status_code == 413
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        client.settimeout(20)
        response.close()
        assert client.recv(1) == b""


def test_a_request_that_ends_while_the_endpoint_opens_leaves_it_to_the_others() -> None:
    async def play() -> tuple[int, int]:
        opening, opened = asyncio.Event(), list[bool]()

        async def open_here() -> Admission:
            opened.append(True)
            await opening.wait()
            return lambda _: HTTPResponse(status=200)

        mount = Mount(Endpoint(open=open_here, limits=Limits(), paths=("/api",)))
        head = HTTPRequest(method="POST", target="/api", headers={"Host": "a"}, peer="127.0.0.1")
        first, second = (asyncio.ensure_future(mount.begin(head)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait((first,))
        opening.set()
        response = await second
        assert isinstance(response, HTTPResponse)
        return response.status, len(opened)

    assert asyncio.run(play()) == (200, 1)
