"""Copies of arguments, which a method may change before they are written."""

from typing import Any

_VALUE = 8  # bytes that a value counts for, at least


class TooLargeError(Exception):
    """There is more than is recorded."""


class Left:
    """The bytes that the arguments of a call may have in memory, roughly."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    def copy(self, value: Any) -> Any:
        """Copy arrays and objects: the method may change them."""
        kind = type(value)
        if kind is str or kind is bytes:
            self._take(len(value))
        elif kind is list:
            self._take(_VALUE)
            return [self.copy(each) for each in value]
        elif kind is dict:
            self._take(_VALUE)
            return {self.copy(name): self.copy(each) for name, each in value.items()}
        else:
            self._take(_VALUE if kind is not int else _VALUE + value.bit_length() // 8)
        return value

    def _take(self, size: int) -> None:
        self.taken += size
        if self.taken > self._most:
            raise TooLargeError
