"""What holds for all kinds of directories, once.

    WatchedDirectory(name, options, kind).watch(service, told)

A kind reads the list of a service, and tells when it may have changed. From this is made what gateway/fleet/listing.py
promises: changes are collected for a moment, the list is sorted and compared, a directory that is away changes nothing,
an empty list is believed only after ``keep_empty``, entries that cannot be read are left out, and the last list is kept
on disk. Nothing that goes wrong here is raised to those who make calls.
"""

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol, TypeAlias

import msgspec

from gateway.fleet.directories.cache import Cache
from gateway.fleet.directories.options import DirectoryOptions
from gateway.fleet.listing import DirectoryStatus, Instance, Listing

log = logging.getLogger("gateway.directories")

Complain: TypeAlias = Callable[[str, str], None]
"""Takes an entry that cannot be read, and why; each entry is logged once."""

_COLLECT = (0.05, 0.25)  # seconds between a change and the reading; of 200 changes at once most are read together
_AGAIN = (0.9, 1.1)  # seconds between two attempts to read from a directory that is away
_MOST_COMPLAINTS = 1000  # entries that are remembered as logged
_CREDENTIALS = re.compile(r"//[^@/\s]*@")
_SHOWN = 200  # characters of an entry in the log


class Away(Exception):
    """The directory cannot be asked, or does not tell a list at the moment; the message says why."""


class Lookup(Protocol):
    """One service, as a kind of directory finds it."""

    async def read(self) -> Iterable[Instance]:
        """Read the list.

        Raises:
            Away: there is none at the moment.

        """

    async def changed(self) -> bool:
        """Wait for a change since the list was read; False where it is known, after a while, that there was none.

        Raises:
            Away: the directory cannot be asked any more.

        """


class Kind(Protocol):
    """A kind of directory. It is made before the process forks, and connects after it.

    Attributes:
        Options: the struct of its section in gateway.toml.

    """

    Options: ClassVar[type[DirectoryOptions]]

    def __init__(self, options: Any) -> None: ...

    def lookup(self, service: str, complain: Complain) -> Lookup:
        """Prepare to read the list of a service."""

    def problem_of(self, service: str) -> str:
        """Say why a text cannot be the name of a service here; nothing where it can."""

    async def close(self) -> None:
        """Close all connections."""


class WatchedDirectory:
    """A directory that follows the rules for all (it is a ``Directory`` of gateway/fleet/listing.py).

    Args:
        name: its own in gateway.toml.
        options: its section there.
        kind: what asks it.

    """

    def __init__(self, name: str, options: DirectoryOptions, kind: Kind) -> None:
        self.name = name
        self._options = options
        self._kind = kind
        self._services: dict[str, _Service] = {}

    @property
    def status(self) -> DirectoryStatus | None:
        """The worst status of the services that are watched; None where none is."""
        found = [service.status for service in self._services.values()]
        worst = max(
            found, key=lambda status: (("up", "stale", "empty").index(status.state), bool(status.error)), default=None
        )
        reads = [status.read for status in found if status.read is not None]
        if worst is None:
            return None
        return DirectoryStatus(state=worst.state, read=min(reads, default=None), error=worst.error)

    def problem_of(self, service: str) -> str:
        """Say why a text cannot be the name of a service here; nothing where it can."""
        return self._kind.problem_of(service)

    def watch(self, service: str, told: Callable[[Listing], None]) -> "_Watch":
        """Tell the instances of a service: at once, before it returns, from the cache, and then at each change."""
        found = self._services.get(service)
        if found is None:
            cache = Cache(self._options.cache, self.name, service)
            found = self._services[service] = _Service(self.name, service, self._kind, cache, self._options.keep_empty)
        return _Watch(found, told, lambda: self._services.pop(service, None))

    async def close(self) -> None:
        """Watch nothing any longer, and close all connections."""
        services, self._services = list(self._services.values()), {}
        await asyncio.gather(*(service.close() for service in services))
        await self._kind.close()


class _Watch:
    """One of those who are told the list of a service."""

    def __init__(self, service: "_Service", told: Callable[[Listing], None], left: Callable[[], Any]) -> None:
        self._service, self._told, self._left = service, told, left
        service.told.append(told)
        if service.listing is not None:
            told(service.listing)

    @property
    def status(self) -> DirectoryStatus:
        """How the list of the service is."""
        return self._service.status

    async def close(self) -> None:
        """Be told no more; where nobody else is, the service is watched no longer."""
        if self._told in self._service.told:
            self._service.told.remove(self._told)
            if not self._service.told:
                self._left()
                await self._service.close()


