"""Two upstreams that have a method of the same name, and options that match no method."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import ConfigError, Registry
from gateway.app import build
from gateway.config import load
from tests.cli.running import run
from tests.conftest import Logged
from tests.serving import Server, free_port, serving
from tests.upstreams.jsonrpc.test_tcp import Peer, server
from tests.upstreams.running import until
from tests.upstreams.test_passing import call, refuse


def telling(answer: str, *names: str) -> Any:
    def receive(peer: Peer, asked: dict[str, Any]) -> None:
        if asked["method"] == "rpc.discover":
            refuse(peer, asked, -32601, "Method not found")
        else:
            peer.answer(asked, list(names) if asked["method"] == "system.listMethods" else answer)

    return receive


def table(name: str, port: int, more: str = "") -> str:
    return f"[upstreams.{name}]\nurl = 'jsonrpc+tcp://127.0.0.1:{port}'\nprefix = ''\n{more}\n"


@contextmanager
def gateway(folder: Path, *tables: str) -> Iterator[Server]:
    file = folder / "gateway.toml"
    file.write_text("\n".join(tables))
    with serving(Registry(), None, file) as served:
        yield served


def offers(served: Server, name: str) -> bool:
    return served.gateway.registry.get(name, "jsonrpc") is not None


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")], ids=["first", "last"])
def test_the_order_in_the_file_decides_whoever_is_reached_first(
    order: tuple[str, str], tmp_path: Path, logged: Logged
) -> None:
    late = free_port()
    with server(telling("b", "same", "of_b")) as (port, _):
        tables = {"a": table("a", late), "b": table("b", port)}
        with gateway(tmp_path, *(tables[name] for name in order)) as served:
            until(lambda: offers(served, "of_b"))
            assert call(served, "same")["result"] == "b"
            with server(telling("a", "same", "of_a"), late):
                until(lambda: offers(served, "of_a"))
                assert call(served, "same")["result"] == order[0]
                assert call(served, "of_b")["result"] == "b"
                counts = {each.name: each.status.methods for each in served.gateway.upstreams}
                assert counts == {order[0]: 2, order[1]: 1}
    assert logged.take("is down")
    said = "'same' was a method of upstreams.b until now" if order[0] == "a" else "'same' is registered twice"
    assert logged.take(said)


def test_a_name_that_a_pattern_has_passed_on_yields_to_a_method_that_is_told(tmp_path: Path, logged: Logged) -> None:
    late = free_port()
    with (
        server(telling("a")) as (port, _),
        gateway(tmp_path, table("a", port, "methods = ['*']"), table("b", late)) as served,
    ):
        assert call(served, "same")["result"] == "a"
        assert offers(served, "same")
        with server(telling("b", "same", "of_b"), late):
            until(lambda: offers(served, "of_b"))
            assert call(served, "same")["result"] == "b"
    assert logged.take("is down")


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")], ids=["first", "last"])
def test_of_two_known_methods_of_one_name_the_order_in_the_file_decides(
    order: tuple[str, str], tmp_path: Path, logged: Logged
) -> None:
    with server(telling("a")) as (port_a, _), server(telling("b")) as (port_b, _):
        tables = {
            "a": table("a", port_a, "methods = ['same', 'of_a']"),
            "b": table("b", port_b, "methods = ['same', 'of_b']"),
        }
        with gateway(tmp_path, *(tables[name] for name in order)) as served:
            assert call(served, "same")["result"] == order[0]
            assert call(served, "of_a")["result"] == "a"
            assert call(served, "of_b")["result"] == "b"
        checked = run(tmp_path, "check", "--config", str(tmp_path / "gateway.toml"), "--set", "server.modules=[]")
    said = f"'same' is a method of upstreams.{order[0]}, which comes first in the file; rename one of them"
    assert logged.take(f"upstream {order[1]}: {said}")
    assert f"warning[method-twice]: upstreams.{order[1]}: {said}" in checked.err
    assert checked.code == 0


def test_an_upstream_that_gives_two_methods_one_name_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(table("a", 1, "methods = ['x', 'y']\nrename = { x = 'y' }"))
    with pytest.raises(ConfigError, match=r"'y' is registered twice: by upstreams\.a"):
        build(load(file, {}, ()), Registry())


def test_entries_that_match_nothing_are_logged_where_methods_are_told(tmp_path: Path, logged: Logged) -> None:
    with (
        server(telling("a", "add", "get")) as (port, _),
        gateway(tmp_path, table("a", port, "idempotent = ['get', 'ad']\nhide = ['rpc.*', 'x*']")) as served,
    ):
        until(lambda: served.gateway.upstreams[0].unmatched)
    assert logged.take("upstream a: idempotent: 'ad' matches none of its methods; did you mean add?")
    assert logged.take("upstream a: hide: 'x*' matches none of its methods")


HIDE = "hide = ['gt']"


@pytest.mark.processes
def test_what_was_told_is_listed(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    with server(telling("a", "add", "get")) as (port, _):
        file.write_text(
            f"[server]\nmodules = []\n{table('a', port, HIDE)}{table('b', 1)}"
            + table("c", 1, "methods = ['sub']").replace("prefix = ''", "")
        )
        listed = run(tmp_path, "methods", "--config", str(file))
        shown = run(tmp_path, "upstreams", "-v", "--config", str(file))
    assert listed.code == 0
    assert [line.split()[0] for line in listed.out.splitlines()] == ["c.sub", "add", "get"]
    assert listed.err.splitlines() == [
        "gateway: upstream a: hide: 'gt' matches none of its methods; did you mean get?",
        "gateway: upstream b: connection refused",
    ]
    assert shown.code == 1
    assert [line.strip() for line in shown.out.splitlines()[4:]] == [
        *("", "a:", "add  (*, **)", "get  (*, **)"),
        *("", "b:"),
        *("", "c:", "c.sub  (*, **)"),
    ]


def test_a_service_takes_texts_without_newlines(tmp_path: Path) -> None:
    def receive(peer: Peer, asked: dict[str, Any]) -> None:
        answer = b'{"jsonrpc": "2.0", "id": %d,\n "result": 7}' % asked["id"]
        peer.connection.sendall(b'{"jsonrpc": "2.0", "method": "tick"}\0' + answer)

    with (
        server(receive) as (port, _),
        gateway(tmp_path, table("a", port, "methods = ['get']\nframing = 'json'")) as served,
    ):
        assert [call(served, "get")["result"], call(served, "get")["result"]] == [7, 7]


def test_whole_responses_before_a_bad_frame_are_taken(tmp_path: Path, logged: Logged) -> None:
    both = threading.Barrier(2)

    def receive(peer: Peer, asked: dict[str, Any]) -> None:
        if len(peer.calls) == 2:
            first = peer.calls[0]["id"]
            peer.connection.sendall(b'{"jsonrpc": "2.0", "id": %d, "result": 7}]' % first)

    results: list[dict[str, Any]] = []

    def make(served: Server) -> None:
        both.wait(20)
        results.append(call(served, "get"))

    with (
        server(receive) as (port, _),
        gateway(tmp_path, table("a", port, "methods = ['get']\nframing = 'json'\nconnections = 1")) as served,
    ):
        threads = [threading.Thread(target=make, args=(served,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert sorted("result" in each for each in results) == [False, True]
    assert next(each["error"]["code"] for each in results if "error" in each) == -32004
    logged.take("the response is not framed as configured")
