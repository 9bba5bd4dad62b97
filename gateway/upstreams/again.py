"""Asks an upstream for its methods again, a while after it has come back and may have others."""

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable

_AGAIN = (0.5, 1.5)  # seconds after a change; not all workers ask at once, and several changes are one


class Again:
    """Asks once for all changes of a while.

    Arguments:
        ask: asks, and raises nothing.

    """

    def __init__(self, ask: Callable[[], Awaitable[None]]) -> None:
        self._ask = ask
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Future[None] | None = None

    def soon(self) -> None:
        """Ask after a while, on the running loop."""
        if self._timer is None:
            seconds = random.uniform(*_AGAIN)  # noqa: S311 - nothing depends on who could guess it
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._begin, context=contextvars.Context())

    def _begin(self) -> None:
        self._timer = None
        self._task = asyncio.ensure_future(self._ask())

    def close(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