class _Service:
    """A service that is watched, once for all who want its list."""

    def __init__(self, directory: str, service: str, kind: Kind, cache: Cache, keep_empty: float) -> None:
        self.told: list[Callable[[Listing], None]] = []
        self.listing: Listing | None = None
        self.status = DirectoryStatus()
        self._name = f"directory {directory}: {service}" if service else f"directory {directory}"
        self._cache = cache
        self._keep_empty = keep_empty
        self._emptied: asyncio.TimerHandle | None = None
        self._complained: set[str] = set()
        self._cannot_write = False
        self._take_cached()
        self._task = asyncio.get_running_loop().create_task(self._follow(kind.lookup(service, self._complain)))

    async def close(self) -> None:
        """Follow it no longer."""
        self._believe_again()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _follow(self, lookup: Lookup) -> None:
        while True:
            pause = _AGAIN
            try:
                self._take(await lookup.read())
                while not await lookup.changed():
                    self._confirm()
                pause = _COLLECT
            except Away as error:
                self._miss(str(error))
            except Exception as error:
                if str(error) != self.status.error:
                    log.exception("%s: it cannot be read", self._name)
                self._note_away(str(error))
            await asyncio.sleep(random.uniform(*pause))  # noqa: S311 - so that workers do not ask at once

    def _take_cached(self) -> None:
        try:
            cached = self._cache.load()
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s: the cached list cannot be read: %s", self._name, error)
            return
        if cached is not None:
            self.listing, written = cached
            self.status.state = "stale"
            self.status.read = time.monotonic() - max(0.0, time.time() - written)
            log.info("%s: cached list of %d", self._name, len(self.listing))

    def _take(self, found: Iterable[Instance]) -> None:
        """Take over what has been read."""
        listing = _in_order(found)
        if self.status.error and self._emptied is None:
            log.info("%s: it is read again", self._name)
        if not listing and self.listing and self._keep_empty:
            self._keep(len(self.listing))
            return
        self._believe_again()
        self._set_up()
        self._tell(listing)

    def _keep(self, instances: int) -> None:
        """Keep the last list, although there is an empty one now."""
        self.status.state = "stale"
        self.status.error = "it lists no instances"
        if self._emptied is None:
            self._emptied = asyncio.get_running_loop().call_later(self._keep_empty, self._believe)
            log.warning(
                "%s: it lists no instances; the last %d are used for another %g s",
                self._name,
                instances,
                self._keep_empty,
            )

    def _believe(self) -> None:
        """Take the empty list for true."""
        log.warning("%s: it has listed no instances for %g s: there are none", self._name, self._keep_empty)
        self._emptied = None
        self._set_up()
        self._tell(())

    def _believe_again(self) -> None:
        if self._emptied is not None:
            self._emptied.cancel()
            self._emptied = None

    def _set_up(self) -> None:
        self.status.state, self.status.error = "up", ""
        self.status.read = time.monotonic()

    def _confirm(self) -> None:
        """Note that the list is still what the directory tells."""
        if self._emptied is None:
            self.status.read = time.monotonic()

    def _miss(self, reason: str) -> None:
        """Note that the directory is away, and log it once."""
        if not self.status.error or self._emptied is not None:
            used = "there is no list yet" if self.listing is None else f"the last list of {len(self.listing)} is used"
            log.warning("%s: it is away: %s; %s", self._name, reason, used)
        self._believe_again()  # who does not tell a list does not tell an empty one
        self._note_away(reason)

    def _note_away(self, reason: str) -> None:
        self.status.state = "empty" if self.listing is None else "stale"
        self.status.error = reason or "it is away"

    def _tell(self, listing: Listing) -> None:
        before = self.listing
        if listing == before:
            return
        old, new = {each.address for each in before or ()}, {each.address for each in listing}
        log.info("%s: +%d -%d = %d", self._name, len(new - old), len(old - new), len(listing))
        self.listing = listing
        for told in tuple(self.told):
            told(listing)
        try:
            self._cache.save(listing)
        except OSError as error:
            if not self._cannot_write:
                log.warning("%s: the cache cannot be written: %s", self._name, str(error.strerror).lower())
            self._cannot_write = True

    def _complain(self, entry: str, reason: str) -> None:
        if entry not in self._complained and len(self._complained) < _MOST_COMPLAINTS:
            self._complained.add(entry)
            shown = _CREDENTIALS.sub("//...@", entry)[:_SHOWN]
            log.warning("%s: %r is left out: %s", self._name, shown, reason)


def _in_order(found: Iterable[Instance]) -> Listing:
    """Sort instances by their addresses. Of one that is listed twice, the one that started last counts."""
    by_start = sorted(found, key=lambda each: each.started or 0.0)
    different = {(each.address, each.scheme, each.version, each.group): each for each in by_start}
    return tuple(different[key] for key in sorted(different))
