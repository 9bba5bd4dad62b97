"""Nodes of .thrift files (syntax.py) -> types and methods, by looking up names.

Only what is asked for is looked up: what a service does not use may be wrong. A name may be used before it is defined,
and a struct may contain itself.
"""

from msgspec import structs

from gateway.upstreams.thrift.constants import Constants
from gateway.upstreams.thrift.parsing import MOST_LEVELS
from gateway.upstreams.thrift.scopes import Program, look_up
from gateway.upstreams.thrift.syntax import (
    EnumNode,
    FieldNode,
    FunctionNode,
    RecordNode,
    ServiceNode,
    TypedefNode,
    TypeNode,
)
from gateway.upstreams.thrift.types import (
    LIST,
    SCALARS,
    SET,
    Enum,
    Field,
    Mapping,
    Record,
    Sequence,
    ThriftMethod,
    Type,
)

_MOST_PARTS = 200  # of a type: typedefs can double it with each line


def functions(program: Program, service: ServiceNode) -> dict[str, tuple[Program, FunctionNode]]:
    """Return the methods of a service and of those that it extends, each with its file.

    Raises:
        IdlError: a service that it extends is unknown, or extends it in turn.

    """
    found: dict[str, tuple[Program, FunctionNode]] = {}
    seen = [service]
    while True:
        for name, function in service.functions.items():
            found.setdefault(name, (program, function))
        if service.parent is None:
            return found
        parent = service.parent
        program, service = look_up(program, parent, lambda document: document.services, "service")
        if service in seen:
            raise parent.error(f"the service {parent.shown} extends itself: remove one extends of the circle")
        seen.append(service)


class Linker:
    """The types that are known so far; each struct of a file becomes one record."""

    def __init__(self) -> None:
        self._constants = Constants()
        self._records: dict[RecordNode, Record] = {}
        self._aliases: dict[TypedefNode, Type] = {}
        self._open: list[TypedefNode] = []
        self._unfilled: list[tuple[Program, Record, tuple[FieldNode, ...]]] = []

    def method(self, program: Program, function: FunctionNode) -> ThriftMethod:
        """Look up all types of a method.

        Raises:
            IdlError: a name is unknown, or names no type that can stand there.

        """
        name = function.name.text
        args = Record(word=f"{name}_args")
        reply = Record(word=f"{name}_result")
        self._unfilled += [(program, args, function.args), (program, reply, function.thrown)]
        self._fill()
        for node in function.args:
            field = args.fields[node.number]
            given = node.value is None and node.requirement != "optional"
            args.fields[node.number] = structs.replace(field, required=given)
        for node in function.thrown:
            thrown = reply.fields[node.number].type
            if not isinstance(thrown, Record) or not thrown.exception:
                raise node.type.token.error(f"{thrown.word} cannot be thrown: define it as an exception")
        if function.result is not None:
            reply.fields = {0: Field("success", self._type(program, function.result)), **reply.fields}
            self._fill()
        return ThriftMethod(name=name, args=args, reply=reply, oneway=function.oneway, doc=function.doc)

    def _fill(self) -> None:
        """Give records their fields, one after the other rather than inside each other, and defaults at the end."""
        filled: list[tuple[Program, Record, FieldNode]] = []
        while self._unfilled:
            program, record, nodes = self._unfilled.pop()
            record.fields = {
                node.number: Field(
                    name=node.name.text,
                    type=self._type(program, node.type),
                    required=node.requirement == "required" and not record.union,
                    doc=node.doc,
                )
                for node in nodes
            }
            filled += [(program, record, node) for node in nodes]
        for program, record, node in filled:
            if node.value is not None:
                field = record.fields[node.number]
                default = self._constants.value(program, node.value, field.type)
                record.fields[node.number] = structs.replace(field, default=default)

    def _type(self, program: Program, node: TypeNode, level: int = 0) -> Type:
        if level > MOST_LEVELS:
            raise node.token.error(f"nested too deeply: at most {MOST_LEVELS} levels of types are read")
        word = node.token.text
        if node.items:
            parts = [self._type(program, item, level + 1) for item in node.items]
            count = 1 + sum(part.parts if isinstance(part, Sequence | Mapping) else 1 for part in parts)
            if count > _MOST_PARTS:
                raise node.token.error(f"the type has more than {_MOST_PARTS} parts")
            if word == "map":
                return Mapping(parts[0], parts[1], count)
            return Sequence(LIST if word == "list" else SET, parts[0], count)
        if word in SCALARS:
            return SCALARS[word]
        where, definition = look_up(program, node.token, lambda document: document.types, "type")
        if isinstance(definition, TypedefNode):
            return self._alias(where, definition, level)
        return self._defined(where, definition)

    def _alias(self, program: Program, definition: TypedefNode, level: int) -> Type:
        if definition in self._open:
            raise definition.name.error(f"the typedef {definition.name.shown} is defined by itself")
        if definition not in self._aliases:
            self._open.append(definition)
            self._aliases[definition] = self._type(program, definition.type, level + 1)
            self._open.pop()
        return self._aliases[definition]

    def _defined(self, program: Program, definition: RecordNode | EnumNode) -> Type:
        if isinstance(definition, EnumNode):
            names = {number: name for name, number in reversed(definition.numbers.items())}
            return Enum(word=definition.name.text, numbers=definition.numbers, names=names)
        if definition not in self._records:
            record = self._records[definition] = Record(
                word=definition.name.text,
                union=definition.kind == "union",
                exception=definition.kind == "exception",
                doc=definition.doc,
            )
            self._unfilled.append((program, record, definition.fields))
        return self._records[definition]
