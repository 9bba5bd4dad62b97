"""The Python SDK, in the version before the revision 2026-07-28 and in that for it, against methods of four kinds.

What it returns, its own types have checked.
"""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from gateway import Fault, Registry
from gateway.core.access import make_key
from tests.serving import Server, serving
from tests.upstreams.kinds import IDL, KINDS, TYPED
from tests.upstreams.running import Program

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-mcp" / "bin" / "python"  # make test builds it
KEY, HASHED = make_key()
UPSTREAMS = """
[upstreams.xml]
url = "xmlrpc+http://127.0.0.1:{}/RPC2"
methods = {{ add = ["a", "b"], divide = ["a", "b"] }}
docs = {{ add = "Add two numbers." }}
[upstreams.idl]
url = "thrift://127.0.0.1:{}"
idl = "{idl}"
service = "Programs"
protocol = "compact"
[upstreams.proto]
url = "grpc://127.0.0.1:{}"
proto = ["{proto}"]
service = "programs.Programs"
idempotent = ["add"]
"""
CALLS: list[tuple[str, dict[str, Any], list[Any]]] = [  # what is called, and the text and whether it is an error
    ("add", {"a": 1, "b": 2}, ["3", False]),
    ("add", {"a": 1, "b": "x"}, ["Invalid params: params.b: expected int, got str (code -32602)", True]),
    ("large", {}, ["1152921504606846976", False]),
    ("broken", {}, ['no nail left {"item":"nail"} (code 1001)', True]),
    ("xml_add", {"a": 1, "b": 2}, ["3", False]),
    ("idl_add", {"a": 1, "b": 2}, ["3", False]),
    ("idl_reverse", {"data": "YWJj"}, ["Y2Jh", False]),
    ("idl_search", {"last_name": "Hopper"}, [None, False]),
    ("proto_add", {"a": 1, "b": 2}, ["3", False]),
    ("proto_add", {"a": 1, "c": 2}, ["Invalid params: params.c: there is no such parameter (code -32602)", True]),
    ("ticks", {"to": 2}, ["[0,1]", False]),
    ("ticks", {"to": 5}, ["enough (code 7)", True]),
]
registry = Registry()


@registry.register
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@registry.register
def large() -> int:
    return 2**60


@registry.register
def broken() -> None:
    raise Fault(1001, "no nail left", {"item": "nail"})


@registry.register
async def ticks(to: int) -> AsyncIterator[int]:
    for number in range(to):
        if number == 3:
            raise Fault(7, "enough")
        yield number


@registry.register
def secret() -> None: ...


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kinds = {kind.name: kind for kind in (*KINDS, *TYPED)}
    names = ("xmlrpc+http", "thrift compact buffered official", "grpc")
    file = tmp_path_factory.mktemp("agents") / "gateway.toml"
    settings = {
        "mcp.expose": "*",
        "mcp.read_only": "*.add",
        "access.keys": json.dumps({"agent": HASHED}),
        "access.rules": json.dumps([{"methods": ["secret"], "keys": []}]),
    }
    with ExitStack() as stack:
        ports = [stack.enter_context(Program(kinds[name])).port for name in names]
        file.write_text(UPSTREAMS.format(*ports, idl=IDL, proto=IDL.with_suffix(".proto")))
        yield stack.enter_context(serving(registry, settings, file))


def played(url: str, version: str, command: tuple[str, ...] = ()) -> Any:
    """Have a version of the SDK list all tools and make all calls."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "PYTHON"))}
    if version == "older":
        environment["PYTHONPATH"] = str(PYTHON.parents[1] / "older")
    calls = json.dumps([[name, arguments] for name, arguments, _ in CALLS])
    run = subprocess.run(
        [PYTHON, "-m", "tests.agents.sdk_program", url, KEY, *command],
        cwd=ROOT,
        env=environment,
        input=calls,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    ("version", "way", "revision"),
    [("older", "http", "2025-11-25"), ("newer", "http", "2026-07-28"), ("newer", "stdio", "2026-07-28")],
)
def test_the_sdk_lists_and_calls_methods_of_all_kinds(version: str, way: str, revision: str, server: Server) -> None:
    url = server.at("/mcp")
    bridge = (sys.executable, "-m", "gateway", "mcp", "--url", url, "--key", KEY) if way == "stdio" else ()
    said = played(url, version, bridge)
    assert said["revision"] == revision
    tools = said["tools"]
    assert "secret" not in tools
    for tool in tools.values():
        Draft202012Validator.check_schema(tool["inputSchema"])
    assert tools["add"]["description"] == "Add two integers."
    assert tools["xml_add"]["description"] == "Add two numbers."
    assert tools["proto_add"]["description"] == "Add two ints.\n\nThey may be negative."
    assert tools["proto_add"]["title"] == "proto.add"
    assert tools["proto_add"]["annotations"]["readOnlyHint"] is True
    assert tools["idl_reverse"]["inputSchema"]["properties"]["data"]["description"] == "base64"
    for (name, arguments, expected), found in zip(CALLS, said["results"], strict=True):
        assert found[1] == expected[1], (name, arguments, found)
        assert expected[0] in (None, found[0]), (name, arguments, found)
        count = min(arguments["to"], 3) if name == "ticks" and way == "http" else 0  # the bridge asks for no events
        assert found[2] == [[number + 1, None, str(number)] for number in range(count)]
