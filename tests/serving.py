"""A gateway in this process, on a real socket, with an event loop in a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop
from msgspec import Struct

from gateway import app
from gateway.config import load
from gateway.methods import Registry


class Server(Struct, frozen=True, kw_only=True):
    """A gateway that runs: its URL, and what a test may want to look at inside."""

    url: str
    port: int
    tcp_port: int
    gateway: app.Gateway
    loop: asyncio.AbstractEventLoop

    def at(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@contextmanager
def serving(
    registry: Registry, settings: Mapping[str, Any] | None = None, file: Path | None = None
) -> Iterator[Server]:
    """Serve a registry on a free port; settings are options of gateway.toml by their full names, beside a file."""
    chosen = [f"{name}={value}" for name, value in (settings or {}).items()]
    config = load(file, {}, ["server.bind=127.0.0.1:0", *chosen])
    gateway = app.build(config, registry)
    loop = uvloop.new_event_loop()
    stop = asyncio.Event()
    urls: list[str] = []
    ready = threading.Event()

    def note(*ready_at: str) -> None:
        urls.extend(ready_at)
        ready.set()

    thread = threading.Thread(target=lambda: loop.run_until_complete(app.run(gateway, note, stop)), daemon=True)
    thread.start()
    assert ready.wait(10), "the gateway does not start"
    port, *others = [int(url.rpartition(":")[2].partition("/")[0]) for url in urls]
    tcp_port = others[0] if others else 0
    try:
        yield Server(url=urls[0], port=port, tcp_port=tcp_port, gateway=gateway, loop=loop)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(15)
        assert not thread.is_alive(), "the gateway does not stop"
        loop.close()
