"""locustfile.py, run by the real Locust: against the gateway, against other servers, and against wrong answers."""

import itertools
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xmlrpc.server import SimpleXMLRPCServer

import pytest
import trustme
from msgspec import Struct

from gateway import Registry
from tests.serving import Server, serving

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

ROOT = Path(__file__).parent.parent
LOCUST = [sys.executable, "-m", "locust", "-f", "locustfile.py"]
RIGHT = b'{"jsonrpc": "2.0", "id": 1, "result": 5}'
RIGHT_XML = b"<methodResponse><params><param><value><int>5</int></value></param></params></methodResponse>"
FAULT_XML = (
    b"<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>4</int></value></member>"
    b"<member><name>faultString</name><value>no</value></member></struct></value></fault></methodResponse>"
)
REQUESTS = re.compile(r"^(XML-RPC|JSON-RPC|multicall|batch) +(\S+) +(\d+) +\d+\(", re.MULTILINE)
FAILURES = re.compile(r"^(\d+) +(XML-RPC|JSON-RPC|multicall|batch) (\S+): (.*?) *$", re.MULTILINE)
PATIENT = ("-t", "6s", "--think-time", "0.05")  # so many seconds take a busy machine through a script
FINISH = ("--stop-timeout", "20")  # seconds that the last requests have at the end: each user has made one, even here
SLOW = 1.0  # seconds; longer than the calls' timeout where it is used

registry = Registry()


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


class Run(Struct, frozen=True, kw_only=True):
    """What a run of Locust came to: requests and failures by their kind and name."""

    code: int
    output: str
    requests: dict[tuple[str, str], int]
    failures: dict[tuple[str, str, str], int]

    def errors(self) -> set[str]:
        return {error for _, _, error in self.failures}


Locust = Callable[..., Run]


@pytest.fixture(scope="module")
def locusts() -> Iterator[subprocess.Popen[str]]:
    """Start what runs Locust in forks of itself; see forked_locust.py."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.forked_locust"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.communicate()


@pytest.fixture
def locust(locusts: subprocess.Popen[str], tmp_path: Path) -> Locust:
    """Run Locust without its page for a second."""

    def run(host: str, *options: str, environment: dict[str, str] | None = None) -> Run:
        assert locusts.stdin is not None
        assert locusts.stdout is not None
        given = ("-f", "locustfile.py", "--host", host, "--headless", "--only-summary", "-t", "1s", *FINISH, *options)
        printed = tmp_path / "output"
        order = {"arguments": given, "environment": environment, "output": str(printed)}
        print(json.dumps(order), file=locusts.stdin, flush=True)
        code = int(locusts.stdout.readline())
        output = printed.read_text()
        return Run(
            code=code,
            output=output,
            requests={(kind, name): int(number) for kind, name, number in REQUESTS.findall(output)},
            failures={(kind, name, error): int(number) for number, kind, name, error in FAILURES.findall(output)},
        )

    return run


class Answer(Struct, frozen=True, kw_only=True):
    """What a scripted server says: bytes after so many seconds, or nothing at all."""

    body: bytes | None = RIGHT
    status: int = 200
    delay: float = 0


class Scripted(ThreadingHTTPServer):
    """A server which gives the answers of a script in turn, over and over, and keeps the heads that it was sent."""

    def __init__(self, *script: Answer) -> None:
        super().__init__(("127.0.0.1", 0), ScriptedHandler)
        self.script = itertools.cycle(script)
        self.heads: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class ScriptedHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heads.append(dict(self.headers))
        answer = next(self.server.script)
        time.sleep(answer.delay)
        self.close_connection = answer.body is None
        if answer.body is not None:
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        pass


@contextmanager
def running(server: Any) -> Iterator[Any]:
    """Run a server of the standard library in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def gateway() -> Iterator[Server]:
    with serving(registry) as server:
        yield server


def test_five_kinds_of_users_call_the_gateway_and_every_answer_is_right(locust: Locust, gateway: Server) -> None:
    options = ("--blocking-arguments", "[0.1]", "--blocking-expect", '"done"', "-u", "10", "-r", "10")
    run = locust(gateway.at(""), *options)
    assert run.code == 0, run.output
    assert run.failures == {}
    assert run.requests.keys() == {
        ("XML-RPC", "add"),
        ("JSON-RPC", "add"),
        ("multicall", "add"),
        ("batch", "add"),
        ("XML-RPC", "sleep"),
        ("JSON-RPC", "sleep"),
    }
    assert "of which failed: Fault 0, TransportError 0, WrongAnswer 0" in run.output


