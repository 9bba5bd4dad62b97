"""The wiring: the one file that knows everybody.

build(config, registry)   codecs, layers, dispatcher, service: everything but sockets
run(gateway, ...)         a host around it, until it is told to stop
serve(registry, bind)     both, for a program that serves its own functions
"""

import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any
from xml.parsers import expat

from msgspec import Struct

from gateway import log
from gateway.bridges import Bridge
from gateway.calls import Handler
from gateway.codecs.jsonrpc import JSONRPC
from gateway.codecs.xmlrpc import XMLRPC
from gateway.config import Config, ConfigError, Server, load
from gateway.dispatch import dispatcher, invoke
from gateway.faults import Fault
from gateway.framing import FRAMINGS
from gateway.hosts.tcp import TCPHost
from gateway.introspection import add_introspection, describe
from gateway.layers import Places, deadline, limited
from gateway.methods import Method, RegistrationError, Registry
from gateway.service import RPCService
from gateway.threads import ThreadPool
from gateway.upstreams import NoBridge

_log = logging.getLogger("gateway")


class Gateway(Struct, frozen=True, kw_only=True):
    """A whole gateway without its sockets."""

    config: Config
    registry: Registry
    service: RPCService
    pool: ThreadPool
    bridges: tuple[Bridge, ...]

    def describe(self) -> dict[str, Any]:
        """Return the OpenRPC document of what is served."""
        return describe(self.registry, "jsonrpc", *_identity())


def build(config: Config, registry: Registry) -> Gateway:
    """Put a gateway together around the methods of a registry.

    The registry is taken over into one of the gateway's own, beside the introspection methods and the methods of the
    upstreams that are known before they are reached.

    Raises:
        ConfigError: an upstream cannot be served as it is configured; it lists all of them.

    """
    limits = config.limits
    served = Registry()
    served.mount(registry)
    title, number = _identity()
    add_introspection(served, title=title, version=number, nil=config.xmlrpc.nil)
    bridges = _bridges(config, served)
    pool = ThreadPool()
    places = {"thread": Places(limits.threads, limits.waiting), "async": Places(limits.calls, limits.waiting)}

    def compose(method: Method) -> Handler:
        handler = invoke(method, pool)
        if method.run == "inline":
            return handler  # it has returned before anything could be limited
        handler = limited(handler, places[method.run], limits.retry_after)
        if method.options.concurrency is not None:
            handler = limited(handler, Places(method.options.concurrency, limits.waiting), limits.retry_after)
        return deadline(handler)

    def absent(name: str) -> Fault | None:
        return next((fault for bridge in bridges if (fault := bridge.absent(name)) is not None), None)

    codecs = (
        XMLRPC(max_depth=limits.max_depth, max_batch=limits.max_batch, nil=config.xmlrpc.nil, i8=config.xmlrpc.i8),
        JSONRPC(max_depth=limits.max_depth, max_batch=limits.max_batch),
    )
    handler = dispatcher(served, compose, limits.timeout, absent)
    service = RPCService(codecs, handler, limits, config.server.paths)
    return Gateway(config=config, registry=served, service=service, pool=pool, bridges=bridges)


def _bridges(config: Config, served: Registry) -> tuple[Bridge, ...]:
    """Make the bridges, and add the methods that they know already; nothing is connected before the loop runs."""
    bridges: list[Bridge] = []
    problems: list[str] = []
    for name, options in config.upstreams.items():
        try:
            bridges.append(Bridge(name, options, config.limits))
            bridges[-1].add_known(served)
        except (NoBridge, RegistrationError) as error:
            problems.append(f"upstreams.{name}: {error}")
    if problems:
        raise ConfigError(problems, config)
    return tuple(bridges)


async def survey(gateway: Gateway) -> None:
    """Ask each upstream once for its methods; afterwards the bridges' ``status`` says what they are worth."""
    await asyncio.gather(*(bridge.survey(gateway.registry) for bridge in gateway.bridges))
    await asyncio.gather(*(bridge.close() for bridge in gateway.bridges))


def _identity() -> tuple[str, str]:
    return "RPC gateway", version("rpc-gateway")


