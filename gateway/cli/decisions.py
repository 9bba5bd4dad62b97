"""What the configuration in force says of one call, step by step, without making it: for ``gateway explain``.

    decide(gateway, Asked(...), places) -> Step, Step, ...      the last one refuses, or says that the method would run

The order is that of a call: gateway/core/access.py, then the layers (gateway/core/layers.py), then the method.
"""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from msgspec import Struct

from gateway.app import Gateway
from gateway.config.origins import DEFAULT
from gateway.config.sources import Setting
from gateway.core.versions import Found
from gateway.methods import Method
from gateway.model.calls import Caller, Context
from gateway.model.faults import CATALOGUE, Denied, MethodNotFound, Unavailable
from gateway.model.networks import Address
from gateway.upstreams.frame import UpstreamService
from gateway.wire.http_grammar import host_name

_DENIED = CATALOGUE[Denied].code
_NOT_FOUND = CATALOGUE[MethodNotFound].code
_UNAVAILABLE = CATALOGUE[Unavailable].code
_HEADER = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?")


class Asked(Struct, frozen=True, kw_only=True):
    """The call that is asked about; ``key`` is the name of an API key, and ``certificate`` a common name."""

    method: str
    address: Address
    key: str | None
    certificate: str | None
    host: str
    origin: str | None
    protocol: str


class Step(Struct, frozen=True, kw_only=True):
    """A line of the explanation.

    Attributes:
        step: what is looked at.
        verdict: whether the call goes on, ends here, or is only told something.
        text: what is found.
        decides: the option that decides, with its place; empty where none does.
        status: the HTTP status of a refusal; 200 where there is a fault in an answer.
        code: the code of the fault; None where there is none.

    """

    step: str
    verdict: Literal["passes", "refuses", "tells"]
    text: str
    decides: str = ""
    status: int = 200
    code: int | None = None


class Places:
    """Where options are written.

    Arguments:
        settings: what was read, those that win behind those that lose.
        file: the configuration file; None without one.

    """

    def __init__(self, settings: Iterable[Setting], file: Path | None) -> None:
        self._places = {option: place for option, _, place in settings}
        self._file = file
        self._lines = [] if file is None else file.read_text("utf-8-sig").splitlines()

    def of(self, option: str, index: int | None = None) -> str:
        """Say where an option is set, with its line in the file; of a list, where its entry is."""
        shown = option if index is None else f"{option}[{index}]"
        place = self._places.get(option, DEFAULT)
        if self._file is None or place != str(self._file):
            return f"{shown} ({place})"
        line = self._entry(option, index) if index is not None else None
        line = line or self._line(option)
        return f"{shown} ({place}:{line})" if line else f"{shown} ({place})"

    def _line(self, option: str) -> int | None:
        section, _, name = option.rpartition(".")
        within = ""
        for number, line in enumerate(self._lines, 1):
            if header := _HEADER.fullmatch(line):
                within = header[1]
                if within == option:  # a table of its own
                    return number
            elif within == section and re.match(rf'\s*"?{re.escape(name)}"?\s*=', line):
                return number
        return None

    def _entry(self, option: str, index: int) -> int | None:
        numbers = [
            number
            for number, line in enumerate(self._lines, 1)
            if re.match(rf"\s*\[\[\s*{re.escape(option)}\s*\]\]", line)
        ]
        return numbers[index] if index < len(numbers) else None


def decide(gateway: Gateway, asked: Asked, places: Places) -> Iterator[Step]:
    """Walk a call through a gateway; nothing comes after a step that refuses."""
    for part in (_access, _layers):
        for step in part(gateway, asked, places):
            yield step
            if step.verdict == "refuses":
                return


def _access(gateway: Gateway, asked: Asked, places: Places) -> Iterator[Step]:
    access, client = gateway.config.access, asked.address
    if any(client in network for network in access.trusted_proxies):
        text = (
            f"{client} is a trusted proxy: the client is the address that it names in X-Forwarded-For, if it names one"
        )
        yield Step(step="client", verdict="tells", text=text, decides=places.of("access.trusted_proxies"))
    else:
        yield Step(step="client", verdict="passes", text=f"the client is {client}; X-Forwarded-For is not read")
    yield from _networks(gateway, asked, places)
    if asked.origin is not None:
        decides = places.of("access.origins")
        if asked.origin not in access.origins:
            yield _refused("origin", f"web pages of {asked.origin} may not call", decides)
        yield Step(step="origin", verdict="passes", text=f"web pages of {asked.origin} may call", decides=decides)
    if gateway.config.tls.client_ca and asked.certificate is None:
        text = "clients need a certificate; without one there is no connection"
        yield Step(step="certificate", verdict="refuses", text=text, decides=places.of("tls.client_ca"), status=0)
    yield from _keys(gateway, asked, places)


