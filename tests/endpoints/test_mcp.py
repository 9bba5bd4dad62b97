"""Agents: the transcripts of their clients, and who is let in, shown and told what."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import Context, Fault, Registry
from gateway.config import ConfigError, load
from gateway.core.access import make_key
from gateway.endpoints.mcp.messages import Message, mirrored, read
from gateway.testing import Client, FakeUpstream
from tests.conftest import Logged
from tests.endpoints import mcp_methods
from tests.endpoints.replaying import RULES, TRANSCRIPTS, problems
from tests.raw_http import Response, Wire, exchange, request
from tests.scraping import scrape
from tests.serving import Server, eventually, serving

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(mcp_methods.registry, mcp_methods.SETTINGS) as running:
        yield running


def asked(port: int, method: str, headers: dict[str, str] | None = None, path: str = "/mcp", **params: Any) -> Response:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    return exchange(port, request(path, {**JSON, **(headers or {})}, body))


def called(port: int, name: str, headers: dict[str, str] | None = None, **arguments: Any) -> tuple[str, bool]:
    """Call a tool, and return its text, and whether it is an error."""
    response = asked(port, "tools/call", headers, name=name, arguments=arguments)
    assert response.status == 200, response
    said = json.loads(response.body)
    if "error" in said:
        return said["error"]["message"], True
    (content,) = said["result"]["content"]
    return content["text"], said["result"].get("isError", False)


def listed(port: int, headers: dict[str, str] | None = None) -> dict[str, Any]:
    return {tool["name"]: tool for tool in json.loads(asked(port, "tools/list", headers).body)["result"]["tools"]}


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda each: each["client"])
def test_what_a_client_sends_is_answered_as_it_needs(transcript: dict[str, Any], server: Server) -> None:
    assert problems(transcript["steps"], server.port) == []


@pytest.mark.parametrize("name", ["add", "größe", " add ", "a\nb", "=?base64?YWRk?=", ""])
def test_headers_that_are_made_of_a_message_fit_it(name: str) -> None:
    version, capabilities = ("io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities")
    meta = {version: "2026-07-28", capabilities: {}}
    document = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "_meta": meta}}
    headers = mirrored(document)
    assert all(value.isascii() and value.isprintable() and value == value.strip() for value in headers.values())
    assert isinstance(read(document, headers), Message)


def test_each_rule_of_the_revisions(server: Server) -> None:
    assert problems(RULES, server.port) == []


def test_nothing_is_offered_by_default() -> None:
    with serving(mcp_methods.registry) as running:
        assert asked(running.port, "ping").status == 404


@pytest.mark.parametrize("path", ["/api", "/healthz"])
def test_the_path_is_its_own(path: str) -> None:
    with pytest.raises(ConfigError, match=f"mcp.path: {path} is a path of calls or of health"):
        load(None, {}, ["mcp.expose=*", f"mcp.path={path}"])
    load(None, {}, [f"mcp.path={path}"])


def test_the_path_is_not_that_of_websockets() -> None:
    with pytest.raises(ConfigError, match="/ws is the path of WebSockets, too"):
        load(None, {}, ["mcp.expose=*", "mcp.path=/ws", "websocket.enabled=true"])


def test_another_path_is_served_beside_the_calls() -> None:
    with serving(mcp_methods.registry, {**mcp_methods.SETTINGS, "mcp.path": "/agents"}) as running:
        assert asked(running.port, "ping", path="/agents").status == 200
        assert asked(running.port, "ping", path="/mcp").status == 404
        assert json.loads(asked(running.port, "add", path="/api", a=1, b=2).body)["result"] == 3


def test_a_path_of_calls_stays_one_though_clients_look_for_oauth_there() -> None:
    with serving(mcp_methods.registry, {**mcp_methods.SETTINGS, "server.paths": "/register"}) as running:
        assert json.loads(asked(running.port, "add", path="/register", a=1, b=2).body)["result"] == 3


def test_beside_an_application_the_path_is_that_of_agents() -> None:
    """What clients look for OAuth at is the application's."""
    settings = {**mcp_methods.SETTINGS, "server.app": "tests.endpoints.mcp_methods:application"}
    with serving(mcp_methods.registry, settings) as running:
        assert called(running.port, "add", a=1, b=2) == ("3", False)
        assert exchange(running.port, request("/mcp", {}, b"", "GET")).status == 405
        assert exchange(running.port, request("/register", {}, b"", "GET")).body == b"home"


