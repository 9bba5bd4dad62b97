"""The console over sockets: who may read it and call with it, and what it tells. test_console_pages has its pages."""

import hashlib
import json
import os
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import load
from gateway.config.origins import settings, shown
from gateway.model.explained import EXPLAINED
from gateway.model.faults import CATALOGUE
from tests.endpoints.console_methods import registry
from tests.raw_http import Response, exchange, request
from tests.serving import Server, eventually, serving

ROOT = Path(__file__).parents[2]
KEY = "gw_" + "k" * 43
SETTINGS = {
    "console.bind": "127.0.0.1:0",
    "access.keys": json.dumps({"ada": f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"}),
    "access.rules": json.dumps([{"methods": ["guarded.*"], "keys": ["ada"], "networks": ["127.0.0.0/8"]}]),
    "access.anonymous": "true",
    "access.hosts": "rpc.example.com",
}
CALL = b'{"jsonrpc":"2.0","method":"math.add","params":[2,3],"id":1}'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, SETTINGS) as started:
        yield started


def get(server: Server, path: str, method: str = "GET", **headers: str) -> Response:
    return exchange(server.console, _request(path, headers, b"", method), head=method == "HEAD")


def call(server: Server, body: bytes = CALL, **headers: str) -> Response:
    return exchange(server.console, _request("/call", {"Content-Type": "application/json", **headers}, body))


def _request(path: str, headers: dict[str, str], body: bytes, method: str = "POST") -> bytes:
    host = headers.pop("Host", "localhost")
    return request(path, headers, body, method).replace(b"Host: localhost", f"Host: {host}".encode(), 1)


def view(server: Server) -> Any:
    return json.loads(get(server, "/data/methods").body)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/console.js", "text/javascript; charset=utf-8"),
        ("/console.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/data/methods", "application/json"),
        ("/nothing", "text/plain; charset=utf-8"),
        ("/data/nothing", "text/plain; charset=utf-8"),
        ("/../catalogue.py", "text/plain; charset=utf-8"),
    ],
)
def test_what_is_read_is_guarded(path: str, kind: str, server: Server) -> None:
    response = get(server, path)
    assert response.headers["content-type"] == kind
    assert response.status == (404 if kind.startswith("text/plain") else 200)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
    assert response.headers["cache-control"] == "no-store"


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(server: Server) -> None:
    page = get(server, "/").body.decode()
    assert "style=" not in page
    assert "http" not in page
    assert all(tag.startswith(' type="module" src=') for tag in page.split("<script")[1:])


@pytest.mark.parametrize("path", ["/", "/data/methods"])
def test_what_is_only_read_takes_no_other_verb(path: str, server: Server) -> None:
    assert get(server, path, "HEAD").status == 200
    response = get(server, path, "DELETE")
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/data/methods", "/call"])
@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1:1", 200), ("[::1]", 200), ("localhost", 200), ("rpc.example.com", 200)]
)
def test_a_host_that_names_this_machine(path: str, host: str, status: int, server: Server) -> None:
    response = call(server, Host=host) if path == "/call" else get(server, path, Host=host)
    assert response.status == status


@pytest.mark.parametrize("path", ["/", "/data/methods", "/call"])
def test_a_page_whose_name_was_made_to_point_here_reads_nothing(path: str, server: Server) -> None:
    response = call(server, Host="evil.example") if path == "/call" else get(server, path, Host="evil.example")
    assert response.status == 403
    assert b"console.bind" in response.body


def test_a_call_is_answered_by_the_gateway(server: Server) -> None:
    assert json.loads(call(server).body)["result"] == 5
    assert json.loads(call(server, Host="127.0.0.1", Origin="http://127.0.0.1").body)["result"] == 5
    body = xmlrpc.client.dumps((2,), "math.add").encode()
    response = call(server, body, **{"Content-Type": "text/xml"})
    assert xmlrpc.client.loads(response.body)[0] == (3,)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_no_other_page_may_call(origin: str, server: Server) -> None:
    response = call(server, Host="127.0.0.1", Origin=origin)
    assert response.status == 403


def test_a_call_is_posted(server: Server) -> None:
    response = get(server, "/call")
    assert (response.status, response.headers["allow"]) == (405, "POST")


def test_the_rules_hold_for_calls_from_the_console(server: Server) -> None:
    body = b'{"jsonrpc":"2.0","method":"guarded.who","params":[],"id":1}'
    assert json.loads(call(server, body).body)["error"]["code"] == -32005
    assert json.loads(call(server, body, Authorization=f"Bearer {KEY}").body)["result"] == "ada"
    assert call(server, body, Authorization="Bearer wrong").status == 401


