"""The configuration: gateway.toml, then the environment, then the command line; later ones win.

    [limits] timeout = 5        in gateway.toml
    GATEWAY_LIMITS_TIMEOUT=5    in the environment
    --set limits.timeout=5      on the command line

Each upstream and each directory has a table of its own, [upstreams.NAME] and [directories.NAME] (tables.py), and so
have the versions of an interface, [versions.NAME]; the environment has no names for these.

Each option is written once, as a field of a section: its type and range, which msgspec checks, and what it is for.
conf/gateway.toml, docs/options.md and the console show that text. Whatever is wrong, in all three places, is reported
at once.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from gateway.config.access import KEY_PREFIX, Access
from gateway.config.mcp import MCPSection
from gateway.config.monitoring import ConsoleSection, LogSection, MetricsSection, TracesSection
from gateway.config.nginx import NginxSection
from gateway.config.protocols import JSONRPCSection, XMLRPCSection
from gateway.config.publish import PublishSection, publish_contradictions
from gateway.config.record import RecordSection, record_contradictions
from gateway.config.server import ServerSection, TLSSection
from gateway.config.sources import Setting, find, nearest_option, read
from gateway.config.tables import (
    DIRECTORIES,
    UPSTREAMS,
    VERSIONS,
    convert_setting,
    read_directories,
    read_upstreams,
    read_versions,
)
from gateway.config.versions import VersionTable
from gateway.config.versions import contradictions as version_contradictions
from gateway.config.websocket import WebSocketSection
from gateway.fleet.directories.options import DirectoryOptions
from gateway.model.limits import Limits
from gateway.upstreams import Options
from gateway.upstreams.options import nearest

_NO_SECTIONS = {"upstreams", "directories", "versions", "file"}
_IN_TABLE = re.compile(r"(upstreams|directories)\.([A-Za-z][A-Za-z0-9_-]*)\.([^.]+)")
_IN_VERSIONS = re.compile(r"(versions)\.([A-Za-z][A-Za-z0-9_.-]*)\.([^.]+)")


class ConfigError(Exception):
    """Everything that is wrong with the configuration, a line each, with its place and its remedy.

    ``config`` is what remains without it.
    """

    def __init__(self, problems: Iterable[str], config: "Config | None" = None) -> None:
        self.problems = list(problems)
        self.config = config or Config()
        super().__init__("\n".join(self.problems))


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration, a field for each section; ``file`` is the one that was read, None if there was none."""

    server: ServerSection = ServerSection()
    limits: Limits = Limits()
    access: Access = Access()
    tls: TLSSection = TLSSection()
    nginx: NginxSection = NginxSection()
    log: LogSection = LogSection()
    metrics: MetricsSection = MetricsSection()
    traces: TracesSection = TracesSection()
    console: ConsoleSection = ConsoleSection()
    xmlrpc: XMLRPCSection = XMLRPCSection()
    jsonrpc: JSONRPCSection = JSONRPCSection()
    directories: Annotated[dict[str, DirectoryOptions], DIRECTORIES] = {}
    websocket: WebSocketSection = WebSocketSection()
    mcp: MCPSection = MCPSection()
    publish: PublishSection = PublishSection()
    record: RecordSection = RecordSection()
    upstreams: Annotated[dict[str, Options], UPSTREAMS] = {}
    versions: Annotated[dict[str, VersionTable], VERSIONS] = {}
    file: Path | None = None


def _sections() -> dict[str, type[Struct]]:
    return {field.name: field.type for field in msgspec.structs.fields(Config) if field.name not in _NO_SECTIONS}


OPTIONS: dict[str, Any] = {
    f"{section}.{field.name}": field.type
    for section, struct in _sections().items()
    for field in msgspec.structs.fields(struct)
}


def load(
    file: Path | None, environment: Mapping[str, str], settings: Iterable[str], folders: Iterable[Path] = ()
) -> Config:
    """Read the configuration from a file, the environment and ``name=value`` settings of the command line.

    Without a file, ``GATEWAY_CONFIG`` names it. Without that it is the first conf/gateway.toml in ``folders`` and the
    current folder, if there is one.

    Raises:
        ConfigError: anything is wrong; it lists all of it.

    """
    problems: list[str] = []
    chosen = find(file, environment, folders)
    return _built(read(chosen, environment, settings, OPTIONS, problems), Config(file=chosen[0]), problems)


