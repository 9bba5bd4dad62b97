"""Start a coroutine at once, and make a task of it only if it has to wait.

    start(coroutine) -> its result, if it never waited
                     -> the task in which it goes on, otherwise

Most calls are over before they ever wait: decode, add, encode. A task for each of them would cost a turn of the event
loop and, in the host, two system calls to watch a connection that is about to be answered anyway; without it a
call of an inline method takes about a fifth less time. Python has eager tasks since 3.12; this is for 3.11 as well.

Until it first waits, the coroutine runs inside of the task that starts it, so ``asyncio.current_task()`` (and with it
``asyncio.timeout``) is not its own before that. The endpoint keeps to this: methods that may wait have tasks of their
own.
"""

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


def start(coroutine: Coroutine[Any, Any, T]) -> T | asyncio.Task[T]:
    """Run a coroutine until it waits for the first time.

    Raises:
        Exception: what the coroutine raises before that.

    """
    try:
        awaited = coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    return asyncio.ensure_future(_go_on(coroutine, awaited))


@types.coroutine
def _go_on(coroutine: Coroutine[Any, Any, T], awaited: Any) -> Generator[Any, Any, T]:
    """Go on with a coroutine that waits for something already, as ``yield from`` would have."""
    step: Callable[[Any], Any]
    while True:
        try:
            sent = yield awaited
        except BaseException as error:  # noqa: BLE001 - whatever is thrown at the task is the coroutine's
            step, value = coroutine.throw, error
        else:
            step, value = coroutine.send, sent
        try:
            awaited = step(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
