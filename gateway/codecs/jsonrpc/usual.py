"""The results that most methods return: msgspec writes them as they are to be written."""

from collections.abc import Iterable
from math import isfinite
from typing import Any

_STR = frozenset({str})
_EXACT = frozenset({str, int, bool, type(None)})


def is_usual(value: Any, max_depth: int, room: int, bits: int) -> bool:
    """Return whether msgspec writes a value as it is to be written, so that it need not be converted before.

    What holds the same values many times over, or itself, is not.
    """
    level: list[Any] = [[value]]
    for _ in range(max_depth):
        inner: list[Any] = []
        for node in level:
            values = node
            if type(node) is dict:
                if not _STR.issuperset(map(type, node)):
                    return False
                values = node.values()
            room -= 2 * len(node)
            if room < 0 or not _are_usual(values, inner, bits):
                return False
        if not inner:
            return True
        level = inner
    return False


def _are_usual(values: Iterable[Any], inner: list[Any], bits: int) -> bool:
    """Check the values of a list or a dict, and put off those that are lists and dicts."""
    for value in values:
        kind = type(value)
        if kind is list or kind is dict:
            inner.append(value)
        elif kind is float:
            if not isfinite(value):
                return False
        elif kind not in _EXACT or (kind is int and value.bit_length() > bits):
            return False
    return True
