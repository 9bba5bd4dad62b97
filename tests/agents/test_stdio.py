"""``gateway mcp``: what an agent writes to it and reads, with methods in that process or in another one."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.core.access import make_key
from tests.endpoints import mcp_methods
from tests.serving import serving

ROOT = Path(__file__).parents[2]
METHODS = '''
import asyncio
import os
from gateway import Context, method

@method
def add(a: int, b: int) -> int:
    print("a line that is no message")
    os.write(1, b"another one")
    return a + b

@method
async def wait(name: str) -> str:
    """Wait until it is cancelled."""
    print("waiting", name, flush=True)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("cancelled", name, flush=True)
        raise

@method
def who(context: Context) -> list:
    return [context.key, context.client, context.protocol]
'''
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Agent:
    """An agent that has started a program."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def send(self, message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")
        self.process.stdin.flush()

    def read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, method: str, number: int | str = 1, **params: Any) -> Any:
        self.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        return self.read()

    def call(self, tool: str, **arguments: Any) -> Any:
        return self.ask("tools/call", name=tool, arguments=arguments)["result"]["content"][0]["text"]


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[Agent]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "mcp", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            yield Agent(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(30) == 0, (folder / "log").read_text()
        finally:
            process.kill()
            process.wait()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.stdout.close()


@pytest.mark.processes
def test_a_local_agent_is_served_without_sockets(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(METHODS)
    key, hashed = make_key()
    settings = ("--set", "mcp.expose=*", "--set", f"access.keys={json.dumps({'ada': hashed})}")
    with started(tmp_path, "shop", *settings, "--key", key) as agent:
        begun = agent.ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "a"})
        assert begun["result"]["protocolVersion"] == "2025-06-18"
        agent.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        agent.send(b"")
        assert [tool["name"] for tool in agent.ask("tools/list", "x")["result"]["tools"]] == ["add", "wait", "who"]
        assert agent.call("add", a=1, b=2) == "3"
        assert agent.call("who") == '["ada","127.0.0.1","mcp"]'
        assert agent.ask("server/discover", _meta=META)["result"]["supportedVersions"][-1] == "2026-07-28"
        modern = agent.ask("tools/call", name="größe", arguments={}, _meta=META)
        assert modern["error"] == {"code": -32602, "message": "Unknown tool: größe"}
        for broken in (b"{", b"[]", b'{"jsonrpc":"2.0","id":1,"method":3}', b"\xff" * 10):
            agent.send(broken)
            assert agent.read()["error"]["code"] in (-32700, -32600)
        agent.send(b'{"a":"' + b"x" * 2**24 + b'"}')
        agent.send({"jsonrpc": "2.0", "id": 7, "method": "ping", "params": {"x": "y" * 2**21}})
        assert agent.read()["error"]["message"].startswith("the gateway responds with HTTP 413: ")
        agent.send(
            {"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": {"name": "wait", "arguments": {"name": "w8"}}}
        )
        assert agent.ask("ping", 9)["id"] == 9
        agent.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 8}})
        assert agent.ask("ping", 10)["id"] == 10
    log = (tmp_path / "log").read_text()
    assert "cancelled w8" in log
    assert "a line that is no message" in log
    assert "another one" in log


@pytest.mark.processes
def test_who_has_no_key_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(METHODS)
    hashed = make_key()[1]
    with started(tmp_path, "shop", "--set", "mcp.expose=*", "--set", f'access.keys={{"ada": "{hashed}"}}') as agent:
        said = agent.ask("initialize")["error"]
        assert said["code"] == -32000
        assert said["message"].startswith("the gateway responds with HTTP 401: ")


@pytest.mark.processes
def test_a_gateway_elsewhere_is_bridged(tmp_path: Path) -> None:
    with serving(mcp_methods.registry, mcp_methods.SETTINGS) as running:
        with started(tmp_path, "--url", running.at("/mcp"), "--header", "X-Request-ID: r-1") as agent:
            assert agent.ask("initialize", protocolVersion="2024-11-05")["result"]["instructions"] == "Add first."
            agent.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
            assert agent.call("add", a=1, b=2) == "3"
            modern = agent.ask("tools/call", name="add", arguments={"a": 1, "b": 2}, _meta=META)
            assert modern["result"]["resultType"] == "complete"
            assert agent.ask("prompts/list")["error"]["code"] == -32601
            assert agent.ask("ping", _meta=META)["error"]["code"] == -32601
        with started(tmp_path, "--url", running.at("/nowhere")) as agent:
            assert "HTTP 404" in agent.ask("initialize")["error"]["message"]
    with started(tmp_path, "--url", running.at("/mcp")) as agent:
        assert "connection refused" in agent.ask("initialize")["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["tests.endpoints.mcp_methods:registry"], 1, "mcp.expose names no methods"),
        (["--ca", "ca.pem"], 2, "need --url"),
        (["--url", "https://x/mcp", "--set", "mcp.expose=*"], 2, "give no MODULE, --config and --set with it"),
        (["--url", "nowhere"], 1, "is not a URL to call"),
        (["--url", "https://x/mcp", "--key", "a b"], 2, "--key: expected printable ASCII"),
    ],
)
def test_a_wrong_command_says_why(arguments: list[str], code: int, said: str) -> None:
    result = CliRunner().invoke(main, ["mcp", *arguments])
    assert result.exit_code == code
    assert said in result.output
