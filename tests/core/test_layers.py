"""ConcurrencyLimiter: first come, first served, and none is lost however a wait ends."""

import asyncio

import pytest

from gateway.core.layers import ConcurrencyLimiter


async def turns(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def waiting(places: ConcurrencyLimiter) -> asyncio.Task[None]:
    return asyncio.ensure_future(places.take())


def test_places_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    async def check() -> None:
        places = ConcurrencyLimiter(1, 10)
        await places.take()
        order: list[int] = []

        async def take(number: int) -> None:
            await places.take()
            order.append(number)

        tasks = [asyncio.ensure_future(take(number)) for number in range(5)]
        await turns()
        for _ in tasks:
            places.leave()
            await turns()
        assert order == [0, 1, 2, 3, 4]
        places.leave()
        assert places.running == 0

    asyncio.run(check())


@pytest.mark.parametrize(("running", "waits", "full"), [(1, 0, True), (1, 1, False), (2, 0, False)])
def test_it_is_full_when_neither_a_running_nor_a_waiting_place_is_free(running: int, waits: int, *, full: bool) -> None:
    async def check() -> None:
        places = ConcurrencyLimiter(running, waits)
        await places.take()
        assert places.full() is full

    asyncio.run(check())


def test_a_cancelled_wait_is_passed_over() -> None:
    async def check() -> None:
        places = ConcurrencyLimiter(1, 10)
        await places.take()
        first, second = waiting(places), waiting(places)
        await turns()
        first.cancel()
        await turns()
        places.leave()
        await second
        places.leave()
        assert places.running == 0
        assert not places.full()

    asyncio.run(check())


def test_a_wait_that_is_cancelled_while_it_is_passed_over_is_not_waited_for() -> None:
    async def check() -> None:
        places = ConcurrencyLimiter(1, 10)
        await places.take()
        first, second = waiting(places), waiting(places)
        await turns()
        first.cancel()
        places.leave()  # before the first has noticed that it is cancelled
        await second
        places.leave()
        assert places.running == 0

    asyncio.run(check())


def test_a_place_that_is_given_to_a_wait_that_is_cancelled_goes_to_the_next() -> None:
    async def check() -> None:
        places = ConcurrencyLimiter(1, 10)
        await places.take()
        first, second = waiting(places), waiting(places)
        await turns()
        places.leave()
        first.cancel()  # it has its place, but has not noticed yet
        await second
        places.leave()
        assert places.running == 0
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(check())
