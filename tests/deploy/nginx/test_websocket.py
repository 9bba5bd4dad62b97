"""JSON-RPC over WebSocket, and server-sent events, through nginx."""

import http.client
import json
from pathlib import Path
from typing import Any

import pytest
from websockets import Origin
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from benchmarks.edge import edge
from tests.deploy.nginx.edging import FREE, METHODS
from tests.endpoints.test_events import EVENTS, event
from tests.hosts.test_websocket import call as call_of

pytestmark = pytest.mark.unmeasured


def test_it_is_passed_on_and_may_be_silent_for_as_long_as_it_answers_pings(tmp_path: Path) -> None:
    clocks = ["websocket.ping_interval=0.5", "websocket.ping_timeout=0.5", "nginx.margin=1"]
    with edge(tmp_path, METHODS, [*FREE, "websocket.enabled=true", *clocks]) as running:
        url = f"wss://localhost:{running.port}/ws"

        def call(socket: Any, method: str) -> Any:
            socket.send(json.dumps({"jsonrpc": "2.0", "method": method, "id": 1}))
            return json.loads(socket.recv())["result"]

        with connect(url, ssl=running.client(), additional_headers={"X-Forwarded-For": "10.0.0.5"}) as socket:
            assert call(socket, "who")["X-Forwarded-For"] == "127.0.0.1"
            with pytest.raises(TimeoutError):
                socket.recv(timeout=2.5)  # proxy_read_timeout is 2
            assert call(socket, "who")["client"] == "127.0.0.1"
        evil = Origin("https://evil.example")
        with pytest.raises(InvalidStatus) as refused, connect(url, ssl=running.client(), origin=evil):
            pass
        assert refused.value.response.status_code == 403


def test_server_sent_events_come_when_they_are_there(tmp_path: Path) -> None:
    with edge(tmp_path, ["tests.endpoints.test_events:registry"], FREE) as running:
        caller = http.client.HTTPSConnection("localhost", running.port, timeout=20, context=running.client())
        caller.request("POST", "/api", json.dumps(call_of("ticks", 0.2)), EVENTS)
        response = caller.getresponse()
        assert [event(response)["params"]["result"] for _ in range(3)] == [0, 1, 2]
        response.close()
        caller.close()
