"""Many calls at once: all of them run together, and the gateway answers others meanwhile.

That they run together is shown by a barrier which opens only when the last one has come, not by a clock.
"""

import asyncio
import resource
import threading
import time
import xmlrpc.client
from collections.abc import Iterator

import msgspec
import pytest

from gateway import Registry
from tests.raw_http import request
from tests.serving import Server, serving

pytestmark = pytest.mark.unmeasured

THREADS = 500
TASKS = 2000

registry = Registry()
blocked = threading.Barrier(THREADS)
arrived: list[asyncio.Future[None]] = []


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register(timeout=60)
def block() -> str:
    blocked.wait(50)
    time.sleep(1)
    return "done"


@registry.register(timeout=60)
async def wait() -> str:
    mine = asyncio.get_running_loop().create_future()
    arrived.append(mine)
    if len(arrived) == TASKS:
        for each in arrived:
            each.set_result(None)
    await mine
    await asyncio.sleep(1)
    return "done"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with serving(registry) as running:
        yield running
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def call(port: int, method: str) -> object:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "id": 1})
    writer.write(request("/api", {"Content-Type": "application/json", "Connection": "close"}, body))
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    decoded = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
    return decoded.get("result", decoded)


async def call_all_but_one_then_add(server: Server, method: str, number: int) -> list[object]:
    """Start all calls but the last, see another call answered while they wait, then let the last one come."""
    waiting = [asyncio.ensure_future(call(server.port, method)) for _ in range(number - 1)]
    proxy = xmlrpc.client.ServerProxy(server.url)
    assert await asyncio.to_thread(proxy.add, 2, 3) == 5
    proxy("close")()
    assert not any(task.done() for task in waiting)
    return await asyncio.gather(*waiting, call(server.port, method))


def test_500_clients_block_a_thread_each_and_none_is_refused(server: Server) -> None:
    assert asyncio.run(call_all_but_one_then_add(server, "block", THREADS)) == ["done"] * THREADS


def test_2000_clients_wait_on_the_loop_and_none_is_refused(server: Server) -> None:
    assert asyncio.run(call_all_but_one_then_add(server, "wait", TASKS)) == ["done"] * TASKS
