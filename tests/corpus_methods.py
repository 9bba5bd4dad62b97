"""The methods that the corpus calls; tests/corpus/README.md describes them."""

import asyncio
import math
from datetime import datetime
from decimal import Decimal
from typing import Any

from gateway import Fault, Registry
from handlers import validator1

registry = Registry()
Number = int | float | Decimal


@registry.register(run="inline")
def echo(x):  # type: ignore[no-untyped-def]
    return x


@registry.register(run="inline")
def echo_all(*args: Any) -> Any:
    return list(args)


@registry.register
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@registry.register
def subtract(minuend: Number, subtrahend: Number) -> Any:
    return minuend - subtrahend  # type: ignore[operator]


@registry.register(name="sum")
def total(*numbers: Number) -> Any:
    return sum(numbers)


@registry.register
def opt(a: Any, b: Any = 10) -> Any:
    return a + b


@registry.register
def get_data() -> list[Any]:
    return ["hello", 5]


@registry.register
def noparams() -> Any:
    return "ok"


for name in ("update", "notify_hello", "notify_sum"):

    @registry.register(name=name)
    async def notified(*args: Any) -> Any:
        del args


@registry.register
def fail(kind: Any) -> Any:
    if kind == "app":
        raise Fault(1234, "application failed", {"k": "v"})
    raise RuntimeError("secret-internal-detail")


@registry.register
async def slow(seconds: Any) -> Any:
    await asyncio.sleep(seconds)
    return "done"


@registry.register
def type_name(x: Any) -> Any:
    return type(x).__name__


@registry.register
def dt_parts(moment: datetime) -> Any:
    offset = moment.utcoffset()
    zone = "naive" if offset is None else int(offset.total_seconds() // 60)
    return [*moment.timetuple()[:6], moment.microsecond, zone]


@registry.register
def make_char(code: int) -> Any:
    return chr(code)


MADE = {
    "i32max": 2**31 - 1,
    "i32min": -(2**31),
    "i32max+1": 2**31,
    "i64max": 2**63 - 1,
    "i64max+1": 2**63,
    "nan": math.nan,
    "inf": math.inf,
    "-0.0": -0.0,
    "1e22": 1e22,
    "none": None,
    "intkey": {1: 2},
    "object": object(),
    "crlf": "a\r\nb",
    "cdata-end": "]]>",
    "big": "x" * 2**20,
}


@registry.register
def make(kind: str) -> Any:
    return MADE[kind]


for function in (
    validator1.array_of_structs,
    validator1.count_the_entities,
    validator1.easy_struct,
    validator1.echo_struct,
    validator1.many_types,
    validator1.moderate_size_array,
    validator1.nested_struct,
    validator1.simple_struct_return,
):
    registry.register(function)
