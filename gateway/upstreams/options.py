"""The options of every [upstreams.NAME] of gateway.toml, and what a URL in it must look like."""

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from gateway.fleet.listing import Instance, Listing
from gateway.fleet.seats import Balance

Patterns: TypeAlias = tuple[str, ...]
Name: TypeAlias = Annotated[str, Meta(pattern=r"^[^\s<>&]+$", description="a name without blanks and < > &")]


HIDDEN: Patterns = ("system.*", "rpc.*")


class Options(Struct, frozen=True, kw_only=True):
    """The options that every upstream has.

    Raises:
        ValueError: the URL has no host or port, or has what does not belong there.

    """

    url: Annotated[
        str | tuple[str, ...],
        Meta(
            description="Where it is: scheme://host:port, or scheme://unix:/path for a Unix socket, or a list of these,"
            " which differ only in that. With ``directory``, scheme:// and the path alone."
        ),
    ]
    prefix: Annotated[
        str | None,
        Meta(description="What its methods' names begin with here; without one the upstream's own name and a dot."),
    ] = None
    expose: Annotated[Patterns, Meta(description="Which methods are offered: patterns with * and ?.")] = ("*",)
    hide: Annotated[Patterns, Meta(description="Which of those are not.")] = HIDDEN
    rename: Annotated[dict[str, Name], Meta(description="Other names for some methods: theirs = ours.")] = {}
    methods: Annotated[
        dict[str, tuple[str, ...]] | tuple[str, ...],
        Meta(
            description="The methods, if the upstream is not to be asked: names, or patterns with * and ? that pass on"
            " any name that fits, or a table of these and their parameters."
        ),
    ] = ()
    timeout: Annotated[
        dict[str, Annotated[float, Meta(gt=0, le=86400)]],
        Meta(description="Seconds that calls have: a table of patterns; the first that fits counts."),
    ] = {}
    idempotent: Annotated[
        Patterns, Meta(description="Which methods may run twice, and so are tried again when a connection breaks.")
    ] = ()
    docs: Annotated[
        dict[str, str],
        Meta(description="Texts about some methods, in the place of what the upstream tells: theirs = text."),
    ] = {}
    int64: Annotated[
        Literal["number", "text"],
        Meta(
            description="How integers beyond 53 bits in its results are written for callers of JSON-RPC. With text,"
            " such texts are also taken for its int parameters."
        ),
    ] = "number"
    bare: Annotated[bool, Meta(description="A result of one field is returned without its name.")] = True
    connections: Annotated[int, Meta(ge=1, le=10_000, description="Connections at once, at most.")] = 4
    connect_timeout: Annotated[
        float,
        Meta(gt=0, le=3600, description="Seconds to make a connection; in a local network it takes 1 ms."),
    ] = 1.0
    calls: Annotated[
        int,
        Meta(
            ge=1, le=1_000_000, description="Calls at once, those that wait for a connection too; the next is refused."
        ),
    ] = 1024
    directory: Annotated[
        str, Meta(description="The directory, [directories.NAME], that lists its instances; none if empty.")
    ] = ""
    directory_service: Annotated[str, Meta(description="The name of the service in the directory.")] = ""
    version: Annotated[
        str, Meta(description="Only instances of these versions: a pattern with * and ?; empty for all.")
    ] = ""
    group: Annotated[str, Meta(description="Only instances of these groups; likewise.")] = ""
    balance: Annotated[
        Balance,
        Meta(
            description="Which instance has a call, where there are several. ewma: of two that are drawn, the one that"
            " would take less time; least: the one with the fewest calls; hash: always the same for the same"
            " ``hash_by``."
        ),
    ] = "ewma"
    hash_by: Annotated[
        str,
        Meta(
            pattern=r"^(client|key|params\..+)$",
            description="What decides with hash: client (the address), key, or params.NAME.",
        ),
    ] = "client"
    attempts: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Attempts of a call of an idempotent method that may have run. Where a call has certainly not"
            " run, it goes to the next instance in any case.",
        ),
    ] = 3
    retry_ratio: Annotated[
        float,
        Meta(
            ge=0,
            le=10,
            description="Second attempts for each call, in the long run, so that failures do not double the load.",
        ),
    ] = 0.2
    retry_on: Annotated[
        tuple[int, ...],
        Meta(description="Codes of the upstream's own faults after which an idempotent method is called again."),
    ] = ()
    hedge: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Seconds without a response until an idempotent method is called at another instance, too; the"
            " first response counts. 0: never.",
        ),
    ] = 0.0
    slow_start: Annotated[
        float, Meta(ge=0, le=3600, description="Seconds until an instance that is new has its full share of calls.")
    ] = 20.0

    health: Annotated[
        str,
        Meta(
            description="What tells that an instance is well: grpc (gRPC's health service), a path like /healthz over"
            " HTTP, or a method without parameters. Nothing is asked if it is empty."
        ),
    ] = ""
    health_interval: Annotated[
        float, Meta(gt=0, le=3600, description="Seconds between two questions for the health of an instance.")
    ] = 10.0

    def __post_init__(self) -> None:
        """Check the URLs."""
        if not self.urls:
            raise ValueError("the list of urls is empty")
        if self.directory and len(self.urls) > 1:
            raise ValueError("with a directory, url is one text: scheme:// and the path")
        if not self.directory and (self.directory_service or self.version or self.group):
            raise ValueError("directory_service, version and group are for an upstream with a directory")
        for url in self.urls:
            _check(url, is_form=bool(self.directory))
        _check_health(self.health, self.form.partition(":")[0].lower())
        if len({_form(url) for url in self.urls}) > 1:
            raise ValueError("the urls differ in more than host and port")
        addresses = [instance.address for instance in self.instances]
        twice = next((address for address in addresses if addresses.count(address) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is in the list of urls twice")

    @property
    def urls(self) -> tuple[str, ...]:
        """All URLs; what they have in common is the same in the first one."""
        return (self.url,) if isinstance(self.url, str) else self.url

    @property
    def form(self) -> str:
        """A URL that has the scheme, path and query; of a Unix socket, the host is localhost."""
        return _without_socket(self.urls[0])[0]

    @property
    def shown(self) -> str:
        """Where the upstream is, for people."""
        shown = ", ".join(self.urls)
        return f"{shown} by {self.directory}: {self.directory_service}".removesuffix(": ") if self.directory else shown

    @property
    def instances(self) -> Listing:
        """The instances that the URLs name; none where a directory lists them."""
        return () if self.directory else tuple(map(_instance, self.urls))

    @property
    def first(self) -> Instance:
        """The instance of the first URL; with a directory it is nowhere, and is never called."""
        return _instance(self.urls[0])

    @property
    def is_spread(self) -> bool:
        """Whether calls choose among instances, or may be made again by more than the one rule that always holds."""
        return len(self.urls) > 1 or bool(self.retry_on or self.directory or self.health)


class Target(NamedTuple):
    """What connections are made to.

    Attributes:
        host: a name or an address; empty where it is a Unix socket.
        port: the port.
        name: the server's, in its certificate and in the Host header.
        path: of the Unix socket.

    """

    host: str
    port: int
    name: str
    path: str = ""


def target(instance: Instance) -> Target:
    """Tell where connections to an instance are made to."""
    if instance.address.startswith("unix:"):
        return Target("", 0, instance.server_name or "localhost", instance.address.removeprefix("unix:"))
    host, _, port = instance.address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    return Target(host, int(port), instance.server_name or host)


_PORTS = {"http": 80, "https": 443}  # by the last part of a scheme


_UNIX = re.compile(r"([a-z0-9+.-]+)://unix:(/[^:?#]*)(?::(/[^?#]*))?(\?.*)?", re.IGNORECASE | re.DOTALL)
_PATH = re.compile(r"/[!-~]*")
_LONGEST_SOCKET = 107  # bytes of its path (unix(7))


def _without_socket(url: str) -> tuple[str, str]:
    """Take the path of a Unix socket out of a URL, scheme://unix:/path or scheme://unix:/path:/rest."""
    found = _UNIX.fullmatch(url)
    if found is None:
        return url, ""
    scheme, path, rest, query = found.groups(default="")
    return f"{scheme}://localhost{rest}{query}", path


def _check(url: str, *, is_form: bool) -> None:
    url, socket = _without_socket(url)
    if len(socket.encode()) > _LONGEST_SOCKET:
        raise ValueError(f"the path of a Unix socket has at most {_LONGEST_SOCKET} bytes")
    if socket.endswith("/"):
        raise ValueError("the url has no path of a socket; write it as scheme://unix:/path")
    parts = urlsplit(url)
    if is_form and parts.netloc:
        raise ValueError("the url has a host, and the directory lists hosts: write it as scheme:///path, or drop one")
    if not is_form and not parts.hostname:
        raise ValueError("the url has no host; write it as scheme://host:port, or name a directory")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the url is shown and logged: credentials are options of their own")
    if parts.fragment:
        raise ValueError("the url has a fragment, which is never sent")
    if not _has_good_port(url):
        raise ValueError("the url has no port from 1 to 65535")


def _check_health(health: str, scheme: str) -> None:
    is_http = scheme.endswith(("http", "https"))
    if health.startswith("/") and (not is_http or not _PATH.fullmatch(health)):
        raise ValueError(f"health: {health} is not a path" if is_http else "health: a path is for a url with http")
    if (health == "grpc") != (scheme in ("grpc", "grpcs")) and health:
        raise ValueError('health: a url with grpc or grpcs has health = "grpc", and no other has')


def _form(url: str) -> tuple[str, str, str]:
    parts = urlsplit(_without_socket(url)[0])
    return parts.scheme, parts.path, parts.query


def _instance(url: str) -> Instance:
    """Make an instance of a URL; it has no port where the scheme's own is missing, too."""
    url, socket = _without_socket(url)
    if socket:
        return Instance(address=f"unix:{socket}")
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme.rpartition("+")[2], 0)
    return Instance(address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _has_good_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def check_addresses(options: Options) -> None:
    """Check URLs that have nothing but an address.

    Raises:
        ValueError: one has more, or no port.

    """
    for url in options.urls:
        rest, socket = _without_socket(url)
        parts = urlsplit(rest)
        if not options.directory and not socket:
            host_and_port(url)
        elif parts.path.strip("/") or parts.query:
            address = f"unix:{socket}" if socket else ""
            raise ValueError(f"the url must be {parts.scheme}://{address}, with nothing after it")


def host_and_port(url: str) -> tuple[str, int]:
    """Take the address out of a URL that has nothing else.

    Raises:
        ValueError: there is no port, or more than an address.

    """
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None or parts.path.strip("/") or parts.query:
        raise ValueError(f"the url must be {parts.scheme}://host:port, with nothing after it")
    return parts.hostname, parts.port


def nearest(word: str, known: Iterable[str], form: str = "{}") -> str:
    """Ask whether a known word was meant; nothing where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {form.format(close[0])}?" if close else ""
