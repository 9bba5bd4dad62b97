"""gateway.wsgi on the real uWSGI: the corpus, processes and threads, reload and stop, and conf/uwsgi.ini itself.

DIFFERENT says what uWSGI's own HTTP parser makes of cases of the corpus that want something else, and why. Each of its
connections has one request, so nothing can hide behind it.
"""

import http.client
import json
import signal
import sys
import threading
import time
import urllib.request
import xmlrpc.client
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.edge import nginx
from gateway.telemetry.callers import read
from tests.cli.running import here
from tests.conftest import CORPUS_SETTINGS
from tests.deploy import uwsgi
from tests.deploy.nginx.edging import FREE, ask, result
from tests.deploy.nginx.edging import calling as asking
from tests.deploy.uwsgi import Running
from tests.process.test_sockets import post_unix
from tests.raw_http import Response, Wire, exchange, post, request
from tests.serving import activated, free_port
from tests.test_corpus import FILES, PLAIN, RAW, body_of, check, named, raw_bytes
from tests.test_origins import CALCULATED, CALCULATOR, STORE, STORED, output

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

DIFFERENT: dict[str, tuple[int | None, str]] = {
    "xv-186": (200, "no 100 Continue comes, so such a client sends its body when it is tired of waiting"),
    "xv-187": (400, "an empty line before the request is taken for the request line"),
    "xv-189": (200, "a connection has one request: the second one is not read"),
    "h-153": (200, "chunk sizes are read by strtol, which takes 0x"),
    "h-156": (
        200,
        "strtoul reads on behind an empty chunk size, where the memory mostly has no digit: that is 0, the end",
    ),
    "h-162": (200, "what follows the last chunk is not read"),
    "h-163": (None, "a line without a colon closes the connection without an answer"),
    "h-164": (None, "so does an empty name"),
    "h-166": (None, "so does a bare CR"),
    "h-173": (200, "any version is taken; servers with HTTP/2 hand it over so"),
    "h-186": (None, "after bare line feeds it waits for the head to end"),
    "h-200": (200, "dots in a path are resolved before the application sees it"),
}
UNSURE = {"h-156"}  # what is DIFFERENT most of the time
METHODS = ("tests.deploy.uwsgi_methods:registry",)


def edge_cases(category: str) -> list[dict[str, Any]]:
    folder = Path(__file__).parents[1] / "corpus"
    lines = [line for name in FILES for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()]
    return [case for case in map(json.loads, lines) if case.get("category") == category]


# ---- the corpus ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {**CORPUS_SETTINGS, "server.workers": 2, "limits.threads": 8, "limits.head_timeout": 3}
    modules = ("tests.corpus_methods:registry",)
    with uwsgi.running(tmp_path_factory.mktemp("uwsgi"), settings, modules) as running:
        yield running
    assert "HARAKIRI" not in running.log.read_text()


@pytest.mark.parametrize("case", PLAIN, ids=named)
def test_case(case: dict[str, Any], corpus: Running) -> None:
    sent = case["request"]
    with Wire(corpus.port) as wire:
        wire.send(request(sent["path"], sent["headers"], body_of(case), sent["method"]))
        check(case, wire.read(head=sent["method"] == "HEAD"))
        assert wire.read() is None


@pytest.mark.parametrize("case", RAW, ids=named)
def test_raw_case(case: dict[str, Any], corpus: Running) -> None:
    with Wire(corpus.port) as wire:
        wire.send(raw_bytes(case) or b"")
        response = wire.read()
        status = response.status if response else None
        if case["id"] in DIFFERENT and not (case["id"] in UNSURE and status == case["expect"]["http"]):
            assert status == DIFFERENT[case["id"]][0]
        else:
            check(case, response)
        assert wire.read() is None  # whatever was sent, there is no second answer
        assert wire.is_closed()


