"""Values of both protocols as JSON, from which they come back as they were.

None, true, "text", 1.5, [..]      themselves; a double always has a point or an exponent, an int never
2**60                              {"$int": "1152921504606846976"}: many readers of JSON round what has over 53 bits
b"abc"                             {"$bytes": "YWJj"}
datetime(2026, 1, 2)               {"$datetime": "2026-01-02T00:00:00"}
inf                                {"$float": "inf"}
what was redacted                  {"$redacted": true}
{"$int": 1}                        {"$$int": 1}: a name that begins with $ has one more of them

docs/record.md has the form for those who read it with other programs.
"""

import base64
import binascii
from collections.abc import Callable
from datetime import datetime
from math import isfinite
from typing import Any

from gateway.model.values import is_exact_double


class Redacted:
    """Stands for a value that is not told."""

    def __repr__(self) -> str:
        return "(redacted)"


REDACTED = Redacted()
_DEEPEST = 256  # levels of nesting in what is read: above the largest limits.max_depth, below what Python has calls for


def typed(value: Any) -> Any:
    """Return what is to be written as JSON for a neutral value.

    Raises:
        ValueError: it is not a neutral value.

    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    write = _WRITE.get(kind)
    if write is None:
        raise ValueError(f"a {kind.__name__} cannot be recorded")
    return write(value)


def untyped(document: Any, depth: int = 0) -> Any:
    """Return the value of what was read as JSON, at a depth of nesting.

    Raises:
        ValueError: ``typed`` does not write this, or it is nested too deep.

    """
    if depth > _DEEPEST:
        raise ValueError(f"it is nested too deep: at most {_DEEPEST} levels")
    if type(document) is list:
        return [untyped(each, depth + 1) for each in document]
    if type(document) is not dict:
        return document
    if len(document) == 1:
        ((name, said),) = document.items()
        read = _READ.get(name)
        if read is not None:
            try:
                return read(said)
            except (TypeError, ValueError, binascii.Error, AttributeError):
                raise ValueError(f"{name} is followed by what it cannot have") from None
    return {_read_name(name): untyped(each, depth + 1) for name, each in document.items()}


def _read_name(name: str) -> str:
    if not name.startswith("$"):
        return name
    if not name.startswith("$$"):
        raise ValueError(f"{name} is not known")
    return name[1:]


def _write_dict(members: dict[str, Any]) -> dict[str, Any]:
    return {f"${name}" if name.startswith("$") else name: typed(each) for name, each in members.items()}


def _read_redacted(said: Any) -> Redacted:
    if said is not True:
        raise ValueError("it is true")
    return REDACTED


_WRITE: dict[type, Callable[[Any], Any]] = {
    int: lambda value: value if is_exact_double(value) else {"$int": str(value)},
    float: lambda value: value if isfinite(value) else {"$float": repr(value)},
    bytes: lambda value: {"$bytes": base64.b64encode(value).decode("ascii")},
    datetime: lambda value: {"$datetime": value.isoformat()},
    list: lambda values: [typed(each) for each in values],
    dict: _write_dict,
    Redacted: lambda _: {"$redacted": True},
}
_READ: dict[str, Callable[[Any], Any]] = {
    "$int": lambda said: int(str.__str__(said)),
    "$float": lambda said: float(str.__str__(said)),
    "$bytes": lambda said: base64.b64decode(str.__str__(said), validate=True),
    "$datetime": datetime.fromisoformat,
    "$redacted": _read_redacted,
}
