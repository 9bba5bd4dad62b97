"""What the gateway gives to tests: clients in process behave as those over sockets, and the fixtures work in pytest."""

import asyncio
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import gateway
from gateway import BadUpstream, Config, Context, DeadlineExceeded, Denied, Fault, InvalidParams, Registry, Unavailable
from gateway.client import StatusError
from gateway.client.errors import CallTimeout
from gateway.config import load
from gateway.testing import AsyncClient, Client, FakeUpstream
from tests.conftest import Logged
from tests.raw_http import post

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[1]
CALL = b'{"jsonrpc":"2.0","method":"who","id":1}'

registry = Registry()
notes: list[str] = []


@registry.lifespan
async def note(state: SimpleNamespace) -> AsyncIterator[None]:
    state.opened = asyncio.get_running_loop()
    notes.append("open")
    yield
    notes.append("close")


@registry.register
async def who(context: Context) -> list[Any]:
    opened = context.state.opened is asyncio.get_running_loop()
    return [context.client, context.key, context.protocol, opened]


@registry.register
def thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@registry.register(timeout=0.05)
async def hang() -> None:
    await asyncio.Event().wait()


@registry.register(timeout=60)
async def hang_long() -> None:
    await asyncio.Event().wait()


@registry.register(run="inline")
def echo(value: Any) -> Any:
    return value


@pytest.mark.parametrize("protocol", ["jsonrpc", "xmlrpc"])
def test_a_call_goes_through_the_gateway_in_both_protocols(protocol: str) -> None:
    notes.clear()
    with Client(registry, protocol=protocol, client="192.0.2.7") as client:
        answered: object = client.who()
        assert answered == ["192.0.2.7", None, protocol, True]
        assert client.thread() is False
        assert client.echo({"a": [1, "ä", None]}) == {"a": [1, "ä", None]}
        assert "echo" in client.system.listMethods()
        with pytest.raises(DeadlineExceeded):
            client.hang()
        with pytest.raises(InvalidParams):
            client.echo()
    assert notes == ["open", "close"]


def test_batches_notifications_and_raw_bytes_are_as_on_a_server() -> None:
    with Client(registry) as client, gateway.running(registry) as server:
        batch = client.batch()
        outcomes = [batch.echo(1), batch.nothing()]
        batch.notify("echo", 2)
        assert batch.send() == outcomes
        assert outcomes[0].value == 1
        assert isinstance(outcomes[1].error, Fault)
        client.notify("echo", 3)
        for body in (b"", b"{", b"[]", b"<a>", b'{"jsonrpc":"2.0","method":"echo","params":[1],"id":7}'):
            here, there = client.raw(body, X_Request_ID="1"), post(server.port, body)
            assert (here.status, here.body) == (there.status, there.body)
        assert dict(here.headers)["X-Request-ID"] == "1"
        assert client.raw(b"{}", "image/png").status == 415


def test_access_and_limits_are_those_of_the_configuration() -> None:
    config = load(None, {}, ["access.allow=192.0.2.0/24", "limits.max_body=1024", "server.paths=/calls"])
    with Client(registry, config=config) as client, pytest.raises((Denied, StatusError)):
        client.who()
    with Client(registry, config=config, client="192.0.2.1") as client:
        assert client.url.endswith("/calls")
        assert client.raw(b" " * 2000).status == 413
        with pytest.raises((Fault, StatusError)):
            client.echo("x" * 2000)


def test_keys_headers_and_files(tmp_path: Path) -> None:
    from gateway.core.access import make_key

    key, stored = make_key()
    (tmp_path / "gateway.toml").write_text(f'[access]\nkeys = {{ odoo = "{stored}" }}\n')
    with Client(registry, config=tmp_path / "gateway.toml", key=key) as client:
        assert client.who()[1] == "odoo"
        assert client.raw(CALL).status == 401
        assert client.raw(CALL, Authorization=f"Bearer {key}").status == 200


def test_the_client_s_own_deadline_holds() -> None:
    with Client(registry, timeout=0.05) as client, pytest.raises((CallTimeout, DeadlineExceeded)):
        client.hang_long()


def test_a_test_with_an_event_loop_uses_the_other_client() -> None:
    async def check() -> None:
        with pytest.raises(RuntimeError, match=r"use gateway\.testing\.AsyncClient"):
            Client(registry).who()
        async with AsyncClient(registry, protocol="xmlrpc") as client:
            answers: object = list(await asyncio.gather(client.who(), client.echo(1), client.thread()))
            assert answers == [["127.0.0.1", None, "xmlrpc", True], 1, False]
            assert (await client.raw(CALL)).status == 200

    notes.clear()
    asyncio.run(check())
    assert notes == ["open", "close"]


