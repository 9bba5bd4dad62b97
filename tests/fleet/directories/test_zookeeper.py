"""ZooKeeper as a directory, of a real server, with kazoo as the other party: what others write, and what goes wrong."""

import asyncio
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme
from kazoo.security import make_digest_acl

from gateway import Registry
from gateway.fleet.directories import DirectoryConfigError, watching
from gateway.fleet.directories.zookeeper import client, kind
from gateway.fleet.listing import Instance
from gateway.model.secrets import Secret
from tests.conftest import Logged
from tests.fleet.directories.following import Followed, following, made
from tests.fleet.directories.zookeeper import ZooKeeper
from tests.fleet.load import Fleet, Load
from tests.serving import eventually, free_port, serving
from tests.upstreams.running import Served

SERVICE = "com.acme.Stock"


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_AGAIN", (0.02, 0.03))
    monkeypatch.setattr(kind, "_LOOK", 0.05)
    monkeypatch.setattr(kind, "_PATIENCE", 0.2)


def asked(server: ZooKeeper, **options: Any) -> Any:
    return made("zookeeper", **{"servers": (server.server,), "session": 4.0, "keep_empty": 0.0} | options)


def put(others: Any, *urls: str, service: str = SERVICE, ephemeral: bool = False) -> None:
    for url in urls:
        path = f"/dubbo/{service}/providers/{quote(url, safe='')}"
        others.create(path, b"10.0.0.1", makepath=True, ephemeral=ephemeral)


def remove(others: Any, url: str) -> None:
    others.delete(f"/dubbo/{SERVICE}/providers/{quote(url, safe='')}")


def test_what_others_put_there_is_read_and_changes_are_told(server: ZooKeeper, others: Any, logged: Logged) -> None:
    full = (
        f"dubbo://10.0.0.2:20880/{SERVICE}?anyhost=true&application=stock&interface={SERVICE}&methods=get,list&side=provider"
        f"&version=1.4&group=blue&weight=50&timestamp=1700000000500&zone=b&warmup=60000&tls_name=stock.example&dubbo=2.0.2"
    )

    async def main() -> None:
        async with following(asked(server), SERVICE) as followed:
            await followed.until(lambda: followed.lists == [()])  # there is no such node yet
            put(others, "tri://10.0.0.1:50051?service=org.example.Hello")
            await followed.until(lambda: followed.addresses == ["10.0.0.1:50051"])
            assert followed.lists[1] == (
                Instance(address="10.0.0.1:50051", scheme="tri", labels={"service": "org.example.Hello"}),
            )
            put(others, full, "jsonrpc://10.0.0.9:1?disabled=true", "jsonrpc://10.0.0.9:2?enabled=false")
            await followed.until(lambda: followed.addresses == ["10.0.0.1:50051", "10.0.0.2:20880"])
            assert followed.lists[-1][1] == Instance(
                address="10.0.0.2:20880",
                scheme="dubbo",
                server_name="stock.example",
                weight=50,
                version="1.4",
                group="blue",
                zone="b",
                started=1700000000.5,
                labels={"anyhost": "true", "application": "stock", "interface": SERVICE, "warmup": "60000"},
            )
            remove(others, full)
            await followed.until(lambda: followed.addresses == ["10.0.0.1:50051"])
            others.delete("/dubbo", recursive=True)  # what is watched, and all above it
            await followed.until(lambda: followed.addresses == [])
            put(others, "jsonrpc://10.0.0.3:8000")
            await followed.until(lambda: followed.addresses == ["10.0.0.3:8000"])
            assert followed.status.state == "up"

    asyncio.run(main())
    assert logged.lines == []


