"""What a JSON-RPC server tells of its methods: an OpenRPC document, or no more than their names.

OpenRPC document -> Signatures, with the types that JSON Schema names plainly; any value for all others. The method
                    objects themselves are told to callers as they are, where both protocols can encode them
names            -> Signatures without parameters
anything else    -> BadUpstream
"""

import re
from collections.abc import Awaitable, Callable
from types import GenericAlias, NoneType
from typing import Annotated, Any, TypeAlias, Union

import msgspec
from msgspec import Meta

from gateway.model.faults import BadUpstream, Fault, MethodNotFound
from gateway.upstreams import Invocation, Parameter, Signature
from gateway.upstreams.faults import is_answer
from gateway.upstreams.names import MOST, from_names

Lenient: TypeAlias = Annotated[
    bool, Meta(description="Of members with the same name in a result, the last counts; otherwise it is a fault.")
]
_TYPES: dict[Any, Any] = {
    "integer": int,
    "number": int | float,  # JSON has one kind of numbers; an int is not made a float on its way
    "string": str,
    "boolean": bool,
    "null": NoneType,
    "array": list[Any],
    "object": dict[str, Any],
}


_MOST_BYTES = 4 * 2**20  # of a document that is told to callers again; the largest known ones have half a megabyte
_NOT_TOLD = frozenset({"name", "servers", "links"})
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_INT64 = range(-(2**63), 2**63)


async def describe(call: Callable[[Invocation], Awaitable[Any]], deadline: float) -> list[Signature] | None:
    """Ask by rpc.discover (OpenRPC 1.3), then by system.listMethods; None where neither is there.

    A server has its own faults for methods that it does not have, so that any fault of its own leads to the next way.

    Raises:
        BadUpstream: what it tells is not a list of methods.
        Exception: what ``call`` raises, but MethodNotFound; of the upstream's own faults the last one.

    """
    said: Fault | None = None
    for method, read in (("rpc.discover", from_document), ("system.listMethods", from_names)):
        try:
            asked = Invocation(method=method, params=[], deadline=deadline, request_id="describe")
            return read(await call(asked))
        except Fault as fault:
            if not is_answer(fault):
                raise
            said = said if isinstance(fault, MethodNotFound) else fault
    if said is not None:
        raise said
    return None


def from_document(document: Any) -> list[Signature]:
    """Make signatures of an OpenRPC document."""
    methods = document.get("methods") if type(document) is dict else None
    if type(methods) is not list or len(methods) > MOST:
        raise BadUpstream(f"the OpenRPC document has no methods, or more than {MOST}")
    components = _components(document)
    return [_signature(each, components) for each in methods if type(each) is dict and type(each.get("name")) is str]


_Components: TypeAlias = dict[str, dict[str, Any]]


def _components(document: dict[str, Any]) -> _Components | None:
    """Return the components of a document; None where it cannot be told to callers as it is."""
    said = document.get("components", {})
    is_plain = type(said) is dict and all(type(members) is dict for members in said.values())
    is_small = len(msgspec.json.encode(document)) <= _MOST_BYTES
    return said if is_plain and is_small and _is_told_as_it_is(said, said) else None


def _published(said: dict[str, Any], components: _Components | None) -> dict[str, Any] | None:
    """Return a method object as it is told to callers, without what is about the upstream's own address and names."""
    if components is None or type(said.get("params")) is not list or type(said.get("result")) is not dict:
        return None
    kept = {name: value for name, value in said.items() if name not in _NOT_TOLD}
    return kept if _is_told_as_it_is(kept, components) else None


def _is_told_as_it_is(value: Any, components: _Components) -> bool:
    """Tell whether both protocols can encode a value, and its references lead to components that are there."""
    if type(value) is dict:
        reference = value.get("$ref")
        if type(reference) is str and reference.startswith("#") and not _is_known(reference, components):
            return False
        return all(_is_told_as_it_is(each, components) for pair in value.items() for each in pair)
    if type(value) is list:
        return all(_is_told_as_it_is(each, components) for each in value)
    return not (type(value) is str and _NO_XML.search(value)) and not (type(value) is int and value not in _INT64)


def _is_known(reference: str, components: _Components) -> bool:
    parts = reference.split("/")
    return parts[:2] == ["#", "components"] and len(parts) > 3 and parts[3] in components.get(parts[2], ())


def _signature(said: dict[str, Any], components: _Components | None) -> Signature:
    result = said.get("result")
    return Signature(
        openrpc=_published(said, components),
        components=components or {},
        name=said["name"],
        params=_params(said),
        result=hint_of(result.get("schema")) if type(result) is dict else Any,
        doc="\n\n".join(text for text in (said.get("summary"), said.get("description")) if type(text) is str),
    )


def _params(said: dict[str, Any]) -> tuple[Parameter, ...] | None:
    """Make parameters; None where the document does not name all of them plainly."""
    params = said.get("params")
    if type(params) is not list or said.get("paramStructure") in ("by-position", "by-name"):
        return None
    made = [
        Parameter(name=each["name"], hint=hint_of(each.get("schema")), required=each.get("required") is True)
        for each in params
        if type(each) is dict and type(each.get("name")) is str
    ]
    all_said = len(made) == len(params) == len({param.name for param in made})
    return tuple(made) if all_said and sorted(made, key=lambda param: not param.required) == made else None


def hint_of(schema: Any) -> Any:
    """Return the type hint of a plain JSON Schema; Any for all others, and then nothing is checked."""
    kind = schema.get("type") if type(schema) is dict else None
    if type(kind) is list and all(type(each) is str and each in _TYPES for each in kind):
        return _union([_TYPES[each] for each in kind])
    if type(schema) is dict and type(schema.get("anyOf")) is list and kind is None:
        return _union([hint_of(each) for each in schema["anyOf"]])
    if kind == "array" and type(schema.get("items")) is dict:
        return GenericAlias(list, (hint_of(schema["items"]),))
    return _TYPES.get(kind, Any) if type(kind) is str else Any


def _union(hints: list[Any]) -> Any:
    """Make a union that msgspec can tell apart: at most one kind of array."""
    arrays = [hint for hint in hints if hint not in _TYPES.values() or hint == list[Any]]
    return Any if not hints or Any in hints or len(arrays) > 1 else Union[tuple(hints)]  # noqa: UP007 - made at run time
