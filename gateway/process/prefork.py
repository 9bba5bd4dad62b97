"""A gateway in workers under this process: what they share, what a reload plans, and what each of them does.

serve_modules(source, ready)    until SIGINT or SIGTERM; SIGHUP reloads
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from gateway.app import Gateway, build
from gateway.app.mounted import check_hashes, registry_of
from gateway.config import Config, ConfigError, load
from gateway.config.origins import settings
from gateway.core.hooks import LifespanError
from gateway.core.rates import Buckets
from gateway.hosts.loops import new_event_loop
from gateway.methods.loading import LoadError
from gateway.process import publishing, state, tls
from gateway.process.console import ConsoleInputs
from gateway.process.control import RETIRE, START, STOP, Assignment, ForcedShutdown, Generation, Report, StartupError
from gateway.process.metrics_directory import MetricsDirectory
from gateway.process.opening import remove_files
from gateway.process.publishing import publication_of
from gateway.process.registrar import Publishing
from gateway.process.server import log_process, raise_descriptor_limit, run
from gateway.process.sockets import Listeners, URLs, listen, urls_of
from gateway.process.supervisor import MERCY, supervise
from gateway.process.watchdog import beat, end_after_supervisor
from gateway.telemetry import log
from gateway.telemetry.callers import Callers
from gateway.telemetry.live import Live, LiveTable
from gateway.telemetry.metrics import Metrics, forget

_log = logging.getLogger("gateway")
_LIVE = 256  # workers at once that the console can show


class Source(Struct, frozen=True, kw_only=True):
    """Where a configuration and its methods come from; it is read again at each reload.

    Attributes:
        file: the configuration; None for the usual one.
        settings: ``name=value``, as on the command line.
        modules: what to load; if empty, what the configuration names.

    """

    file: Path | None
    settings: tuple[str, ...]
    modules: tuple[str, ...]


def serve_modules(
    source: Source,
    ready: Callable[[URLs, int, Config], Any],
    check: Callable[[Gateway], list[tuple[str, str, str]]] | None = None,
) -> None:
    """Serve modules from workers under this process, until SIGINT or SIGTERM; SIGHUP reloads.

    ``ready`` is told the URLs, the number of methods and the configuration, when the first workers are. ``check`` tells
    the console what may be wrong with a gateway.

    Raises:
        ConfigError: the configuration is wrong, or the process cannot serve safely.
        StartupError: the address cannot be bound, or the methods cannot be served.

    """
    config = load(source.file, os.environ, source.settings)
    log.configure(config.log.level, config.log.format)
    check_hashes()
    raise_descriptor_limit()
    plans = _Plans(source, ready, check)
    try:
        supervise(plans.plan, plans.note_ready)
    except StartupError:
        plans.end()
        raise
    except ForcedShutdown as asked:
        plans.end()
        signal.signal(asked.number, signal.SIG_DFL)
        os.kill(os.getpid(), asked.number)
    plans.end()


class _Plans:
    """What the supervisor keeps from one generation to the next: its sockets, and what workers share."""

    def __init__(
        self,
        source: Source,
        ready: Callable[[URLs, int, Config], Any],
        check: Callable[[Gateway], list[tuple[str, str, str]]] | None,
    ) -> None:
        self._source = source
        self._check = check
        self._live: LiveTable | None = None
        self._ready: Callable[[URLs, int, Config], Any] | None = ready
        self._buckets = Buckets()
        self._started = time.time()
        self._planned: dict[Generation, tuple[Config, Listeners]] = {}
        self._metrics = MetricsDirectory()
        self._texts: dict[Generation, str] = {}
        self._pid_file = ""
        self._addresses: set[str] = set()  # all that were ever bound

    def plan(self, *existing: Generation) -> Generation:
        """Read the configuration, and open what is new in it."""
        try:
            config = load(self._source.file, os.environ, self._source.settings)
            text = state.text_of(config) if config.server.pid_file else ""
            context = tls.load(config.tls)
        except ConfigError as error:
            raise StartupError(error.problems) from None
        before = {generation: planned for generation, planned in self._planned.items() if generation in existing}
        listeners = listen(config, context, *(bound for _, bound in before.values()))
        directory = self._metrics.ensure()
        if config.console.bind and self._live is None:
            self._live = LiveTable(_LIVE)
        generation = Generation(
            workers=_count(config.server.workers),
            work=lambda assignment: self._work(config, listeners, directory, assignment),
            listeners=listeners.all(),
            grace=config.server.grace,
            drain=config.server.drain,
            watchdog=config.server.watchdog,
            ended=lambda slot: None if directory is None else forget(directory, slot),
        )
        self._planned = before | {generation: (config, listeners)}
        self._texts = {each: kept for each, kept in self._texts.items() if each in before} | {generation: text}
        self._addresses.update(config.server.bind)
        return generation

    def _publishing(self, config: Config, listeners: Listeners, methods: tuple[str, ...]) -> Publishing | None:
        """Return how the gateway is published; None for not at all."""
        if not config.publish.directory:
            return None
        address = urlsplit(urls_of(config, listeners).calls).netloc
        what = publication_of(config, address, self._started), config.directories[config.publish.directory]
        publication = publication_of(config, address, self._started, methods)
        return Publishing(what=what, methods=methods, work=partial(publishing.work, config, publication))

    def note_ready(self, generation: Generation, report: Report) -> Publishing | None:
        """Tell the first time that all workers are ready, and return how the gateway is published from now on."""
        config, listeners = self._planned[generation]
        log.configure(config.log.level, config.log.format)
        self._write_pid(config.server.pid_file)
        if self._pid_file:
            self._write_state(state.state_of(config, self._texts.get(generation, ""), report.signatures))
        if self._ready is not None:
            log_process()
            self._ready(urls_of(config, listeners), report.methods, config)
            self._ready = None
        return self._publishing(config, listeners, report.named)

    def _write_pid(self, file: str) -> None:
        if file == self._pid_file:
            return
        self._remove_pid()
        try:
            Path(file).write_text(f"{os.getpid()}\n", "ascii")
            self._pid_file = file
        except OSError as error:
            _log.error("server.pid_file: %s cannot be written: %s", file, str(error.strerror).lower())

    def _write_state(self, served: state.State) -> None:
        try:
            state.write(self._pid_file, served)
        except OSError as error:
            _log.error("%s.state cannot be written: %s", self._pid_file, str(error.strerror).lower())

    def _remove_pid(self) -> None:
        if self._pid_file:
            state.remove(self._pid_file)
            Path(self._pid_file).unlink(missing_ok=True)

    def end(self) -> None:
        """Remove what the supervisor has put into the file system."""
        self._remove_pid()
        self._metrics.remove()
        remove_files(self._addresses)

    def _work(self, config: Config, listeners: Listeners, directory: Path | None, assignment: Assignment) -> int:
        """Serve in a worker, and say over the link how it goes; returns the exit code."""
        gc.freeze()  # a collection would write to all pages that it shares with the supervisor
        log.configure(config.log.level, config.log.format)
        link, record = assignment.link, assignment.record
        record.enable()
        end_after_supervisor(config.server.grace + config.server.drain + MERCY)
        try:
            registry = registry_of(config, self._source.modules)
            make_metrics = partial(Metrics, directory=directory, slot=assignment.slot)
            make_callers = partial(Callers, slot=assignment.slot)
            live = None if self._live is None else Live(self._live, assignment.slot)
            gateway = build(
                config, registry, self._buckets, make_metrics, record.running, make_callers=make_callers, live=live
            )
            for upstream in gateway.upstreams:
                if upstream.instances is not None:
                    upstream.instances.serve(assignment.slot)
        except (LoadError, ConfigError) as error:
            _report(link, Report(problems=error.problems))
            return 1
        loop = new_event_loop()
        ending: asyncio.Future[bytes] = loop.create_future()

        async def start() -> bool:
            """Say that this worker is ready, and wait until it is told to serve."""
            starting: asyncio.Future[bytes] = loop.create_future()
            loop.add_reader(link, _obey, link, loop, starting)
            told = state.signatures(gateway.offered()) if config.server.pid_file else {}
            named = publishing.named(config, gateway.offered()) if config.publish.directory else ()
            _report(link, Report(methods=len(gateway.offered()), signatures=told, named=named))
            if await starting != START:
                return False
            loop.add_reader(link, _obey, link, loop, ending)
            loop.add_signal_handler(signal.SIGTERM, _end, ending, STOP)
            if config.server.watchdog:
                loop.call_soon(beat, loop, record, config.server.watchdog)
            return True

        try:
            found = settings(self._source.file, os.environ, self._source.settings)
            inputs = ConsoleInputs(settings=found, check=self._check)
            loop.run_until_complete(run(gateway, listeners, ending, start, inputs))
        except LifespanError as error:
            _report(link, Report(problems=error.problems))
            return 1
        finally:
            loop.close()
        return 0


def _report(link: socket.socket, report: Report) -> None:
    try:
        link.sendall(msgspec.json.encode(report) + b"\n")
    except OSError:  # the supervisor is gone; that is seen, too, by who reads the link
        _log.debug("nobody reads the worker's report")


def _obey(link: socket.socket, loop: asyncio.AbstractEventLoop, ending: asyncio.Future[bytes]) -> None:
    """Do what the supervisor says; if it is gone, let others have the port, as if they took over."""
    try:
        order = link.recv(1)
    except ConnectionResetError:
        order = b""
    loop.remove_reader(link)
    _end(ending, order or RETIRE)


def _end(ending: asyncio.Future[bytes], order: bytes) -> None:
    if not ending.done():
        ending.set_result(order)


def _count(workers: int | str) -> int:
    return workers if isinstance(workers, int) else len(os.sched_getaffinity(0))
