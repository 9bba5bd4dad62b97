"""Methods of every kind that the console shows, some of them hostile, for its tests and for its pictures."""

from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any

import tornado.web
from msgspec import Meta, Struct

from gateway import Context, Fault, Registry

registry = Registry()
HOSTILE = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'> [click](javascript:window.hacked=1)"
    " [data](data:text/html,<script>window.hacked=1</script>) <b>bold</b> `</code><script>window.hacked = 1</script>`"
)
NAMES = (
    "hostile.\"onmouseover='hacked=1'",
    "hostile.javascript:hacked",
    "hostile.${hacked}",
    "constructor",
    "toString",
)


class Page(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write("application")


application = tornado.web.Application([(r"/.*", Page)])


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Line(Struct):
    """One line of an order."""

    article: Annotated[str, Meta(min_length=1, max_length=20)]
    count: Annotated[int, Meta(ge=1, le=100, description="How many *pieces*.")]
    size: Size = Size.SMALL


class Order(Struct):
    """What a customer wants."""

    customer: str
    lines: list[Line]
    due: date | None = None
    labels: dict[str, int] = {}


@registry.register(name="math.add", run="inline")
def add(a: int, b: int = 1) -> int:
    """Add two integers."""
    return a + b


@registry.register(name="math.half", run="inline", aliases=["math.halve"], deprecated="use math.divide")
def half(x: float) -> float:
    """Divide by two."""
    return x / 2


@registry.register(name="shop.order", timeout=5)
def order(order: Order, note: str = "") -> dict[str, Any]:
    """Place an order.

    The order is checked first:

    1. the **customer** must be known,
    2. each `article` must be in the [catalogue](https://shop.example/catalogue).

    ## After that

    * the stock is reduced
    * the invoice is written

    ```
    shop.order(order={"customer": "Ada", "lines": []})
    ```
    """
    return {
        "customer": order.customer,
        "pieces": sum(line.count for line in order.lines),
        "due": order.due,
        "note": note,
    }


@registry.register(name="kinds.all", run="inline")
def kinds(  # noqa: PLR0917 - one of each
    flag: bool, at: datetime, data: bytes, either: int | str, pair: tuple[int, str], names: list[str]
) -> list[Any]:
    """Return the arguments as text."""
    return [flag, at.isoformat(), data.decode(), either, list(pair), names]


@registry.register(name="kinds.rest", run="inline")
def rest(first: str, *others: int) -> list[Any]:
    """Take any number of arguments."""
    return [first, *others]


@registry.register(name="kinds.named", run="inline")
def named(*, left: int, right: int = 0) -> int:
    """Take arguments by name only."""
    return left - right


@registry.register(name="fail.own", run="inline")
def own() -> None:
    """Answer with a fault of its own."""
    raise Fault(17, "the shelf is empty <b>really</b>")


@registry.register(name="fail.large", run="inline")
def large() -> int:
    """Return an integer that a double cannot hold."""
    return 2**53 + 1


@registry.register(name="guarded.who", run="inline")
def who(context: Context) -> str | None:
    """Return the name of the key."""
    return context.key


@registry.register(run="inline")
def echo(value: Any) -> Any:
    """Return the argument."""
    return value


def _hostile(value: str = HOSTILE) -> str:
    return value


for _name in NAMES:
    _hostile.__doc__ = HOSTILE
    registry.register(_hostile, name=_name, run="inline")


def _many(value: int = 0) -> int:
    """Return the argument; there are many methods like this one."""
    return value


for _number in range(500):
    registry.register(_many, name=f"many.group{_number // 100}.method{_number}", run="inline")


def _ledger() -> str:
    """Return the entries; there are two versions of it."""
    return "entries"


for _version in ("v1", "v2"):
    registry.register(_ledger, name="ledger.get", version=_version, run="inline")
