"""What ``gateway check`` looks for in the tables ``[versions.*]``."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from gateway.app import Gateway
from gateway.config.versions import VersionTable
from gateway.core.versions import midnight

_SOON = timedelta(days=14)


def sunset_soon(gateway: Gateway) -> Iterator[str]:
    """Tell what is withdrawn within two weeks, or has been."""
    now = datetime.now(UTC)
    for name, table in gateway.config.versions.items():
        for what, said in table.deprecated.items():
            if said.sunset is None or midnight(said.sunset) > (now + _SOON).timestamp():
                continue
            is_over = midnight(said.sunset) <= now.timestamp()
            when = f"was withdrawn on {said.sunset}" if is_over else f"is withdrawn on {said.sunset}"
            yield f"versions.{name}.deprecated.{what}: it {when}; gateway callers shows who still calls it"


def versions_without_method(gateway: Gateway, may_be_discovered: Callable[[str, Gateway], bool]) -> Iterator[str]:
    """Tell which default or canary is a version that has no method."""
    for name, table in gateway.config.versions.items():
        named = {"default": table.default, "canary.to": "" if table.canary is None else table.canary.to}
        for option, version in named.items():
            prefix = _prefix(name, table, version)
            is_there = not version or any(each.startswith(prefix) for each in gateway.registry)
            if not is_there and not may_be_discovered(f"{prefix}*", gateway):
                yield f"versions.{name}.{option}: no method's name begins with {prefix}"


def names_without_method(gateway: Gateway, may_be_discovered: Callable[[str, Gateway], bool]) -> Iterator[str]:
    """Tell what is deprecated or renamed, and is neither a version nor a method."""
    names = {*gateway.registry, *(name for name, _ in gateway.versions.others())}
    for name, table in gateway.config.versions.items():
        for key in table.deprecated:
            prefix = _prefix(name, table, key)
            is_there = f"{name}.{key}" in names or any(each.startswith(prefix) for each in gateway.registry)
            if not is_there and not may_be_discovered(f"{prefix}*", gateway):
                yield f"versions.{name}.deprecated.{key}: it is neither a version of {name} nor a method of it"
        for said, meant in table.rename.items():
            served = f"{_prefix(name, table, table.default)}{meant}"
            if served not in gateway.registry and not may_be_discovered(served, gateway):
                yield f"versions.{name}.rename.{said}: there is no method {served}"


def versions_twice(gateway: Gateway) -> Iterator[str]:
    """Tell which names have two defaults, because one table is about the names of another one."""
    tables = gateway.config.versions
    for name, table in tables.items():
        for version in dict.fromkeys((*table.named(), "")):
            prefix = _prefix(name, table, version)
            for other in tables:
                if other != name and f"{other}.".startswith(prefix):
                    yield f"versions.{other}: its names are also those of versions.{name}; leave one out"
                    break


def _prefix(name: str, table: VersionTable, version: str) -> str:
    return table.prefixes.get(version) or (f"{name}.{version}." if version else f"{name}.")
