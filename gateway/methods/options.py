"""What can be said of a method beside its function, and the mark that says it."""

import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from math import inf
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from gateway.methods.places import place_of, readable, written

Run: TypeAlias = Literal["async", "thread", "inline"]
AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

MARK = "__gateway_options__"


class RegistrationError(Exception):
    """A function cannot be registered; the message says which, where, and what to do."""


class MethodOptions(Struct, frozen=True, kw_only=True):
    """What can be said of a method beside its function.

    Attributes:
        name: the name that is called, dots and all; without one the function's own.
        aliases: further names.
        timeout: seconds that a call has; without one ``limits.timeout``.
        concurrency: how many calls run at once; without one only the gateway's own limits hold.
        run: ``"async"`` on the event loop, ``"thread"`` in the pool, ``"inline"`` on the loop without waiting;
            without one ``async def`` is ``"async"`` and ``def`` is ``"thread"``.
        deprecated: True, or what to use instead.
        protocols: the names of the protocols in which it can be called; without any in all of them.

    """

    name: str | None = None
    aliases: tuple[str, ...] = ()
    timeout: float | None = None
    concurrency: int | None = None
    run: Run | None = None
    deprecated: bool | str = False
    protocols: frozenset[str] | None = None

    def is_for(self, protocol: str) -> bool:
        """Tell whether the method can be called in a protocol."""
        return self.protocols is None or protocol in self.protocols


@typing.overload
def method(function: AnyFunction, /) -> AnyFunction: ...
@typing.overload
def method(
    *,
    name: str | None = None,
    aliases: tuple[str, ...] = (),
    timeout: float | None = None,
    concurrency: int | None = None,
    run: Run | None = None,
    deprecated: bool | str = False,
    protocols: tuple[str, ...] | None = None,
) -> Callable[[AnyFunction], AnyFunction]: ...
def method(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Mark a function to be served. It stays the plain function that it is.

    With or without options; what they mean stands at MethodOptions. The name is the function's own unless given.

    Raises:
        RegistrationError: an option is unknown or has a value that it cannot have.

    """
    if function is None:
        return functools.partial(_marked, options=options)
    return _marked(function, options={})


def _marked(function: AnyFunction, *, options: dict[str, Any]) -> AnyFunction:
    check_callable(function)
    try:
        setattr(function, MARK, read_options(function, options))
    except AttributeError:
        raise RegistrationError(f"{place_of(function)}: it takes no mark; use Registry.register") from None
    return function


def check_callable(function: Any) -> None:
    """Refuse what is no function, above all a name in its place."""
    if not callable(function):
        raise RegistrationError(f"{function!r} is no function; a name is given as name=...")


def read_options(function: Callable[..., Any], given: dict[str, Any]) -> MethodOptions:
    """Check options as they were written; a RegistrationError names the function and the option."""
    try:
        options = msgspec.convert(_plain_options(given), MethodOptions, strict=True)
    except msgspec.ValidationError as error:
        what, path = readable(error)
        raise RegistrationError(f"{place_of(function)}: the option {path.removeprefix('.')}: {what}") from None
    unknown = given.keys() - set(MethodOptions.__struct_fields__)
    problem = (
        (unknown and f"there is no option {', '.join(sorted(unknown))}")
        or (options.timeout is not None and not 0 < options.timeout < inf and "timeout is a number of seconds above 0")
        or (options.concurrency is not None and options.concurrency < 1 and "concurrency is at least 1")
        or (options.run == "inline" and options.concurrency and "an inline method has no concurrency: it does not wait")
        or (options.protocols == frozenset() and "protocols names one at least")
    )
    if problem:
        raise RegistrationError(f"{place_of(function)}: {problem}")
    return options


def _plain_options(given: dict[str, Any]) -> dict[str, Any]:
    """Take a lone text for what may be several, as people write it."""
    several = ("aliases", "protocols")
    return {name: (value,) if name in several and isinstance(value, str) else value for name, value in given.items()}


def marked_functions(module: Any) -> Iterator[Callable[..., Any]]:
    """Find the functions that a module itself defines and marks with ``@method``, in the order of their definition."""
    found = set()
    for value in vars(module).values():
        marked = isinstance(inspect.getattr_static(value, MARK, None), MethodOptions)  # without asking a proxy
        if marked and written(value).__module__ == module.__name__ and id(value) not in found:
            found.add(id(value))
            yield value
