"""A gateway on an event loop.

serve_until(ending, gateway, ...)    on a loop that others use, too: what is theirs is left alone
run(gateway, ...)                    the same on a loop of its own, in a worker of gateway/process/prefork.py, too
serve(registry, bind)                in this process, for a program that does nothing else
"""

import asyncio
import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from xml.parsers import expat

import msgspec

from gateway.app import Gateway, build
from gateway.app.measured import levels, moving
from gateway.app.mounted import check_hashes
from gateway.codecs import IMPLEMENTATION
from gateway.config import Config
from gateway.config.beside import load_for_program
from gateway.config.described import described
from gateway.core.forks import closed_in_children
from gateway.core.hooks import LifespanError
from gateway.endpoints import metrics as monitoring
from gateway.hosts import Host
from gateway.hosts.loops import new_event_loop
from gateway.methods import Registry
from gateway.model.networks import address
from gateway.process import tls
from gateway.process.console import ConsoleInputs, admitted, console_of
from gateway.process.control import RETIRE, STOP, StartupError
from gateway.process.sockets import Listeners, URLs, close, listen, local_names, urls_of
from gateway.telemetry import log
from gateway.telemetry.callers import Callers
from gateway.telemetry.live import Measure
from gateway.telemetry.metrics import Levels, Metrics
from gateway.upstreams.frame import introduce
from gateway.wire.framing import FRAMINGS

_log = logging.getLogger("gateway")
_M_MMAP_THRESHOLD, _LARGE = -3, 2**20  # mallopt(3); bytes
_TICK = 0.02  # seconds between two looks at what has not ended yet
_MERCY = 1.0  # seconds that cancelled calls have to end


def serve(
    registry: Registry, bind: str | Iterable[str] | None = None, *, config: str | Path | Config | None = None
) -> None:
    """Serve a registry from this process, until SIGINT or SIGTERM; a second signal ends it at once.

    Args:
        registry: the methods.
        bind: an address like ``server.bind`` in conf/gateway.toml, host:port for example, or several of them; without
            it, that of the configuration, which is 127.0.0.1:8000 by default.
        config: a file, or a Config that has been loaded already. Without it, the file is the one that GATEWAY_CONFIG
            names, or conf/gateway.toml beside the calling module, or in the current folder.

    Raises:
        ConfigError: the configuration or a file of [tls] is wrong, or the process cannot serve safely.
        LoadError: middleware that the configuration names cannot be loaded.
        StartupError: the address cannot be bound, or what the methods need cannot be opened.

    """
    config = load_for_program(config, os.environ, bind=bind)
    log.configure(config.log.level, config.log.format)
    check_hashes()
    raise_descriptor_limit()
    log_process()
    listeners = listen(config, tls.load(config.tls))
    loop = new_event_loop()
    ending: asyncio.Future[bytes] = loop.create_future()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, loop, ending)
    try:
        gateway = build(config, registry, make_metrics=Metrics, make_callers=partial(Callers, slot=0))

        async def tell() -> bool:
            _print(urls_of(config, listeners), described(config))
            return True

        loop.run_until_complete(run(gateway, listeners, ending, tell))
    except LifespanError as error:
        raise StartupError(error.problems) from None
    finally:
        loop.close()
        close(listeners)


def _print(urls: URLs, configuration: str) -> None:
    told = (urls.calls, *urls.others, *([urls.tcp] if urls.tcp else []))
    print(f"gateway: ready at {' and '.join(told)}", flush=True)  # noqa: T201 - as the command does
    if urls.metrics is not None:
        print(f"gateway: metrics at {urls.metrics}", flush=True)  # noqa: T201 - likewise
    if urls.console is not None:
        print(f"gateway: console at {urls.console}", flush=True)  # noqa: T201 - likewise
    print(f"gateway: {configuration}", flush=True)  # noqa: T201 - likewise


def _stop(loop: asyncio.AbstractEventLoop, ending: asyncio.Future[bytes]) -> None:
    ending.set_result(STOP)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)


async def _go() -> bool:
    return True