def test_nodes_that_are_garbage_are_left_out(server: ZooKeeper, others: Any, logged: Logged) -> None:
    bad = [
        "garbage",
        "jsonrpc://10.0.0.1",
        "jsonrpc://10.0.0.1:99999",
        "jsonrpc://10.0.0.1:1?weight=-1",
        "%00%ff",
        "://",
    ]
    put(others, *bad, "jsonrpc://10.0.0.1:8000?timestamp=soon&x", "jsonrpc://10.0.0.2:8000?weight=0")

    async def main() -> None:
        async with following(asked(server), SERVICE) as followed:
            await followed.until(lambda: followed.lists)
            assert followed.addresses == ["10.0.0.1:8000", "10.0.0.2:8000"]
            assert [each.weight for each in followed.lists[0]] == [100, 0]
            put(others, "jsonrpc://10.0.0.3:8000")
            await followed.until(lambda: len(followed.addresses or ()) == 3)

    asyncio.run(main())
    assert len(logged.take("is left out")) == len(bad)


def test_a_megabyte_of_names(server: ZooKeeper, others: Any) -> None:
    methods = ",".join(f"method{number}" for number in range(45))
    put(others, "jsonrpc://10.0.0.1:1")
    pending = [
        others.create_async(
            f"/dubbo/{SERVICE}/providers/"
            + quote(f"jsonrpc://10.0.{n // 250}.{n % 250}:8000/api?methods={methods}", safe="")
        )
        for n in range(2000)
    ]
    for each in pending:
        each.get(20)

    async def main() -> None:
        async with following(asked(server), SERVICE) as followed:
            await followed.until(lambda: followed.lists)
            assert len(followed.lists[0]) == 2001
            assert followed.lists[0][5].labels == {}

    asyncio.run(main())


def test_a_server_that_is_killed_stopped_and_loses_its_data(server: ZooKeeper, others: Any, logged: Logged) -> None:
    one, two = "jsonrpc://10.0.0.1:1", "jsonrpc://10.0.0.2:1"
    put(others, one)

    async def main() -> None:
        watched = asked(server, session=1.0, keep_empty=600.0)
        async with following(watched, SERVICE) as followed:
            await followed.until(lambda: followed.addresses == ["10.0.0.1:1"])
            session = watched._kind._client.session
            server.kill()
            await followed.until(lambda: followed.status.state == "stale")
            assert ("refused" in followed.status.error) or ("closed" in followed.status.error)
            await asyncio.sleep(1.5)  # longer than the session
            server.start()
            await followed.until(lambda: followed.status.state == "up")
            server.stop()
            await followed.until(lambda: followed.status.state == "stale")
            assert "it is silent" in followed.status.error
            server.go_on()
            await followed.until(lambda: followed.status.state == "up")
            server.kill()
            server.lose_data()
            server.start()
            await followed.until(lambda: followed.status.error == "it lists no instances")
            assert watched._kind._client.session != session
            assert followed.lists == [followed.lists[0]]
            others.stop()  # which never connects again: it has seen newer data
            others.start(10)
            put(others, one, two)
            await followed.until(lambda: followed.addresses == ["10.0.0.1:1", "10.0.0.2:1"])

    asyncio.run(main())
    assert len(logged.take("it is away")) >= 2
    logged.take("it lists no instances")


def test_calls_go_on_while_it_is_away_and_an_instance_dies(
    server: ZooKeeper, others: Any, tmp_path: Path, logged: Logged
) -> None:
    table = f"kind = 'zookeeper'\nservers = ['{server.server}']\nsession = 4.0"
    with Fleet(tmp_path, 3) as fleet:
        put(others, *(f"jsonrpc+tcp://127.0.0.1:{program.port}" for program in fleet.programs))
        options = f"directory_service = '{SERVICE}'"
        with fleet.gateway(options, table=table) as gateway:
            directory: Any = gateway.gateway.directories["list"]
            eventually(lambda: directory.status is not None and directory.status.state == "up", "there is no list")
            logged.take("it is away")
            with Load(gateway.port, 20.0) as load:
                eventually(lambda: load.count() > 50, "nothing is called")
                server.kill()
                eventually(lambda: logged.take("it is away"), "nobody sees that it is away")
                fleet.programs[0].kill()
                seen = load.count()
                eventually(lambda: load.count() > seen + 100, "nothing is called")
                eventually(lambda: logged.take("out of service"), "nobody sees that an instance is dead")
                server.start()
                eventually(lambda: directory.status.state == "up", "it is not back")
        executed = fleet.executed()
    load.judge(executed)
    assert not load.failed("get")
    assert set(load.failed("put")) <= {(-32002, "maybe")}
    logged.take("it is away")


