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
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from xml.parsers import expat

import msgspec
from msgspec import Struct

from gateway import log, monitoring, tls
from gateway.app import Gateway, build, check_hashes, levels
from gateway.config import Config, ConfigError, load
from gateway.loading import LoadError, load_registry
from gateway.loops import new_event_loop
from gateway.methods import Registry
from gateway.metrics import Levels, Metrics, forget
from gateway.rates import Buckets
from gateway.workers import RETIRE, START, STOP, AtOnce, Failed, Generation, Report, supervise

_log = logging.getLogger("gateway")
_TICK = 0.02  # seconds between two looks at what has not ended yet


class Listeners(Struct, frozen=True, kw_only=True):
    """The sockets of a gateway, for calls and for metrics, and how calls are encrypted; None for not at all."""

    calls: tuple[socket.socket, ...]
    metrics: tuple[socket.socket, ...]
    tls: ssl.SSLContext | None


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
        loop.call_soon(_print, *urls_of(config, listeners))
        loop.run_until_complete(run(gateway, listeners, ending))
    finally:
        loop.close()


def _print(url: str, metrics_url: str | None) -> None:
    print(f"gateway: ready at {url}", flush=True)  # noqa: T201 - as the command does
    if metrics_url is not None:
        print(f"gateway: metrics at {metrics_url}", flush=True)  # noqa: T201 - likewise


def _stop(loop: asyncio.AbstractEventLoop, ending: asyncio.Future[bytes]) -> None:
    ending.set_result(STOP)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)


def serve_modules(source: Source, ready: Callable[[str, str | None, int], Any]) -> None:
    """Serve modules from workers under this process, until SIGINT or SIGTERM; SIGHUP reloads.

    ``ready`` is told the URL, that of the metrics if there are any, and the number of methods, when the first workers
    are.

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

    def __init__(self, source: Source, ready: Callable[[str, str | None, int], Any]) -> None:
        self._source = source
        self._ready: Callable[[str, str | None, int], Any] | None = ready
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
            listeners=(*listeners.calls, *listeners.metrics),
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
            self._ready(*urls_of(config, listeners), report.methods)
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
            registry = load_registry(self._source.modules or config.server.modules)
        except LoadError as error:
            _report(link, Report(problems=error.problems))
            return 1
        try:
            gateway = build(config, registry, self._buckets, partial(Metrics, directory=self._metrics, slot=slot))
        except OSError as error:
            _report(link, Report(problems=[f"the metrics cannot be kept: {error}; start anew, or empty metrics.bind"]))
            return 1
        _report(link, Report(methods=len(registry)))
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
    from gateway.hosts.tornado import Host  # noqa: PLC0415 - who only imports the gateway needs no host

    server = gateway.config.server
    host = Host(gateway.service.admit, gateway.config.limits)
    host.serve(listeners.calls, listeners.tls)
    async with _monitored(
        gateway, lambda: levels(gateway, len(host.calls), len(host.clients)), listeners.metrics
    ) as monitors:
        hosts = [host, *monitors]
        order = await ending
        if order == STOP and server.grace:
            gateway.service.closing = True
            _log.info("stopping; seconds until nobody is let in: %g", server.grace)
            await asyncio.sleep(server.grace)
        for each in hosts:
            each.retire()
        if host.calls:
            _log.info("stopping; calls that run: %d; seconds that they have: %g", len(host.calls), server.drain)
        end = time.monotonic() + server.drain
        await asyncio.gather(*(each.drain(server.drain) for each in hosts))
        if order == RETIRE or server.grace:  # a proxy may be about to send a call on an idle connection
            await _until(lambda: not any(len(each.clients) for each in hosts), end)
        for each in hosts:
            await each.close()
    gateway.pool.abandon()
    await _end_tasks()


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
    calls = [old.calls for configured, old in before if configured.server.bind == config.server.bind]
    metrics = [old.metrics for configured, old in before if configured.metrics.bind == config.metrics.bind]
    backlog = config.limits.backlog
    added = () if calls else _bind(config.server.bind, backlog, "--bind HOST:PORT")
    try:
        watched = metrics[0] if metrics else _bind(config.metrics.bind, backlog, "metrics.bind")
    except Failed:
        for listener in added:
            listener.close()
        raise
    return Listeners(calls=added or calls[0], metrics=watched, tls=context)


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


def urls_of(config: Config, listeners: Listeners) -> tuple[str, str | None]:
    """Return the URL to POST to, and that of the metrics; None without one."""
    scheme = "http" if listeners.tls is None else "https"
    metrics = f"http://{_place(listeners.metrics[0])}/metrics" if listeners.metrics else None
    return f"{scheme}://{_place(listeners.calls[0])}{config.server.paths[0]}", metrics


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
