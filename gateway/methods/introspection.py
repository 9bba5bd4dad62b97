"""Introspection: the system.* methods of XML-RPC, and OpenRPC's rpc.discover.

They are methods like any others, made over a registry and added to it, and all protocols offer them, but for
system.multicall, which is for those that have no batches of their own. The conventions: the introspection of xmlrpc-c
and phpxmlrpc (a signature that is unknown is the string "undef"), and the OpenRPC specification 1.3, which takes its
schemas from JSON Schema draft 7.
"""

import typing
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from enum import Enum
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Protocol, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Struct

from gateway.methods import Method, MethodOptions, Param, Registry, make_method, models
from gateway.methods.hints import is_pydantics
from gateway.methods.published import Components
from gateway.model.calls import Caller, Context
from gateway.model.faults import MethodNotFound
from gateway.model.values import is_exact_double

_Named: TypeAlias = list[tuple[str, Method]]
_Permits: TypeAlias = Callable[[Iterable[str], Caller], bool]

_UNKNOWN = "undef"
_MOST_DOCUMENTS = 16  # kept at once: callers differ by what they may call, and there are few kinds of them
_TYPE_NAMES: dict[Any, str] = {
    int: "int",
    float: "double",
    bool: "boolean",
    str: "string",
    bytes: "base64",
    bytearray: "base64",
    memoryview: "base64",
    datetime: "dateTime.iso8601",
    date: "string",
    time: "string",
    timedelta: "string",
    UUID: "string",
    NoneType: "nil",
}


class Shown(Protocol):
    """The methods as callers are shown them; see gateway/core/versions.py."""

    def get(self, name: str, protocol: str) -> Method | None:
        """Return the method that is shown under a name."""

    def names_of(self, name: str) -> Iterable[str]:
        """Return all names that must be permitted to whoever calls a method by a name."""

    def behind(self, name: str) -> Iterable[str]:
        """Return the names of the method that serves a name which has no method of its own."""

    def methods(self, protocol: str | None = None) -> Iterator[tuple[str, Method]]:
        """Iterate over names and methods; with a protocol only over what it can call."""


def add_introspection(  # noqa: PLR0913 - all of them are named
    registry: Registry,
    shown: Shown,
    *,
    title: str,
    version: str,
    capabilities: Mapping[str, Mapping[str, str | int]],
    batch_methods: Mapping[str, str],
    permits: _Permits,
) -> None:
    """Add the methods that describe a registry, themselves included.

    Arguments:
        registry: what they are added to.
        shown: what is described: the registry, as callers are shown it.
        title: names the deployment in the OpenRPC document.
        version: likewise.
        capabilities: what system.getCapabilities returns.
        batch_methods: the methods that a protocol's codec makes batches of, like system.multicall, by protocol.
        permits: returns whether a caller may call the method that has these names; it is shown nothing else.

    """

    def list_methods(context: Context, ignored: Any = None) -> list[str]:
        """List the names of all methods that this caller can call on this protocol.

        An argument is ignored: Homematic's centrals and their clients send one.
        """
        return [name for name, _ in _shown(shown, context, permits)]

    def method_help(name: str, context: Context) -> str:
        """Return the documentation of a method; an empty string if there is none."""
        found = _known(shown, name, context, permits)
        return "\n\n".join(filter(None, (found.doc, _deprecation(found))))

    def method_signature(name: str, context: Context) -> list[list[str]] | str:
        """Return a method's signatures, each the type of the result and then those of the parameters, or "undef"."""
        return signatures_of(_known(shown, name, context, permits)) or _UNKNOWN

    def method_exist(name: str, context: Context) -> bool:
        """Return whether there is a method of this name that this caller can call."""
        return _find(shown, name, context, permits) is not None

    def get_capabilities() -> dict[str, dict[str, str | int]]:
        """Return the specifications that are spoken, each with its address and version."""
        return {name: dict(said) for name, said in capabilities.items()}

    def multicall(calls: list[dict[str, Any]]) -> list[Any]:
        """Call methods, each a struct of methodName and params; a result is an array of one value, or a fault."""
        raise MethodNotFound  # the codec makes a batch of such a call, so none arrives here

    def discover(context: Context) -> dict[str, Any]:
        """Return the OpenRPC document of what this caller can call."""
        return documents.of(_shown(shown, context, permits), int_texts=not context.wide_ints)

    documents = _Documents(title, version)

    everywhere = (
        ("system.listMethods", list_methods),
        ("system.methodHelp", method_help),
        ("system.methodSignature", method_signature),
        ("system.methodExist", method_exist),
        ("system.getCapabilities", get_capabilities),
        ("rpc.discover", discover),
    )
    for name, function in everywhere:
        registry.add(make_method(function, MethodOptions(name=name, run="inline")), reserved=True)
    for protocol, name in batch_methods.items():
        options = MethodOptions(name=name, run="inline", protocols=frozenset({protocol}))
        registry.add(make_method(multicall, options), reserved=True)


