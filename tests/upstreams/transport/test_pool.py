"""The pool of connections, by connections that only note what becomes of them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.upstreams import Invocation
from gateway.upstreams.transport.pool import Lent, Pool


class Connection:
    """A connection without a wire."""

    def __init__(self) -> None:
        self.good = True
        self.closed = 0

    def usable(self) -> bool:
        return self.good and not self.closed

    def close(self) -> None:
        self.closed += 1


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def pool_of(size: int, share: int = 1) -> tuple[Pool[Connection], list[Connection]]:
    made: list[Connection] = []

    async def connect() -> Connection:
        await asyncio.sleep(0)
        made.append(Connection())
        return made[-1]

    return Pool(connect, size, share), made


def test_a_connection_is_used_again() -> None:
    async def test() -> None:
        pool, made = pool_of(4)
        for _ in range(3):
            async with pool.lend() as connection:
                assert connection is made[0]
        assert len(made) == len(pool) == 1

    run(test)


def test_no_more_than_its_size_and_the_others_in_the_order_of_their_coming() -> None:
    async def test() -> None:
        pool, made = pool_of(2)
        order: list[int] = []
        lent = 0

        async def use(number: int) -> None:
            nonlocal lent
            async with pool.lend():
                lent += 1
                assert lent <= 2
                order.append(number)
                await asyncio.sleep(0.001)
                lent -= 1

        await asyncio.gather(*map(use, range(20)))
        assert order == list(range(20))
        assert len(made) == 2

    run(test)


@pytest.mark.parametrize("error", [TimeoutError, asyncio.CancelledError, ValueError])
def test_what_leaves_the_block_closes_the_connection(error: type[BaseException]) -> None:
    async def test() -> None:
        pool, made = pool_of(1)
        with pytest.raises(error):
            async with pool.lend():
                raise error
        assert (made[0].closed >= 1, len(pool)) == (True, 0)
        async with pool.lend() as connection:
            assert connection is made[1]

    run(test)


def test_a_shared_connection_outlives_a_call_that_was_given_up() -> None:
    async def test() -> None:
        pool, made = pool_of(1, share=2)
        async with pool.lend() as first:
            with pytest.raises(TimeoutError):  # noqa: PT012 - the block is what is left by it
                async with pool.lend() as second:
                    assert second is first
                    raise TimeoutError
        assert (made[0].closed, len(made)) == (0, 1)

    run(test)


def test_a_shared_connection_is_filled_when_there_can_be_no_other() -> None:
    async def test() -> None:
        pool, made = pool_of(2, share=2)
        done = asyncio.Event()
        held = 0

        async def hold() -> None:
            nonlocal held
            async with pool.lend():
                held += 1
                await done.wait()

        holding = [asyncio.ensure_future(hold()) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert (held, len(made)) == (4, 2)
        done.set()
        await asyncio.gather(*holding)
        assert held == 5

    run(test)


def test_a_connection_that_is_out_of_place_is_not_lent_again() -> None:
    async def test() -> None:
        pool, made = pool_of(1)
        async with pool.lend() as connection:
            pass
        connection.good = False  # bytes have come that nobody asked for
        async with pool.lend() as other:
            assert other is not connection
        assert (made[0].closed, len(pool)) == (1, 1)

    run(test)


def test_a_connection_that_cannot_be_made_leaves_its_place_to_who_waits() -> None:
    async def test() -> None:
        tries = 0

        async def connect() -> Connection:
            nonlocal tries
            tries += 1
            await asyncio.sleep(0)
            if tries < 3:
                raise ConnectionRefusedError
            return Connection()

        async def use() -> bool:
            try:
                async with pool.lend():
                    return True
            except ConnectionRefusedError:
                return False

        pool = Pool(connect, 1)
        assert await asyncio.gather(*(use() for _ in range(5))) == [False, False, True, True, True]
        assert tries == 3

    run(test)


def test_who_gives_up_waiting_takes_no_place() -> None:
    async def test() -> None:
        pool, _ = pool_of(1)

        async def use() -> None:
            async with pool.lend():
                pass

        async with pool.lend():
            waiting = [asyncio.ensure_future(use()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            waiting[1].cancel()
            await asyncio.sleep(0)
        waiting[2].cancel("too late: it may have its turn already")
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.wait_for(use(), 5)

    run(test)


def test_nobody_overtakes_who_waits() -> None:
    async def test() -> None:
        pool, _ = pool_of(1)
        order: list[str] = []

        async def use(name: str) -> None:
            async with pool.lend():
                order.append(name)

        async with pool.lend():
            waits = asyncio.ensure_future(use("first"))
            await asyncio.sleep(0)
        await use("second")  # it asks in the very moment in which the connection is given back
        await waits
        assert order == ["first", "second"]

    run(test)


def test_close_closes_what_is_lent_too() -> None:
    async def test() -> None:
        pool, made = pool_of(2)
        async with pool.lend(), pool.lend():
            pool.close()
            assert [connection.closed for connection in made] == [1, 1]
        assert len(pool) == 0

    run(test)


class Told:
    """What is told of a call that nobody waits for, and the call."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.invocation = Invocation(method="add", params=[], deadline=0, request_id="")

    def done(self) -> bool:
        return bool(self.said)

    def set_result(self, value: object) -> None:
        self.said.append(value)

    def set_exception(self, error: Exception) -> None:
        self.said.append(type(error))


