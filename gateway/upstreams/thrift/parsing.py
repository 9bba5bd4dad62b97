"""Tokens of a .thrift file -> nodes (syntax.py), by recursive descent.

    parse(file, text)    IdlError says where the text is not Thrift

The grammar is that of Apache's compiler (thrifty.yy), of its newest version and of the old ones: whatever one of them
accepts is read. What says nothing about calls, such as annotations and namespaces, is passed over.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

from gateway.upstreams.thrift.lexing import Token, tokens
from gateway.upstreams.thrift.syntax import (
    ConstNode,
    Document,
    EnumNode,
    FieldNode,
    FunctionNode,
    RecordNode,
    ServiceNode,
    TypedefNode,
    TypeNode,
    ValueNode,
)

MOST_LEVELS = 64  # of types, and of values, inside each other; files of people have some three
_CONTAINERS = {"list": 1, "set": 1, "map": 2}
_HEADERS = (
    "namespace",
    "cpp_include",
    "cpp_namespace",
    "java_package",
    "csharp_namespace",
    "cocoa_prefix",
    "delphi_namespace",
    "php_namespace",
    "py_module",
    "perl_package",
    "ruby_namespace",
    "smalltalk_category",
    "smalltalk_prefix",
    "xsd_namespace",
)

D = TypeVar("D")


def parse(file: str, text: str) -> Document:
    """Read a file; ``file`` is its name for error messages.

    Raises:
        IdlError: the text is not Thrift.

    """
    return _Parser(file, tokens(file, text)).document()


class _Parser:
    """The tokens of a file, and which one is the next."""

    def __init__(self, file: str, read: list[Token]) -> None:
        self._tokens = read
        self._at = 0
        self._level = 0
        self._document = Document(file, [], {}, {}, {})

    def document(self) -> Document:
        """Read the definitions, one after the other."""
        while self._peek.kind != "end":
            first = self._next()
            definition = self._DEFINITIONS.get(first.text)
            if definition is None:
                raise first.error(f"expected a definition such as struct or service, found {first.shown}")
            definition(self, first)
            self._annotations()
            self._separator()
        return self._document

    @property
    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _taken(self, text: str) -> bool:
        """Take a symbol or word if it is the next token."""
        taken = self._peek.text == text
        self._at += taken
        return taken

    def _expect(self, text: str) -> Token:
        if self._peek.text != text:
            raise self._peek.error(f"expected '{text}', found {self._peek.shown}")
        return self._next()

    def _kind(self, kind: str, what: str) -> Token:
        if self._peek.kind != kind:
            raise self._peek.error(f"expected {what}, found {self._peek.shown}")
        return self._next()

    def _name(self, what: str) -> Token:
        name = self._kind("word", what)
        if not name.text.isidentifier():
            raise name.error(f"expected {what}: letters, digits and _, found {name.shown}")
        return name

    def _separator(self) -> None:
        _ = self._taken(",") or self._taken(";")

    def _define(self, table: dict[str, D], name: Token, node: D, what: str) -> None:
        if name.text in table:
            raise name.error(f"the {what} {name.text} is defined twice: rename or remove one")
        table[name.text] = node

    # Headers

    def _include(self, _: Token) -> None:
        self._document.includes.append(self._kind("literal", "the name of a file in quotes"))

    def _header(self, first: Token) -> None:
        """Pass over a namespace, or what named one before there was the word."""
        if first.text == "namespace" and not self._taken("*"):
            self._kind("word", "a language")
        if self._next().kind not in ("word", "literal"):
            raise first.error(f"expected a name after {first.text}")

    # Definitions

    def _typedef(self, _: Token) -> None:
        aliased = self._type()
        name = self._name("the name of the type")
        self._define(self._document.types, name, TypedefNode(name, aliased), "type")

    def _enum(self, _: Token) -> None:
        name = self._name("the name of the enum")
        numbers: dict[str, int] = {}
        number = -1
        self._expect("{")
        while not self._taken("}"):
            member = self._name("the name of a value, or '}'")
            number += 1
            if self._taken("="):
                number = self._kind("int", "an int").value
            if not -(2**31) <= number < 2**31:
                raise member.error(f"the value of {member.text} has more than 32 bits")
            self._define(numbers, member, number, "value")
            self._annotations()
            self._separator()
        self._define(self._document.types, name, EnumNode(name, numbers), "type")

    def _senum(self, _: Token) -> None:
        """Read an old kind of enum, whose values are texts: on the wire it is a string."""
        name = self._name("the name of the senum")
        self._expect("{")
        while not self._taken("}"):
            self._kind("literal", "a text in quotes, or '}'")
            self._separator()
        string = Token("word", "string", None, name.file, name.line, name.column)
        self._define(self._document.types, name, TypedefNode(name, TypeNode(string)), "type")

    def _record(self, first: Token) -> None:
        name = self._name(f"the name of the {first.text}")
        self._taken("xsd_all")
        self._expect("{")
        node = RecordNode(first.text, name, self._fields("}"), first.doc)
        self._define(self._document.types, name, node, "type")

    def _const(self, _: Token) -> None:
        kind = self._type()
        name = self._name("the name of the constant")
        self._expect("=")
        self._define(self._document.constants, name, ConstNode(name, kind, self._value()), "constant")

    def _service(self, _: Token) -> None:
        name = self._name("the name of the service")
        parent = self._kind("word", "the name of a service") if self._taken("extends") else None
        functions: dict[str, FunctionNode] = {}
        self._expect("{")
        while not self._taken("}"):
            function = self._function()
            self._define(functions, function.name, function, "method")
        self._define(self._document.services, name, ServiceNode(name, parent, functions), "service")

    def _function(self) -> FunctionNode:
        doc = self._peek.doc
        oneway = self._taken("oneway") or self._taken("async")
        result = None if self._taken("void") else self._type("the type of a method, or '}'")
        if result is None:
            self._annotations()
        name = self._name("the name of the method")
        self._expect("(")
        args = self._fields(")")
        thrown: tuple[FieldNode, ...] = ()
        if self._taken("throws"):
            self._expect("(")
            thrown = self._fields(")")
        self._annotations()
        self._separator()
        return FunctionNode(name, result, args, thrown, oneway, doc)

    _DEFINITIONS: ClassVar[Mapping[str, Callable[["_Parser", Token], None]]] = {
        **dict.fromkeys(_HEADERS, _header),
        "include": _include,
        "typedef": _typedef,
        "enum": _enum,
        "senum": _senum,
        "struct": _record,
        "union": _record,
        "exception": _record,
        "const": _const,
        "service": _service,
    }

    # Fields, types and values

    def _fields(self, end: str) -> tuple[FieldNode, ...]:
        """Read fields; one without a number, or with one below 1, gets the next of -1, -2 and so on."""
        fields: list[FieldNode] = []
        names: dict[str, Token] = {}
        numbers: dict[str, Token] = {}
        given = 0
        while not self._taken(end):
            first = self._peek
            number = self._number(end)
            if number < 1:
                given -= 1
                number = given
            field = self._field(number, first.doc)
            self._define(names, field.name, first, "field")
            if numbers.setdefault(str(number), first) is not first:
                raise first.error(f"the number {number} is used for two fields: give {field.name.text} another one")
            fields.append(field)
        return tuple(fields)

    def _number(self, end: str) -> int:
        if self._peek.kind != "int":
            if self._peek.kind != "word":
                raise self._peek.error(f"expected a field, or '{end}', found {self._peek.shown}")
            return 0
        token = self._next()
        self._expect(":")
        number: int = token.value
        if number >= 2**15:
            raise token.error(f"the number {number} of a field has more than 16 bits")
        return number

    def _field(self, number: int, doc: str) -> FieldNode:
        requirement = self._next().text if self._peek.text in ("required", "optional") else ""
        kind = self._type()
        self._taken("&")  # only code generators need it
        name = self._name("the name of a field")
        value = self._value() if self._taken("=") else None
        self._taken("xsd_optional")
        self._taken("xsd_nillable")
        if self._taken("xsd_attrs"):
            self._expect("{")
            self._nested(self._peek, lambda: self._fields("}"))
        self._annotations()
        self._separator()
        return FieldNode(number, name, kind, requirement, value, doc)

    def _nested(self, token: Token, read: Callable[[], D]) -> D:
        """Read what may contain more of its kind."""
        if self._level == MOST_LEVELS:
            raise token.error(f"nested too deeply: at most {MOST_LEVELS} levels are read")
        self._level += 1
        node = read()
        self._level -= 1
        return node

    def _type(self, what: str = "a type") -> TypeNode:
        token = self._kind("word", what)
        count = _CONTAINERS.get(token.text, 0)
        items = self._nested(token, lambda: self._items(count)) if count else ()
        self._annotations()
        return TypeNode(token, items)

    def _items(self, count: int) -> tuple[TypeNode, ...]:
        self._cpp_type()
        self._expect("<")
        items = [self._type()]
        for _ in range(1, count):
            self._expect(",")
            items.append(self._type())
        self._expect(">")
        self._cpp_type()
        return tuple(items)

    def _cpp_type(self) -> None:
        if self._taken("cpp_type"):
            self._kind("literal", "a C++ type in quotes")

    def _value(self) -> ValueNode:
        token = self._next()
        if token.text == "[":
            return ValueNode(token, items=self._nested(token, self._listed))
        if token.text == "{":
            return ValueNode(token, pairs=self._nested(token, self._mapped))
        if token.kind in ("symbol", "end"):
            raise token.error(f"expected a value, found {token.shown}")
        return ValueNode(token)

    def _listed(self) -> tuple[ValueNode, ...]:
        items: list[ValueNode] = []
        while not self._taken("]"):
            items.append(self._value())
            self._separator()
        return tuple(items)

    def _mapped(self) -> tuple[tuple[ValueNode, ValueNode], ...]:
        pairs: list[tuple[ValueNode, ValueNode]] = []
        while not self._taken("}"):
            key = self._value()
            self._expect(":")
            pairs.append((key, self._value()))
            self._separator()
        return tuple(pairs)

    def _annotations(self) -> None:
        """Pass over ``(name = "value", name)``, which may follow nearly everything."""
        if not self._taken("("):
            return
        while not self._taken(")"):
            self._kind("word", "the name of an annotation, or ')'")
            if self._taken("=") and self._next().kind in ("symbol", "end"):
                raise self._tokens[self._at - 1].error("expected the value of an annotation")
            self._separator()
