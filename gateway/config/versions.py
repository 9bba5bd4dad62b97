"""Which versions of an interface there are, and who gets which: the tables ``[versions.NAME]`` of the configuration.

gateway/core/versions.py reads names by them.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from gateway.model.calls import Deprecation

_Version: TypeAlias = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="a version of letters, digits, _ and -, like v1")
]
_Name: TypeAlias = Annotated[str, Meta(pattern=r"^[^\s<>&]+$", description="a name without blanks and < > &")]


class Canary(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A share of the callers that gets another version than the default.

    Attributes:
        to: the version.
        percent: of the callers.
        by: what is drawn by: the client's address, its key (or certificate), or each call anew.

    """

    to: _Version
    percent: Annotated[float, Meta(ge=0, le=100)]
    by: Literal["client", "key", "call"] = "client"


class VersionTable(Struct, frozen=True, kw_only=True):
    """The versions of the methods whose names begin with the name of the table and a dot."""

    default: Annotated[
        Annotated[str, Meta(pattern="^(?:[A-Za-z0-9][A-Za-z0-9_-]*)?$", description="a version, like v1")],
        Meta(description="The version that serves a call without another one; none if names stand for themselves."),
    ] = ""
    header: Annotated[
        str,
        Meta(
            pattern=r"^(?:[A-Za-z0-9!#$%&'*+.^_`|~-]+)?$",
            description="the name of a header, or nothing; the request's header in which a caller names a version.",
        ),
    ] = ""
    canary: Annotated[
        Canary | None, Meta(description="A share of the callers that another version than the default serves.")
    ] = None
    prefixes: Annotated[
        dict[_Version, _Name],
        Meta(description="What the names of a version begin with, where that is not the table's name and its own."),
    ] = {}
    rename: Annotated[
        dict[_Name, _Name], Meta(description="Earlier names of methods: a name that callers use = the method's name.")
    ] = {}
    deprecated: Annotated[
        dict[_Name, Deprecation],
        Meta(description="Versions, or methods by the names that callers use, that are going to be withdrawn."),
    ] = {}

    def named(self) -> Iterator[str]:
        """Iterate over the versions that are named here, some of them twice."""
        if self.default:
            yield self.default
        if self.canary is not None:
            yield self.canary.to
        yield from self.prefixes


def contradictions(tables: Iterable[tuple[str, VersionTable]]) -> Iterator[str]:
    """Tell which options of version tables do not go together."""
    for name, table in tables:
        if table.canary is not None and not table.default:
            yield f"versions.{name}.canary: it needs a default, for all others"
        elif table.canary is not None and table.canary.to == table.default:
            yield f"versions.{name}.canary.to: {table.default} is the default; name another version"
        for version, prefix in table.prefixes.items():
            if prefix == f"{name}.":
                yield f"versions.{name}.prefixes.{version}: {prefix} is what callers say; leave {version} out"
