"""JSON Schemas for models: draft 2020-12, without references, and with nothing in them that a client may choke on.

    Inliner(components).of(schema)      a schema as OpenRPC has it (draft 7 or later) -> one that stands alone

Agents lose all tools of a server for one schema that they cannot read, and an upstream may tell anything. So only what
is known is kept, and only where its value is right. What is left out makes a schema wider, which does no harm: the
method's own types check the arguments all the same.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias
from urllib.parse import unquote

Schema: TypeAlias = dict[str, Any]

_MOST_NODES = 2000  # of one tool; a few components that use each other twice would make millions
_DEEPEST = 24  # levels
_LONGEST_TEXT = 500  # characters of a description inside of a schema
_LONGEST_PATTERN = 200
_MOST_VALUES = 500  # of an enum
_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
_FORMATS = {  # what is said of texts that are something else, since few models look at a format
    "date-time": "RFC 3339, like 2026-11-29T12:00:00Z",
    "date": "RFC 3339, like 2026-11-29",
    "time": "RFC 3339, like 12:00:00",
    "partial-time": "RFC 3339, like 12:00:00",
    "duration": "ISO 8601, like PT1H30M",
    "decimal": "a decimal number",
    "uuid": "a UUID",
}
_KEPT_FORMATS = frozenset({"date-time", "date", "time", "duration", "uuid"})
_POINTER = re.compile(r"#/components/([^/]+)/([^/]+)")


def cleaned(text: str, most: int) -> str:
    """Return a text for a model in so many characters, without those that nobody would see: they may hide orders."""
    visible = "".join([each for each in text.replace("\t", " ") if each.isprintable() or each == "\n"]).strip()
    return visible if len(visible) <= most else f"{visible[: most - 4].rstrip()} ..."


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_pattern(value: Any) -> bool:
    if type(value) is not str or len(value) > _LONGEST_PATTERN:
        return False
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


_KEYWORDS: dict[str, Callable[[Any], bool]] = {  # kept as they are, where their values are right
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
    "multipleOf": lambda value: _is_number(value) and value > 0,
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _is_size),
    "uniqueItems": lambda value: type(value) is bool,
    "pattern": _is_pattern,
    "default": lambda _: True,
}


class Inliner:
    """Writes the schemas of one tool.

    Arguments:
        components: what references lead to: by kind, then by name.

    """

    def __init__(self, components: Mapping[str, Mapping[str, Any]]) -> None:
        self._components = components
        self._left = _MOST_NODES

    def of(self, schema: Any, above: tuple[str, ...] = (), depth: int = 0) -> Schema:
        """Write a schema; any value where it is none, or there is too much of it."""
        self._left -= 1
        if type(schema) is not dict or self._left < 0 or depth > _DEEPEST:
            return {}
        reference = schema.get("$ref")
        if type(reference) is str:
            return self._referred(schema, reference, above, depth)
        made = {name: schema[name] for name, is_right in _KEYWORDS.items() if name in schema and is_right(schema[name])}
        self._inside(schema, made, above, depth)
        return _said(schema, _typed(schema, made))

    def resolved(self, value: Any) -> Any:
        """Return what a reference leads to, and anything else as it is."""
        reference = value.get("$ref") if type(value) is dict else None
        return value if type(reference) is not str else self._found(reference)

    def _referred(self, schema: Schema, reference: str, above: tuple[str, ...], depth: int) -> Schema:
        if reference in above:
            name = unquote(reference.rpartition("/")[2])
            return {"type": "object", "description": cleaned(f"another {name}", _LONGEST_TEXT)}
        made = self.of(self._found(reference), (*above, reference), depth + 1)
        return _said(schema, made)

    def _found(self, reference: str) -> Any:
        match = _POINTER.fullmatch(reference)
        if match is None:
            return None
        kind, name = (unquote(part).replace("~1", "/").replace("~0", "~") for part in match.groups())
        return self._components.get(kind, {}).get(name)

    def _inside(self, schema: Schema, made: Schema, above: tuple[str, ...], depth: int) -> None:
        """Write the schemas inside of one."""

        def each(schemas: Iterable[Any]) -> list[Schema]:
            return [self.of(part, above, depth + 1) for part in schemas]

        properties = schema.get("properties")
        if type(properties) is dict:
            made["properties"] = dict(zip(map(str, properties), each(properties.values()), strict=True))
            required = schema.get("required")
            if type(required) is list:
                names = [name for name in made["properties"] if name in required]
                made |= {"required": names} if names else {}
        more = schema.get("additionalProperties")
        if type(more) is dict:
            made["additionalProperties"] = self.of(more, above, depth + 1)
        elif type(more) is bool and "patternProperties" not in schema:
            made["additionalProperties"] = more
        items = schema.get("items")
        first = items if type(items) is list else schema.get("prefixItems")
        if type(first) is list and first:
            made["prefixItems"] = each(first)
            items = schema.get("additionalItems") if type(items) is list else items
        if type(items) is dict:
            made["items"] = self.of(items, above, depth + 1)
        for name, written in (("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")):
            parts = schema.get(name)
            if type(parts) is list and parts and written not in made:
                made[written] = each(parts)


def _typed(schema: Schema, made: Schema) -> Schema:
    """Give a schema its type, one only, and what models want beside it."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if type(values) is list and 0 < len(values) <= _MOST_VALUES:
        return _enumerated(values, made)
    kind = schema.get("type")
    kinds = [kind] if type(kind) is str else kind if type(kind) is list else []
    known = list(dict.fromkeys(each for each in kinds if type(each) is str and each in _TYPES))
    if len(known) < len(kinds):
        known = []
    if not known and "anyOf" not in made and "allOf" not in made:
        known = [each for each, sign in (("object", "properties"), ("array", "items")) if sign in made][:1]
    if schema.get("nullable") is True and known and "null" not in known:
        known.append("null")
    if len(known) == 1:
        return _of_type(known[0], made)
    if known and "anyOf" not in made:
        return {"anyOf": [{"type": "null"} if each == "null" else _of_type(each, made) for each in known]}
    return made


