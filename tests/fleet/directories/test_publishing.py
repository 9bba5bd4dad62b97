"""A gateway in ZooKeeper: listed while it is ready, again after whatever happens there, and gone before it ends."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from click.testing import CliRunner, Result
from kazoo.exceptions import NoNodeError
from msgspec.structs import replace

from gateway.cli import main
from gateway.config import load
from gateway.fleet.directories.zookeeper import publishing
from gateway.fleet.directories.zookeeper.client import Client
from gateway.fleet.directories.zookeeper.publishing import Publication, Publisher
from gateway.process import publishing as processes
from gateway.process.registrar import Publishing, Registrar
from tests.conftest import Logged
from tests.fleet.directories.following import following, made
from tests.fleet.directories.test_zookeeper import end_session
from tests.fleet.directories.zookeeper import ZooKeeper
from tests.process.fleets import Fleet, call, fleet, write_handlers
from tests.raw_http import exchange, request
from tests.serving import children, eventually, free_port

PUBLICATION = Publication(
    service="callgate", address="10.0.0.1:8000", schemes=("jsonrpc", "xmlrpc"), path="/api", version="1", started=5
)
PROVIDERS = "/dubbo/callgate/providers"


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_AGAIN", (0.02, 0.03))


def settings(server: str) -> list[str]:
    return [
        "publish.directory=zk",
        "directories.zk.kind=zookeeper",
        f"directories.zk.servers={server}",
        "directories.zk.session=4",
    ]


def words(server: str) -> list[str]:
    return [word for setting in settings(server) for word in ("--set", setting)]


def nodes(others: Any) -> list[str]:
    return sorted(map(unquote, others.get_children(PROVIDERS))) if others.exists(PROVIDERS) else []


async def until(condition: Callable[[], Any], what: str = "it does not come to be") -> None:
    end = time.monotonic() + 20
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, what
        await asyncio.sleep(0.02)


@asynccontextmanager
async def published(
    server: ZooKeeper, publication: Publication = PUBLICATION, login: str = ""
) -> AsyncIterator[tuple[Publisher, Client]]:
    client = Client([("127.0.0.1", server.port)], 4.0, login)
    publisher = Publisher(client, "/dubbo", publication)
    running = asyncio.create_task(publisher.run())
    publisher.want(True)
    try:
        yield publisher, client
    finally:
        running.cancel()
        await asyncio.wait([running])
        await publisher.withdraw()


def test_it_is_listed_again_whatever_happens_to_its_nodes(server: ZooKeeper, others: Any, logged: Logged) -> None:
    listed = [
        f"{scheme}://10.0.0.1:8000/api?interface=callgate&version=1&weight=100&timestamp=5&side=provider"
        "&application=callgate&dubbo=2.0.2"
        for scheme in ("jsonrpc", "xmlrpc")
    ]

    async def main() -> None:
        async with published(server) as (publisher, client):
            await until(lambda: nodes(others) == listed)
            paths = [f"{PROVIDERS}/{name}" for name in others.get_children(PROVIDERS)]
            assert {others.exists(path).ephemeralOwner for path in paths} == {client.session}
            others.delete(paths[0])
            await until(lambda: nodes(others) == listed)
            others.delete("/dubbo", recursive=True)
            await until(lambda: nodes(others) == listed)
            session = client.session
            await asyncio.to_thread(end_session, server, session, client._password)
            await until(lambda: nodes(others) == listed and client.session != session)
            publisher.want(False)
            await until(lambda: nodes(others) == [])
            publisher.want(True)
            await until(lambda: nodes(others) == listed)
        assert nodes(others) == []

    asyncio.run(main())
    logged.take("is away")


def held(others: Any) -> list[Any]:
    """Return what the nodes hold; one that has just been replaced is left out."""
    texts: list[bytes] = []
    for name in others.get_children(PROVIDERS):
        with suppress(NoNodeError):
            texts.append(others.get(f"{PROVIDERS}/{name}")[0])
    return [json.loads(text) for text in texts]


def test_it_tells_its_methods_and_stays_listed_when_these_change(server: ZooKeeper, others: Any) -> None:
    publication = replace(PUBLICATION, schemes=("jsonrpc",), methods=("add", "stock.get"))
    long, longer = (tuple(f"method{number}" for number in range(count)) for count in (200, 201))
    seen: list[list[str]] = []

    def named(methods: str) -> bool:
        found = nodes(others)
        return len(found) == 1 and f"methods={methods}&" in found[0]

    def note(names: list[str]) -> bool:
        seen.append(names)
        return len(names) > 0  # at the end it is taken out

    async def main() -> None:
        async with published(server, publication) as (publisher, _):
            await until(lambda: named("add,stock.get"))
            assert held(others) == [{"address": "10.0.0.1:8000", "path": "/api", "methods": ["add", "stock.get"]}]
            others.ChildrenWatch(PROVIDERS, note)
            publisher.serve(("add",))
            await until(lambda: named("add"))
            assert held(others)[0]["methods"] == ["add"]
            publisher.serve(long)
            await until(lambda: nodes(others) and "methods=" not in nodes(others)[0])
            assert held(others)[0]["methods"] == [*long]
            (made,) = (others.exists(f"{PROVIDERS}/{name}").czxid for name in others.get_children(PROVIDERS))
            publisher.serve(longer)
            await until(lambda: [told["methods"] for told in held(others)] == [[*longer]])
            assert {others.exists(f"{PROVIDERS}/{name}").czxid for name in others.get_children(PROVIDERS)} == {made}
            assert all(seen)
            publisher.serve(("a,b", "c"))
            await until(lambda: [told["methods"] for told in held(others)] == [["a,b", "c"]])
            assert "methods=" not in nodes(others)[0]
        assert nodes(others) == []

    asyncio.run(main())


def test_what_a_rule_is_about_is_not_told() -> None:
    rules = '[{"methods": ["stock.*"], "networks": []}]'
    config = load(None, {}, [f"access.rules={rules}"])
    methods: list[Any] = [("stock.get", None), ("version", None), ("add", None)]
    assert processes.named(config, methods) == ("add", "version")
    many: list[Any] = [(f"m{number:06}", None) for number in range(10_000)]
    assert len(processes.named(config, many)) == processes.MOST_NAMED // 10


def test_dubbos_own_consumer_reads_what_is_published(server: ZooKeeper, others: Any) -> None:
    publication = replace(PUBLICATION, schemes=("jsonrpc",), methods=("add", "stock.get"), group="a b&c", version="")

    async def main() -> str:
        async with published(server, publication):
            await until(lambda: nodes(others))
            return await asyncio.to_thread(dubbo, "read", server.server, "callgate")

    told = [
        "jsonrpc",
        "10.0.0.1:8000",
        "api",
        {
            "interface": "callgate",
            "group": "a b&c",
            "methods": "add,stock.get",
            "weight": "100",
            "timestamp": "5",
            "side": "provider",
            "application": "callgate",
            "dubbo": "2.0.2",
        },
    ]
    assert json.loads(asyncio.run(main())) == [told]


def dubbo(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.fleet.directories.dubbo_program", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def test_nodes_of_an_earlier_life_are_taken_over(server: ZooKeeper, others: Any) -> None:
    dead = server.client()
    paths = [f"{PROVIDERS}/{node}" for node in PUBLICATION.nodes(100)]

    def owners() -> set[int | None]:  # while one is made again, it is not there
        return {None if (found := others.exists(path)) is None else found.ephemeralOwner for path in paths}

    async def main() -> None:
        async with published(server) as (_, client):
            await until(lambda: owners() == {client.session})
            await asyncio.to_thread(dead.stop)
            await until(lambda: len(nodes(others)) == 2)

    try:
        for path in paths:
            dead.create(path, ephemeral=True, makepath=True)
        asyncio.run(main())
    finally:
        dead.stop()
        dead.close()


def test_a_gateway_is_drained_by_hand_and_stays_so(
    server: ZooKeeper, others: Any, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drained(is_drained: bool) -> Result:
        return CliRunner().invoke(
            main,
            ["drain" if is_drained else "undrain", "10.0.0.1:8000", *words(server.server)],
        )

    async def run() -> None:
        async with following(made("zookeeper", servers=(server.server,)), "callgate") as followed:
            async with published(server):
                await followed.until(lambda: followed.addresses == ["10.0.0.1:8000"] * 2)
                result = await asyncio.to_thread(drained, True)
                assert (result.exit_code, result.output) == (0, "gateway: 10.0.0.1:8000 takes no new calls\n")
                await followed.until(lambda: {each.weight for each in followed.lists[-1]} == {0})
                assert len(nodes(others)) == 2
            async with published(server):  # the follower keeps the list that it had, so the log is what tells
                await until(lambda: len([line for line in logged.lines if "it is drained" in line]) == 2)
                assert {each.weight for each in followed.lists[-1]} == {0}
                result = await asyncio.to_thread(drained, False)
                assert (result.exit_code, result.output) == (0, "gateway: 10.0.0.1:8000 takes calls again\n")
                await followed.until(lambda: {each.weight for each in followed.lists[-1]} == {100})
        monkeypatch.setattr("gateway.cli.publishing._SECONDS", 0.1)
        result = await asyncio.to_thread(drained, True)
        assert (result.exit_code, "is not listed at the moment" in result.output) == (1, True)

    monkeypatch.setattr("gateway.cli.publishing._SECONDS", 20.0)
    asyncio.run(run())
    assert len(logged.take("it is drained")) == 2
    logged.take("it lists no instances")


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["drain"], "publish.directory is not set"),
        (["publish"], "publish.directory is not set"),
        (["undrain", "a"], "publish.address: expected host:port"),
        (
            ["drain", "a:1", *words("127.0.0.1:1")],
            "directories.zk: 127.0.0.1:1: connection refused",
        ),
        (
            ["publish", *words("127.0.0.1:1"), "--set", "directories.zk.login=gateway"],
            "directories.zk: login: expected name:secret",
        ),
    ],
)
def test_what_the_commands_say(command: list[str], problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_PATIENCE", 0.2)
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    monkeypatch.chdir("/")
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert problem in result.output


def test_only_its_own_login_may_change_it(server: ZooKeeper, others: Any, logged: Logged) -> None:
    async def run() -> None:
        async with published(server, login="gateway:secret"):
            await until(lambda: others.exists("/dubbo/callgate") is not None)
            other = Client([("127.0.0.1", server.port)], 4.0, "other:secret")
            publisher = Publisher(other, "/dubbo", PUBLICATION)
            running = asyncio.create_task(publisher.run())
            publisher.want(True)
            await until(lambda: logged.take("the directory refuses it"))
            running.cancel()
            await asyncio.wait([running])
            await other.close()

    asyncio.run(run())
    others.add_auth("digest", "gateway:secret")


def test_a_directory_that_is_away_at_the_end(logged: Logged) -> None:
    async def run() -> None:
        client = Client([("127.0.0.1", free_port())], 4.0)
        publisher = Publisher(client, "/dubbo", PUBLICATION)
        publisher.want(True)
        await publisher.withdraw()

    asyncio.run(run())
    logged.take("is listed until its session ends")


@pytest.mark.processes
def test_the_child_of_the_supervisor(server: ZooKeeper, others: Any, tmp_path: Path) -> None:
    write_handlers(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "gateway.toml").write_text("")
    with fleet(tmp_path, *settings(server.server), "server.grace=2", workers=1) as running:
        place = f"127.0.0.1:{running.port}"

        def listed(weight: int = 100) -> bool:
            found = nodes(others)
            return (
                len(found) == 1 and found[0].startswith(f"jsonrpc://{place}/api?") and f"weight={weight}&" in found[0]
            )

        def created() -> set[int]:
            found = [others.exists(f"{PROVIDERS}/{name}") for name in others.get_children(PROVIDERS)]
            return {stat.czxid for stat in found if stat is not None}

        eventually(listed, "it is not listed")
        (told,) = held(others)
        assert (told["path"], "version" in told["methods"], "process" in told["methods"]) == ("/api", True, True)
        before = created()
        running.signal(signal.SIGHUP)
        eventually(lambda: "reloaded" in running.log, "it does not reload")
        assert (listed(), created()) == (True, before)  # the same node, all the time
        eventually(lambda: len(children(running.process.pid)) == 2, "the old worker does not end")
        (worker,) = {int(str(call(running.port, "process")))}
        (child,) = children(running.process.pid) - {worker}
        os.kill(child, signal.SIGKILL)
        eventually(lambda: listed() and created() != before, "it is not listed again")
        assert "the process that publishes the gateway was killed by signal 9" in running.log
        pids = children(running.process.pid)
        with (tmp_path / "handlers" / "some.py").open("a") as file:
            file.write("\n\n@method\ndef another() -> int:\n    return 1\n")
        running.signal(signal.SIGHUP)
        eventually(
            lambda: listed() and any("another" in told["methods"] for told in held(others)),
            "it does not tell its methods",
        )
        eventually(lambda: len(children(running.process.pid)) == 2, "the old worker does not end")
        assert len(pids & children(running.process.pid)) == 1  # the child that publishes is the same
        (tmp_path / "conf" / "gateway.toml").write_text("[publish]\nweight = 7\n")
        running.signal(signal.SIGHUP)
        eventually(lambda: listed(7), "it does not follow a reload")
        running.signal(signal.SIGTERM)
        eventually(lambda: nodes(others) == [], "it is not withdrawn")
        assert exchange(running.port, request("/readyz", {}, b"", "GET")).status == 503
        assert call(running.port, "version") == 1  # it still takes calls of those who have not heard of it yet
        assert running.end() == 0


def test_a_supervisor_that_is_killed(server: ZooKeeper, others: Any, tmp_path: Path) -> None:
    write_handlers(tmp_path)
    with fleet(tmp_path, *settings(server.server), workers=1) as running:
        eventually(lambda: nodes(others), "it is not listed")
        session = others.exists(f"{PROVIDERS}/{others.get_children(PROVIDERS)[0]}").ephemeralOwner
        running.signal(signal.SIGKILL)
        eventually(lambda: nodes(others) == [], "it is not withdrawn")
        assert session


class Caller(threading.Thread):
    """Calls the instances that ZooKeeper lists, one after the other, and notes what fails."""

    def __init__(self, server: ZooKeeper) -> None:
        super().__init__(daemon=True)
        self.calls = 0
        self.failed: list[str] = []
        self.is_over = False
        self._server = server

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with following(made("zookeeper", servers=(self._server.server,), session=4.0), "callgate") as followed:
            await followed.until(lambda: len(followed.addresses or ()) == 2)
            while not self.is_over:
                ports = [int(address.rpartition(":")[2]) for address in followed.addresses or ()]
                for port in ports or [0]:
                    self.calls += 1
                    try:
                        await asyncio.to_thread(call, port, "version")
                    except (OSError, KeyError) as error:
                        self.failed.append(repr(error))
                    await asyncio.sleep(0.005)


def test_no_call_fails_while_two_gateways_are_restarted(server: ZooKeeper, others: Any, tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    with contextlib.ExitStack() as stack:
        running = []
        for number, port in enumerate(ports):
            folder = tmp_path / str(number)
            folder.mkdir()
            write_handlers(folder)

            def start(folder: Path = folder, port: int = port) -> Fleet:
                return stack.enter_context(
                    fleet(folder, *settings(server.server), "server.grace=1", workers=1, bind=f"127.0.0.1:{port}")
                )

            running.append((start(), start))
        caller = Caller(server)
        caller.start()
        eventually(lambda: caller.calls > 20, "nothing is called")
        for gateway, start in running:
            gateway.signal(signal.SIGHUP)
            eventually(lambda gateway=gateway: "reloaded" in gateway.log, "it does not reload")  # type: ignore[misc]
            gateway.signal(signal.SIGTERM)
            gateway.end()
            start()
            eventually(lambda: len(nodes(others)) == 2, "it is not listed again")
            seen = caller.calls
            eventually(lambda seen=seen: caller.calls > seen + 20, "nothing is called")  # type: ignore[misc]
        caller.is_over = True
        caller.join(20)
    assert caller.failed == []


def test_a_gateway_of_another_server_is_published_while_it_is_ready(
    server: ZooKeeper, others: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other server is any that answers /readyz, over TCP or on a Unix socket."""
    monkeypatch.setattr(processes, "_ASK", 0.05)
    status = [503]

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"GET /readyz ")
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status[0])
        writer.close()

    async def run() -> None:
        path = str(tmp_path / "a.sock")
        tcp = await asyncio.start_server(respond, "127.0.0.1", 0)
        port = tcp.sockets[0].getsockname()[1]
        async with await asyncio.start_unix_server(respond, path), tcp:
            for url in (f"unix:{path}", f"http://127.0.0.1:{port}/readyz"):
                status[0] = 503
                assert not await processes.is_ready(url)
                async with published(server) as (publisher, _):
                    asking = asyncio.create_task(processes._follow(publisher, partial(processes.is_ready, url)))
                    await until(lambda: nodes(others) == [])
                    status[0] = 200
                    await until(lambda: len(nodes(others)) == 2)
                    status[0] = 503
                    await until(lambda: nodes(others) == [])
                    asking.cancel()
        assert not await processes.is_ready(f"unix:{path}")
        assert not await processes.is_ready("http://127.0.0.1:1/readyz")
        assert not await processes.is_ready("nonsense")

    asyncio.run(run())


