"""Dates in schemas: msgspec says no more of a ``datetime`` than that it is a string, unless its zone is fixed.

mark(hint, schema, components)      gives the schemas of datetimes and times in it their formats
"""

from typing import Any, TypeAlias

from msgspec import inspect

_Components: TypeAlias = dict[str, Any]
_REFERENCE = "#/components/schemas/"
_FORMATS: dict[type, str] = {inspect.DateTimeType: "date-time", inspect.TimeType: "time"}
_ARRAYS = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType)
_CLASSES = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)


def mark(hint: Any, schema: Any, components: _Components) -> None:
    """Mark the dates in a schema that msgspec has made of a hint, and in the components that it refers to."""
    try:
        node = inspect.type_info(hint)
    except Exception:  # noqa: BLE001 - several kinds are raised; pydantic has made the schema, and marks dates itself
        return
    _walk(node, schema, components, set())


def _walk(node: Any, schema: Any, components: _Components, seen: set[int]) -> None:
    while isinstance(node, inspect.Metadata):
        node = node.type
    if type(schema) is not dict:
        return
    if isinstance(node, _CLASSES):
        _walk_class(node, components.get(str(schema.get("$ref")).removeprefix(_REFERENCE)), components, seen)
    elif isinstance(node, inspect.UnionType):
        _walk_union(node, schema.get("anyOf"), components, seen)
    elif isinstance(node, inspect.DictType):
        _walk(node.value_type, schema.get("additionalProperties"), components, seen)
    elif isinstance(node, _ARRAYS):
        _walk(node.item_type, schema.get("items"), components, seen)
    elif isinstance(node, inspect.TupleType):
        items = schema.get("items")
        for item, part in zip(node.item_types, items if type(items) is list else (), strict=False):
            _walk(item, part, components, seen)
    elif type(node) in _FORMATS and schema.get("type") == "string":
        schema["format"] = _FORMATS[type(node)]


def _walk_class(node: Any, named: Any, components: _Components, seen: set[int]) -> None:
    if id(node) not in seen and type(named) is dict:
        seen.add(id(node))
        properties = named.get("properties", {})
        for field in node.fields:
            _walk(field.type, properties.get(field.encode_name), components, seen)


def _walk_union(node: inspect.UnionType, parts: Any, components: _Components, seen: set[int]) -> None:
    """Mark the parts of a union, each by the type that has made it."""
    for kind, schemas in (("string", "string"), ("array", "array"), (None, None)):
        nodes = [each for each in node.types if _kind(each) == kind]
        made = [part for part in parts or () if type(part) is dict and part.get("type") == schemas]
        for each, part in zip(nodes, made, strict=False):  # msgspec has at most one of each, but for tagged classes
            _walk(each, part, components, seen)


def _kind(node: Any) -> str | None:
    """Return the type that the schema of a node has; None for a reference, another text where it does not matter."""
    while isinstance(node, inspect.Metadata):
        node = node.type
    if isinstance(node, _CLASSES):
        return None
    if isinstance(node, (*_ARRAYS, inspect.TupleType)):
        return "array"
    others = (inspect.IntType, inspect.FloatType, inspect.BoolType, inspect.NoneType, inspect.DictType, inspect.AnyType)
    return "other" if isinstance(node, others) else "string"
