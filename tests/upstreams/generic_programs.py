"""Servers of protobuf's generic services: python -m tests.upstreams.generic_programs KIND PORT, with protobuf below 6.

Written on what protobuf generates for ``py_generic_services``: services, stubs and an RpcChannel. The kinds: ``frames``
answers with a frame of the same index, ``all`` too, with lengths that include themselves; ``callbacks`` answers by
calling the client back; ``game`` is the game of the articles. This file runs in an environment of its own.
"""

import importlib
import socketserver
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from google.protobuf import service  # type: ignore[attr-defined]
from grpc_tools import protoc  # type: ignore[import-untyped]


def generated(name: str) -> Any:
    """Generate a module of a .proto, as its users do beforehand."""
    folder = tempfile.mkdtemp()
    assert protoc.main(["protoc", "-Itests/upstreams", f"--python_out={folder}", f"{name}.proto"]) == 0
    sys.path.insert(0, folder)
    return importlib.import_module(f"{name}_pb2")


game, generic = generated("game"), generated("generic")


class Programs(generic.Programs):  # type: ignore[misc, name-defined]
    """The methods; ``done`` brings the answer out."""

    def add(self, controller: Any, request: Any, done: Any) -> None:
        done(generic.Whole(value=request.a + request.b))

    def subtract(self, controller: Any, request: Any, done: Any) -> None:
        done(generic.Whole(value=request.a - request.b))

    def pause(self, controller: Any, request: Any, done: Any) -> None:
        time.sleep(request.value)
        done(generic.Real(value=request.value))

    def mark(self, controller: Any, request: Any, done: Any) -> None:
        path = Path(request.path)
        with path.open("a") as file:
            file.write("run\n")
        time.sleep(request.seconds)
        done(generic.Whole(value=len(path.read_text().splitlines())))

    def echo(self, controller: Any, request: Any, done: Any) -> None:
        done(request)

    def add_up(self, controller: Any, request: Any, done: Any) -> None:
        """Return the sum of what has come over this connection."""
        self.sum = getattr(self, "sum", 0) + request.value
        done(generic.Whole(value=self.sum))

    def forget(self, controller: Any, request: Any, done: Any) -> None:
        with Path(request.path).open("a") as file:
            file.write("run\n")


class Game(game.GameService):  # type: ignore[misc, name-defined]
    """The game's server, which knows its client by a stub."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def connect_server(self, controller: Any, request: Any, done: Any) -> None:
        self.client.on_tick(controller, game.RequestMessage(msg="tick"), None)
        self.client.connect_reply(controller, game.RequestMessage(msg=f"welcome, {request.msg}"), None)
        self.client.on_tick(controller, game.RequestMessage(msg="tock"), None)


class Channel(service.RpcChannel):  # type: ignore[misc]
    """Writes calls, and answers, as frames."""

    def __init__(self, file: Any, more: int) -> None:
        self.file = file
        self.more = more

    def CallMethod(self, method: Any, controller: Any, request: Any, response_class: Any, done: Any) -> None:  # noqa: N802 - the library's name
        self.write(method.index, request)

    def write(self, index: int, message: Any) -> None:
        body = message.SerializeToString()
        self.file.write(struct.pack("<IH", len(body) + self.more, index) + body)
        self.file.flush()


class Peer(socketserver.StreamRequestHandler):
    kind = ""

    def handle(self) -> None:
        more = 6 if self.kind == "all" else 2
        channel = Channel(self.wfile, more)
        served = Game(game.ClientService_Stub(channel)) if self.kind == "game" else Programs()
        client = generic.Client_Stub(channel)
        answers = [client.added, client.subtracted, client.paused, client.marked, client.echoed, None, client.added_up]
        while len(head := self.rfile.read(6)) == 6:
            length, index = struct.unpack("<IH", head)
            method = served.GetDescriptor().methods[index]
            request = served.GetRequestClass(method).FromString(self.rfile.read(length - more))

            def done(response: Any, index: int = index) -> None:
                if self.kind == "callbacks":
                    client.on_tick(None, generic.Whole(value=index), None)
                    answers[index](None, response, None)
                else:
                    channel.write(index, response)

            served.CallMethod(method, None, request, done)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Peer.kind = sys.argv[1]
    Server(("127.0.0.1", int(sys.argv[2])), Peer).serve_forever()
