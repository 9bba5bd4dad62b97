"""The sockets of a gateway: opened before anything else, and kept over reloads that leave their addresses alone.

listen(config, context, *before) -> Listeners    what is bound, or taken over
urls_of(config, listeners)       -> URLs         where that is reached
close(listeners)
"""

import socket
import ssl
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from msgspec import Struct

from gateway.config import Config
from gateway.process.control import StartupError


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


def listen(config: Config, context: ssl.SSLContext | None, *before: tuple[Config, Listeners]) -> Listeners:
    """Open the sockets of a configuration, or take over those before it that have the same address.

    Raises:
        StartupError: an address cannot be bound.

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
    except StartupError:
        for bound in chain.from_iterable(opened.values()):
            bound.close()
        raise
    return Listeners(**found, **opened, tls=context)


def close(listeners: Listeners) -> None:
    """Close all sockets; a host has closed its own already."""
    for bound in chain(listeners.calls, listeners.metrics, listeners.tcp):
        bound.close()


def _unmoved(before: Config, now: Config) -> Iterator[str]:
    """Tell which sockets have the address that they had."""
    if before.server.bind == now.server.bind:
        yield "calls"
    if before.metrics.bind == now.metrics.bind:
        yield "metrics"
    if before.server.tcp == now.server.tcp:
        yield "tcp"


def _bind(bind: str, backlog: int, option: str) -> tuple[socket.socket, ...]:
    from gateway.hosts.listening import bind as open_sockets  # noqa: PLC0415 - likewise

    if not bind:
        return ()
    address, _, port = bind.rpartition(":")
    try:
        return tuple(open_sockets(address.strip("[]"), int(port), backlog))
    except (OSError, UnicodeError) as error:  # a host name can be one that has no bytes
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise StartupError([f"cannot listen on {bind}: {reason}; choose another address with {option}"]) from None


def urls_of(config: Config, listeners: Listeners) -> URLs:
    """Return where the sockets are reached."""
    scheme = "http" if listeners.tls is None else "https"
    return URLs(
        calls=f"{scheme}://{_place(listeners.calls[0])}{config.server.paths[0]}",
        metrics=f"http://{_place(listeners.metrics[0])}/metrics" if listeners.metrics else None,
        tcp=f"tcp://{_place(listeners.tcp[0])}" if listeners.tcp else None,
    )


def ports_of(listeners: Listeners) -> set[int]:
    """Return the ports of all sockets."""
    return {bound.getsockname()[1] for bound in chain(listeners.calls, listeners.metrics, listeners.tcp)}


def _place(bound: socket.socket) -> str:
    address, port = bound.getsockname()[:2]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
