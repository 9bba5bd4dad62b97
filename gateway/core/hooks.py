"""What users put around calls, run: middleware, exception handlers, and the lifespan of a process.

    around(handler, middleware, state)    a handler that asks the first middleware, and that the next, up to the handler
    catching(handlers)                    an exception of a method -> Fault: the handler of its nearest class decides
    Lifespans(lifespans, state)           ``async with``: opened in order, closed in the opposite one, in one process

What a hook raises is treated as if the method had raised it: a Fault goes to the caller, and all else is "Internal
error" and in the log.
"""

import asyncio
import logging
import traceback
import xmlrpc.client
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace, TracebackType
from typing import Any, Self

from msgspec import Struct

from gateway.core.dispatch import crash, fault_of
from gateway.methods import place_of
from gateway.methods.hooks import returned
from gateway.model.calls import Call, CallHandler, Context, Reply, WaitingHandler
from gateway.model.faults import Fault, detached
from gateway.model.hooks import ExceptionHandler, Lifespan, Middleware

log = logging.getLogger("gateway.errors")


class LifespanError(Exception):
    """What methods need cannot be opened in this process."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Everywhere(Struct, frozen=True, kw_only=True):
    """What is around all calls of a gateway: the middleware that its configuration names, and ``context.state``."""

    middleware: tuple[Middleware, ...]
    state: SimpleNamespace


def around(handler: CallHandler, middleware: Iterable[Middleware], state: SimpleNamespace) -> WaitingHandler:
    """Put middleware around a handler; the first one is the outermost."""

    async def innermost(call: Call, context: Context) -> Reply:
        reply = handler(call, context)
        return reply if isinstance(reply, Reply) else await reply

    inner: WaitingHandler = innermost
    for each in reversed(tuple(middleware)):
        inner = _within(each, inner)

    async def call_around(call: Call, context: Context) -> Reply:
        context.state = state
        return await inner(call, context)

    return call_around


def _within(middleware: Middleware, inner: WaitingHandler) -> WaitingHandler:
    async def call_within(call: Call, context: Context) -> Reply:
        try:
            return returned(middleware, await middleware(call, context, inner), Reply)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return Reply(fault=crash(error, context))
        except BaseException as error:  # noqa: BLE001 - as if the method had raised it
            return Reply(fault=fault_of(error, context))

    return call_within


def catching(
    handlers: Iterable[tuple[type[BaseException], ExceptionHandler]],
) -> Callable[[BaseException, Context], Fault]:
    """Make what turns exceptions into faults by their handlers; of two for the same class, the first one is asked."""
    by_class: dict[type, ExceptionHandler] = {}
    for kind, handler in handlers:
        by_class.setdefault(kind, handler)

    def fault(error: BaseException, context: Context) -> Fault:
        found = next((by_class[kind] for kind in type(error).__mro__ if kind in by_class), None)
        if found is None or isinstance(error, Fault | xmlrpc.client.Fault):
            return fault_of(error, context)
        try:
            return detached(returned(found, found(error, context), Fault))
        except BaseException as raised:  # noqa: BLE001 - as if the method had raised it
            return fault_of(raised, context)

    return fault


class Lifespans:
    """What methods need in a process: open inside of ``async with``.

    Attributes:
        state: ``context.state`` of all calls.

    """

    def __init__(self, lifespans: Iterable[Lifespan], state: SimpleNamespace) -> None:
        self.state = state
        self._lifespans = tuple(lifespans)
        self._opened: list[tuple[Lifespan, AbstractAsyncContextManager[Any]]] = []

    async def open(self) -> None:
        """Open one after the other.

        Raises:
            LifespanError: one of them cannot be opened; those before it are closed again.

        """
        for lifespan in self._lifespans:
            try:
                manager = lifespan(self.state)
                await manager.__aenter__()
            except Exception as error:  # noqa: BLE001 - whatever a user's function raises
                await self.close()
                told = "".join(traceback.format_exception(error)).rstrip()
                raise LifespanError([f"{place_of(lifespan)}: the start has failed:\n{told}"]) from None
            self._opened.append((lifespan, manager))

    async def close(self) -> None:
        """Close in the opposite order; what one of them raises is logged, and the others are closed all the same."""
        while self._opened:
            lifespan, manager = self._opened.pop()
            try:
                await manager.__aexit__(None, None, None)
            except Exception:
                log.exception("%s: the end has failed", place_of(lifespan))

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
