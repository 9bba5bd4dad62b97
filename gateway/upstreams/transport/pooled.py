"""What is the same in all adapters whose calls go over the connections of a pool."""

from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Protocol, TypeVar


class Lending(Protocol):
    """What lends connections: a Pool, or Sessions."""

    def lend(self) -> AbstractAsyncContextManager[Any]:
        """Lend a connection."""

    def load(self) -> tuple[int, int]:
        """Count the connections, and the calls that wait for one."""


P = TypeVar("P", bound=Lending)


class Pooled(Generic[P]):
    """Has a pool, which each instance of an upstream has for itself."""

    _pool: P

    async def reach(self) -> None:
        """Make sure that there is a connection."""
        async with self._pool.lend():
            pass

    def connections(self) -> tuple[int, int]:
        """Count the connections, and the calls that wait for one."""
        return self._pool.load()
