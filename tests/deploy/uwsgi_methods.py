"""Methods for tests on uWSGI: which process answers, and how long it takes."""

import os
import time

from gateway import Context, Registry

registry = Registry()


FORKED: list[int] = []
os.register_at_fork(after_in_child=lambda: FORKED.append(os.getpid()))


@registry.register
def process() -> tuple[int, list[int]]:
    """Take a moment, so that calls at once come to several processes; tell this one, and what forks it knows of."""
    time.sleep(0.1)
    return os.getpid(), FORKED


@registry.register
def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register(timeout=45)
def patient() -> None:
    """Have more time than the others."""


@registry.register
def client(context: Context) -> str:
    return context.client
