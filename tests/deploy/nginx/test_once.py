"""A call is never sent twice, and never lost: connections to the gateway are kept, and given up in time."""

import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from benchmarks.edge import Edge, edge, nginx
from tests.deploy.nginx.edging import (
    FREE,
    METHODS,
    Upstream,
    answer_five,
    ask,
    calling,
    check_refusal,
    children,
    closed_port,
    hang_up,
    result,
)
from tests.raw_http import Response, Wire
from tests.serving import eventually

pytestmark = pytest.mark.unmeasured


def test_a_call_that_was_sent_is_not_sent_again_when_its_gateway_dies(tmp_path: Path) -> None:
    with Upstream(hang_up) as first, Upstream(hang_up) as second:
        with nginx(tmp_path, [f"nginx.servers={first.address},{second.address}"], METHODS) as running:
            check_refusal(ask(running, calling("add", 2, 3)), 502, -32002, "application/json")
        assert len(first.requests) + len(second.requests) == 1


def test_a_call_on_a_connection_that_was_kept_is_not_sent_again_either(tmp_path: Path) -> None:
    def answer_once(connection: socket.socket, requests: list[bytes]) -> None:
        (answer_five if len(requests) == 1 else hang_up)(connection, requests)

    with Upstream(answer_once) as upstream:
        with (
            nginx(tmp_path, [f"nginx.servers={upstream.address}"], METHODS) as running,
            Wire(running.port, tls=running.client()) as wire,
        ):
            wire.send(calling("add", 2, 3))
            response = wire.read()
            assert response is not None
            assert result(response) == 5
            wire.send(calling("add", 2, 3))
            response = wire.read()
            assert response is not None
            check_refusal(response, 502, -32002, "application/json")
        assert len(upstream.requests) == 2


def test_a_call_goes_to_another_gateway_where_no_connection_comes_about(tmp_path: Path) -> None:
    with Upstream(answer_five) as upstream:
        with nginx(tmp_path, [f"nginx.servers={closed_port()},{upstream.address}"], METHODS) as running:
            for _ in range(4):
                assert result(ask(running, calling("add", 2, 3))) == 5
        assert len(upstream.requests) == 4


def test_a_client_whose_calls_fail_does_not_shut_out_the_others(tmp_path: Path) -> None:
    def fail_if_told(connection: socket.socket, requests: list[bytes]) -> None:
        (hang_up if b'"bad"' in requests[-1] else answer_five)(connection, requests)

    with Upstream(fail_if_told) as first, Upstream(fail_if_told) as second:
        settings = [*FREE, f"nginx.servers={first.address},{second.address}"]
        with nginx(tmp_path, settings, METHODS) as running:
            for _ in range(6):
                assert ask(running, calling("bad")).status == 502
                assert result(ask(running, calling("add", 2, 3))) == 5
    assert first.requests
    assert second.requests


def test_connections_to_the_gateway_are_kept_and_given_up_before_it_closes_them(tmp_path: Path) -> None:
    ended = threading.Event()

    class Watched(Upstream):
        def _serve(self, connection: socket.socket) -> None:
            super()._serve(connection)
            ended.set()

    with Watched(answer_five) as upstream:
        settings = [f"nginx.servers={upstream.address}", "server.drain=2"]
        with nginx(tmp_path, settings, METHODS) as running:
            with Wire(running.port, tls=running.client()) as wire:
                for _ in range(3):
                    wire.send(calling("add", 2, 3))
                    assert wire.read() is not None
                assert not ended.is_set(), "one connection served all"
            assert ended.wait(10), "nginx closes it after half of server.drain"
        assert len(upstream.requests) == 3


def test_a_client_that_hangs_up_is_hung_up_on_at_the_gateway(proxied: Edge) -> None:
    with Wire(proxied.port, tls=proxied.client()) as wire:
        wire.send(calling("nap", 3))
        time.sleep(0.3)
    log = proxied.folder / "gateway.log"
    eventually(lambda: "call method=nap " in log.read_text() and "outcome=cancelled" in log.read_text(), "it went on")


def test_no_call_is_lost_while_the_gateway_s_workers_are_replaced(tmp_path: Path) -> None:
    failures: list[Response | None] = []
    calls: list[int] = []
    done = threading.Event()

    def call_again_and_again(running: Edge) -> None:
        with Wire(running.port, tls=running.client()) as wire:
            for number in range(900):  # nginx ends a connection after its thousandth request
                wire.send(calling("add", number, 1))
                response = wire.read()
                if response is None or response.status != 200 or result(response) != number + 1:
                    failures.append(response)
                    return
                calls.append(number)
                if done.wait(0.005):
                    return

    with edge(tmp_path, METHODS, [*FREE, "server.workers=2", "server.drain=2"]) as running:
        assert running.gateway is not None
        gateway = running.gateway.pid
        callers = [threading.Thread(target=call_again_and_again, args=(running,)) for _ in range(6)]
        for caller in callers:
            caller.start()
        for _ in range(6):
            old = set(children(gateway))
            running.gateway.send_signal(signal.SIGHUP)
            eventually(lambda: old.isdisjoint(children(gateway)), "the old workers do not end")  # noqa: B023 - at once
        done.set()
        for caller in callers:
            caller.join()
    assert failures == []
    assert len(calls) > 100
