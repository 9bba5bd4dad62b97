"""Runs Locust in forks of a process that has imported it, which takes longer than most runs in the tests.

python -m tests.forked_locust: each line of its input is an object with ``arguments``, ``environment`` (null: its own)
and ``output``, the file that takes what is printed. When the run has ended, it prints the exit code.
"""

import json
import os
import sys
import traceback
from os import fork, waitpid  # before gevent puts its own in their place

import gevent  # type: ignore[import-untyped]
from locust.main import main


def run(arguments: list[str], environment: dict[str, str] | None, output: str) -> None:
    """Be the command, and end."""
    gevent.reinit()
    gevent.get_hub().loop.update_now()  # or the run would be over at once: its time is that of the parent's start
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    sys.argv[1:] = arguments
    try:
        main()  # type: ignore[no-untyped-call]
        code: object = 0
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)  # noqa: T201 - as the interpreter does
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    for line in sys.stdin:
        process = fork()
        if process == 0:
            run(**json.loads(line))
        code = os.waitstatus_to_exitcode(waitpid(process, 0)[1])
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()
