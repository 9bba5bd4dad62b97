"""The threads in which blocking methods run: few, reused, and never waited for at the end.

A pool belongs to one event loop, and all its bookkeeping happens on that loop, so it needs no lock: the loop hands a
function to an idle thread's mailbox, and the thread hands the outcome back to the loop. The threads are daemons, so a
method that never returns cannot keep the process from ending, which the standard library's executor would.
"""

import _thread
import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias

from gateway.core.forks import end_child

Done: TypeAlias = Callable[[Any, BaseException | None], None]
_Outcome: TypeAlias = tuple[Any, BaseException | None]


class Job:
    """A function that runs in a thread.

    Attributes:
        function: the function.
        context: where it runs.
        done: called on the event loop with what it has returned, or raised.
        is_overdue: nobody waits for it any more.

    """

    __slots__ = ("_pool", "context", "done", "function", "is_overdue")

    def __init__(self, pool: "ThreadPool", function: Callable[[], Any], done: Done) -> None:
        self._pool = pool
        self.function = function
        self.context = contextvars.copy_context()
        self.done = done
        self.is_overdue = False

    def give_up(self) -> None:
        """Count it as overdue from now on, until it has ended."""
        self.is_overdue = True
        self._pool.overdue += 1


_Mailbox: TypeAlias = SimpleQueue[Job | None]  # None ends the thread


class ThreadPool:
    """Threads for one event loop, started when they are needed.

    The pool does not bound itself: whoever hands it functions holds a place for each until it has ended.

    Attributes:
        busy: functions that run now.
        overdue: those among them that nobody waits for any more.

    """

    def __init__(self, name: str = "gateway") -> None:
        self.busy = 0
        self.overdue = 0
        self._name = name
        self._started = 0
        self._idle: list[_Mailbox] = []
        self._is_abandoned = False
        self._running: set[asyncio.Future[_Outcome]] = set()
        self._ended: deque[tuple[_Mailbox, Job, Any, BaseException | None]] = deque()
        self._is_delivering = False

    async def run(self, function: Callable[[], Any]) -> Any:
        """Run a function in a thread, in a copy of the present context, and return what it returns.

        A cancelled wait goes on, counted as overdue, until the function has really ended; only then is it cancelled.

        Raises:
            BaseException: whatever the function raises.
            RuntimeError: the system has no room for another thread.

        """
        future: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()

        def done(outcome: Any, error: BaseException | None) -> None:
            self._running.discard(future)
            # An error is a part of the result: as the future's own, GeneratorExit would not be raised where it is
            # awaited, but would close every coroutine up to the task.
            if not future.cancelled():
                future.set_result((outcome, error))

        self.submit(function, done)
        self._running.add(future)
        try:
            outcome, error = await asyncio.shield(future)
        except asyncio.CancelledError:
            if not future.done() and not self._is_abandoned:
                await self._outlast(future)
            raise
        if error is None:
            return outcome
        try:
            raise error
        finally:
            del error  # its traceback has this frame

    def submit(self, function: Callable[[], Any], done: Done) -> Job:
        """Let a function run in a thread, in a copy of the present context, without waiting for it.

        Raises:
            RuntimeError: the system has no room for another thread.

        """
        mailbox = self._idle.pop() if self._idle else self._start()
        job = Job(self, function, done)
        self.busy += 1
        mailbox.put(job)
        return job

    async def _outlast(self, future: asyncio.Future[_Outcome]) -> None:
        self.overdue += 1
        try:
            while not future.done():
                try:
                    await asyncio.wait((future,))
                except asyncio.CancelledError:
                    continue
        finally:
            self.overdue -= 1

    def abandon(self) -> None:
        """Stop waiting for whatever still runs, when the gateway ends; each thread ends when it has nothing to do."""
        self._is_abandoned = True
        for future in self._running:
            future.cancel()
        for mailbox in self._idle:
            mailbox.put(None)
        self._idle.clear()  # what is still to be run, like the end of a stream, has a thread of its own

    def _start(self) -> _Mailbox:
        # threading.Thread.start() waits until the new thread runs. Where 2,000 calls come at once, each of these waits
        # queues for the interpreter behind the threads that were started before, and they add up to most of a second.
        mailbox: _Mailbox = SimpleQueue()
        name = f"{self._name}-{self._started}"
        _thread.start_new_thread(self._work, (mailbox, asyncio.get_running_loop(), name))
        self._started += 1
        return mailbox

    def _work(self, mailbox: _Mailbox, loop: asyncio.AbstractEventLoop, name: str) -> None:
        threading.current_thread().name = name
        while (job := mailbox.get()) is not None:
            outcome: Any = None
            error: BaseException | None = None
            try:
                outcome = job.context.run(job.function)
            except StopIteration as raised:  # which would end the coroutine that raises it
                error = RuntimeError("the method raised StopIteration").with_traceback(raised.__traceback__)
            except BaseException as raised:  # noqa: BLE001 - SystemExit too is the method's own, and ends no thread
                error = raised
            end_child()
            self._ended.append((mailbox, job, outcome, error))
            del job, outcome, error
            if not self._is_delivering:  # a delivery that is to come takes this one along
                self._is_delivering = True
                try:
                    loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:
                    return  # the loop has closed, and nobody is left to tell

    def _deliver(self) -> None:
        """Tell of all functions that have ended, once in a turn of the loop."""
        self._is_delivering = False  # before the first look, so that what ends from now on is delivered again
        while self._ended:
            mailbox, job, outcome, error = self._ended.popleft()
            if self._is_abandoned:
                mailbox.put(None)
            else:
                self._idle.append(mailbox)
            self.busy -= 1
            self.overdue -= job.is_overdue
            try:
                job.done(outcome, error)
            except Exception as raised:  # noqa: BLE001 - as of any callback of the loop, and it costs the others nothing
                told = {"message": "what waited for a thread has failed", "exception": raised}
                asyncio.get_running_loop().call_exception_handler(told)
