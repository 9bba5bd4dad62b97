"""AsyncClient over WebSocket: calls on one connection, subscriptions, and what becomes of them when it breaks."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from gateway import DeadlineExceeded, Fault, MethodNotFound, Registry, Unavailable
from gateway.client import (
    AsyncClient,
    BadResponse,
    CallTimeout,
    Client,
    ConnectionLost,
    Gap,
    StatusError,
    Unreachable,
    subscriptions,
)
from gateway.core.access import make_key
from gateway.hosts.http import HTTPHost
from gateway.hosts.http.websocket import WebSocket
from gateway.wire import websocket
from tests.serving import Server, eventually, free_port, serving

ON: dict[str, Any] = {"websocket.enabled": True}
registry = Registry()
log: list[str] = []


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    log.append("add")
    return a + b


@registry.register
async def wait(seconds: float) -> float:
    log.append("wait")
    await asyncio.sleep(seconds)
    return seconds


@registry.register
async def ticks() -> AsyncIterator[int]:
    number = 0
    try:
        while True:
            yield number
            number += 1
            await asyncio.sleep(0.01)
    finally:
        log.append("ticks end")


@registry.register
async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number
    if to == 3:
        raise Fault(7, "no more")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, ON) as found:
        yield found


@pytest.fixture(autouse=True)
def fresh() -> None:
    log.clear()


def url(server: Server) -> str:
    return f"ws://127.0.0.1:{server.port}/ws"


def talk(where: str, talking: Callable[[AsyncClient], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(where, **options) as client:
            return await talking(client)

    return asyncio.run(run())


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - it becomes so in another thread
            await asyncio.sleep(0.01)


def cut(server: Server) -> None:
    """Reset the connections of a server, as a network would."""

    def reset() -> None:
        hosts = [each for each in gc.get_objects() if type(each) is HTTPHost]
        for socket in [socket for host in hosts for socket in host.sockets]:
            if isinstance(socket, WebSocket):
                socket._connection.reset()

    server.loop.call_soon_threadsafe(reset)


def test_calls_of_one_connection_are_answered_when_they_are_ready(server: Server) -> None:
    async def talking(client: AsyncClient) -> Any:
        order: list[str] = []

        async def call(name: str, seconds: float) -> None:
            await client.wait(seconds)
            order.append(name)

        await asyncio.gather(call("late", 0.3), call("soon", 0.05))
        with pytest.raises(MethodNotFound):
            await client.nothing()
        await client.notify("add", 1, 2)
        batch = client.batch()
        outcomes = batch.add(1, 2), batch.add(a=3, b=4), batch.nothing()
        batch.notify("add", 5, 6)
        await batch.send()
        return order, [outcome.value for outcome in outcomes], type(outcomes[2].error)

    assert talk(url(server), talking) == (["soon", "late"], [3, 7, None], MethodNotFound)
    assert log.count("add") == 4


def test_values_come_until_the_end(server: Server) -> None:
    async def talking(client: AsyncClient) -> Any:
        async with client.subscribe("count", 2) as counting:
            found = [value async for value in counting]
        assert counting.gap is None
        found += [value async for value in client.subscribe("count", to=1)]  # it need not be entered
        counting = client.subscribe("count", 3)
        found += [await anext(counting) for _ in range(3)]
        with pytest.raises(Fault, match="no more") as ended:
            await anext(counting)
        assert ended.value.code == 7
        with pytest.raises(MethodNotFound):
            async with client.subscribe("nothing"):
                pass
        return found

    assert talk(url(server), talking) == [0, 1, 0, 0, 1, 2]


def test_calls_go_on_beside_a_subscription_which_ends_with_its_block(server: Server) -> None:
    async def talking(client: AsyncClient) -> None:
        async with client.subscribe("ticks") as ticking:
            seen = 0
            async for tick in ticking:
                assert tick == seen
                assert await client.add(tick, 1) == tick + 1
                seen += 1
                if seen == 5:
                    break
        assert not [value async for value in ticking]
        await _until(lambda: "ticks end" in log)

    talk(url(server), talking)


def test_the_names_of_ethereum() -> None:
    names = {"websocket.subscribe": "eth_subscribe", "websocket.unsubscribe": "eth_unsubscribe"}
    with serving(registry, ON | names | {"websocket.notification": "eth_subscription"}) as server:

        async def talking(client: AsyncClient) -> Any:
            async with client.subscribe("ticks") as ticking:
                return await anext(ticking)

        assert talk(url(server), talking, subscriptions="eth") == 0
        eventually(lambda: "ticks end" in log, "the subscription does not end")


def test_a_connection_that_breaks_is_opened_again_and_the_gap_is_told(server: Server) -> None:
    async def talking(client: AsyncClient) -> Gap | None:
        async with client.subscribe("ticks") as ticking:
            assert await anext(ticking) == 0
            running = asyncio.create_task(client.wait(30))
            await _until(lambda: "wait" in log)
            cut(server)
            with pytest.raises(ConnectionLost) as lost:
                await running
            assert lost.value.sent == "maybe"
            async for tick in ticking:
                if tick == 0:  # it has begun again
                    gap = ticking.gap
                    await anext(ticking)
                    assert ticking.gap is None
                    assert await client.add(1, 1) == 2
                    return gap
        return None

    gap = talk(url(server), talking)
    assert isinstance(gap.error, ConnectionLost)
    assert gap.seconds > 0
    assert gap.dropped == 0


def test_a_server_that_stops_and_starts_again() -> None:
    port = free_port()
    settings = ON | {"server.bind": f"127.0.0.1:{port}", "limits.linger": 0.5}

    async def talking(client: AsyncClient) -> Any:
        loop = asyncio.get_running_loop()
        first, second = serving(registry, settings), serving(registry, settings)
        await loop.run_in_executor(None, first.__enter__)
        async with client.subscribe("ticks") as ticking:
            await anext(ticking)
            await loop.run_in_executor(None, first.__exit__, None, None, None)
            again = asyncio.create_task(_until_gap(ticking))
            await asyncio.sleep(0.5)  # it tries in vain
            assert not again.done()
            await loop.run_in_executor(None, second.__enter__)
            gap = await again
        await loop.run_in_executor(None, second.__exit__, None, None, None)
        with pytest.raises(Unreachable):
            await client.add(1, 2)
        return gap

    gap = talk(f"ws://127.0.0.1:{port}/ws", talking)
    assert isinstance(gap.error, Unavailable)
    assert gap.seconds > 0.4


async def _until_gap(subscription: Any) -> Gap | None:
    async for _ in subscription:
        if subscription.gap is not None:
            gap: Gap = subscription.gap
            return gap
    return None


def test_a_subscription_that_is_refused_the_second_time_ends(server: Server) -> None:
    async def talking(client: AsyncClient) -> None:
        async with client.subscribe("ticks") as ticking:
            await anext(ticking)
            ticking._method = "nothing"
            cut(server)
            with pytest.raises(MethodNotFound):
                async for _ in ticking:
                    pass
            assert not [value async for value in ticking]

    talk(url(server), talking)


def test_values_that_nobody_takes_are_dropped_and_counted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "_KEPT", 5)

    async def talking(client: AsyncClient) -> Any:
        async with client.subscribe("count", 100) as counting:
            await _until(lambda: counting._is_over)
            return [(value, counting.gap) async for value in counting]

    found = talk(url(server), talking)
    assert found == [(95, Gap(dropped=95)), *((value, None) for value in range(96, 100))]


def test_what_the_server_drops_is_told() -> None:
    core: Any = None
    view: Any = None
    subscription = subscriptions.Subscription(core, view, "ticks", [])
    subscription.put("a", 0)
    subscription.put("b", 3)
    assert asyncio.run(_two(subscription)) == [("a", None), ("b", Gap(dropped=3))]


async def _two(subscription: Any) -> Any:
    return [(await anext(subscription), subscription.gap) for _ in range(2)]


def test_keys_are_shown_with_the_upgrade() -> None:
    key, stored = make_key()
    with serving(registry, ON | {"access.keys": json.dumps({"page": stored})}) as server:

        async def adds(client: AsyncClient) -> Any:
            return await client.add(1, 2)

        assert talk(url(server), adds, key=key) == 3
        assert talk(f"ws://page:{key}@127.0.0.1:{server.port}/ws", adds) == 3
        assert talk(url(server), adds, headers={"Authorization": f"Bearer {key}"}) == 3
        with pytest.raises(StatusError, match="401") as refused:
            talk(url(server), adds, key="wrong")
        assert refused.value.status == 401
        with pytest.raises(StatusError, match="405"):
            talk(f"ws://127.0.0.1:{server.port}/api", adds, key=key)


def test_the_time_of_a_call(server: Server) -> None:
    async def talking(client: AsyncClient) -> None:
        with pytest.raises(CallTimeout) as late:
            await client.using(timeout=0.1).wait(30)
        assert late.value.sent == "maybe"
        assert await client.add(1, 2) == 3

    talk(url(server), talking)
    with pytest.raises(DeadlineExceeded):
        talk(url(server), lambda client: client.wait(30), headers={"X-Request-Timeout": "0.1"})


def test_what_cannot_be(server: Server) -> None:
    with pytest.raises(ValueError, match="WebSocket is for AsyncClient"):
        Client("ws://127.0.0.1:1/ws")
    with pytest.raises(ValueError, match="over WebSocket, only JSON-RPC is spoken"):
        AsyncClient("xmlrpc+ws://127.0.0.1:1/ws")
    with pytest.raises(ValueError, match="subscriptions must be one of rpc, eth"):
        AsyncClient("ws://127.0.0.1:1/ws", subscriptions="btc")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give them to the client"):
        AsyncClient("ws://127.0.0.1:1/ws").using(headers={"X-A": "b"})
    with pytest.raises(ValueError, match="need a URL that begins with ws://"):
        AsyncClient(server.url).subscribe("ticks")


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("answer", "then", "error", "said"),
    [
        (SWITCH + b"Sec-WebSocket-Accept: wrong\r\n\r\n", b"", BadResponse, "is not one of WebSocket"),
        (b"SMTP\r\n\r\n", b"", BadResponse, "does not respond in HTTP"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", b"", StatusError, "503 Busy"),
        (b"", b"", ConnectionLost, "closed the connection without a response"),
        (None, b"\x81\x82abcd[]", BadResponse, "is not WebSocket: a frame is masked"),
        (None, websocket.write_close(1013, "busy"), ConnectionLost, "with code 1013: busy"),
        (None, b"", ConnectionLost, "it closed the connection"),
        (None, websocket.write(websocket.TEXT, b"nonsense"), BadResponse, "the response is not JSON-RPC"),
    ],
)
def test_servers_that_are_none(answer: bytes | None, then: bytes, error: type[Exception], said: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = head.lower().partition(b"sec-websocket-key: ")[2].partition(b"\r\n")[0]
        if answer is None:
            key = head[head.lower().index(b"sec-websocket-key: ") + 19 :][: len(key)]
            writer.write(SWITCH + b"Sec-WebSocket-Accept: %b\r\n\r\n" % websocket.accept(key.decode()).encode())
            await reader.read(1)
            writer.write(then)
        else:
            writer.write(answer)
        await writer.drain()
        if then:
            await reader.read()
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            async with AsyncClient(f"ws://127.0.0.1:{port}/ws", retries=0) as client:
                with pytest.raises(error, match=said):
                    await client.add(1, 2)

    asyncio.run(run())
