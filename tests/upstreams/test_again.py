"""An upstream that comes back with other methods is asked for them again."""

import time
from pathlib import Path
from typing import Any

import pytest

from gateway import Registry
from gateway.upstreams import again
from tests.conftest import Logged
from tests.serving import free_port, serving
from tests.upstreams.running import Served, until


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "_AGAIN", (0.05, 0.1))


def first() -> Registry:
    registry = Registry()

    @registry.register(name="get")
    def get(item: int) -> str:
        return f"first {item}"

    @registry.register(name="gone")
    def gone() -> int:
        return 1

    return registry


def second() -> Registry:
    registry = Registry()

    @registry.register(name="get")
    def get(item: int, of: str = "all") -> str:
        return f"{item} of {of}"

    @registry.register(name="put")
    def put(item: int) -> int:
        return item

    return registry


def bound(port: int) -> dict[str, Any]:
    return {"server.bind": f"127.0.0.1:{port}"}


def test_it_is_asked_again_when_it_is_up_again(tmp_path: Path, logged: Logged) -> None:
    port = free_port()
    file = tmp_path / "gateway.toml"
    file.write_text(f"[upstreams.up]\nurl = 'jsonrpc+http://127.0.0.1:{port}/api'\n")
    with serving(first(), bound(port)):
        front = serving(Registry(), None, file)
        server = front.__enter__()
        up = Served(server)
        until(lambda: up.offers("get"))
        assert up.call("get", 1) == "first 1"
    try:
        assert up.fault("get", 1) == (-32002, "no")
        with serving(second(), bound(port)):
            until(lambda: "result" in up.answer("get", 1))
            until(lambda: up.offers("put"))
            assert [up.call("get", 1, "x"), up.call("put", 2)] == ["1 of x", 2]
            assert up.fault("gone")[0] == -32601  # the upstream says so
            assert up.upstream.status.methods == 3
    finally:
        front.__exit__(None, None, None)
    logged.take("is down")


def test_it_is_asked_again_when_an_instance_is_new(tmp_path: Path, logged: Logged) -> None:
    ports = [free_port(), free_port()]
    rows = tmp_path / "list.json"
    rows.write_text(f'[{{"address": "127.0.0.1:{ports[0]}"}}]')
    file = tmp_path / "gateway.toml"
    file.write_text(
        f"[directories.list]\nkind = 'file'\npath = '{rows}'\n"
        "[upstreams.up]\nurl = 'jsonrpc+http:///api'\ndirectory = 'list'\n"
    )
    with (
        serving(first(), bound(ports[0])),
        serving(second(), bound(ports[1])),
        serving(Registry(), None, file) as server,
    ):
        up = Served(server)
        until(lambda: up.offers("get"))
        assert not up.offers("put")
        (tmp_path / "new").write_text(f'[{{"address": "127.0.0.1:{ports[1]}"}}]')
        (tmp_path / "new").replace(rows)
        until(lambda: up.offers("put"))
        assert up.call("get", 1, "x") == "1 of x"


def test_one_that_does_not_tell_them_again_keeps_what_it_had(tmp_path: Path, logged: Logged) -> None:
    port = free_port()
    file = tmp_path / "gateway.toml"
    file.write_text(f"[upstreams.up]\nurl = 'jsonrpc+http://127.0.0.1:{port}/api'\n")
    with serving(first(), bound(port)), serving(Registry(), None, file) as server:
        up = Served(server)
        until(lambda: up.offers("get"))
        asked: list[float] = []

        async def describe(deadline: float) -> None:
            asked.append(deadline)
            raise OSError("not now")

        up.upstream._upstream.describe = describe  # type: ignore[method-assign]
        server.loop.call_soon_threadsafe(up.upstream.status.came_back)
        server.loop.call_soon_threadsafe(up.upstream.status.came_back)
        until(lambda: asked)
        time.sleep(0.2)  # for another question, which would be one too many
        assert up.call("get", 1) == "first 1"
        assert (up.upstream.status.state, len(asked)) == ("up", 1)
