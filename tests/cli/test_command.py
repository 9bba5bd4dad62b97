"""The command, run as people run it: a program in a folder, its two outputs, its exit code.

What imports nothing of the user's, as ``call`` and the help, runs in this process.
"""

import os
import pty
import re
import socket
import subprocess
import sys
import threading
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import Registry
from gateway.cli import calling, main
from gateway.core.access import make_key
from tests.certificates import Authority
from tests.cli.running import HANDLERS, Run, Serving, called, fill, here, run, serving
from tests.raw_http import post
from tests.serving import serving as https
from tests.test_public_corpus import CASES

ADD = HANDLERS.partition("def add")[0].count("\n")  # the line of its decorator
NO_FILE = (
    "gateway: configuration: no file (conf/gateway.toml does not exist); who may call: everybody who can reach it\n"
)
COMMANDS = (
    "serve",
    "methods",
    "upstreams",
    "callers",
    "check",
    "explain",
    "errors",
    "nginx",
    "reload",
    "rollback",
    "publish",
    "drain",
    "undrain",
    "key",
    "uwsgi",
    "call",
    "replay",
    "mcp",
    "stubs",
    "new",
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return fill(tmp_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(fill(tmp_path_factory.mktemp("project"))) as running:
        yield running


def test_hashes_that_callers_can_foresee_are_refused(project: Path) -> None:
    ended = run(project, "serve", PYTHONHASHSEED="0")
    assert ended == Run(code=1, out="", err="gateway: PYTHONHASHSEED=0 lets callers choose colliding names: unset it\n")


def test_file_then_environment_then_command_line(project: Path) -> None:
    (project / "conf").mkdir()
    (project / "conf" / "gateway.toml").write_text(
        '[server]\npaths = ["/file"]\n[limits]\nmax_batch = 1\nmax_depth = 11\n[metrics]\nbind = ""'
    )
    in_environment = {"GATEWAY_SERVER_PATHS": "/environment", "GATEWAY_LIMITS_MAX_BATCH": "2"}
    arguments = ("--set", "server.paths=/command", "handlers.some:registry")
    with serving(project, *arguments, **in_environment) as running:
        assert running.url.endswith("/command")
        call = b'{"jsonrpc":"2.0","method":"registered","id":1}'
        answer = post(running.port, b"[%b,%b]" % (call, call), path="/command")
        assert [each["result"] for each in msgspec.json.decode(answer.body)] == ["by hand", "by hand"]
        assert b"at most 2 calls" in post(running.port, b"[%b,%b,%b]" % (call, call, call), path="/command").body
        assert b"at most 11 levels" in post(running.port, b"[" * 12 + b"]" * 12, path="/command").body


def test_modules_can_be_named_in_the_file(project: Path) -> None:
    (project / "own.toml").write_text('[server]\nmodules = ["handlers.some:registry"]')
    assert run(project, "methods", "--config", "own.toml").out.split()[0] == "registered"


# methods


@pytest.mark.processes
def test_methods_are_listed_with_parameters_and_places(project: Path) -> None:
    listed = run(project, "methods", "handlers.some:registry", "handlers")
    assert (listed.code, listed.err) == (0, "")
    rows = [re.split(" {2,}", line) for line in listed.out.splitlines()]
    assert rows[0][:3] == ["registered", "()", "thread"]
    assert rows[1] == ["add", "(a, b=5)", "thread", f"handlers/some.py:{ADD} (add)"]
    assert [row[:3] for row in rows[2:5]] == [
        ["echo", "(*)", "inline"],
        ["same", "(*)", "inline"],
        ["named", "(**)", "thread"],
    ]
    assert rows[-1][:3] == ["forever", "()", "async"]


@pytest.mark.processes
def test_methods_as_json_are_the_openrpc_document(project: Path) -> None:
    listed = run(project, "methods", "--json")
    document = msgspec.json.decode(listed.out)
    assert (listed.code, document["openrpc"]) == (0, "1.3.2")
    by_name = {described["name"]: described for described in document["methods"]}
    assert {"add", "echo", "same", "system.listMethods", "rpc.discover"} <= set(by_name)
    assert by_name["add"]["summary"] == "Add two numbers."


def test_a_default_that_shows_itself_badly_does_not_break_the_table(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "from gateway import method\nclass Odd:\n def __repr__(self): 1 / 0\n"
        "@method\ndef odd(a=Odd(), b='x\\n' * 500): ...\n"
    )
    listed = run(tmp_path, "methods", "odd")
    assert listed.code == 0
    assert len(listed.out.splitlines()) == 1
    assert len(listed.out) < 200


@pytest.mark.parametrize("command", ["serve", "methods", "check"])
def test_a_folder_without_handlers(command: str, tmp_path: Path) -> None:
    name = "error[methods]: " if command == "check" else ""
    problem = f"gateway: {name}handlers: there is no such module in {tmp_path} or on Python's path\n"
    assert run(tmp_path, command) == Run(code=1, out="", err=problem)


# check


def test_check_counts_what_would_be_served(project: Path) -> None:
    warned = run(project, "check")
    assert (warned.code, warned.out) == (0, f"{NO_FILE}gateway: no errors, 1 warning: 9 methods\n")
    assert warned.err.startswith(
        "gateway: warning[registry-not-served]: handlers.some:registry is a Registry that is not"
    )
    one = run(project, "check", "handlers.some:registry")
    assert one == Run(code=0, out=f"{NO_FILE}gateway: no errors: 1 method\n", err="")


@pytest.mark.processes
def test_check_tells_everything_wrong_at_once(project: Path) -> None:
    (project / "conf").mkdir()
    (project / "conf" / "gateway.toml").write_text(
        '[limits]\ntimout = 5\nmax_depth = 4000\nthreads = "many"\n[upstream]\n[server]\nmodules = ["handlers", "lone"]'
    )
    (project / "lone.py").write_text(
        "from gateway import method\n@method\ndef add(): ...\n@method\ndef f(a: 'Nope'): ..."
    )
    (project / "handlers" / "helper.py").write_text("def of(name):\n    return {}[name]\n")
    (project / "handlers" / "broken.py").write_text("from handlers import helper\n\nhelper.of('missing')\n")
    (project / "handlers" / "exits.py").write_text("import sys\nsys.exit(3)\n")
    (project / "handlers" / "wrong.py").write_text("def (\n")
    checked = run(project, "check", "--set", "limits.timeout=-1", "--set", "nonsense", GATEWAY_LOG_LEVEL="loud")
    assert (checked.code, checked.out) == (1, "")
    without_marks = re.sub(r"\n *[~^][ ~^]*$", "", checked.err, flags=re.MULTILINE)  # each Python has its own
    problems = re.split(r"^gateway: ", without_marks, flags=re.MULTILINE)[1:]
    assert [problem.strip() for problem in problems] == [
        "error[configuration]: conf/gateway.toml: there is no section [upstream]; did you mean [upstreams]?",
        "error[configuration]: command line: 'nonsense' is not a setting: write it as section.option=value",
        "error[configuration]: conf/gateway.toml: there is no option limits.timout; did you mean limits.timeout?",
        "error[configuration]: conf/gateway.toml: limits.max_depth: expected an integer <= 200, not 4000",
        "error[configuration]: conf/gateway.toml: limits.threads: expected an integer, not 'many'",
        "error[configuration]: environment variable GATEWAY_LOG_LEVEL: log.level: expected debug or info or warning"
        " or error, not 'loud'",
        "error[configuration]: command line: limits.timeout: expected a number > 0, not '-1'",
        "error[methods]: handlers.broken: cannot be imported:\n"
        "Traceback (most recent call last):\n"
        f'  File "{project}/handlers/broken.py", line 3, in <module>\n'
        "    helper.of('missing')\n"
        f'  File "{project}/handlers/helper.py", line 2, in of\n'
        "    return {}[name]\n"
        "KeyError: 'missing'",
        "error[methods]: handlers.exits: cannot be imported:\n"
        "Traceback (most recent call last):\n"
        f'  File "{project}/handlers/exits.py", line 2, in <module>\n'
        "    sys.exit(3)\n"
        "SystemExit: 3",
        f'error[methods]: handlers.wrong: cannot be imported:\n  File "{project}/handlers/wrong.py", line 1\n'
        "    def (\nSyntaxError: invalid syntax",
        f"error[methods]: 'add' is registered twice: by handlers/some.py:{ADD} (add) and by lone.py:2 (add);"
        " rename one of them",
        "error[methods]: lone.py:4 (f): its type hints cannot be read: name 'Nope' is not defined",
    ]


# call

BOTH = ("jsonrpc", "xmlrpc")
COMMAND_LINE = [case for case in CASES if case["proto"].startswith("cli:")]
registry = Registry()


@registry.register
def one() -> int:
    return 1


CALLS = {
    ("add", "10", "5"): "15",
    ("add", "-10", "-5.5"): "-15.5",
    ("add", "1"): "6",
    ("text", "-hot"): "-hot",
    ("text", "--unknown=option"): "--unknown=option",
    ("text", "http://host/?a=b&c=d"): "http://host/?a=b&c=d",
    ("text", "a b=c"): "a b=c",
    ("text", "=x"): "=x",
    ("text", '"a=b"'): "a=b",
    ("text", ""): "",
    ("text", "ü☃"): "ü☃",
    ("echo", "--", "--protocol", "-h", "--help", "--"): '["--protocol","-h","--help","--"]',
    ("echo", "true", "null", "1.5", '[1,{"a":"b"}]', "NaN", "[", "1_0", "<&>"): (
        '[true,null,1.5,[1,{"a":"b"}],"NaN","[","1_0","<&>"]'
    ),
}
FAULTS = {
    ("refuse",): ('fault 7: not today {"when":"tomorrow"}', "fault 7: not today"),
    ("nothing",): (
        'fault -32601: Method not found {"detail":"there is no method nothing"}',
        "fault -32601: Method not found: there is no method nothing",
    ),
    ("<&>",): ("fault -32601: Method not found", "fault -32601: Method not found"),
    ("add", "1", "2", "3"): (
        'fault -32602: Invalid params {"detail":"params[2]: one too many, it takes 2 at most"}',
        "fault -32602: Invalid params: params[2]: one too many, it takes 2 at most",
    ),
    ("text", b"\xff".decode(errors="surrogateescape")): (
        "params[0]: cannot be encoded as JSON: a string has a lone surrogate",
        "params[0]: cannot be encoded as XML-RPC: a string has the character U+DCFF, which XML 1.0 cannot carry",
    ),
}
WRONG_USE = {
    (): "Missing argument 'URL'.",
    ("URL",): "Missing argument 'METHOD'.",
    ("URL", "add", "1", "b=2"): "arguments are all by position, or all by name",
    ("URL", "add", "a=1", "a=2"): "the argument a is given twice",
    ("URL", "add", "--protocol", "soap"): "Invalid value for '--protocol'",
    ("URL", "add", "--timeout", "0"): "Invalid value for '--timeout'",
}
NO_URLS = {
    "foo": "foo is not a URL to call: it must begin with http:// or https://, as http://127.0.0.1:8000/api",
    "localhost:8000/api": "localhost:8000/api is not a URL to call",
    "file:///etc/hostname": "file:///etc/hostname is not a URL to call",
    "http://": "http:// has no host, as http://127.0.0.1:8000/api",
    "http://127.0.0.1:port/": "http://127.0.0.1:port/ is not a URL to call: '127.0.0.1:port' is not a host and a port",
    "http://[::1/": "http://[::1/ is not a URL to call: '[::1' is not a host and a port",
    "http://a..b/": "http://a..b/ is not a URL to call: 'a..b' is not the name of a host",
    "tcp://127.0.0.1": "tcp://127.0.0.1 has no port from 1 to 65535",
}
FOREIGN = {
    b"HTTP/1.1 200 OK\r\n\r\n<html>hello</html>": "{url}: the response is not {protocol}: ",
    b"HTTP/1.1 200 OK\r\n\r\n": "{url}: the response is not {protocol}: ",
    b"HTTP/1.1 200 OK\r\n\r\n[1]": "{url}: the response is not {protocol}: ",
    b"HTTP/1.1 500 Oh no\r\n\r\nsome \x1b[31mred\r\ntext": "{url} responds with 500 Oh no: some [31mred text",
    b"HTTP/1.1 404 Not Found\r\n\r\n": "{url} responds with 404 Not Found; is the path right?",
    b"HTTP/1.1 301 Moved\r\nLocation: https://b/\r\n\r\n": (
        "{url} responds with 301 Moved (see https://b/); call https://b/ instead"
    ),
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort": (
        "no response from {url}: it closed the connection after 43 bytes of the response"
    ),
    b"SSH-2.0-OpenSSH\r\n": "no response from {url}: it does not respond in HTTP: SSH-2.0-OpenSSH",
    b"": "no response from {url}: it closed the connection without a response",
}
JSON_ONLY = {
    b'{"jsonrpc":"2.0","result":1,"id":2}': "{url} responds to another call than this one",
    b'{"jsonrpc":"2.0","method":"ask","id":1}': "{url} responds to another call than this one",
}


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Answer one connection on a free port, whatever it says, and close it when the client does."""

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(20)
            connection.recv(65536)
            connection.sendall(answer)
            with suppress(OSError):  # the client has had enough
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # to close with something unread would reset the connection
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(20)


@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.parametrize(("arguments", "out"), CALLS.items(), ids=str)
def test_call_prints_the_result(protocol: str, arguments: tuple[str, ...], out: str, server: Serving) -> None:
    ended = called("--protocol", protocol, server.url, *arguments)
    assert ended == Run(code=0, out=f"{out}\n", err="")


def test_call_prints_a_text_as_it_is(server: Serving) -> None:
    ended = called(server.url, "text", "\x1b[1mbold\n\x07")
    assert ended == Run(code=0, out="\x1b[1mbold\n\x07\n", err="")


def test_call_takes_arguments_by_name_and_its_options_anywhere(server: Serving) -> None:
    arguments = ("a=1", "b=x=y", "c=[1]", "d=", "e=-5", "f=http://host/?a=b", "--timeout", "20")
    ended = called(server.url, "named", *arguments, "--protocol", "jsonrpc")
    assert ended == Run(code=0, out="a=1 b='x=y' c=[1] d='' e=-5 f='http://host/?a=b'\n", err="")


@pytest.mark.parametrize(("arguments", "told"), FAULTS.items(), ids=str)
def test_call_tells_a_fault_and_fails(arguments: tuple[str, ...], told: tuple[str, str], server: Serving) -> None:
    for protocol, problem in zip(BOTH, told, strict=True):
        ended = called("--protocol", protocol, server.url, *arguments)
        assert ended == Run(code=1, out="", err=f"gateway: {problem}\n")


@pytest.mark.parametrize(("method", "hint"), [("nothing", "what it means: gateway errors -32601"), ("refuse", "")])
def test_call_tells_a_person_where_a_fault_is_explained(method: str, hint: str, server: Serving) -> None:
    terminal, inner = pty.openpty()
    try:
        command = [sys.executable, "-m", "gateway", "call", server.url, method]
        assert subprocess.run(command, stderr=inner, check=False).returncode == 1
        told = os.read(terminal, 4096).decode().splitlines()
    finally:
        os.close(terminal)
        os.close(inner)
    assert told[1:] == [f"gateway: {hint}"] * bool(hint)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("named", "a=1"), "XML-RPC has no arguments by name"),
        (("echo", "9223372036854775808"), "params[0]: cannot be encoded as XML-RPC: the int has more than 64 bits"),
        (("text", "\x1b[1m"), "params[0]: cannot be encoded as XML-RPC: "),
        (("text", "\uffff"), "params[0]: cannot be encoded as XML-RPC: "),
    ],
)
def test_call_says_what_xmlrpc_cannot(arguments: tuple[str, ...], problem: str, server: Serving) -> None:
    ended = called("--protocol", "xmlrpc", server.url, *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"gateway: {problem}")


@pytest.mark.parametrize("protocol", BOTH)
def test_call_shows_the_text_of_a_refusal(protocol: str, server: Serving) -> None:
    refused = called("--protocol", protocol, f"{server.url}x", "add", "1")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith(
        f"gateway: {server.url}x responds with 404 Not Found: Not found. Calls are POSTed to /, "
    )


def test_call_shows_the_fault_that_refuses_too_long_a_request(project: Path) -> None:
    with serving(project, "--set", "limits.max_body=1024") as running:
        for protocol in BOTH:
            refused = called("--protocol", protocol, running.url, "text", "x" * 2000)
            assert (refused.code, refused.out) == (1, "")
            assert refused.err.startswith("gateway: fault -32006: Request too large")
            assert "at most 1024 bytes" in refused.err


@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.parametrize(("answer", "problem"), FOREIGN.items())
def test_call_of_something_that_is_no_rpc_server(protocol: str, answer: bytes, problem: str) -> None:
    with answering(answer) as port:
        url = f"http://127.0.0.1:{port}/"
        ended = called("--protocol", protocol, url, "add", "1")
    assert (ended.code, ended.out) == (1, "")
    assert len(ended.err.splitlines()) == 1
    name = {"jsonrpc": "JSON-RPC", "xmlrpc": "XML-RPC"}[protocol]
    assert ended.err.startswith(f"gateway: {problem.format(url=url, protocol=name)}")


REFUSED = "is the server started, and the port right?"


def test_call_of_nobody() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/api"
        ended = called(url, "add", "1")
    assert ended == Run(code=1, out="", err=f"gateway: no response from {url}: connection refused; {REFUSED}\n")


def test_call_of_somebody_who_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        ended = called(url, "forever", "--timeout", "0.2")
    assert ended == Run(code=1, out="", err=f"gateway: no response from {url}: timed out\n")


def test_call_by_https_of_a_port_that_speaks_http() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        ended = called(f"https://127.0.0.1:{port}/api", "add", "1")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"gateway: no response from https://127.0.0.1:{port}/api: ")
    assert ended.err.endswith("; does the server use http, without s?\n")


def test_call_over_plain_tcp() -> None:
    with answering(b'{"jsonrpc":"2.0","result":["\\u00fc"],"id":1}\n') as port:
        assert called(f"tcp://127.0.0.1:{port}", "echo", "ü") == Run(code=0, out='["ü"]\n', err="")


@pytest.mark.parametrize(("body", "problem"), JSON_ONLY.items())
def test_call_takes_only_the_response_to_itself(body: bytes, problem: str) -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n" + body) as port:
        ended = called(f"http://127.0.0.1:{port}/", "add")
    assert ended == Run(code=1, out="", err=f"gateway: {problem.format(url=f'http://127.0.0.1:{port}/')}\n")


def test_call_reads_no_more_than_a_response_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "_MOST", 1000)
    for status, length in (("200 OK", 1001), ("500 Oh no", 5000)):
        with answering(f"HTTP/1.1 {status}\r\n\r\n{'x' * length}".encode()) as port:
            ended = called(f"http://127.0.0.1:{port}/", "add")
        assert (
            ended.err
            == f"gateway: the response of http://127.0.0.1:{port}/ has more than 1000 bytes; raise max_response\n"
        )


@pytest.mark.parametrize("case", COMMAND_LINE, ids=[case["id"] for case in COMMAND_LINE])
def test_a_case_of_a_public_report(case: dict[str, Any]) -> None:
    with answering(case["upstream"]["answer"].encode()) as port:
        command = case["request"]["command"].replace("PORT", str(port))
        ended = called(*command.removeprefix("gateway call ").split())
    expect = case["expect"]
    assert ended.code == expect.get("rc", 0)
    assert expect.get("text_has", "") in ended.err
    assert expect.get("stdout", ended.out.strip()) == ended.out.strip()


def test_call_shows_dates_with_their_zones_and_bytes() -> None:
    values = "20141110T23:38:51", "2014-11-10T23:38:51+0100"
    inner = "".join(f"<value><dateTime.iso8601>{value}</dateTime.iso8601></value>" for value in values)
    data = f"<array><data>{inner}<value><base64>AAE=</base64></value></data></array>"
    body = f"<methodResponse><params><param><value>{data}</value></param></params></methodResponse>"
    with answering(f"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n{body}".encode()) as port:
        ended = called("--protocol", "xmlrpc", f"http://127.0.0.1:{port}/", "dates")
    assert ended.out == '["2014-11-10T23:38:51","2014-11-10T23:38:51+01:00","AAE="]\n'


def test_call_reads_a_response_by_the_charset_of_its_head() -> None:
    body = "<methodResponse><params><param><value>\u00fc</value></param></params></methodResponse>".encode("latin-1")
    with answering(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=ISO-8859-1\r\n\r\n" + body) as port:
        assert called("--protocol", "xmlrpc", f"http://127.0.0.1:{port}/", "text").out == "\u00fc\n"


def test_call_shows_a_key_that_lets_it_in_and_never_prints_it(tmp_path: Path) -> None:
    key, stored = make_key()
    authority = Authority(tmp_path)
    certificate, private = authority.issue()
    settings = {"access.keys": f'{{"odoo": "{stored}"}}', "tls.certificate": certificate, "tls.key": private}
    trusting = ("--ca", str(authority.file))
    wrong = key[:-3]
    with https(registry, settings) as running:
        host = f"127.0.0.1:{running.port}/api"
        ways = {
            (f"https://odoo:{key}@{host}", *trusting): None,
            (f"https://odoo:%67{key[1:]}@{host}", *trusting): None,
            (f"https://{host}", "--key", key, *trusting): None,
            (f"https://{host}", "--header", f"authorization: Bearer {key}", *trusting): None,
            (f"https://{host}", "--key", key, "--insecure"): None,
            (f"https://{host}", "--key", wrong, "--header", f"Authorization: Bearer {key}", *trusting): None,
            (f"https://{host}", "--key", key): "certificate",
            (f"https://odoo:{wrong}@{host}", *trusting): "Denied",
            (f"https://{host}", "--key", wrong, *trusting): "Denied",
            (f"https://{host}", *trusting): "Denied",
            (f"https://odoo:{key}@{host}", "--key", key, *trusting): "the key is given twice",
        }
        for (url, *options), problem in ways.items():
            ended = called(url, "one", *options)
            assert (ended.code, ended.out) == ((0, "1\n") if problem is None else (1, "")), options
            assert (problem or "") in ended.err
            assert wrong not in ended.out + ended.err


UNSHOWN = {
    ("http://odoo:SECRET@127.0.0.1:1/api", "m"): "no response from http://127.0.0.1:1/api: connection refused",
    ("ftp://odoo:SECRET@host/api", "m"): "host/api is not a URL to call",
    ("odoo:SECRET@host/api", "m"): "host/api is not a URL to call",
    ("http://odoo:SECRET/x@host/api", "m"): "in NAME:KEY@ of the URL, the characters / ? # must be percent-encoded",
    ("http://host/", "m", "--header", "SECRET"): "--header: expected 'NAME: VALUE' in printable ASCII characters",
    ("http://host/", "m", "--header", "X: SECRET\nY: 1"): "--header: expected 'NAME: VALUE'",
    ("http://host/", "m", "--header", "X Y: SECRET"): "--header: expected 'NAME: VALUE'",
    ("http://host/", "m", "--key", "SECRET "): "--key: expected printable ASCII characters without blanks",
    ("http://host/", "m", "--insecure"): "--ca and --insecure need a URL that begins with https://",
    ("http://host/", "m", "--ca", "ca.pem"): "--ca and --insecure need a URL that begins with https://",
    (
        "https://host/",
        "m",
        "--ca",
        "missing.pem",
    ): "missing.pem: it cannot be read as certificates in PEM: no such file",
}


@pytest.mark.parametrize(("arguments", "problem"), UNSHOWN.items(), ids=str)
def test_call_does_not_print_a_secret(arguments: tuple[str, ...], problem: str) -> None:
    ended = called(*arguments)
    assert ended.code in {1, 2}
    assert problem in ended.err
    assert "SECRET" not in ended.err


@pytest.mark.parametrize(("url", "problem"), NO_URLS.items())
def test_call_of_what_is_no_url(url: str, problem: str) -> None:
    ended = called(url, "add", "1")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"gateway: {problem}")
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(("arguments", "problem"), WRONG_USE.items(), ids=str)
def test_a_wrong_command_line_is_told_with_the_usage(arguments: tuple[str, ...], problem: str) -> None:
    told = called(*arguments)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("Usage: gateway call ")
    assert problem in told.err


# key


@pytest.mark.processes
def test_a_key_is_printed_with_the_line_that_lets_it_in(project: Path) -> None:
    made = run(project, "key", "odoo")
    key, comment, line = (part for part in made.out.split("\n") if part)
    assert comment == "# in gateway.toml, under [access.keys]:"
    (project / "conf").mkdir()
    (project / "conf" / "gateway.toml").write_text(f"[access.keys]\n{line}\n")
    with serving(project) as running:
        assert all("://NAME:KEY@127.0.0.1:" in line for line in running.ready[1:])
        users = (f"odoo:{key}@", f"other:{key}@", "")
        assert [added(running.url.replace("://", f"://{user}")) for user in users] == [5, 401, 401]


def added(url: str) -> object:
    """Add 2 and 3; the HTTP status where that is refused."""
    try:
        with xmlrpc.client.ServerProxy(url) as proxy:
            return proxy.add(2, 3)
    except xmlrpc.client.ProtocolError as refusal:
        return refusal.errcode


@pytest.mark.parametrize("name", ["", "a b", "a" * 65, "\u00fc", "a/b", "gw_a"])
def test_what_is_no_name_of_a_key(name: str) -> None:
    ended = here("key", name)
    assert (ended.code, ended.out) == (2, "")
    assert "is not a name for a key" in ended.err


# help


def test_help_explains_every_command_and_every_option() -> None:
    assert tuple(main.commands) == COMMANDS
    words = here("--help").out
    for line in words.partition("Commands:\n")[2].splitlines():
        assert line.endswith(".")
        assert not line.endswith("...")
    for name, command in main.commands.items():
        assert f"  {name} " in words
        shown = " ".join(here(name, "--help").out.split())
        assert " ".join(str(command.help).split()) in shown
        for parameter in command.params:
            if parameter.param_type_name == "option":
                told = parameter.to_info_dict()
                assert told["help"], parameter.name
                assert f"{told['opts'][-1]} " in shown
                assert " ".join(told["help"].split()) in shown
        if "modules" in {parameter.name for parameter in command.params}:
            assert "A MODULE is a package (all modules in it), a package.module, or module:registry." in shown


@pytest.mark.parametrize("program", [[sys.executable, "-m", "gateway"], [str(Path(sys.executable).parent / "gateway")]])
def test_the_command_is_a_script_and_a_module(program: list[str]) -> None:
    version = subprocess.run([*program, "--version"], capture_output=True, text=True, timeout=30, check=True)
    assert re.fullmatch(r"gateway, version \d+\.\d+\.\d+, (?:compiled|pure) codec\n", version.stdout)


@pytest.mark.parametrize("arguments", [["unknown"], ["serve", "--unknown"], ["check", "--config", "."]])
def test_what_no_command_takes_is_a_wrong_command_line(arguments: list[str]) -> None:
    told = here(*arguments)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("Usage: ")
