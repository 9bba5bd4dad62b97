"""What a JSON-RPC server tells of its methods: an OpenRPC document, or no more than their names.

OpenRPC document -> Signatures, with the types that a JSON Schema says plainly; any value for all others
names            -> Signatures without parameters
nothing of both  -> BadUpstream
"""

from collections.abc import Awaitable, Callable
from types import GenericAlias, NoneType
from typing import Annotated, Any, TypeAlias, Union

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
        raise BadUpstream(f"its OpenRPC document has no methods, or more than {MOST}")
    return [_signature(each) for each in methods if type(each) is dict and type(each.get("name")) is str]


def _signature(said: dict[str, Any]) -> Signature:
    result = said.get("result")
    return Signature(
        name=said["name"],
        params=_params(said),
        result=hint_of(result.get("schema")) if type(result) is dict else Any,
        doc="\n\n".join(text for text in (said.get("summary"), said.get("description")) if type(text) is str),
    )


def _params(said: dict[str, Any]) -> tuple[Parameter, ...] | None:
    """Make parameters; None where the document does not say all of it plainly."""
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
    """Return the type hint that says what a plain JSON Schema says; Any for all others, and then nothing is checked."""
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