@pytest.mark.processes
def test_the_command_publishes_until_it_is_told_to_end(server: ZooKeeper, others: Any, tmp_path: Path) -> None:
    write_handlers(tmp_path)
    with fleet(tmp_path, workers=1) as running:
        command = [sys.executable, "-m", "gateway", "publish", *words(server.server)]
        command += ["--set", f"server.bind=127.0.0.1:{running.port}", "--set", "publish.schemes=xmlrpc"]
        said = tmp_path / "said"
        with said.open("wb") as log:
            process = subprocess.Popen(command, cwd=tmp_path, stderr=log)
        eventually(lambda: b"listed as xmlrpc://" in said.read_bytes(), "it does not say that it is listed")
        assert len(nodes(others)) == 1
        assert nodes(others)[0].startswith(f"xmlrpc://127.0.0.1:{running.port}/api?")
        process.terminate()
        assert process.wait(20) == 0
        assert nodes(others) == []


def test_no_process_is_left_for_the_registrar(monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    def refuse() -> int:
        raise OSError(errno.EAGAIN, "No process left")

    monkeypatch.setattr(os, "fork", refuse)
    found = Registrar()
    found.want(Publishing(what=1, work=lambda _: 0))
    assert found.is_due(time.monotonic())
    assert found.fork((), lambda _: None) is None
    assert not found.is_due(time.monotonic())
    assert found.is_due(time.monotonic() + 1.1)
    assert len(logged.take("the gateway is not published: no process left")) == 1


def test_a_registrar_that_does_not_listen_is_replaced() -> None:
    found = Registrar()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        found.pid, found.link, found._published = os.getpid(), ours, Publishing(what=1, work=lambda _: 0)
        found.want(Publishing(what=1, methods=("add",), work=lambda _: 0))
        assert theirs.recv(100) == b'["add"]\n'
        found.want(Publishing(what=1, methods=("add",), work=lambda _: 0))  # nothing has changed
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(b" " * 4096)
        assert found.due == float("inf")
        found.want(Publishing(what=1, methods=("add", "get"), work=lambda _: 0))
        assert found.due < float("inf")  # it is to end, and another one begins


def test_names_are_quoted() -> None:
    (name,) = Publication(
        service="a&b", address="[::1]:5", schemes=("jsonrpc",), path="/a b", version="1 2", zone="+", started=0
    ).nodes(3)
    assert quote("version=1%202&zone=%2B&weight=3", safe="") in name
