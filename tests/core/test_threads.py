"""The pool: threads are reused, an abandoned function is outlasted, and nothing keeps a process from ending."""

import asyncio
import contextvars
import threading

import pytest

from gateway.core.threads import ThreadPool


def test_a_thread_is_used_again() -> None:
    async def check() -> None:
        pool = ThreadPool()
        names = {await pool.run(lambda: threading.current_thread().name) for _ in range(20)}
        assert names == {"gateway-0"}

    asyncio.run(check())


def test_functions_run_at_once() -> None:
    async def check() -> None:
        pool = ThreadPool()
        barrier = threading.Barrier(30)
        assert sorted(await asyncio.gather(*(pool.run(lambda: barrier.wait(20)) for _ in range(30)))) == list(range(30))
        assert pool.busy == 0

    asyncio.run(check())


RAISED = [ValueError("no"), SystemExit(2), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()]


@pytest.mark.parametrize("error", RAISED)
def test_what_a_function_raises_is_raised_to_who_waits(error: BaseException) -> None:
    def fail() -> None:
        raise error

    async def check() -> None:
        pool = ThreadPool()
        try:
            await pool.run(fail)
        except BaseException as raised:  # noqa: BLE001 - it is what is tested
            assert type(raised) is type(error)  # noqa: PT017
        assert await pool.run(lambda: "the thread lives") == "the thread lives"

    asyncio.run(check())


def test_a_function_sees_the_context_of_its_caller() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def check() -> None:
        pool = ThreadPool()
        variable.set("of the caller")
        assert await pool.run(variable.get) == "of the caller"

    asyncio.run(check())


@pytest.mark.parametrize("outcome", ["returns", "raises"])
def test_a_cancelled_wait_ends_only_when_the_function_has(outcome: str) -> None:
    end = threading.Event()

    def block() -> None:
        end.wait(20)
        if outcome == "raises":
            raise ValueError("too late")

    async def check() -> None:
        pool = ThreadPool()
        task = asyncio.ensure_future(pool.run(block))
        await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not task.done()
            assert (pool.busy, pool.overdue) == (1, 1)
        end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (pool.busy, pool.overdue) == (0, 0)

    asyncio.run(check())


def test_an_abandoned_pool_is_waited_for_no_longer() -> None:
    end = threading.Event()

    async def check() -> None:
        pool = ThreadPool()
        task = asyncio.ensure_future(pool.run(lambda: end.wait(20)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        pool.abandon()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(check())
    end.set()


def test_what_is_run_after_the_end_has_a_thread_and_is_not_waited_for() -> None:
    """A stream that ends with the gateway closes its generator in a thread."""

    async def scenario() -> None:
        pool, gate = ThreadPool(), threading.Event()
        assert await pool.run(lambda: 1) == 1
        pool.abandon()
        assert await pool.run(lambda: 2) == 2
        late = asyncio.ensure_future(pool.run(gate.wait))
        await asyncio.sleep(0)
        late.cancel()
        try:
            await asyncio.wait((late,), timeout=5)
            assert late.cancelled()
        finally:
            gate.set()

    asyncio.run(asyncio.wait_for(scenario(), 20))
