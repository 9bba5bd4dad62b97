"""Sockets and processes around a gateway.

serve(registry, bind)           in this process, for a program that serves its own functions
serve_modules(source, ready)    in workers under this process, for the command; SIGHUP reloads
run(gateway, ...)               on a loop, until it is told to end: what both come to
"""

import asyncio
import logging
import os
import resource
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

import msgspec
from msgspec import Struct

from gateway import log, monitoring, tls
from gateway.app import Gateway, build, check_hashes, levels, registry_of
from gateway.config import Config, ConfigError, load
from gateway.framing import FRAMINGS
from gateway.loading import LoadError
from gateway.loops import new_event_loop
from gateway.methods import Registry
from gateway.metrics import Levels, Metrics, forget
from gateway.rates import Buckets
from gateway.workers import RETIRE, START, STOP, AtOnce, Failed, Generation, Report, supervise

_log = logging.getLogger("gateway")
_TICK = 0.02  # seconds between two looks at what has not ended yet


class Listeners(Struct, frozen=True, kw_only=True):
    """The sockets of a gateway, for calls, for metrics, and for calls over plain TCP.

    ``tls`` is how calls are encrypted; None for not at all.
    """

    calls: tuple[socket.socket, ...]
    metrics: tuple[socket.socket, ...]
    tcp: tuple[socket.socket, ...]
    tls: ssl.SSLContext | None


class URLs(NamedTuple):
    """Where a gateway is reached: the URL to POST to, those of its metrics and of plain TCP; None without one."""

    calls: str
    metrics: str | None
    tcp: str | None


class Source(Struct, frozen=True, kw_only=True):
    """Where a configuration and its methods come from; it is read anew at each reload.

    Attributes:
        file: the configuration; None for the usual one.
        settings: ``name=value``, as on the command line.
        modules: what to load; if empty, what the configuration names.

    """

    file: Path | None
    settings: tuple[str, ...]
    modules: tuple[str, ...]


def serve(registry: Registry, bind: str = "127.0.0.1:8000") -> None:
    """Serve a registry from this process, until SIGINT or SIGTERM; a second signal ends it at once.

    Everything else comes from conf/gateway.toml, if there is one, and the environment.

    Raises:
        ConfigError: the configuration or a file of [tls] is wrong, or the process cannot serve safely.
        Failed: the address cannot be bound.

    """
    config = load(None, os.environ, [f"server.bind={bind}"])
    log.configure(config.log.level, config.log.format)
    check_hashes()
    _raise_descriptor_limit()
    _log_process()
    listeners = listen(config, tls.load(config.tls))
    loop = new_event_loop()
    ending: asyncio.Future[bytes] = loop.create_future()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, loop, ending)
    try:
        gateway = build(config, registry, make_metrics=Metrics)
        loop.call_soon(_print, urls_of(config, listeners))
        loop.run_until_complete(run(gateway, listeners, ending))
    finally:
        loop.close()


def _print(urls: URLs) -> None:
    told = f"{urls.calls} and {urls.tcp}" if urls.tcp else urls.calls
    print(f"gateway: ready at {told}", flush=True)  # noqa: T201 - as the command does
    if urls.metrics is not None:
        print(f"gateway: metrics at {urls.metrics}", flush=True)  # noqa: T201 - likewise


def _stop(loop: asyncio.AbstractEventLoop, ending: asyncio.Future[bytes]) -> None:
    ending.set_result(STOP)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)


def serve_modules(source: Source, ready: Callable[[URLs, int], Any]) -> None:
    """Serve modules from workers under this process, until SIGINT or SIGTERM; SIGHUP reloads.

    ``ready`` is told the URLs and the number of methods, when the first workers are.

    Raises:
        ConfigError: the configuration is wrong, or the process cannot serve safely.
        Failed: the address cannot be bound, or the methods cannot be served.

    """
    config = load(source.file, os.environ, source.settings)
    log.configure(config.log.level, config.log.format)
    check_hashes()
    _raise_descriptor_limit()
    fleet = _Fleet(source, ready)
    try:
        supervise(fleet.plan, fleet.note_ready)
    except Failed:
        fleet.end()
        raise
    except AtOnce as asked:
        fleet.end()
        signal.signal(asked.number, signal.SIG_DFL)
        os.kill(os.getpid(), asked.number)
    fleet.end()


