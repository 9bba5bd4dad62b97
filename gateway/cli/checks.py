"""What ``gateway check`` looks for beyond what keeps a gateway from starting: docs/checks.md has the remedies.

    findings(gateway, modules) -> Finding(check="open-to-everybody", text="server.bind ...")

An error can never be what was meant; a warning can.
"""

import ipaddress
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from msgspec import Struct

from gateway.app import Gateway
from gateway.cli import recordings, versions
from gateway.cli.unserved import classes_not_served, hints_that_never_fit, registries_not_served
from gateway.config import Config
from gateway.config.access import Rule
from gateway.config.nginx import NginxSection
from gateway.upstreams.options import nearest
from gateway.wire.http_grammar import host_name

Level: TypeAlias = Literal["error", "warning"]
CHECKS: dict[str, Level] = {
    "configuration": "error",
    "certificates": "error",
    "methods": "error",
    "upstreams": "error",
    "rule-without-method": "error",
    "host-never-matches": "error",
    "origin-never-matches": "error",
    "port-twice": "error",
    "option-without-method": "error",
    "recordings-not-writable": "error",
    "method-twice": "warning",
    "hint-never-fits": "warning",
    "rule-without-condition": "warning",
    "rule-never-reached": "warning",
    "certificate-never-shown": "warning",
    "method-without-rule": "warning",
    "open-to-everybody": "warning",
    "console-open": "warning",
    "keys-unencrypted": "warning",
    "recordings-readable": "warning",
    "secrets-recorded": "warning",
    "proxies-too-wide": "warning",
    "registry-not-served": "warning",
    "method-in-class": "warning",
    "keys-forwarded": "warning",
    "published-without-grace": "warning",
    "directory-unused": "warning",
    "sunset-soon": "warning",
    "version-without-method": "warning",
    "version-option-without-method": "warning",
    "version-twice": "warning",
}
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://[^/?#*@\sA-Z]+")  # as browsers send it (WHATWG HTML, 7.1.1)
_USUAL_PORT = re.compile(r"http://[^]]*:80|https://[^]]*:443|http://\[.*\]:80|https://\[.*\]:443")
_EVERYWHERE = {"", "0.0.0.0", "[::]", "*"}  # noqa: S104 - what is looked for
_GRACE = 1.0  # seconds in which callers that follow a directory hear of a change
_WIDEST = {4: 8, 6: 16}  # bits of a network of public addresses: wider than what any provider gives one customer


class Finding(Struct, frozen=True):
    """What a check has found: its name, which is one of CHECKS, and the place, what is wrong, and the remedy."""

    check: str
    text: str

    @property
    def level(self) -> Level:
        """Whether it is an error or a warning."""
        return CHECKS[self.check]

    def __str__(self) -> str:
        return f"{self.level}[{self.check}]: {self.text}"


def findings(gateway: Gateway, modules: Iterable[str]) -> Iterator[Finding]:
    """Look at a gateway whose configuration and methods can be served.

    Args:
        gateway: what would be served.
        modules: the names of the modules that its methods were loaded from.

    """
    for check, look in _LOOKS.items():
        yield from (Finding(check, text) for text in look(gateway))
    registry, names = gateway.registry, list(modules)
    yield from (Finding("hint-never-fits", text) for text in hints_that_never_fit(registry))
    yield from (Finding("registry-not-served", text) for text in registries_not_served(registry, names))
    yield from (Finding("method-in-class", text) for text in classes_not_served(registry, names))


def _names(gateway: Gateway) -> list[str]:
    """Return all names that callers may use, as far as they are known."""
    return [*gateway.registry, *(name for name, _ in gateway.versions.others())]


def _rules_without_method(gateway: Gateway) -> Iterator[str]:
    names = _names(gateway)
    for number, rule in enumerate(gateway.config.access.rules):
        for pattern in rule.methods:
            only = Rule(methods=(pattern,))
            if not any(map(only.concerns, names)) and not _may_be_discovered(pattern, gateway):
                yield f"access.rules[{number}]: {pattern!r} matches no method{nearest(pattern, names)}"


