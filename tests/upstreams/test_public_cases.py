"""The cases of public bug reports (tests/corpus/public.jsonl) that concern upstreams: what a server sends that lies.

docs/conformance.md says why those of LENIENT need an option.
"""

import base64
import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import Registry
from tests.conftest import Logged
from tests.raw_http import post
from tests.serving import serving
from tests.test_public_corpus import CASES

pytestmark = pytest.mark.unmeasured

UPSTREAM = [case for case in CASES if case["proto"].startswith("upstream:")]
LENIENT = {"pb-133", "pb-135", "pb-137"}
PREFIXES = {"xmlrpc+http": "x", "jsonrpc+http": "j", "jsonrpc+tcp": "t"}


@contextmanager
def liar(answer: bytes, *, closes: bool) -> Iterator[int]:
    """Answer each request with the same bytes, and the id of the request in them."""

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            received = b""
            while data := connection.recv(65536):
                received += data
                call_id = re.search(rb'"id": ?(\d+)', received)
                if received.startswith(b"POST ") and b"</methodCall>" not in received and call_id is None:
                    continue
                said = answer.replace(b"%ID%", call_id[1]) if call_id else answer
                head, end, body = said.partition(b"\r\n\r\n")
                if b"%ID%" in answer and end:
                    said = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), head) + end + body
                connection.sendall(said)
                received = b""
                if closes:
                    return

    def accept(bound: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(bound.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as bound:
        threading.Thread(target=accept, args=(bound,), daemon=True).start()
        yield bound.getsockname()[1]
        bound.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("case", UPSTREAM, ids=[case["id"] for case in UPSTREAM])
def test_a_case_of_a_public_report(case: dict[str, Any], tmp_path: Path, logged: Logged) -> None:
    lie, expect = case["upstream"], case["expect"]
    scheme = lie["url_scheme"]
    said = base64.b64decode(lie["answer_b64"]) if "answer_b64" in lie else lie["answer"].encode()
    with liar(said, closes=lie.get("closes_after_answer", False)) as port:
        file = tmp_path / "gateway.toml"
        file.write_text(
            f"[upstreams.{PREFIXES[scheme]}]\nurl = '{scheme}://127.0.0.1:{port}'\nmethods = ['{lie['method']}']\n"
            + ("lenient = true\n" if case["id"] in LENIENT else "")
        )
        with serving(Registry(), {"limits.timeout": 10}, file) as gateway:
            body = post(gateway.port, case["request"]["body"].encode()).body.decode()
    answer = json.loads(body)
    assert expect["kind"] in answer, answer
    assert expect.get("text_has", "").lower() in body.lower()
    assert "text_lacks" not in expect or expect["text_lacks"] not in body
    if "result" in expect:
        assert answer["result"] == expect["result"]
    for name in {"code", "message"} & expect.keys():
        wanted = expect[name] if isinstance(expect[name], list) else [expect[name]]
        assert answer["error"][name] in [*wanted, *([-32005] if expect.get("text_has") == "401" else [])]
    logged.take("upstream ")
