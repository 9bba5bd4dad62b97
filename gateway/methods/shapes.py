"""Checks that msgspec does not make: members that a class does not have, and numbers in another notation.

A walk goes down a value beside its hint and returns the value as it is to be converted. ``shape_of`` makes three of
them for a hint, each None where it would do nothing:

    names    refuses members that the dataclass or struct of the hint does not have; goes before conversion. Other
             members of a TypedDict are left out, because its type allows them. Cuts
             datetimes to microseconds, which msgspec rounds: the last nanosecond of a year is not in the next one.
    numbers  also turns whole floats into ints where the hint has int; goes after a conversion that has failed
    texts    like numbers, and turns texts of ints beyond 53 bits into ints, for callers who have no such numbers
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from msgspec import Struct, inspect

from gateway.model.values import is_exact_double

_EXACT = 2**53  # up to here each whole number is a double of its own
_FINER = re.compile(r"(?<=:\d\d)(\.\d{6})\d+(?=[Zz+-]|$)", re.ASCII)  # what RFC 3339 has behind microseconds

_WIDE = re.compile(r"-?[1-9][0-9]{15,4298}", re.ASCII)

Walk: TypeAlias = Callable[[Any], Any]


class Shape(Struct, frozen=True):
    """The walks of a hint; see above."""

    names: Walk | None = None
    numbers: Walk | None = None
    texts: Walk | None = None


class UnknownFieldError(Exception):
    """A member that its class does not have, and where it is."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place

    def inside(self, step: str) -> "UnknownFieldError":
        """Put one more step before the place: ``[3]`` or ``.name``."""
        self.place = step + self.place
        return self


def shape_of(hint: Any) -> Shape:
    """Make the walks of a hint that msgspec can check."""
    node = inspect.type_info(hint)
    return Shape(_Maker(None).walk(node), _Maker(_whole).walk(node), _Maker(whole_or_text).walk(node))


class _Maker:
    """Makes a walk of each node of a hint; a class that is met again inside of itself is looked up when it is used."""

    def __init__(self, number: Walk | None) -> None:
        self._number = number
        self._classes: dict[int, Walk] = {}

    def walk(self, node: inspect.Type) -> Walk | None:
        """Make the walk of a node; None if there is nothing to do anywhere inside of it."""
        if isinstance(node, inspect.Metadata):
            return self.walk(node.type)
        if isinstance(node, inspect.UnionType):
            return self._union(node)
        if isinstance(node, inspect.DictType):
            inner = self.walk(node.value_type)
            return None if inner is None else _mapping(inner)
        if isinstance(node, inspect.ListType | inspect.SetType | inspect.FrozenSetType | inspect.VarTupleType):
            inner = self.walk(node.item_type)
            return None if inner is None else _array(inner)
        if isinstance(node, inspect.TupleType):
            return _row([self.walk(item) for item in node.item_types], most=None)
        if isinstance(node, _CLASSES):
            return self._class(node)
        if isinstance(node, inspect.DateTimeType | inspect.TimeType):
            return _cut
        return self._number if _is_int(node) else None

    def _class(self, node: Any) -> Walk:
        if id(node) in self._classes:
            return lambda value: self._classes[id(node)](value)  # noqa: PLW0108 - it is not made yet
        self._classes[id(node)] = _unchanged
        walks = [(field.encode_name, self.walk(field.type)) for field in node.fields]
        tag = getattr(node, "tag_field", None)
        if isinstance(node, inspect.NamedTupleType):
            made = _row([walk for _, walk in walks], most=None) or _unchanged
        elif getattr(node, "array_like", False):
            tagged = [] if tag is None else [None]
            made = _row([*tagged, *(walk for _, walk in walks)], most=len(tagged) + len(walks)) or _unchanged
        else:
            inner = {name: walk for name, walk in walks if walk is not None}
            names = frozenset(name for name, _ in walks) | ({tag} if tag else set())
            made = _object(None if isinstance(node, inspect.TypedDictType) else names, inner)
        self._classes[id(node)] = made
        return made

    def _union(self, node: inspect.UnionType) -> Walk | None:
        kinds = {list: _ARRAYS, dict: (inspect.DictType, *_CLASSES)}
        chosen: dict[type, Walk] = {}
        for kind, nodes in kinds.items():
            parts = [part for part in node.types if isinstance(part, nodes) and _is_array(part) is (kind is list)]
            walks = [(part, walk) for part in parts if (walk := self.walk(part)) is not None]
            if walks:
                chosen[kind] = walks[0][1] if len(parts) == 1 else _tagged(walks)
        floats = any(isinstance(part, inspect.FloatType | inspect.DecimalType) for part in node.types)
        if self._number is not None and any(map(_is_int, node.types)):
            if not floats:
                chosen[float] = self._number
            if not any(isinstance(part, _TEXTS) for part in node.types):
                chosen[str] = self._number
        if any(isinstance(part, inspect.DateTimeType | inspect.TimeType) for part in node.types):
            chosen[str] = _cut
        return (lambda value: chosen.get(type(value), _unchanged)(value)) if chosen else None


