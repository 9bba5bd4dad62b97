"""JSON Schema -> the annotation of a type, and the classes that it needs.

    types = Types(document's schemas, names that are taken, is_xmlrpc)
    types.of(schema, "OrderItem") -> "list[Item]"
    types.classes()               -> source of the classes, each a TypedDict or an alias

Builtins are marked in annotations (``MARK``), because in a class with a method ``list`` the type has to be written
``builtins.list``; ``plain`` takes the marks away.
"""

import keyword
import re
from collections.abc import Iterable, Mapping
from typing import Any

MARK = "\0"
ANY = "typing.Any"
_SCALARS = {"integer": "int", "number": "float", "string": "str", "boolean": "bool", "null": "None"}
_LITERAL = (str, int, bool, type(None))
_HIDING = frozenset({"list", "dict", "int", "str", "float", "bool", "bytes", "typing", "datetime"})
_DEEPEST = 40
_REF = "#/components/schemas/"


def identifier(text: str) -> str:
    """Return a name that Python takes, which does not begin with an underscore."""
    name = re.sub(r"\W", "_", text)
    if not name or name[0] == "_" or not name.isidentifier():
        name = f"m{name}" if name.startswith("_") else f"m_{name}"
    return f"{name}_" if keyword.iskeyword(name) or keyword.issoftkeyword(name) else name


def camel(text: str) -> str:
    """Return a name for a class."""
    parts = re.split(r"[\W_]+", text)
    return identifier("".join(part[:1].upper() + part[1:] for part in parts) or "Type")


def unique(name: str, taken: set[str]) -> str:
    """Return a name that is not taken, and take it."""
    number = 2
    chosen = name
    while chosen in taken:
        chosen, number = f"{name}{number}", number + 1
    taken.add(chosen)
    return chosen


def plain(annotation: str, shadowed: Iterable[str] = ()) -> str:
    """Write the builtins in an annotation, where some of their names mean something else."""
    for name in shadowed:
        annotation = annotation.replace(f"{MARK}{name}{MARK}", f"builtins.{name}")
    return annotation.replace(MARK, "")


def _builtin(name: str) -> str:
    return "None" if name == "None" else f"{MARK}{name}{MARK}"


class Types:
    """The types of one module."""

    def __init__(self, schemas: Mapping[str, Any], taken: set[str], *, is_xmlrpc: bool) -> None:
        self._schemas = schemas
        self._taken = taken
        self._is_xmlrpc = is_xmlrpc
        self._referred: dict[str, str] = {}
        self._made: dict[str, str] = {}

    def classes(self) -> str:
        """Return the source of all classes that annotations have needed so far."""
        return "".join(f"\n\n{source}\n" for source in self._made.values())

    def of(self, schema: Any, name: str, depth: int = 0) -> str:
        """Return the annotation of a schema; ``name`` is what a class of it is called."""
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return ANY
        if isinstance(reference := schema.get("$ref"), str):
            return self._refer(reference)
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(values, list) and values:
            return self._literal(values)
        for word in ("anyOf", "oneOf"):
            if isinstance(parts := schema.get(word), list) and parts:
                return _union(self.of(part, f"{name}{place}", depth + 1) for place, part in enumerate(parts, 1))
        if isinstance(parts := schema.get("allOf"), list) and len(parts) == 1:
            return self.of(parts[0], name, depth + 1)
        kind = schema.get("type")
        if isinstance(kind, list) and kind:
            return _union(self.of({**schema, "type": each}, name, depth + 1) for each in kind)
        if kind == "array":
            items = schema.get("items")
            return f"{_builtin('list')}[{self.of(items, f'{name}Item', depth + 1)}]"
        if kind == "object":
            return self._object(schema, name, depth)
        return self._scalar(kind, schema)

    def _scalar(self, kind: Any, schema: Mapping[str, Any]) -> str:
        if self._is_xmlrpc and kind == "string":
            if schema.get("format") == "date-time":
                return "datetime.datetime"
            if schema.get("contentEncoding") == "base64":
                return _builtin("bytes")
        return _builtin(_SCALARS[kind]) if isinstance(kind, str) and kind in _SCALARS else ANY

    def _literal(self, values: list[Any]) -> str:
        if not all(type(value) in _LITERAL for value in values):
            return ANY
        return f"typing.Literal[{', '.join(map(repr, values))}]"

    def _refer(self, reference: str) -> str:
        target = reference.removeprefix(_REF)
        if not reference.startswith(_REF) or target not in self._schemas:
            return ANY
        if target not in self._referred:
            name = self._referred[target] = unique(camel(target), self._taken)
            schema = self._schemas[target]
            if _has_members(schema):
                self._write(name, schema, 0)
            else:
                self._made[name] = ""  # its place, before those that it needs
                self._made[name] = f"{name}: typing.TypeAlias = {plain(self.of(schema, name))!r}"
        return self._referred[target]

    def _object(self, schema: Mapping[str, Any], name: str, depth: int) -> str:
        if _has_members(schema):
            title = schema.get("title")
            chosen = unique(camel(title) if isinstance(title, str) and title.strip() else name, self._taken)
            self._write(chosen, schema, depth)
            return chosen
        other = schema.get("additionalProperties")
        value = self.of(other, f"{name}Value", depth + 1) if isinstance(other, dict) else ANY
        return f"{_builtin('dict')}[{_builtin('str')}, {value}]"

    def _write(self, name: str, schema: Mapping[str, Any], depth: int) -> None:
        """Write a TypedDict, as a class where the names of its members allow it."""
        self._made[name] = ""
        required = schema.get("required")
        needed = set(map(str, required)) if isinstance(required, list) else set()
        members = {
            str(member): plain(self.of(part, f"{name}{camel(str(member))}", depth + 1))
            for member, part in schema["properties"].items()
        }
        members = {
            member: text if member in needed else f"typing.NotRequired[{text}]" for member, text in members.items()
        }
        if all(_is_plain(member) for member in members):
            lines = [f"class {name}(typing.TypedDict):", *(f"    {member}: {text}" for member, text in members.items())]
        else:
            lines = [f"{name} = typing.TypedDict(", f"    {name!r},", "    {"]
            lines += [f"        {member!r}: {text!r}," for member, text in members.items()]
            lines += ["    },", ")"]
        self._made[name] = "\n".join(lines)


def _is_plain(member: str) -> bool:
    """Tell whether a member can be written in a class, where it must not hide a name that annotations have."""
    is_name = member.isidentifier() and not keyword.iskeyword(member) and not member.startswith("__")
    return is_name and member not in _HIDING


def _has_members(schema: Any) -> bool:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return isinstance(properties, dict) and bool(properties) and schema.get("type", "object") == "object"


def _union(parts: Iterable[str]) -> str:
    found = list(dict.fromkeys(parts))
    if ANY in found:
        return ANY
    return " | ".join(sorted(found, key=lambda part: part == "None"))
