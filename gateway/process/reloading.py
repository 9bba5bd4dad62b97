"""``gateway serve --reload``: a gateway under a process that watches files.

    a change while it serves           SIGHUP: the gateway reads everything again. Where it cannot, it says why, and
                                       serves what it has
    a change after it could not start  it is started again
    SIGINT, SIGTERM                    to the gateway; then both end

Only files of Python and of the configuration count. Nothing of the user's code is imported here, so that no mistake in
it can end this process.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from watchfiles import PythonFilter, watch

_LOOK = 200  # milliseconds between two looks at whether the gateway has ended
_STOPPING = (signal.SIGINT, signal.SIGTERM)


def serve_and_watch(command: Sequence[str], folders: Sequence[Path], tell: Callable[[str], None]) -> int:
    """Run a command that serves, and reload it at each change below the folders, until SIGINT or SIGTERM.

    Args:
        command: what to run.
        folders: what is watched.
        tell: prints a line for the user.

    Returns:
        the exit code of the last run; 0 where that had been ended.

    """
    stopping = threading.Event()
    for number in _STOPPING:
        signal.signal(number, lambda *_: stopping.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the command inherits it, so that none comes before it listens
    serving, ended = _start(command), False
    try:
        for changes in watch(
            *folders,
            watch_filter=PythonFilter(extra_extensions=(".toml",)),
            stop_event=stopping,
            rust_timeout=_LOOK,
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            if serving.poll() is not None and not ended:
                ended = True
                tell("waiting for a change of a file")
            if changes and ended:
                serving, ended = _start(command), False
            elif changes:
                serving.send_signal(signal.SIGHUP)
    finally:
        serving.terminate()
        code = serving.wait()
    return 0 if ended else code


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the command in a group of its own: a terminal's Ctrl-C comes to this process, which passes it on."""
    # Compiled modules are told apart by seconds: one that was written twice within one would be read as it was before.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(list(command), env=environment, process_group=0)  # noqa: S603 - it is this program