def _may_be_discovered(pattern: str, gateway: Gateway) -> bool:
    """Tell whether an upstream may turn out to have a method that a pattern matches."""
    fixed = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    for upstream in gateway.upstreams:
        prefix = f"{upstream.name}." if upstream.options.prefix is None else upstream.options.prefix
        is_near = fixed.startswith(prefix) or (fixed != pattern and prefix.startswith(fixed))
        name = fixed if fixed == pattern else f"{prefix}{fixed[len(prefix) :]}x"
        if is_near and (upstream.absent(name) is not None or upstream.passing(name) is not None):
            return True
    return False


def _options_without_method(gateway: Gateway) -> Iterator[str]:
    for upstream in gateway.upstreams:
        yield from (f"upstreams.{upstream.name}.{problem}" for problem in upstream.unmatched)
    names, section = list(gateway.registry), gateway.config.mcp
    given = {"mcp.expose": section.expose, "mcp.hide": section.hide, "mcp.read_only": section.read_only}
    given = given if section.expose else {}
    for option, patterns in (given | {"record.methods": gateway.config.record.methods}).items():
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names) and not _may_be_discovered(pattern, gateway):
                yield f"{option}: {pattern!r} matches no method{nearest(pattern, names)}"


def _methods_twice(gateway: Gateway) -> Iterator[str]:
    for upstream in gateway.upstreams:
        yield from (f"upstreams.{upstream.name}: {problem}" for problem in upstream.shadowed)


def _rules_without_condition(gateway: Gateway) -> Iterator[str]:
    for number, rule in enumerate(gateway.config.access.rules):
        if rule.networks is rule.keys is rule.certificates is None:
            yield (
                f"access.rules[{number}]: it has no networks, keys or certificates, so everybody who is let in may call"
                f" {', '.join(rule.methods)}"
            )


def _rules_never_reached(gateway: Gateway) -> Iterator[str]:
    rules = gateway.config.access.rules
    matched = [{name for name in _names(gateway) if rule.concerns(name)} for rule in rules]
    before: set[str] = set()
    for number, names in enumerate(matched):
        if names and names <= before and not any(_may_be_discovered(each, gateway) for each in rules[number].methods):
            yield f"access.rules[{number}]: rules before it decide all of its methods; put it before them"
        before |= names


def _certificates_never_shown(gateway: Gateway) -> Iterator[str]:
    for number, rule in enumerate(gateway.config.access.rules):
        if rule.certificates and not gateway.config.tls.client_ca:
            yield f"access.rules[{number}].certificates: no client is asked for a certificate; set tls.client_ca"


def _methods_without_rule(gateway: Gateway) -> Iterator[str]:
    rules = gateway.config.access.rules
    names = [name for name, _ in gateway.offered() if not any(rule.concerns(name) for rule in rules)]
    if rules and names:
        yield f"access.rules: no rule names {', '.join(names)}, so everybody who is let in may call them"


def _hosts_that_never_match(gateway: Gateway) -> Iterator[str]:
    for host in gateway.config.access.hosts:
        if "*" in host or not host or host_name(host) != host.lower():
            yield f"access.hosts: {host!r} never matches; write a name without scheme, port, path and *"


def _origins_that_never_match(gateway: Gateway) -> Iterator[str]:
    for origin in gateway.config.access.origins:
        if not _ORIGIN.fullmatch(origin) or _USUAL_PORT.fullmatch(origin):
            yield (
                f"access.origins: {origin!r} never matches; write scheme://host as browsers send it: in lower case,"
                " with a port only if it is not the usual one, without path and *"
            )


def _open_to_everybody(gateway: Gateway) -> Iterator[str]:
    config, access = gateway.config, gateway.config.access
    is_limited = access.allow and all(network.prefix_length for network in access.allow)
    if gateway.registry.hooks.authenticate is not None:
        return
    if is_limited or (access.keys and not access.anonymous) or config.tls.client_ca or access.rules:
        return
    for option, address in _addresses(config):
        if _is_public(address):
            yield f"{option}: everybody who reaches {address} may call; set access.allow, access.keys or tls.client_ca"


def _console_open(gateway: Gateway) -> Iterator[str]:
    address = gateway.config.console.bind
    if _is_public(address):
        yield f"console.bind: everybody who reaches {address} can read the console; choose 127.0.0.1"


def _keys_unencrypted(gateway: Gateway) -> Iterator[str]:
    config = gateway.config
    is_protected = config.tls.certificate or config.access.trusted_proxies
    if config.access.keys and not is_protected and any(map(_is_public, config.server.bind)):
        yield "server.bind: API keys are sent unencrypted; set tls.certificate, or put nginx in front"


