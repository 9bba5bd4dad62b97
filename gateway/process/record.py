"""What a worker writes down for its supervisor, in memory that outlives it.

    record = WorkerRecord()     by the supervisor, before the fork
    record.enable()             in the worker: where a crash or the supervisor's signals find its stack
    record.beat()               in the worker, by its event loop
    record.running              calls that run, by method
    record.ask(process)         by the supervisor, to have the stacks of a worker that hangs
    record.take_stack()         what has been written of stacks

The stacks are written by faulthandler, from its signal handlers: Python itself may hang, or be what has crashed.
"""

import faulthandler
import mmap
import os
import signal

from gateway.core.running import Running

_LONGEST = 32768  # bytes of stacks in the log
_MOST_METHODS = 5
_LOOP_STACK = signal.SIGRTMIN + 12  # numbers that nobody else uses; the lower one is delivered first
_ALL_STACKS = signal.SIGRTMIN + 13


class WorkerRecord:
    """One worker's.

    Attributes:
        running: how many calls of each method run.

    Raises:
        OSError: there is no memory, or no descriptor left.

    """

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, 8 + Running.SIZE))
        self._beats = memory[:8].cast("q")
        self.running = Running(memory[8:])
        self._stacks = os.memfd_create("gateway-stacks", os.MFD_CLOEXEC)
        self._taken = 0

    @property
    def beats(self) -> int:
        """How often the worker's event loop has said that it runs."""
        return self._beats[0]

    def enable(self) -> None:
        """Have this process write its stack here when it crashes, or is asked to."""
        faulthandler.enable(self._stacks, all_threads=False)
        # The system gives such a signal to the main thread, which has the event loop; of others 100 are written.
        faulthandler.register(_LOOP_STACK, self._stacks, all_threads=False)
        faulthandler.register(_ALL_STACKS, self._stacks, all_threads=True)

    def beat(self) -> None:
        """Say that the event loop runs."""
        self._beats[0] += 1

    def ask(self, process: int) -> None:
        """Have a worker write its stacks."""
        os.kill(process, _LOOP_STACK)
        os.kill(process, _ALL_STACKS)

    def take_stack(self) -> str:
        """Return the stacks that have been written since the last time, in lines that are indented; empty for none."""
        written = os.pread(self._stacks, _LONGEST, self._taken)
        self._taken += len(written)
        return written.decode("utf-8", "replace").rstrip()

    def has_served(self) -> bool:
        """Tell whether the worker has ever begun a call."""
        return bool(self.running.read())

    def methods(self) -> str:
        """Name the methods that run, or did when the worker ended; an empty text for none."""
        found = [(name, calls) for name, calls in self.running.read() if calls > 0]
        told = [name if calls == 1 else f"{name} ({calls} calls)" for name, calls in found[:_MOST_METHODS]]
        return ", ".join([*told, "..."] if len(found) > _MOST_METHODS else told)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._stacks)
