"""A coroutine that is started at once, and goes on as a task only if it has to wait."""

import asyncio
import gc

import pytest

from gateway.hosts.eager import start


async def doubled(number: int, waits: int) -> int:
    for _ in range(waits):
        await asyncio.sleep(0)
    return number * 2


async def failing(waits: int) -> None:
    for _ in range(waits):
        await asyncio.sleep(0)
    raise ValueError("no")


def test_what_never_waits_is_no_task() -> None:
    async def check() -> None:
        assert start(doubled(21, 0)) == 42

    asyncio.run(check())


@pytest.mark.parametrize("waits", [1, 2, 5])
def test_what_waits_goes_on_as_a_task(waits: int) -> None:
    async def check() -> None:
        task = start(doubled(21, waits))
        assert isinstance(task, asyncio.Task)
        assert await task == 42

    asyncio.run(check())


def test_it_waits_for_futures_as_any_coroutine() -> None:
    async def check() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def wait() -> int:
            return await future

        task = start(wait())
        assert isinstance(task, asyncio.Task)
        future.set_result(7)
        assert await task == 7

    asyncio.run(check())


def test_an_exception_before_the_first_wait_is_raised_at_once() -> None:
    async def check() -> None:
        with pytest.raises(ValueError, match="no"):
            start(failing(0))

    asyncio.run(check())


def test_an_exception_after_it_is_the_tasks() -> None:
    async def check() -> None:
        task = start(failing(2))
        assert isinstance(task, asyncio.Task)
        with pytest.raises(ValueError, match="no"):
            await task

    asyncio.run(check())


def test_a_cancelled_task_cancels_the_coroutine() -> None:
    seen: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def check() -> None:
        task = start(wait())
        assert isinstance(task, asyncio.Task)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(check())
    assert seen == ["cancelled"]


def test_a_task_that_is_cancelled_before_it_goes_on_closes_the_coroutine() -> None:
    seen: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("ended")

    async def check() -> None:
        task = start(wait())
        assert isinstance(task, asyncio.Task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(check())
    gc.collect()
    assert seen == ["ended"]
