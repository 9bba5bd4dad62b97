"""The layers around a method: each takes a handler and returns a handler.

    charged    each call of a batch but the first, which the endpoint has charged, is charged to its caller
    permitted  the caller may call methods of this name
    deadline   the caller has an answer when its time is up, whatever the method does
    limited    so many run, so many wait, the next is refused

Of the last two, which are for methods that may wait, the deadline is the outer one. It does not wait for what it gave
up on: an async method is cancelled, a thread cannot be; both keep their places until they have really ended.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from gateway.core.dispatch import crash, exceeded
from gateway.model.calls import Call, Caller, CallHandler, Context, Reply, WaitingHandler
from gateway.model.faults import Denied, Fault, Overloaded
from gateway.model.streams import Stream

TURNS = 10  # of the event loop; a cancelled gRPC call takes four


class ConcurrencyLimiter:
    """So many calls run at once, so many wait for their turn, first come first served.

    Attributes:
        running: calls that have a place now.

    """

    def __init__(self, running: int, waiting: int) -> None:
        self._most_running = running
        self._most_waiting = waiting
        self.running = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Calls that wait for a place now."""
        return len(self._queue)

    def full(self) -> bool:
        """Return whether the next call would find neither a place to run nor one to wait."""
        return self.running >= self._most_running and len(self._queue) >= self._most_waiting

    def has_place(self) -> bool:
        """Return whether the next call would run at once."""
        return self.running < self._most_running

    def take_place(self) -> None:
        """Take the place that there is."""
        self.running += 1

    async def take(self) -> None:
        """Take a place, and wait for it if need be. Whoever asks while ``full`` jumps no queue, but lengthens it."""
        if self.running < self._most_running:
            self.running += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.leave()
            elif turn in self._queue:  # leave() may have passed it over already
                self._queue.remove(turn)
            raise

    def leave(self) -> None:
        """Give the place to whoever has waited longest."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1


def limited(handler: WaitingHandler, limiter: ConcurrencyLimiter, retry_after: int) -> WaitingHandler:
    """Let a call run when it has a place; refuse it at once when even the waiting places are taken.

    A call that streams keeps its place until the stream is closed.
    """

    async def call_limited(call: Call, context: Context) -> Reply:
        if limiter.full():
            return Reply(fault=Overloaded("all places to run and to wait are taken", retry_after=retry_after))
        await limiter.take()
        stream: Any = None
        try:
            reply = await handler(call, context)
            stream = reply.value if isinstance(reply.value, Stream) else None
            return reply
        finally:
            if stream is None:
                limiter.leave()
            else:
                stream.at_end(limiter.leave)

    return call_limited


def charged(handler: CallHandler, charge: Callable[[Caller], float], fault: Callable[[float], Fault]) -> CallHandler:
    """Charge what follows the first call of a batch to its caller, and refuse it when there have been too many.

    ``charge`` returns 0, or the seconds after which a caller may call again; ``fault`` makes the answer of them.
    """

    def call_charged(call: Call, context: Context) -> Reply | Awaitable[Reply]:
        wait = charge(context.caller) if context.position else 0.0
        return Reply(fault=fault(wait)) if wait else handler(call, context)

    return call_charged


def permitted(
    handler: CallHandler, permits: Callable[[Iterable[str], Caller], bool], names: Callable[[str], Iterable[str]]
) -> CallHandler:
    """Refuse a call of what the caller may not call, whether it exists or not.

    ``names`` returns all names of the method that has a name; just this one, if there is no such method.
    """

    def call_permitted(call: Call, context: Context) -> Reply | Awaitable[Reply]:
        if not permits(names(call.method), context.caller):
            return Reply(fault=Denied())
        return handler(call, context)

    return call_permitted


def deadline(handler: WaitingHandler) -> WaitingHandler:
    """Answer DeadlineExceeded when the deadline of the context has passed.

    The handler runs in a task of its own, so that neither a method that ignores its cancellation nor a thread can hold
    up the answer.
    """
    left_behind: set[asyncio.Task[Reply]] = set()

    async def call_within(call: Call, context: Context) -> Reply:
        if not context.time_left:
            return Reply(fault=exceeded(context))
        task = asyncio.get_running_loop().create_task(handler(call, context))
        try:
            await _end_or_time(task, context.time_left)
            await _let_end(task)
        finally:
            if not task.done():
                _leave_behind(task, left_behind)
        if task.cancelled() or not task.done():
            return Reply(fault=exceeded(context))
        error = task.exception()  # only GeneratorExit that a future has raised: no coroutine can catch it
        return task.result() if error is None else Reply(fault=crash(error, context))

    return call_within


async def _end_or_time(task: asyncio.Task[Reply], seconds: float) -> None:
    """Wait until a task has ended, or the time is over; asyncio.wait does it for many, and takes longer."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def end(_: object = None) -> None:
        if not over.done():
            over.set_result(None)

    task.add_done_callback(end)
    timer = loop.call_later(seconds, end)
    try:
        await over
    finally:
        timer.cancel()


async def _let_end(task: asyncio.Task[Reply]) -> None:
    """Give a task that is about to end some turns: its own, earlier deadline may have come as late as ours."""
    for _ in range(TURNS):
        if task.done():
            return
        await asyncio.sleep(0)


def _leave_behind(task: asyncio.Task[Reply], left_behind: set[asyncio.Task[Reply]]) -> None:
    """Cancel a task without waiting for it; the set keeps it alive until it has ended."""
    left_behind.add(task)
    task.add_done_callback(left_behind.discard)
    task.cancel()
