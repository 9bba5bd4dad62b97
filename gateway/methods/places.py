"""Where things are: a function in its file, a mistake in a value."""

import functools
import inspect
import re
import types
from pathlib import Path
from typing import Any

_MISTAKE = re.compile(r"(?P<what>.*?)(?: - at `(?P<key>key` in `)?\$(?P<path>[^`]*)`)?", re.DOTALL)
_MOST_SAID = 200  # characters of a mistake, which can have the caller's own text in it


def place_of(function: Any) -> str:
    """Say where a function is written: ``handlers/calculator.py:12 (add)``."""
    found = written(function)
    code = getattr(found, "__code__", None)
    if code is None:
        return str(found.__qualname__)
    path = Path(code.co_filename)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{code.co_firstlineno} ({found.__qualname__})"


def written(function: Any) -> Any:
    """Find what was written, beneath partials, bound methods, decorators' wrappers and callable objects."""
    if isinstance(function, functools.partial):
        return written(function.func)
    if isinstance(function, types.MethodType | staticmethod):
        return written(function.__func__)
    if "__wrapped__" in getattr(function, "__dict__", ()):
        return written(function.__wrapped__)
    if isinstance(function, type) or inspect.isroutine(function):
        return function
    return written(type(function).__call__)


def readable(error: Exception) -> tuple[str, str]:
    """Take what msgspec says apart: what is wrong, and the path to it."""
    match = _MISTAKE.fullmatch(str(error))
    assert match is not None  # noqa: S101 - the pattern takes any text
    what = match["what"].replace("`", "")[:_MOST_SAID]
    return f"{what[:1].lower()}{what[1:]}", (match["path"] or "") + (" (a name)" if match["key"] else "")