def test_an_address_that_may_not_call_may_not_call_from_the_console_either() -> None:
    with serving(registry, {"console.bind": "127.0.0.1:0", "access.allow": "192.0.2.0/24"}) as started:
        assert call(started).status == 403
        assert get(started, "/").status == 200


def test_what_is_told_of_a_method(server: Server) -> None:
    told = view(server)
    about = told["methods"]["math.half"]
    assert about["deprecated"] == "use math.divide"
    assert about["others"] == ["math.halve"]
    assert about["signatures"] == [["double", "double"]]
    assert about["protocols"] == ["xmlrpc", "jsonrpc"]
    assert about["callers"] == []
    assert about["upstream"] is None
    assert told["methods"]["kinds.all"]["types"]["at"] == "dateTime.iso8601"
    assert told["methods"]["shop.order"]["timeout"] == 5
    assert told["methods"]["system.multicall"]["protocols"] == ["xmlrpc"]
    assert told["urls"] == [server.url]
    assert {each["name"] for each in told["openrpc"]["methods"]} == set(told["methods"])


def test_who_may_call_is_told_with_the_rule_that_decides(server: Server) -> None:
    assert view(server)["methods"]["guarded.who"]["callers"] == ["networks 127.0.0.0/8; keys ada (access.rules[0])"]


def test_no_key_and_no_hash_is_told(server: Server) -> None:
    assert b"sha256" not in get(server, "/data/methods").body


def test_each_fault_of_the_gateway_is_explained(server: Server) -> None:
    assert set(EXPLAINED) == set(CATALOGUE)
    assert {each["code"] for each in view(server)["faults"]} == {row.code for row in CATALOGUE.values()}


PUBLIC = {name: value for name, value in SETTINGS.items() if name != "console.bind"} | {"console.public": "true"}


@pytest.fixture(scope="module")
def public() -> Iterator[Server]:
    with serving(registry, PUBLIC | {"server.app": "tests.endpoints.console_methods:application"}) as started:
        yield started


def read(server: Server, path: str, method: str = "GET", **headers: str) -> Response:
    named = {"Host": "rpc.example.com"} | headers
    return exchange(server.port, _request(f"/console/{path}", named, b"", method), head=method == "HEAD")


def test_at_the_address_for_calls_each_caller_is_shown_what_it_may_call(public: Server) -> None:
    for path in ("", "console.js"):
        response = read(public, path)
        assert response.status == 200
        assert "default-src 'none'" in response.headers["content-security-policy"]
    anonymous = json.loads(read(public, "data/methods").body)
    ada = json.loads(read(public, "data/methods", Authorization=f"Bearer {KEY}").body)
    assert ada["methods"].keys() - anonymous["methods"].keys() == {"guarded.who"}
    assert {each["name"] for each in anonymous["openrpc"]["methods"]} == set(anonymous["methods"])
    assert anonymous["public"] is True
    for told in (anonymous, ada):
        assert "callers" not in str(told.keys()) + str(told["methods"]["math.add"].keys())
        assert "console_methods.py" not in json.dumps(told)
    assert json.loads(read(public, "data/methods").body) == anonymous


@pytest.mark.parametrize("path", ["", "console.js", "data/methods"])
def test_the_rules_of_access_hold_for_the_public_console(path: str, public: Server) -> None:
    assert read(public, path, Host="evil.example").status == 403
    with serving(registry, {"console.public": "true", "access.allow": "192.0.2.0/24"}) as elsewhere:
        assert read(elsewhere, path).status == 403


def test_a_wrong_key_and_a_page_from_elsewhere_are_shown_no_methods(public: Server) -> None:
    refused = read(public, "data/methods", Authorization="Bearer wrong")
    assert (refused.status, "www-authenticate" in refused.headers) == (401, False)
    assert read(public, "data/methods", Origin="https://evil.example").status == 403


def test_the_public_console_is_only_read(public: Server) -> None:
    for path in ("", "data/methods"):
        assert read(public, path, "HEAD").status == 200
        assert (read(public, path, "POST").status, read(public, path, "POST").headers["allow"]) == (405, "GET, HEAD")
    for path in ("call", "data/live", "data/fleet", "data/configuration", "nothing"):
        assert read(public, path).status == 404
    assert read(public, "call", "POST").status == 405
    bare = exchange(public.port, _request("/console", {"Host": "rpc.example.com"}, b"", "GET"))
    assert (bare.status, bare.headers["location"]) == (308, "/console/")
    named = {"Host": "rpc.example.com"}
    assert exchange(public.port, _request("/consoles", named, b"", "GET")).body == b"application"


def test_reading_the_methods_is_charged_like_a_call() -> None:
    rates = {"limits.client_rate": "0.001", "limits.client_burst": "1"}
    with serving(registry, {"console.public": "true", "console.bind": "127.0.0.1:0"} | rates) as slow:
        assert [read(slow, "data/methods").status for _ in range(2)] == [200, 429]
        assert read(slow, "").status == 200