@pytest.fixture(scope="module")
def fenced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {**CORPUS_SETTINGS, "access.trusted_proxies": "127.0.0.1", "access.allow": "10.0.0.0/8"}
    with uwsgi.running(tmp_path_factory.mktemp("fenced"), settings, ("tests.corpus_methods:registry",)) as running:
        yield running


@pytest.mark.parametrize("case", edge_cases("allowlist"), ids=named)
def test_allowlist_case(case: dict[str, Any], fenced: Running) -> None:
    """127.0.0.9 stands for all peers that are neither trusted nor allowed; tests/hosts/test_wsgi.py has them all."""
    source = "127.0.0.1" if case["peer"] == "127.0.0.1" else "127.0.0.9"
    connection = http.client.HTTPConnection("127.0.0.1", fenced.port, timeout=10, source_address=(source, 0))
    sent = case["request"]
    connection.request(sent["method"], sent["path"], body_of(case), dict(sent["headers"]))
    got = connection.getresponse()
    headers = {name.lower(): value for name, value in got.getheaders()}
    check(case, Response(status=got.status, version="HTTP/1.1", headers=headers, body=got.read()))
    connection.close()


@pytest.fixture(scope="module")
def named_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {**CORPUS_SETTINGS, "access.hosts": "localhost,127.0.0.1"}
    with uwsgi.running(tmp_path_factory.mktemp("hosts"), settings, ("tests.corpus_methods:registry",)) as running:
        yield running


@pytest.mark.parametrize("case", edge_cases("browser"), ids=named)
def test_browser_case(case: dict[str, Any], named_hosts: Running) -> None:
    data = raw_bytes(case)
    if data is None:
        sent = case["request"]
        data = request(sent["path"], sent["headers"], body_of(case), sent["method"])
    check(case, exchange(named_hosts.port, data))


def test_every_difference_is_a_case() -> None:
    assert DIFFERENT.keys() <= {case["id"] for case in RAW}


