"""The event loop that the gateway runs on: uvloop's where it exists, else asyncio's own."""

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop. uvloop answers ten to thirty percent more calls in the same time."""
    try:
        import uvloop  # noqa: PLC0415 - where it does not exist, asyncio's own loop serves
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