async def run(
    gateway: Gateway,
    listeners: Listeners,
    ending: asyncio.Future[bytes],
    opened: Callable[[], Awaitable[bool]] = _go,
    inputs: ConsoleInputs = ConsoleInputs(),  # noqa: B008 - it is frozen
) -> None:
    """Serve on a loop and in a process of our own until told to end; then end whatever runs on the loop.

    ``opened`` is awaited when what the methods need is open; where it returns False, nothing is served. ``inputs`` are
    what the console tells of the configuration.

    Raises:
        LifespanError: what the methods need cannot be opened.

    """
    free_large_blocks()
    try:
        async with gateway.lifespans:
            if await opened():
                await serve_until(ending, gateway, listeners, inputs=inputs)
    finally:
        await _end_tasks()


async def serve_until(
    ending: asyncio.Future[bytes],
    gateway: Gateway,
    listeners: Listeners,
    ready: Callable[[Sequence[Host]], object] = lambda _: None,
    inputs: ConsoleInputs = ConsoleInputs(),  # noqa: B008 - it is frozen
) -> None:
    """Serve until told to end, by STOP or RETIRE of gateway/process/supervisor.py; then let running calls end.

    They have ``server.drain`` seconds. STOP means that nobody takes over: for ``server.grace`` seconds callers are told
    so at /readyz, before connections are no longer accepted. ``ready`` is called with the hosts when these accept.
    """
    if gateway.tracing is not None:
        gateway.tracing.start(at_exit=False)
    with closed_in_children(local_names(listeners)):
        await _serve(ending, gateway, listeners, ready, inputs)
    if gateway.tracing is not None:
        await gateway.tracing.flush()


