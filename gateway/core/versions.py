"""Versions of an interface side by side: which of them a name stands for, by the tables ``[versions.NAME]``.

    versions.find("inventory.get", context)   -> Found     inventory.v1.get serves it, and what is said of that
                                              -> Fault     the caller asks for a version that there is not
                                              -> None      no table is about the name
    versioned(handler, versions, permits)     the layer: both names must be permitted
    versions.methods(), get(), names_of()     the registry as callers are shown it

The version is the one that the caller names in the table's header, where it has one; else the canary's, for the callers
whose hash is below its percentage, if it has the method; else the default. A name that is registered as it is serves
itself where none of these has the method, so that a table can be put over methods that have no versions yet. A name
with a version in it, ``inventory.v2.get``, is never mapped, but deprecated and withdrawn like any other.
"""

import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from hashlib import blake2b
from itertools import chain

from msgspec import Struct, structs

from gateway.config.versions import Canary, VersionTable
from gateway.core.dispatch import Finder, Known
from gateway.methods import Method, Registry
from gateway.model.calls import Call, Caller, CallHandler, Context, Deprecation, Reply
from gateway.model.faults import Denied, MethodNotFound
from gateway.model.networks import client_of

_LOOKS_LIKE_ONE = re.compile(r"v[0-9][\w-]*", re.ASCII)
_SHOWN = 40  # characters of a version that a fault quotes
_PLAIN = re.compile(r"[\w.-]+", re.ASCII)
_SPARE_COPIES = 1000  # of methods that have changed since


class Found(Struct, frozen=True):
    """What a name stands for.

    Attributes:
        name: the name that is served.
        deprecation: what is said of it, from its day on; None otherwise.

    """

    name: str
    deprecation: Deprecation | None


class _Table:
    """One table, and the versions that there are."""

    def __init__(self, name: str, options: VersionTable, registry: Registry, upstreams: Iterable[str]) -> None:
        self.name = name
        self.prefix = f"{name}."
        self.options = options
        self._registry = registry
        parts = [prefix.removeprefix(self.prefix) for prefix in upstreams if prefix.startswith(self.prefix)]
        self._named = (*options.named(), *(part[:-1] for part in parts if part.find(".") == len(part) - 1 > 0))
        self._known: tuple[int, dict[str, None]] = (-1, {})

    def versions(self) -> dict[str, None]:
        """Return the versions that there are, those that the table names before those that the registry has."""
        size = len(self._registry)  # methods are added and replaced, and never removed
        if self._known[0] != size:
            found = dict.fromkeys(self._named)
            for name, method in self._registry.methods():
                if name.startswith(self.prefix):
                    part, dot, _ = name.removeprefix(self.prefix).partition(".")
                    if dot and (part == method.options.version or _LOOKS_LIKE_ONE.fullmatch(part)):
                        found[part] = None
            self._known = size, found
        return self._known[1]

    def prefix_of(self, version: str) -> str:
        """Return what the names of a version begin with."""
        return self.options.prefixes.get(version) or (f"{self.prefix}{version}." if version else self.prefix)

    def concerned(self) -> Iterator[tuple[str, str | None]]:
        """Iterate over what the names begin with that this is about, and the version that each stands for."""
        yield self.prefix, None
        for version, prefix in self.options.prefixes.items():
            yield prefix, version

    def explicit(self, member: str) -> tuple[str, str]:
        """Take a name apart that has a version in it; without one the version is empty."""
        part, dot, rest = member.partition(".")
        return (part, rest) if dot and rest and part in self.versions() else ("", member)

    def asked(self, context: Context) -> str | None:
        """Return what the caller says in the table's header."""
        return context.headers.get(self.options.header) if self.options.header else None

    def meant(self, asked: str) -> str | None:
        """Return the version that a caller means, with or without its v."""
        return next((each for each in (asked, f"v{asked}") if each in self.versions()), None)

    def deprecation(self, said: str, member: str, version: str) -> Deprecation | None:
        """Return what the table says of a method: by the name that callers use, by its own, or of its version."""
        keys = (said, f"{version}.{member}", version)
        return next((self.options.deprecated[key] for key in keys if key in self.options.deprecated), None)


