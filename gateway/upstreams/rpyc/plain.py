"""Results of an RPyC service -> neutral values.

    await Plain(connection, depth, items).value(boxed)    NotPlainError says what is not, and where

What is immutable has come whole. Of lists and dicts a reference has come, and they are read here, each in one request
for its items and, for a dict, one for each value; then the reference is given back. A datetime is read as text. Of an
object of another class the names of its attributes are asked for, once for each class: a namedtuple, and a subclass of
a list, set or dict, is read like these, a dataclass or Enum by its ``repr``. Everything else is refused.
"""

import re
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any, cast

from gateway.model.values import EncodingError
from gateway.upstreams.rpyc import shown
from gateway.upstreams.rpyc.connection import Connection, RemoteError
from gateway.upstreams.rpyc.lent import (
    BUFFITER,
    CALLATTR,
    DIR,
    LOCAL_REF,
    REMOTE_REF,
    REPR,
    STR,
    TUPLE,
    VALUE,
    Boxed,
    IdPack,
    NotLentError,
)

_SEQUENCES = frozenset(
    {
        *(f"builtins.{name}" for name in ("list", "set", "frozenset", "generator", "range")),
        *(f"builtins.dict_{name}" for name in ("keys", "values", "items")),
        "collections.deque",
    }
)
_GENERATOR = "builtins.generator"
_MAPPINGS = frozenset({"builtins.dict", "collections.OrderedDict", "collections.defaultdict", "collections.Counter"})
_TEXTS = frozenset({"datetime.date", "datetime.time", "decimal.Decimal", "uuid.UUID"})
_MOMENT = "datetime.datetime"
_SPAN = "datetime.timedelta"
_BYTES = "builtins.bytearray"
_SPAN_TEXT = re.compile(r"(?:(-?\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d{6})?)")
_LONGEST_NAME = 100  # characters of a class's name that are quoted
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_AT_ONCE = 200  # values of a dict that are asked for at once
_ITEMS, _MEMBERS, _SHOWN = "items", "members", "shown"
# How objects of a class are read, by attributes that it has; the first line that fits counts.
_KINDS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"__dataclass_fields__"}), _SHOWN),
    (frozenset({"__attrs_attrs__"}), _SHOWN),
    (frozenset({"__struct_fields__"}), _SHOWN),
    (frozenset({"__pydantic_fields__"}), _SHOWN),
    (frozenset({"_value2member_map_"}), _SHOWN),  # an Enum of ints or texts
    (frozenset({"name", "value", "__module__"}), _SHOWN),  # another Enum; what is none is written otherwise
    (frozenset({"_fields", "_asdict", "__iter__"}), _ITEMS),  # a namedtuple
    (frozenset({"fromkeys", "popitem", "__getitem__"}), _MEMBERS),
    (frozenset({"append", "extend", "__iter__"}), _ITEMS),
    (frozenset({"isdisjoint", "issubset", "__iter__"}), _ITEMS),
)


class NotPlainError(EncodingError):
    """A result is not plain data: why, and where."""


def generator_of(boxed: Any) -> IdPack | None:
    """Return the reference to a generator, whose values can be had one by one; None for any other result."""
    label, content = boxed if type(boxed) is tuple and len(boxed) == 2 else (None, None)
    if label != REMOTE_REF or not _is_reference(content):
        return None
    reference = cast("IdPack", content)
    return reference if reference[0] == _GENERATOR else None


async def each(connection: Connection, generator: IdPack, depth: int, items: int) -> AsyncGenerator[Any, None]:
    """Give the values of a generator, each as large as a result may be; the service runs on when it is asked.

    Raises:
        Exception: as ``Plain.value`` does.

    """
    while True:
        connection.begin()
        values = await Plain(connection, depth, items).following(generator)
        if not values:
            break
        yield values[0]
    connection.forget([generator])


