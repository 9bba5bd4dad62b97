"""The WSGI host on the real waitress: the corpus, but for what is wrong with HTTP itself, which waitress judges."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import waitress  # type: ignore[import-untyped]

from tests import corpus_methods
from tests.conftest import CORPUS_SETTINGS, Logged
from tests.hosts.test_wsgi import host
from tests.raw_http import Wire, post, request
from tests.serving import eventually, free_port
from tests.test_corpus import PLAIN, body_of, check, named

pytestmark = pytest.mark.unmeasured


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns of a request that comes before its threads
    server = waitress.create_server(host(corpus_methods.registry, CORPUS_SETTINGS), host="127.0.0.1", port=0)

    def run() -> None:
        with suppress(OSError):  # close() takes away the descriptors that its loop waits for
            server.run()

    thread = threading.Thread(target=run)
    thread.start()
    yield server.effective_port
    server.close()
    thread.join(20)


@pytest.mark.parametrize("case", PLAIN, ids=named)
def test_case(case: dict[str, Any], port: int, logged: Logged) -> None:
    sent = case["request"]
    with Wire(port) as wire:
        wire.send(request(sent["path"], sent["headers"], body_of(case), sent["method"]))
        check(case, wire.read(head=sent["method"] == "HEAD"))
    logged.take("secret-internal-detail")
    logged.take("cannot be encoded as")


def test_what_methods_have_opened_is_closed_when_waitress_ends(tmp_path: Path) -> None:
    """At SIGINT; SIGTERM ends it as it ends any program of Python that knows nothing of it."""
    port, said = free_port(), tmp_path / "lifespan"
    modules = {"GATEWAY_SERVER_MODULES": "tests.lifespan_methods:registry", "LIFESPAN": str(said)}
    command = [sys.executable, "-m", "waitress", f"--listen=127.0.0.1:{port}", "gateway.wsgi:application"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | modules, stdout=log, stderr=log)
        try:
            eventually(lambda: "Serving on" in (tmp_path / "log").read_text(), "it serves")
            answered = json.loads(post(port, b'{"jsonrpc":"2.0","method":"process","id":1}').body)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    assert answered["result"] == process.pid
    assert said.read_text() == f"opened {process.pid}\nclosed {process.pid}\n"
