"""gateway.wsgi on the real gunicorn: the corpus, bodies that gunicorn cannot read, threads, and the log.

DIFFERENT says what gunicorn's own HTTP parser makes of cases of the corpus that want something else, and why.
"""

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from tests.certificates import Authority
from tests.conftest import CORPUS_SETTINGS
from tests.process.test_sockets import post_unix
from tests.raw_http import Wire, post, request
from tests.serving import eventually
from tests.test_corpus import PLAIN, RAW, body_of, check, named, raw_bytes

ROOT = Path(__file__).parents[2]
WAITING = "it waits for more, without any limit; when no more can come it is 400"
DIFFERENT: dict[str, tuple[int | None, str]] = {
    "h-146": (501, "an empty transfer coding is one that it does not know"),
    "h-151": (501, "so is one with a no-break space"),
    "h-157": (400, WAITING),
    "h-159": (400, WAITING),
    "h-162": (400, WAITING),
    "h-192": (400, WAITING),
    "h-193": (100, "100 Continue is sent before the application is asked"),
}
THREADS = 4
ADD = b'{"jsonrpc":"2.0","method":"add","params":[2,3],"id":1}'
JSON = {"Content-Type": "application/json"}


class Gunicorn(Struct, frozen=True, kw_only=True):
    """A gunicorn that runs."""

    port: int
    log: Path


@contextmanager
def gunicorn(
    folder: Path,
    settings: Mapping[str, Any],
    module: str = "tests.corpus_methods:registry",
    more: tuple[str, ...] = (),
    path: Path | None = None,
) -> Iterator[Gunicorn]:
    """Run gunicorn with one process and some threads."""
    variables = {f"GATEWAY_{name.replace('.', '_').upper()}": str(value) for name, value in settings.items()}
    log = folder / "log"
    opened = socket.create_server(str(path), family=socket.AF_UNIX) if path else socket.create_server(("127.0.0.1", 0))
    with opened as listener, log.open("wb") as output:
        port = 0 if path else listener.getsockname()[1]
        listener.set_inheritable(True)
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                "gateway.wsgi",
                "--no-control-socket",
                f"--threads={THREADS}",
                f"--bind=fd://{listener.fileno()}",
                *more,
            ],
            cwd=ROOT,
            env={**os.environ, **variables, "GATEWAY_SERVER_MODULES": module},
            stdout=output,
            stderr=output,
            pass_fds=[listener.fileno()],
        )
    try:
        eventually(lambda: "Booting worker" in log.read_text() or process.poll() is not None, "it does not start")
        assert process.poll() is None, log.read_text()
        yield Gunicorn(port=port, log=log)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with gunicorn(tmp_path_factory.mktemp("gunicorn"), CORPUS_SETTINGS) as running:
        yield running
        assert "the endpoint raised an exception" not in running.log.read_text()
        assert "Error handling request" not in running.log.read_text()


@pytest.mark.processes
@pytest.mark.parametrize("case", PLAIN, ids=named)
def test_case(case: dict[str, Any], corpus: Gunicorn) -> None:
    sent = case["request"]
    with Wire(corpus.port) as wire:
        wire.send(request(sent["path"], sent["headers"], body_of(case), sent["method"]))
        check(case, wire.read(head=sent["method"] == "HEAD"))


@pytest.mark.parametrize("case", RAW, ids=named)
def test_raw_case(case: dict[str, Any], corpus: Gunicorn) -> None:
    status, why = DIFFERENT.get(case["id"], (None, ""))
    with Wire(corpus.port) as wire:
        wire.send(raw_bytes(case) or b"")
        if why is WAITING:
            wire.socket.shutdown(socket.SHUT_WR)
        response = wire.read()
        for interim in case.get("expect_interim", []):
            assert response is not None
            assert response.status == interim
            response = wire.read()
        if why:
            assert (response.status if response else None) == status
        else:
            check(case, response)


def test_every_difference_is_a_case() -> None:
    assert DIFFERENT.keys() <= {case["id"] for case in RAW}


def test_the_other_end_of_a_unix_socket_is_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "gw.sock"
    settings = {"access.trusted_proxies": "127.0.0.1"}
    with gunicorn(tmp_path, settings, "tests.deploy.uwsgi_methods:registry", path=path):
        assert post_unix(path, "client") == "127.0.0.1"
        assert post_unix(path, "client", X_Forwarded_For="192.0.2.1") == "192.0.2.1"


# ---- bodies and threads ----------------------------------------------------------------------------------------------

