"""An instance for drills: python -m tests.fleet.program LOG MODE [HOST:]PORT...

It speaks JSON-RPC on lines, and writes the first argument of each call that it runs as a line to LOG, which the
instances share. MODE: ``well``, ``garbage`` (responses that are none), ``reset`` (connections are reset when a call
comes), ``failing`` (it has failed inside), ``busy`` (a fault of its own, code 77), or the seconds that a call takes.
"""

import asyncio
import json
import os
import socket
import struct
import sys

_REASONS = {"failing": (-32603, "Internal error"), "busy": (77, "busy")}


class Instance(asyncio.Protocol):
    """A connection."""

    def __init__(self, log: int, mode: str) -> None:
        self._log = log
        self._mode = mode
        self._held = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            call = json.loads(line)
            if self._mode == "reset":
                connected = self._transport.get_extra_info("socket")
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._transport.abort()
                return
            os.write(self._log, b"%b\n" % str(call["params"][0]).encode())
            seconds = float(self._mode) if self._mode[0].isdigit() else 0.0
            if seconds:
                asyncio.get_running_loop().call_later(seconds, self._answer, call)
            else:
                self._answer(call)

    def _answer(self, call: dict[str, object]) -> None:
        said = {"jsonrpc": "2.0", "id": call["id"]}
        if self._mode in _REASONS:
            code, message = _REASONS[self._mode]
            said["error"] = {"code": code, "message": message}
        else:
            said["result"] = os.getpid()
        self._transport.write(b"{nothing\n" if self._mode == "garbage" else json.dumps(said).encode() + b"\n")


async def main(log: str, mode: str, *ports: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    loop = asyncio.get_running_loop()
    for port in ports:
        host, _, number = port.rpartition(":")
        await loop.create_server(lambda: Instance(file, mode), host or "127.0.0.1", int(number), reuse_address=True)
    await loop.create_future()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
