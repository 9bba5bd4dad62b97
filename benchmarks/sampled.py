"""Where the processor time of a gateway goes in Python: a module to be served beside those with methods.

    SAMPLES=1000 gateway serve benchmarks.speed.methods benchmarks.sampled

Each worker looks 400 times in a second of its processor time at the function that runs, and prints the shares of files
to standard error when it has looked so often. What is done in C counts for the function that called it, and what the
event loop does for the function that it calls next; perf tells these apart.
"""

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

_EVERY, _AFTER = 0.0025, 1.5  # seconds of processor time; by then it has started
_MOST = 30  # rows
_ROOT = f"{Path(__file__).parent.parent}/"

_samples = int(os.environ.get("SAMPLES", "1000"))
_seen: Counter[str] = Counter()


def _look(_number: int, frame: FrameType | None) -> None:
    if frame is not None:
        _seen[frame.f_code.co_filename.removeprefix(_ROOT)] += 1
    if _seen.total() >= _samples:
        signal.setitimer(signal.ITIMER_PROF, 0)
        lines = [f"{count / _seen.total():6.1%} {name}\n" for name, count in _seen.most_common(_MOST)]
        sys.stderr.write("".join(lines))
        sys.stderr.flush()


def _begin() -> None:
    _seen.clear()
    signal.signal(signal.SIGPROF, _look)
    signal.setitimer(signal.ITIMER_PROF, _AFTER, _EVERY)


_begin()
os.register_at_fork(after_in_child=_begin)  # which has no timer of its parent's
