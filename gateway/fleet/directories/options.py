"""The options of every [directories.NAME] of gateway.toml."""

from typing import Annotated

from msgspec import Meta, Struct


class DirectoryOptions(Struct, frozen=True, kw_only=True):
    """The options that every directory has."""

    kind: Annotated[str, Meta(description='What it is: "file", "dns" or "zookeeper".')]
    cache: Annotated[
        str,
        Meta(description="The folder for the last lists, for a start while the directory is down; none if empty."),
    ] = ""
    keep_empty: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="Seconds for which the last list is used after the directory has begun to list no instances.",
        ),
    ] = 600.0
