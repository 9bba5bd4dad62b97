"""Thrift's types, as the codecs need them; linking.py makes them from a .thrift file."""

from typing import Any, TypeAlias

from msgspec import Struct

BOOL, I8, DOUBLE, I16, I32, I64, STRING, STRUCT, MAP, SET, LIST, UUID = 2, 3, 4, 6, 8, 10, 11, 12, 13, 14, 15, 16
BITS = {I8: 8, I16: 16, I32: 32, I64: 64}


class Scalar(Struct, frozen=True):
    """bool, i8 to i64, double, string, binary or uuid; string and binary have one code on the wire."""

    code: int
    word: str


class Enum(Struct, frozen=True):
    """An enum, on the wire an i32."""

    word: str
    numbers: dict[str, int]
    names: dict[int, str]
    code: int = I32


class Sequence(Struct, frozen=True):
    """A list, or a set, whose members are unique; ``parts`` is the number of types in it, itself included."""

    code: int
    item: "Type"
    parts: int

    @property
    def word(self) -> str:
        """The type as the language writes it."""
        return f"{'list' if self.code == LIST else 'set'}<{self.item.word}>"


class Mapping(Struct, frozen=True):
    """A map; ``parts`` as for Sequence."""

    key: "Type"
    value: "Type"
    parts: int
    code: int = MAP

    @property
    def word(self) -> str:
        """The type as the language writes it."""
        return f"map<{self.key.word},{self.value.word}>"


class Record(Struct, eq=False):
    """A struct, union or exception; ``fields`` are filled in after it is made, because it may contain itself."""

    word: str
    union: bool = False
    exception: bool = False
    fields: dict[int, "Field"] = {}
    doc: str = ""
    code: int = STRUCT


Type: TypeAlias = Scalar | Enum | Sequence | Mapping | Record


class Field(Struct, frozen=True):
    """A field of a record.

    Attributes:
        required: a value must be given.
        default: the default of the file as a neutral value; ``...`` if there is none.

    """

    name: str
    type: Type
    required: bool = False
    default: Any = ...
    doc: str = ""


class ThriftMethod(Struct, frozen=True):
    """A method.

    Attributes:
        args: the record of its arguments.
        reply: the record of the response: field 0 is the result, unless that is void, and the others are the declared
            exceptions. At most one of them is set.
        oneway: there is no response.

    """

    name: str
    args: Record
    reply: Record
    oneway: bool
    doc: str = ""


_STRING = Scalar(STRING, "string")
_I8 = Scalar(I8, "i8")
BINARY = Scalar(STRING, "binary")
SCALARS: dict[str, Scalar] = {
    "bool": Scalar(BOOL, "bool"),
    "byte": _I8,
    "i8": _I8,
    "i16": Scalar(I16, "i16"),
    "i32": Scalar(I32, "i32"),
    "i64": Scalar(I64, "i64"),
    "double": Scalar(DOUBLE, "double"),
    "string": _STRING,
    "slist": _STRING,  # an old word for it
    "binary": BINARY,
    "uuid": Scalar(UUID, "uuid"),
}


def is_named(key: Type) -> bool:
    """Tell whether keys of this type can be the names of a dict."""
    return isinstance(key, Enum) or (isinstance(key, Scalar) and key.code != DOUBLE and key is not BINARY)


def name_of(key: Any) -> str:
    """Write a key as the name in a dict."""
    return str(key).lower() if type(key) is bool else str(key)