class _Fleet:
    """What the parent keeps from one generation to the next: its sockets, and what workers share."""

    def __init__(self, source: Source, ready: Callable[[URLs, int], Any]) -> None:
        self._source = source
        self._ready: Callable[[URLs, int], Any] | None = ready
        self._buckets = Buckets()
        self._planned: dict[Generation, tuple[Config, Listeners]] = {}
        self._metrics = _make_directory()
        self._pid_file = ""

    def plan(self, serving: Generation | None) -> Generation:
        """Read the configuration, and open what is new in it."""
        try:
            config = load(self._source.file, os.environ, self._source.settings)
            context = tls.load(config.tls)
        except ConfigError as error:
            raise Failed(error.problems) from None
        before = {generation: planned for generation, planned in self._planned.items() if generation is serving}
        listeners = listen(config, context, *before.values())
        generation = Generation(
            workers=_count(config.server.workers),
            work=lambda slot, link: self._work(config, listeners, slot, link),
            listeners=(*listeners.calls, *listeners.metrics, *listeners.tcp),
            grace=config.server.grace,
            drain=config.server.drain,
            ended=lambda slot: forget(self._metrics, slot),
        )
        self._planned = before | {generation: (config, listeners)}
        return generation

    def note_ready(self, generation: Generation, report: Report) -> None:
        """Tell the first time that all workers are ready."""
        config, listeners = self._planned[generation]
        log.configure(config.log.level, config.log.format)
        self._write_pid(config.server.pid_file)
        if self._ready is not None:
            _log_process()
            self._ready(urls_of(config, listeners), report.methods)
            self._ready = None

    def _write_pid(self, file: str) -> None:
        if file == self._pid_file:
            return
        self._remove_pid()
        try:
            Path(file).write_text(f"{os.getpid()}\n", "ascii")
            self._pid_file = file
        except OSError as error:
            _log.error("server.pid_file: %s cannot be written: %s", file, str(error.strerror).lower())

    def _remove_pid(self) -> None:
        if self._pid_file:
            Path(self._pid_file).unlink(missing_ok=True)

    def end(self) -> None:
        """Take away what the parent has put into the file system."""
        self._remove_pid()
        shutil.rmtree(self._metrics, ignore_errors=True)

    def _work(self, config: Config, listeners: Listeners, slot: int, link: socket.socket) -> int:
        """Serve in a worker, and say over the link how it goes; returns the exit code."""
        log.configure(config.log.level, config.log.format)
        try:
            registry = registry_of(config, self._source.modules)
            gateway = build(config, registry, self._buckets, partial(Metrics, directory=self._metrics, slot=slot))
        except (LoadError, ConfigError) as error:
            _report(link, Report(problems=error.problems))
            return 1
        except OSError as error:
            _report(link, Report(problems=[f"the metrics cannot be kept: {error}; start anew, or empty metrics.bind"]))
            return 1
        _report(link, Report(methods=len(gateway.offered())))
        if link.recv(1) != START:
            return 0
        loop = new_event_loop()
        ending: asyncio.Future[bytes] = loop.create_future()
        loop.add_reader(link, _obey, link, loop, ending)
        loop.add_signal_handler(signal.SIGTERM, _end, ending, STOP)
        try:
            loop.run_until_complete(run(gateway, listeners, ending))
        finally:
            loop.close()
        return 0


def _report(link: socket.socket, report: Report) -> None:
    try:
        link.sendall(msgspec.json.encode(report) + b"\n")
    except OSError:  # the parent is gone; that is seen, too, by who reads the link
        _log.debug("nobody reads the worker's report")


def _obey(link: socket.socket, loop: asyncio.AbstractEventLoop, ending: asyncio.Future[bytes]) -> None:
    """Do what the parent says; if it is gone, let others have the port, as if they took over."""
    try:
        order = link.recv(1)
    except ConnectionResetError:
        order = b""
    loop.remove_reader(link)
    _end(ending, order or RETIRE)


def _end(ending: asyncio.Future[bytes], order: bytes) -> None:
    if not ending.done():
        ending.set_result(order)


async def run(gateway: Gateway, listeners: Listeners, ending: asyncio.Future[bytes]) -> None:
    """Serve until told to end, by STOP or RETIRE of gateway/workers.py; then let running calls end.

    They have ``server.drain`` seconds. STOP means that nobody takes over: for ``server.grace`` seconds callers are told
    so at /readyz, before nobody is let in any more.
    """
    from gateway.hosts.tcp import TCPHost  # noqa: PLC0415 - who only imports the gateway needs no host
    from gateway.hosts.tornado import Host  # noqa: PLC0415 - likewise

    server = gateway.config.server
    host = Host(gateway.service.admit, gateway.config.limits)
    tcp = TCPHost(gateway.service.admit, gateway.config.limits, server.paths[0])
    host.serve(listeners.calls, listeners.tls)
    await tcp.serve(listeners.tcp, FRAMINGS[server.tcp_framing])
    discoveries = [asyncio.ensure_future(bridge.discover(gateway.registry)) for bridge in gateway.bridges]

    def measure() -> Levels:
        return levels(gateway, len(host.calls) + len(tcp.calls), len(host.clients) + len(tcp.connections))

    async with _monitored(gateway, measure, listeners.metrics) as monitors:
        order = await ending
        if order == STOP and server.grace:
            gateway.service.closing = True
            _log.info("stopping; seconds until nobody is let in: %g", server.grace)
            await asyncio.sleep(server.grace)
        hosts = [host, *monitors]
        for each in hosts:
            each.retire()
        tcp.stop()
        if running := len(host.calls) + len(tcp.calls):
            _log.info("stopping; calls that run: %d; seconds that they have: %g", running, server.drain)
        end = time.monotonic() + server.drain
        # A proxy may be about to send a call on an idle connection.
        await _drain(hosts, end, idle_too=order == RETIRE or server.grace > 0)
        await _until(lambda: not tcp.calls, end)
        await tcp.close()
    for discovery in discoveries:
        discovery.cancel()
    gateway.pool.abandon()
    await _end_tasks()
    await asyncio.gather(*(bridge.close() for bridge in gateway.bridges))