_BELONGS = {  # to values of one type alone
    "string": frozenset({"minLength", "maxLength", "pattern"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}),
    "object": frozenset({"properties", "required", "additionalProperties", "minProperties", "maxProperties"}),
}
_BELONGS["integer"] = _BELONGS["number"]
_BELONGING = frozenset().union(*_BELONGS.values())


def _of_type(kind: str, made: Schema) -> Schema:
    own = _BELONGS.get(kind, frozenset())
    written = {"type": kind} | {name: value for name, value in made.items() if name in own or name not in _BELONGING}
    if kind == "array":
        written.setdefault("items", {})
    return written


_KINDS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", list: "array"}


def _enumerated(values: list[Any], made: Schema) -> Schema:
    """Write what a value may be, with the type of it: one schema for each type."""
    by_kind: dict[str, list[Any]] = {}
    for value in values:
        by_kind.setdefault(_KINDS.get(type(value), "object"), []).append(value)
    if {"integer", "number"} <= by_kind.keys():
        by_kind["number"] += by_kind.pop("integer")
    parts: list[Schema] = []
    for kind, members in by_kind.items():
        part = {"type": kind} if kind == "null" else {"type": kind, "enum": members}
        parts.append({**part, "items": {}} if kind == "array" else part)
    default = {"default": made["default"]} if "default" in made else {}
    return {**parts[0], **default} if len(parts) == 1 else {"anyOf": parts, **default}


def _said(schema: Schema, made: Schema) -> Schema:
    """Say in words what a schema means."""
    texts = [made.pop("description", "")]
    description = schema.get("description")
    if type(description) is str:
        texts = [cleaned(description, _LONGEST_TEXT)]
    kind = schema.get("format")
    if type(kind) is str and kind in _FORMATS:
        texts.append(_FORMATS[kind])
        if kind in _KEPT_FORMATS and made.get("type") == "string":
            made["format"] = kind
    if schema.get("contentEncoding") == "base64":
        texts.append("base64")
    said = "; ".join(dict.fromkeys(text for text in texts if text))
    return {**made, "description": said} if said else made


def takes_only_containers(schema: Schema) -> bool:
    """Tell whether a value must be an object or an array; null may be allowed beside it."""
    parts = schema.get("anyOf")
    if type(parts) is list:
        wanted = [part for part in parts if part.get("type") != "null"]
        return bool(wanted) and all(map(takes_only_containers, wanted))
    return schema.get("type") in ("object", "array")
