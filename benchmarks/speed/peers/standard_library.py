"""The standard library's XML-RPC server, a thread for each connection, with HTTP/1.1, so that connections stay open.

It prints its port, and serves until it is terminated.
"""

import time
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer


class KeptAlive(SimpleXMLRPCRequestHandler):
    """The same handler; its version of HTTP is 1.0 by default."""

    protocol_version = "HTTP/1.1"


class Threading(ThreadingMixIn, SimpleXMLRPCServer):
    """The server, with a backlog that holds all connections that come at once; it is 5 by default."""

    daemon_threads = True
    request_queue_size = 4096


def sleep(seconds: int) -> str:
    """Block."""
    time.sleep(seconds)
    return "done"


METHODS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "addThread": lambda a, b: a + b,
    "echo": lambda value: value,
    "sleepThread": sleep,
}


def main() -> None:
    """Serve on a free port."""
    server = Threading(("127.0.0.1", 0), KeptAlive, logRequests=False)
    for name, function in METHODS.items():
        server.register_function(function, name)
    print(f"ready at http://127.0.0.1:{server.server_address[1]}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
