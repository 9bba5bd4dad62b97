"""A method, and what is opened and closed around it: the file LIFESPAN has a line for each time, with the process."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from gateway import Registry

registry = Registry()


def note(what: str) -> None:
    with Path(os.environ["LIFESPAN"]).open("a") as file:
        file.write(f"{what} {os.getpid()}\n")


@registry.lifespan
async def resource() -> AsyncIterator[None]:
    note("opened")
    yield
    await asyncio.sleep(0)
    note("closed")


@registry.register(run="inline")
def process() -> int:
    return os.getpid()
