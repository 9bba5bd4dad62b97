"""What callers see of Thrift's types: signatures with type hints, which arguments are checked against first.

signature(method)    the parameters in order, and the result
"""

import re
from types import GenericAlias, NoneType
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.upstreams import Parameter, Signature
from gateway.upstreams.thrift.types import (
    BITS,
    Enum,
    Field,
    Mapping,
    Record,
    Scalar,
    Sequence,
    ThriftMethod,
    Type,
    is_named,
)

_TAGS = re.compile(r"(?<!\n)\n(?=@)")  # @param and the like, which are not part of the summary
_HINTS: dict[str, Any] = {"bool": bool, "double": int | float, "string": str, "binary": bytes}
_HINTS["uuid"] = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]


def signature(method: ThriftMethod) -> Signature:
    """Describe a method."""
    params = (
        Parameter(name=field.name, hint=_told(field), required=field.required, default=field.default)
        for field in method.args.fields.values()
    )
    result = hint(method.reply.fields[0].type) if 0 in method.reply.fields else NoneType
    thrown = [field.type.word for number, field in method.reply.fields.items() if number]
    raises = [f"Raises {', '.join(thrown)}."] if thrown else []
    said = _TAGS.sub("\n\n", method.doc, count=1)
    doc = "\n\n".join([said, *raises] if said else raises)
    return Signature(name=method.name, params=tuple(params), result=result, doc=doc)


def _told(field: Field) -> Any:
    """Return the type hint of an argument, with its comment."""
    return Annotated[hint(field.type), Meta(description=field.doc)] if field.doc else hint(field.type)


def hint(kind: Type) -> Any:
    """Return the type hint of a type; the fields of a struct are checked when they are written."""
    if isinstance(kind, Scalar):
        bound = 1 << BITS.get(kind.code, 64) - 1
        return _HINTS.get(kind.word) or Annotated[int, Meta(ge=-bound, le=bound - 1)]
    if isinstance(kind, Enum):
        return Annotated[str, Meta(extra_json_schema={"enum": list(kind.numbers)})] | int
    if isinstance(kind, Sequence):
        return GenericAlias(list, (hint(kind.item),))
    if isinstance(kind, Mapping):
        return GenericAlias(dict, (str, hint(kind.value))) if is_named(kind.key) else list[Any]
    return Annotated[dict[str, Any], Meta(extra_json_schema=_schema(kind))]


def _schema(kind: Record) -> dict[str, Any]:
    """Describe a struct with its fields; those of the structs inside it are left out, because it may contain itself."""
    schema: dict[str, Any] = {
        "title": kind.word,
        "properties": {field.name: _property(field) for field in kind.fields.values()},
        "additionalProperties": False,
    }
    required = [field.name for field in kind.fields.values() if field.required and field.default is ...]
    return schema | ({"description": kind.doc} if kind.doc else {}) | ({"required": required} if required else {})


def _property(field: Field) -> dict[str, Any]:
    schema = _shallow(field.type)
    if field.doc:
        schema["description"] = field.doc
    if field.default is not ...:
        schema["default"] = msgspec.json.decode(msgspec.json.encode(field.default))  # bytes as base64
    return schema


def _shallow(kind: Type) -> dict[str, Any]:
    if isinstance(kind, Record):
        return {"type": "object", "title": kind.word}
    if isinstance(kind, Sequence):
        return {"type": "array", "items": _shallow(kind.item)}
    if isinstance(kind, Mapping):
        return {"type": "object", "additionalProperties": _shallow(kind.value)} if is_named(kind.key) else {}
    return msgspec.json.schema(hint(kind))
