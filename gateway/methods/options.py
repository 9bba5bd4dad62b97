"""The options of a method, and the mark that holds them."""

import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack

import msgspec
from msgspec import Struct

from gateway.methods.places import place_of, readable, written

Run: TypeAlias = Literal["async", "thread", "inline"]
AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

MARK = "__gateway_options__"
VERSION = re.compile(r"[A-Za-z0-9][\w-]*", re.ASCII)  # a part of a name

_TIMEOUT = "timeout must be a number of seconds above 0"
_VERSION = "version must be letters, digits, _ and -, like v1"
_INLINE = "an inline method cannot have concurrency: it does not wait"


class RegistrationError(Exception):
    """A function cannot be registered; the message says which, where, and what to do."""


class MethodOptions(Struct, frozen=True, kw_only=True):
    """The options of a method.

    Attributes:
        name: the name that callers use, which may have dots; the name of the function if it is None.
        aliases: further names.
        timeout: seconds that a call may take; ``limits.timeout`` if it is None.
        concurrency: how many calls may run at once; only the gateway's own limits hold if it is None.
        run: ``"async"`` on the event loop, ``"thread"`` in the pool, ``"inline"`` on the loop without waiting;
            if it is None, ``async def`` is ``"async"`` and ``def`` is ``"thread"``.
        deprecated: True, or what to use instead.
        protocols: the names of the protocols in which it can be called; all of them if it is None.
        version: the version of the interface that it belongs to, like ``"v1"``. It stands before the last part of each
            name: ``inventory.get`` is ``inventory.v1.get``.

    """

    name: str | None = None
    aliases: tuple[str, ...] = ()
    timeout: float | None = None
    concurrency: int | None = None
    run: Run | None = None
    deprecated: bool | str = False
    protocols: frozenset[str] | None = None
    version: str | None = None

    def is_for(self, protocol: str) -> bool:
        """Tell whether the method can be called in a protocol."""
        return self.protocols is None or protocol in self.protocols

    def versioned(self, name: str) -> str:
        """Return a name with the version in its place."""
        if self.version is None:
            return name
        head, dot, last = name.rpartition(".")
        return f"{head}{dot}{self.version}.{last}"


class GivenOptions(TypedDict, total=False):
    """The options as they are written for ``@method`` and ``Registry.register``: a type checker sees a misspelt one."""

    name: str | None
    aliases: Iterable[str]
    timeout: float | None
    concurrency: int | None
    run: Run | None
    deprecated: bool | str
    protocols: Iterable[str] | None
    version: str | None


@typing.overload
def method(function: AnyFunction, /) -> AnyFunction: ...
@typing.overload
def method(**options: Unpack[GivenOptions]) -> Callable[[AnyFunction], AnyFunction]: ...
def method(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Mark a function to be served. It stays the plain function that it is.

    It can be written with options, which MethodOptions describes, or without.

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
        raise RegistrationError(f"{place_of(function)}: it cannot be marked; use Registry.register") from None
    return function


def check_callable(function: Any) -> None:
    """Refuse what is not a function, above all a name in its place."""
    if not callable(function):
        raise RegistrationError(f"{function!r} is not a function; a name is given as name=...")


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
        or (options.timeout is not None and not 0 < options.timeout < inf and _TIMEOUT)
        or (options.concurrency is not None and options.concurrency < 1 and "concurrency must be at least 1")
        or (options.run == "inline" and options.concurrency and _INLINE)
        or (options.protocols == frozenset() and "protocols must name at least one")
        or (options.version is not None and not VERSION.fullmatch(options.version) and _VERSION)
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


def marked_methods(instance: object) -> Iterator[tuple[Callable[..., Any], MethodOptions]]:
    """Find the methods of an object that its class marks with ``@method``, by their names, with their options."""
    for name in dir(type(instance)):
        written_there = inspect.getattr_static(type(instance), name)
        marked = getattr(written_there, "__func__", written_there)  # beneath staticmethod and classmethod
        options = inspect.getattr_static(marked, MARK, None) or inspect.getattr_static(written_there, MARK, None)
        if isinstance(options, MethodOptions):
            yield getattr(instance, name), options