@pytest.mark.parametrize("protocol", ["xmlrpc", "jsonrpc"])
def test_the_users_of_one_protocol_are_enough(locust: Locust, gateway: Server, protocol: str) -> None:
    run = locust(gateway.at(""), "--protocol", protocol, "--blocking-arguments", "[0.1]", "-u", "6", "-r", "6")
    assert run.code == 0, run.output
    kinds = {"xmlrpc": {"XML-RPC", "multicall"}, "jsonrpc": {"JSON-RPC", "batch"}}
    assert {kind for kind, _ in run.requests} == kinds[protocol]


def test_a_wrong_result_and_a_fault_within_many_calls_are_found(locust: Locust, gateway: Server) -> None:
    wrong = locust(gateway.at(""), "--expect", "6", "-u", "4", "-r", "4", *NOT_BLOCKING)
    assert wrong.code == 1
    assert {kind for kind, _, _ in wrong.failures} == {"XML-RPC", "JSON-RPC", "multicall", "batch"}
    assert wrong.errors() == {"WrongAnswer('6 was expected')"}
    fault = locust(gateway.at(""), "--method", "nothing", "-u", "4", "-r", "4", *NOT_BLOCKING)
    assert fault.code == 1
    assert {(kind, error) for kind, _, error in fault.failures} == {
        (kind, "Fault(-32601)") for kind in ("XML-RPC", "JSON-RPC", "multicall", "batch")
    }


NOT_BLOCKING = ("XMLRPCUser", "JSONRPCUser", "MulticallUser", "BatchUser")


def test_the_server_of_the_standard_library_is_driven_as_well(locust: Locust) -> None:
    server = SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False)
    server.register_function(lambda a, b: a**b, "pow")
    server.register_multicall_functions()
    with running(server):
        options = ("--path", "/RPC2", "--method", "pow", "--arguments", "[2, 10]", "--expect", "1024")
        run = locust(f"http://127.0.0.1:{server.server_address[1]}", *options, "XMLRPCUser", "MulticallUser", *TWO)
    assert run.code == 0, run.output
    assert run.requests.keys() == {("XML-RPC", "pow"), ("multicall", "pow")}


def test_arguments_by_name_reach_a_json_rpc_server(locust: Locust, gateway: Server) -> None:
    run = locust(gateway.at(""), "--arguments", '{"a": 2, "b": 2}', "--expect", "4", "JSONRPCUser", "BatchUser")
    assert run.code == 0, run.output
    assert run.failures == {}


JSON_SCRIPT = {
    "Fault(-5)": Answer(body=b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -5, "message": "no"}}'),
    "Fault(-6)": Answer(body=b'{"jsonrpc": "2.0", "id": null, "error": {"code": -6, "message": "no"}}', status=503),
    "TransportError('HTTP 502')": Answer(body=b"<html>Bad Gateway</html>", status=502),
    "TransportError('HTTP 500')": Answer(status=500),
    "TransportError('HTTP 302')": Answer(body=b"", status=302),
    "TransportError('reset')": Answer(body=None),
    "WrongAnswer('5 was expected')": Answer(body=b'{"jsonrpc": "2.0", "id": 1, "result": 6}'),
    "WrongAnswer('not JSON')": Answer(body=b"pong"),
    "WrongAnswer('not a response object')": Answer(body=b"5"),
    "WrongAnswer('the answer to another request')": Answer(body=b'{"jsonrpc": "2.0", "id": 2, "result": 5}'),
    "WrongAnswer('a response object with neither result nor error')": Answer(body=b'{"jsonrpc": "2.0", "id": 1}'),
    # Its right answer comes late, and must not be taken for the next request's; the one after that is right again.
    "TransportError('timed out')": Answer(delay=SLOW),
}


def test_faults_transport_errors_and_wrong_answers_are_counted_apart(locust: Locust) -> None:
    with running(Scripted(Answer(), *JSON_SCRIPT.values())) as server:
        run = locust(server.url, "--call-timeout", "0.3", "--protocol", "jsonrpc", "JSONRPCUser", *PATIENT)
    assert run.code == 1
    assert run.errors() == set(JSON_SCRIPT)
    kinds = {kind: sum(n for (_, _, e), n in run.failures.items() if e.startswith(kind)) for kind in KINDS}
    assert f"of which failed: {', '.join(f'{kind} {number}' for kind, number in kinds.items())}" in run.output
    assert run.requests["JSON-RPC", "add"] > sum(kinds.values()) > 0