# ---- who -------------------------------------------------------------------------------------------------------------

RULE = [
    {"methods": ["shop.*"], "keys": ["buyer", "boss"]},
    {"methods": ["find"], "keys": ["boss"]},
    {"methods": ["echo"], "keys": ["boss", "buyer"]},
    {"methods": ["broken"], "keys": []},
]
SHOWN = {"boss": {"add", "echo", "shop_find"}, "buyer": {"add", "echo"}, "guest": {"add"}}


@pytest.mark.parametrize("who", SHOWN)
def test_a_caller_is_shown_and_may_call_the_same(who: str) -> None:
    """An alias has a rule of its own, which counts, too: find is shop.find."""
    keys = {name: make_key() for name in SHOWN}
    settings = {
        **mcp_methods.SETTINGS,
        "access.keys": json.dumps({name: hashed for name, (_, hashed) in keys.items()}),
        "access.rules": json.dumps(RULE),
    }
    with serving(mcp_methods.registry, settings) as running:
        head = {"Authorization": f"Bearer {keys[who][0]}"}
        assert listed(running.port, head).keys() == SHOWN[who]
        for name, arguments in (("add", {"a": 1, "b": 2}), ("echo", {"value": 1}), ("shop_find", {}), ("broken", {})):
            text, is_error = called(running.port, name, head, **arguments)
            assert (text == f"Unknown tool: {name}") is is_error is (name not in SHOWN[who]), text
        if who == "guest":
            assert asked(running.port, "tools/list").status == 401
            assert asked(running.port, "tools/list", {"Authorization": "Bearer gw_wrong"}).status == 401
            assert "Bearer" in asked(running.port, "initialize").headers["www-authenticate"]
            for path in ("/.well-known/oauth-protected-resource/mcp", "/register"):
                assert exchange(running.port, request(path, {}, b"", "GET")).status == 404


def test_addresses_are_judged_where_keys_are_not() -> None:
    with serving(mcp_methods.registry, {**mcp_methods.SETTINGS, "access.allow": "10.0.0.0/8"}) as running:
        assert exchange(running.port, request("/.well-known/anything", {}, b"", "GET")).status == 403
        assert asked(running.port, "ping").status == 403


def test_a_page_asks_first_and_only_that_of_an_allowed_origin_may_call(logged: Logged) -> None:
    settings = {**mcp_methods.SETTINGS, "access.origins": "https://app.example"}
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "mcp-protocol-version"}
    with serving(mcp_methods.registry, settings) as running:
        good, bad = {"Origin": "https://app.example"}, {"Origin": "https://evil.example"}
        response = exchange(running.port, request("/mcp", {**good, **preflight}, b"", "OPTIONS"))
        assert response.status == 204
        allowed = response.headers["access-control-allow-headers"].lower().split(", ")
        assert {"authorization", "content-type", "mcp-protocol-version", "mcp-method", "mcp-name"} < set(allowed)
        assert "mcp-session-id" in allowed
        calls = exchange(running.port, request("/api", {**good, **preflight}, b"", "OPTIONS"))
        assert "mcp" not in calls.headers["access-control-allow-headers"].lower()
        assert asked(running.port, "ping", good).headers["access-control-allow-origin"] == "https://app.example"
        assert asked(running.port, "ping", bad).status == 403
        assert exchange(running.port, request("/mcp", {**bad, **preflight}, b"", "OPTIONS")).status == 403
    assert logged.lines == []


# ---- how often, how long ---------------------------------------------------------------------------------------------


def test_who_calls_too_often_is_told_so_in_words_a_model_reads() -> None:
    settings = {**mcp_methods.SETTINGS, "limits.client_rate": 0.01, "limits.client_burst": 2, "limits.max_body": 10**6}
    with serving(mcp_methods.registry, settings) as running:
        assert called(running.port, "add", a=1, b=2) == ("3", False)
        assert asked(running.port, "tools/list").status == 200
        text, is_error = called(running.port, "add", a=1, b=2)
        assert is_error
        assert text.startswith('Rate limited: too many calls {"retry_after":')
        assert text.endswith("(code -32003)")
        chunked = b"POST /mcp HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        for response in (
            asked(running.port, "tools/list"),
            exchange(running.port, request("/mcp", JSON, b" " * 70_000)),
            exchange(running.port, chunked),
        ):
            assert response.status == 429
            assert int(response.headers["retry-after"]) > 0