def test_calls_with_and_without_a_coroutine_wait_in_the_order_of_their_coming() -> None:
    async def test() -> None:
        pool, made = pool_of(1)
        order: list[str] = []

        async def use(name: str) -> None:
            async with pool.lend():
                order.append(name)

        def ask(name: str) -> tuple[Lent[Connection], Told]:
            told = Told()
            return pool.lend_to(told, told.invocation, lambda *_: order.append(name)), told

        (first, said), (second, also_said) = ask("first"), ask("second")
        waits = asyncio.ensure_future(use("third"))
        await asyncio.sleep(0)
        fourth, _ = ask("fourth")
        assert (said.invocation.waits, also_said.invocation.waits, order) == (False, True, [])
        await until(lambda: order == ["first"])
        first.set_result(7)
        assert (order, said.said, also_said.invocation.waits) == (["first", "second"], [7], False)
        second.set_result(8)
        assert order == ["first", "second"]
        fifth, _ = ask("fifth")
        await waits
        await until(lambda: order == ["first", "second", "third", "fourth"])
        fourth.set_exception(EOFError())
        await until(lambda: order[-1] == "fifth")
        fifth.set_result(9)
        assert ([each.closed > 0 for each in made], len(pool)) == ([True, False], 1)
        sixth, _ = ask("sixth")
        assert order[-1] == "sixth"
        sixth.cancel()
        assert (made[1].closed >= 1, len(pool)) == (True, 0)

    run(test)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - it comes to be in one of the next turns
        await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(8))
def test_a_call_that_is_given_up_while_its_connection_is_made_leaves_the_place(turns: int) -> None:
    async def test() -> None:
        pool, made = pool_of(1)
        given_up, waiting, also_waiting = Told(), Told(), Told()
        sent: list[Connection] = []
        lent = pool.lend_to(given_up, given_up.invocation, lambda _, connection: sent.append(connection))
        behind = pool.lend_to(waiting, waiting.invocation, lambda *_: None)
        other = pool.lend_to(also_waiting, also_waiting.invocation, lambda *_: None)
        for _ in range(turns):
            await asyncio.sleep(0)
        lent.cancel()
        behind.cancel()
        await until(lambda: not also_waiting.invocation.waits)
        await until(lambda: len(made) > 0 and not made[-1].closed)
        await asyncio.sleep(0.01)
        other.set_result(1)
        async with pool.lend() as connection:
            assert connection is made[-1]
        assert (given_up.said, waiting.said, also_waiting.said) == ([], [], [1])
        assert all(connection.closed for connection in sent)

    run(test)


