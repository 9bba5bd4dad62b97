"""An RPyC server to stand behind a gateway: python -m tests.upstreams.rpyc_program PORT; with TLS, if CERT is set."""

import collections
import decimal
import enum
import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, NamedTuple

import msgspec
import rpyc  # type: ignore[import-untyped]
from rpyc.utils.authenticators import SSLAuthenticator  # type: ignore[import-untyped]
from rpyc.utils.server import ThreadedServer  # type: ignore[import-untyped]

from tests.upstreams import programs


def copied(value: Any) -> Any:
    """Copy what is lent, as a service does that keeps it."""
    if isinstance(value, dict):
        return {name: copied(value[name]) for name in value}
    return [copied(item) for item in value] if isinstance(value, list) else value


class Color(enum.Enum):
    RED = 1
    DARK = ("a>b", None)


class Level(enum.IntEnum):
    HIGH = 3


class Name(enum.StrEnum):
    ADA = "Ada"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Order:
    number: int
    text: str = ""
    things: list[Any] = field(default_factory=list)
    pair: Any = None

    @property
    def total(self) -> int:
        return 5


@dataclass
class Quiet:
    number: int

    def __repr__(self) -> str:
        return f"<an order of {self.number}>"


@dataclass
class Broken:
    number: int

    def __repr__(self) -> str:
        raise RuntimeError("secret")


class Point(msgspec.Struct):
    x: int
    inner: Any = None


class Row(list[Any]):
    pass


class Table(dict[str, Any]):
    pass


class Crowd(set[int]):
    pass


def order_in_itself() -> Order:
    order = Order(1)
    order.things.append(order)
    return order


