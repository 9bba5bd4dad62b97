"""Calls of methods that may wait, begun without anybody who waits for them.

    Beginner.has_room()                    whether a call would run at once
    Beginner.begin(call, context, ended)   -> Reply    it did not even begin
                                           -> Begun    it runs; ``ended(reply)`` is called when it has an answer
    in_task(handler), in_thread(...), at_upstream(...)       how the calls of a method run

This is what the layers ``deadline`` and ``limited`` and the handler ``invoke`` come to for a call that finds a place at
once: the same places, the same deadline, the same faults, with one task for an async method and none for a thread. All
calls of a method have the same time, so they expire in the order in which they came, and one timer is enough for them;
only a call whose caller wants to wait for less has a timer of its own.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeAlias

from gateway.core.dispatch import FaultMaker, crash, exceeded, fault_of
from gateway.core.layers import TURNS, ConcurrencyLimiter
from gateway.core.running import Running
from gateway.core.threads import ThreadPool
from gateway.methods import Method, Sent
from gateway.model.calls import CURRENT, Call, Context, Reply, WaitingHandler
from gateway.model.faults import Fault


class Begun:
    """A call that runs.

    Attributes:
        context: its context.
        give_up: ends it as far as that can be done, when nobody waits for it any more.
        late: makes the fault of a call whose time is over, if that is not the usual one.
        turns: of the event loop, in which it may still end when its time is over.
        timer: its own, if it has one.

    """

    __slots__ = ("_beginner", "_ended", "_is_answered", "context", "give_up", "late", "timer", "turns")

    def __init__(self, beginner: "Beginner", context: Context, ended: Callable[[Reply], None]) -> None:
        self.context = context
        self.give_up: Callable[[], object] = bool
        self.late: Callable[[], Fault] | None = None
        self.turns = TURNS
        self.timer: asyncio.TimerHandle | None = None
        self._beginner = beginner
        self._ended = ended
        self._is_answered = False

    def cancel(self) -> None:
        """Stop waiting for it: nobody wants the answer any more. It keeps its places until it has really ended."""
        if not self._is_answered:
            self._is_answered = True
            self._beginner.forget(self)
            self.give_up()

    def expire(self) -> None:
        """Answer that its time is over, unless it ends in the next turns: its own deadline may be as late."""
        if self._is_answered:
            return
        if self.turns:
            self.turns -= 1
            asyncio.get_running_loop().call_soon(self.expire)
            return
        late = self.late
        self.cancel()
        self._ended(Reply(fault=exceeded(self.context) if late is None else late()))

    def end(self, reply: Callable[[], Reply]) -> None:
        """Give its places back now that it has ended, and answer it, if that has not been done."""
        self._beginner.leave()
        self.give_up, self.late = bool, None  # they hold what has run, which holds this
        if not self._is_answered:
            self._is_answered = True
            self._beginner.forget(self)
            self._ended(reply())


Launch: TypeAlias = Callable[[Call, Begun], Reply | None]
"""Lets a call run, and ends what was begun then; a Reply where it cannot even begin."""


class Beginner:
    """Begins the calls of one method.

    Arguments:
        launch: lets a call run.
        limiters: have the places that each call needs.

    """

    def __init__(self, launch: Launch, limiters: tuple[ConcurrencyLimiter, ...]) -> None:
        self._launch = launch
        self._limiters = limiters
        self._running: dict[Begun, None] = {}  # in the order of their deadlines
        self._timer: asyncio.TimerHandle | None = None

    def has_room(self) -> bool:
        """Tell whether a call would run at once."""
        return all(limiter.has_place() for limiter in self._limiters)

    def begin(self, call: Call, context: Context, ended: Callable[[Reply], None], *, has_wish: bool) -> Begun | Reply:
        """Begin a call that has room, and may have less time than the others. ``ended`` is not called from in here."""
        left = context.time_left
        if not left:
            return Reply(fault=exceeded(context))
        begun = Begun(self, context, ended)
        reply = self._launch(call, begun)
        if reply is not None:
            return reply
        for limiter in self._limiters:
            limiter.take_place()
        if has_wish:
            begun.timer = asyncio.get_running_loop().call_later(left, begun.expire)
            return begun
        self._running[begun] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left, self._look)
        return begun

    def forget(self, begun: Begun) -> None:
        """Take note that a call is answered."""
        self._running.pop(begun, None)
        if begun.timer is not None:
            begun.timer.cancel()

    def leave(self) -> None:
        """Give back the places of a call."""
        for limiter in self._limiters:
            limiter.leave()

    def _look(self) -> None:
        """Expire the calls whose time is over, and look again when that of the next one is."""
        self._timer = None
        while self._running:
            begun = next(iter(self._running))
            left = begun.context.time_left
            if left:
                self._timer = asyncio.get_running_loop().call_later(left, self._look)
                return
            self.forget(begun)
            begun.expire()


def in_task(handler: WaitingHandler) -> Launch:
    """Let the handler that ``invoke`` makes of an async method run in a task of its own."""

    def launch(call: Call, begun: Begun) -> None:
        task = asyncio.get_running_loop().create_task(handler(call, begun.context))
        begun.give_up = task.cancel
        task.add_done_callback(partial(_end, begun))

    return launch


def _end(begun: Begun, task: asyncio.Task[Reply]) -> None:
    begun.end(partial(_reply_of, task, begun.context))


def _reply_of(task: asyncio.Task[Reply], context: Context) -> Reply:
    """Return what became of a call, as the layer ``deadline`` does."""
    if task.cancelled():
        return Reply(fault=exceeded(context))
    error = task.exception()
    return task.result() if error is None else Reply(fault=crash(error, context))


def in_thread(method: Method, pool: ThreadPool, running: Running, state: SimpleNamespace, fault: FaultMaker) -> Launch:
    """Let a blocking method run in a thread, as ``invoke`` does."""
    counts, place = running.counts, running.place(method.name)

    def launch(call: Call, begun: Begun) -> Reply | None:
        context = begun.context
        try:
            args, kwargs = method.bind(call.params, context)
        except BaseException as error:  # noqa: BLE001 - see invoke
            return Reply(fault=fault_of(error, context))
        context.state = state
        token = CURRENT.set(context)
        try:
            job = pool.submit(partial(method.function, *args, **kwargs), partial(end, begun))
        except BaseException as error:  # noqa: BLE001 - see invoke
            return Reply(fault=fault(error, context))
        finally:
            CURRENT.reset(token)
        begun.give_up = job.give_up
        counts[place] += 1
        return None

    def end(begun: Begun, outcome: Any, error: BaseException | None) -> None:
        counts[place] -= 1
        begun.end(partial(reply_of, outcome, error, begun.context))

    def reply_of(outcome: Any, error: BaseException | None, context: Context) -> Reply:
        if error is None:
            return Reply(value=outcome)
        is_crash = isinstance(error, asyncio.CancelledError)
        return Reply(fault=crash(error, context) if is_crash else fault(error, context))

    return launch


class _Outcome:
    """The outcome of a call that an upstream has; see gateway/upstreams."""

    __slots__ = ("_begun", "_fault", "_leave")

    def __init__(self, begun: Begun, fault: FaultMaker, leave: Callable[[], None]) -> None:
        self._begun = begun
        self._fault = fault
        self._leave = leave

    def set_result(self, value: Any) -> None:
        self._leave()
        self._begun.end(partial(Reply, value=value))

    def set_exception(self, error: Exception) -> None:
        self._leave()
        self._begun.end(lambda: Reply(fault=self._fault(error, self._begun.context)))

    def give_up(self, sent: Sent) -> None:
        sent.cancel()
        self._leave()
        self._begun.end(Reply)


def at_upstream(
    method: Method, running: Running, state: SimpleNamespace, fault: FaultMaker, otherwise: Launch
) -> Launch:
    """Send a call to an upstream where a connection is free, and let it run ``otherwise`` where none is."""
    assert method.begin is not None  # noqa: S101 - that it is there is why this was chosen
    begin, bind = method.begin, method.bind
    counts, place = running.counts, running.place(method.name)

    def leave() -> None:
        counts[place] -= 1

    def launch(call: Call, begun: Begun) -> Reply | None:
        context = begun.context
        try:
            args, kwargs = bind(call.params, context)
        except BaseException as error:  # noqa: BLE001 - see invoke
            return Reply(fault=fault_of(error, context))
        context.state = state
        outcome = _Outcome(begun, fault, leave)
        try:
            sent = begin(args, kwargs, context, outcome)
        except BaseException as error:  # noqa: BLE001 - see invoke
            return Reply(fault=fault(error, context))
        if sent is None:
            return otherwise(call, begun)
        begun.give_up, begun.late, begun.turns = partial(outcome.give_up, sent), sent.late, 0
        counts[place] += 1
        return None

    return launch
