"""Puts the console together: what it shows of a gateway that serves."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from gateway.app import Gateway
from gateway.codecs import CODECS
from gateway.config.origins import shown
from gateway.config.sources import Setting
from gateway.endpoints import console
from gateway.endpoints.console import Event, versions
from gateway.endpoints.console.catalogue import Catalogue
from gateway.endpoints.console.public import beside
from gateway.model.http import Admission
from gateway.process.sockets import URLs


class ConsoleInputs(Struct, frozen=True, kw_only=True):
    """What the console tells of the configuration, as the command knows it.

    Attributes:
        settings: what was read, those that win behind those that lose; empty for a program's own Config.
        check: returns what ``gateway check`` says of a gateway: levels, names of checks, and texts.

    """

    settings: tuple[Setting, ...] = ()
    check: Callable[[Gateway], list[tuple[str, str, str]]] | None = None


def console_of(gateway: Gateway, urls: URLs, inputs: ConsoleInputs) -> Admission:
    """Make the endpoint of the console."""
    config, live = gateway.config, gateway.live
    catalogue = Catalogue(gateway.versions, config, (urls.calls, *urls.others), tuple(CODECS))
    views: dict[str, console.View] = {
        "methods": lambda _: catalogue.view() | {"versions": versions.shown(gateway.versions)},
        "configuration": lambda _: _configuration(gateway, inputs),
    }
    if live is not None:
        views |= {"live": lambda last: _event(live.view(_number(last))), "fleet": lambda _: _event(live.view(2**62))}
    return console.admission(
        admit=gateway.rpc.admit,
        views=views,
        path=config.server.paths[0],
        hosts=config.access.hosts,
        bind=config.console.bind,
    )


def admitted(gateway: Gateway, urls: URLs) -> Admission:
    """Return the endpoint for the addresses of calls, with the console beside it where that is public."""
    if not gateway.config.console.public:
        return gateway.admit
    catalogue = Catalogue(gateway.versions, gateway.config, (urls.calls, *urls.others), tuple(CODECS))
    return beside(gateway.admit, gateway.rpc, gateway.policy, catalogue)


def _event(found: dict[str, Any]) -> Event:
    return Event(str(found["now"] - 1), found)


def _number(last: str) -> int:
    return int(last) if last.isascii() and last.isdecimal() and len(last) < 15 else 0


def _configuration(gateway: Gateway, inputs: ConsoleInputs) -> dict[str, Any]:
    """Return what is in force, where it comes from, and what the command check would say."""
    config = gateway.config
    return {
        "file": None if config.file is None else str(config.file),
        "options": shown(config, inputs.settings),
        "findings": None if inputs.check is None else inputs.check(gateway),
    }
