"""The standard library's XML-RPC server on a port, in one of three kinds.

python -m benchmarks.concurrency.servers.standard_library simple|threading|backlog PORT
"""

import sys
import time
from socketserver import ThreadingMixIn
from typing import Any
from xmlrpc.server import SimpleXMLRPCServer


class Threading(ThreadingMixIn, SimpleXMLRPCServer):
    """A thread for each connection, as the documentation of socketserver has it."""

    daemon_threads = True


class Backlog(Threading):
    """The same, but more than 5 connections may wait until they are accepted."""

    request_queue_size = 4096


KINDS = {"simple": SimpleXMLRPCServer, "threading": Threading, "backlog": Backlog}


def sleep(seconds: Any) -> str:
    """Block."""
    time.sleep(seconds)
    return "done"


def main() -> None:
    """Serve until terminated."""
    kind, port = sys.argv[1:]
    server = KINDS[kind](("127.0.0.1", int(port)), logRequests=False)
    server.register_function(sleep, "sleep")
    server.serve_forever()


if __name__ == "__main__":
    main()
