"""The instances of an upstream, as a directory lists them."""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct, field


class Instance(Struct, frozen=True, kw_only=True):
    """One process that an upstream's calls may go to.

    Attributes:
        address: ``host:port``, with brackets around an IPv6 address; or ``unix:/path``.
        server_name: the name in its certificate and in the Host header; empty where that is the host of its address.
        weight: its share of the calls; 0 takes none.
        version: the version of the service, empty where it is not known.
        group: the group of the service, likewise.
        zone: where it runs, likewise.
        started: when it began to serve, in seconds since 1970; None where it is not known.
        labels: whatever else its directory tells.

    """

    address: str
    server_name: str = ""
    weight: int = 100
    version: str = ""
    group: str = ""
    zone: str = ""
    started: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


Listing: TypeAlias = tuple[Instance, ...]


class DirectoryStatus(Struct, kw_only=True):
    """How a directory is.

    Attributes:
        state: ``up``; ``stale`` where it is away and the last list, maybe a cached one, is used; ``empty`` where there
            is no list yet.
        read: when it last told a list, in seconds of the monotonic clock; None where it never has.
        error: why it is away, empty where it is not.

    """

    state: Literal["up", "stale", "empty"] = "empty"
    read: float | None = None
    error: str = ""


class Watch(Protocol):
    """A service that a directory is watched for."""

    status: DirectoryStatus

    async def close(self) -> None:
        """Watch it no longer. The listing is told no more."""


class Directory(Protocol):
    """Where the instances of services are found. It is made before a process forks, and connects on the loop after it.

    It never raises into calls: what is wrong with it stands in the status and, once, in the log.
    """

    def watch(self, service: str, told: Callable[[Listing], None]) -> Watch:
        """Tell the instances of a service, on the running loop: at once from the cache, then at each change.

        The list is whole, sorted by address, and differs from the one before.

        Args:
            service: the name of the service, in the words of the directory.
            told: takes each list.

        """

    async def close(self) -> None:
        """Close all of its connections."""
