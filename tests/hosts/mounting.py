"""An endpoint mounted in each framework, on real servers in this process.

The framework says who calls by the header X-User, as its middleware would.
"""

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import django
import flask
import hypercorn.asyncio
import hypercorn.config
import tornado.httpserver
import tornado.web
import uvicorn
import waitress  # type: ignore[import-untyped]
from aiohttp import web
from django.conf import settings as django_settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.urls import path as django_path
from django.utils.decorators import sync_and_async_middleware
from msgspec import Struct
from tornado.routing import AnyMatches, PathMatches, Rule, RuleRouter

from gateway import Registry
from gateway.app import mounted
from gateway.config import load
from gateway.hosts import aiohttp as aiohttp_host
from gateway.hosts import django as django_host
from gateway.hosts import flask as flask_host
from gateway.hosts.asgi import ASGIHost
from gateway.hosts.rpc_handler import RPCHandler, delegate
from gateway.model.http import Endpoint

Serve = Callable[[socket.socket, asyncio.Event], Coroutine[Any, Any, None]]


class Mounted(Struct, frozen=True):
    """A server that runs, as tests/test_clients.py knows one."""

    port: int

    @property
    def url(self) -> str:
        return self.at("/api")

    def at(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@contextmanager
def served(serve: Serve, path: str | None = None) -> Iterator[Mounted]:
    """Run a server on a loop in a thread of its own, until it is no longer needed; with a path, at a Unix socket."""
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()
    with (
        socket.socket(socket.AF_UNIX)
        if path
        else socket.socket(proto=socket.IPPROTO_TCP)  # without it, asyncio does not see that it is TCP
    ) as listener:
        listener.bind(path or ("127.0.0.1", 0))
        listener.listen(1024)
        thread = threading.Thread(target=lambda: loop.run_until_complete(serve(listener, ending)), daemon=True)
        thread.start()
        try:
            yield Mounted(0 if path else listener.getsockname()[1])
        finally:
            loop.call_soon_threadsafe(ending.set)
            thread.join(15)
            assert not thread.is_alive(), "the server does not stop"
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


def endpoint_of(registry: Registry, settings: Mapping[str, Any]) -> Endpoint:
    return mounted.endpoint_of(load(None, {}, [f"{name}={value}" for name, value in settings.items()]), registry)


# ---- servers ---------------------------------------------------------------------------------------------------------


def uvicorn_of(application: Any, **options: Any) -> Serve:
    async def serve(listener: socket.socket, ending: asyncio.Event) -> None:
        server = uvicorn.Server(uvicorn.Config(application, log_config=None, access_log=False, **options))
        serving = asyncio.ensure_future(server.serve([listener]))
        await ending.wait()
        server.should_exit = True
        await serving

    return serve


def hypercorn_of(application: Any) -> Serve:
    async def serve(listener: socket.socket, ending: asyncio.Event) -> None:
        config = hypercorn.config.Config()
        config.bind = [f"fd://{listener.dup().detach()}"]
        await hypercorn.asyncio.serve(application, config, shutdown_trigger=ending.wait)

    return serve


def waitress_of(application: Any) -> Serve:
    async def serve(listener: socket.socket, ending: asyncio.Event) -> None:
        own = listener.dup()
        server = waitress.create_server(application, sockets=[own], threads=16, clear_untrusted_proxy_headers=False)
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns while its threads start
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        await ending.wait()
        server.maintenance(0)
        server.task_dispatcher.shutdown()
        server.trigger.pull_trigger(server.close)
        await asyncio.to_thread(thread.join, 10)
        own.close()

    return serve


def aiohttp_of(application: web.Application, **options: Any) -> Serve:
    async def serve(listener: socket.socket, ending: asyncio.Event) -> None:
        runner = web.AppRunner(application, handler_cancellation=True, access_log=None, **options)
        await runner.setup()
        await web.SockSite(runner, listener.dup()).start()
        await ending.wait()
        await runner.cleanup()

    return serve


def tornado_of(application: Any) -> Serve:
    async def serve(listener: socket.socket, ending: asyncio.Event) -> None:
        server = tornado.httpserver.HTTPServer(application)
        listener.setblocking(False)
        server.add_sockets([listener.dup()])
        await ending.wait()
        server.stop()
        await server.close_all_connections()

    return serve


# ---- frameworks ------------------------------------------------------------------------------------------------------


def asgi_app(endpoint: Endpoint) -> ASGIHost:
    return ASGIHost(endpoint, lambda scope: dict(scope["headers"]).get(b"x-user", b"").decode() or None)


def aiohttp_app(endpoint: Endpoint, *, auto_decompress: bool) -> web.Application:
    application = web.Application()
    application.add_routes(
        aiohttp_host.routes(
            endpoint, user=lambda request: request.headers.get("X-User"), auto_decompress=auto_decompress
        )
    )
    return application


def tornado_app(endpoint: Endpoint) -> tornado.web.Application:
    arguments = {"endpoint": endpoint, "user": lambda handler: handler.request.headers.get("X-User")}
    return tornado.web.Application(
        [
            *((path, RPCHandler, arguments) for path in endpoint.paths),
            *((path, RPCHandler, {**arguments, "path": path}) for path in endpoint.agents),
        ],
        log_function=lambda _: None,
        xsrf_cookies=True,
        cookie_secret="secret",  # noqa: S106 - it keeps none
        cross_origin_protection=True,
    )


def tornado_router(endpoint: Endpoint) -> RuleRouter:
    calls = delegate(endpoint, lambda handler: handler.request.headers.get("X-User"))
    site = tornado.web.Application(log_function=lambda _: None)
    calls.settings["log_function"] = site.settings["log_function"]
    paths = "|".join(map(re.escape, (*endpoint.paths, *endpoint.agents)))
    return RuleRouter([Rule(PathMatches(f"({paths})$"), calls), Rule(AnyMatches(), site)])


def flask_app(endpoint: Endpoint) -> flask.Flask:
    application = flask.Flask(__name__)
    calls = flask_host.blueprint(endpoint, endpoint.paths, user=lambda: flask.request.headers.get("X-User"))
    application.register_blueprint(calls)
    return application


DJANGO_URLS: dict[int, Any] = {}  # the views of each server, by its port


@sync_and_async_middleware  # type: ignore[untyped-decorator]
def by_port(get_response: Any) -> Any:
    def choose(request: Any) -> None:
        port = request.META["SERVER_PORT"]
        request.urlconf = DJANGO_URLS[int(port) if port.isdecimal() else 0]

    async def call_later(request: Any) -> Any:
        choose(request)
        return await get_response(request)

    def call(request: Any) -> Any:
        choose(request)
        return get_response(request)

    return call_later if asyncio.iscoroutinefunction(get_response) else call


def django_of(
    make_view: Callable[..., Any], handler: type, serve_with: Callable[[Any], Serve]
) -> Callable[[Endpoint], Serve]:
    def mounted(endpoint: Endpoint) -> Serve:
        if not django_settings.configured:
            django_settings.configure(
                ALLOWED_HOSTS=["*"],
                ROOT_URLCONF="tests.hosts.mounting",
                MIDDLEWARE=["tests.hosts.mounting.by_port", "django.middleware.csrf.CsrfViewMiddleware"],
                LOGGING_CONFIG=None,
            )
            django.setup()
            logging.getLogger("django.request").setLevel(logging.ERROR)
        calls = make_view(endpoint, lambda request: request.headers.get("X-User"))
        agents = [
            (path, make_view(endpoint, lambda request: request.headers.get("X-User"), path)) for path in endpoint.agents
        ]
        serve = serve_with(handler())

        async def serve_project(listener: socket.socket, ending: asyncio.Event) -> None:
            views = [*((path, calls) for path in endpoint.paths), *agents]
            urls = tuple(django_path(path.removeprefix("/"), view) for path, view in views)
            DJANGO_URLS[0 if listener.family == socket.AF_UNIX else listener.getsockname()[1]] = urls
            await serve(listener, ending)

        return serve_project

    return mounted


MOUNTS: dict[str, Callable[[Endpoint], Serve]] = {
    "uvicorn": lambda endpoint: uvicorn_of(asgi_app(endpoint), lifespan="on"),
    "hypercorn": lambda endpoint: hypercorn_of(asgi_app(endpoint)),
    "tornado": lambda endpoint: tornado_of(tornado_app(endpoint)),
    "tornado, router": lambda endpoint: tornado_of(tornado_router(endpoint)),
    "aiohttp": lambda endpoint: aiohttp_of(aiohttp_app(endpoint, auto_decompress=True)),
    "aiohttp, packed": lambda endpoint: aiohttp_of(aiohttp_app(endpoint, auto_decompress=False), auto_decompress=False),
    "flask": lambda endpoint: waitress_of(flask_app(endpoint)),
    "django": django_of(django_host.view, WSGIHandler, waitress_of),
    "django, async": django_of(
        django_host.async_view, ASGIHandler, lambda handler: uvicorn_of(handler, lifespan="off")
    ),
    "django, threads": django_of(django_host.view, ASGIHandler, lambda handler: uvicorn_of(handler, lifespan="off")),
}
