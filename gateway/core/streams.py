"""Methods that are generators: their values one after the other, or all of them in a list.

    invoke_stream(method, ...)    a handler whose Reply has a Stream where the context says that the caller takes one,
                                  and a list otherwise, within ``limits.max_reply``

An async generator runs on the event loop, in the task of whoever reads it. Each step of a plain one runs in a thread. A
stream keeps the places of its call until it is closed. ``limits.timeout`` is the time until it begins; the ``timeout``
of its method, and what the caller asks for, are those for all of it.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

from gateway.core.dispatch import FaultMaker, exceeded, fault_of, stepwise
from gateway.core.running import Running
from gateway.core.threads import ThreadPool
from gateway.methods import Method
from gateway.model.calls import CURRENT, Call, Context, Reply, WaitingHandler
from gateway.model.faults import Fault, ResponseTooLarge, detached
from gateway.model.streams import Stream, Whole

_TURN = 50  # values that are collected before others have their turn
_LEAST = 2  # bytes that any value has in a response
_END = object()


class _Values:
    """The steps of a generator, in the context of their call."""

    def __init__(
        self,
        context: Context,
        fault: FaultMaker,
        step: Callable[[], Awaitable[Any]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._context = context
        self._fault = fault
        self._step = step
        self._close = close

    async def __anext__(self) -> Any:
        context = self._context
        left = context.time_left
        token = CURRENT.set(context)
        clock = asyncio.timeout(None if math.isinf(left) else left)
        try:
            async with clock:
                return await self._step()
        except StopAsyncIteration:
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._fault(error, context) from None
        except BaseException as error:  # noqa: BLE001 - whatever the method raises
            if clock.expired() and isinstance(error, TimeoutError):
                raise exceeded(context) from None
            raise self._fault(error, context) from None
        finally:
            CURRENT.reset(token)

    async def close(self) -> None:
        token = CURRENT.set(self._context)
        try:
            await self._close()
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the method raises at its end; the log has it
            self._fault(error, self._context)
        finally:
            with suppress(ValueError):  # the loop has ended, and this is thrown away elsewhere
                CURRENT.reset(token)


def invoke_stream(  # noqa: PLR0913, PLR0917 - what ``invoke`` takes, and a limit
    method: Method,
    pool: ThreadPool,
    running: Running,
    state: SimpleNamespace,
    fault: FaultMaker,
    most: int,
) -> WaitingHandler:
    """Make the innermost handler of a method that is a generator; ``most`` bytes are collected where it must be."""
    counts, place = running.counts, running.place(method.name)
    steps = _in_threads if method.run == "thread" else _on_loop
    function: Callable[..., Any] = method.stream or method.function

    def leave() -> None:
        counts[place] -= 1

    async def call_method(call: Call, context: Context) -> Reply:
        try:
            args, kwargs = method.bind(call.params, context)
        except BaseException as error:  # noqa: BLE001 - InvalidParams, or whatever a type of the user's raises when made
            return Reply(fault=fault_of(error, context))
        context.state = state
        if context.inbox is not None:
            context.inbox.read = partial(method.read_message, context=context)
        step, close = steps(function, args, kwargs, pool)
        values = _Values(context, fault, step, close)
        counts[place] += 1
        if context.streaming == "may" and method.perhaps:
            return await _looked_at(values, context, leave)
        stream = Stream(values)
        stream.at_end(leave)
        if context.streaming != "no":
            context.deadline = context.until
            return Reply(value=stream)
        try:
            return Reply(value=await _collected(stream, most))
        except Fault as error:
            return Reply(fault=detached(error))
        finally:
            await stream.close()

    return call_method


def either(one: WaitingHandler, many: WaitingHandler) -> WaitingHandler:
    """Make the handler of a method that gives a list by ``one``, and a stream by ``many``."""

    def call_method(call: Call, context: Context) -> Coroutine[Any, Any, Reply]:
        return (one if context.streaming == "no" else many)(call, context)

    return call_method


async def _looked_at(values: _Values, context: Context, leave: Callable[[], None]) -> Reply:
    """Wait for the first value, which tells whether there is a stream: it has the time that a call has."""
    first: list[Any] = []
    try:
        with suppress(StopAsyncIteration):
            first.append(await values.__anext__())
    except BaseException as error:
        await values.close()
        leave()
        if isinstance(error, Fault):
            return Reply(fault=detached(error))
        raise
    stream = Stream(values, first)
    stream.at_end(leave)
    if not first or type(first[0]) is not Whole:
        context.deadline = context.until
        return Reply(value=stream)
    await stream.close()
    return Reply(value=first[0].value)


def _on_loop(
    function: Callable[..., AsyncGenerator[Any, None]], args: list[Any], kwargs: Mapping[str, Any], _pool: ThreadPool
) -> tuple[Callable[[], Awaitable[Any]], Callable[[], Awaitable[None]]]:
    values = function(*args, **kwargs)  # nothing of it runs yet

    async def step() -> Any:
        return await stepwise(values.__anext__())

    async def close() -> None:
        await stepwise(values.aclose())

    return step, close


def _in_threads(
    function: Callable[..., Generator[Any, None, None]], args: list[Any], kwargs: Mapping[str, Any], pool: ThreadPool
) -> tuple[Callable[[], Awaitable[Any]], Callable[[], Awaitable[None]]]:
    values = function(*args, **kwargs)  # likewise

    async def step() -> Any:
        value = await pool.run(partial(next, values, _END))
        if value is _END:
            raise StopAsyncIteration
        return value

    async def close() -> None:
        await pool.run(values.close)

    return step, close


async def _collected(stream: Stream, most: int) -> list[Any]:
    """Wait for all values.

    Raises:
        ResponseTooLarge: they have more bytes than may be.
        Fault: what the method ends with.

    """
    values: list[Any] = []
    left = most
    async for value in stream:
        left -= _weight(value, left)
        if left < 0:
            raise ResponseTooLarge(f"the stream has more than {most} bytes")
        values.append(value)
        if len(values) % _TURN == 0:
            await asyncio.sleep(0)
    return values


def _weight(value: Any, most: int) -> int:
    """Return how many bytes a value has in a response, at least; no more than a little above ``most`` is counted."""
    weight, waiting = 0, [value]
    while waiting and weight <= most:
        each = waiting.pop()
        weight += _LEAST
        if isinstance(each, str | bytes | bytearray):
            weight += len(each)
        elif isinstance(each, dict):
            waiting += each
            waiting += each.values()
        elif isinstance(each, list | tuple | set | frozenset):
            waiting += each
    return weight
