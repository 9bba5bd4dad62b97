"""The ASGI application: the life of a server, paths below a mount, and heads that a server should have refused."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import gateway
from gateway import ConfigError, Context, Endpoint, Registry
from gateway.hosts.asgi import ASGIHost
from gateway.model.http import Admission, Admitted, HTTPRequest, HTTPResponse
from gateway.model.limits import Limits
from tests.conftest import Logged
from tests.hosts.mounting import Mounted, served, uvicorn_of
from tests.raw_http import exchange, post, request

ADD = b'{"jsonrpc":"2.0","method":"add","params":[2,3],"id":1}'
SCOPE: dict[str, Any] = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "path": "/api",
    "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    "client": ("127.0.0.1", 5000),
}

registry = Registry()


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register
def whoami(context: Context) -> str | None:
    return context.key


def ask(application: Any, scope: dict[str, Any], *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Call an application as a server does, and return what it sends."""
    sent: list[dict[str, Any]] = []
    left = iter(messages or ({"type": "http.request", "body": ADD},))

    async def receive() -> dict[str, Any]:
        return next(left, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    return sent


def status_of(application: Any, **scope: Any) -> int:
    return int(ask(application, {**SCOPE, **scope})[0]["status"])


def host() -> ASGIHost:
    return gateway.asgi(registry)


def test_a_body_may_come_in_pieces_and_empty_ones() -> None:
    pieces = [ADD[:9], b"", ADD[9:]]
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    start, body = ask(host(), SCOPE, *messages, {"type": "http.request"})
    assert json.loads(body["body"])["result"] == 5
    assert (b"content-length", b"35") in start["headers"]
    assert all(name == name.lower() for name, _ in start["headers"])


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ([(b"host", b"a"), (b"host", b"b")], b"one Host header is needed"),
        ([], b"one Host header is needed"),
        ([(b"host", b"a"), (b"x y", b"b")], b"the name of a header is not a token"),
        ([(b"host", b"a"), (b"x", b"a\r\nb")], b"a header has a line break in it"),
        ([(b"host", b"a"), (b"content-length", b"+5")], b"the Content-Length is not a number"),
        (
            [(b"host", b"a"), (b"content-length", b"5"), (b"content-length", b"5")],
            b"the Content-Length is not a number",
        ),
        ([(b"host", b"a"), (b"transfer-encoding", b"gzip, chunked")], b"the only Transfer-Encoding is chunked"),
        (
            [(b"host", b"a"), (b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
            b"the only Transfer-Encoding",
        ),
    ],
)
def test_a_head_that_a_server_should_have_refused_is_400(headers: list[tuple[bytes, bytes]], problem: bytes) -> None:
    start, body = ask(host(), {**SCOPE, "headers": headers})
    assert start["status"] == 400
    assert problem in body["body"]


def test_a_method_must_be_a_token_and_http_1_0_needs_no_host() -> None:
    assert status_of(host(), method="G<T") == 400
    headers = [(b"content-type", b"application/json")]
    assert status_of(host(), headers=headers, http_version="1.0") == 200


def test_a_client_whose_address_the_server_does_not_know_is_refused() -> None:
    assert status_of(host(), client=None) == 403


@pytest.mark.parametrize(
    ("path", "root", "status"),
    [
        ("/api", "", 200),
        ("/", "", 200),
        ("/api?x", "", 404),
        ("/api/", "", 404),
        ("/rpc/api", "/rpc", 200),
        ("/rpc/", "/rpc", 200),
        ("/rpcs/api", "/rpc", 404),
        ("/rpc/rpc/api", "/rpc", 404),
        ("/api", "/rpc", 200),
    ],
)
def test_the_path_below_the_mount_is_what_counts(path: str, root: str, status: int) -> None:
    assert status_of(host(), path=path, root_path=root) == status


def test_a_response_to_head_has_a_length_and_no_body() -> None:
    start, body = ask(host(), {**SCOPE, "method": "HEAD"})
    assert (start["status"], body["body"]) == (405, b"")
    assert int(dict(start["headers"])[b"content-length"]) > 0


def test_who_hangs_up_has_no_answer() -> None:
    start, _ = ask(host(), SCOPE, {"type": "http.request", "body": ADD, "more_body": True})
    assert start["status"] == 400
    body = b'{"jsonrpc":"2.0","method":"whoami","id":1}'
    assert ask(host(), SCOPE, {"type": "http.request", "body": body}) == []


def test_a_websocket_is_closed() -> None:
    assert ask(host(), {"type": "websocket"}) == [{"type": "websocket.close"}]


def test_paths_may_be_given_and_are_the_only_ones() -> None:
    application = gateway.asgi(registry, paths=["/first", "/second"])
    assert status_of(application, path="/first") == status_of(application, path="/second") == 200
    assert status_of(application, path="/api") == 404


def test_what_is_wrong_is_said_when_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.toml"):
        gateway.asgi(registry, config=tmp_path / "gateway.toml")


def endpoint(open_here: Any) -> ASGIHost:
    return ASGIHost(Endpoint(open=open_here, limits=Limits(), paths=("/api",)))


def test_an_endpoint_that_did_not_open_is_tried_again(logged: Logged) -> None:
    tried: list[int] = []
    whole = gateway.endpoint(registry)

    async def open_here() -> Admission:
        tried.append(len(tried))
        if len(tried) == 1:
            raise OSError("too many open files")
        return await whole.open()

    async def call_thrice() -> list[int]:
        application, statuses = endpoint(open_here), list[int]()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": ADD}

        async def send(message: Any) -> None:
            if "status" in message:
                statuses.append(message["status"])

        for _ in range(3):
            await application(dict(SCOPE), receive, send)
        return statuses

    assert asyncio.run(call_thrice()) == [500, 200, 200]
    assert len(tried) == 2
    assert logged.take("the endpoint raised")


class Raising:
    """An admitted request whose answer is a bug."""

    client = "127.0.0.1"

    async def answer(self, body: bytes) -> HTTPResponse:
        raise RuntimeError(f"a bug of ours: {body!r}")


def test_an_endpoint_that_raises_is_told_as_500_and_logged(logged: Logged) -> None:
    async def open_here() -> Admission:
        def admit(head: HTTPRequest) -> HTTPResponse | Admitted:
            del head
            raised: Any = Raising()
            return raised  # type: ignore[no-any-return]

        return admit

    start, body = ask(endpoint(open_here), SCOPE)
    assert (start["status"], body["body"]) == (500, b"Internal error\n")
    assert logged.take("the endpoint raised")


def test_the_life_of_a_server_opens_the_endpoint_first() -> None:
    opened: list[bool] = []
    whole = gateway.endpoint(registry)

    async def open_here() -> Admission:
        opened.append(True)
        return await whole.open()

    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    assert ask(endpoint(open_here), {"type": "lifespan"}, *messages) == [
        {"type": "lifespan.startup.complete"},
        {"type": "lifespan.shutdown.complete"},
    ]
    assert opened == [True]


def test_what_a_registry_opens_is_closed_with_the_server_and_may_be_opened_again() -> None:
    served, told = Registry(), list[str]()

    @served.lifespan
    async def pool(state: Any) -> AsyncIterator[None]:
        state.pool = "open"
        told.append("opened")
        yield
        told.append("closed")

    served.register(lambda: told.append("called"), name="add", run="inline")
    application = gateway.asgi(served)

    async def play() -> None:
        for _ in range(2):
            async with application.lifespan():
                await application(dict(SCOPE), receive, send)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"jsonrpc":"2.0","method":"add","id":1}'}

    async def send(message: Any) -> None:
        del message

    asyncio.run(play())
    assert told == ["opened", "called", "closed"] * 2


