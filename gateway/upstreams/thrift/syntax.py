"""What a .thrift file says, before names are looked up: the nodes that parsing.py makes.

A node keeps the token that names it, for the position in error messages.
"""

from typing import TypeAlias

from msgspec import Struct

from gateway.upstreams.thrift.lexing import Token


class TypeNode(Struct, frozen=True, eq=False):
    """A type: ``items`` has one type for list and set, two for map, and none for a name."""

    token: Token
    items: tuple["TypeNode", ...] = ()


class ValueNode(Struct, frozen=True, eq=False):
    """A constant value: [items], {pairs}, or the token alone."""

    token: Token
    items: "tuple[ValueNode, ...] | None" = None
    pairs: "tuple[tuple[ValueNode, ValueNode], ...] | None" = None


class FieldNode(Struct, frozen=True, eq=False):
    """A field, argument or declared exception."""

    number: int
    name: Token
    type: TypeNode
    requirement: str = ""  # "required", "optional" or nothing
    value: ValueNode | None = None
    doc: str = ""


class RecordNode(Struct, frozen=True, eq=False):
    """A struct, union or exception."""

    kind: str
    name: Token
    fields: tuple[FieldNode, ...]
    doc: str = ""


class EnumNode(Struct, frozen=True, eq=False):
    """An enum."""

    name: Token
    numbers: dict[str, int]


class TypedefNode(Struct, frozen=True, eq=False):
    """Another name of a type."""

    name: Token
    type: TypeNode


class ConstNode(Struct, frozen=True, eq=False):
    """A constant."""

    name: Token
    type: TypeNode
    value: ValueNode


class FunctionNode(Struct, frozen=True, eq=False):
    """A method; ``result`` is None for void."""

    name: Token
    result: TypeNode | None
    args: tuple[FieldNode, ...]
    thrown: tuple[FieldNode, ...]
    oneway: bool
    doc: str = ""


class ServiceNode(Struct, frozen=True, eq=False):
    """A service."""

    name: Token
    parent: Token | None
    functions: dict[str, FunctionNode]


TypeDefinition: TypeAlias = RecordNode | EnumNode | TypedefNode


class Document(Struct, frozen=True, eq=False):
    """A file: its includes, and what it defines, by name."""

    file: str
    includes: list[Token]
    types: dict[str, TypeDefinition]
    constants: dict[str, ConstNode]
    services: dict[str, ServiceNode]
