"""A gateway inside of another program: it serves beside the program's own work, and ends without touching it."""

import asyncio
import runpy
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from xmlrpc.client import ServerProxy

import pytest
from tornado.ioloop import IOLoop
from tornado.web import Application, RequestHandler

import gateway
from gateway import Config, Registry, Server, StartupError
from gateway.config.monitoring import MetricsSection
from gateway.config.server import ServerSection
from tests.raw_http import Wire, post, request
from tests.serving import eventually

CONFIG = Config(server=ServerSection(drain=0.2), metrics=MetricsSection(bind=""))
CALL = b'{"jsonrpc":"2.0","method":"wait","id":1}'

registry = Registry()


@registry.register
def add(a: int, b: int) -> int:
    return a + b


def called(url: str) -> object:
    with ServerProxy(url) as server:
        return server.add(10, 5)


def is_open(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def is_alive(thread: int) -> bool:
    """Ask the system: threading does not know when a thread ends that it has not started."""
    return Path(f"/proc/self/task/{thread}").exists()


@asynccontextmanager
async def waiting(method_ended: asyncio.Event, drain: float = 10) -> AsyncIterator[tuple[Server, "asyncio.Task[int]"]]:
    """Yield a server, and the task of a client that waits for an answer."""
    served, begun = Registry(), asyncio.Event()

    @served.register(name="wait")
    async def wait_long() -> str:
        begun.set()
        await method_ended.wait()
        return "done"

    server = Server(served, "127.0.0.1:0", config=Config(server=ServerSection(drain=drain), metrics=CONFIG.metrics))
    await server.start()
    client = asyncio.create_task(asyncio.to_thread(lambda: post(server.port, CALL).status))
    await begun.wait()
    yield server, client


def test_a_server_runs_on_the_loop_of_the_program() -> None:
    async def check() -> None:
        async with Server(registry, "127.0.0.1:0", config=CONFIG) as server:
            assert server.url == f"http://127.0.0.1:{server.port}/api"
            assert (server.metrics_url, server.tcp_url) == (None, None)
            assert await asyncio.to_thread(called, server.url) == 15
        assert not is_open(server.port)

    asyncio.run(check())


def test_a_stop_leaves_the_tasks_of_the_program_alone() -> None:
    async def check() -> None:
        forever = asyncio.create_task(asyncio.Event().wait())
        async with Server(registry, "127.0.0.1:0", config=CONFIG) as server:
            await asyncio.to_thread(called, server.url)
        assert asyncio.all_tasks() == {forever, asyncio.current_task()}
        assert not forever.cancelling()
        forever.cancel()

    asyncio.run(check())


def test_a_stop_lets_running_calls_end() -> None:
    async def check() -> None:
        ended = asyncio.Event()
        async with waiting(ended) as (server, client):
            stopping = asyncio.create_task(server.stop())
            await asyncio.sleep(0)
            ended.set()
            assert await client == 200
            await stopping

    asyncio.run(check())


def test_calls_that_run_longer_than_drain_are_cancelled_and_nothing_of_them_is_left() -> None:
    async def check() -> None:
        async with waiting(asyncio.Event(), drain=0) as (server, client):
            await server.stop()
            with pytest.raises((ConnectionError, AssertionError)):
                await client
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(check())


def test_a_cancelled_call_that_has_to_clean_up_is_waited_for() -> None:
    served, begun, cleaned = Registry(), asyncio.Event(), list[bool]()

    @served.register(name="wait")
    async def wait_long() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            cleaned.append(True)

    async def check() -> None:
        config = Config(server=ServerSection(drain=0), metrics=CONFIG.metrics)
        async with Server(served, "127.0.0.1:0", config=config) as server:
            with Wire(server.port) as client:
                client.send(request("/api", {"Content-Type": "application/json"}, CALL))
                await begun.wait()
                await server.stop()
        assert cleaned == [True]

    asyncio.run(check())


def test_a_stop_that_is_cancelled_goes_on() -> None:
    async def check() -> None:
        ended = asyncio.Event()
        async with waiting(ended) as (server, client):
            stopping = asyncio.create_task(server.stop())
            await asyncio.sleep(0)
            stopping.cancel()
            await asyncio.wait((stopping,))
            ended.set()
            assert await client == 200
            await server.stop()

    asyncio.run(check())


@pytest.mark.parametrize("is_busy", [False, True])
def test_the_threads_of_methods_end_with_the_server_or_with_the_method(*, is_busy: bool) -> None:
    served, released, threads = Registry(), threading.Event(), list[int]()

    @served.register(name="wait")
    def wait_long() -> None:
        threads.append(threading.get_native_id())
        released.wait(30 if is_busy else 0)

    config = Config(server=ServerSection(drain=0), metrics=CONFIG.metrics)
    with gateway.running(served, config=config) as server, Wire(server.port) as client:
        client.send(request("/api", {"Content-Type": "application/json"}, CALL))
        if is_busy:
            eventually(lambda: threads, "the method does not run")
        else:
            assert client.read() is not None
        assert is_alive(threads[0])
    assert not is_busy or is_alive(threads[0])
    released.set()
    eventually(lambda: not is_alive(threads[0]), "the thread does not end")


def test_two_servers_share_a_loop_with_a_tornado_application() -> None:
    class Page(RequestHandler):
        def get(self) -> None:
            self.write("a page")

    async def check() -> None:
        page = Application([("/", Page)]).listen(0, "127.0.0.1")
        one, other = Server(registry, "127.0.0.1:0", config=CONFIG), Server(registry, "127.0.0.1:0", config=CONFIG)
        async with one, other:
            answers = await asyncio.gather(*(asyncio.to_thread(called, each.url) for each in (one, other)))
            assert answers == [15, 15]
        page.stop()

    IOLoop(make_current=False).run_sync(check)


def test_the_configuration_and_plain_tcp_and_metrics_are_those_of_serve() -> None:
    config = Config(server=ServerSection(bind=("127.0.0.1:0",), tcp="127.0.0.1:0", paths=("/calls",)))
    with gateway.running(registry, None, config=config) as server:
        assert server.url.endswith("/calls")
        assert str(server.tcp_url).startswith("tcp://127.0.0.1:")
        assert str(server.metrics_url).endswith("/metrics")
        assert called(server.url) == 15


def test_an_address_that_is_taken_is_reported_where_the_server_is_started() -> None:
    async def check(bind: str) -> None:
        with pytest.raises(StartupError, match="cannot listen on"):
            await Server(registry, bind, config=CONFIG).start()

    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        asyncio.run(check(bind))
        with pytest.raises(StartupError, match="cannot listen on"), gateway.running(registry, bind, config=CONFIG):
            pass


def test_a_server_is_started_once_and_has_no_address_before() -> None:
    async def check() -> None:
        server = Server(registry, "127.0.0.1:0", config=CONFIG)
        await server.stop()
        with pytest.raises(RuntimeError, match="has not been started"):
            _ = server.url
        async with server:
            with pytest.raises(RuntimeError, match="started once"):
                await server.start()

    asyncio.run(check())


def test_an_error_in_the_block_ends_the_server_and_is_raised() -> None:
    port = 0
    with pytest.raises(KeyError), gateway.running(registry, config=CONFIG) as server:  # noqa: PT012 - two lines
        port = server.port
        raise KeyError
    assert not is_open(port)


def test_a_loop_that_ends_without_stop_closes_the_port() -> None:
    async def check() -> int:
        server = Server(registry, "127.0.0.1:0", config=CONFIG)
        await server.start()
        return server.port

    assert not is_open(asyncio.run(check()))


PROGRAM = """
import asyncio
import gateway

registry = gateway.Registry()
with gateway.running(registry) as server:
    in_thread = server.url

async def main():
    async with gateway.Server(registry, "127.0.0.1:0") as server:
        return server.url

on_loop = asyncio.run(main())
"""


def test_the_file_is_the_one_beside_the_program(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "gateway.toml").write_text('server.paths = ["/elsewhere"]\n')
    (tmp_path / "program.py").write_text(PROGRAM)
    found = runpy.run_path(str(tmp_path / "program.py"))
    assert [found[name].rpartition("/")[2] for name in ("in_thread", "on_loop")] == ["elsewhere", "elsewhere"]