def test_a_session_that_is_over(
    server: ZooKeeper, others: Any, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "_LOOK", 30.0)  # so that only the break itself has everything read again
    put(others, "jsonrpc://10.0.0.1:1")

    async def main() -> None:
        watched = asked(server)
        async with following(watched, SERVICE) as followed:
            await followed.until(lambda: followed.addresses)
            ours = watched._kind._client
            session = ours.session
            await asyncio.to_thread(end_session, server, session, ours._password)
            await followed.until(lambda: ours.session not in (0, session))
            put(others, "jsonrpc://10.0.0.2:1")
            await followed.until(lambda: len(followed.addresses or ()) == 2)

    asyncio.run(main())
    logged.take("it is away")


def end_session(server: ZooKeeper, session: int, password: bytes) -> None:
    """Take a session over, and end it."""
    thief = server.client(client_id=(session, password))
    thief.stop()
    thief.close()


def test_a_start_while_it_is_down(server: ZooKeeper, others: Any, tmp_path: Path, logged: Logged) -> None:
    put(others, "jsonrpc://10.0.0.1:1")
    down = made("zookeeper", servers=("127.0.0.1:1",), cache=str(tmp_path))

    async def main() -> None:
        async with following(asked(server, servers=("127.0.0.1:1",)), SERVICE) as followed:
            await followed.until(lambda: "refused" in followed.status.error)
            assert followed.lists == []
        async with following(asked(server, cache=str(tmp_path)), SERVICE) as followed:
            await followed.until(lambda: followed.lists)
        async with following(down, SERVICE) as followed:
            assert followed.addresses == ["10.0.0.1:1"]
            await followed.until(lambda: "refused" in followed.status.error)
        async with following(asked(server, servers=("127.0.0.1:1", server.server)), SERVICE) as followed:
            await followed.until(lambda: followed.addresses == ["10.0.0.1:1"])

    asyncio.run(main())
    logged.take("it is away")