def served_with(registry: Registry, **settings: Any) -> Any:
    return serving(registry, {"mcp.expose": "*", **{name.replace("__", "."): each for name, each in settings.items()}})


def test_a_deadline_is_that_of_any_call() -> None:
    registry, ended = Registry(), threading.Event()

    @registry.register(timeout=0.05)
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with served_with(registry) as running:
        assert called(running.port, "slow") == ("Deadline exceeded: no answer within 0.05 s (code -32001)", True)
        assert ended.wait(20)
        text, _ = called(running.port, "slow", {"X-Request-Timeout": "0.01"})
        assert text == "Deadline exceeded: no answer within 0.01 s (code -32001)"


def test_who_hangs_up_cancels_the_call() -> None:
    registry, begun, ended = Registry(), threading.Event(), threading.Event()

    @registry.register
    async def wait() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with served_with(registry) as running:
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"wait"}}'
        with Wire(running.port) as wire:
            wire.send(request("/mcp", JSON, body))
            assert begun.wait(20)
        assert ended.wait(20)


# ---- what is seen of it ----------------------------------------------------------------------------------------------


def test_calls_are_logged_and_counted_like_others_and_agents_say_who_they_are(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "gateway"):
        info = {"name": "evil\nname\x1b[31m" + "x" * 999, "version": "1"}
        asked(server.port, "initialize", {"X-Request-ID": "r-1"}, protocolVersion="2025-11-25", clientInfo=info)
        called(server.port, "add", {"X-Request-ID": "r-2"}, a=1, b=2)
        called(server.port, "broken", {"X-Request-ID": "r-3"}, item="x")
        called(server.port, "nope\nnope", {"X-Request-ID": "r-4"})
        eventually(lambda: "r-4" in caplog.text, "the lines are there")
    lines = [record.getMessage() for record in caplog.records]
    (agent,) = (line for line in lines if "speaks MCP" in line)
    assert agent.startswith(r"agent 'evil\nname\x1b[31mxxx")
    assert agent.endswith("(client 127.0.0.1, request r-1)")
    assert len(agent) < 200
    said = {line.partition("request_id=")[2]: line for line in lines if line.startswith("call ")}
    assert "method=add protocol=mcp client=127.0.0.1 outcome=ok" in said["r-2"]
    assert "method=broken protocol=mcp client=127.0.0.1 outcome=fault code=1001" in said["r-3"]
    assert "method=- protocol=mcp client=127.0.0.1 outcome=fault code=-32602" in said["r-4"]
    counted = scrape(server.metrics)
    assert counted.of("gateway_calls_total", method="add", protocol="mcp", outcome="ok") > 0
    assert counted.of("gateway_received_bytes_total", protocol="mcp") > 0


def test_a_proxy_is_told_the_method() -> None:
    with serving(mcp_methods.registry, {**mcp_methods.SETTINGS, "access.trusted_proxies": "127.0.0.1"}) as running:
        response = asked(running.port, "tools/call", {"X-Forwarded-For": "10.0.0.9"}, name="broken", arguments={})
        assert response.headers["x-rpc-method"] == "broken"
        assert response.headers["x-rpc-fault"] == "-32602"


def test_a_method_sees_that_an_agent_calls_and_may_be_for_agents_alone() -> None:
    registry = Registry()

    @registry.register(protocols=["mcp"])
    def who(context: Context) -> list[str | None]:
        return [context.protocol, context.method, context.request_id]

    @registry.register(protocols=["jsonrpc"])
    def other() -> None: ...

    with served_with(registry) as running:
        assert listed(running.port).keys() == {"who"}
        assert called(running.port, "who", {"X-Request-ID": "r-9"}) == ('["mcp","who","r-9"]', False)
        assert json.loads(asked(running.port, "who", path="/api").body)["error"]["code"] == -32601


def test_a_response_beyond_the_limit_is_a_fault_and_a_large_one_is_compressed(logged: Logged) -> None:
    registry = Registry()

    @registry.register
    def quotes(count: int) -> str:
        return '"' * count

    @registry.register
    def listed_quotes(count: int) -> list[str]:
        return ['"' * count]

    with served_with(registry, limits__max_reply=2048) as running:
        text, is_error = called(running.port, "quotes", count=900)
        assert (len(text), is_error) == (900, False)
        assert called(running.port, "quotes", count=1100)[0].startswith("Response too large: the response has 22")
        text, is_error = called(
            running.port, "listed_quotes", count=700
        )  # each takes two bytes in JSON, and four twice
        assert is_error
        assert text.startswith("Response too large: the response has 28")
        packed = asked(running.port, "tools/call", {"Accept-Encoding": "gzip"}, name="quotes", arguments={"count": 900})
        assert packed.headers["content-encoding"] == "gzip"
    assert len(logged.take("Response too large in")) == 2