def _find(shown: Shown, name: str, context: Context, permits: _Permits) -> Method | None:
    found = shown.get(name, context.protocol)
    return found if found is not None and permits(shown.names_of(name), context.caller) else None


def _known(shown: Shown, name: str, context: Context, permits: _Permits) -> Method:
    found = _find(shown, name, context, permits)
    if found is None:
        raise MethodNotFound("there is no method of this name")
    return found


def _shown(shown: Shown, context: Context, permits: _Permits) -> list[tuple[str, Method]]:
    """Return what a caller may call, by the rules for all names of a method; each method is judged once."""
    names = defaultdict[int, list[str]](list)
    for name, found in shown.methods():
        names[id(found)] += (name, *shown.behind(name))
    permitted = {method: permits(own, context.caller) for method, own in names.items()}
    return [(name, found) for name, found in shown.methods(context.protocol) if permitted[id(found)]]


def _deprecation(method: Method) -> str:
    said = method.options.deprecated
    if not said:
        return ""
    return f"Deprecated: {said}" if isinstance(said, str) else "Deprecated."


def _retired(method: Method) -> dict[str, bool]:
    return {"deprecated": True} if method.options.deprecated else {}


def signatures_of(method: Method) -> list[list[str]]:
    """Return a method's signatures as system.methodSignature has them; none where they are not known."""
    return list(_signatures(method))


def _signatures(method: Method) -> Iterator[list[str]]:
    """Make a signature for each number of arguments that can be given.

    There are none where a hint is missing or too wide, unless it is that of a parameter that can be left out.
    """
    if method.published is not None and method.published.signatures:
        yield from map(list, method.published.signatures)
        return
    types = [type_name(hint) for hint in (method.result, *(param.hint for param in method.positional))]
    required = 1 + sum(param.required for param in method.positional)
    by_name_only = any(param.required and not param.positional for param in method.params)
    if None in types[:required] or method.rest is not None or by_name_only:
        return
    known = types.index(None) if None in types else len(types)
    for given in range(required, known + 1):
        yield [str(name) for name in types[:given]]


def type_name(hint: Any) -> str | None:
    """Return the convention's name for the type of a hint; None where there is not exactly one."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return type_name(typing.get_args(hint)[0])
    if origin is typing.Literal:
        return _common({type_name(type(value)) for value in typing.get_args(hint)} - {"nil"})
    if origin in (typing.Union, UnionType):
        return _common({type_name(part) for part in typing.get_args(hint)} - {"nil"})
    if isinstance(hint, typing.NewType):
        return type_name(hint.__supertype__)
    kind = origin or hint
    if kind in _TYPE_NAMES:
        return _TYPE_NAMES[kind]
    if not isinstance(kind, type):
        return None
    if issubclass(kind, Enum):
        return _common({type_name(type(member.value)) for member in kind})
    if issubclass(kind, Struct):
        return "array" if kind.__struct_config__.array_like else "struct"
    if issubclass(kind, Mapping) or is_dataclass(kind) or hasattr(kind, "__pydantic_fields__"):
        return "struct"
    return "array" if issubclass(kind, Collection) else None


def _common(names: set[str | None]) -> str | None:
    if names == {"int", "double"}:
        return "double"
    return names.pop() if len(names) == 1 else None


def describe(
    methods: Iterable[tuple[str, Method]], title: str, version: str, *, int_texts: bool = False
) -> dict[str, Any]:
    """Make the OpenRPC document of methods and their names; ``int_texts``: ints beyond 53 bits are texts.

    What an upstream tells in a document of its own is in it as it is. OpenRPC has no word for ``**kwargs``, which are
    left out, nor for ``*args``, which stand as the last parameter.
    """
    schemas = _Schemas(int_texts=int_texts)
    components = Components(schemas.components)
    return {
        "openrpc": "1.3.2",
        "info": {"title": title, "version": version},
        "methods": [
            _method_object(name, found, schemas)
            if found.published is None or found.published.openrpc is None
            else components.method_object(name, found.published) | _retired(found)
            for name, found in methods
        ],
        "components": components.by_kind,
    }


class _Documents:
    """OpenRPC documents, kept by what they describe: describing a method takes far longer than finding it."""

    def __init__(self, title: str, version: str) -> None:
        self._identity = title, version
        self._kept: OrderedDict[tuple[bool, tuple[tuple[str, int], ...]], tuple[_Named, dict[str, Any]]]
        self._kept = OrderedDict()

    def of(self, methods: _Named, *, int_texts: bool = False) -> dict[str, Any]:
        """Return the document of methods; nobody may change it.

        A document holds its methods, so that none of them can have the identity of one that is gone.
        """
        key = int_texts, tuple((name, id(found)) for name, found in methods)
        kept = self._kept.pop(key, None) or (methods, describe(methods, *self._identity, int_texts=int_texts))
        self._kept[key] = kept
        if len(self._kept) > _MOST_DOCUMENTS:
            self._kept.popitem(last=False)
        return kept[1]


class _Schemas:
    """JSON Schemas of type hints; those of named types are once in the document, in its components."""

    def __init__(self, *, int_texts: bool) -> None:
        self.components: dict[str, Any] = {}
        self._written = _draft7_with_int_texts if int_texts else _draft7

    def of(self, hint: Any, *, result: bool = False, number: int = 1) -> Any:
        """Return a hint's schema, as a parameter's or a result's; types of one name are numbered."""
        suffix = f"-{number}" if number > 1 else ""
        template = f"#/components/schemas/{{name}}{suffix}"
        try:
            schema, named = _schema(hint, template, result=result)
        except Exception:  # noqa: BLE001 - several kinds are raised; a type that has no schema is any value
            return {}
        components = {f"{name}{suffix}": self._written(part) for name, part in named.items()}
        if any(self.components.get(name, part) != part for name, part in components.items()):
            return self.of(hint, result=result, number=number + 1)
        self.components |= components
        return self._written(schema)


