"""The text of docs/options.md, the reference of every option, made from the code; reference.py writes the file.

The options are the fields of the structs that ``gateway check`` converts a file by, so types, ranges, defaults and
descriptions are those that hold. The console and conf/gateway.toml (configuration.py) show the same descriptions.
"""

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

from gateway.config import OPTIONS, Config
from gateway.config.origins import description, spelled
from gateway.config.versions import VersionTable
from gateway.fleet.directories import KINDS, directory_class
from gateway.fleet.directories.options import DirectoryOptions
from gateway.upstreams import SCHEMES, Options, upstream_class

PAGE = Path(__file__).parent / "options.md"
_TOP = """\
# Every option

<!-- written by make reference from the code; edit the descriptions there -->

What can be set in `conf/gateway.toml`, in the environment and on the command line, made from the code that reads it.
[conf/gateway.toml](../conf/gateway.toml) has the same of the sections, as a file to be copied.

An option that is left out keeps its default. The environment wins over the file, and the command line over both:
`limits.timeout` is `GATEWAY_LIMITS_TIMEOUT=5` in the environment, and `--set limits.timeout=5` on the command line. The
tables of upstreams, directories and versions have names of your own in them, and so no variables. `gateway check`
says what is wrong with any of them, and the console shows what is in force, and from where.
"""
_HEAD = ("| option | type | default | what it is |", "| --- | --- | --- | --- |")
_NAMES = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "text"}


def page() -> str:
    """Return the whole reference."""
    parts = [_TOP]
    for section in dict.fromkeys(option.partition(".")[0] for option in OPTIONS):
        struct = type(getattr(Config(), section))
        parts += [f"## [{section}]\n", f"{marked(summary(struct))}\n", *table(struct, ())]
    tables = {field.name: f"{marked(description(field.type))}\n" for field in msgspec.structs.fields(Config)}
    parts += ["## [upstreams.NAME]\n", tables["upstreams"]]
    parts += ["### All upstreams\n", *table(Options, ())]
    for struct, schemes in grouped((f"{scheme}://", upstream_class(f"{scheme}://").Options) for scheme in SCHEMES):
        parts += [f"### {', '.join(schemes)}\n", *(table(struct, Options.__struct_fields__) or ["No others.\n"])]
    parts += ["## [directories.NAME]\n", tables["directories"]]
    parts += ["### All directories\n", *table(DirectoryOptions, ())]
    for directory, kinds in grouped((kind, directory_class(kind).Options) for kind in KINDS):
        parts += [f"### {', '.join(kinds)}\n", *table(directory, DirectoryOptions.__struct_fields__)]
    parts += ["## [versions.NAME]\n", tables["versions"], *table(VersionTable, ())]
    return "\n".join(parts)


def grouped(pairs: Iterable[tuple[str, type[Any]]]) -> list[tuple[type[Any], list[str]]]:
    """Put together the names that have the same options."""
    found: dict[type[Any], list[str]] = {}
    for name, struct in pairs:
        found.setdefault(struct, []).append(name)
    return list(found.items())


def summary(struct: type[Any]) -> str:
    """Return what a section says of itself, without what is for programs."""
    return " ".join((inspect.getdoc(struct) or "").partition("\n\n")[0].split())


def examples(hint: Any) -> list[Any]:
    """Return values that show how an option is written."""
    return [each for meta in getattr(hint, "__metadata__", ()) for each in meta.examples or ()]


def table(struct: type[Any], without: Iterable[str]) -> list[str]:
    """Return a table of the options of a struct, but for some; nothing where there are no others."""
    rows = [row(field) for field in msgspec.structs.fields(struct) if field.name not in without]
    return ["\n".join([*_HEAD, *rows]) + "\n"] if rows else []


def row(field: msgspec.structs.FieldInfo) -> str:
    """Return the row of an option."""
    shown = "".join(f" Example: `{spelled(example)}`." for example in examples(field.type))
    cells = (f"`{field.name}`", kind(field.type), default(field), f"{marked(description(field.type))}{shown}")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def default(field: msgspec.structs.FieldInfo) -> str:
    """Return the default as a file has it."""
    if field.required:
        return "must be given"
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return "" if value is None else f"`{spelled(value)}`"


def kind(hint: Any) -> str:
    """Say which values an option takes, with their range."""
    if typing.get_origin(hint) is typing.Annotated:
        base, *metas = typing.get_args(hint)
        return f"{kind(base)}{''.join(bounds(meta) for meta in metas if isinstance(meta, msgspec.Meta))}"
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is Literal:
        return ", ".join(f"`{spelled(each)}`" for each in arguments)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(dict.fromkeys(kind(each) for each in arguments if each is not type(None)))
    if origin in {tuple, list, frozenset}:
        inside = kind(arguments[0])
        return f"list of {inside.replace('table', 'tables', 1)}" if inside.startswith("table of") else "list"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return f"table of {', '.join(f'`{name}`' for name in hint.__struct_fields__)}"
    return "table" if origin is dict else _NAMES.get(hint, "text")


def bounds(meta: msgspec.Meta, shown: Callable[[float], str] = "{:,}".format) -> str:
    """Say the range of a number."""
    low, high = (meta.ge if meta.ge is not None else meta.gt), meta.le
    if low is None:
        return "" if high is None else f", at most {shown(high)}"
    if meta.gt is not None:
        return f", above {shown(low)}" + ("" if high is None else f", at most {shown(high)}")
    return f", at least {shown(low)}" if high is None else f", {shown(low)} to {shown(high)}"


def marked(text: str) -> str:
    """Write a description as Markdown: what a browser or Markdown would take for something else stays what it is."""
    parts = re.sub(r"``(.+?)``", r"`\1`", text).split("`")
    marked = "`".join(escaped(part) if at % 2 == 0 else part for at, part in enumerate(parts))
    return re.sub(r"\bdocs/(\w+\.md)\b", r"[\1](\1)", marked)


def escaped(text: str) -> str:
    """Escape what Markdown and HTML would read."""
    return re.sub(r"([*\\])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