TWO = ("-u", "2", "-r", "2")
KINDS = ("Fault", "TransportError", "WrongAnswer")


@pytest.mark.parametrize(
    ("user", "script"),
    [
        ("XMLRPCUser", {None: RIGHT_XML}),
        (
            "XMLRPCUser",
            {
                "Fault(4)": FAULT_XML,
                "WrongAnswer('not XML-RPC: ExpatError')": b"<html>",
                "WrongAnswer('not XML-RPC: ResponseError')": b"<methodResponse/>",
            },
        ),
        ("XMLRPCUser", {"WrongAnswer('not XML-RPC: ExpatError')": RIGHT}),
        ("MulticallUser", {"WrongAnswer('not an array of 10 results')": RIGHT_XML}),
        (
            "BatchUser",
            {
                "WrongAnswer('not the answers to 10 calls')": RIGHT,
                "WrongAnswer('not an array of response objects')": b"[5]",
                "Fault(-32600)": b'{"id": null, "error": {"code": -32600, "message": "no"}}',
            },
        ),
    ],
)
def test_what_is_not_the_answer_is_wrong(locust: Locust, user: str, script: dict[str | None, bytes]) -> None:
    with running(Scripted(*(Answer(body=body) for body in script.values()))) as server:
        run = locust(server.url, user, *(PATIENT if len(script) > 1 else ()))
    assert run.errors() == script.keys() - {None}, run.output
    assert run.code == (1 if run.failures else 0)


def test_nobody_there_is_refused(locust: Locust) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    run = locust(f"http://127.0.0.1:{port}", "--think-time", "0.1")
    assert run.errors() == {"TransportError('refused')"}
    assert run.code == 1


def test_the_path_of_the_host_is_used_where_no_other_is_given(locust: Locust, gateway: Server) -> None:
    wait = ("--think-time", "0.2", "JSONRPCUser")
    for host, *path in (("/RPC2/",), ("",), ("/nowhere", "--path", "/jsonrpc")):
        run = locust(gateway.at(host), *path, *wait)
        assert run.code == 0, (host, run.output)
    assert locust(gateway.at("/nowhere"), *wait).errors() == {"TransportError('HTTP 404')"}


@pytest.mark.parametrize(
    ("path", "options", "told"),
    [
        ("/nowhere", (), "TransportError('HTTP 404') at {url}: the server has no such path; usual ones for --path are"),
        ("", ("--method", "nothing"), "Fault(-32601) at {url}/api (Method not found"),
        ("", ("--arguments", '["a", 1]'), "the method does not take these arguments; correct --arguments"),
        ("", ("--expect", "6"), "WrongAnswer('6 was expected') at {url}/api: correct --path, --protocol and --expect"),
    ],
)
def test_when_all_of_the_first_second_fails_alike_it_says_why(
    path: str, options: tuple[str, ...], told: str, locust: Locust, gateway: Server
) -> None:
    run = locust(gateway.at(path), "--think-time", "0.1", "JSONRPCUser", *options)
    assert run.output.count("every request has failed so far") == 1
    assert told.replace("{url}", gateway.at(path)) in run.output


def test_nobody_there_is_told_with_the_remedy(locust: Locust) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    run = locust(f"http://127.0.0.1:{port}", "--think-time", "0.1", "JSONRPCUser")
    assert "nothing listens there; start the server, or correct --host" in run.output


def test_where_some_requests_succeed_nothing_is_said(locust: Locust) -> None:
    with running(Scripted(Answer(), Answer(body=b"{}"))) as server:
        run = locust(server.url, "JSONRPCUser", *PATIENT)
    assert run.failures
    assert "every request" not in run.output


def test_limits_set_the_exit_code(locust: Locust) -> None:
    fault = JSON_SCRIPT["Fault(-5)"]
    with running(Scripted(Answer(delay=0.1), fault, Answer(delay=0.1), Answer(delay=0.1))) as server:
        within = locust(server.url, "--max-failures", "0.5", "--max-time", "20", "-t", "4s", "JSONRPCUser")
        too_slow = locust(
            server.url, "--max-failures", "0.5", "--percentile", "0.9", "--max-time", "0.05", "JSONRPCUser"
        )
    with running(Scripted(fault, Answer())) as server:
        too_many = locust(server.url, "--max-failures", "0.001", "JSONRPCUser")
    assert (within.code, too_slow.code, too_many.code) == (0, 1, 1)
    assert within.failures
    assert "the percentile 0.9 is 0." in too_slow.output
    assert "and 0.10% may" in too_many.output


