"""Methods for tests on uWSGI: which process answers, and how long it takes."""

import os
import time

from gateway import Registry

registry = Registry()


@registry.register
def process() -> int:
    return os.getpid()


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
