"""Places: of a function in its file, of a mistake in a value."""

import functools
import inspect
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MISTAKE = re.compile(r"(?P<what>.*?)(?: - at `(?P<key>key` in `)?\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_MOST_SAID = 200  # characters of a mistake, which can have the caller's own text in it


def place_of(function: Any) -> str:
    """Return where a function is written: ``handlers/calculator.py:12 (add)``."""
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
    """Split a message of msgspec: what is wrong, and the path to it."""
    match = _MISTAKE.fullmatch(str(error))
    assert match is not None  # noqa: S101 - the pattern takes any text
    what = match["what"].replace("`", "")[:_MOST_SAID]
    return f"{what[:1].lower()}{what[1:]}", (match["path"] or "") + (" (a name)" if match["key"] else "")


def named(value: Any, path: str, mistake: Callable[[Any], str | None]) -> str:
    """Put the names of members into a path of msgspec, which has ``[...]`` in the place of each name of a dict.

    The member is found by leaving out half of the members, again and again, as long as the mistake stays.

    Arguments:
        value: what has the mistake in it.
        path: the path to the mistake.
        mistake: returns the path to the first mistake in a value; None if there is none.

    """
    if "[...]" not in path:
        return path
    keys: list[Any] = []
    shown, end = "", 0
    for step in _STEP.finditer(path):
        if step.start() != end:
            return path  # a name that cannot be told from the path around it
        end = step.end()
        if step["name"] is not None or step["index"] is not None:
            keys.append(step["name"] if step["index"] is None else int(step["index"]))
            shown += step[0]
            continue
        names = list(_inside(value, keys) or ())
        while len(names) > 1:
            half = names[: len(names) // 2]
            names = half if mistake(_with(value, keys, half)) == path else names[len(half) :]
        if not names:
            return path
        value = _with(value, keys, names)
        keys.append(names[0])
        shown += f".{names[0][:80]}"
    return shown + path[end:]


def _inside(value: Any, keys: list[Any]) -> dict[str, Any] | None:
    """Return the dict that keys lead to; None where they lead somewhere else."""
    try:
        for key in keys:
            value = value[key]
    except (LookupError, TypeError):
        return None
    return value if isinstance(value, dict) else None


def _with(value: Any, keys: list[Any], names: list[str]) -> Any:
    """Return a value in which the dict that keys lead to has only these members."""
    if not keys:
        return {name: value[name] for name in names}
    copied = value.copy()
    copied[keys[0]] = _with(value[keys[0]], keys[1:], names)
    return copied