def test_a_login_that_may_read_and_others_that_may_not(
    server: ZooKeeper, others: Any, tmp_path: Path, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(others, "jsonrpc://10.0.0.1:1")
    others.set_acls(f"/dubbo/{SERVICE}/providers", [make_digest_acl("gateway", "secret", all=True)])
    (tmp_path / "login").write_text("gateway:secret\n")
    monkeypatch.setenv("ZOOKEEPER_LOGIN", "gateway:secret")

    async def main() -> None:
        for login in ("gateway:secret", Secret(file=str(tmp_path / "login")), Secret(env="ZOOKEEPER_LOGIN")):
            async with following(asked(server, login=login), SERVICE) as followed:
                await followed.until(lambda: followed.addresses)
        for wrong in ("", "gateway:wrong"):
            async with following(asked(server, login=wrong), SERVICE) as followed:
                await followed.until(lambda: "may not" in followed.status.error)
                assert followed.lists == []

    asyncio.run(main())
    assert not [line for line in logged.take("it is away") if "secret" in line or "wrong" in line]
    others.add_auth("digest", "gateway:secret")


def test_encrypted_connections(
    server: ZooKeeper, others: Any, authority: trustme.CA, tmp_path: Path, logged: Logged
) -> None:
    """The server asks for a certificate, too."""
    put(others, "jsonrpc://10.0.0.1:1")
    another = trustme.CA()
    for name, issuer in (("ca", authority), ("other", another)):
        issuer.cert_pem.write_to_path(tmp_path / f"{name}.pem")
        issued = issuer.issue_cert("gateway.example")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.crt")
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")

    def encrypted(authority: str, own: str) -> Any:
        files = {"ca": f"{authority}.pem"} | ({"certificate": f"{own}.crt", "key": f"{own}.key"} if own else {})
        options = {option: str(tmp_path / file) for option, file in files.items()}
        return asked(server, servers=(f"localhost:{server.secure}",), **options)

    async def main() -> None:
        async with following(encrypted("ca", "ca"), SERVICE) as followed:
            await followed.until(lambda: followed.addresses)
        async with following(encrypted("other", "ca"), SERVICE) as followed:
            await followed.until(lambda: "certificate is not accepted" in followed.status.error)
            assert followed.lists == []
        for own in ("", "other"):
            async with following(encrypted("ca", own), SERVICE) as followed:
                await followed.until(lambda: followed.status.error not in ("", "it is not connected yet"))
                assert followed.lists == []
                assert "alert" in followed.status.error

    asyncio.run(main())
    logged.take("it is away")


def test_a_service_of_dubbo_is_found_and_called(server: ZooKeeper, others: Any, tmp_path: Path) -> None:
    (tmp_path / "hello.proto").write_text(
        'syntax = "proto3"; package org.example; message Text { string text = 1; }'
        " service Hello { rpc hello(Text) returns (Text); }"
    )
    (tmp_path / "gateway.toml").write_text(
        f"[directories.zk]\nkind = 'zookeeper'\nservers = ['{server.server}']\nsession = 4.0\n"
        "[upstreams.up]\nurl = 'grpc://'\ndirectory = 'zk'\ndirectory_service = 'org.example.Hello'\n"
        f"proto = ['{tmp_path}/hello.proto']\n"
    )
    command = [sys.executable, "-m", "tests.fleet.directories.dubbo_program", "provide", server.server]
    with subprocess.Popen(
        [*command, str(free_port())], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as program:
        try:
            path = "/dubbo/org.example.Hello/providers"
            eventually(lambda: others.exists(path) and others.get_children(path), "it is not listed")
            with serving(Registry(), None, tmp_path / "gateway.toml") as gateway:
                said = Served(gateway).call("org.example.Hello.hello", text="Ada")
        finally:
            program.kill()
    assert said == "hello Ada"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"login": "gateway"}, "login: expected name:secret"),
        ({"login": Secret(file="/nowhere")}, "login: /nowhere cannot be read: no such file"),
        ({"login": Secret(env="NO_SUCH_NAME")}, "login: the environment has no variable NO_SUCH_NAME"),
        ({"login": Secret(file="/dev/null")}, "login: expected name:secret"),
        ({"certificate": "a.pem"}, "ca, certificate and key belong together"),
        ({"ca": "/nowhere"}, "no such file"),
    ],
)
def test_what_cannot_be_right(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(DirectoryConfigError, match=problem):
        made("zookeeper", servers=("127.0.0.1:1",), **options)


@pytest.mark.parametrize("name", ["", "a b"])
def test_a_service_needs_a_name(name: str) -> None:
    assert made("zookeeper", servers=("127.0.0.1:1",)).problem_of(name)
    assert not made("zookeeper", servers=("127.0.0.1:1",)).problem_of(SERVICE)


def test_a_server_that_speaks_something_else(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_LARGEST", 100)
    answers = [b"\x00\x00\x00\x65", b"\xff\xff\xff\xff", b"\x00\x00\x00\x02\x00\x00", b"\x00\x00", b"HTTP/1.1 400\r\n"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answers[0])
        writer.close()

    async def main() -> None:
        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with following(made("zookeeper", servers=(f"127.0.0.1:{port}",)), SERVICE) as followed:
            for part in ("101 bytes", "-1 bytes", "ends too early", "closed the connection", "bytes"):
                await followed.until(partial(_says, followed, part))
                del answers[0]
                answers.append(b"")
        listening.close()

    asyncio.run(main())
    logged.take("it is away")


def _says(followed: Followed, part: str) -> bool:
    return part in followed.status.error
