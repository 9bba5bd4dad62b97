"""The options of every [upstreams.NAME] of gateway.toml, and what a URL in it must look like."""

import difflib
from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from msgspec import Meta, Struct

Patterns: TypeAlias = tuple[str, ...]
Name: TypeAlias = Annotated[str, Meta(pattern=r"^[^\s<>&]+$", description="a name without blanks and < > &")]


HIDDEN: Patterns = ("system.*", "rpc.*")


class Options(Struct, frozen=True, kw_only=True):
    """The options that every upstream has.

    Raises:
        ValueError: the URL has no host or port, or has what does not belong there.

    """

    url: Annotated[str, Meta(description="Where it is: scheme://host:port.")]
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

    def __post_init__(self) -> None:
        """Check the URL."""
        parts = urlsplit(self.url)
        if not parts.hostname:
            raise ValueError("the url has no host; write it as scheme://host:port")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the url is shown and logged: credentials are options of their own")
        if parts.fragment:
            raise ValueError("the url has a fragment, which is never sent")
        if not _has_good_port(self.url):
            raise ValueError("the url has no port from 1 to 65535")


def _has_good_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


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