def test_there_is_no_console_unless_it_has_an_address() -> None:
    with serving(registry) as started:
        assert started.console == 0
        assert exchange(started.port, request("/console.js", {}, b"", "GET")).status == 404


def test_what_goes_on_comes_as_an_event_after_which_the_browser_asks_again(server: Server) -> None:
    call(server)
    eventually(lambda: b'"math.add"' in get(server, "/data/live").body, "the call is shown")
    response = get(server, "/data/live")
    assert response.headers["content-type"] == "text/event-stream"
    retry, number, data, *rest = response.body.decode().split("\n")
    assert (retry, rest) == ("retry: 1000", ["", ""])
    event = json.loads(data.removeprefix("data: "))
    assert number == f"id: {event['now'] - 1}"
    assert event["workers"][0]["levels"].keys() == {"requests", "running", "waiting", "connections"}
    assert b"[2,3]" not in response.body
    after = get(server, "/data/live", **{"Last-Event-ID": str(2**40)})
    assert json.loads(after.body.split(b"data: ")[1])["rows"] == []
    assert get(server, "/data/live", **{"Last-Event-ID": "x" * 100}).status == 200


def test_what_is_in_force_is_told_with_its_place_but_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        f'[access.keys]\nada = "sha256:{"5" * 64}"\n[limits]\nmax_batch = 7\n'
        '[upstreams.w]\nurl = "xmlrpc+http://127.0.0.1:1"\nmethods = ["a"]\n'
        'headers = { Authorization = "Basic c2VjcmV0" }\n'
    )
    words = ["console.bind=127.0.0.1:0", "limits.timeout=5"]
    config = load(file, {"GATEWAY_LIMITS_THREADS": "9"}, words)
    rows = {row["option"]: row for row in shown(config, settings(file, {"GATEWAY_LIMITS_THREADS": "9"}, words))}
    assert (rows["limits.max_batch"]["value"], rows["limits.max_batch"]["from"]) == ("7", str(file))
    assert (rows["limits.timeout"]["value"], rows["limits.timeout"]["from"]) == ("5.0", "command line")
    assert rows["limits.threads"]["from"] == "environment variable GATEWAY_LIMITS_THREADS"
    assert (rows["limits.calls"]["from"], rows["limits.calls"]["value"]) == ("default", "16384")
    assert rows["access.keys"]["value"] == "{ ada = (hidden) }"
    assert rows["upstreams.w.headers"]["value"] == "{ Authorization = (hidden) }"
    assert rows["upstreams.w.url"]["value"] == '"xmlrpc+http://127.0.0.1:1"'
    assert rows["server.paths"]["value"] == '["/api", "/RPC2", "/jsonrpc", "/"]'
    assert all(row["for"] for option, row in rows.items() if not option.startswith("upstreams"))
    assert "c2VjcmV0" not in str(rows)
    assert "5555" not in str(rows)


def test_a_rule_is_spelled_as_in_a_file(server: Server) -> None:
    options = {row["option"]: row for row in json.loads(get(server, "/data/configuration").body)["options"]}
    expected = '[{ methods = ["guarded.*"], networks = ["127.0.0.0/8"], keys = ["ada"] }]'
    assert options["access.rules"]["value"] == expected
    assert options["access.keys"]["value"] == "{ ada = (hidden) }"


def test_workers_of_the_command_are_shown_together_with_what_check_says(tmp_path: Path) -> None:
    (tmp_path / "methods.py").write_text("from gateway import method\n@method\ndef ping() -> int:\n    return 1\n")
    command = [sys.executable, "-m", "gateway", "serve", "--workers", "2", "--bind", "127.0.0.1:0", "methods"]
    rules = '[{"methods": ["ping"]}]'
    for setting in ("console.bind=127.0.0.1:0", "metrics.bind=", f"access.rules={rules}"):
        command += ["--set", setting]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        said = next(line for line in process.stdout if "console at" in line)
        port = int(said.rpartition(":")[2].strip("/\n"))

        def workers() -> int:
            event = exchange(port, request("/data/live", {}, b"", "GET")).body
            return len(json.loads(event.split(b"data: ")[1])["workers"])

        eventually(lambda: workers() == 2, "both workers are shown")
        found = json.loads(exchange(port, request("/data/configuration", {}, b"", "GET")).body)
        assert [(level, check) for level, check, _ in found["findings"]] == [("warning", "rule-without-condition")]
        options = {row["option"]: row["from"] for row in found["options"]}
        assert options["server.workers"] == options["access.rules"] == "command line"
    finally:
        process.terminate()
        process.communicate(timeout=15)
