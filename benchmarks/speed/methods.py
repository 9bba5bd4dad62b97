"""The methods of the gateway that are measured: inline, on the event loop, and in a thread."""

import asyncio
import time
from typing import Any

from gateway import method


@method(run="inline")
def add(a: int, b: int) -> int:
    """Add, on the event loop, without a coroutine."""
    return a + b


@method(name="addAsync")
async def add_async(a: int, b: int) -> int:
    """Add, in a coroutine."""
    return a + b


@method(name="addThread")
def add_in_a_thread(a: int, b: int) -> int:
    """Add, in a thread, as a ``def`` runs by default."""
    return a + b


@method(run="inline")
def echo(value: Any) -> Any:
    """Return what came."""
    return value


@method(name="sleepAsync")
async def sleep_async(seconds: int) -> str:
    """Wait on the event loop."""
    await asyncio.sleep(seconds)
    return "done"


@method(name="sleepThread")
def sleep_in_a_thread(seconds: int) -> str:
    """Block a thread."""
    time.sleep(seconds)
    return "done"
