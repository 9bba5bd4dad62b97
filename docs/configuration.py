"""The text of conf/gateway.toml, every option with its default and what it is for; reference.py writes the file.

It is made from the structs that ``gateway check`` converts a file by, as docs/options.md is (options.py).
"""

import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from docs.options import bounds, examples, summary
from gateway.config import OPTIONS, Config
from gateway.config.conversion import metas
from gateway.config.origins import description, spelled

FILE = Path(__file__).parents[1] / "conf" / "gateway.toml"
TABLES = ("directories", "upstreams", "versions")
_TOP = """\
# The configuration of the gateway: every option, with its default. An option that is left out keeps its default.
#
# The environment wins over this file, and the command line over both:
#     GATEWAY_LIMITS_TIMEOUT=5 gateway serve
#     gateway serve --set limits.timeout=5
# "gateway check" reports everything that is wrong here. --config FILE or GATEWAY_CONFIG names another file.
#
# "make reference" writes this file from the code. docs/options.md has the same in tables, and the options of upstreams.
"""
_WIDTH = 120
_TOGETHER = "\N{NO-BREAK SPACE}"  # where no line ends
_BINARY = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_SECONDS = {86_400: " (a day)", 604_800: " (a week)"}
_LARGE = 10_000  # numbers from here on have their digits in groups


def page() -> str:
    """Return the whole file."""
    parts = [_TOP]
    for section in dict.fromkeys(name.partition(".")[0] for name in OPTIONS):
        values = getattr(Config(), section)
        parts.append(f"[{section}]\n{comment(summary(type(values)))}")
        parts += [option(field, getattr(values, field.name)) for field in msgspec.structs.fields(values)]
    fields = {field.name: field.type for field in msgspec.structs.fields(Config)}
    return "\n".join([*parts, *(tables(name, fields[name]) for name in TABLES)])


def option(field: msgspec.structs.FieldInfo, value: Any) -> str:
    """Return an option with its default, below what it is for, its range and examples."""
    said = description(field.type)
    ranges = [bounds(meta, partial(amount, said.partition(" ")[0])) for meta in metas(field.type)]
    told = [said, *(f"Range:{text.removeprefix(',')}.".replace(" ", _TOGETHER) for text in ranges if text)]
    shown = [f"#     {field.name} = {spelled(example)}\n" for example in examples(field.type)]
    return f"{comment(' '.join(told))}{''.join(shown)}{field.name} = {number(value)}\n"


def tables(name: str, hint: Any) -> str:
    """Return what tables with names of their own are for, with examples."""
    lines = [line for example in examples(hint) for line in table(name, example)]
    return comment(f"{description(hint)} For example:") + "".join(f"#{line and '     '}{line}\n" for line in lines)


def table(name: str, example: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Write the tables of an example."""
    for each, options in example.items():
        yield ""
        yield f"[{name}.{each}]"
        yield from (f"{key} = {spelled(value)}" for key, value in options.items())


def comment(text: str) -> str:
    """Write a text as a comment."""
    lines = textwrap.wrap(text, _WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line.replace(_TOGETHER, ' ')}\n" for line in lines)


def number(value: Any) -> str:
    """Write a value as a file of TOML has it, large numbers with their digits in groups."""
    return f"{value:_}" if isinstance(value, int) and value >= _LARGE else spelled(value)


def amount(unit: str, bound: float) -> str:
    """Write the bound of a range, in the unit that the description of its option begins with."""
    if unit == "Bytes":
        for size, name in _BINARY:
            if bound and bound % size == 0:
                return f"{bound // size:,} {name}"
    return f"{bound:,}{_SECONDS.get(int(bound), '') if unit == 'Seconds' else ''}"
