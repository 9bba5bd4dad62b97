"""The configuration: gateway.toml, then the environment, then the command line; later ones win.

    [limits] timeout = 5        in gateway.toml
    GATEWAY_LIMITS_TIMEOUT=5    in the environment
    --set limits.timeout=5      on the command line

Each upstream has a table of its own, [upstreams.NAME]; the environment has no names for these.

Each option is written once, as a field of a section below; its type and range are checked by msgspec. Whatever is
wrong, in all three places, is reported at once.
"""

import json
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.config.access import KEY_PREFIX, Access
from gateway.config.nginx import NginxSection
from gateway.config.sources import Setting, find, nearest_option, read
from gateway.model.limits import Limits
from gateway.upstreams import Options, UpstreamConfigError, upstream_class
from gateway.upstreams.options import nearest

_NO_SECTIONS = {"upstreams", "file"}
_UPSTREAM = re.compile(r"upstreams\.([A-Za-z][A-Za-z0-9_-]*)\.([^.]+)")
_JSON_LIST = re.compile(r"\[\s*[\"\]]")  # [::1]:8000 is none
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
    """Where the gateway is reached."""

    bind: Annotated[
        str,
        Meta(
            pattern=rf"^(\[[0-9a-fA-F:.]+\]|[^:\s/]*):{_PORT}$",
            description="host:port, like 127.0.0.1:8000, with a port from 0, which takes a free one, to 65535;"
            " [::1]:8000 for IPv6, :8000 for all addresses.",
        ),
    ] = "127.0.0.1:8000"
    paths: Annotated[
        tuple[
            Annotated[str, Meta(pattern=r"^/[A-Za-z0-9._~%@:+=/-]*$", description="a path that begins with a slash")],
            ...,
        ],
        Meta(min_length=1, description="The paths to POST to."),
    ] = ("/api", "/RPC2", "/jsonrpc", "/")
    modules: Annotated[
        tuple[str, ...], Meta(description="The modules whose methods are served; none where upstreams are all.")
    ] = ("handlers",)
    tcp: Annotated[
        str,
        Meta(
            pattern=rf"^(?:(\[[0-9a-fA-F:.]+\]|[^:\s/]*):{_PORT})?$",
            description="host:port, like 127.0.0.1:31415, or nothing; JSON-RPC over plain TCP is answered there.",
        ),
    ] = ""
    tcp_framing: Annotated[
        Literal["json", "newline", "netstring"],
        Meta(
            description="How messages are told apart there. json: each text ends with its last bracket, whatever is"
            " between two of them; newline: one on each line; netstring: 5:hello,"
        ),
    ] = "json"
    workers: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        Meta(description="Processes that serve; auto is one for each core. A method's memory is its process' own."),
    ] = 1
    grace: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Seconds between SIGTERM, from which /readyz says no, and the end of accepting connections.",
        ),
    ] = 0.0
    drain: Annotated[float, Meta(ge=0, le=3600, description="Seconds that running calls have when it stops.")] = 10.0
    pid_file: Annotated[
        str, Meta(description="Where its process id is written, for gateway reload; none if empty.")
    ] = ""


class TLSSection(Struct, frozen=True, kw_only=True):
    """HTTPS without a proxy in front. Without a certificate it is HTTP."""

    certificate: Annotated[str, Meta(description="A file with the certificate and its chain, in PEM.")] = ""
    key: Annotated[str, Meta(description="A file with the certificate's private key, in PEM.")] = ""
    client_ca: Annotated[
        str, Meta(description="A file of authorities, in PEM; clients then need a certificate of one of them.")
    ] = ""


class MetricsSection(Struct, frozen=True, kw_only=True):
    """What Prometheus reads."""

    bind: Annotated[
        str,
        Meta(
            pattern=rf"^(?:(\[[0-9a-fA-F:.]+\]|[^:\s/]*):{_PORT})?$",
            description="host:port of /metrics, with port 0 for a free one; none if empty.",
        ),
    ] = "127.0.0.1:0"


class LogSection(Struct, frozen=True, kw_only=True):
    """What is logged, to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="info has a line for each call.")
    ] = "info"
    format: Annotated[Literal["text", "json"], Meta(description="text for people, json for machines.")] = "text"


class XMLRPCSection(Struct, frozen=True, kw_only=True):
    """What XML-RPC answers may hold beyond the specification."""

    none: Annotated[
        Literal["nil", "empty", "fault"],
        Meta(description="How None is written: as <nil/>, as an empty string, or not at all: the call is a fault."),
    ] = "nil"
    i8: Annotated[bool, Meta(description="Ints beyond 32 bits are written as <i8>; otherwise they are a fault.")] = True


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration, a field for each section; ``file`` is the one that was read, None if there was none."""

    server: ServerSection = ServerSection()
    limits: Limits = Limits()
    access: Access = Access()
    tls: TLSSection = TLSSection()
    nginx: NginxSection = NginxSection()
    log: LogSection = LogSection()
    metrics: MetricsSection = MetricsSection()
    xmlrpc: XMLRPCSection = XMLRPCSection()
    upstreams: dict[str, Options] = {}
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
    upstreams: dict[str, dict[str, Setting]] = {}
    for option, value, place in found:
        upstream = _UPSTREAM.fullmatch(option)
        if upstream is not None:
            upstreams.setdefault(upstream[1], {})[upstream[2]] = (option, value, place)
            continue
        hint = OPTIONS.get(option)
        if hint is None:
            problems.append(f"{place}: there is no option {option}{nearest_option(option, OPTIONS)}")
            continue
        section, name = option.split(".")
        _convert((option, value, place), hint, sections[section], name, problems)
    built = {name: msgspec.structs.replace(getattr(base, name), **given) for name, given in sections.items()}
    read_upstreams = base.upstreams | _read_upstreams(upstreams, problems)
    config = msgspec.structs.replace(base, **built, upstreams=read_upstreams)
    problems += _contradictions(config)
    if problems:
        raise ConfigError(problems, config)
    return config


