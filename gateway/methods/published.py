"""What an upstream tells of a method, told to callers as it is: an OpenRPC method object, and XML-RPC signatures.

The names of components get the name of the upstream in front of them, for two upstreams may each have a ``Person``.
Only components that the methods of a document refer to are in it. All is made ready once, when the upstream tells it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from msgspec import Struct

_COMPONENTS = "#/components/"
_Reference: TypeAlias = tuple[str, str]  # a kind of components, and the name of one, as the upstream has it


class Told:
    """The components of an upstream's document, each made ready when a method is shown that refers to it."""

    def __init__(self, source: str, components: Mapping[str, Mapping[str, Any]]) -> None:
        self.source = source
        self._said = components
        self._ready: dict[_Reference, tuple[Any, list[_Reference]]] = {}

    def component(self, reference: _Reference) -> tuple[Any, list[_Reference]]:
        """Return a component, and what it refers to."""
        ready = self._ready.get(reference)
        if ready is None:
            said = self._said[reference[0]][reference[1]]
            ready = self._ready[reference] = _qualified(said, self.source), list(_references(said))
        return ready


class Published(Struct, frozen=True):
    """What an upstream tells of a method.

    Attributes:
        openrpc: the OpenRPC method object without its name; None where there is none.
        refers: the components that it refers to.
        told: where these are.
        signatures: each the type of the result and then those of the parameters, as system.methodSignature has them.

    """

    openrpc: dict[str, Any] | None
    refers: tuple[_Reference, ...]
    told: Told
    signatures: tuple[tuple[str, ...], ...] = ()


def published(openrpc: Mapping[str, Any] | None, signatures: tuple[tuple[str, ...], ...], told: Told) -> Published:
    """Make what a method has of its own ready to be told; its references lead to components that are there."""
    if openrpc is None:
        return Published(None, (), told, signatures)
    return Published(_qualified(openrpc, told.source), tuple(_references(openrpc)), told, signatures)


class Components:
    """The components of a document, to which published methods add those that they refer to."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self.by_kind: dict[str, dict[str, Any]] = {"schemas": schemas}

    def method_object(self, name: str, method: Published) -> dict[str, Any]:
        """Make a method object with a name of its own, and add the components that it refers to."""
        waiting = list(method.refers)
        while waiting:
            reference = waiting.pop()
            members = self.by_kind.setdefault(reference[0], {})
            own = f"{method.told.source}.{reference[1]}"
            if own not in members:
                members[own], more = method.told.component(reference)
                waiting += more
        return {"name": name, **(method.openrpc or {})}


def _references(value: Any) -> Iterator[_Reference]:
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