# ---- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2**20 + 1, 30 * 2**20])
def test_a_body_that_is_too_large_is_told_so_and_not_cut_off(corpus: Running, size: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", corpus.port, timeout=10)
    connection.request("POST", "/api", b"<" * size, {"Content-Type": "text/xml"})
    response = connection.getresponse()
    assert response.status == 413
    assert b"-32006" in response.read()
    connection.close()


def test_chunks_are_read_through_uwsgi_and_never_more_of_them_than_a_body_may_have(corpus: Running) -> None:
    def chunked(pieces: list[bytes]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", corpus.port, timeout=10)
        connection.request("POST", "/api", iter(pieces), {"Content-Type": "application/json"}, encode_chunked=True)
        response = connection.getresponse()
        found = response.status, response.read()
        connection.close()
        return found

    call = json.dumps({"jsonrpc": "2.0", "method": "echo", "params": ["x" * 300_000], "id": 1}).encode()
    status, body = chunked([call[at : at + 50_000] for at in range(0, len(call), 50_000)])
    assert (status, json.loads(body)["result"]) == (200, "x" * 300_000)
    status, body = chunked([b" " * 2**18] * 6)
    assert (status, json.loads(body)["error"]["code"]) == (413, -32006)


def test_a_body_that_stays_away_is_no_call(corpus: Running) -> None:
    with Wire(corpus.port) as wire:
        wire.send(request("/api", {"Content-Type": "application/json"}, b"x" * 50)[:-10])
        response = wire.read()
    assert response is not None
    assert response.status == 400
    assert json.loads(response.body)["error"]["code"] == -32600


# ---- processes and threads -------------------------------------------------------------------------------------------


def calling(port: int, method: str, *params: Any) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()
    return json.loads(post(port, body).body)["result"]


def at_once(functions: list[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result() for future in [pool.submit(function) for function in functions]]


def test_processes_and_threads_answer_at_once(tmp_path: Path) -> None:
    with uwsgi.running(tmp_path, {"server.workers": 2, "limits.threads": 16}, METHODS) as running:
        start = time.monotonic()
        assert at_once([lambda: calling(running.port, "nap", 1)] * 30) == ["done"] * 30
        assert time.monotonic() - start < 15  # one after the other they would take 30
        told = at_once([lambda: calling(running.port, "process")] * 30)
        assert len({process for process, _ in told}) == 2
        assert all(forked == [process] for process, forked in told)  # Python knows of the fork, and so do libraries


def test_a_call_that_meets_its_deadline_or_not_never_meets_harakiri(tmp_path: Path) -> None:
    short = {"limits.body_timeout": 0.1, "limits.write_timeout": 0.1, "limits.linger": 0.1, "limits.timeout": 3}
    with uwsgi.running(tmp_path, short, ("tests.corpus_methods:registry",)) as running:
        assert "harakiri = 4\n" in (tmp_path / "uwsgi.ini").read_text()
        late = json.dumps({"jsonrpc": "2.0", "method": "slow", "params": [9], "id": 1}).encode()
        results = at_once(
            [lambda: calling(running.port, "slow", 2.5)] * 3 + [lambda: json.loads(post(running.port, late).body)] * 3
        )
        assert results[:3] == ["done"] * 3
        assert [answer["error"]["code"] for answer in results[3:]] == [-32001] * 3
        time.sleep(2)
        assert calling(running.port, "add", 2, 3) == 5
    assert "HARAKIRI" not in running.log.read_text()


def test_all_processes_count_who_calls(tmp_path: Path) -> None:
    with uwsgi.running(tmp_path, {"server.workers": 2, "server.callers": tmp_path / "callers"}, METHODS) as running:
        calls = 0
        while len([*(tmp_path / "callers").glob("*.lock")]) < 2:  # one process may take all of a few calls
            assert calls < 1200, "a process takes no calls"
            assert at_once([lambda: calling(running.port, "nap", 0.3)] * 12) == ["done"] * 12
            calls += 12
        assert running.stop() == 0
    assert len([*(tmp_path / "callers").glob("*.json")]) == 2
    tally = read(tmp_path / "callers")
    assert tally is not None
    told = [(row.method, row.kind, row.name, row.calls) for row in tally.rows]
    assert told == [("nap", "address", "127.0.0.1", calls)]


def test_all_processes_charge_the_same_buckets(tmp_path: Path) -> None:
    settings = {"server.workers": 3, "limits.threads": 1, "limits.client_rate": 0.001, "limits.client_burst": 6}
    call = b'{"jsonrpc":"2.0","method":"nap","params":[0.1],"id":1}'
    with uwsgi.running(tmp_path, settings, METHODS) as running:
        responses = [post(running.port, call) for _ in range(12)]
    assert [response.status for response in responses] == [200] * 6 + [429] * 6
    assert all(int(response.headers["retry-after"]) > 900 for response in responses[6:])


# ---- reload and stop -------------------------------------------------------------------------------------------------


def test_a_reload_ends_no_running_call_and_refuses_no_caller(tmp_path: Path) -> None:
    with uwsgi.running(tmp_path, {"server.workers": 2, "limits.threads": 8}, METHODS) as running:
        ended = threading.Event()

        def call_on() -> list[int]:
            found = []
            while not ended.is_set():
                found.append(calling(running.port, "process")[0])
            return found

        with ThreadPoolExecutor(6) as pool:
            naps = [pool.submit(calling, running.port, "nap", 3) for _ in range(3)]
            callers = [pool.submit(call_on) for _ in range(3)]
            for reloads in (1, 2):
                time.sleep(0.5)
                running.process.send_signal(signal.SIGHUP)
                uwsgi.until(lambda n=reloads: running.log.read_text().count("spawned uWSGI worker") == 2 + 2 * n)  # type: ignore[misc]
            time.sleep(0.5)
            ended.set()
            assert [nap.result() for nap in naps] == ["done"] * 3
            processes = [process for caller in callers for process in caller.result()]
        assert len(set(processes)) >= 4
        assert running.stop() == 0


def test_a_stop_lets_running_calls_end(tmp_path: Path) -> None:
    with uwsgi.running(tmp_path, {"server.workers": 2, "limits.threads": 4}, METHODS) as running:
        results: list[Any] = []
        naps = [threading.Thread(target=lambda: results.append(calling(running.port, "nap", 2))) for _ in range(4)]
        for nap in naps:
            nap.start()
        time.sleep(0.5)
        assert running.stop() == 0
        for nap in naps:
            nap.join(30)
    assert results == ["done"] * 4


def test_a_reload_cuts_off_a_call_that_takes_longer_than_the_drain(tmp_path: Path) -> None:
    call = b'{"jsonrpc":"2.0","method":"nap","params":[25],"id":1}'
    with (
        uwsgi.running(tmp_path, {"server.drain": 1, "limits.threads": 2}, METHODS) as running,
        Wire(running.port, timeout=20) as wire,
    ):
        wire.send(request("/api", {"Content-Type": "application/json"}, call))
        time.sleep(0.5)
        running.process.send_signal(signal.SIGHUP)
        assert wire.read() is None
        assert calling(running.port, "add", 2, 3) == 5


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"GATEWAY_LIMITS_TIMEOUT": "soon"}, "gateway: environment variable GATEWAY_LIMITS_TIMEOUT: limits.timeout: "),
        ({"GATEWAY_SERVER_MODULES": "nowhere"}, "gateway: nowhere: there is no such module"),
        ({"PYTHONHASHSEED": "0"}, "gateway: PYTHONHASHSEED=0 lets callers choose colliding names"),
    ],
)
def test_what_is_wrong_ends_it_at_its_start_and_is_said(tmp_path: Path, options: dict[str, str], problem: str) -> None:
    code, log = uwsgi.failing(tmp_path, options)
    assert code != 0
    assert problem in log
    assert "Traceback" not in log


