"""An outcome on its way from a connection to the caller, without a coroutine that waits for it."""

from collections.abc import Callable
from typing import Any

from gateway.upstreams import Outcome


class Read:
    """Reads what a connection has received, and passes on the value that it means, or why it means none.

    Arguments:
        read: makes the value, or raises what ``Upstream.call`` would.
        outcome: what waits for it.

    """

    __slots__ = ("_outcome", "_read")

    def __init__(self, read: Callable[[Any], Any], outcome: Outcome) -> None:
        self._read = read
        self._outcome = outcome

    def done(self) -> bool:
        """Tell whether nobody waits any more."""
        return self._outcome.done()

    def set_result(self, received: Any) -> None:
        """Read it, and pass the value on."""
        try:
            value = self._read(received)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome of this call
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(value)

    def set_exception(self, error: Exception) -> None:
        """Pass it on."""
        self._outcome.set_exception(error)
