"""What a directory tells, as the tests follow it on one event loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct, field

from gateway.fleet.directories import directory, directory_class
from gateway.fleet.directories.watching import WatchedDirectory
from gateway.fleet.listing import DirectoryStatus, Listing


class Followed(Struct, kw_only=True):
    """A service that is watched, and the lists of it so far."""

    directory: WatchedDirectory
    lists: list[Listing] = field(default_factory=list)
    watch: Any = None

    @property
    def status(self) -> DirectoryStatus:
        status: DirectoryStatus = self.watch.status
        return status

    @property
    def addresses(self) -> list[str] | None:
        return [each.address for each in self.lists[-1]] if self.lists else None

    async def until(self, condition: Callable[[], Any], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"it does not become so; {self.status}, {self.addresses}"
            await asyncio.sleep(0.01)


def made(kind: str, **options: Any) -> WatchedDirectory:
    return directory("list", directory_class(kind).Options(kind=kind, **options))


@asynccontextmanager
async def following(watched: WatchedDirectory, service: str = "") -> AsyncIterator[Followed]:
    followed = Followed(directory=watched)
    followed.watch = watched.watch(service, followed.lists.append)
    try:
        yield followed
    finally:
        await watched.close()