class Plain:
    """One result on its way; at most ``items`` items in all of it, on ``depth`` levels."""

    def __init__(self, connection: Connection, depth: int, items: int) -> None:
        self._connection = connection
        self._depth = depth
        self._left = items
        self._references: list[IdPack] = []
        self._kinds: dict[tuple[str, int], str | None] = {}
        self._weights: dict[int, int] = {}

    async def value(self, boxed: Any) -> Any:
        """Read a result, and give its references back.

        Raises:
            NotPlainError: it is no plain data, or too much.
            RemoteError, BadUpstream, OSError, EOFError: the service does not tell.

        """
        try:
            return await self._value(boxed, self._depth)
        finally:
            self._connection.forget(self._references)

    async def _value(self, boxed: Any, depth: int) -> Any:
        content: Any
        label, content = boxed if type(boxed) is tuple and len(boxed) == 2 else (None, None)
        if label == VALUE:
            return self._whole(content, depth)
        if label == TUPLE and type(content) is tuple:
            return await self._several(content, depth)
        if label == LOCAL_REF:
            return self._returned(content)
        if label == REMOTE_REF and _is_reference(content):
            self._references.append(content)
            return await self._object(content, depth)
        raise NotPlainError("the response is not RPyC")

    def _whole(self, value: Any, depth: int) -> Any:
        """Turn an immutable value into a neutral one: tuples and frozensets are lists."""
        if type(value) in _SCALARS:
            return value
        if type(value) not in (tuple, frozenset):
            raise _no_data(type(value).__name__)
        self._count(len(value), depth)
        items: list[Any] = []
        for index, item in enumerate(value):
            try:
                items.append(self._whole(item, depth - 1))
            except NotPlainError as error:
                raise error.inside(f"[{index}]") from None
        return items

    def _count(self, items: int, depth: int) -> None:
        self._left -= items
        if self._left < 0:
            raise NotPlainError("more items than the option items allows")
        if depth == 0:
            raise NotPlainError("nested too deeply")

    def _returned(self, id_pack: Any) -> Any:
        """Take back what the service got from us."""
        try:
            value = self._connection.lent.get(id_pack)
        except NotLentError:
            value = None
        if type(value) not in (list, dict):
            raise NotPlainError("an object is not plain data")
        if id(value) not in self._weights:
            self._weights[id(value)] = _weight(value)
        self._connection.charge(self._weights[id(value)])  # so that few bytes do not become many
        return value

    async def _object(self, reference: IdPack, depth: int) -> Any:
        name = reference[0]
        if name in _SEQUENCES:
            return await self._several(await self._items(reference), depth)
        if name in _MAPPINGS:
            return await self._members(reference, depth)
        if name == _BYTES:
            return await self._bytes(reference)
        if name in _TEXTS or name in (_MOMENT, _SPAN):
            return _read_text(name, await self._connection.request(STR, (LOCAL_REF, reference)))
        try:
            kind = await self._kind(reference)
            if kind == _SHOWN:
                return self._shown(await self._connection.request(REPR, (LOCAL_REF, reference)), depth)
        except (RemoteError, ValueError):
            raise _no_data(name) from None
        if kind == _ITEMS:
            return await self._several(await self._items(reference), depth)
        if kind == _MEMBERS:
            return await self._members(reference, depth)
        raise _no_data(name)

    async def _kind(self, reference: IdPack) -> str | None:
        """Find out how objects of a class are read; None if they are not."""
        key = reference[0], reference[1]
        if key not in self._kinds:
            label, names = await self._connection.request(DIR, (LOCAL_REF, reference))
            known = frozenset(names) if label == VALUE and type(names) is tuple else frozenset()
            self._kinds[key] = next((kind for attributes, kind in _KINDS if attributes <= known), None)
        return self._kinds[key]

    def _shown(self, boxed: Boxed, depth: int) -> Any:
        label, text = boxed
        if label != VALUE or type(text) is not str:
            raise NotPlainError("the response is not RPyC")
        return shown.read(text, depth, self._count)

    async def _bytes(self, reference: IdPack) -> bytes:
        items = [content for _, content in await self._items(reference)]
        self._count(len(items), self._depth)
        try:
            return bytes(items)
        except (TypeError, ValueError):
            raise NotPlainError("the response is not RPyC") from None

    async def _items(self, reference: IdPack) -> tuple[Any, ...]:
        """Ask for all items of something, and for one more than may be."""
        asked = (LOCAL_REF, reference), (VALUE, self._left + 1)
        label, items = await self._connection.request(BUFFITER, *asked)
        if label == VALUE and type(items) is tuple:
            return tuple((VALUE, item) for item in items)
        return items if label == TUPLE and type(items) is tuple else ()

    async def following(self, reference: IdPack) -> list[Any]:
        """Ask a generator for its next value, and wait until it has one; none where it has ended.

        Raises:
            Exception: as ``value`` does.

        """
        label, items = await self._connection.request(BUFFITER, (LOCAL_REF, reference), (VALUE, 1))
        if label not in (VALUE, TUPLE) or type(items) is not tuple or len(items) > 1:
            raise NotPlainError("the response is not RPyC")
        return [await self.value((VALUE, item) if label == VALUE else item) for item in items]

    async def _several(self, boxes: tuple[Any, ...], depth: int) -> list[Any]:
        self._count(len(boxes), depth)
        items: list[Any] = []
        for index, boxed in enumerate(boxes):
            items.append(await self._inside(f"[{index}]", boxed, depth))
        return items

    async def _members(self, reference: IdPack, depth: int) -> dict[str, Any]:
        keys = await self._items(reference)
        self._count(len(keys), depth)
        names = [self._name(boxed) for boxed in keys]
        members: dict[str, Any] = {}
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            asked: list[tuple[Boxed, ...]] = [
                ((LOCAL_REF, reference), (VALUE, "__getitem__"), (VALUE, (name,)), (VALUE, ())) for name in some
            ]
            values = await self._connection.requests(CALLATTR, asked)
            for name, boxed in zip(some, values, strict=True):
                members[name] = await self._inside(f".{name[:80]}", boxed, depth)
        return members

    def _name(self, boxed: Any) -> str:
        label, name = boxed
        if label != VALUE or type(name) is not str:
            raise NotPlainError("a member's name is not a string")
        return name

    async def _inside(self, step: str, boxed: Any, depth: int) -> Any:
        try:
            return await self._value(boxed, depth - 1)
        except NotPlainError as error:
            raise error.inside(step) from None