def _convert(setting: Setting, hint: Any, into: dict[str, Any], name: str, problems: list[str]) -> None:
    option, value, place = setting
    try:
        # What comes as text is read as text; a number in gateway.toml is a number.
        into[name] = msgspec.convert(
            _spelled(value, hint), hint, strict=not isinstance(value, str), dec_hook=_converted
        )
    except (msgspec.ValidationError, UnicodeEncodeError, json.JSONDecodeError) as error:
        text, _, inside = str(error).partition(" - at `$")
        within = "" if isinstance(value, str) else inside.removesuffix("`").replace("[...]", "")
        shown = "" if option == "access.keys" else f", not {value!r}"  # a key may stand where its hash belongs
        problems.append(f"{place}: {option}{within}: expected {_expected(error, text, hint)}{shown}")


def _read_upstreams(tables: dict[str, dict[str, Setting]], problems: list[str]) -> dict[str, Options]:
    """Check each table by the options of the bridge that its URL asks for; what is wrong is left out."""
    upstreams: dict[str, Options] = {}
    for name, table in tables.items():
        place = next(iter(table.values()))[2]
        if "url" not in table or not isinstance(table["url"][1], str):
            problems.append(f'{place}: upstreams.{name}.url: expected url = "scheme://host:port"')
            continue
        try:
            kind = upstream_class(table["url"][1]).Options
        except UpstreamConfigError as error:
            problems.append(f"{table['url'][2]}: upstreams.{name}.url: {error}")
            continue
        fields = msgspec.structs.fields(kind)
        hints = {field.name: field.type for field in fields}
        values: dict[str, Any] = {}
        before = len(problems)
        for missing in [field for field in fields if field.required and field.name not in table]:
            wanted = next(str(meta.description) for meta in _metas(missing.type)).rstrip(".")
            problems.append(f"{place}: upstreams.{name}.{missing.name} is missing: {wanted.lower()}")
        for option, setting in table.items():
            if option in hints:
                _convert(setting, hints[option], values, option, problems)
            else:
                problems.append(f"{setting[2]}: there is no option upstreams.{name}.{option}{nearest(option, hints)}")
        if len(problems) == before:
            try:
                upstreams[name] = kind(**values)
            except ValueError as error:
                problems.append(f"{place}: upstreams.{name}: {error}")
    return upstreams


def _converted(kind: type, value: Any) -> Any:
    """Make what msgspec has no type for (its ``dec_hook``)."""
    return kind(value)


def _contradictions(config: Config) -> Iterator[str]:
    """Tell which options do not go together."""
    for rule in config.access.rules:
        for name in rule.keys or ():
            if name not in config.access.keys:
                shown = (
                    "an API key stands where the name of one is expected"
                    if name.startswith(KEY_PREFIX)
                    else (f"there is no key {name!r} in access.keys{nearest(name, config.access.keys)}")
                )
                yield f"access.rules: {shown}"
    if bool(config.tls.certificate) != bool(config.tls.key):
        missing, given = ("key", "certificate") if config.tls.certificate else ("certificate", "key")
        yield f"tls.{missing}: it is needed with tls.{given}"
    if config.tls.client_ca and not config.tls.certificate:
        yield "tls.certificate: it is needed with tls.client_ca"


def _spelled(value: Any, hint: Any) -> Any:
    """Read a text where several values are meant: a,b,c or JSON for a list, JSON for tables."""
    if not isinstance(value, str):
        return value
    if "dict[" in str(hint) or "Rule" in str(hint) or ("tuple[" in str(hint) and _JSON_LIST.match(value)):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()] if "tuple[" in str(hint) else value


def _expected(error: Exception, text: str, hint: Any) -> str:
    """Say what an option takes: in the words of its description where msgspec has only a pattern."""
    if isinstance(error, (UnicodeEncodeError, json.JSONDecodeError)):
        return "text in UTF-8" if isinstance(error, UnicodeEncodeError) else "JSON"
    if text.startswith("Invalid enum value"):
        return " or ".join(_choices(hint))
    if "matching regex" in text:
        return next(str(meta.description).partition(";")[0] for meta in _metas(hint) if repr(meta.pattern) in text)
    if text.startswith("Object contains unknown field"):
        return f"no {text.rpartition(' ')[2].strip('`')}"
    return text.removeprefix("Expected ").partition(", got ")[0].replace("`", "").replace("object", "table")


def _choices(hint: Any) -> Iterator[str]:
    for part in typing.get_args(hint):
        yield from typing.get_args(part) if typing.get_origin(part) is Literal else _choices(part)


def _metas(hint: Any) -> Iterator[Meta]:
    yield from getattr(hint, "__metadata__", ())
    for part in typing.get_args(hint):
        yield from _metas(part)
