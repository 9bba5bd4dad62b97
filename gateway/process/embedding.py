"""A gateway inside of another program.

Server(registry)     on the program's own event loop: ``async with``, or start() and stop()
running(registry)    in a thread, for a program without one: ``with``

Both leave the program's log, signals and tasks alone.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from gateway.app import Gateway, build
from gateway.app.mounted import check_hashes
from gateway.config import Config
from gateway.config.beside import load_for_program
from gateway.core.hooks import LifespanError
from gateway.hosts import Host
from gateway.hosts.loops import new_event_loop
from gateway.methods import Registry
from gateway.process import tls
from gateway.process.control import STOP, StartupError
from gateway.process.server import serve_until
from gateway.process.sockets import Listeners, URLs, close, listen, urls_of
from gateway.telemetry.callers import claimed
from gateway.telemetry.metrics import Metrics


class Server:
    """A gateway on the running event loop, asyncio's or Tornado's, from start() to stop().

    What is served is what the registry holds at start(). Signals, the log and all other tasks of the loop remain the
    program's own. A Server serves once.

    Args:
        registry: the methods.
        bind: an address like ``server.bind`` in conf/gateway.toml, or several of them; host:port, for example, where
            port 0 takes a free one. Without it, that of the configuration, which is 127.0.0.1:8000 by default.
        config: a file, or a Config that has been loaded already. Without it, the file is the one that GATEWAY_CONFIG
            names, or conf/gateway.toml beside the calling module, or in the current folder.

    Raises:
        ConfigError: the configuration is wrong.

    """

    def __init__(
        self, registry: Registry, bind: str | Iterable[str] | None = None, *, config: str | Path | Config | None = None
    ) -> None:
        self._config = load_for_program(config, os.environ, bind=bind)
        self._registry = registry
        self._urls: URLs | None = None
        self._hosts: Sequence[Host] = ()
        self._ending: asyncio.Future[bytes]
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The URL to POST calls to, at the first address."""
        return self._started().calls

    @property
    def port(self) -> int:
        """The port of ``url``; 0 for a Unix socket."""
        return urlsplit(self.url).port or 0

    @property
    def other_urls(self) -> tuple[str, ...]:
        """The URLs to POST calls to at the other addresses."""
        return self._started().others

    @property
    def metrics_url(self) -> str | None:
        """The URL of the metrics; None without ``metrics.bind``."""
        return self._started().metrics

    @property
    def console_url(self) -> str | None:
        """The URL of the console; None without ``console.bind``."""
        return self._started().console

    @property
    def tcp_url(self) -> str | None:
        """The address for JSON-RPC over plain TCP; None without ``server.tcp``."""
        return self._started().tcp

    async def start(self) -> None:
        """Bind the addresses and serve; returns when connections are accepted.

        Raises:
            ConfigError: a file of [tls] is wrong, an upstream cannot be served, or the process cannot serve safely.
            LoadError: middleware that the configuration names cannot be loaded.
            StartupError: an address cannot be bound, or what the methods need cannot be opened.
            RuntimeError: it has been started before.

        """
        if self._serving is not None:
            raise RuntimeError("a Server is started once; make another one")
        check_hashes()
        gateway = self._build()
        listeners = listen(self._config, tls.load(self._config.tls))
        urls = urls_of(self._config, listeners)
        loop = asyncio.get_running_loop()
        self._ending = loop.create_future()
        ready: asyncio.Future[Sequence[Host]] = loop.create_future()
        self._serving = loop.create_task(self._serve(gateway, listeners, ready))
        await asyncio.wait((self._serving, ready), return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            self._serving.result()
        self._hosts = ready.result()
        self._urls = urls

    async def settled(self, seconds: float) -> None:
        """Wait until no request is being read or answered, and each answer was taken; for so long at most."""
        await asyncio.gather(*(host.drain(seconds) for host in self._hosts))

    async def stop(self) -> None:
        """Accept nothing more, let running calls end for ``server.drain`` seconds, and end what is left of them.

        It may be called again, and before start().
        """
        if self._serving is None:
            return
        if not self._ending.done():
            self._ending.set_result(STOP)
        await asyncio.wait((self._serving,))  # a cancelled wait must not cut off the calls
        self._serving.result()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _build(self) -> Gateway:
        return build(self._config, self._registry, make_metrics=Metrics, make_callers=claimed)

    async def _serve(self, gateway: Gateway, listeners: Listeners, ready: asyncio.Future[Sequence[Host]]) -> None:
        try:
            async with gateway.lifespans:
                await serve_until(self._ending, gateway, listeners, ready.set_result)
        except LifespanError as error:
            raise StartupError(error.problems) from None
        finally:
            close(listeners)

    def _started(self) -> URLs:
        if self._urls is None:
            raise RuntimeError("the Server has not been started")
        return self._urls


def running(
    registry: Registry, bind: str | Iterable[str] | None = "127.0.0.1:0", *, config: str | Path | Config | None = None
) -> AbstractContextManager[Server]:
    """Serve a registry from a thread with an event loop of its own, inside of a ``with`` block.

    Args:
        registry: the methods.
        bind: as for Server; by default a free port of this machine. With None, ``server.bind`` of the configuration.
        config: as for Server.

    Returns:
        a context manager, which gives a Server that runs: its ``url`` and ``port``. Do not await its methods.

    Raises:
        ConfigError: the configuration is wrong. The block itself raises what Server.start raises.

    """
    loaded = load_for_program(config, os.environ, bind=bind)
    return _in_thread(Server(registry, config=loaded))


@contextmanager
def _in_thread(server: Server) -> Iterator[Server]:
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        leaving = asyncio.Event()
        async with server:
            started.set_result((asyncio.get_running_loop(), leaving))
            await leaving.wait()

    def work() -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve())

    with ThreadPoolExecutor(1, "gateway") as thread:
        ended = thread.submit(work)
        either: list[Future[Any]] = [started, ended]
        wait(either, return_when=FIRST_COMPLETED)
        if ended.done():
            ended.result()
        loop, leaving = started.result()
        try:
            yield server
        finally:
            loop.call_soon_threadsafe(leaving.set)
            ended.result()