BROKEN_CHUNKS = {
    "a size that is not a number": b"zz\r\n",
    "a chunk without its end": b"3\r\nabcdef\r\n",
    "an end of the connection": b"30\r\n{",
    "a trailer that is not a header": b"0\r\nno header\r\n\r\n",
}


@pytest.mark.parametrize("chunks", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_a_body_that_gunicorn_cannot_read_is_400_with_a_fault(chunks: bytes, corpus: Gunicorn) -> None:
    head = (
        "POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with Wire(corpus.port) as wire:
        wire.send(head.encode() + chunks)
        wire.socket.shutdown(socket.SHUT_WR)
        response = wire.read()
    assert response is not None
    assert response.status == 400
    assert json.loads(response.body)["error"]["code"] == -32600


PATIENT = """
import gunicorn.workers.gthread

gunicorn.workers.gthread.DEFAULT_WORKER_DATA_TIMEOUT = 3600
gunicorn.util.close_graceful.__defaults__ = (3600, 65536)
"""


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("coding", ["Content-Length: 99999999", "Transfer-Encoding: chunked"])
def test_refused_uploads_hold_no_thread_of_gunicorn(coding: str, *, is_tls: bool, tmp_path: Path) -> None:
    """Gunicorn itself would wait seconds for the rest of each, with a thread and then with all: here for an hour."""
    (tmp_path / "patient.py").write_text(PATIENT)
    settings = {**CORPUS_SETTINGS, "limits.linger": 60}
    head = f"GET /api HTTP/1.1\r\nHost: localhost\r\n{coding}\r\n\r\n"
    more = [f"--config={tmp_path / 'patient.py'}"]
    tls = None
    if is_tls:
        authority = Authority(tmp_path)
        certificate, key = authority.issue()
        more += [f"--certfile={certificate}", f"--keyfile={key}"]
        tls = authority.client()
    with gunicorn(tmp_path, settings, more=tuple(more)) as running, ExitStack() as stack:
        for _ in range(THREADS + 1):
            wire = stack.enter_context(Wire(running.port, tls=tls))
            wire.send(head.encode())
            response = wire.read()
            assert response is not None
            assert response.status == 405
            assert wire.socket.recv(1) == b""
            socket.socket.sendall(wire.socket, b"x" * 300_000)  # it is read, so the connection is not reset
            assert socket.socket.recv(wire.socket, 1) == b""
        with Wire(running.port, tls=tls) as wire:
            wire.send(request("/api", JSON, ADD))
            response = wire.read()
        assert response is not None
        assert json.loads(response.body)["result"] == 5
        assert "Traceback" not in running.log.read_text()


# ---- the log ---------------------------------------------------------------------------------------------------------


def test_a_call_has_its_line_and_gunicorn_keeps_its_own(corpus: Gunicorn) -> None:
    post(corpus.port, ADD)
    eventually(lambda: "call method=add protocol=jsonrpc" in corpus.log.read_text(), "there is no line")
    assert "[INFO] Booting worker" in corpus.log.read_text()


@pytest.mark.parametrize("configures", [True, False])
def test_the_log_of_the_process_is_left_alone(configures: bool) -> None:
    """Where a module that is served configures the log, the gateway's lines go there; the rest of it stays as it is."""
    program = """
        import logging, sys, warnings
        if {configures}:
            logging.basicConfig(format="own: %(name)s %(message)s", level="DEBUG", stream=sys.stdout)
        root = logging.getLogger()
        before = (root.level, list(root.handlers), logging._srcfile, logging.logThreads, warnings.showwarning)
        from gateway.wsgi import application
        assert (root.level, root.handlers, logging._srcfile, logging.logThreads, warnings.showwarning) == before
        logging.getLogger("gateway").info("a line")
        logging.getLogger("other").info("another line")
    """.replace("{configures}", str(configures))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        env={**os.environ, "GATEWAY_SERVER_MODULES": "tests.corpus_methods:registry"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("own: gateway a line\nown: other another line\n" in done.stdout) is configures
    assert (" info    a line\n" in done.stderr) is not configures
    assert "another line" not in done.stderr


def test_what_methods_have_opened_is_closed_when_a_worker_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFESPAN", str(tmp_path / "lifespan"))
    with gunicorn(tmp_path, {}, "tests.lifespan_methods:registry") as running:
        worker = json.loads(post(running.port, b'{"jsonrpc":"2.0","method":"process","id":1}').body)["result"]
    assert (tmp_path / "lifespan").read_text() == f"opened {worker}\nclosed {worker}\n"