def test_a_module_is_served_by_its_name() -> None:
    with Client(f"{__name__}:registry") as client:
        assert client.echo(5) == 5


# ---- upstreams -------------------------------------------------------------------------------------------------------


@contextmanager
def fake(config: Config | None = None, **methods: Callable[..., Any]) -> Iterator[tuple[FakeUpstream, Client]]:
    upstream = FakeUpstream(methods)
    with Client(Registry(), upstreams={"books": upstream}, config=config) as client:
        yield upstream, client


async def later(title: str) -> str:
    return f"later {title}"


def fail() -> None:
    raise Fault(7, "sold out")


def crash() -> None:
    raise ValueError("a bug of the fake")


def test_a_fake_upstream_answers_by_its_functions(logged: Logged) -> None:
    with fake(find=lambda *a, **k: [list(a), k], later=later, fail=fail, crash=crash) as (upstream, client):
        assert client.books.find("a", 1) == [["a", 1], {}]
        assert client.books.find(title="a") == [[], {"title": "a"}]
        assert client.books.later("b") == "later b"
        with pytest.raises(Fault, match="sold out"):
            client.books.fail()
        with pytest.raises(Fault, match="Internal error"):
            client.books.crash()
        assert upstream.calls[:3] == [("find", ["a", 1]), ("find", {"title": "a"}), ("later", ["b"])]
        upstream.is_down = True
        with pytest.raises(Unavailable):
            client.books.find("a")
        assert len(upstream.calls) == 5
    assert logged.take("a bug of the fake")
    assert logged.take("upstream books")


def test_a_fake_upstream_has_the_options_of_the_one_that_it_stands_for() -> None:
    settings = ["upstreams.books.url=jsonrpc+tcp://192.0.2.1:1", "upstreams.books.prefix=b."]
    config = load(None, {}, [*settings, 'upstreams.books.hide=["secret"]'])
    with fake(config, find=later, secret=later) as (_, client):
        assert client.b.find("x") == "later x"
        with pytest.raises(Fault, match="not found"):
            client.b.secret("x")


def test_a_method_that_only_the_configuration_names() -> None:
    settings = ["upstreams.books.url=jsonrpc+tcp://192.0.2.1:1", 'upstreams.books.methods=["find", "more"]']
    with fake(load(None, {}, settings), find=later) as (_, client):
        assert client.books.find("x") == "later x"
        with pytest.raises(Fault) as raised:
            client.books.more()
        assert not isinstance(raised.value, BadUpstream)


# ---- Context.fake ----------------------------------------------------------------------------------------------------


def test_a_fake_context_has_what_a_method_may_ask() -> None:
    context = Context.fake("add", client="192.0.2.1", key="odoo", headers={"X-Tenant": "north"}, timeout=5, db=1)
    assert (context.method, context.client, context.key, context.state.db) == ("add", "192.0.2.1", "odoo", 1)
    assert context.headers["x-tenant"] == context.headers.get("X-TENANT") == "north"
    assert "X-tenant" in context.headers
    assert "Other" not in context.headers
    assert context.headers.get("Other", "none") == "none"
    assert 0 < context.time_left <= 5
    assert Context.fake(claims={"role": "admin"}).caller.claims == {"role": "admin"}
    assert not hasattr(Context.fake().state, "db")


# ---- pytest ----------------------------------------------------------------------------------------------------------


def run_pytest(folder: Path) -> str:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:callgate",
        "-p",
        "gateway.pytest_plugin",
        "-p",
        "no:cacheprovider",
        "-q",
    ]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return run.stdout + run.stderr


def test_the_fixtures_serve_what_the_page_shows_and_the_package_handlers_by_default(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    for file, text in re.findall(r"<!-- beside: (\S+) -->\n```python\n(.*?)```", page, re.DOTALL):
        (tmp_path / file).write_text(text)
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "__init__.py").touch()
    (tmp_path / "handlers" / "some.py").write_text(
        "from gateway import method\n@method\ndef add(a: int, b: int) -> int:\n    return a + b\n"
    )
    (tmp_path / "test_some.py").write_text(
        "def test_it(rpc, rpc_server):\n    assert rpc.add(1, 2) == 3\n    assert rpc_server.metrics_url is None\n"
    )
    assert "4 passed" in run_pytest(tmp_path)


def test_pytest_finds_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"callgate": "gateway.pytest_plugin"}


def test_raw_bytes_are_read_back() -> None:
    with Client(registry) as client:
        assert msgspec.json.decode(client.raw(CALL).body)["result"][2] == "jsonrpc"
