"""Lists and dicts of ours that a service reads while a call runs.

RPyC has bytes for immutable values only. Of others the service gets a reference, and asks: how long, which item, what
comes next. ``Lent`` keeps what has been lent during a call, and answers; it can be read, and nothing else: no attribute
of ours is reached but the names in ``_READABLE``, and nothing of the service's is ever called.
"""

import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

Boxed: TypeAlias = tuple[int, Any]
IdPack: TypeAlias = tuple[str, int, int]

VALUE, TUPLE, LOCAL_REF, REMOTE_REF = 1, 2, 3, 4  # boxing.labels; local is whose side sends
PING, CLOSE, GETROOT, GETATTR, CALL, CALLATTR, REPR, STR, CMP, HASH, DIR = 1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13
DEL, INSPECT, BUFFITER = 15, 16, 17

_SIMPLE = frozenset({type(None), bool, int, float, str, bytes, type(NotImplemented)})
_LIST = frozenset({"__len__", "__getitem__", "__iter__", "__contains__", "__reversed__", "index", "count", "copy"})
_DICT = frozenset(
    {"__len__", "__getitem__", "__iter__", "__contains__", "__reversed__", "keys", "values", "items", "get", "copy"}
)
_ITERATOR = frozenset({"__iter__", "__next__", "__length_hint__"})
_VIEW = frozenset({"__len__", "__iter__", "__contains__", "__reversed__"})
_READABLE: dict[type, frozenset[str]] = {
    list: _LIST,
    dict: _DICT,
    **dict.fromkeys((type({}.keys()), type({}.values()), type({}.items())), _VIEW),
    **dict.fromkeys((type(iter([])), type(iter({})), type(iter({}.values())), type(iter({}.items()))), _ITERATOR),
    **dict.fromkeys((type(reversed([])), type(reversed({}))), _ITERATOR),
}
_COMPARISONS = frozenset({"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"})
_MOST_LENT = 100_000  # objects during one call


class NotLentError(Exception):
    """The service asks for what it cannot have."""


class Lent:
    """What a service may read during a call."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}
        self._numbers = itertools.count(1)

    def clear(self) -> None:
        """Take everything back."""
        self._objects.clear()

    def box(self, value: Any) -> Boxed:
        """Make a value ready to be sent: as it is, or as a reference."""
        kind = type(value)
        if kind in _SIMPLE:
            return VALUE, value
        if kind is tuple:
            return TUPLE, tuple(self.box(item) for item in value)
        if len(self._objects) >= _MOST_LENT:
            raise NotLentError("too many arguments are lists and dicts")
        number = next(self._numbers)
        self._objects[number] = value
        return REMOTE_REF, (f"{kind.__module__}.{kind.__name__}", id(kind), number)

    def get(self, id_pack: Any) -> Any:
        """Find what has been lent by its reference."""
        number = id_pack[2] if type(id_pack) is tuple and len(id_pack) == 3 else None
        if number not in self._objects:
            raise NotLentError("this argument is not available any more")
        return self._objects[number]

    def unbox(self, boxed: Any) -> Any:
        """Read an argument of a question: a plain value, or what has been lent."""
        label, value = boxed if type(boxed) is tuple and len(boxed) == 2 else (None, None)
        if label == VALUE:
            return value
        if label == TUPLE and type(value) is tuple:
            return tuple(self.unbox(item) for item in value)
        if label == LOCAL_REF:
            return self.get(value)
        raise NotLentError("objects of the service are not accepted")

    def answer(self, handler: Any, boxed: Any) -> Boxed:
        """Answer a question.

        Raises:
            Exception: whatever the answer is instead; an exception of Python's own, or NotLentError.

        """
        if handler == DEL:
            return VALUE, None  # all is taken back when the call ends
        args = self.unbox(boxed)
        if handler not in _HANDLERS or type(args) is not tuple:
            raise NotLentError("this request is not allowed")
        return self.box(_HANDLERS[handler](self, *args))

    def _method(self, owner: Any, name: Any) -> Any:
        if name not in _READABLE.get(type(owner), ()):
            raise AttributeError(f"cannot access {name!r}")
        return getattr(owner, name)

    def _call(self, method: Any, args: Any, kwargs: Any = ()) -> Any:
        owner = getattr(method, "__self__", None)
        if type(method) not in _METHODS or method.__name__ not in _READABLE.get(type(owner), ()):
            raise NotLentError("this cannot be called")
        return method(*args, **dict(kwargs))

    def _call_method(self, owner: Any, name: Any, args: Any, kwargs: Any = ()) -> Any:
        return self._call(self._method(owner, name), args, kwargs)

    def _compare(self, one: Any, other: Any, name: Any) -> Any:
        if type(one) not in _READABLE or name not in _COMPARISONS:
            raise AttributeError(f"cannot access {name!r}")
        return getattr(one, name)(other)

    def _names(self, owner: Any) -> tuple[str, ...]:
        return tuple(sorted(_READABLE.get(type(owner), ())))

    def _inspect(self, id_pack: Any) -> tuple[tuple[str, None], ...]:
        return tuple((name, None) for name in self._names(self.get(id_pack)))

    def _several(self, owner: Any, count: Any) -> tuple[Any, ...]:
        if type(owner) not in _READABLE or type(count) is not int:
            raise NotLentError("this cannot be read")
        return tuple(itertools.islice(owner, count))


_METHODS: tuple[type, ...] = (type([].index), type([].__len__))
_HANDLERS: dict[Any, Callable[..., Any]] = {
    PING: lambda _, data: data,
    GETATTR: Lent._method,  # noqa: SLF001 - they are its own
    CALL: Lent._call,  # noqa: SLF001
    CALLATTR: Lent._call_method,  # noqa: SLF001
    REPR: lambda _, owner: repr(owner),
    STR: lambda _, owner: str(owner),
    CMP: Lent._compare,  # noqa: SLF001
    HASH: lambda _, owner: hash(owner),
    DIR: Lent._names,  # noqa: SLF001
    INSPECT: Lent._inspect,  # noqa: SLF001
    BUFFITER: Lent._several,  # noqa: SLF001
}
