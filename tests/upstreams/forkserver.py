"""Forks servers from a process that has imported what they run on, which takes longer than most tests.

python -m tests.upstreams.forkserver MODULE imports a module. Then each line of its input is an object with
``arguments`` and ``environment``: it forks, runs the module as ``python -m`` does, and prints the process id. At the
end of its input all of them end. It uses only the standard library: some modules have environments of their own.
"""

import contextlib
import importlib
import json
import os
import runpy
import signal
import sys
from os import fork  # before gevent may put its own in the place of it


def run(module: str, arguments: list[str], environment: dict[str, str]) -> None:
    """Be the program."""
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    del sys.modules[module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    module = sys.argv[1]
    importlib.import_module(module)
    for line in sys.stdin:
        process = fork()
        if process == 0:
            try:
                run(module, **json.loads(line))
            finally:
                os._exit(1)
        sys.stdout.write(f"{process}\n")
        sys.stdout.flush()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # those that have ended by now
                pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
