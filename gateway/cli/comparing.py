"""Whether what a call comes to now is what it came to when it was recorded, and where it is not."""

import base64
from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from typing import Any

from msgspec import Struct

from gateway.model.places import Place, Steps, beginning, beyond, inside, item
from gateway.telemetry.recording.typed import REDACTED, Redacted

_CRASH = -32603  # its data differ each time
_NUMBERS = (int, float)


class Missing:
    """Stands for a value that is not there."""

    def __repr__(self) -> str:
        return "(nothing)"


MISSING = Missing()


class Difference(Struct, frozen=True):
    """One place, and the two values there."""

    place: str
    recorded: Any
    now: Any


class Comparison(Struct, frozen=True, kw_only=True):
    """What counts as the same.

    Attributes:
        tolerance: by how much numbers may differ: of 1, or of the larger one where that is above 1.
        ignore: places that are not looked at.
        any_order: places of arrays whose items may be in any order.

    """

    tolerance: float = 0.0
    ignore: tuple[Place, ...] = ()
    any_order: tuple[Place, ...] = ()

    def of(self, method: str, root: str, recorded: Any, now: Any, *, is_across: bool = False) -> Iterator[Difference]:
        """Compare two results, or two faults.

        Args:
            method: the name that was called.
            root: "result" or "fault".
            recorded: what was.
            now: what is.
            is_across: whether they came in two protocols, of which one has no bytes, datetimes or large ints.

        """
        ways = beginning(self.ignore, method, root), beginning(self.any_order, method, root)
        return _Walk(self.tolerance, is_across=is_across).differences(recorded, now, root, *ways)

    def of_faults(self, method: str, recorded: Any, now: Any, *, is_across: bool) -> Iterator[Difference]:
        """Compare two faults; of a crash, and of faults in two protocols, only the codes."""
        names = ("code",) if is_across or recorded.code == _CRASH else ("code", "message", "data")
        told, telling = ({name: getattr(each, name) for name in names} for each in (recorded, now))
        return self.of(method, "fault", told, telling, is_across=is_across)


class _Walk:
    def __init__(self, tolerance: float, *, is_across: bool) -> None:
        self._tolerance = tolerance
        self._is_across = is_across

    def differences(
        self, old: Any, new: Any, where: str, ignored: frozenset[Steps], unordered: frozenset[Steps]
    ) -> Iterator[Difference]:
        if () in ignored or isinstance(old, Redacted):
            return
        if type(old) is dict and type(new) is dict:
            for name in {**old, **new}:
                pair = old.get(name, MISSING), new.get(name, MISSING)
                there = inside(where, name)
                yield from self.differences(*pair, there, beyond(ignored, name), beyond(unordered, name))
        elif type(old) is list and type(new) is list:
            if () in unordered:
                new = self._ordered(old, new, ignored, unordered)
            for index in range(max(len(old), len(new))):
                before, after = (each[index] if index < len(each) else MISSING for each in (old, new))
                ways = beyond(ignored, *item(index)), beyond(unordered, *item(index))
                yield from self.differences(before, after, f"{where}[{index}]", *ways)
        elif not self._same(old, new):
            yield Difference(where, old, new)

    def _ordered(
        self, old: list[Any], new: list[Any], ignored: frozenset[Steps], unordered: frozenset[Steps]
    ) -> list[Any]:
        """Put new items that are the same as old ones into their places, and the others into those that are left."""
        left = list(new)
        found: list[Any] = []
        for index, each in enumerate(old):
            ways = beyond(ignored, *item(index)), beyond(unordered, *item(index))
            same = next((at for at, one in enumerate(left) if not any(self.differences(each, one, "", *ways))), None)
            found.append(MISSING if same is None else left.pop(same))
        rest = iter(left)
        return [next(rest, MISSING) if each is MISSING else each for each in found] + list(rest)

    def _same(self, old: Any, new: Any) -> bool:
        kinds = type(old), type(new)
        if kinds[0] in _NUMBERS and kinds[1] in _NUMBERS:
            return self._near(old, new)
        if kinds[0] is kinds[1]:
            return bool(old == new)
        return self._is_across and (_as_text(old, new) or _as_text(new, old))

    def _near(self, old: float, new: float) -> bool:
        if old == new or not self._tolerance:
            return old == new
        try:
            one, other = Fraction(old), Fraction(new)  # ints may be beyond all doubles
        except (OverflowError, ValueError):  # it is not finite
            return False
        return abs(one - other) <= Fraction(self._tolerance) * max(Fraction(1), abs(one), abs(other))


def _as_text(value: Any, text: Any) -> bool:
    """Tell whether a text is what a protocol without such values has for one."""
    if type(text) is not str:
        return False
    if type(value) is bytes:
        return text == base64.b64encode(value).decode("ascii")
    if type(value) is int:
        return text == str(value)
    if type(value) is datetime:
        try:
            return datetime.fromisoformat(text).replace(tzinfo=None) == value.replace(tzinfo=None)
        except ValueError:
            return False
    return False


def is_redacted(value: Any) -> bool:
    """Tell whether a value, or one in it, was left out."""
    if type(value) is list:
        return any(map(is_redacted, value))
    if type(value) is dict:
        return any(map(is_redacted, value.values()))
    return value is REDACTED
