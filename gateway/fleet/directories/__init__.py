"""Directories: where the instances of services are found. A kind is a row of KINDS.

    directory(name, options) -> Directory     made before the fork; it connects at its first watch
    directory_class("dns")                    DirectoryConfigError: there is no such kind, or a package is missing

A kind only reads lists and tells when they may have changed (``Kind`` and ``Lookup`` in watching.py). What holds for
all of them is there, too: a list that is away, empty or partly unreadable never fails a call.
"""

import difflib
import importlib
from typing import NamedTuple

from gateway.fleet.directories.options import DirectoryOptions
from gateway.fleet.directories.watching import Kind, WatchedDirectory


class DirectoryConfigError(Exception):
    """There is no such kind of directory, or a package that it needs is missing; the message says what to do."""


class _Row(NamedTuple):
    """Where a kind is: the module in this package, its class, and its extra in pyproject.toml."""

    module: str
    name: str
    extra: str | None


KINDS: dict[str, _Row] = {
    "file": _Row("file", "FileKind", None),
    "dns": _Row("dns", "DNSKind", "dns"),
    "zookeeper": _Row("zookeeper.kind", "ZooKeeperKind", None),
}


def directory_class(kind: str) -> type[Kind]:
    """Load a kind of directory.

    Raises:
        DirectoryConfigError: there is no such kind, or the packages of its extra are missing.

    """
    if kind not in KINDS:
        close = difflib.get_close_matches(kind, KINDS, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise DirectoryConfigError(f"there is no kind {kind!r}; the kinds are {', '.join(KINDS)}{meant}")
    module, name, extra = KINDS[kind]
    try:
        loaded: type[Kind] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "").startswith("gateway"):
            raise
        raise DirectoryConfigError(
            f"the kind {kind} needs the package {error.name}: pip install '.[{extra}]' in the gateway's clone"
        ) from None
    return loaded


def directory(name: str, options: DirectoryOptions) -> WatchedDirectory:
    """Make a directory, which is connected to nothing yet.

    Raises:
        DirectoryConfigError: it cannot be made as it is configured.

    """
    try:
        return WatchedDirectory(name, options, directory_class(options.kind)(options))
    except (OSError, ValueError) as error:
        raise DirectoryConfigError(str(error)) from None