def test_a_server_is_told_what_keeps_the_endpoint_from_opening() -> None:
    async def open_here() -> Admission:
        raise OSError("too many open files")

    assert ask(endpoint(open_here), {"type": "lifespan"}, {"type": "lifespan.startup"}) == [
        {"type": "lifespan.startup.failed", "message": "too many open files"}
    ]


# ---- in other applications -------------------------------------------------------------------------------------------


class Backend(AuthenticationBackend):
    """Believes a header."""

    async def authenticate(self, conn: Any) -> tuple[AuthCredentials, SimpleUser] | None:
        name = conn.headers.get("X-User")
        return None if name is None else (AuthCredentials(), SimpleUser(name))


def starlette_app() -> Starlette:
    calls = gateway.asgi(registry, user=lambda scope: scope["user"].display_name or None)
    middleware = [Middleware(BaseHTTPMiddleware, dispatch=pass_on), Middleware(AuthenticationMiddleware, Backend())]
    return Starlette(
        routes=[
            Route("/", lambda _: PlainTextResponse("home")),
            Mount("/rpc", calls),
            Route("/calls", gateway.asgi(registry, paths=["/calls"])),
        ],
        middleware=middleware,
        lifespan=calls.lifespan,
    )


async def pass_on(asked: Any, call_next: Any) -> Any:
    return await call_next(asked)


def fastapi_app() -> FastAPI:
    calls = gateway.asgi(registry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with calls.lifespan(app):
            yield

    app = FastAPI(lifespan=lifespan)
    app.get("/")(lambda: "home")
    app.mount("/rpc", calls)
    app.router.routes.append(Route("/calls", gateway.asgi(registry, paths=["/calls"])))
    return app


@pytest.fixture(scope="module", params=[starlette_app, fastapi_app])
def site(request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with served(uvicorn_of(request.param(), lifespan="on")) as running:
        yield running


def test_it_is_mounted_beside_other_routes(site: Mounted) -> None:
    assert b"home" in exchange(site.port, request("/", {}, b"", "GET")).body
    for path in ("/rpc/api", "/rpc/RPC2", "/rpc/", "/calls"):
        assert json.loads(post(site.port, ADD, path=path).body)["result"] == 5
    assert exchange(site.port, request("/calls", {}, b"", "GET")).headers["allow"] == "POST"
    assert post(site.port, ADD, path="/rpc/other").status == 404
    assert exchange(site.port, request("/rpc/healthz", {}, b"", "GET")).body == b"ok\n"


def test_the_user_of_middleware_is_the_caller() -> None:
    body = b'{"jsonrpc":"2.0","method":"whoami","id":1}'
    with served(uvicorn_of(starlette_app())) as running:
        for headers, key in (({}, None), ({"X-User": "ada"}, "ada")):
            asked = request("/rpc/api", {"Content-Type": "application/json", **headers}, body)
            assert json.loads(exchange(running.port, asked).body)["result"] == key
