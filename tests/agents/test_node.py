"""Programs of node: the TypeScript SDK of MCP, and ethers, which takes the gateway for a node of Ethereum."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import Fault, Registry
from gateway.core.access import make_key
from tests.agents import test_sdk
from tests.serving import eventually, serving

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[2]
MODULES = ROOT / ".venv-node"  # make test builds it
ADDRESS = "0x00000000219ab540356cBB839Cbe05303d7705Fa"
HASH = "0x" + "ab" * 32
REVERTED = "0x08c379a0" + "20".rjust(64, "0") + "06".rjust(64, "0") + b"closed".hex().ljust(64, "0")
ended: list[str] = []
chain = Registry()


@chain.register(name="eth_chainId", run="inline")
def chain_id() -> str:
    return "0x539"


@chain.register(name="eth_blockNumber", run="inline")
def block_number() -> str:
    return "0x10"


@chain.register(name="eth_getBalance")
def balance(address: str, block: str) -> str:
    assert (address.lower(), block) == (ADDRESS.lower(), "latest")
    return hex(2**70)


@chain.register(name="eth_call")
def call(message: dict[str, Any], block: str) -> str:
    if message["data"] == "0x02":
        raise Fault(3, "execution reverted: closed", REVERTED)
    return "0x0badc0de"


@chain.register
def echo(value: Any) -> Any:
    return value


@chain.register(name="newHeads")
async def heads() -> AsyncIterator[dict[str, Any]]:
    try:
        number = 16
        while True:
            number += 1
            yield {"number": hex(number), "hash": HASH, "parentHash": HASH, "timestamp": hex(number)}
            await asyncio.sleep(0.01)
    finally:
        ended.append("heads")


@chain.register
async def logs(wanted: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    try:
        while True:
            yield {
                "address": wanted["address"][0],
                "blockHash": HASH,
                "blockNumber": "0x11",
                "data": "0x07",
                "logIndex": "0x0",
                "removed": False,
                "topics": [HASH],
                "transactionHash": HASH,
                "transactionIndex": "0x0",
            }
            await asyncio.sleep(0.01)
    finally:
        ended.append("logs")


def played(program: str, *arguments: str) -> Any:
    run = subprocess.run(
        ["node", f"tests/agents/node/{program}", str(MODULES), *arguments],  # noqa: S607 - wherever it is installed
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_ethers_takes_the_gateway_for_a_node() -> None:
    settings = {
        "websocket.enabled": True,
        "websocket.subscribe": "eth_subscribe",
        "websocket.unsubscribe": "eth_unsubscribe",
        "websocket.notification": "eth_subscription",
    }
    with serving(chain, settings) as server:
        said = played("ethereum.cjs", f"ws://127.0.0.1:{server.port}/ws")
        assert said == {
            "chain": 1337,
            "block": 16,
            "balance": str(2**70),
            "several": [1, 2, 3, 4],
            "called": "0x0badc0de",
            "failed": ["CALL_EXCEPTION", "closed"],
            "missing": -32601,
            "heads": [17, 18, 19],
            "logs": [[ADDRESS, 17, "0x07"]] * 2,
        }
        eventually(lambda: sorted(ended) == ["heads", "logs"], "a subscription goes on")


def test_the_typescript_sdk_lists_and_calls() -> None:
    key, hashed = make_key()
    rules = [{"methods": ["secret"], "keys": []}]
    settings = {"mcp.expose": "*", "access.keys": json.dumps({"a": hashed}), "access.rules": json.dumps(rules)}
    with serving(test_sdk.registry, settings) as server:
        said = played("agent.cjs", server.at("/mcp"), key)
    tools = {tool["name"]: tool for tool in said["tools"]}
    assert tools["add"]["description"] == "Add two integers."
    assert "secret" not in tools
    assert said["results"] == [
        ["3", False, []],
        ["Invalid params: params.b: expected int, got str (code -32602)", True, []],
        ['no nail left {"item":"nail"} (code 1001)', True, []],
        ["[0,1]", False, [[1, "0"], [2, "1"]]],
        ["enough (code 7)", True, [[1, "0"], [2, "1"], [3, "2"]]],
    ]
    assert said["unknown"] == -32602
    assert said["errors"] == []
