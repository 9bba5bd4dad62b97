"""Where the gateway puts itself, so that others find it: the section ``[publish]``. docs/fleet.md explains it."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.fleet.directories.options import DirectoryOptions
from gateway.upstreams.options import nearest

_EVERYWHERE = ("", "0.0.0.0", "[::]")  # noqa: S104 - what cannot be published
_HOST_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\s/]*):[0-9]{1,5}")


class PublishSection(Struct, frozen=True, kw_only=True):
    """A directory that the gateway puts itself into, so that callers find it; docs/fleet.md explains it."""

    directory: Annotated[
        str,
        Meta(
            description="The directory that the gateway puts itself into when it is ready, and leaves at SIGTERM,"
            ' before server.grace begins: the name of one of the kind zookeeper; "" for none.'
        ),
    ] = ""
    address: Annotated[
        str,
        Meta(
            pattern=r"^(?:(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[1-9][0-9]{0,4})?$",
            description="host:port, like 10.0.1.5:8000",
        ),
        Meta(
            description='Where callers reach the gateway: host:port, like "10.0.1.5:8000". Without it that is the first'
            " address of server.bind, which then must not be one of all addresses, like 0.0.0.0:8000."
        ),
    ] = ""
    service: Annotated[
        str,
        Meta(pattern=r"^[^\s/]+$", description="a name without blanks and /"),
        Meta(
            description="The service that it is listed under. Never use one that other programs provide, too: their"
            " callers would come here."
        ),
    ] = "callgate"
    version: Annotated[str, Meta(description='The version of the service, by which callers choose; "" for none.')] = ""
    group: Annotated[str, Meta(description='The group of the service, by which callers choose; "" for none.')] = ""
    zone: Annotated[str, Meta(description='Where the gateway runs, which callers are told; "" for none.')] = ""
    weight: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Its share of the calls, compared with the other instances. With 0 it has none.",
        ),
    ] = 100
    schemes: Annotated[
        tuple[Literal["jsonrpc", "xmlrpc"], ...],
        Meta(min_length=1, description='The protocols that it is listed for: "jsonrpc", "xmlrpc", or both.'),
    ] = ("jsonrpc",)


def publish_contradictions(
    publish: PublishSection, directories: Mapping[str, DirectoryOptions], bind: tuple[str, ...]
) -> Iterator[str]:
    """Tell what keeps a gateway from being published, given the addresses that it listens on."""
    if not publish.directory:
        return
    found = directories.get(publish.directory)
    if found is None:
        yield (
            f"publish.directory: there is no directory {publish.directory!r}{nearest(publish.directory, directories)}"
        )
    elif found.kind != "zookeeper":
        yield f"publish.directory: a {found.kind} is only read; expected a directory of the kind zookeeper"
    first = _HOST_PORT.fullmatch(bind[0])
    if not publish.address and (first is None or first["host"] in _EVERYWHERE):
        yield f"publish.address is needed: others cannot reach server.bind, {bind[0]}"