def _networks(gateway: Gateway, asked: Asked, places: Places) -> Iterator[Step]:
    access = gateway.config.access
    if access.allow:
        found = next((network for network in access.allow if asked.address in network), None)
        if found is None:
            yield _refused("allow", f"{asked.address} is in none of the networks", places.of("access.allow"))
        text = f"{asked.address} is in {found}"
        yield Step(step="allow", verdict="passes", text=text, decides=places.of("access.allow"))
    if access.hosts:
        decides = places.of("access.hosts")
        if host_name(asked.host) not in {host.lower() for host in access.hosts}:
            yield _refused("host", f"{asked.host} is not one of the names", decides)
        yield Step(step="host", verdict="passes", text=f"{asked.host} is one of the names", decides=decides)


def _keys(gateway: Gateway, asked: Asked, places: Places) -> Iterator[Step]:
    access = gateway.config.access
    if access.authenticate or gateway.registry.hooks.authenticate is not None:
        text = "a function decides who calls, which is not asked now; it is taken to let this caller in"
        yield Step(step="key", verdict="tells", text=text, decides=places.of("access.authenticate"))
    elif not access.keys:
        yield Step(step="key", verdict="passes", text="no key is needed", decides=places.of("access.keys"))
    elif asked.key is not None and asked.key not in access.keys:
        yield _refused("key", f"there is no key {asked.key!r}", places.of("access.keys"), 401)
    elif asked.key is not None:
        yield Step(step="key", verdict="passes", text=f"the key {asked.key}", decides=places.of("access.keys"))
    elif access.anonymous:
        text = "there are keys, and callers without one are let in, too"
        yield Step(step="key", verdict="passes", text=text, decides=places.of("access.anonymous"))
    else:
        yield _refused("key", "a key is needed", places.of("access.keys"), 401)


def _layers(gateway: Gateway, asked: Asked, places: Places) -> Iterator[Step]:
    yield from _rates(gateway, asked, places)
    caller = Caller(client=str(asked.address), key=asked.key, certificate=asked.certificate)
    yield from _rules(gateway, asked.method, caller, places)
    served = asked.method
    context = Context.fake(asked.method, client=caller.client, key=caller.key, protocol=asked.protocol)
    context.caller = caller
    found = gateway.versions.find(asked.method, context) if gateway.config.versions else None
    if isinstance(found, MethodNotFound):
        yield Step(step="version", verdict="refuses", text=found.message, code=_NOT_FOUND)
    elif isinstance(found, Found):
        yield from _version(gateway, asked.method, found, places)
        served = found.name
        if served != asked.method:
            yield from _rules(gateway, served, caller, places)
    yield from _method(gateway, served, asked, places)


def _rates(gateway: Gateway, asked: Asked, places: Places) -> Iterator[Step]:
    limits = gateway.config.limits
    for option, rate, burst in (
        ("client_rate", limits.client_rate, limits.client_burst),
        *([("key_rate", limits.key_rate, limits.key_burst)] if asked.key else []),
    ):
        if rate:
            text = f"{rate:g} calls per second, {burst} at once; one more has the fault -32003"
            yield Step(step="rate", verdict="tells", text=text, decides=places.of(f"limits.{option}"))


def _rules(gateway: Gateway, name: str, caller: Caller, places: Places) -> Iterator[Step]:
    rules = gateway.config.access.rules
    for each in gateway.registry.names_of(name):
        index = next((number for number, rule in enumerate(rules) if rule.concerns(each)), None)
        if index is None:
            if rules:
                yield Step(
                    step="rule", verdict="passes", text=f"no rule is about {each}", decides=places.of("access.rules")
                )
            continue
        decides = places.of("access.rules", index)
        if not rules[index].permits(caller):
            text = f"the first rule about {each} does not permit this caller"
            yield Step(step="rule", verdict="refuses", text=text, decides=decides, code=_DENIED)
        yield Step(step="rule", verdict="passes", text=f"the first rule about {each} permits it", decides=decides)


def _version(gateway: Gateway, name: str, found: Found, places: Places) -> Iterator[Step]:
    table = max((each for each in gateway.config.versions if name.startswith(f"{each}.")), key=len, default="")
    options = gateway.config.versions.get(table)
    decides = places.of(f"versions.{table}.default") if table else ""
    if found.deprecation is not None:
        text = f"deprecated{f'; use {found.deprecation.use}' if found.deprecation.use else ''}"
        if gateway.versions.is_over(found.deprecation):
            yield Step(
                step="version", verdict="refuses", text="it has been withdrawn", decides=decides, code=_NOT_FOUND
            )
        yield Step(step="version", verdict="tells", text=text, decides=decides)
    if options is not None and options.canary is not None:
        share = f"{options.canary.percent:g} % of the callers get {options.canary.to}, drawn by {options.canary.by}"
        yield Step(step="canary", verdict="tells", text=share, decides=places.of(f"versions.{table}.canary"))
    if found.name != name:
        yield Step(step="version", verdict="passes", text=f"{name} stands for {found.name}", decides=decides)


