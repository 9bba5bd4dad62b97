"""What an upstream tells of a method, told to callers as it is: an OpenRPC method object, and XML-RPC signatures.

The names of components get the name of the upstream in front of them, for two upstreams may each have a ``Person``.
Only components that the methods of a document refer to are in it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

_COMPONENTS = "#/components/"


class Published(Struct, frozen=True, kw_only=True):
    """What an upstream tells of a method.

    Attributes:
        source: the name of the upstream.
        openrpc: the OpenRPC method object without its name; None where there is none.
        components: those of the upstream's document, by kind and name.
        signatures: each the type of the result and then those of the parameters, as system.methodSignature has them.

    """

    source: str
    openrpc: Mapping[str, Any] | None = None
    components: Mapping[str, Mapping[str, Any]] = {}
    signatures: tuple[tuple[str, ...], ...] = ()


class Components:
    """The components of a document, to which published methods add those that they refer to."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self.by_kind: dict[str, dict[str, Any]] = {"schemas": schemas}

    def method_object(self, name: str, published: Published) -> dict[str, Any]:
        """Make a method object with a name of its own, and add the components that it refers to."""
        said = {"name": name, **(published.openrpc or {})}
        waiting = list(_references(said))
        while waiting:
            kind, referred = waiting.pop()
            members = self.by_kind.setdefault(kind, {})
            component = published.components.get(kind, {}).get(referred)
            if component is not None and f"{published.source}.{referred}" not in members:
                members[f"{published.source}.{referred}"] = _qualified(component, published.source)
                waiting += _references(component)
        made: dict[str, Any] = _qualified(said, published.source)
        return made


def _references(value: Any) -> Iterator[tuple[str, str]]:
    """Iterate over the kinds and names of the components that a value refers to."""
    if isinstance(value, list):
        for each in value:
            yield from _references(each)
    elif isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_COMPONENTS):
            kind, _, name = reference.removeprefix(_COMPONENTS).partition("/")
            yield kind, name.partition("/")[0]
        for each in value.values():
            yield from _references(each)


def _qualified(value: Any, source: str) -> Any:
    """Put the source before the names of components that a value refers to."""
    if isinstance(value, list):
        return [_qualified(each, source) for each in value]
    if not isinstance(value, dict):
        return value
    made = {name: _qualified(each, source) for name, each in value.items()}
    reference = value.get("$ref")
    if isinstance(reference, str) and reference.startswith(_COMPONENTS):
        kind, _, name = reference.removeprefix(_COMPONENTS).partition("/")
        made["$ref"] = f"{_COMPONENTS}{kind}/{source}.{name}"
    return made