# ---- real clients ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def handlers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with uwsgi.running(tmp_path_factory.mktemp("handlers"), {"limits.threads": 8}, ("handlers",)) as running:
        yield running


@pytest.mark.parametrize(("program", "printed"), [(CALCULATOR, CALCULATED), (STORE, STORED)], ids=["calls", "objects"])
def test_the_standard_librarys_clients_call_it(handlers: Running, program: str, printed: list[str]) -> None:
    assert output(program, handlers.url) == printed


def test_both_protocols_and_a_fault_go_over_it(handlers: Running) -> None:
    server = xmlrpc.client.ServerProxy(handlers.url)
    assert server.woca("Ada") == "Hello, Ada!"
    with pytest.raises(xmlrpc.client.Fault) as caught:
        server.woca("")
    assert (caught.value.faultCode, caught.value.faultString) == (1, "a name is needed")
    assert calling(handlers.port, "woca") == "Hello, world!"
    with urllib.request.urlopen(f"http://127.0.0.1:{handlers.port}/healthz") as response:
        assert response.read() == b"ok\n"


def test_each_call_has_its_line_in_the_log(handlers: Running) -> None:
    calling(handlers.port, "woca", "the log")
    uwsgi.until(lambda: "woca" in handlers.log.read_text())
    assert "POST /api => generated" not in handlers.log.read_text()


# ---- sockets ---------------------------------------------------------------------------------------------------------


def test_behind_nginx_over_a_unix_socket_the_client_is_nginx_s(tmp_path: Path) -> None:
    settings = {
        "server.bind": f"unix:{tmp_path}/gw.sock",
        "server.unix_mode": "666",
        "limits.threads": 4,
        "access.trusted_proxies": "127.0.0.1",
    }
    told = [*FREE, *(f"{name}={value}" for name, value in settings.items())]
    with uwsgi.running(tmp_path, settings, METHODS), nginx(tmp_path, told) as edge:
        assert result(ask(edge, asking("client"))) == "127.0.0.1"