def _method(gateway: Gateway, name: str, asked: Asked, places: Places) -> Iterator[Step]:
    found = gateway.registry.get(name, asked.protocol)
    passing = [each for upstream in gateway.upstreams if (each := upstream.passing(name)) is not None]
    if found is None and (elsewhere := dict(gateway.registry.methods()).get(name)) is not None:
        there = ", ".join(sorted(elsewhere.options.protocols or ()))
        text = f"{name} is offered in {there} only ({elsewhere.place})"
        yield Step(step="method", verdict="refuses", text=text, code=_NOT_FOUND)
    if found is None and not passing:
        waiting = next((each for each in gateway.upstreams if each.absent(name) is not None), None)
        if waiting is None:
            yield Step(step="method", verdict="refuses", text=f"there is no method {name}", code=_NOT_FOUND)
        else:
            text = f"upstreams.{waiting.name} may have it, but has not told its methods: {waiting.status.error}"
            yield Step(step="method", verdict="refuses", text=text, code=_UNAVAILABLE)
        return
    method = found or passing[0]
    yield Step(step="method", verdict="passes", text=f"{name} is {method.place}")
    upstream = next((each for each in gateway.upstreams if each.place == method.place), None)
    if upstream is not None:
        yield from _upstream(upstream, name, places)
    yield from _running(gateway, method, upstream, places)


def _upstream(upstream: UpstreamService, name: str, places: Places) -> Iterator[Step]:
    options, section = upstream.options, f"upstreams.{upstream.name}"
    if options.directory:
        text = f"one of the instances that directories.{options.directory} lists, chosen by {options.balance}"
        yield Step(step="instance", verdict="tells", text=text, decides=places.of(f"{section}.directory"))
    elif len(options.urls) > 1:
        text = f"one of {', '.join(options.urls)}, chosen by {options.balance}"
        yield Step(step="instance", verdict="tells", text=text, decides=places.of(f"{section}.url"))
    else:
        yield Step(step="instance", verdict="tells", text=options.urls[0], decides=places.of(f"{section}.url"))
    prefix = f"{upstream.name}." if options.prefix is None else options.prefix
    theirs = {ours: their for their, ours in options.rename.items()}.get(name, name.removeprefix(prefix))
    again = any(fnmatchcase(theirs, pattern) for pattern in options.idempotent)
    text = (
        "may run twice: it is tried again where a connection breaks"
        if again
        else "is sent once, unless it was certainly not sent"
    )
    yield Step(step="attempts", verdict="tells", text=f"{theirs} {text}", decides=places.of(f"{section}.idempotent"))
    text = f"{options.calls} calls at once; one more has the fault -32003"
    yield Step(step="limit", verdict="tells", text=text, decides=places.of(f"{section}.calls"))


def _running(gateway: Gateway, method: Method, upstream: UpstreamService | None, places: Places) -> Iterator[Step]:
    limits = gateway.config.limits
    option = {"thread": "threads", "async": "calls"}.get(method.run)
    if option is not None:
        text = f"{getattr(limits, option)} calls at once in each process, {limits.waiting} more wait"
        yield Step(step="limit", verdict="tells", text=text, decides=places.of(f"limits.{option}"))
    if method.options.concurrency:
        text = f"{method.options.concurrency} calls of it at once"
        yield Step(step="limit", verdict="tells", text=text, decides=method.place)
    timeout = method.options.timeout or limits.timeout
    decides = places.of("limits.timeout")
    if method.options.timeout:
        decides = method.place if upstream is None else places.of(f"upstreams.{upstream.name}.timeout")
    yield Step(step="deadline", verdict="tells", text=f"{timeout:g} s, then the fault -32001", decides=decides)
    longest = (
        max(each.options.timeout or limits.timeout for _, each in gateway.offered()) if gateway.offered() else timeout
    )
    text = f"nginx, if it is configured by gateway nginx, waits {longest + gateway.config.nginx.margin:g} s"
    yield Step(step="nginx", verdict="tells", text=text, decides=places.of("nginx.margin"))


def _refused(step: str, text: str, decides: str, status: int = 403) -> Step:
    return Step(step=step, verdict="refuses", text=text, decides=decides, status=status, code=_DENIED)