def test_no_answer_at_all_is_no_success(locust: Locust) -> None:
    with running(Scripted(Answer(delay=3))) as server:
        run = locust(server.url, "JSONRPCUser", "--stop-timeout", "0")
    assert run.code == 1
    assert "no request has come to an end" in run.output


def test_the_key_is_sent_and_users_think(locust: Locust) -> None:
    with running(Scripted(Answer())) as server:
        assert locust(server.url, "--api-key", "secret", "--think-time", "30", "JSONRPCUser").code == 0
        assert [head["Authorization"] for head in server.heads] == ["Bearer secret"]
        server.heads.clear()
        assert (
            locust(server.url, "--think-time", "30", "JSONRPCUser", environment={"LOCUST_API_KEY": "hidden"}).code == 0
        )
        assert [head["Authorization"] for head in server.heads] == ["Bearer hidden"]
        server.heads.clear()
        assert locust(server.url, "--think-time", "30", "JSONRPCUser").code == 0
        assert ["Authorization" in head for head in server.heads] == [False]


def test_a_certificate_is_verified_unless_it_is_not_to_be(locust: Locust, tmp_path: Path) -> None:
    authority = trustme.CA()
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with serving_tls(authority, "127.0.0.1") as url:
        refused = locust(url, "JSONRPCUser", "--think-time", "0.1")
        assert refused.errors() == {"TransportError('its certificate is not trusted')"}
        assert refused.code == 1
        for verify in ("no", str(trusted)):
            accepted = locust(url, "--tls-verify", verify, "JSONRPCUser", "--think-time", "0.1")
            assert accepted.code == 0, accepted.output
    with serving_tls(authority, "other.example") as url:
        refused = locust(url, "--tls-verify", str(trusted), "JSONRPCUser", "--think-time", "0.1")
        assert refused.errors() == {"TransportError('its certificate is not trusted')"}


@contextmanager
def serving_tls(authority: trustme.CA, name: str) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    server = Scripted(Answer())
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with running(server):
        yield server.url.replace("http:", "https:")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arguments", "2, 3"], "cannot call add with 2, 3"),
        (["--arguments", '{"a": 1}', "XMLRPCUser"], 'XML-RPC cannot call add with {"a": 1}: the arguments of XML-RPC'),
        (["--arguments", "[3000000000]", "XMLRPCUser"], "int exceeds XML-RPC limits"),
        (["--protocol", "jsonrpc", "XMLRPCUser"], "no user speaks jsonrpc"),
        (["--tls-verify", "missing.pem"], "--tls-verify missing.pem: No such file"),
        (["--max-failures", "2"], "2 is not between 0 and 1"),
        (["--think-time", "long"], "invalid float value: 'long'"),
    ],
)
def test_a_wrong_option_is_one_message(locust: Locust, gateway: Server, options: list[str], message: str) -> None:
    run = locust(gateway.at(""), *options)
    assert run.code != 0
    assert message in run.output
    assert "Traceback" not in run.output
    assert run.requests == {}


def test_the_page_starts_a_run_with_other_arguments(gateway: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    command = [*LOCUST, "--host", gateway.at(""), "--web-host", "127.0.0.1", "--web-port", str(port), "JSONRPCUser"]
    page = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        start = eventually(lambda: urllib.request.urlopen(page, timeout=10).read().decode())
        for option in ("blocking_arguments", "tls_verify", "api_key", "think_time"):
            assert option in start
        form = {"user_count": 2, "spawn_rate": 2, "method": "add", "arguments": "[1, 1]", "expect": "2"}
        data = urllib.parse.urlencode(form).encode()
        assert json.load(urllib.request.urlopen(f"{page}/swarm", data, timeout=10))["success"]
        seen = eventually(lambda: total_seen(page))
        assert (seen["method"], seen["name"], seen["num_failures"]) == ("JSON-RPC", "add", 0)
    finally:
        process.terminate()
        process.wait(20)


def total_seen(page: str) -> Any:
    seen = json.load(urllib.request.urlopen(f"{page}/stats/requests", timeout=10))["stats"][0]
    assert seen["num_requests"] > 0
    return seen


def eventually(read: Callable[[], Any]) -> Any:
    """Read again and again until it works."""
    for _ in range(200):
        try:
            return read()
        except (urllib.error.URLError, AssertionError, KeyError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            time.sleep(0.1)
    return read()
