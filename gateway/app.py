"""The wiring: the one file that knows everybody.

build(config, registry)   codecs, layers, dispatcher, service: everything but sockets
run(gateway, ...)         a host around it, until it is told to stop
serve(registry, bind)     both, for a program that serves its own functions
door(registry)            what a program puts into a host of its own, like a Flask app
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
from gateway.access import AccessPolicy
from gateway.answering import Desk, Watchers
from gateway.calls import Handler
from gateway.codecs.jsonrpc import JSONRPC
from gateway.codecs.xmlrpc import XMLRPC
from gateway.config import Config, ConfigError, load
from gateway.dispatch import dispatcher, invoke
from gateway.exchange import Door
from gateway.introspection import add_introspection, describe
from gateway.layers import Places, charged, deadline, limited, permitted
from gateway.loading import load_registry
from gateway.methods import Method, Registry
from gateway.rates import RateLimits
from gateway.service import RPCService, rate_limited
from gateway.threads import ThreadPool

_log = logging.getLogger("gateway")


class Gateway(Struct, frozen=True, kw_only=True):
    """A whole gateway without its sockets."""

    config: Config
    registry: Registry
    service: RPCService
    pool: ThreadPool

    def describe(self) -> dict[str, Any]:
        """Return the OpenRPC document of what is served."""
        return describe(self.registry, "jsonrpc", *_identity())


def build(config: Config, registry: Registry, rates: RateLimits | None = None) -> Gateway:
    """Put a gateway together around the methods of a registry.

    The registry is taken over into one of the gateway's own, beside the introspection methods. ``rates`` are those that
    processes share; without them the gateway has its own.
    """
    limits = config.limits
    served = Registry()
    served.mount(registry)
    title, number = _identity()
    add_introspection(served, title=title, version=number, nil=config.xmlrpc.nil)
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

    codecs = (
        XMLRPC(max_depth=limits.max_depth, max_batch=limits.max_batch, nil=config.xmlrpc.nil, i8=config.xmlrpc.i8),
        JSONRPC(max_depth=limits.max_depth, max_batch=limits.max_batch),
    )
    handler = dispatcher(served, compose, limits.timeout)
    policy = AccessPolicy(config.access)
    rates = rates or rate_limits(config)
    if config.access.rules:
        handler = permitted(handler, policy.permits, served.names_of)
    if limits.client_rate or limits.key_rate:
        handler = charged(handler, rates.charge, rate_limited)
    watchers = Watchers(calls=(log.log_call,), refusals=(log.log_refusal,))
    desk = Desk(codecs=codecs, handler=handler, limits=limits, watchers=watchers)
    service = RPCService(desk, config.server.paths, policy, rates)
    return Gateway(config=config, registry=served, service=service, pool=pool)


def rate_limits(config: Config) -> RateLimits:
    """Make the buckets that all processes share which are forked from this one."""
    limits = config.limits
    return RateLimits(limits.client_rate, limits.client_burst, limits.key_rate, limits.key_burst)


def _identity() -> tuple[str, str]:
    return "RPC gateway", version("rpc-gateway")


async def run(gateway: Gateway, ready: Callable[[str], Any], stop: asyncio.Event) -> None:
    """Serve until told to stop; then accept nothing more, and let running calls end within ``server.drain`` seconds.

    ``ready`` is called once with the URL.

    Raises:
        OSError: the address cannot be bound.

    """
    from gateway.hosts.tornado import Host  # noqa: PLC0415 - Flask has no need of Tornado

    config = gateway.config
    address, _, port = config.server.bind.rpartition(":")
    host = Host(gateway.service.admit, config.limits)
    bound = host.serve(address.strip("[]"), int(port))
    ready(_url(*bound[0], config.server.paths[0]))
    await stop.wait()
    running = set(host.calls)
    host.stop()
    if running:
        _log.info("stopping; calls that run: %d; seconds that they have: %g", len(running), config.server.drain)
        await asyncio.wait(running, timeout=config.server.drain)
    await host.close()
    gateway.pool.abandon()
    await _end_tasks()


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
    run_until_signal(build(config, registry), lambda url: print(f"gateway: ready at {url}", flush=True))  # noqa: T201


def door(*served: Registry | str) -> Door:
    """Make a door for a host of the program's own: ``blueprint`` of gateway/hosts/flask.py, ``Host`` of hosts/wsgi.py.

    Args:
        served: registries, and names of modules as ``gateway serve`` takes them; without any, ``server.modules``.

    The rest comes from conf/gateway.toml, if there is one, and the environment. The log is left to the program.

    Raises:
        ConfigError: the configuration is wrong.
        LoadError: a module cannot be loaded.
        RegistrationError: two methods have the same name.

    """
    config = load(None, os.environ, ())
    names = [name for name in served if isinstance(name, str)]
    registry = load_registry(names or config.server.modules) if names or not served else Registry()
    for own in served:
        if isinstance(own, Registry):
            registry.mount(own)
    return door_of(config, registry)


def door_of(config: Config, registry: Registry) -> Door:
    """Make a door of a configuration and a registry.

    Raises:
        ConfigError: the process cannot serve safely.
        RegistrationError: a method has the name of one of the gateway's own.

    """
    _refuse_known_hashes()
    rates = rate_limits(config)
    build(config, registry, rates)  # what is wrong with it is told now, and not to the first caller
    return Door(
        open=lambda: build(config, registry, rates).service.admit, limits=config.limits, paths=config.server.paths
    )


def run_until_signal(gateway: Gateway, ready: Callable[[str], Any]) -> None:
    """Run a gateway on an event loop of this thread, until SIGINT or SIGTERM; a second signal ends the process at once.

    Raises:
        ConfigError: the process cannot serve safely.
        OSError: the address cannot be bound.

    """
    _refuse_known_hashes()
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


def _refuse_known_hashes() -> None:
    if not sys.flags.hash_randomization:
        raise ConfigError(["PYTHONHASHSEED=0 lets callers choose colliding names: unset it"])


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


def _url(address: str, port: int, path: str) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}{path}"