def _keys_forwarded(gateway: Gateway) -> Iterator[str]:
    for name, options in gateway.config.upstreams.items():
        forwarded: tuple[str, ...] = getattr(options, "forward", ())
        if gateway.config.access.keys and "authorization" in map(str.lower, forwarded):
            yield (
                f"upstreams.{name}.forward: authorization holds the callers' API keys of this gateway, which the"
                " upstream can then use; let it have their names by identity"
            )


def _proxies_too_wide(gateway: Gateway) -> Iterator[str]:
    for network in gateway.config.access.trusted_proxies:
        if not network.is_private and network.prefix_length <= _WIDEST[network.version]:
            yield (
                f"access.trusted_proxies: {network} has clients in it, who can then choose the address that they have"
                " here; name the addresses of the proxies"
            )


def _published_without_grace(gateway: Gateway) -> Iterator[str]:
    config = gateway.config
    if config.publish.directory and config.server.grace < _GRACE:
        yield (
            f"server.grace: callers hear of a stop through {config.publish.directory} and may still come for a second;"
            f" set server.grace to {_GRACE:g} or more"
        )


def _directories_unused(gateway: Gateway) -> Iterator[str]:
    config = gateway.config
    used = {config.publish.directory, *(options.directory for options in config.upstreams.values())}
    for name in config.directories:
        if name not in used:
            yield f"directories.{name}: no upstream has directory = {name!r}, and the gateway is not published there"


def _ports_twice(gateway: Gateway) -> Iterator[str]:
    config = gateway.config
    others = (("metrics.bind", config.metrics.bind), ("console.bind", config.console.bind))
    listened = [*_addresses(config), *(other for other in others if other[1])]
    if config.nginx != NginxSection() and not config.nginx.servers:  # it is used, and on this machine
        listened += [("nginx.listen", address) for address in config.nginx.listen]
    for (option, address), (other, its) in itertools.combinations(listened, 2):
        (host, port), (its_host, its_port) = _split(address), _split(its)
        if option != other and port == its_port != "0" and (host == its_host or {host, its_host} & _EVERYWHERE):
            yield f"{other}: {its} has the port of {option}, {address}; choose another one"


def _addresses(config: Config) -> list[tuple[str, str]]:
    """Return the addresses for calls, by their options."""
    listened = [*(("server.bind", address) for address in config.server.bind), ("server.tcp", config.server.tcp)]
    return [(option, address) for option, address in listened if _is_network(address)]


def _is_network(address: str) -> bool:
    """Tell whether an address is host:port, and neither a Unix socket nor one that was opened by others."""
    return address[-1:].isdecimal() and not address.startswith(("unix:", "fd:"))


def _split(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    return host, port.lstrip("0") or "0"


def _is_public(address: str) -> bool:
    """Tell whether an address is one of the internet, or stands for all addresses. A name is not looked up."""
    if not _is_network(address):
        return False
    host, _ = _split(address)
    if host in _EVERYWHERE:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_global
    except ValueError:
        return False


_LOOKS: dict[str, Callable[[Gateway], Iterator[str]]] = {
    "rule-without-method": _rules_without_method,
    "host-never-matches": _hosts_that_never_match,
    "origin-never-matches": _origins_that_never_match,
    "port-twice": _ports_twice,
    "recordings-not-writable": recordings.not_writable,
    "option-without-method": _options_without_method,
    "method-twice": _methods_twice,
    "rule-without-condition": _rules_without_condition,
    "rule-never-reached": _rules_never_reached,
    "certificate-never-shown": _certificates_never_shown,
    "method-without-rule": _methods_without_rule,
    "open-to-everybody": _open_to_everybody,
    "console-open": _console_open,
    "keys-unencrypted": _keys_unencrypted,
    "recordings-readable": recordings.readable,
    "secrets-recorded": recordings.secrets_recorded,
    "proxies-too-wide": _proxies_too_wide,
    "keys-forwarded": _keys_forwarded,
    "sunset-soon": versions.sunset_soon,
    "version-without-method": lambda gateway: versions.versions_without_method(gateway, _may_be_discovered),
    "version-option-without-method": lambda gateway: versions.names_without_method(gateway, _may_be_discovered),
    "version-twice": versions.versions_twice,
    "published-without-grace": _published_without_grace,
    "directory-unused": _directories_unused,
}