class Versions:
    """The tables of versions over a registry.

    Arguments:
        tables: by their names.
        registry: the methods.
        upstreams: the prefixes of upstreams, whose methods may not be known yet.
        passes: whether a name that is not registered is passed on to an upstream.
        now: seconds since 1970.

    Attributes:
        prefixes: what all names begin with that a table is about.

    """

    def __init__(
        self,
        tables: Mapping[str, VersionTable],
        registry: Registry,
        upstreams: Iterable[str] = (),
        passes: Callable[[str], bool] = lambda _: False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._passes = passes
        self._now = now
        upstreams = tuple(upstreams)
        self._tables = [_Table(name, options, registry, upstreams) for name, options in tables.items()]
        entries = [(prefix, table, version) for table in self._tables for prefix, version in table.concerned()]
        self._entries = sorted(entries, key=lambda entry: len(entry[0]), reverse=True)
        self.prefixes = tuple(entry[0] for entry in self._entries)
        self.headers = tuple(dict.fromkeys(each.options.header for each in self._tables if each.options.header))
        self._copies: dict[tuple[str, int, Deprecation | None], tuple[Method, Method]] = {}

    def find(self, name: str, context: Context) -> Found | MethodNotFound | None:
        """Find out what a name stands for in a call."""
        entry = self._entry(name)
        if entry is None:
            return None
        table, version, member = entry
        asked = None if version else table.asked(context)
        if asked is not None:
            meant = table.meant(asked)
            if meant is None:
                return self._unknown(table, asked)
            served = self._in_version(table, meant, member, context.protocol) or table.prefix_of(meant) + member
            return self._found(served, table.deprecation(member, member, meant))
        canary = None if version else table.options.canary
        if canary is not None and _is_drawn(table.name, canary, context.caller):
            drawn = self._in_version(table, canary.to, member, context.protocol)
            said = table.deprecation(member, member, canary.to)
            if drawn is not None and not self.is_over(said):
                return self._found(drawn, said)
        return self._found(*self._usual(name, entry, context.protocol))

    def is_over(self, said: Deprecation | None) -> bool:
        """Tell whether the day of sunset has come."""
        return said is not None and said.sunset is not None and self._now() >= midnight(said.sunset)

    def get(self, name: str, protocol: str) -> Method | None:
        """Return the method that callers are shown under a name, whatever version they may ask for."""
        served, said = self._usual(name, self._entry(name), protocol)
        found = self._registry.get(served, protocol)
        return None if found is None or self.is_over(said) else self._shown(name, found, said, is_own=served == name)

    def names_of(self, name: str) -> list[str]:
        """Return all names that must be permitted to whoever calls a method by a name."""
        return [*self._registry.names_of(name), *self.behind(name)]

    def behind(self, name: str) -> list[str]:
        """Return the names of the method that serves a name in the place of its own."""
        served, _ = self._usual(name, self._entry(name), None)
        return [] if served == name else self._registry.names_of(served)

    def methods(self, protocol: str | None = None) -> Iterator[tuple[str, Method]]:
        """Iterate over names and methods as callers are shown them, without those that have been withdrawn."""
        own = dict(self._registry.methods(protocol))
        for name in chain(own, self._others(own)):
            served, said = self._usual(name, self._entry(name), protocol)
            if served in own and not self.is_over(said):
                yield name, self._shown(name, own[served], said, is_own=served == name)

    def tables(self) -> Iterator[tuple[str, VersionTable, dict[str, str]]]:
        """Iterate over the tables: the name, the options, and the versions with what their names begin with."""
        for table in self._tables:
            yield table.name, table.options, {each: table.prefix_of(each) for each in table.versions()}

    def others(self) -> Iterator[tuple[str, str]]:
        """Iterate over the names that are in no registry, and those that serve them."""
        for name in self._others(dict(self._registry.methods())):
            yield name, self._usual(name, self._entry(name), None)[0]

    def _others(self, own: Mapping[str, Method]) -> Iterator[str]:
        """Iterate over the names that callers may use and that are in no registry."""
        for table in self._tables:
            default = table.options.default
            first = table.prefix_of(default)
            members = (name.removeprefix(first) for name in own if default and name.startswith(first))
            names = dict.fromkeys(table.prefix + member for member in chain(members, table.options.rename))
            yield from (name for name in names if name not in own)

    def _usual(
        self, name: str, entry: tuple[_Table, str, str] | None, protocol: str | None
    ) -> tuple[str, Deprecation | None]:
        """Return the name that serves another one where the caller has no wish, and what is said of it."""
        if entry is None:
            return name, None
        table, version, member = entry
        if version:
            return table.prefix_of(version) + member, table.deprecation("", member, version)
        default = table.options.default
        served = self._in_version(table, default, member, protocol)
        if served is None:
            version = "" if self._knows(name, protocol) else default
            return table.prefix_of(version) + member, table.deprecation(member, member, version)
        return served, table.deprecation(member, member, default)

    def _entry(self, name: str) -> tuple[_Table, str, str] | None:
        """Return the table that a name is about, the version that is in it, and the rest."""
        for prefix, table, version in self._entries:
            if name.startswith(prefix):
                rest = name[len(prefix) :]
                return (table, version, rest) if version is not None else (table, *table.explicit(rest))
        return None

    def _in_version(self, table: _Table, version: str, member: str, protocol: str | None) -> str | None:
        """Return the name of a method in a version, or what it was renamed to there; None where it has neither."""
        prefix = table.prefix_of(version)
        names = [prefix + each for each in (member, table.options.rename.get(member)) if each]
        return next((name for name in names if self._knows(name, protocol)), None)

    def _knows(self, name: str, protocol: str | None) -> bool:
        is_own = name in self._registry if protocol is None else self._registry.get(name, protocol) is not None
        return is_own or self._passes(name)

    def _found(self, name: str, said: Deprecation | None) -> Found:
        return Found(name, said if said is not None and self._now() >= midnight(said.since) else None)

    def _unknown(self, table: _Table, asked: str) -> MethodNotFound:
        there = [each for each in table.versions() if not self.is_over(table.options.deprecated.get(each))]
        shown = f" {asked[:_SHOWN]}" if _PLAIN.fullmatch(asked) else " like this"
        return MethodNotFound(f"there is no version{shown} of {table.name}; there are {', '.join(there) or 'none'}")

    def _shown(self, name: str, found: Method, said: Deprecation | None, *, is_own: bool) -> Method:
        """Return a method as it is shown: of one that serves another name, too, that name is judged by itself."""
        said = self._found(name, said).deprecation
        if is_own and said is None:
            return found
        key = name, id(found), said
        kept = self._copies.get(key)
        if kept is None:
            options = found.options if said is None else structs.replace(found.options, deprecated=words(said))
            if len(self._copies) > _SPARE_COPIES + 4 * len(self._registry):
                self._copies.clear()
            kept = self._copies[key] = found, structs.replace(found, options=options)
        return kept[1]


class Unversioned:
    """Finds only what no table is about, for the plain way, which knows nothing of versions.

    Arguments:
        finder: finds methods.
        prefixes: what the names begin with that a table is about.

    """

    def __init__(self, finder: Finder, prefixes: tuple[str, ...]) -> None:
        self._finder = finder
        self._prefixes = prefixes

    def find(self, name: str, protocol: str) -> Known | None:
        """Find a method that no table is about."""
        return None if name.startswith(self._prefixes) else self._finder.find(name, protocol)


def versioned(
    handler: CallHandler, versions: Versions, permits: Callable[[str, Caller], bool] | None = None
) -> CallHandler:
    """Let the version of a method answer that a name stands for.

    ``permits`` tells whether a caller may call the method of a name; the name that was called has been permitted.
    """

    def call_versioned(call: Call, context: Context) -> Reply | Awaitable[Reply]:
        found = versions.find(call.method, context)
        if found is None:
            return handler(call, context)
        if isinstance(found, MethodNotFound):
            return Reply(fault=found)
        if permits is not None and not permits(found.name, context.caller):
            return Reply(fault=Denied())
        said = found.deprecation
        if said is not None and said.sunset is not None and versions.is_over(said):
            return Reply(fault=_withdrawn(call.method, said, said.sunset))
        context.deprecation = said
        if found.name == call.method:
            return handler(call, context)
        context.called, context.method = call.method, found.name
        return handler(structs.replace(call, method=found.name), context)

    return call_versioned


def _withdrawn(name: str, said: Deprecation, sunset: date) -> MethodNotFound:
    data = {"sunset": sunset.isoformat(), **({"use": said.use} if said.use else {})}
    remedy = f"; use {said.use}" if said.use else ""
    shown = name if _PLAIN.fullmatch(name) else "it"
    return MethodNotFound(f"{shown} was withdrawn on {sunset.isoformat()}{remedy}", **data)


def words(said: Deprecation) -> str:
    """Say in words what is said of a method."""
    until = "" if said.sunset is None else f", until {said.sunset.isoformat()}"
    return f"since {said.since.isoformat()}{until}{f'; use {said.use}' if said.use else ''}"


def midnight(day: date) -> float:
    """Return when a day begins, UTC, in seconds since 1970."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _is_drawn(table: str, canary: Canary, caller: Caller) -> bool:
    """Tell whether a caller gets the canary's version. Who does at one percentage does at all higher ones."""
    if canary.by == "call":
        return random.random() * 100 < canary.percent  # noqa: S311 - nothing is secret here
    name = (caller.key or caller.certificate) if canary.by == "key" else None
    whom = f"{table}\0{name or client_of(caller.client)}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(whom, digest_size=8).digest()) * 100 < canary.percent * 2**64