def test_a_crash_tells_an_error_id_and_nothing_else(logged: Logged) -> None:
    registry = Registry()

    @registry.register
    def crash() -> None:
        raise RuntimeError("secret")

    with served_with(registry) as running:
        text, is_error = called(running.port, "crash")
        assert is_error
        assert text.startswith('Internal error {"error_id":"')
        assert "secret" not in text
    assert len(logged.take("in crash (request")) == 1


def test_what_an_agent_has_chosen_is_cut_in_errors_and_a_byte_order_mark_is_skipped(server: Server) -> None:
    assert json.loads(asked(server.port, "x" * 999).body)["error"]["message"] == f"Method not found: {'x' * 128}"
    assert called(server.port, "x" * 999) == (f"Unknown tool: {'x' * 128}", True)
    marked = b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}'
    assert exchange(server.port, request("/mcp", JSON, marked)).status == 200


def test_a_body_is_held_to_the_same_limits(logged: Logged) -> None:
    with serving(mcp_methods.registry, {**mcp_methods.SETTINGS, "limits.max_body": 1024}) as running:
        assert exchange(running.port, request("/mcp", JSON, b" " * 2000)).status == 413
        deep = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 100 + b"1" + b"}" * 101
        assert exchange(running.port, request("/mcp", JSON, deep)).status == 400
        bad = {**JSON, "Content-Encoding": "gzip"}
        assert exchange(running.port, request("/mcp", bad, b"{}")).status == 400


# ---- upstreams -------------------------------------------------------------------------------------------------------


def test_texts_of_the_configuration_are_told_to_agents_and_callers(tmp_path: Any) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        '[mcp]\nexpose = ["*"]\nread_only = ["books.find"]\n'
        '[upstreams.books]\nurl = "jsonrpc+tcp://127.0.0.1:1"\nidempotent = ["put"]\n'
        'docs = { find = "Find books.", put = "Put a book." }\n'
        '[upstreams.books.methods]\nfind = ["title", "year?"]\nput = ["title"]\n'
    )
    with serving(Registry(), file=file) as running:
        tools = listed(running.port)
        assert tools["books_find"] == {
            "name": "books_find",
            "title": "books.find",
            "description": "Find books.",
            "annotations": {"readOnlyHint": True},
            "inputSchema": {
                "type": "object",
                "properties": {"title": {}, "year": {}},
                "required": ["title"],
                "additionalProperties": False,
            },
        }
        assert tools["books_put"]["annotations"] == {"idempotentHint": True}
        help_text = {"jsonrpc": "2.0", "id": 1, "method": "system.methodHelp", "params": ["books.put"]}
        response = exchange(running.port, request("/api", JSON, json.dumps(help_text).encode()))
        assert json.loads(response.body)["result"] == "Put a book."


def test_an_upstream_that_is_down_or_broken_tells_the_model_how_far_the_call_came(logged: Logged) -> None:
    def refuse() -> None:
        raise Fault(7, "no")

    def find(title: str) -> list[str]:
        return [title]

    books = FakeUpstream({"find": find, "refuse": refuse})
    with Client(Registry(), config=load(None, {}, ["mcp.expose=*"]), upstreams={"books": books}) as client:

        def said(name: str, arguments: Any) -> Any:
            params = {"name": name, "arguments": arguments}
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
            return json.loads(client.raw(body, path="/mcp").body)["result"]

        assert said("books_find", {"params": ["a"]})["content"][0]["text"] == '["a"]'
        assert said("books_find", {"params": '["a"]'})["content"][0]["text"] == '["a"]'
        assert said("books_find", {"params": {"title": "a"}})["content"][0]["text"] == '["a"]'
        assert "nothing beside it" in said("books_find", {"params": 1})["content"][0]["text"]
        assert "nothing beside it" in said("books_find", {"title": "a"})["content"][0]["text"]
        assert said("books_refuse", {})["content"][0]["text"] == "no (code 7)"
        books.is_down = True
        fault = said("books_find", {"params": ["a"]})
        assert fault["isError"]
        assert '"sent":"no"' in fault["content"][0]["text"]
    assert logged.take("is down: ConnectionRefusedError")