def changed(config: Config, settings: Iterable[str]) -> Config:
    """Return a configuration with ``name=value`` settings in the place of its own.

    Raises:
        ConfigError: anything is wrong; it lists all of it.

    """
    problems: list[str] = []
    return _built(read((None, ""), {}, settings, OPTIONS, problems), config, problems)


def _built(found: Iterable[Setting], base: Config, problems: list[str]) -> Config:
    """Put settings into a configuration, and raise what is wrong with them or with all of it."""
    sections: dict[str, dict[str, Any]] = {section: {} for section in _sections()}
    tables: dict[str, dict[str, dict[str, Setting]]] = {"upstreams": {}, "directories": {}, "versions": {}}
    for option, value, place in found:
        within = _IN_TABLE.fullmatch(option) or _IN_VERSIONS.fullmatch(option)
        if within is not None:
            tables[within[1]].setdefault(within[2], {})[within[3]] = (option, value, place)
            continue
        hint = OPTIONS.get(option)
        if hint is None:
            problems.append(f"{place}: there is no option {option}{nearest_option(option, OPTIONS)}")
            continue
        section, name = option.split(".")
        convert_setting((option, value, place), hint, sections[section], name, problems)
    built = {name: msgspec.structs.replace(getattr(base, name), **given) for name, given in sections.items()}
    upstreams = base.upstreams | read_upstreams(tables["upstreams"], problems)
    directories = base.directories | read_directories(tables["directories"], problems)
    versions = base.versions | read_versions(tables["versions"], problems)
    config = msgspec.structs.replace(base, **built, upstreams=upstreams, directories=directories, versions=versions)
    problems += _contradictions(config)
    problems += _without_directory(config)
    problems += version_contradictions(config.versions.items())
    problems += record_contradictions(config.record)
    problems += publish_contradictions(config.publish, config.directories, config.server.bind)
    if problems:
        raise ConfigError(problems, config)
    return config


def _without_directory(config: Config) -> Iterator[str]:
    """Tell which upstreams name a directory that there is not."""
    for name, options in config.upstreams.items():
        if options.directory and options.directory not in config.directories:
            meant = nearest(options.directory, config.directories)
            yield f"upstreams.{name}.directory: there is no table [directories.{options.directory}]{meant}"


def _contradictions(config: Config) -> Iterator[str]:
    """Tell which options do not go together."""
    if any(name.startswith(KEY_PREFIX) for name in config.access.keys):
        yield f"access.keys: expected the name of an API key, which does not begin with {KEY_PREFIX}"
    for rule in config.access.rules:
        for name in rule.keys or ():
            if name not in config.access.keys and not config.access.authenticate:
                shown = (
                    "expected the name of an API key, not a key"
                    if name.startswith(KEY_PREFIX)
                    else (f"there is no key {name!r} in access.keys{nearest(name, config.access.keys)}")
                )
                yield f"access.rules: {shown}"
    if config.access.authenticate and config.access.keys:
        yield "access.authenticate: the function decides alone; leave access.keys empty, or authenticate"
    yield from _paths_twice(config)
    if bool(config.tls.certificate) != bool(config.tls.key):
        absent, given = ("key", "certificate") if config.tls.certificate else ("certificate", "key")
        yield f"tls.{absent} is needed with tls.{given}"
    if config.tls.client_ca and not config.tls.certificate:
        yield "tls.certificate is needed with tls.client_ca"


def _paths_twice(config: Config) -> Iterator[str]:
    """Tell which paths are those of two things."""
    calls, websocket, mcp = config.server.paths, config.websocket, config.mcp
    if websocket.enabled and websocket.path in calls:
        yield f"websocket.path: calls are POSTed to {websocket.path}: choose a path that is not in server.paths"
    if mcp.expose and websocket.enabled and mcp.path == websocket.path:
        yield f"mcp.path: {mcp.path} is the path of WebSockets, too: choose another one"
    if mcp.expose and mcp.path in (*calls, "/healthz", "/readyz"):
        yield f"mcp.path: {mcp.path} is a path of calls or of health: choose another one"
