"""What only connections of an event loop have: places that are handed on, and a timer that several calls share."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway import AsyncClient
from gateway.client import CallTimeout
from gateway.client.loop import _Places

PATIENCE = 30  # seconds, after which something hangs
ANSWER = b'{"jsonrpc":"2.0","result":5,"id":%d}'


async def handed(then: Callable[[asyncio.Task[None]], object]) -> tuple[bool, bool]:
    """Let two wait for one place; when the first is handed it, do something; tell who has got it in the end."""
    places = _Places(1)
    assert places.take_now()
    assert not places.take_now()
    loop = asyncio.get_running_loop()
    first, second = (asyncio.create_task(places.take(loop.time() + PATIENCE)) for _ in range(2))
    await asyncio.sleep(0)
    places.give_back()
    then(first)
    await asyncio.wait((first,))
    for _ in range(5):
        await asyncio.sleep(0)
    got = second.done()
    second.cancel()
    await asyncio.wait((second,))
    return not first.cancelled(), got


def test_places_are_handed_on_in_order() -> None:
    assert asyncio.run(handed(lambda _: None)) == (True, False)


def test_a_place_that_was_handed_to_a_call_that_is_cancelled_goes_to_the_next() -> None:
    assert asyncio.run(handed(lambda first: first.cancel())) == (False, True)


def test_who_has_given_up_is_handed_no_place() -> None:
    async def play() -> bool:
        places = _Places(1)
        places.take_now()
        with pytest.raises(TimeoutError):
            await places.take(asyncio.get_running_loop().time() - 1)
        places.give_back()
        return places.take_now()

    assert asyncio.run(play())


async def served(play: Callable[[AsyncClient, asyncio.Event], Awaitable[None]]) -> None:
    """Have a server that answers each call, but those of ``wait`` only when the event is set."""
    answering = asyncio.Event()
    calls = 0
    handlers = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        handlers.append(asyncio.current_task())
        while request := await reader.read(65536):
            calls += 1
            body = ANSWER % calls
            if b'"wait"' in request:
                await answering.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with AsyncClient(
        f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", connections=1, retries=0
    ) as client:
        await play(client, answering)
    answering.set()
    server.close()
    for handler in filter(None, handlers):
        await handler
    loop: Any = asyncio.get_running_loop()
    assert [timer for timer in loop._scheduled if not timer.cancelled()] == [], (
        "a connection that is closed has a timer"
    )


def test_a_call_with_less_time_than_the_one_before_ends_in_its_own() -> None:
    async def play(client: AsyncClient, _: asyncio.Event) -> None:
        assert await client.add() == 5
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(CallTimeout):
                await client.using(timeout=0.1).wait()

    asyncio.run(served(play))


def test_a_call_with_more_time_than_the_one_before_has_its_own() -> None:
    async def play(client: AsyncClient, answering: asyncio.Event) -> None:
        assert await client.using(timeout=0.1).add() == 5
        waiting = asyncio.ensure_future(client.wait())
        await asyncio.sleep(0.2)
        assert not waiting.done()
        answering.set()
        assert await waiting == 5

    asyncio.run(served(play))
