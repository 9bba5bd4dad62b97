"""Constant values of .thrift files -> neutral values, by the types that they are for.

Constants().value(program, node, type)    IdlError if the value does not fit its type
"""

import uuid
from collections.abc import Callable
from typing import Any, ClassVar

from gateway.upstreams.thrift.lexing import Token
from gateway.upstreams.thrift.parsing import MOST_LEVELS
from gateway.upstreams.thrift.scopes import Program, find, unknown
from gateway.upstreams.thrift.syntax import EnumNode, ValueNode
from gateway.upstreams.thrift.types import (
    BINARY,
    BITS,
    BOOL,
    DOUBLE,
    STRING,
    UUID,
    Enum,
    Mapping,
    Record,
    Scalar,
    Sequence,
    Type,
    is_named,
    name_of,
)

_MOST_VALUES = 100_000  # in all defaults of a service; constants can name each other, and so double with each line
_TRUTHS = {"true": 1, "false": 0}


class Constants:
    """The values that one service needs."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES
        self._level = 0

    def value(self, program: Program, node: ValueNode, kind: Type) -> Any:
        """Return a value for a type; ``program`` is the file where it is written.

        Raises:
            IdlError: a name in it is unknown, it does not fit the type, or it is too large.

        """
        self._left -= 1
        if self._left < 0:
            raise node.token.error(f"the defaults have more than {_MOST_VALUES} values")
        if self._level == MOST_LEVELS:
            raise node.token.error(
                f"nested too deeply: at most {MOST_LEVELS} levels are read, and constants must not name each other"
            )
        self._level += 1
        named = node.token.kind == "word" and node.token.text not in _TRUTHS
        read = Constants._named if named else self._READ[type(kind)]
        value = read(self, program, node, kind)
        self._level -= 1
        return value

    def _named(self, program: Program, node: ValueNode, kind: Type) -> Any:
        """Read a constant, or a value of an enum."""
        token = node.token
        enum, _, member = token.text.rpartition(".")
        if isinstance(kind, Enum) and member in kind.numbers:
            return member
        constant = find(program, token.text, lambda document: document.constants)
        if constant is not None:
            return self.value(constant[0], constant[1].value, kind)
        definition = find(program, enum, lambda document: document.types) if enum else None
        if definition is None or not isinstance(definition[1], EnumNode) or member not in definition[1].numbers:
            raise unknown(program, token, "constant", program.document.constants)
        number = definition[1].numbers[member]
        return self.value(
            program, ValueNode(Token("int", token.text, number, token.file, token.line, token.column)), kind
        )

    def _scalar(self, _: Program, node: ValueNode, kind: Scalar) -> Any:
        token = node.token
        value: Any = _TRUTHS.get(token.text, token.value)
        if kind.code == BOOL and type(value) is int:
            return value != 0
        if kind.code == DOUBLE and type(value) in (int, float):
            return float(value)
        if kind.code in BITS and type(value) is int:
            return value
        if kind.code not in (STRING, UUID) or type(value) is not str:
            raise _misfit(token, kind)
        return _text(token, value, kind)

    def _enum(self, _: Program, node: ValueNode, kind: Enum) -> Any:
        if node.token.kind != "int":
            raise _misfit(node.token, kind)
        return kind.names.get(node.token.value, node.token.value)

    def _sequence(self, program: Program, node: ValueNode, kind: Sequence) -> list[Any]:
        if node.items is None and node.pairs != ():  # people write {} for an empty set
            raise _misfit(node.token, kind)
        return [self.value(program, item, kind.item) for item in node.items or ()]

    def _mapping(self, program: Program, node: ValueNode, kind: Mapping) -> Any:
        if node.pairs is None and node.items != ():
            raise _misfit(node.token, kind)
        pairs = [
            [self.value(program, key, kind.key), self.value(program, value, kind.value)]
            for key, value in node.pairs or ()
        ]
        return {name_of(key): value for key, value in pairs} if is_named(kind.key) else pairs

    def _record(self, program: Program, node: ValueNode, kind: Record) -> dict[str, Any]:
        if node.pairs is None:
            raise _misfit(node.token, kind)
        fields = {field.name: field.type for field in kind.fields.values()}
        value: dict[str, Any] = {}
        for key, item in node.pairs:
            name = key.token.value
            if name not in fields:
                raise key.token.error(f"{kind.word} has no field {key.token.shown}")
            value[name] = self.value(program, item, fields[name])
        return value

    _READ: ClassVar[dict[type, Callable[["Constants", Program, ValueNode, Any], Any]]] = {
        Scalar: _scalar,
        Enum: _enum,
        Sequence: _sequence,
        Mapping: _mapping,
        Record: _record,
    }


def _misfit(token: Token, kind: Type) -> Exception:
    return token.error(f"the value {token.shown} does not fit its type {kind.word}")


def _text(token: Token, value: str, kind: Scalar) -> str | bytes:
    if kind.code != UUID:
        return value.encode() if kind is BINARY else value
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise _misfit(token, kind) from None
