"""The hooks of a registry: each is checked when it is registered, and told to be wrong where it is written."""

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, TypeVar

from gateway.methods.options import RegistrationError
from gateway.methods.places import place_of
from gateway.model.hooks import Authenticate, ExceptionHandler, Hooks, Lifespan, Middleware

Returned = TypeVar("Returned")


class RegisteredHooks:
    """The hooks of a registry and its namespaces, in order of registration; each with the prefix that it is for."""

    def __init__(self) -> None:
        self.middleware: list[tuple[str, Middleware]] = []
        self.exception_handlers: list[tuple[str, type[BaseException], ExceptionHandler]] = []
        self.lifespans: list[Lifespan] = []
        self.authenticate: Authenticate | None = None

    def around(self, name: str, inner: Hooks) -> Hooks:
        """Return the hooks of the method that has this name, around those that it has already."""
        middleware = tuple(each for prefix, each in self.middleware if name.startswith(prefix))
        handlers = tuple((kind, each) for prefix, kind, each in self.exception_handlers if name.startswith(prefix))
        if not middleware and not handlers:
            return inner
        return Hooks(middleware=middleware + inner.middleware, exception_handlers=inner.exception_handlers + handlers)

    def take_over(self, other: "RegisteredHooks") -> None:
        """Take over what another registry's hooks do for a process as a whole."""
        self.lifespans += [each for each in other.lifespans if each not in self.lifespans]
        if other.authenticate is not None:
            self.set_authenticate(other.authenticate)

    def set_authenticate(self, function: Authenticate) -> None:
        """Let a function find out who sends a request; there can be one."""
        if self.authenticate not in (None, function):
            raise RegistrationError(f"{place_of(function)}: requests are authenticated by another function already")
        self.authenticate = function


def check_middleware(function: Middleware) -> None:
    """Refuse what is not ``async (call, context, next)``."""
    called = getattr(function, "__call__", None)  # noqa: B004 - it may be async
    if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)) or not _takes(function, 3):
        raise RegistrationError(f"{place_of(function)}: write middleware as async def (call, context, next)")


def check_handler(kind: Any, function: ExceptionHandler) -> None:
    """Refuse what is not ``(error, context)``, which gives a fault at once."""
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise RegistrationError(f"{place_of(function)}: {kind!r} is not a class of exceptions")
    if inspect.iscoroutinefunction(function) or not _takes(function, 2):
        raise RegistrationError(f"{place_of(function)}: write an exception handler as def (error, context)")


def check_authenticate(function: Authenticate) -> None:
    """Refuse what is not ``(head, caller)``, which decides at once."""
    if inspect.iscoroutinefunction(function) or not _takes(function, 2):
        raise RegistrationError(
            f"{place_of(function)}: write it as def (head, caller): no body is read before it returns"
        )


def lifespan_of(function: Callable[..., Any]) -> Lifespan:
    """Make a lifespan of an async generator function, or of what returns an async context manager."""
    made = asynccontextmanager(function) if inspect.isasyncgenfunction(function) else function
    return _with_state(made, function)


def starting(function: Callable[..., Any]) -> Lifespan:
    """Make a lifespan of a function that is called at the start."""
    call = _with_state(function, function)

    @asynccontextmanager
    async def start(state: SimpleNamespace) -> AsyncIterator[None]:
        await _end(call(state))
        yield

    return functools.update_wrapper(start, function)


def stopping(function: Callable[..., Any]) -> Lifespan:
    """Make a lifespan of a function that is called at the end."""
    call = _with_state(function, function)

    @asynccontextmanager
    async def stop(state: SimpleNamespace) -> AsyncIterator[None]:
        yield
        await _end(call(state))

    return functools.update_wrapper(stop, function)


async def _end(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


def _with_state(made: Callable[..., Any], function: Callable[..., Any]) -> Callable[[SimpleNamespace], Any]:
    """Call a function with the state, if it takes it."""
    if _takes(function, 1):
        return made
    if not _takes(function, 0):
        raise RegistrationError(f"{place_of(function)}: it is given the state, and nothing else: def (state)")

    @functools.wraps(function)
    def call(_: SimpleNamespace) -> Any:
        return made()

    return call


def _takes(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError):  # ValueError: a builtin says nothing of its parameters
        return False
    return True


def returned(function: Callable[..., Any], value: Any, kind: type[Returned]) -> Returned:
    """Return what a hook has returned, if it is what the hook must return.

    Raises:
        TypeError: it is something else.

    """
    if not isinstance(value, kind):
        raise TypeError(f"{place_of(function)}: it must return a {kind.__name__}, not {type(value).__name__}")
    return value
