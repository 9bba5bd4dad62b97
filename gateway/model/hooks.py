"""What users put around the calls of a registry; gateway/core/hooks.py runs it."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import Any, TypeAlias

from msgspec import Struct

from gateway.model.calls import Call, Caller, Context, Reply
from gateway.model.faults import Fault
from gateway.model.http import AccessDenied, HTTPRequest

Next: TypeAlias = Callable[[Call, Context], Awaitable[Reply]]
"""Answers a call: the next middleware, or the method itself."""

Middleware: TypeAlias = Callable[[Call, Context, Next], Awaitable[Reply]]
"""Answers a call, mostly by asking the next."""

ExceptionHandler: TypeAlias = Callable[[Any, Context], Fault]
"""Makes the fault of an exception that a method has raised."""

Lifespan: TypeAlias = Callable[[SimpleNamespace], AbstractAsyncContextManager[object]]
"""Opens what methods need in a process, puts it into the state, and closes it."""

Authenticate: TypeAlias = Callable[[HTTPRequest, Caller], Caller | AccessDenied]
"""Finds out who sends a request; it is given what the gateway knows of the caller."""


class Hooks(Struct, frozen=True, kw_only=True):
    """What is around the calls of one method.

    Attributes:
        middleware: the first one is the outermost.
        exception_handlers: the innermost registry's first.

    """

    middleware: tuple[Middleware, ...] = ()
    exception_handlers: tuple[tuple[type[BaseException], ExceptionHandler], ...] = ()


NO_HOOKS = Hooks()