def _weight(value: Any) -> int:
    """Return how many bytes a value has at least."""
    if type(value) is list:
        return 2 + sum(map(_weight, value))
    if type(value) is dict:
        return 2 + sum(len(name) + _weight(member) for name, member in value.items())
    return len(value) if type(value) in (str, bytes) else 1


def _is_reference(content: Any) -> bool:
    return type(content) is tuple and [type(part) for part in content] == [str, int, int]


def _no_data(kind: str) -> NotPlainError:
    """Refuse an object by its class, whose name is the service's own text."""
    name = kind.rpartition(".")[2]
    named = f" of the class {name}" if name.isidentifier() and len(name) <= _LONGEST_NAME else ""
    return NotPlainError(f"an object{named} is not plain data")


def _span(text: str) -> float:
    found = _SPAN_TEXT.fullmatch(text)
    if found is None:
        raise ValueError(text)
    days, hours, minutes, seconds = found.groups(default="0")
    return (int(days) * 24 + int(hours)) * 3600 + int(minutes) * 60 + float(seconds)


def _read_text(name: str, boxed: Boxed) -> Any:
    text = boxed[1] if type(boxed) is tuple and boxed[0] == VALUE else None
    if type(text) is not str:
        raise NotPlainError("the response is not RPyC")
    try:
        if name == _SPAN:
            return _span(text)
        return datetime.fromisoformat(text) if name == _MOMENT else text
    except ValueError:
        raise NotPlainError("a datetime or timedelta is written in an unknown way") from None
