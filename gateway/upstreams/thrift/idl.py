"""What a .thrift file says of a service: its methods, and the types of what goes in and comes out.

    load(file, service)   the methods by name, inherited ones too; UpstreamConfigError says what is wrong

thriftpy2 parses the file; nothing else of it is used. It forgets two things that the language can say: whether a field
without ``required`` has the word ``optional``, and comments.
"""

import itertools
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from msgspec import Struct, structs
from thriftpy2.parser import load as parse
from thriftpy2.parser.exc import ThriftParserError
from thriftpy2.thrift import TType

from gateway.upstreams import UpstreamConfigError
from gateway.upstreams.options import nearest

BOOL, I8, DOUBLE, I16, I32, I64, STRING, STRUCT, MAP, SET, LIST = 2, 3, 4, 6, 8, 10, 11, 12, 13, 14, 15
BITS = {I8: 8, I16: 16, I32: 32, I64: 64}

_loads = itertools.count(1)


class Scalar(Struct, frozen=True):
    """bool, i8 to i64, double, string or binary; the last two have one code on the wire."""

    code: int
    word: str


class Enum(Struct, frozen=True):
    """An enum, on the wire an i32."""

    word: str
    numbers: dict[str, int]
    names: dict[int, str]
    code: int = I32


class Sequence(Struct, frozen=True):
    """A list, or a set, whose members come but once."""

    code: int
    item: "Type"

    @property
    def word(self) -> str:
        """The type as the language writes it."""
        return f"{'list' if self.code == LIST else 'set'}<{self.item.word}>"


class Mapping(Struct, frozen=True):
    """A map."""

    key: "Type"
    value: "Type"
    code: int = MAP

    @property
    def word(self) -> str:
        """The type as the language writes it."""
        return f"map<{self.key.word},{self.value.word}>"


class Record(Struct, eq=False):
    """A struct, union or exception; ``fields`` are filled in after it is made, for it may hold itself."""

    word: str
    union: bool = False
    fields: dict[int, "Field"] = {}
    code: int = STRUCT


Type: TypeAlias = Scalar | Enum | Sequence | Mapping | Record


class Field(Struct, frozen=True):
    """A field of a record; ``default`` tells whether the file has one."""

    name: str
    type: Type
    required: bool
    default: bool


class ThriftMethod(Struct, frozen=True):
    """A method.

    Attributes:
        args: the record of its arguments.
        reply: the record of what comes back: the field 0 is the result, unless that is void, and the others are the
            declared exceptions; one of them is set, or none.
        oneway: there is no reply.

    """

    name: str
    args: Record
    reply: Record
    oneway: bool


SCALARS = {
    TType.BOOL: Scalar(BOOL, "bool"),
    TType.BYTE: Scalar(I8, "i8"),
    TType.DOUBLE: Scalar(DOUBLE, "double"),
    TType.I16: Scalar(I16, "i16"),
    TType.I32: Scalar(I32, "i32"),
    TType.I64: Scalar(I64, "i64"),
    TType.STRING: Scalar(STRING, "string"),
    TType.BINARY: Scalar(STRING, "binary"),
}
BINARY = SCALARS[TType.BINARY]


def is_named(key: Type) -> bool:
    """Tell whether keys of this type can be the names of a dict."""
    return isinstance(key, Enum) or (isinstance(key, Scalar) and key.code != DOUBLE and key is not BINARY)


def load(file: str, service: str) -> dict[str, ThriftMethod]:
    """Read a service from a .thrift file.

    ``service`` may be empty where the file has just one.

    Raises:
        UpstreamConfigError: the file cannot be read or understood, or has no such service.

    """
    module = _parsed(file)
    services = {each.__name__: each for each in _meta(module, "services")}
    if not service and len(services) > 1:
        raise UpstreamConfigError(
            f"the idl {file} has several services: say which, service = one of {', '.join(services)}"
        )
    name = service or next(iter(services), "at all")
    if name not in services:
        raise UpstreamConfigError(f"the idl {file} has no service {name}{nearest(name, services)}")
    reading = _Reading(file, _unions(module))
    return {each: reading.method(services[name], each) for each in services[name].thrift_services}


def _parsed(file: str) -> ModuleType:
    """Parse a file; a name of its own for each time keeps thriftpy2 from giving another file's includes for its own."""
    path = Path(file)
    try:
        path.read_bytes()
        return parse(str(path), module_name=f"upstream{next(_loads)}.{path.stem}_thrift")
    except OSError as error:
        raise UpstreamConfigError(
            f"the idl {error.filename or file} cannot be read: {str(error.strerror).lower()}"
        ) from None
    except ThriftParserError as error:
        raise UpstreamConfigError(f"the idl {file} is not understood: {error}") from None
    except Exception as error:  # noqa: BLE001 - its parser fails with whatever the text leads it to
        raise UpstreamConfigError(f"the idl {file} is not understood: {type(error).__name__}: {error}") from None


def _meta(module: ModuleType, key: str) -> list[Any]:
    return list(getattr(module, "__thrift_meta__", {}).get(key, ()))


def _unions(module: ModuleType) -> set[Any]:
    return set(_meta(module, "unions")).union(*(_unions(each) for each in _meta(module, "includes")))


class _Reading:
    """The way from thriftpy2's classes to types; each class becomes one record, which may hold itself."""

    def __init__(self, file: str, unions: set[Any]) -> None:
        self._file = file
        self._unions = unions
        self._records: dict[Any, Record] = {}

    def method(self, service: Any, name: str) -> ThriftMethod:
        """Read a method."""
        result = getattr(service, f"{name}_result")
        args = self._record(getattr(service, f"{name}_args"))
        for number, field in args.fields.items():
            args.fields[number] = structs.replace(field, required=not field.default)  # None would break a server
        return ThriftMethod(name=name, args=args, reply=self._record(result), oneway=result.oneway)

    def _record(self, kind: Any) -> Record:
        if kind not in self._records:
            record = self._records[kind] = Record(word=kind.__name__, union=kind in self._unions)
            defaults = dict(kind.default_spec)
            record.fields = {
                number: Field(
                    spec[1],
                    self._type(spec[0] if len(spec) == 3 else spec[:3:2]),
                    spec[-1],
                    defaults[spec[1]] is not None,
                )
                for number, spec in kind.thrift_spec.items()
            }
        return self._records[kind]

    def _type(self, spec: Any) -> Type:
        code, inner = spec if isinstance(spec, tuple) else (spec, None)
        if code == TType.STRUCT:
            return self._record(inner)
        if code == TType.I32 and inner is not None:
            return Enum(word=inner.__name__, numbers=inner._NAMES_TO_VALUES, names=inner._VALUES_TO_NAMES)  # noqa: SLF001 - so the library names what it offers
        if code in (TType.LIST, TType.SET):
            return Sequence(code, self._type(inner))
        if code == TType.MAP:
            return Mapping(self._type(inner[0]), self._type(inner[1]))
        if code in SCALARS:
            return SCALARS[code]
        raise UpstreamConfigError(f"the idl {self._file} is not understood: define each type before it is used")