def test_nothing_is_sent_on_a_connection_that_breaks_as_soon_as_it_is_made() -> None:
    async def test() -> None:
        made: list[Connection] = []

        async def connect() -> Connection:
            made.append(Connection())
            asyncio.get_running_loop().call_soon(setattr, made[-1], "good", False)
            return made[-1]

        pool, sent, told = Pool(connect, 1), list[Connection](), [Told(), Told()]
        for each in told:
            pool.lend_to(each, each.invocation, lambda _, connection: sent.append(connection))
        await until(lambda: all(each.said for each in told))
        assert ([each.said for each in told], sent) == ([[EOFError], [EOFError]], [])
        assert ([each.closed for each in made], len(pool)) == ([1, 1], 0)

    run(test)


def test_who_waits_without_a_coroutine_hears_that_no_connection_can_be_made() -> None:
    async def test() -> None:
        tries = 0

        async def connect() -> Connection:
            nonlocal tries
            tries += 1
            await asyncio.sleep(0)
            if tries < 3:
                raise ConnectionRefusedError
            return Connection()

        pool = Pool(connect, 1)
        told = [Told() for _ in range(4)]

        def send(lent: Lent[Connection], _: Connection) -> None:
            asyncio.get_running_loop().call_soon(lent.set_result, 1)

        for each in told:
            pool.lend_to(each, each.invocation, send)
        await until(lambda: all(each.said for each in told))
        assert [each.said for each in told] == [[ConnectionRefusedError], [ConnectionRefusedError], [1], [1]]
        assert tries == 3

    run(test)


def test_a_call_that_cannot_be_sent_gives_its_connection_back() -> None:
    async def test() -> None:
        pool, made = pool_of(1, share=2)

        def refuse(*_: object) -> None:
            raise ValueError("it cannot be encoded")

        told, late = Told(), Told()
        pool.lend_to(late, late.invocation, refuse)
        assert late.said == []
        await until(lambda: late.said == [ValueError])
        for _ in range(3):
            with pytest.raises(ValueError, match="cannot be encoded"):
                pool.lend_to(told, told.invocation, refuse)
        assert (told.said, len(made), len(pool)) == ([], 1, 1)
        made[0].good = False
        lent = pool.lend_to(told, told.invocation, lambda *_: None)
        await until(lambda: len(made) == 2)
        await asyncio.sleep(0.01)
        lent.set_result(1)
        assert made[0].closed

    run(test)


@pytest.mark.parametrize("turns", range(8))
def test_a_call_that_was_given_up_hears_nothing_of_its_connection(turns: int) -> None:
    async def test() -> None:
        async def refuse() -> Connection:
            await asyncio.sleep(0)
            raise ConnectionRefusedError

        pool = Pool(refuse, 1)
        told = Told()
        lent = pool.lend_to(told, told.invocation, lambda *_: None)
        for _ in range(turns):
            await asyncio.sleep(0)
        before = list(told.said)
        if not before:
            lent.cancel()
        await asyncio.sleep(0.01)
        assert (told.said, len(pool)) == (before, 0)

    run(test)


def test_a_connection_is_made_no_longer_than_somebody_waits_for_it() -> None:
    async def test() -> None:
        stuck = True

        async def connect() -> Connection:
            if stuck:
                await asyncio.Event().wait()
            return Connection()

        pool, told, other = Pool(connect, 1), Told(), Told()
        lent = pool.lend_to(told, told.invocation, lambda *_: None)
        await asyncio.sleep(0.01)
        behind = pool.lend_to(other, other.invocation, lambda *_: None)
        stuck = False
        lent.cancel()
        await until(lambda: not other.invocation.waits)
        await asyncio.sleep(0.01)
        behind.set_result(1)
        assert (told.said, other.said) == ([], [1])

    run(test)