def _is_array(node: inspect.Type) -> bool:
    return isinstance(node, _ARRAYS) or bool(getattr(node, "array_like", False))


def _is_int(node: inspect.Type) -> bool:
    values: Iterable[Any] = ()
    if isinstance(node, inspect.EnumType):
        values = (member.value for member in node.cls)
    elif isinstance(node, inspect.LiteralType):
        values = node.values
    return isinstance(node, inspect.IntType) or any(type(value) is int for value in values)


def _unchanged(value: Any) -> Any:
    return value


def _whole(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() and abs(value) <= _EXACT else value


def whole_or_text(value: Any) -> Any:
    """Return the int of a whole float, and of the text of an int beyond 53 bits; anything else as it is."""
    if type(value) is str and _WIDE.fullmatch(value) and not is_exact_double(number := int(value)):
        return number
    return _whole(value)


def _cut(value: Any) -> Any:
    return _FINER.sub(r"\1", value) if type(value) is str else value


def _array(inner: Walk) -> Walk:
    def walk(value: Any) -> Any:
        if type(value) is not list:
            return value
        walked: list[Any] = []
        try:
            for item in value:
                walked.append(inner(item))  # noqa: PERF401 - its length tells the place
        except UnknownFieldError as error:
            raise error.inside(f"[{len(walked)}]") from None
        return walked

    return walk


def _row(walks: list[Walk | None], most: int | None) -> Walk | None:
    """Walk an array whose items have types of their own; ``most`` is how many a struct has."""
    if most is None and not any(walks):
        return None

    def walk(value: Any) -> Any:
        if type(value) is not list:
            return value
        if most is not None and len(value) > most:
            raise UnknownFieldError(f"[{most}]")
        walked = list(value)
        for index, (item, inner) in enumerate(zip(value, walks, strict=False)):
            try:
                walked[index] = item if inner is None else inner(item)
            except UnknownFieldError as error:
                raise error.inside(f"[{index}]") from None
        return walked

    return walk


def _mapping(inner: Walk) -> Walk:
    return lambda value: _members(value, dict.fromkeys(value, inner)) if type(value) is dict else value


def _object(names: frozenset[str] | None, inner: dict[str, Walk]) -> Walk:
    def walk(value: Any) -> Any:
        if type(value) is not dict:
            return value
        if names is not None and not value.keys() <= names:
            raise UnknownFieldError(f".{next(name for name in value if name not in names)[:80]}")
        return _members(value, inner) if inner else value

    return walk


def _members(value: dict[str, Any], inner: dict[str, Walk]) -> dict[str, Any]:
    walked = dict(value)
    for name, walk in inner.items():
        try:
            if name in value:
                walked[name] = walk(value[name])
        except UnknownFieldError as error:
            raise error.inside(f".{name[:80]}") from None
    return walked


def _tagged(walks: list[tuple[Any, Walk]]) -> Walk:
    """Choose among structs by the tag that the value has."""
    by_tag = {part.tag: walk for part, walk in walks}
    tag_field = walks[0][0].tag_field

    def walk(value: Any) -> Any:
        tag = value.get(tag_field) if type(value) is dict else next(iter(value), None)
        return by_tag[tag](value) if isinstance(tag, str | int) and tag in by_tag else value

    return walk


_ARRAYS = (
    inspect.ListType,
    inspect.SetType,
    inspect.FrozenSetType,
    inspect.VarTupleType,
    inspect.TupleType,
    inspect.NamedTupleType,
)
_CLASSES = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType, inspect.NamedTupleType)
_TEXTS = (
    inspect.StrType,
    inspect.BytesType,
    inspect.ByteArrayType,
    inspect.MemoryViewType,
    inspect.DecimalType,
    inspect.EnumType,
    inspect.LiteralType,
)