async def run(gateway: Gateway, ready: Callable[..., Any], stop: asyncio.Event) -> None:
    """Serve until told to stop; then accept nothing more, and let running calls end within ``server.drain`` seconds.

    ``ready`` is called once, with the URL, and that of plain TCP if there is one.

    Raises:
        OSError: the address cannot be bound.
        ConfigError: that of plain TCP cannot.

    """
    from gateway.hosts.tornado import Host  # noqa: PLC0415 - Flask has no need of Tornado

    config = gateway.config
    service = gateway.service
    host = Host(service, service.admit, service.too_large, config.limits)
    tcp = TCPHost(service, service.admit, service.too_large, config.limits, config.server.paths[0])
    try:
        bound = host.serve(*_address(config.server.bind))
        urls = [_url(*bound[0], config.server.paths[0])]
        if config.server.tcp:
            urls.append(_url(*await _serve_tcp(tcp, config.server), "", "tcp"))
        discoveries = [asyncio.ensure_future(bridge.discover(gateway.registry)) for bridge in gateway.bridges]
        ready(*urls)
        await stop.wait()
        running = host.calls | tcp.calls
        host.stop()
        tcp.stop()
        if running:
            _log.info("stopping; calls that run: %d; seconds that they have: %g", len(running), config.server.drain)
            await asyncio.wait(running, timeout=config.server.drain)
        for discovery in discoveries:
            discovery.cancel()
    finally:
        host.stop()
        tcp.stop()
        await host.close()
        await tcp.close()
        gateway.pool.abandon()
        await _end_tasks()
        await asyncio.gather(*(bridge.close() for bridge in gateway.bridges))


async def _serve_tcp(host: TCPHost, server: Server) -> tuple[str, int]:
    """Bind plain TCP; a problem with it is told by its own address."""
    try:
        bound = await host.serve(*_address(server.tcp), FRAMINGS[server.tcp_framing])
    except (OSError, UnicodeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise ConfigError(
            [f"cannot listen on {server.tcp}: {reason.lower()}; choose another address with --tcp HOST:PORT"]
        ) from None
    return bound[0]


def _address(bind: str) -> tuple[str, int]:
    address, _, port = bind.rpartition(":")
    return address.strip("[]"), int(port)


async def _end_tasks() -> None:
    """Cancel what is left, and wait a moment for it; a method that ignores its cancellation is not waited for."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=1)


def serve(registry: Registry, bind: str = "127.0.0.1:8000") -> None:
    """Serve a registry from this program, until SIGINT or SIGTERM.

    Everything else comes from conf/gateway.toml, if there is one, and the environment.

    Raises:
        ConfigError: the configuration is wrong.
        OSError: the address cannot be bound.

    """
    config = load(None, os.environ, [f"server.bind={bind}"])
    log.configure(config.log.level, config.log.format)
    run_until_signal(build(config, registry), _print_ready)


def _print_ready(*urls: str) -> None:
    print(f"gateway: ready at {' and '.join(urls)}", flush=True)  # noqa: T201


def run_until_signal(gateway: Gateway, ready: Callable[..., Any]) -> None:
    """Run a gateway on an event loop of this thread, until SIGINT or SIGTERM; a second signal ends the process at once.

    Raises:
        ConfigError: the process cannot serve safely.
        OSError: the address cannot be bound.

    """
    if not sys.flags.hash_randomization:
        raise ConfigError(["PYTHONHASHSEED=0 lets callers choose colliding names: unset it"])
    _log.info(
        "python %s, %s, %d descriptors",
        sys.version.split()[0],
        expat.EXPAT_VERSION,
        _raise_descriptor_limit(),
    )
    loop = _new_event_loop()
    try:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _stop, loop, stop)
        loop.run_until_complete(run(gateway, ready, stop))
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    stop.set()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - where it does not exist, asyncio's own loop serves
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _raise_descriptor_limit() -> int:
    """Raise the limit of open files to what the system lets this process have: each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _url(address: str, port: int, path: str, scheme: str = "http") -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{scheme}://{host}:{port}{path}"