def _schema(hint: Any, template: str, *, result: bool) -> tuple[Any, dict[str, Any]]:
    if is_pydantics(hint):
        return models.schema(hint, template, result=result)
    (schema,), named = msgspec.json.schema_components([hint], ref_template=template)
    return schema, named


def _draft7(schema: Any) -> Any:
    """Write a schema as draft 7 has it: other keywords for tuples, and no defaults that are not JSON numbers."""
    if isinstance(schema, list):
        return [_draft7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    written = {name: _draft7(part) for name, part in schema.items()}
    if isinstance(written.get("prefixItems"), list):
        written["items"] = written.pop("prefixItems")  # minItems and maxItems allow no others
    if isinstance(written.get("default"), float) and not isfinite(written["default"]):
        del written["default"]
    return written


def _with_int_texts(schema: Any) -> Any:
    """Say that an integer beyond 53 bits is a text, wherever a schema has integers that may be so large."""
    if isinstance(schema, list):
        return [_with_int_texts(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    written = {name: _with_int_texts(part) for name, part in schema.items()}
    bounds = (schema.get("minimum"), schema.get("maximum"))
    if schema.get("type") != "integer" or all(type(each) is int and is_exact_double(each) for each in bounds):
        return written
    return {"anyOf": [written, {"type": "string", "pattern": "^-?[1-9][0-9]{15,}$"}]}


def _draft7_with_int_texts(schema: Any) -> Any:
    return _with_int_texts(_draft7(schema))


def _method_object(name: str, method: Method, schemas: _Schemas) -> dict[str, Any]:
    structure, params = _structure(method)
    summary, _, rest = method.doc.partition("\n\n")
    description = "\n\n".join(filter(None, (rest.strip(), _deprecation(method))))
    described: dict[str, Any] = {
        "name": name,
        "params": [_descriptor(param, schemas) for param in params],
        "result": {"name": "result", "schema": schemas.of(method.result, result=True)},
        "paramStructure": structure,
    }
    if method.rest is not None and method.rest in params:
        described["params"][-1] |= {"required": False, "description": "Any number of further arguments."}
    if summary:
        described["summary"] = " ".join(summary.split())
    if description:
        described["description"] = description
    if method.options.deprecated:
        described["deprecated"] = True
    return described


def _structure(method: Method) -> tuple[str, list[Param]]:
    """Return how arguments are given, and the parameters that can be given so, required ones first."""
    by_name_only = [param for param in method.params if not param.positional]
    by_position_only = method.rest is not None or not all(param.named for param in method.params)
    if by_position_only and not any(param.required for param in by_name_only):
        rest = () if method.rest is None else (method.rest,)
        return "by-position", [*method.positional, *rest]
    named = sorted((param for param in method.params if param.named), key=lambda param: not param.required)
    return "by-name" if by_name_only else "either", named


def _descriptor(param: Param, schemas: _Schemas) -> dict[str, Any]:
    schema = schemas.of(param.hint)
    if not param.required:
        schema |= _default(param)
    return {"name": param.name, "schema": schema, "required": param.required}


def _default(param: Param) -> dict[str, Any]:
    """Return the default of a parameter, unless its hint does not allow it (None often means: not given)."""
    try:
        default = msgspec.json.decode(msgspec.json.encode(param.default))
        msgspec.convert(default, param.hint)
    except Exception:  # noqa: BLE001 - a default is any object of the user's, and the check may run the user's code
        return {}
    return {"default": default}
