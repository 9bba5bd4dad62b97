"""The configuration: gateway.toml, then the environment, then the command line; later ones win.

    [limits] timeout = 5        in gateway.toml
    GATEWAY_LIMITS_TIMEOUT=5    in the environment
    --set limits.timeout=5      on the command line

Each option is written once, as a field of a section below; its type and range are checked by msgspec. Whatever is
wrong, in all three places, is reported at once.
"""

import difflib
import re
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from gateway.limits import Limits

DEFAULT_FILE = Path("conf/gateway.toml")
_PREFIX = "GATEWAY_"
# Where the file is, which no file can say; and what CGI, and Kubernetes beside a Service named gateway, put there.
_NOT_OPTIONS = re.compile(
    r"GATEWAY_(?:CONFIG|INTERFACE|SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)?)"
)
_PORT = "(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"

Setting: TypeAlias = tuple[str, Any, str]  # option, value, where it was found


class ConfigError(Exception):
    """Everything that is wrong with the configuration, a line each, with its place and its remedy.

    ``config`` is what remains without it.
    """

    def __init__(self, problems: Iterable[str], config: "Config | None" = None) -> None:
        self.problems = list(problems)
        self.config = config or Config()
        super().__init__("\n".join(self.problems))


class Server(Struct, frozen=True, kw_only=True):
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
    modules: Annotated[tuple[str, ...], Meta(min_length=1, description="The modules whose methods are served.")] = (
        "handlers",
    )
    drain: Annotated[float, Meta(ge=0, le=3600, description="Seconds that running calls have when it stops.")] = 10.0


class Log(Struct, frozen=True, kw_only=True):
    """What is logged, to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="info has a line for each call.")
    ] = "info"
    format: Annotated[Literal["text", "json"], Meta(description="text for people, json for machines.")] = "text"


class XMLRPC(Struct, frozen=True, kw_only=True):
    """What XML-RPC answers may hold beyond the specification."""

    nil: Annotated[bool, Meta(description="None goes out as <nil/>; otherwise it is a fault.")] = True
    i8: Annotated[bool, Meta(description="Ints beyond 32 bits go out as <i8>; otherwise they are a fault.")] = True


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration, a field for each section."""

    server: Server = Server()
    limits: Limits = Limits()
    log: Log = Log()
    xmlrpc: XMLRPC = XMLRPC()


def _sections() -> dict[str, type[Struct]]:
    return {field.name: field.type for field in msgspec.structs.fields(Config)}


OPTIONS: dict[str, Any] = {
    f"{section}.{field.name}": field.type
    for section, struct in _sections().items()
    for field in msgspec.structs.fields(struct)
}


def load(file: Path | None, environment: Mapping[str, str], settings: Iterable[str]) -> Config:
    """Read the configuration from a file, the environment and ``name=value`` settings of the command line.

    Without a file, ``GATEWAY_CONFIG`` names it; without that it is conf/gateway.toml, if there is one.

    Raises:
        ConfigError: anything is wrong; it lists all of it.

    """
    problems: list[str] = []
    found = [
        *_from_file(file, environment, problems),
        *_from_environment(environment),
        *_from_settings(settings, problems),
    ]
    sections: dict[str, dict[str, Any]] = {section: {} for section in _sections()}
    for option, value, place in found:
        hint = OPTIONS.get(option)
        if hint is None:
            problems.append(f"{place}: there is no option {option}{_nearest(option)}")
            continue
        try:
            # What comes as text is read as text; a number in gateway.toml is a number.
            section, name = option.split(".")
            sections[section][name] = msgspec.convert(_spelled(value, hint), hint, strict=not isinstance(value, str))
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            problems.append(f"{place}: {option}: expected {_expected(error, hint)}, not {value!r}")
    config = msgspec.convert(sections, Config)
    if problems:
        raise ConfigError(problems, config)
    return config


def _from_file(file: Path | None, environment: Mapping[str, str], problems: list[str]) -> Iterable[Setting]:
    path, place = file or DEFAULT_FILE, str(file or DEFAULT_FILE)
    if file is None and environment.get("GATEWAY_CONFIG"):
        path = Path(environment["GATEWAY_CONFIG"])
        place = f"{path} (named by GATEWAY_CONFIG)"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        if path is not DEFAULT_FILE or not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            problems.append(f"{place}: it cannot be read: {str(error.strerror).lower()}")
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{place}: it is not TOML: {error}")
        return
    for section, options in document.items():
        if isinstance(options, dict) and section in _sections():
            for name, value in options.items():
                yield f"{section}.{name}", value, place
        elif section in _sections():
            problems.append(f"{place}: {section} is a section: write [{section}] above its options")
        elif isinstance(options, dict):
            problems.append(f"{place}: there is no section [{section}]{_near(section, _sections())}")
        else:
            problems.append(f"{place}: {section} stands in no section{_nearest(section)}")


def _from_environment(environment: Mapping[str, str]) -> Iterable[Setting]:
    by_name = {_PREFIX + option.replace(".", "_").upper(): option for option in OPTIONS}
    for name, value in environment.items():
        if name.startswith(_PREFIX) and not _NOT_OPTIONS.fullmatch(name):
            option = by_name.get(name, name.removeprefix(_PREFIX).lower().replace("_", ".", 1))
            yield option, value, f"environment variable {name}"


def _from_settings(settings: Iterable[str], problems: list[str]) -> Iterable[Setting]:
    for setting in settings:
        option, equals, value = setting.partition("=")
        if equals and option.strip():
            yield option.strip(), value.strip(), "command line"
        else:
            problems.append(f"command line: {setting!r} is no setting: write it as section.option=value")


def _spelled(value: Any, hint: Any) -> Any:
    """Split a text where several values are meant: a,b,c."""
    several = isinstance(value, str) and "tuple" in str(hint)
    return [part.strip() for part in value.split(",") if part.strip()] if several else value


def _expected(error: Exception, hint: Any) -> str:
    """Say what an option takes: in the words of its description where msgspec has only a pattern."""
    if isinstance(error, UnicodeEncodeError):
        return "text in UTF-8"
    text = str(error)
    if text.startswith("Invalid enum value"):
        return " or ".join(typing.get_args(typing.get_args(hint)[0]))
    if "matching regex" in text:
        return next(str(meta.description).partition(";")[0] for meta in _metas(hint) if meta.pattern)
    return text.removeprefix("Expected ").partition(", got ")[0].replace("`", "")


def _metas(hint: Any) -> Iterator[Meta]:
    yield from getattr(hint, "__metadata__", ())
    for part in typing.get_args(hint):
        yield from _metas(part)


def _nearest(option: str) -> str:
    """Name the option that is meant, perhaps in another section."""
    by_name = {known.partition(".")[2]: known for known in OPTIONS}
    close = [by_name[name] for name in difflib.get_close_matches(option.rpartition(".")[2], by_name, n=1)]
    close = close or difflib.get_close_matches(option, OPTIONS, n=1, cutoff=0.8)
    return f"; did you mean {close[0]}?" if close else ""


def _near(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean [{close[0]}]?" if close else ""
