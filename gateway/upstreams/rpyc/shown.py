"""What an object of a service shows of itself by ``repr``, as a neutral value.

    read("Point(x=1, color=<Color.RED: 1>)", count)    {"x": 1, "color": 1}; ValueError for what is written otherwise

RPyC lets nobody ask for the fields of an object, but for its text. That of a dataclass, an Enum, an attrs class, a
msgspec struct or a pydantic model says all of it, in Python's own notation. It is read here, and never evaluated:
names have no meaning but the few in ``_CLASSES``.
"""

import ast
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any, TypeAlias

Count: TypeAlias = Callable[[int, int], None]

_NAME = r"(?:[^\W\d]\w*|<locals>)(?:\.(?:[^\W\d]\w*|<locals>))*"
_ESCAPE = r"\\(?:[\\'\"nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})"
_TOKEN = re.compile(
    rf"""\s*(?:
    (?P<text>b?(?:'(?:[^'\\\n\0]|{_ESCAPE})*'|"(?:[^"\\\n\0]|{_ESCAPE})*"))
    |(?P<number>-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|inf\b|nan\b))
    |(?P<name>{_NAME})
    |(?P<enum><[^\W\d][\w.|]*:)
    |(?P<class><class\ '{_NAME}'>)
    |(?P<mark>[()\[\]{{}},:=>])
    )\s*""",
    re.VERBOSE | re.DOTALL,
)
_CONSTANTS = {"None": None, "True": True, "False": False}
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_END = ("end", "")
_ZONE = "datetime.timezone"


def read(text: str, depth: int, count: Count) -> Any:
    """Read a text; ``count`` is told how many items there are, and on which of ``depth`` levels, and may raise.

    Raises:
        ValueError: it is not the notation of plain data.

    """
    reader = _Reader(text, count)
    value = reader.value(depth)
    reader.expect("end")
    return value


class _Reader:
    """A place among the tokens of a text."""

    def __init__(self, text: str, count: Count) -> None:
        self._tokens = _tokens(text)
        self._next = next(self._tokens)
        self._count = count

    def _take(self) -> tuple[str, str]:
        taken, self._next = self._next, next(self._tokens, _END)
        return taken

    def expect(self, kind: str, written: str = "") -> None:
        """Take a token that must be there."""
        found = self._take()
        if found != (kind, written):
            raise ValueError(f"unexpected {found[1][:20]!r}")

    def value(self, depth: int) -> Any:
        """Read a value."""
        kind, written = self._take()
        if kind == "text":
            return _literal(written)
        if kind == "number":
            return int(written) if written.removeprefix("-").isdigit() else float(written)
        if kind == "enum":
            self._count(0, depth)
            value = self.value(depth - 1)
            self.expect("mark", ">")
            return value
        if kind == "name":
            return self._named(written, depth)
        if kind == "mark" and written in _CLOSING:
            return self._several(_CLOSING[written], depth)
        raise ValueError(f"unexpected {written[:20]!r}")

    def _several(self, closing: str, depth: int) -> Any:
        """Read the items of a list, tuple or set, or the members of a dict."""
        items: list[Any] = []
        members: dict[str, Any] = {}
        self._count(0, depth)
        while self._next != ("mark", closing):
            self._count(1, depth)
            item = self.value(depth - 1)
            if closing == "}" and self._next == ("mark", ":"):
                self._take()
                members[_text(item)] = self.value(depth - 1)
            else:
                items.append(item)
            self._separate(closing)
        self._take()
        if items and members:
            raise ValueError("neither a set nor a dict")
        return members if closing == "}" and not items else items

    def _separate(self, closing: str) -> None:
        if self._next != ("mark", closing):
            self.expect("mark", ",")

    def _named(self, name: str, depth: int) -> Any:
        """Read a constant, or an object: what its class is made with."""
        if self._next != ("mark", "("):
            if name in _CONSTANTS:
                return _CONSTANTS[name]
            raise ValueError(f"unexpected {name[:20]!r}")
        self._take()
        self._count(0, depth)
        args: list[Any] = []
        fields: dict[str, Any] = {}
        while self._next != ("mark", ")"):
            self._count(1, depth)
            if self._next[0] == "class":
                self._take()
            elif self._next[0] == "name" and self._next[1] not in _CONSTANTS:
                self._argument(args, fields, depth)
            else:
                args.append(self.value(depth - 1))
            self._separate(")")
        self._take()
        return _made(name, args, fields)

    def _argument(self, args: list[Any], fields: dict[str, Any], depth: int) -> None:
        """Read an argument that begins with a name: its own, or that of a class."""
        _, name = self._take()
        if self._next == ("mark", "="):
            self._take()
            fields[name] = self._zone(depth) if self._next[1].startswith(_ZONE) else self.value(depth - 1)
        else:
            args.append(self._named(name, depth - 1))

    def _zone(self, depth: int) -> tzinfo:
        """Read the zone of a datetime."""
        _, name = self._take()
        if name == f"{_ZONE}.utc":
            return UTC
        self.expect("mark", "(")
        ahead = self.value(depth - 1)
        self.expect("mark", ")")
        if name != _ZONE or type(ahead) is not float:
            raise ValueError(f"an unknown zone {name[:40]!r}")
        try:
            return timezone(timedelta(seconds=ahead))
        except OverflowError:
            raise ValueError("a zone beyond all days") from None


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise ValueError(f"unexpected {text[at : at + 20]!r}")
        yield found.lastgroup, found[found.lastgroup]
        at = found.end()
    yield _END


def _literal(written: str) -> str | bytes:
    try:
        value: str | bytes = ast.literal_eval(written)  # it is one literal, with nothing inside of it
    except SyntaxError:
        raise ValueError("a text is not one") from None
    return value


def _text(name: Any) -> str:
    if type(name) is not str:
        raise ValueError("a member's name is not a string")
    return name


def _made(name: str, args: list[Any], fields: dict[str, Any]) -> Any:
    """Make the value of an object: by its class, or the fields of one that has nothing but fields."""
    has_fields_only = not args and not any(isinstance(value, tzinfo) for value in fields.values())
    make = _CLASSES.get(name)
    if has_fields_only and (make is None or (fields and not name.startswith("datetime."))):
        return fields
    if make is None:
        raise ValueError(f"an unknown object {name[:20]!r}")
    try:
        return make(*args, **fields)
    except (TypeError, OverflowError):
        raise ValueError(f"an unknown {name[:20]}") from None


def _members(*given: Any) -> dict[str, Any]:
    """Make a dict of a dict, or of the pairs of an OrderedDict."""
    (members,) = given or ({},)
    return members if type(members) is dict else {_text(key): value for key, value in members}


def _bytes(*given: Any) -> bytes:
    """Take the bytes of a bytearray; of an int, Python would make so many bytes, which nothing has bounded."""
    (content,) = given or (b"",)
    if type(content) is not bytes:
        raise ValueError("a bytearray is not made of bytes")
    return content


_CLASSES: dict[str, Callable[..., Any]] = {
    "Decimal": str,
    "UUID": str,
    "OrderedDict": _members,
    "defaultdict": _members,
    "Counter": _members,
    "set": list,
    "frozenset": list,
    "deque": lambda items, maxlen=None: items,
    "bytearray": _bytes,
    "datetime.datetime": datetime,
    "datetime.date": lambda *parts: date(*parts).isoformat(),
    "datetime.time": lambda *parts: time(*parts).isoformat(),
    "datetime.timedelta": lambda **parts: timedelta(**parts).total_seconds(),
}
