"""The configuration: gateway.toml, then the environment, then the command line; later ones win.

    [limits] timeout = 5        in gateway.toml
    GATEWAY_LIMITS_TIMEOUT=5    in the environment
    --set limits.timeout=5      on the command line

Each upstream and each directory has a table of its own, [upstreams.NAME] and [directories.NAME] (tables.py), and so
have the versions of an interface, [versions.NAME]; the
environment has no names for these.

Each option is written once, as a field of a section below; its type and range are checked by msgspec. Whatever is
wrong, in all three places, is reported at once.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.config.access import KEY_PREFIX, Access
from gateway.config.mcp import MCPSection
from gateway.config.nginx import NginxSection
from gateway.config.publish import PublishSection, publish_contradictions
from gateway.config.record import RecordSection, record_contradictions
from gateway.config.sources import Setting, find, nearest_option, read
from gateway.config.tables import convert_setting, read_directories, read_upstreams, read_versions
from gateway.config.traces import TracesSection
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
_ADDRESS = r"unix:/[^,\s]{1,106}|fd:(?:[3-9]|[1-9][0-9]{1,6})|systemd"
_PORT = "(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"


class ConfigError(Exception):
    """Everything that is wrong with the configuration, a line each, with its place and its remedy.

    ``config`` is what remains without it.
    """

    def __init__(self, problems: Iterable[str], config: "Config | None" = None) -> None:
        self.problems = list(problems)
        self.config = config or Config()
        super().__init__("\n".join(self.problems))


class ServerSection(Struct, frozen=True, kw_only=True):
    """Where the gateway listens, and what it serves."""

    bind: Annotated[
        tuple[
            Annotated[
                str,
                Meta(
                    pattern=rf"^(?:(\[[0-9a-fA-F:.]+\]|[^:\s/,]*):{_PORT}|{_ADDRESS})$",
                    description="host:port, like 127.0.0.1:8000, with a port from 0, which takes a free one, to 65535;"
                    " [::1]:8000 for IPv6, :8000 for all addresses; unix:/path for a Unix socket; fd:3 for a socket"
                    " that the process has inherited; systemd for all that systemd passes.",
                ),
            ],
            ...,
        ],
        Meta(min_length=1, description="The addresses to listen on: one, or a list of several."),
    ] = ("127.0.0.1:8000",)
    unix_mode: Annotated[
        str,
        Meta(
            pattern="^[0-7]{3}$",
            description="three octal digits, like 660; the permissions of Unix sockets: who may write to one may call.",
        ),
    ] = "660"
    paths: Annotated[
        tuple[
            Annotated[str, Meta(pattern=r"^/[A-Za-z0-9._~%@:+=/-]*$", description="a path that begins with a slash")],
            ...,
        ],
        Meta(min_length=1, description="The paths that calls are POSTed to."),
    ] = ("/api", "/RPC2", "/jsonrpc", "/")
    modules: Annotated[
        tuple[str, ...], Meta(description="The modules whose methods are served; none to serve upstreams only.")
    ] = ("handlers",)
    middleware: Annotated[
        tuple[
            Annotated[
                str,
                Meta(pattern=r"^[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*$", description="a function, module:function"),
            ],
            ...,
        ],
        Meta(description="The middleware of all methods, module:function; the first one is the outermost."),
    ] = ()
    app: Annotated[
        str,
        Meta(
            pattern=r"^(?:[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*)?$",
            description="module:application; an application of Tornado that answers what is not a call. GET and HEAD of"
            " the paths of calls are its, too. Empty for none.",
        ),
    ] = ""
    tcp: Annotated[
        str,
        Meta(
            pattern=rf"^(?:(\[[0-9a-fA-F:.]+\]|[^:\s/]*):{_PORT})?$",
            description="host:port, like 127.0.0.1:31415, or nothing; the address for JSON-RPC over plain TCP.",
        ),
    ] = ""
    tcp_framing: Annotated[
        Literal["json", "newline", "netstring"],
        Meta(
            description="How messages on that address are separated. json: a text ends with its last bracket, whatever"
            " is between two of them; newline: one on each line; netstring: 5:hello,"
        ),
    ] = "json"
    workers: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        Meta(description="Processes that serve; auto starts one for each core. Each has its own memory."),
    ] = 1
    grace: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Seconds from SIGTERM, when /readyz starts to return 503, to the end of accepting connections.",
        ),
    ] = 0.0
    drain: Annotated[
        float, Meta(ge=0, le=3600, description="Seconds that running calls have to end when the gateway stops.")
    ] = 10.0
    watchdog: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="Seconds after which a worker is killed and replaced if its event loop does not run, because a"
            " method holds it or the process is stopped; 0 for never. Twice the default of limits.timeout.",
        ),
    ] = 60.0
    pid_file: Annotated[str, Meta(description="The file with the process id, for gateway reload; none if empty.")] = ""
    callers: Annotated[
        str, Meta(description="A folder for the counts of who calls which method, for gateway callers; none if empty.")
    ] = ""

    def __post_init__(self) -> None:
        """Take one address by itself, as a program may write it; its characters would be addresses, too."""
        given: object = self.bind
        if isinstance(given, str):
            msgspec.structs.force_setattr(self, "bind", (given,))


class TLSSection(Struct, frozen=True, kw_only=True):
    """HTTPS without a proxy in front. Without a certificate it is HTTP."""

    certificate: Annotated[str, Meta(description="A file with the certificate and its chain, in PEM.")] = ""
    key: Annotated[str, Meta(description="A file with the certificate's private key, in PEM.")] = ""
    client_ca: Annotated[
        str, Meta(description="A file of authorities, in PEM; clients then need a certificate from one of them.")
    ] = ""


class MetricsSection(Struct, frozen=True, kw_only=True):
    """What Prometheus reads."""

    bind: Annotated[
        str,
        Meta(
            pattern=rf"^(?:(\[[0-9a-fA-F:.]+\]|[^:\s/]*):{_PORT})?$",
            description="host:port, like 127.0.0.1:9464, with port 0 for a free one; the address of /metrics,"
            " none if empty.",
        ),
    ] = "127.0.0.1:0"


class ConsoleSection(Struct, frozen=True, kw_only=True):
    """Pages for people: the methods, a form to call them, and how the gateway is."""

    bind: Annotated[
        str,
        Meta(
            pattern=rf"^(?:(\[[0-9a-fA-F:.]+\]|[^:\s/]*):{_PORT})?$",
            description="host:port, like 127.0.0.1:9465, with port 0 for a free one; the address of the console, none"
            " if empty. Whoever reaches it may read all of it; calls from it are held to [access].",
        ),
    ] = ""
    public: Annotated[
        bool,
        Meta(
            description="Whether /console/ at the addresses for calls shows each caller the methods that it may call,"
            " to be read only. [access] holds."
        ),
    ] = False


class LogSection(Struct, frozen=True, kw_only=True):
    """The log, which is written to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="info has a line for each call.")
    ] = "info"
    format: Annotated[Literal["text", "json"], Meta(description="text for people, json for programs.")] = "text"


class XMLRPCSection(Struct, frozen=True, kw_only=True):
    """What XML-RPC responses may contain beyond the specification."""

    none: Annotated[
        Literal["nil", "empty", "fault"],
        Meta(
            description="How None is written: as <nil/>, as an empty string, or not at all: the call then has a fault."
        ),
    ] = "nil"
    i8: Annotated[
        bool, Meta(description="Whether integers beyond 32 bits are written as <i8>; otherwise the call has a fault.")
    ] = True


class JSONRPCSection(Struct, frozen=True, kw_only=True):
    """How JSON-RPC responses are written."""

    int64: Annotated[
        Literal["number", "text"],
        Meta(
            description="How integers beyond 53 bits are written, which JavaScript rounds. With text, such texts are"
            " also taken for int parameters."
        ),
    ] = "number"


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
    directories: dict[str, DirectoryOptions] = {}
    websocket: WebSocketSection = WebSocketSection()
    mcp: MCPSection = MCPSection()
    publish: PublishSection = PublishSection()
    record: RecordSection = RecordSection()
    upstreams: dict[str, Options] = {}
    versions: dict[str, VersionTable] = {}
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
