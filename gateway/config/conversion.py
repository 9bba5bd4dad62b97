"""From what is written to the value of an option, or what is wrong with it in the words of the option.

    convert("5", float)             5.0
    convert({"a": 0}, hint)         ConversionError: within ".a", "expected a number > 0, not 0"

A string can be written for any value, because the environment and the command line have nothing else: a,b,c or JSON for
a list, JSON for a table.
"""

import json
import re
import typing
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import Meta

from gateway.upstreams.options import nearest

_JSON_LIST = re.compile(r"\[\s*[\"\]]")  # [::1]:8000 is none
_PLACE = re.compile(r" - at `(?:key` in `)?\$(.*)`$", re.DOTALL)
_STEP = re.compile(r"\[(\d+)\]|\.(\w+)")
_KINDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "a string",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
_NOT_EMPTY = "array of length >= 1"


class ConversionError(Exception):
    """A value that an option does not take: where in it, and what is expected there."""

    def __init__(self, within: str, expected: str, found: str) -> None:
        super().__init__(f"{expected}{found}")
        self.within = within
        self.expected = expected


def convert(value: Any, hint: Any) -> Any:
    """Make the value of an option from what is written.

    Raises:
        ConversionError: it is not one.

    """
    try:
        # What comes as text is read as text; a number in gateway.toml is a number.
        spelled = _spelled(value, hint)
        return msgspec.convert(spelled, hint, strict=not isinstance(value, str), dec_hook=_made)
    except json.JSONDecodeError:
        raise ConversionError("", "expected JSON", f", not {value!r}") from None
    except UnicodeEncodeError:
        raise ConversionError("", "expected text in UTF-8", f", not {value!r}") from None
    except msgspec.ValidationError as error:
        within, found = _place(str(error), spelled, hint)
        text = _PLACE.sub("", str(error))
        if isinstance(value, str):
            within, found = "", value
        if text.startswith("Object contains unknown field"):
            unknown = text.rpartition(" ")[2].strip("`")
            raise ConversionError(
                f"{within}.{unknown}", f"there is no such option{_known(unknown, hint)}", ""
            ) from None
        if text.startswith("Object missing required field"):
            absent = text.rpartition(" ")[2].strip("`")
            raise ConversionError(f"{within}.{absent}", "it is missing", "") from None
        shown = str(found).lower() if isinstance(found, bool) else repr(found)
        raise ConversionError(within, f"expected {_expected(text, hint)}", f", not {shown}") from None


def _made(kind: type, value: Any) -> Any:
    """Make what msgspec has no type for (its ``dec_hook``)."""
    return kind(value)


def _spelled(value: Any, hint: Any) -> Any:
    """Read a text where several values are meant: a,b,c or JSON for a list, JSON for tables."""
    if not isinstance(value, str) or (_may_be_text(hint) and not value.startswith("{")):
        return value
    if "dict[" in str(hint) or any(_structs(hint)) or ("tuple[" in str(hint) and _JSON_LIST.match(value)):
        return json.loads(value)
    if "str | tuple[" in str(hint):
        return value
    return [part.strip() for part in value.split(",") if part.strip()] if "tuple[" in str(hint) else value


def _may_be_text(hint: Any) -> bool:
    """Tell whether a text is meant as it is, although there may be a table in its place."""
    union = next(iter(typing.get_args(hint)), None)
    return str in typing.get_args(union) and any(_structs(union))


def _place(text: str, value: Any, hint: Any) -> tuple[str, Any]:
    """Return where in a value something is wrong, and the wrong value."""
    match = _PLACE.search(text)
    path = match[1] if match else ""
    if isinstance(value, dict) and "dict[" in str(hint):  # msgspec does not say which member it is
        name = next((name for name in value if not _fits({name: value[name]}, hint)), None)
        return ("", value) if name is None else (f".{name}", value[name] if path.startswith("[...]") else name)
    for index, name in _STEP.findall(path):
        value = value[int(index)] if index else value[name]
    return path, value


def _fits(value: Any, hint: Any) -> bool:
    try:
        msgspec.convert(value, hint, dec_hook=_made)
    except msgspec.ValidationError:
        return False
    return True


def _expected(text: str, hint: Any) -> str:
    """Say what an option takes: in the words of its description where msgspec has only a pattern."""
    choices = " or ".join(_choices(hint))
    if text.startswith("Invalid enum value"):
        return f"{choices}, or an integer" if "int" in str(hint) else choices
    if "matching regex" in text:
        return next(str(meta.description).partition(";")[0] for meta in metas(hint) if repr(meta.pattern) in text)
    wanted = re.sub(r"\.0$", "", text.removeprefix("Expected ").partition(", got ")[0].replace("`", ""))
    if wanted == _NOT_EMPTY:
        return "a list with at least one entry"
    return " or ".join(_kind(part) for part in wanted.split(" | "))


def _kind(wanted: str) -> str:
    kind, space, bound = wanted.partition(" ")
    return f"{_KINDS.get(kind, kind)}{space}{bound}" if kind in _KINDS else wanted


def _known(unknown: str, hint: Any) -> str:
    """Ask for the field of a struct in a list that is meant."""
    return nearest(unknown, [name for kind in _structs(hint) for name in kind.__struct_fields__])


def _structs(hint: Any) -> Iterator[type[msgspec.Struct]]:
    yield from (part for part in _parts(hint) if isinstance(part, type) and issubclass(part, msgspec.Struct))


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    for part in typing.get_args(hint):
        yield from _parts(part)


def _choices(hint: Any) -> Iterator[str]:
    for part in typing.get_args(hint):
        yield from typing.get_args(part) if typing.get_origin(part) is Literal else _choices(part)


def metas(hint: Any) -> Iterator[Meta]:
    """Iterate over what a type hint says of values, and of those in them."""
    yield from getattr(hint, "__metadata__", ())
    for part in typing.get_args(hint):
        yield from metas(part)


def missing(hint: Any) -> str:
    """Return what an option that must be there is for."""
    return next(str(meta.description) for meta in metas(hint)).rstrip(".").lower()
