"""Type hints: those that no value of a call can satisfy, and those that pydantic checks.

foreign(hint)        the first such class in a hint, and what to write instead; None if there is none
is_pydantics(hint)   whether pydantic checks a hint: a class or a constraint of pydantic's is somewhere in it
"""

import re
import sys
import typing
import xmlrpc.client
from collections import deque
from collections.abc import Iterator
from dataclasses import is_dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import PurePath
from typing import Any

from msgspec import Struct, inspect

_VALUES = (type(None), bool, int, float, str, bytes, datetime, Decimal, list, dict)  # of calls, in any protocol
_REMEDIES: tuple[tuple[type, str], ...] = (
    (xmlrpc.client.Binary, "bytes"),
    (xmlrpc.client.DateTime, "datetime"),
    (PurePath, "str"),
    (re.Pattern, "str"),
    (complex, "tuple[float, float]"),
    (dict, "dict"),
    (deque, "list"),
    (range, "list[int]"),
)
_OTHERWISE = "a dataclass, or another type of docs/methods.md"
_CONSTRAINTS = ("pydantic", "annotated_types")


def foreign(hint: Any) -> tuple[type, str] | None:
    """Find a class in a hint that msgspec does not know and that no value of a call is an instance of.

    Members of a class that have a default do not count, because callers can leave them out.
    """
    try:
        node = inspect.type_info(hint)
    except Exception:  # noqa: BLE001 - msgspec raises several kinds, also for unions with such a class
        return next((found for part in typing.get_args(hint) if (found := foreign(part))), None)
    kinds = (part.cls for part in _nodes(node, set()) if isinstance(part, inspect.CustomType))
    kind = next((kind for kind in kinds if not any(_is(value, kind) for value in _VALUES)), None)
    if kind is None:
        return None
    return kind, next((remedy for known, remedy in _REMEDIES if issubclass(kind, known)), _OTHERWISE)


def _is(value: type, kind: type) -> bool:
    try:
        return issubclass(value, kind)
    except TypeError:  # a Protocol that cannot be checked
        return False


def _nodes(node: Any, seen: set[int]) -> Iterator[inspect.Type]:
    """Walk the description that msgspec makes of a type, through all members that a caller must give."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, tuple):
        for each in node:
            yield from _nodes(each, seen)
    elif isinstance(node, inspect.Field):
        if node.required:
            yield from _nodes(node.type, seen)
    elif isinstance(node, inspect.Type):
        yield node
        for name in node.__struct_fields__:
            yield from _nodes(getattr(node, name), seen)


def is_pydantics(hint: Any) -> bool:
    """Return whether pydantic checks the values of a hint, which needs a program that has imported it."""
    return "pydantic" in sys.modules and any(map(_of_pydantic, _parts(hint, [])))


def _of_pydantic(part: Any) -> bool:
    if typing.get_origin(part) is typing.Annotated:
        return any(type(each).__module__.partition(".")[0] in _CONSTRAINTS for each in part.__metadata__)
    return isinstance(part, type) and (
        hasattr(part, "__pydantic_validator__") or hasattr(part, "__get_pydantic_core_schema__")
    )


def _parts(hint: Any, seen: list[Any]) -> Iterator[Any]:
    """Walk a hint and all that it is made of, members of classes too."""
    if any(hint is each for each in seen):
        return
    seen.append(hint)
    yield hint
    if isinstance(hint, typing.NewType):
        yield from _parts(hint.__supertype__, seen)
    elif typing.get_origin(hint) is not typing.Literal:
        for each in (typing.get_origin(hint), *typing.get_args(hint), *_members(hint)):
            yield from _parts(each, seen)


def _members(kind: Any) -> tuple[Any, ...]:
    has_members = isinstance(kind, type) and (
        is_dataclass(kind) or issubclass(kind, Struct) or hasattr(kind, "__required_keys__") or hasattr(kind, "_fields")
    )
    if not has_members:
        return ()
    try:
        return tuple(typing.get_type_hints(kind, include_extras=True).values())
    except Exception:  # noqa: BLE001 - a hint is any expression of the user's; what checks it reports the mistake
        return ()
