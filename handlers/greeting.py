"""A greeting and an echo: the smallest methods that there are."""

from typing import Any

from gateway import Fault, method


@method(run="inline")
def woca(name: str = "world") -> str:
    """Greet somebody."""
    if not name:
        raise Fault(1, "a name is needed")
    return f"Hello, {name}!"


@method(run="inline")
def echo(value: Any) -> Any:
    """Return the argument as it came."""
    return value