async def _serve(
    ending: asyncio.Future[bytes],
    gateway: Gateway,
    listeners: Listeners,
    ready: Callable[[Sequence[Host]], object],
    inputs: ConsoleInputs,
) -> None:
    from gateway.hosts.connections import capacity  # noqa: PLC0415 - who only imports the gateway needs no host
    from gateway.hosts.http import HTTPHost  # noqa: PLC0415 - likewise
    from gateway.hosts.tcp import TCPHost  # noqa: PLC0415 - likewise

    server, limits = gateway.config.server, gateway.config.limits
    if listeners.tcp:  # both have their half of the connections of this process
        limits = msgspec.structs.replace(
            limits, connections=max(1, capacity(limits.connections) // 2), unread=max(1, limits.unread // 2)
        )
    proxies = gateway.config.access.trusted_proxies

    @lru_cache(maxsize=256)  # it is asked for each request that a proxy brings
    def is_proxy(peer: str) -> bool:
        found = address(peer)
        return found is not None and any(found in network for network in proxies)

    admit = admitted(gateway, urls_of(gateway.config, listeners))
    http = HTTPHost(admit, limits, is_proxy, listeners.tls, gateway.know, gateway.site, gateway.websockets)
    tcp = TCPHost(gateway.rpc.admit_message, limits, server.paths[0], FRAMINGS[server.tcp_framing], is_proxy)
    discoveries = await introduce(gateway.upstreams, gateway.registry)
    http.serve(listeners.calls)
    tcp.serve(listeners.tcp)

    def measure() -> Levels:
        return levels(gateway, http.running() + tcp.running(), http.connected() + tcp.connected())

    def move() -> Mapping[str, Any]:
        return moving(gateway, http.running() + tcp.running(), http.connected() + tcp.connected())

    async with (
        _counted(gateway.callers),
        _monitored(gateway, measure, listeners.metrics) as monitors,
        _shown(gateway, move, listeners, inputs) as consoles,
    ):
        hosts: list[Host] = [http, tcp, *monitors, *consoles]
        ready(hosts)
        try:
            order = await ending
            if order == STOP and server.grace:
                gateway.rpc.closing = True
                _log.info("stopping; seconds until no connection is accepted: %g", server.grace)
                await asyncio.sleep(server.grace)
        finally:
            for host in hosts:
                host.retire()
        if calls := http.running() + tcp.running():
            _log.info("stopping; running calls: %d; seconds until they are ended: %g", calls, server.drain)
        end = time.monotonic() + server.drain
        # A proxy may be about to send a call on an idle connection.
        await _drain(hosts, end, idle_too=order == RETIRE or server.grace > 0)
    for discovery in discoveries:
        discovery.cancel()
    gateway.pool.abandon()
    # Closed connections have cancelled their calls; a method that ignores its cancellation is not waited for.
    await _until(lambda: not (http.running() + tcp.running() + gateway.running()), time.monotonic() + _MERCY)
    if gateway.recorder is not None:
        await gateway.recorder.end()
    await asyncio.gather(*(upstream.close() for upstream in gateway.upstreams))
    await asyncio.gather(*(directory.close() for directory in gateway.directories.values()))


async def _drain(hosts: list[Host], end: float, *, idle_too: bool) -> None:
    """Close hosts that have retired, when their requests have ended, or at a time of ``time.monotonic()``."""
    await asyncio.gather(*(host.drain(max(0.0, end - time.monotonic())) for host in hosts))
    if idle_too:
        await _until(lambda: not any(host.connected() for host in hosts), end)
    for host in hosts:
        await host.close()


@asynccontextmanager
async def _monitored(
    gateway: Gateway, measure: Callable[[], Levels], sockets: tuple[socket.socket, ...]
) -> AsyncIterator[list[Host]]:
    """Serve the metrics, if there are any, and yield their host, which is to be retired and closed like the others."""
    if gateway.metrics is None:
        yield []
        return
    from gateway.hosts.http import HTTPHost  # noqa: PLC0415 - likewise

    names = (gateway.config.metrics.bind.rpartition(":")[0], *gateway.config.access.hosts)
    admit = monitoring.admission(gateway.metrics, measure, gateway.rpc.health, names)
    scraped = HTTPHost(admit, gateway.config.limits)
    scraped.serve(sockets)
    sampling = asyncio.create_task(monitoring.sample(gateway.metrics, measure))
    try:
        yield [scraped]
    finally:
        sampling.cancel()
        gateway.metrics.update(measure())


@asynccontextmanager
async def _counted(callers: Callers | None) -> AsyncIterator[None]:
    """Keep the counts of who calls, if there are any."""
    if callers is None:
        yield
        return
    callers.keep()
    try:
        yield
    finally:
        callers.close()


@asynccontextmanager
async def _shown(
    gateway: Gateway, measure: Measure, listeners: Listeners, inputs: ConsoleInputs
) -> AsyncIterator[list[Host]]:
    """Serve the console, if there is one, and yield its host, which is to be retired and closed like the others."""
    if gateway.live is None:
        yield []
        return
    from gateway.hosts.http import HTTPHost  # noqa: PLC0415 - who only imports the gateway needs no host

    host = HTTPHost(console_of(gateway, urls_of(gateway.config, listeners), inputs), gateway.config.limits)
    host.serve(listeners.console)
    keeping = asyncio.create_task(gateway.live.keep(measure))
    try:
        yield [host]
    finally:
        keeping.cancel()
        gateway.live.write(measure())


async def _until(done: Callable[[], bool], end: float) -> None:
    """Wait until something is done, but no longer than to a time of ``time.monotonic()``."""
    while not done() and time.monotonic() < end:  # noqa: ASYNC110 - connections end in many ways
        await asyncio.sleep(_TICK)


async def _end_tasks() -> None:
    """Cancel what is left, and wait a second for it; a method that ignores its cancellation is not waited for."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_MERCY)


def log_process() -> None:
    """Say what this process is."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    python = sys.version.split()[0]
    _log.info("python %s, %s, %s codec, %d descriptors", python, expat.EXPAT_VERSION, IMPLEMENTATION, descriptors)


def free_large_blocks() -> None:
    """Have the C library return each large block to the system as soon as it is freed.

    By default glibc keeps blocks of up to 32 MiB once some have been freed, and large responses leave holes: nearly as
    much memory again as is used.
    """
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


def raise_descriptor_limit() -> None:
    """Raise the limit of open files to what the system lets this process have: each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