async def _drain(hosts: list[Any], end: float, *, idle_too: bool) -> None:
    """Close hosts that have retired, when their requests have ended, or at a moment of ``time.monotonic()``."""
    await asyncio.gather(*(host.drain(max(0.0, end - time.monotonic())) for host in hosts))
    if idle_too:
        await _until(lambda: not any(len(host.clients) for host in hosts), end)
    for host in hosts:
        await host.close()


@asynccontextmanager
async def _monitored(
    gateway: Gateway, measure: Callable[[], Levels], sockets: tuple[socket.socket, ...]
) -> AsyncIterator[list[Any]]:
    """Serve the metrics, if there are any, and yield their host, which is to be retired and closed like the other."""
    if gateway.metrics is None:
        yield []
        return
    from gateway.hosts.tornado import Host  # noqa: PLC0415 - likewise

    scraped = Host(monitoring.admission(gateway.metrics, measure, gateway.service.health), gateway.config.limits)
    scraped.serve(sockets)
    sampling = asyncio.create_task(monitoring.sample(gateway.metrics, measure))
    try:
        yield [scraped]
    finally:
        sampling.cancel()
        gateway.metrics.update(measure())


async def _until(done: Callable[[], bool], end: float) -> None:
    """Wait until something is done, but no longer than to a moment of ``time.monotonic()``."""
    while not done() and time.monotonic() < end:  # noqa: ASYNC110 - connections end in many ways
        await asyncio.sleep(_TICK)


async def _end_tasks() -> None:
    """Cancel what is left, and wait a moment for it; a method that ignores its cancellation is not waited for."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=1)


def listen(config: Config, context: ssl.SSLContext | None, *before: tuple[Config, Listeners]) -> Listeners:
    """Open the sockets of a configuration, or take over those before it that have the same address.

    Raises:
        Failed: an address cannot be bound.

    """
    wanted = {
        "calls": (config.server.bind, "--bind HOST:PORT"),
        "metrics": (config.metrics.bind, "metrics.bind"),
        "tcp": (config.server.tcp, "--tcp HOST:PORT"),
    }
    found = {name: getattr(old, name) for configured, old in before for name in _unmoved(configured, config)}
    opened: dict[str, tuple[socket.socket, ...]] = {}
    try:
        for name, (place, option) in wanted.items():
            if name not in found:
                opened[name] = _bind(place, config.limits.backlog, option)
    except Failed:
        for listener in chain.from_iterable(opened.values()):
            listener.close()
        raise
    return Listeners(**found, **opened, tls=context)


def _unmoved(before: Config, now: Config) -> Iterator[str]:
    """Tell which sockets have the address that they had."""
    if before.server.bind == now.server.bind:
        yield "calls"
    if before.metrics.bind == now.metrics.bind:
        yield "metrics"
    if before.server.tcp == now.server.tcp:
        yield "tcp"


def _make_directory() -> Path:
    """Make the directory in which the workers keep their metrics."""
    try:
        return Path(tempfile.mkdtemp(prefix="gateway-metrics-"))
    except OSError as error:
        reason = str(error.strerror).lower()
        raise Failed([f"no directory for the metrics can be made: {reason}; name one with TMPDIR"]) from None


def _bind(bind: str, backlog: int, option: str) -> tuple[socket.socket, ...]:
    from gateway.hosts.listening import bind as open_sockets  # noqa: PLC0415 - likewise

    if not bind:
        return ()
    address, _, port = bind.rpartition(":")
    try:
        return tuple(open_sockets(address.strip("[]"), int(port), backlog))
    except (OSError, UnicodeError) as error:  # a host name can be one that has no bytes
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise Failed([f"cannot listen on {bind}: {reason}; choose another address with {option}"]) from None


def urls_of(config: Config, listeners: Listeners) -> URLs:
    """Return where the sockets are reached."""
    scheme = "http" if listeners.tls is None else "https"
    return URLs(
        calls=f"{scheme}://{_place(listeners.calls[0])}{config.server.paths[0]}",
        metrics=f"http://{_place(listeners.metrics[0])}/metrics" if listeners.metrics else None,
        tcp=f"tcp://{_place(listeners.tcp[0])}" if listeners.tcp else None,
    )


def _place(bound: socket.socket) -> str:
    address, port = bound.getsockname()[:2]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _count(workers: int | str) -> int:
    return workers if isinstance(workers, int) else len(os.sched_getaffinity(0))


def _log_process() -> None:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    _log.info("python %s, %s, %d descriptors", sys.version.split()[0], expat.EXPAT_VERSION, descriptors)


def _raise_descriptor_limit() -> None:
    """Raise the limit of open files to what the system lets this process have: each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