def test_it_takes_the_sockets_that_systemd_opens(tmp_path: Path) -> None:
    (tmp_path / "uwsgi.ini").write_text(text := uwsgi.rendered({**uwsgi.BACKLOG, "server.bind": "systemd"}, METHODS))
    command = [str(uwsgi.BIN / "uwsgi"), "--ini", str(tmp_path / "uwsgi.ini"), "--binary-path", sys.executable]
    path = tmp_path / "gw.sock"
    with activated(
        [f"127.0.0.1:{(port := free_port())}", str(path)],
        command,
        tmp_path / "log",
        uwsgi.ROOT,
        uwsgi.environment(text),
    ):
        assert calling(port, "client") == "127.0.0.1"
        assert post_unix(path, "client") == "127.0.0.1"


# ---- conf/uwsgi.ini --------------------------------------------------------------------------------------------------


def test_the_file_is_what_comes_of_the_defaults() -> None:
    assert (uwsgi.ROOT / "conf" / "uwsgi.ini").read_text() == uwsgi.rendered({})


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"server.bind": "[::1]:9000"}, "http-socket = [::1]:9000"),
        ({"server.bind": "unix:/run/gw.sock"}, "http-socket = /run/gw.sock"),
        (
            {"server.bind": ":9,unix:/gw", "server.unix_mode": "600"},
            "chmod-socket = 600",
        ),
        ({"server.bind": "systemd,fd:5"}, "http-socket = fd://5"),
        ({"server.bind": "systemd"}, "protocol = http"),
        ({"server.workers": 3}, "processes = 3"),
        ({"server.workers": "auto"}, "processes = %k"),
        ({"server.drain": 2.5}, "worker-reload-mercy = 3"),
        ({"server.drain": 0}, "reload-mercy = 1"),
        ({"limits.threads": 7}, "threads = 7"),
        ({"limits.backlog": 9}, "listen = 9"),
        ({"limits.max_header": 8192}, "buffer-size = 8192"),
        ({"limits.max_header": 100_000}, "buffer-size = 65535"),
        ({"limits.max_body": 2048}, "chunked-input-limit = 2048"),
        ({"limits.max_body": 2048}, "limit-post = 131072"),
        ({"limits.head_timeout": 2.5}, "socket-timeout = 3"),
        ({}, f"harakiri = {45 + 60 + 60 + 2}"),
        ({"limits.timeout": 100}, f"harakiri = {100 + 60 + 60 + 2}"),
        (
            {"limits.timeout": 0.5, "limits.body_timeout": 1.5, "limits.write_timeout": 1, "limits.linger": 1},
            "harakiri = 49",
        ),
    ],
    ids=str,
)
def test_its_numbers_are_the_gateways(settings: dict[str, Any], line: str) -> None:
    chosen = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    assert line in here("uwsgi", *chosen, *METHODS).out.splitlines()


def test_it_says_what_has_to_be_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "my gateway.toml"
    file.write_text('[log]\nlevel = "warning"\n')
    text = uwsgi.rendered({"limits.timeout": 5}, METHODS, "--config", str(file))
    assert uwsgi.environment(text) == {
        "GATEWAY_CONFIG": str(file),
        "GATEWAY_LIMITS_TIMEOUT": "5",
        "GATEWAY_SERVER_MODULES": METHODS[0],
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_what_methods_have_opened_is_closed_when_a_worker_ends(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "lifespan"
    monkeypatch.setenv("LIFESPAN", str(said))
    with uwsgi.running(tmp_path, {}, ("tests.lifespan_methods:registry",)) as running:
        worker = json.loads(post(running.port, b'{"jsonrpc":"2.0","method":"process","id":1}').body)["result"]
        time.sleep(
            0.5
        )  # at SIGINT, uWSGI runs nothing more in a worker that has a request, as for a moment after this one
        running.process.send_signal(number)
        uwsgi.until(lambda: "closed" in said.read_text())
    assert said.read_text() == f"opened {worker}\nclosed {worker}\n"
