"""Methods behind nginx, which tell what reached them."""

import asyncio

from gateway import Context, Registry

registry = Registry()


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register(run="inline")
def who(context: Context) -> dict[str, str | None]:
    """Return the client, and the headers that say where it comes from."""
    told = ("Host", "X-Forwarded-For", "X-Real-IP", "Forwarded", "Connection")
    return {"client": context.client, **{name: context.headers.get(name) for name in told}}


@registry.register
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@registry.register(run="inline")
def size(text: str) -> int:
    return len(text)


@registry.register(run="inline")
def big(length: int) -> str:
    return "x" * length


@registry.register(timeout=0.25)
async def stuck() -> None:
    await asyncio.sleep(60)
