"""gRPC methods that stream both ways, over WebSocket: their callers send messages while they run."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from gateway import Registry
from gateway.endpoints.subscriptions import Subscriptions
from gateway.model.faults import Overloaded, Unavailable
from gateway.model.streams import Inbox
from gateway.upstreams import Invocation
from gateway.upstreams.streaming import over_instances
from tests.hosts.test_websocket import Client, call
from tests.serving import Server, eventually, serving
from tests.upstreams.kinds import TYPED
from tests.upstreams.running import Program

GRPC = next(
    replace(kind, options=f"{kind.options.partition('service')[0]}service = 'programs.Streams'")
    for kind in TYPED
    if kind.name == "grpc"
)
registry = Registry()


@registry.register
async def ticks() -> AsyncIterator[int]:
    yield 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("dialogues") / "gateway.toml"
    with Program(GRPC) as program:
        file.write_text(f"[upstreams.up]\nurl = '{GRPC.url.format(port=program.port)}'\n{GRPC.options}\n")
        with serving(registry, {"websocket.enabled": True}, file) as found:
            yield found


def ask(client: Client, method: str, params: Any) -> Any:
    """Call, and read the result or the error; what is read before is kept."""
    client.send({"jsonrpc": "2.0", "method": method, "params": params, "id": "a"})
    while (answer := client.read()).get("id") != "a":
        client_said(client).append(answer)
    return answer.get("result", answer.get("error"))


SAID: dict[int, list[Any]] = {}


def client_said(client: Client) -> list[Any]:
    return SAID.setdefault(id(client), [])


def said(client: Client) -> Any:
    """Read a value, or the end."""
    kept = client_said(client)
    answer = kept.pop(0) if kept else client.read()
    return answer["params"].get("result", answer["params"].get("error", answer["method"]))


@pytest.fixture(autouse=True)
def fresh() -> None:
    SAID.clear()


def dialogue(client: Client, *first: Any) -> str:
    number = ask(client, "rpc.subscribe", {"method": "up.Chat", "params": [list(first)], "dialogue": True})
    assert isinstance(number, str), number
    return number


def test_messages_are_sent_while_answers_come(server: Server) -> None:
    with Client(server) as client:
        number = dialogue(client, "a")
        assert [said(client), said(client)] == ["a", "A"]
        assert ask(client, "rpc.send", [number, "b"]) is True
        assert [said(client), said(client)] == ["b", "B"]
        assert ask(client, "rpc.send", {"subscription": number, "message": {"text": "c"}}) is True
        assert [said(client), said(client)] == ["c", "C"]
        for wrong in (5, {"word": "d"}, ["d"], None):
            error = ask(client, "rpc.send", [number, wrong])
            assert error["code"] == -32602
            assert error["data"]["detail"].startswith("params.message"), error
        assert ask(client, "rpc.close", [number]) is True
        assert ask(client, "rpc.close", [number]) is False
        assert ask(client, "rpc.send", [number, "e"]) is False
        assert said(client) == "rpc.ended"
        assert ask(client, "rpc.send", [number, "e"]) is False
        assert ask(client, "rpc.close", [number]) is False
        other = dialogue(client)
        assert ask(client, "rpc.close", [other]) is True
        assert said(client) == "rpc.ended"
        number = ask(client, "rpc.subscribe", ["up.Chat", ["a"]])  # as it was: what it takes comes with the call
        assert ask(client, "rpc.send", [number, "b"]) is False
        assert [said(client), said(client), said(client)] == ["a", "A", "rpc.ended"]
    eventually(lambda: not server.gateway.running(), "a call keeps its place")


def test_who_takes_no_messages_is_not_talked_to(server: Server) -> None:
    with Client(server) as client:
        asked: dict[str, Any]
        for method, params in (("up.Count", [1]), ("ticks", []), ("up.Sum", [[1]])):
            asked = {"method": method, "params": params, "dialogue": True}
            assert ask(client, "rpc.subscribe", asked)["code"] == -32602
        asked = {"method": "up.Chat", "params": [[]], "dialogue": 1}
        assert ask(client, "rpc.subscribe", asked)["code"] == -32602
        assert ask(client, "rpc.send", ["0x1", "a"]) is False
        assert ask(client, "rpc.send", []) is False


def test_a_dialogue_ends_with_its_client_or_its_subscription(server: Server, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with Client(server) as client:
        number = dialogue(client, f"note {first}")
        said(client)
        assert ask(client, "rpc.unsubscribe", [number]) is True
        eventually(first.exists, "it runs on without a subscription")
        dialogue(client, f"note {second}")
        while said(client) != f"note {second}":  # of the first one, values may have come that nobody has read
            pass
    eventually(second.exists, "it runs on without a client")


def test_messages_wait_for_an_upstream_that_does_not_read_and_few_do(server: Server) -> None:
    with Client(server) as client:
        number = dialogue(client, "sleep 3")
        for index in range(60):
            client.send(call("rpc.send", number, "x" * 500_000, call_id=index))
        answers: dict[int, Any] = {}
        values = 0
        while len(answers) < 60:
            answer = client.read()
            if "id" in answer:
                answers[answer["id"]] = answer.get("result") or answer["error"]["code"]
            else:
                values += 1
        taken = sum(answer is True for answer in answers.values())
        assert set(answers.values()) == {True, -32003}
        assert taken < 52  # those that the protocol has room for, and eight
        assert ask(client, "rpc.close", [number]) is True
        while said(client) != "rpc.ended":
            values += 1
        assert values == 2 * (taken + 1)


@pytest.mark.parametrize(("at_once", "room"), [(1, 1), (4, 3), (1000, 8)])
def test_messages_that_wait_leave_room_for_calls(at_once: int, room: int) -> None:
    rpc = SimpleNamespace(limits=SimpleNamespace(in_flight=at_once))
    subscriptions: Any = SimpleNamespace(rpc=rpc)
    assert Subscriptions._room_for_messages(subscriptions) == room


def test_a_message_is_taken_by_one_or_by_nobody() -> None:
    async def talk() -> None:
        inbox = Inbox(2)
        first, second = (asyncio.ensure_future(inbox.put(each)) for each in "ab")
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 messages wait"):
            await inbox.put("c")
        first.cancel()  # its client has gone
        await asyncio.sleep(0)
        taken = inbox.each(str.upper)
        assert await anext(taken) == "B"
        assert await second is True
        third = asyncio.ensure_future(inbox.put("d"))
        await asyncio.sleep(0)
        inbox.end()
        assert await third is False
        assert await inbox.put("e") is False
        assert inbox.close() is False

    asyncio.run(talk())


def test_messages_that_were_taken_are_not_sent_to_another_instance() -> None:
    """What a stream of a call has taken is gone with it, though its server says that it has not begun."""
    seen: list[str] = []

    class Refusing:
        async def stream(self, invocation: Invocation) -> AsyncGenerator[Any, None]:
            seen.append("called")
            if invocation.params:
                assert invocation.more is not None
                await anext(invocation.more.each(str))
            for _ in seen:
                raise Unavailable("refused")
            yield 1

    def refused(*_: Any) -> Any:
        return attempt if len(seen) == 1 else None

    async def run(*, reads: bool) -> None:
        seen.clear()
        inbox = Inbox(1)
        waiting = asyncio.ensure_future(inbox.put("a"))
        await asyncio.sleep(0)
        attempt.invocation.params, attempt.invocation.more = [reads] if reads else [], inbox
        with pytest.raises(Unavailable):
            await anext(over_instances(instances, spread, course))
        inbox.end()
        await waiting
        assert len(seen) == (1 if reads else 2)

    instances: Any = SimpleNamespace(adapter=lambda _: Refusing())
    attempt: Any = SimpleNamespace(seat=None, invocation=Invocation(method="", params=[], deadline=0, request_id=""))
    course: Any = SimpleNamespace(told=lambda error: error)
    spread: Any = SimpleNamespace(first=lambda _: attempt, ended=lambda _, __, error: error, after_refusal=refused)
    asyncio.run(run(reads=False))
    asyncio.run(asyncio.wait_for(run(reads=True), 5))