class Service(rpyc.Service):  # type: ignore[misc]
    """The common methods, and the articles' ``cal``."""

    exposed_add = staticmethod(programs.add)
    exposed_subtract = staticmethod(programs.subtract)
    exposed_multiply = staticmethod(programs.multiply)
    exposed_divide = staticmethod(programs.divide)
    exposed_echo = staticmethod(programs.echo)
    exposed_pause = staticmethod(programs.pause)
    exposed_mark = staticmethod(programs.mark)
    exposed_getObj = staticmethod(programs.get_object)  # noqa: N815 - as the articles call it
    exposed_search = staticmethod(programs.search)

    def exposed_sendObj(self, data: Any) -> bool:  # noqa: N802 - likewise
        return programs.send_object(copied(data))

    def exposed_cal(self, num: float) -> float:
        """Return the square."""
        return num**2

    def cal(self, num: float) -> float:
        return -num

    def secret(self) -> str:
        return "secret"

    def exposed_count(self, most: int, fail_at: int = -1) -> Iterator[int]:
        for number in range(most):
            if number == fail_at:
                raise RuntimeError("enough")
            yield number

    def exposed_flood(self, path: str) -> Iterator[str]:
        return programs.flood(path)

    def exposed_make(self, kind: str, size: int = 3) -> Any:
        @dataclass
        class Local:
            raw: bytes

        loop: list[Any] = []
        loop.append(loop)
        made: dict[str, Any] = {
            "list": lambda: [number * 1.5 for number in range(size)],
            "rows": lambda: [[number, str(number)] for number in range(size)],
            "tuple": lambda: tuple(range(size)),
            "set": lambda: {7},
            "frozenset": lambda: frozenset({7}),
            "deque": lambda: collections.deque([1, [2]]),
            "dict": lambda: {f"k{number}": [number, {"n": None}] for number in range(size)},
            "ordered": lambda: collections.OrderedDict(b=1, a=2),
            "generator": lambda: (number for number in range(size)),
            "endless": lambda: (1 for _ in iter(int, 1)),
            "iterator": lambda: iter([1]),
            "slice": lambda: (1, slice(1, 2)),
            "moment": lambda: datetime(2026, 11, 20, 12, 30, 1),
            "zoned": lambda: datetime(2026, 11, 20, 12, 30, 1, tzinfo=UTC),
            "day": lambda: date(2026, 11, 20),
            "decimal": lambda: decimal.Decimal("1.50"),
            "uuid": lambda: uuid.UUID(int=5),
            "bytes": lambda: b"\0\xff" * size,
            "big": lambda: 10**4000,
            "bytearray": lambda: bytearray(b"\0\xff"),
            "range": lambda: range(size),
            "keys": {"a": [1]}.keys,
            "values": {"a": [1]}.values,
            "items": {"a": [1]}.items,
            "counter": lambda: collections.Counter("aa"),
            "span": lambda: timedelta(days=-1, seconds=0, milliseconds=500),
            "second": lambda: timedelta(seconds=1),
            "pair": lambda: Pair(1, [Color.RED]),
            "color": lambda: [Color.RED, Color.DARK, Level.HIGH, Name.ADA, Access.READ | Access.WRITE],
            "order": lambda: Order(1, 'it\'s "x"', [Color.DARK], Pair(1.5, None)),
            "rich": lambda: [Order(number) for number in range(size)],
            "local": lambda: Local(b"\0\xff"),
            "things": lambda: Order(
                1,
                things=[
                    decimal.Decimal("1.50"),
                    uuid.UUID(int=5),
                    date(2026, 1, 2),
                    timedelta(days=-1, milliseconds=500),
                    {1},
                    frozenset({2}),
                    set(),
                    collections.OrderedDict(a=1),
                    collections.OrderedDict(),
                    collections.defaultdict(list, {"b": [None, True, -2, 1e300]}),
                    collections.Counter("aa"),
                    collections.deque([1], maxlen=3),
                    bytearray(b"x"),
                    (1,),
                    (),
                    {},
                ],
            ),
            "times": lambda: Order(
                1,
                things=[
                    datetime(2026, 1, 2, 3, 4, 5, 6),
                    datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
                    datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=-1))),
                ],
            ),
            "struct": lambda: Point(x=1),
            "many": lambda: Order(1, things=[0] * size),
            "row": lambda: Row([1, [2]]),
            "table": lambda: Table(a=[1]),
            "crowd": lambda: Crowd({1}),
            "quiet": lambda: Quiet(1),
            "broken": lambda: Broken(1),
            "holder": lambda: Order(1, things=[object()]),
            "zone": lambda: Order(1, things=[UTC]),
            "itself": order_in_itself,
            "nest": lambda: Order(1, things=eval("[" * 90 + "]" * 90)),  # noqa: S307
            "heavy": lambda: {f"k{number}": "x" * 30_000 for number in range(size)},
            "key": lambda: [{"a": {1: 2}}],
            "object": lambda: [1, (2, {"o": object()})],
            "complex": lambda: 1j,
            "class": lambda: Service,
            "self": lambda: self,
            "cycle": lambda: loop,
            "deep": lambda: eval("(" * 90 + "1" + ",)" * 90),  # noqa: S307
            "long": lambda: "x" * size,
        }
        return made[kind]()

    def exposed_read(self, data: Any) -> Any:
        """Read what is lent in all the ways of reading."""
        return (
            type(data).__name__,
            isinstance(data, list),
            len(data["list"]),
            data["list"][1],
            data["list"][-2:],
            [item for item in data["list"] if item != 2],
            sorted(data),
            sorted(data.keys()),
            tuple(sorted(name for name, _ in data.items())),
            [type(value).__name__ for value in data.values()],
            data.get("missing", 5),
            "list" in data,
            3 in data["list"],
            data["list"].index(3),
            str(data["list"]),
            data["list"] == data["same"],
            data["list"] != data["same"],
            data["list"] == (1, 2, 3),
            list(reversed(data["list"])),
            data["empty"] or "empty",
        )

    def exposed_reach(self, data: Any, how: str) -> Any:
        """Reach for what is not lent."""
        reach: dict[str, Any] = {
            "class": lambda: data.__class__.__mro__,
            "dict": lambda: data.__dict__,
            "reduce": lambda: data.__reduce_ex__(2),
            "append": lambda: data.append(1),
            "set": lambda: data.__setitem__(0, 1),
            "attribute": lambda: setattr(data, "x", 1),
            "sort": lambda: data.sort(key=print),
            "function": lambda: data.index.__globals__,
            "unlent": lambda: data.index(object()),
            "equal": lambda: data == [1, 2],
            "hash": lambda: hash(data),
        }
        return reach[how]()

    def exposed_add_up(self, number: int) -> int:
        """Return the sum of what has come over this connection."""
        self._sum: int = getattr(self, "_sum", 0) + number
        return self._sum

    def exposed_keep(self, data: Any) -> None:
        self._kept = data

    def exposed_kept(self) -> Any:
        return self._kept[0]

    def exposed_crash(self, kind: str) -> None:
        class OwnError(Exception):
            pass

        raise {
            "own": OwnError("a reason", 5),
            "object": ValueError(object()),
            "exit": SystemExit(3),
            "stop": StopIteration(),
            "none": ValueError(),
            "denied": AttributeError("cannot access 'nothing'"),
        }[kind]


if __name__ == "__main__":
    cert = os.environ.get("CERT")
    authenticator = None if cert is None else SSLAuthenticator(cert, cert)
    ThreadedServer(Service, hostname="127.0.0.1", port=int(sys.argv[1]), authenticator=authenticator).start()
