"""The sockets of a gateway: opened before anything else, and kept over reloads that leave their addresses alone.

listen(config, context, *before) -> Listeners    what is bound, or taken over
urls_of(config, listeners)       -> URLs         where that is reached
close(listeners)
"""

import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote

from msgspec import Struct

from gateway.config import Config
from gateway.process.control import StartupError
from gateway.process.opening import open_address, remove_files, set_mode


class Listeners(Struct, frozen=True, kw_only=True):
    """The sockets of a gateway, for calls, for metrics, for the console, and for calls over plain TCP.

    Attributes:
        opened: the sockets, by what they are for and their address.
        tls: how calls are encrypted; None for not at all.

    """

    opened: Mapping[tuple[str, str], tuple[socket.socket, ...]]
    tls: ssl.SSLContext | None

    def of(self, use: str) -> tuple[socket.socket, ...]:
        """Return the sockets that are for "calls", "metrics", "console" or "tcp"."""
        return tuple(bound for (its, _), found in self.opened.items() if its == use for bound in found)

    @property
    def calls(self) -> tuple[socket.socket, ...]:
        """The sockets for calls over HTTP."""
        return self.of("calls")

    @property
    def metrics(self) -> tuple[socket.socket, ...]:
        """The sockets for metrics."""
        return self.of("metrics")

    @property
    def console(self) -> tuple[socket.socket, ...]:
        """The sockets for the console."""
        return self.of("console")

    @property
    def tcp(self) -> tuple[socket.socket, ...]:
        """The sockets for calls over plain TCP."""
        return self.of("tcp")

    def all(self) -> tuple[socket.socket, ...]:
        """Return all sockets."""
        return tuple(bound for found in self.opened.values() for bound in found)


class URLs(NamedTuple):
    """Where a gateway is reached.

    Attributes:
        calls: the URL to POST to, at the first address.
        metrics: the URL of its metrics; None without one.
        tcp: the address for plain TCP; None without one.
        others: the URLs to POST to at the other addresses.
        console: the URL of the console; None without one.

    """

    calls: str
    metrics: str | None
    tcp: str | None
    others: tuple[str, ...] = ()
    console: str | None = None


def listen(config: Config, context: ssl.SSLContext | None, *before: Listeners) -> Listeners:
    """Open the sockets of a configuration, or take over those before it that have the same address.

    Raises:
        StartupError: an address cannot be bound.

    """
    kept = {place: found for old in before for place, found in old.opened.items()}
    opened: dict[tuple[str, str], tuple[socket.socket, ...]] = {}
    try:
        for use, address, option in _wanted(config):
            found = kept.get((use, address))
            if found:
                set_mode(address, int(config.server.unix_mode, 8))
            opened[use, address] = found or _open(config, address, option)
    except StartupError:
        for place in opened.keys() - kept.keys():
            for bound in opened[place]:
                bound.close()
        raise
    return Listeners(opened=opened, tls=context)


def close(listeners: Listeners) -> None:
    """Close all sockets, those that a host has closed already too, and remove the files of Unix sockets."""
    for bound in listeners.all():
        bound.close()
    remove_files(address for _, address in listeners.opened)


def _wanted(config: Config) -> Iterator[tuple[str, str, str]]:
    """Yield what each address is for, the address, and the option that names it."""
    for address in config.server.bind:
        yield "calls", address, "--bind HOST:PORT"
    for use, address, option in (
        ("metrics", config.metrics.bind, "metrics.bind"),
        ("console", config.console.bind, "console.bind"),
        ("tcp", config.server.tcp, "--tcp HOST:PORT"),
    ):
        if address:
            yield use, address, option


def _open(config: Config, address: str, option: str) -> tuple[socket.socket, ...]:
    try:
        return open_address(address, config.limits.backlog, int(config.server.unix_mode, 8))
    except (OSError, UnicodeError) as error:  # a host name can be one that has no bytes
        reason = str(getattr(error, "strerror", None) or error)
        said = f"{reason[:1].lower()}{reason[1:]}"
        raise StartupError([f"cannot listen on {address}: {said}; choose another address with {option}"]) from None


def urls_of(config: Config, listeners: Listeners) -> URLs:
    """Return where the sockets are reached."""
    scheme = "http" if listeners.tls is None else "https"
    calls = [
        _url(scheme, bound) + config.server.paths[0]
        for (use, address), found in listeners.opened.items()
        for bound in (found if address == "systemd" else found[:1])
        if use == "calls"
    ]
    return URLs(
        calls=calls[0],
        metrics=f"{_url('http', listeners.metrics[0])}/metrics" if listeners.metrics else None,
        tcp=_url("tcp", listeners.tcp[0]) if listeners.tcp else None,
        others=tuple(calls[1:]),
        console=f"{_url('http', listeners.console[0])}/" if listeners.console else None,
    )


def local_names(listeners: Listeners) -> set[int | str]:
    """Return the ports of all sockets, and the paths of Unix sockets."""
    return {name if isinstance(name, str) else name[1] for name in (each.getsockname() for each in listeners.all())}


def _url(scheme: str, bound: socket.socket) -> str:
    if bound.family == socket.AF_UNIX:
        return f"{scheme}+unix://{quote(bound.getsockname(), safe='')}"
    host, port = bound.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
