"""Two ways to wait: in a thread, and on the event loop.

``def`` may block: each call has a thread to itself. ``async def`` must not: it awaits, and thousands wait together. The
bounds stand in the type hints, so what lies beyond them is refused before the method is called.
"""

import asyncio
import time
from typing import Annotated

from msgspec import Meta

from gateway import Context, method

Seconds = Annotated[float, Meta(ge=0, le=20)]


@method(timeout=25)
def sleep(seconds: Seconds) -> str:
    """Block a thread, for 20 seconds at most."""
    time.sleep(seconds)
    return "done"


@method(name="asyncSleep", timeout=25)
async def async_sleep(seconds: Seconds) -> str:
    """Wait on the event loop, for 20 seconds at most."""
    await asyncio.sleep(seconds)
    return "done"


@method(name="timeLeft", run="inline")
def time_left(context: Context) -> float:
    """Return how many seconds this call has: a Context comes by annotation, and callers do not see it."""
    return round(context.time_left, 3)
