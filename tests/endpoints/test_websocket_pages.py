"""JSON-RPC over WebSocket from pages in a real browser: one that may call, and one that may not."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.browser import browsing
from tests.endpoints.test_streams import registry
from tests.serving import serving

pytestmark = pytest.mark.unmeasured

KEY = "gw_" + "k" * 43
TALK = """
const [url, protocols] = arguments;
return new Promise((resolve) => {
    const said = [];
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => {
        said.push(socket.protocol);
        socket.send(JSON.stringify({jsonrpc: "2.0", method: "add", params: [1, 2], id: 1}));
    };
    socket.onmessage = (event) => {
        const message = JSON.parse(event.data);
        said.push(message.params ? message.params.result ?? message.method : message.result);
        if (message.id === 1)
            socket.send(JSON.stringify({jsonrpc: "2.0", method: "rpc.subscribe", params: ["count", 2], id: 2}));
        if (message.method === "rpc.ended")
            socket.close(1000);
    };
    socket.onclose = (event) => resolve([...said, event.code]);
});
"""


class Page(http.server.BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>page</title>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def page() -> Iterator[str]:
    """Serve an empty page, and yield its Origin."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_page_whose_origin_is_listed_calls_with_its_key_and_subscribes_and_no_other_page_does() -> None:
    with page() as listed, page() as other, browsing() as browser:
        settings = {
            "websocket.enabled": True,
            "access.origins": listed,
            "access.keys": json.dumps({"page": f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"}),
        }
        with serving(registry, settings) as server:
            url, protocols = f"ws://127.0.0.1:{server.port}/ws", ["jsonrpc", f"bearer.{KEY}"]
            browser.go(listed)
            said = browser.run(TALK, url, protocols)
            assert said[:2] == ["jsonrpc", 3]
            assert str(said[2]).startswith("0x")
            assert said[3:] == [0, 1, "rpc.ended", 1000]
            assert browser.run(TALK, url, ["jsonrpc", "bearer.wrong"]) == [1006]
            assert browser.run(TALK, url, ["jsonrpc"]) == [1006]
            browser.go(other)
            assert browser.run(TALK, url, protocols) == [1006]
