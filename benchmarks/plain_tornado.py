"""The peer: what people write today, a Tornado RequestHandler around the standard library's codecs.

It prints its port, and serves ``add`` and ``echo`` until it is terminated. With the argument ``uvloop`` it runs on that
loop.
"""

import asyncio
import json
import sys
import xmlrpc.client
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

FUNCTIONS: dict[str, Callable[..., Any]] = {"add": lambda a, b: a + b, "echo": lambda value: value}


class XMLRPCHandler(RequestHandler):
    """XML-RPC by xmlrpc.client."""

    def post(self) -> Awaitable[None] | None:
        """Answer a methodCall."""
        params, method = xmlrpc.client.loads(self.request.body)
        result = FUNCTIONS[str(method)](*params)
        self.set_header("Content-Type", "text/xml")
        self.write(xmlrpc.client.dumps((result,), methodresponse=True))
        return None


class JSONRPCHandler(RequestHandler):
    """JSON-RPC by json."""

    def post(self) -> Awaitable[None] | None:
        """Answer a request object."""
        request = json.loads(self.request.body)
        result = FUNCTIONS[request["method"]](*request["params"])
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps({"jsonrpc": "2.0", "result": result, "id": request["id"]}))
        return None


async def main() -> None:
    """Serve on a free port."""
    application = Application([("/RPC2", XMLRPCHandler), ("/jsonrpc", JSONRPCHandler)])
    sockets = bind_sockets(0, "127.0.0.1", backlog=4096)
    server = HTTPServer(application)
    server.add_sockets(sockets)
    print(f"ready at http://127.0.0.1:{sockets[0].getsockname()[1]}/", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    run = uvloop.run if sys.argv[1:] == ["uvloop"] else asyncio.run
    run(main())
