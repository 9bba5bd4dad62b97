"""The sections that have a table for each of several things: [upstreams.NAME], [directories.NAME] and [versions.NAME].

Which options such a table has, one option of it tells: the URL of an upstream, the kind of a directory; those of
versions are all alike. What is wrong with a table is noted in ``problems``, a line each, and the table is left out.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from typing import Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway.config.access import KEY_PREFIX
from gateway.config.conversion import ConversionError, convert, missing
from gateway.config.sources import Setting
from gateway.config.versions import VersionTable
from gateway.fleet.directories import DirectoryConfigError, directory_class
from gateway.fleet.directories.options import DirectoryOptions
from gateway.upstreams import Options, UpstreamConfigError, upstream_class
from gateway.upstreams.options import nearest

SECRET = {"keys", "headers", "metadata", "login"}  # options that may hold a key, even where none belongs
_Options = TypeVar("_Options", bound=Struct)
_SERVERS = ["10.0.0.2:2181", "10.0.0.3:2181", "10.0.0.4:2181"]
DIRECTORIES = Meta(
    description="Where the instances of upstreams are found, a table for each such directory. docs/fleet.md explains"
    " the options.",
    examples=[
        {
            "list": {"kind": "file", "path": "/etc/callgate/stock.json"},
            "k8s": {"kind": "dns"},
            "zk": {"kind": "zookeeper", "servers": _SERVERS},
        }
    ],
)
UPSTREAMS = Meta(
    description="The upstreams, a table for each. docs/bridges.md explains the options.",
    examples=[{"warehouse": {"url": "jsonrpc+tcp://10.0.0.7:31415", "idempotent": ["get*"]}}],
)
VERSIONS = Meta(
    description="The versions of interfaces, a table for each: of the methods whose names begin with the name of the"
    " table and a dot. docs/versions.md explains the options.",
    examples=[
        {
            "inventory": {
                "default": "v1",
                "canary": {"to": "v2", "percent": 5},
                "deprecated": {"v1": {"since": date(2026, 12, 1), "sunset": date(2027, 3, 1), "use": "v2"}},
            }
        }
    ],
)


def convert_setting(setting: Setting, hint: Any, into: dict[str, Any], name: str, problems: list[str]) -> None:
    """Convert what is written for an option, and put it under its name."""
    option, value, place = setting
    try:
        into[name] = convert(value, hint)
    except ConversionError as error:
        if name in SECRET:
            within = "" if KEY_PREFIX in error.within else error.within
            problems.append(f"{place}: {option}{within}: {error.expected}")
        else:
            problems.append(f"{place}: {option}{error.within}: {error}")


def read_upstreams(tables: dict[str, dict[str, Setting]], problems: list[str]) -> dict[str, Options]:
    """Check each table by the options of the protocol that its URL names."""

    def options_of(url: str) -> type[Options]:
        return upstream_class(url).Options

    return _read("upstreams", "url", '"scheme://host:port"', options_of, tables, problems)


def read_directories(tables: dict[str, dict[str, Setting]], problems: list[str]) -> dict[str, DirectoryOptions]:
    """Check each table by the options of its kind."""

    def options_of(kind: str) -> type[DirectoryOptions]:
        return directory_class(kind).Options

    return _read("directories", "kind", '"file", "dns" or "zookeeper"', options_of, tables, problems)


def read_versions(tables: dict[str, dict[str, Setting]], problems: list[str]) -> dict[str, VersionTable]:
    """Check each table."""
    made: dict[str, VersionTable] = {}
    for name, table in tables.items():
        nested = [option for option, setting in table.items() if isinstance(setting[1], dict) and not _has(option)]
        problems += [f'{table.pop(each)[2]}: versions.{name}: write [versions."{name}.{each}"]' for each in nested]
        options = _converted(f"versions.{name}", table, VersionTable, problems) if table else None
        if options is not None:
            made[name] = options
    return made


def _has(option: str) -> bool:
    return option in VersionTable.__struct_fields__


def _first(value: Any) -> str | None:
    """Return a text, or the first one of a list, as JSON too; None where it is something else."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, list):
        value = next(iter(value), None)
    return value if isinstance(value, str) else None


def _read(  # noqa: PLR0913, PLR0917 - all that two sections differ in
    section: str,
    deciding: str,
    example: str,
    options_of: Callable[[str], type[_Options]],
    tables: dict[str, dict[str, Setting]],
    problems: list[str],
) -> dict[str, _Options]:
    made: dict[str, _Options] = {}
    for name, table in tables.items():
        place = next(iter(table.values()))[2]
        first = _first(table[deciding][1]) if deciding in table else None
        if first is None:
            meant = "" if deciding in table else nearest(deciding, table, "it by {}")
            problems.append(f"{place}: {section}.{name}.{deciding}: expected {deciding} = {example}{meant}")
            continue
        try:
            kind = options_of(first)
        except (UpstreamConfigError, DirectoryConfigError) as error:
            problems.append(f"{table[deciding][2]}: {section}.{name}.{deciding}: {error}")
            continue
        options = _converted(f"{section}.{name}", table, kind, problems)
        if options is not None:
            made[name] = options
    return made


def _converted(where: str, table: dict[str, Setting], kind: type[_Options], problems: list[str]) -> _Options | None:
    place = next(iter(table.values()))[2]
    fields = msgspec.structs.fields(kind)
    hints = {field.name: field.type for field in fields}
    values: dict[str, Any] = {}
    before = len(problems)
    problems += [
        f"{place}: {where}.{field.name} is missing: {missing(field.type)}"
        for field in fields
        if field.required and field.name not in table
    ]
    for option, setting in table.items():
        if option in hints:
            convert_setting(setting, hints[option], values, option, problems)
        else:
            problems.append(f"{setting[2]}: there is no option {where}.{option}{nearest(option, hints)}")
    if len(problems) > before:
        return None
    try:
        return kind(**values)
    except ValueError as error:
        problems.append(f"{place}: {where}: {error}")
        return None
