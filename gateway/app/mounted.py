"""A gateway for a host that a program brings with it.

endpoint(registry) -> Endpoint        for the hosts of other frameworks, like a Flask app
asgi(registry) -> ASGIHost            the same as an ASGI application
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from weakref import WeakKeyDictionary

from gateway.app import Gateway, agents_path, build
from gateway.config import Config, ConfigError, changed
from gateway.config.beside import load_for_program
from gateway.config.described import described
from gateway.core.rates import Buckets
from gateway.hosts.asgi import ASGIHost, Scope
from gateway.methods import Registry
from gateway.methods.loading import load_registry
from gateway.model.http import Admission, Endpoint, Know
from gateway.telemetry.callers import Callers, claimed
from gateway.upstreams.frame import introduce

_log = logging.getLogger("gateway")


def registry_of(config: Config, modules: Iterable[str]) -> Registry:
    """Load the methods of modules; without any, of those that the configuration names. Upstreams may be all there is.

    Raises:
        LoadError: a module cannot be loaded.

    """
    names = tuple(modules) or config.server.modules
    return load_registry(names) if names or not config.upstreams else Registry()


def endpoint(*served: Registry | str, config: str | Path | Config | None = None) -> Endpoint:
    """Make an endpoint for a host that the program brings: ``blueprint`` in gateway/hosts/flask.py takes it.

    Args:
        served: registries, and names of modules as ``gateway serve`` takes them; without any, ``server.modules``.
        config: a file, or a Config that has been loaded already. Without it, the file is the one that GATEWAY_CONFIG
            names, or conf/gateway.toml beside the calling module, or in the current folder.

    What a registry is given before the first request is served with it. The log is left to the program.

    Raises:
        ConfigError: the configuration is wrong, or the process cannot serve safely.
        LoadError: a module cannot be loaded.
        RegistrationError: two methods have the same name.

    """
    return _endpoint(load_for_program(config, os.environ), served)


def asgi(
    *served: Registry | str,
    config: str | Path | Config | None = None,
    paths: Iterable[str] = (),
    user: Callable[[Scope], str | None] = lambda _: None,
) -> ASGIHost:
    """Make an ASGI application, to run by itself or to be mounted in another one.

    Args:
        served: as for ``endpoint``.
        config: likewise.
        paths: where calls are POSTed to, below the path that the application is mounted at; without any,
            ``server.paths``.
        user: returns the name of the user whom middleware has found, from the scope of a request; that is then
            ``context.key``. None stands for nobody.

    Raises:
        ConfigError: as for ``endpoint``.
        LoadError: likewise.
        RegistrationError: likewise.

    """
    loaded = load_for_program(config, os.environ)
    named = ",".join(paths)
    return ASGIHost(_endpoint(changed(loaded, [f"server.paths={named}"]) if named else loaded, served), user)


def _endpoint(config: Config, served: tuple[Registry | str, ...]) -> Endpoint:
    _log.info("%s", described(config))
    names = [name for name in served if isinstance(name, str)]
    loaded = [registry_of(config, names)] if names or not served else []
    return endpoint_of(config, *loaded, *(own for own in served if isinstance(own, Registry)))


def endpoint_of(config: Config, *registries: Registry) -> Endpoint:
    """Make an endpoint of a configuration and registries.

    Raises:
        ConfigError: the process cannot serve safely.
        RegistrationError: two methods have the same name.

    """
    check_hashes()
    buckets = Buckets()

    def assemble(make_callers: Callable[..., Callers] | None = None) -> Gateway:
        served = Registry()
        for registry in registries:
            served.mount(registry)
        return build(config, served, buckets, make_callers=make_callers)

    discoveries: set[asyncio.Future[None]] = set()

    opened = WeakKeyDictionary[asyncio.AbstractEventLoop, Gateway]()

    async def open_here() -> Admission:
        gateway = assemble(claimed)
        await _begin(gateway)
        opened[asyncio.get_running_loop()] = gateway
        for discovery in await introduce(gateway.upstreams, gateway.registry):
            discoveries.add(discovery)
            discovery.add_done_callback(discoveries.discard)
        return gateway.admit

    async def close_here() -> None:
        gateway = opened.pop(asyncio.get_running_loop(), None)
        if gateway is not None:
            await _end(gateway)

    def know() -> Know | None:
        gateway = opened.get(asyncio.get_running_loop())
        return None if gateway is None else gateway.know

    assemble()  # what is wrong is reported now, and not to the first caller
    return Endpoint(
        open=open_here,
        close=close_here,
        know=know,
        limits=config.limits,
        paths=config.server.paths,
        agents=agents_path(config),
    )


async def _begin(gateway: Gateway) -> None:
    """Open what methods need, and begin to trace and to count."""
    if gateway.tracing is not None:
        gateway.tracing.start()
    await gateway.lifespans.open()
    if gateway.callers is not None:
        gateway.callers.keep()


async def _end(gateway: Gateway) -> None:
    """Close what ``_begin`` has opened, and write down what was counted."""
    await gateway.lifespans.close()
    if gateway.callers is not None:
        gateway.callers.close()
    if gateway.tracing is not None:
        await gateway.tracing.flush()
    if gateway.recorder is not None:
        await gateway.recorder.end()


def check_hashes() -> None:
    """Refuse to serve where callers could choose names that collide in every dict.

    Raises:
        ConfigError: PYTHONHASHSEED is 0.

    """
    if not sys.flags.hash_randomization:
        raise ConfigError(["PYTHONHASHSEED=0 lets callers choose colliding names: unset it"])
