"""The instances of an upstream, as a directory lists them."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct, field


class Instance(Struct, frozen=True, kw_only=True):
    """One process that an upstream's calls may go to.

    Attributes:
        address: ``host:port``, with brackets around an IPv6 address; or ``unix:/path``.
        scheme: what it speaks, in the words of its directory: of a URL here (``jsonrpc+tcp``), or of Dubbo (``tri``);
            empty where it is not known. SPOKEN has those that stand for several of ours.
        server_name: the name in its certificate and in the Host header; empty where that is the host of its address.
        weight: its share of the calls; 0 takes none.
        priority: it takes calls only where none of a smaller number is in service (as SRV records have it).
        version: the version of the service, empty where it is not known.
        group: the group of the service, likewise.
        zone: where it runs, likewise.
        started: when it began to serve, in seconds since 1970; None where it is not known.
        labels: whatever else its directory tells.

    """

    address: str
    scheme: str = ""
    server_name: str = ""
    weight: int = 100
    priority: int = 0
    version: str = ""
    group: str = ""
    zone: str = ""
    started: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


Listing: TypeAlias = tuple[Instance, ...]

SPOKEN: Mapping[str, frozenset[str]] = {
    "http": frozenset({"jsonrpc+http", "xmlrpc+http"}),
    "https": frozenset({"jsonrpc+https", "xmlrpc+https"}),
    "jsonrpc": frozenset({"jsonrpc+http", "jsonrpc+https"}),
    "xmlrpc": frozenset({"xmlrpc+http", "xmlrpc+https"}),
    "tri": frozenset({"grpc", "grpcs"}),
    "grpc": frozenset({"grpc", "grpcs"}),
    "thrift": frozenset({"thrift", "thrift+tls"}),
    "native-thrift": frozenset({"thrift", "thrift+tls"}),
}
"""Which schemes of upstreams an instance speaks whose directory has another word for them."""


def fitting(listing: Listing, scheme: str, version: str = "", group: str = "") -> Listing:
    """Return the instances that the calls of an upstream may go to.

    Args:
        listing: all that there are.
        scheme: of the upstream's URL. Instances of which it is not known what they speak are taken to speak it.
        version: a pattern with ``*`` and ``?`` for their versions; empty for any version.
        group: the same for their groups.

    """
    return tuple(
        each
        for each in listing
        if (each.scheme in ("", scheme) or scheme in SPOKEN.get(each.scheme, ()))
        and (not version or fnmatchcase(each.version, version))
        and (not group or fnmatchcase(each.group, group))
    )


class DirectoryStatus(Struct, kw_only=True):
    """How a directory is.

    Attributes:
        state: ``up``; ``stale`` where it is away and the last list, maybe a cached one, is used; ``empty`` where there
            is no list yet.
        read: when its list was last known to be true, in seconds of the monotonic clock; that of a cached list is when
            it was written. None where there is no list yet.
        error: why it is away, empty where it is not.

    """

    state: Literal["up", "stale", "empty"] = "empty"
    read: float | None = None
    error: str = ""


class Watch(Protocol):
    """A service that a directory is watched for."""

    @property
    def status(self) -> DirectoryStatus:
        """How its list is."""

    async def close(self) -> None:
        """Watch it no longer. The listing is told no more."""


class Directory(Protocol):
    """Where the instances of services are found. It is made before a process forks, and connects on the loop after it.

    It never raises into calls: what is wrong with it stands in the status and, once, in the log.
    """

    def problem_of(self, service: str) -> str:
        """Say why a text cannot be the name of a service here, for ``gateway check``; nothing where it can."""

    def watch(self, service: str, told: Callable[[Listing], None]) -> Watch:
        """Tell the instances of a service, on the running loop: at once from the cache, then at each change.

        The list is whole, sorted by address, and differs from the one before.

        Args:
            service: the name of the service, in the words of the directory.
            told: takes each list.

        """

    async def close(self) -> None:
        """Close all of its connections."""
