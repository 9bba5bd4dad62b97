"""Places in the values of a call, as options name them.

    params[0].password      params.user.password      result.*.token      fault.message      result["a.b"]
    result.**.token         at any depth
    auth.*:params[1]        only of calls of the methods that the pattern matches

``*`` is any one member or item, ``**`` any number of steps. ``.0`` is the same as ``[0]``.
"""

import re
from fnmatch import fnmatchcase
from types import EllipsisType
from typing import TypeAlias

import msgspec
from msgspec import Struct

Step: TypeAlias = str | int | EllipsisType | None
"""A member's name, an item's index, None for any one of them, or ``...`` for any number of steps."""

Steps: TypeAlias = tuple[Step, ...]

_PLACE = re.compile(r"(?:(?P<methods>[^\s:]+):)?(?P<root>params|result|fault)(?P<rest>[.\[].*)?", re.DOTALL)
_STEP = re.compile(
    r'\.(?P<deep>\*\*)(?=[.\[]|$)|\.(?P<any>\*)(?=[.\[]|$)|\.(?P<name>[^.\[\]*"]+)|\[(?P<index>[0-9]{1,9})\]|\[(?P<item>\*)\]'
    r'|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]'
)


class Place(Struct, frozen=True):
    """A place, or several that one text names.

    Attributes:
        methods: a pattern of the methods whose calls it is about.
        steps: the way to it; the first one is "params", "result" or "fault".

    """

    methods: str
    steps: Steps


def place(text: str) -> Place:
    """Read a place.

    Raises:
        ValueError: it is not one.

    """
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ValueError(f"expected a place like params[0].password or result.*.token, not {text!r}")
    steps: list[Step] = [found["root"]]
    rest, position = found["rest"] or "", 0
    while position < len(rest):
        step = _STEP.match(rest, position)
        if step is None:
            raise ValueError(f'{text!r} is not a place: {rest[position:]!r} is not .name, [0], .*, .** or ["name"]')
        steps.append(_step(step))
        position = step.end()
    return Place(found["methods"] or "*", tuple(steps))


def _step(found: re.Match[str]) -> Step:
    if found["deep"]:
        return ...
    if found["any"] or found["item"]:
        return None
    if found["index"]:
        return int(found["index"])
    if found["quoted"]:
        try:
            return msgspec.json.decode(found["quoted"], type=str)
        except msgspec.MsgspecError:
            raise ValueError(f"{found['quoted']} is not a name in quotes") from None
    return found["name"]


def beginning(places: tuple[Place, ...], method: str, root: str) -> frozenset[Steps]:
    """Return the ways that begin at a root of a call: "params", "result" or "fault". With an empty one, it is named."""
    return frozenset(each.steps[1:] for each in places if each.steps[0] == root and fnmatchcase(method, each.methods))


def beyond(ways: frozenset[Steps], *names: str | int) -> frozenset[Steps]:
    """Return what is left of ways after one step, to what has one of these names. With an empty one, it is named."""
    if not ways:
        return ways
    left: set[Steps] = set()
    waiting = list(ways)
    while waiting:
        way = waiting.pop()
        if not way:
            continue
        head, rest = way[0], way[1:]
        if head is ...:
            left.add(way)
            if rest:
                waiting.append(rest)
            else:
                left.add(())
        elif head is None or head in names:
            left.add(rest)
    return frozenset(left)


def item(index: int) -> tuple[int, str]:
    """Return the names of an item."""
    return index, str(index)


def inside(where: str, name: str) -> str:
    """Write a step to a member behind a place."""
    plain = re.fullmatch(r'[^.\[\]*"\s]+', name) and name.isprintable()
    return f"{where}.{name}" if plain else f"{where}[{msgspec.json.encode(name).decode()}]"
