"""XML-RPC by aiohttp-xmlrpc, or JSON-RPC by pjrpc, on aiohttp and uvloop, without a log.

    python -m benchmarks.speed.peers.on_aiohttp xmlrpc|jsonrpc

It prints its port, and serves until it is terminated.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pjrpc.server
import uvloop
from aiohttp import web
from aiohttp_xmlrpc import handler  # type: ignore[import-untyped]
from pjrpc.server.integration import aiohttp

_LARGEST = 64 * 2**20  # bytes of a request


class Methods(handler.XMLRPCView):  # type: ignore[misc] # it has no types
    """What is called over XML-RPC."""

    def rpc_add(self, a: int, b: int) -> int:
        """Add."""
        return a + b

    async def rpc_addAsync(self, a: int, b: int) -> int:  # noqa: N802 - it is the method's name
        """Add, in a coroutine."""
        return a + b

    def rpc_echo(self, value: Any) -> Any:
        """Return what came."""
        return value


def xmlrpc() -> web.Application:
    """Make the application of aiohttp-xmlrpc."""
    application = web.Application(client_max_size=_LARGEST)
    application.router.add_route("*", "/RPC2", Methods)
    return application


def jsonrpc() -> web.Application:
    """Make the application of pjrpc."""
    methods = pjrpc.server.MethodRegistry()

    @methods.add()
    def add(a: int, b: int) -> int:
        return a + b

    @methods.add("addAsync")
    async def add_async(a: int, b: int) -> int:
        return a + b

    @methods.add()
    def echo(value: Any) -> Any:
        return value

    application = aiohttp.Application("/jsonrpc", http_app=web.Application(client_max_size=_LARGEST))
    application.add_methods(methods)
    return application.http_app


APPLICATIONS: dict[str, Callable[[], web.Application]] = {"xmlrpc": xmlrpc, "jsonrpc": jsonrpc}


async def main() -> None:
    """Serve on a free port."""
    runner = web.AppRunner(APPLICATIONS[sys.argv[1]](), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print(f"ready at http://127.0.0.1:{runner.addresses[0][1]}/", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
