"""Where options come from: gateway.toml, the environment, the command line.

    found = find(file, environment, folders)
    settings = read(found, environment, words, options, problems)

What an option takes is decided elsewhere (conversion.py). What is not an option at all, or is not written as one, is
noted in ``problems``, a line each, with its place and the remedy.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

DEFAULT_FILE = Path("conf/gateway.toml")
_PREFIX = "GATEWAY_"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")  # of an upstream or a directory
_DOTTED = re.compile(r"[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?")  # of an interface that has versions
_TABLES = {  # sections that have a table for each of several things -> what such a table has in any case
    "upstreams": 'url: expected url = "scheme://host:port"',
    "directories": 'kind: expected kind = "file", "dns" or "zookeeper"',
    "versions": 'default: expected default = "v1"',
}
# The codec, the place of the file; and what CGI, and Kubernetes for a Service named gateway, set.
_NOT_OPTIONS = re.compile(
    r"GATEWAY_(?:CODEC|CONFIG|INTERFACE|SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)?)"
)

Setting: TypeAlias = tuple[str, Any, str]  # option, value, where it was found


def find(file: Path | None, environment: Mapping[str, str], folders: Iterable[Path]) -> tuple[Path | None, str]:
    """Find the configuration file, and what to call it in messages.

    It is the one that is given, or else the one that GATEWAY_CONFIG names, or else the first conf/gateway.toml that
    exists in ``folders`` and in the current folder; None if there is none.
    """
    if file is not None:
        return file, str(file)
    if environment.get("GATEWAY_CONFIG"):
        named = Path(environment["GATEWAY_CONFIG"])
        return named, f"{named} (named by GATEWAY_CONFIG)"
    here = Path.cwd()
    for folder in folders:
        if folder.resolve() != here and _exists(folder / DEFAULT_FILE):
            return folder / DEFAULT_FILE, str(folder / DEFAULT_FILE)
    return (DEFAULT_FILE if _exists(DEFAULT_FILE) else None), str(DEFAULT_FILE)


def _exists(file: Path) -> bool:
    """Tell whether something is there, even if it cannot be read."""
    try:
        file.stat()
    except OSError as error:
        return not isinstance(error, (FileNotFoundError, NotADirectoryError))
    return True


def read(
    found: tuple[Path | None, str],
    environment: Mapping[str, str],
    words: Iterable[str],
    options: Collection[str],
    problems: list[str],
) -> list[Setting]:
    """Collect the settings of all three places, those that win behind those that lose.

    ``words`` are those of the command line, ``section.option=value``; ``options`` are the names of all that there are,
    apart from those of upstreams.
    """
    return [
        *_from_file(*found, options, problems),
        *_from_environment(environment, options),
        *_from_settings(words, problems),
    ]


def _from_file(file: Path | None, place: str, options: Collection[str], problems: list[str]) -> Iterable[Setting]:
    if file is None:
        return
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        problems.append(f"{place}: it cannot be read: {str(error.strerror).lower()}")
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{place}: invalid TOML: {error}")
        return
    yield from _from_document(document, place, options, problems)


def _from_document(
    document: dict[str, Any], place: str, options: Collection[str], problems: list[str]
) -> Iterable[Setting]:
    sections = {*(option.partition(".")[0] for option in options), *_TABLES}
    for section, table in document.items():
        if section in _TABLES:
            yield from _from_tables(section, table, place, problems)
        elif isinstance(table, dict) and section in sections:
            for name, value in table.items():
                yield f"{section}.{name}", value, place
        elif section in sections:
            problems.append(f"{place}: {section} is a section: write [{section}] above its options")
        elif isinstance(table, dict):
            problems.append(f"{place}: there is no section [{section}]{_near(section, sections)}")
        else:
            problems.append(f"{place}: {section} is not in a section{nearest_option(section, options)}")


def _from_tables(section: str, tables: Any, place: str, problems: list[str]) -> Iterable[Setting]:
    """Yield the options of all upstreams, of all directories, or of all versions, of a file."""
    form, more = (_DOTTED, ", and dots in quotes") if section == "versions" else (_NAME, "")
    for name, table in tables.items() if isinstance(tables, dict) else [("", None)]:
        if not isinstance(table, dict) or not form.fullmatch(name):
            problems.append(
                f"{place}: {section}{name and f'.{name}'}: write a table [{section}.NAME], with a NAME of letters,"
                f" digits, _ and -{more}"
            )
        elif not table:
            problems.append(f"{place}: {section}.{name}.{_TABLES[section]}")
        else:
            yield from ((f"{section}.{name}.{option}", value, place) for option, value in table.items())


def _from_environment(environment: Mapping[str, str], options: Collection[str]) -> Iterable[Setting]:
    by_name = {variable_of(option): option for option in options}
    for name, value in environment.items():
        if name.startswith(_PREFIX) and not _NOT_OPTIONS.fullmatch(name):
            option = by_name.get(name, name.removeprefix(_PREFIX).lower().replace("_", ".", 1))
            yield option, value, f"environment variable {name}"


def variable_of(option: str) -> str:
    """Return the name of an option in the environment."""
    return _PREFIX + option.replace(".", "_").upper()


def _from_settings(settings: Iterable[str], problems: list[str]) -> Iterable[Setting]:
    for setting in settings:
        option, equals, value = setting.partition("=")
        if equals and option.strip():
            yield option.strip(), value.strip(), "command line"
        else:
            problems.append(f"command line: {setting!r} is not a setting: write it as section.option=value")


def nearest_option(option: str, options: Collection[str]) -> str:
    """Name the option that is meant: one of the same section if possible, or else of another one."""
    section, _, name = option.lower().rpartition(".")
    if close := difflib.get_close_matches(section.partition(".")[0] or name, list(_TABLES), n=1):
        of = {"upstreams": "an upstream", "directories": "a directory"}[close[0]]
        return f"; an option of {of} is {close[0]}.NAME.option, which is set in the file or by --set"
    own = [known.partition(".")[2] for known in options if known.startswith(f"{section}.")]
    close = [each for each in own if len(name) > 2 and (each.startswith(name) or name.startswith(each))]
    close = close or difflib.get_close_matches(name, own, n=1)
    if close:
        return f"; did you mean {section}.{close[0]}?"
    by_name: dict[str, str] = {}
    for known in options:
        by_name.setdefault(known.partition(".")[2], known)
    close = difflib.get_close_matches(name, by_name, n=1, cutoff=0.7)
    return f"; did you mean {by_name[close[0]]}?" if close else ""


def _near(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean [{close[0]}]?" if close else ""
