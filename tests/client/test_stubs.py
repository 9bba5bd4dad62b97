"""``gateway stubs``: what it writes passes mypy --strict and calls what it says, with awkward names too."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, Literal
from xmlrpc.server import SimpleXMLRPCServer

import msgspec
import pytest
from click.testing import CliRunner

from gateway import Registry
from gateway.cli import main
from gateway.client import AsyncClient, Client
from gateway.client.described import described
from gateway.client.stubs import source
from tests.client.asking import http, lying, result
from tests.client.test_foreign import Quiet
from tests.serving import Server, serving

ROOT = Path(__file__).parents[2]

registry = Registry()


class Color(Enum):
    RED = "red"
    BLUE = 'b"lue\\'


@dataclass
class Item:
    name: str
    size: int | None = None
    parts: "list[Item] | None" = None


class Odd(msgspec.Struct, rename={"class_": "class", "dashed": "a-b"}):
    class_: int
    dashed: Item


@registry.register(name="inventory.list")
def list_items(kind: str, limit: int = 2, color: Color = Color.RED) -> list[Item]:
    r'''List what is there. It's "quoted", with """ and a \ and a "x".'''
    return [Item(kind, 1), Item(color.value)][:limit]


@registry.register(name="inventory.count.list")
def count(items: list[Item]) -> dict[str, int]:
    """Count items.

    In two paragraphs.
    """
    return {item.name: item.size or 0 for item in items}


@registry.register(name="inventory")
def inventory() -> str:
    return "itself"


@registry.register(name="class")
def class_(odd: Odd | None = None) -> Odd | None:
    return odd


@registry.register(name="a-b.1st")
def strange(mode: Literal["x", 1] | None, /, *rest: int) -> list[int]:
    return list(rest)


@registry.register(name="m.None")
def none(typing: float, /, other: Any = None) -> float:
    return typing


@registry.register
def when(at: datetime, data: bytes) -> datetime:
    return at


@registry.register
def nothing() -> None:
    pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry) as running:
        yield running


@contextmanager
def standard() -> Iterator[str]:
    """Serve with the standard library, which tells no types."""
    with SimpleXMLRPCServer(("127.0.0.1", 0), Quiet) as plain:
        plain.register_function(lambda a, b: a + b, "math.add")
        plain.register_introspection_functions()
        thread = threading.Thread(target=plain.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{plain.server_address[1]}/RPC2"
        plain.shutdown()
        thread.join(10)


def loaded(path: Path) -> ModuleType:
    module = ModuleType(path.stem)
    exec(compile(path.read_text("utf-8"), str(path), "exec"), module.__dict__)  # noqa: S102 - it is what is tested
    return module


def written(path: Path, url: str, *options: str) -> Path:
    ended = CliRunner().invoke(main, ["stubs", url, "--output", str(path), *options], catch_exceptions=False)
    assert (ended.exit_code, ended.output) == (0, "")
    return path


INLINE = {"title": "In line", "properties": {"a": {"type": "object"}}, "type": "object"}
MAPPING = {"type": "object", "additionalProperties": {"type": "number"}}
ODD_DOCUMENT: dict[str, Any] = {
    "openrpc": "1.3.2",
    "methods": [
        {"name": "any", "params": [{"name": 5}], "result": {"schema": {"$ref": "#/nowhere"}}},
        {"name": "x\n.y", "params": [{"name": "a"}, {"name": "a"}], "result": None},
        {"name": "list", "params": [{"name": "int", "schema": {"enum": [1.5]}}], "result": {"schema": {"const": 1}}},
        {"name": "str", "params": [], "result": {"schema": {"type": "array", "items": {"type": ["string", "null"]}}}},
        {"name": "tree", "params": [], "result": {"schema": {"$ref": "#/components/schemas/tree"}}},
        {"name": "inline", "params": [], "result": {"schema": INLINE}},
        {"name": "Tree", "params": [{"name": "self", "required": True}], "description": '"""\\\n"""'},
        {"name": "all", "params": [], "result": {"schema": {"allOf": [MAPPING]}}},
        {"name": "Inner.InlineResult", "params": [], "result": {"schema": {"oneOf": [{"type": "integer"}, True]}}},
        {"name": "__init__", "params": [], "result": {"schema": INLINE}},
        {"name": "rpc.discover"},
        "nonsense",
    ],
    "components": {"schemas": {"tree": {"type": "array", "items": {"$ref": "#/components/schemas/tree"}}}},
}


def test_what_is_written_passes_the_type_checker_and_calls(server: Server, tmp_path: Path) -> None:
    with standard() as url, lying([http(result(msgspec.json.encode(ODD_DOCUMENT)))]) as liar:
        paths = [
            written(tmp_path / "stub_json.py", server.url),
            written(tmp_path / "stub_async.py", server.url, "--async"),
            written(tmp_path / "stub_xml.py", server.url, "--protocol", "xmlrpc"),
            written(tmp_path / "stub_plain.py", url, "--protocol", "xmlrpc"),
            written(tmp_path / "stub_odd.py", liar.url),
        ]
        with Client(url, protocol="xmlrpc") as client:
            assert loaded(paths[3]).API(client).math.add(1, 2) == 3
    odd = [name for name in dir(loaded(paths[4]).API) if not name.startswith("_")]
    assert odd == ["Tree", "all", "any", "inline", "list", "m__init__", "str", "tree"]
    assert "def when(self, at: datetime.datetime, data: bytes) -> datetime.datetime:" in paths[2].read_text("utf-8")
    assert "def when(self, at: str, data: str) -> str:" in paths[0].read_text("utf-8")
    use = tmp_path / "use.py"
    use.write_text(USE)
    command = [sys.executable, "-m", "mypy", "--strict", *map(str, [*paths, use])]  # in the project's own cache
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert (checked.returncode, checked.stderr) == (1, ""), checked.stdout
    told = [line.partition(": error: ")[2] for line in checked.stdout.splitlines()[:-1]]
    assert [line.startswith(start) for line, start in zip(told, WRONG, strict=True)] == [True] * 4, checked.stdout
    with Client(server.url) as client:
        check(loaded(paths[0]).API(client))
    with Client(server.url, protocol="xmlrpc") as client:
        at = loaded(paths[2]).API(client).when(datetime(2024, 1, 2), b"\xff")
        assert at == datetime(2024, 1, 2)

    async def awaited() -> Any:
        async with AsyncClient(server.url) as client:
            made = loaded(paths[1]).API(client)
            return await made.inventory.list("fig", 1), await made.nothing()

    assert asyncio.run(awaited()) == ([{"name": "fig", "size": 1, "parts": None}], None)


USE = """
from gateway import Client
from stub_json import API

made = API(Client("http://127.0.0.1/"))
first = made.inventory.list("fig", color="red")[0]
size: int | None = first.get("size")
total: dict[str, int] = made.inventory.count.list([{"name": "a"}])
text: str = made.inventory()
made.inventory.list(5)
made.inventory.list("fig", color="green")
made.nothing(1)
first["absent"]
"""
WRONG = (
    'Argument 1 to "list" of "Inventory" has incompatible type "int"; expected "str"',
    'Argument "color" to "list" of "Inventory" has incompatible type "Literal[\'green\']"; expected "Literal[',
    'Too many arguments for "nothing" of "API"',
    'TypedDict "Item" has no key "absent"',
)


def check(made: Any) -> None:
    assert made.inventory() == "itself"
    assert [item["name"] for item in made.inventory.list("fig")] == ["fig", "red"]
    assert [item["name"] for item in made.inventory.list("fig", color='b"lue\\')] == ["fig", 'b"lue\\']
    assert made.inventory.count.list([{"name": "a", "size": 3}]) == {"a": 3}
    odd = {"class": 1, "a-b": {"name": "x", "size": None, "parts": None}}
    assert (made.class_(odd), made.class_()) == (odd, None)
    assert made.a_b.m_1st("x", 1, 2) == [1, 2]
    assert made.m.None_(1.5) == 1.5
    assert 'List what is there. It\'s "quoted"' in made.inventory.list.__doc__
    assert "In two paragraphs." in made.inventory.count.list.__doc__


def test_by_position_nothing_is_left_out_in_between(server: Server) -> None:
    with Client(server.url, protocol="xmlrpc") as client:
        namespace: dict[str, Any] = {}
        exec(source(described(client), client.url, "xmlrpc"), namespace)  # noqa: S102 - likewise
        made = namespace["API"](client)
        assert len(made.inventory.list("fig")) == 2
        with pytest.raises(TypeError, match="argument 2 must be given, because one behind it is"):
            made.inventory.list("fig", color="red")


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([b'{"methods":5}'], "rpc.discover does not return an OpenRPC document"),
        ([b"null"], "rpc.discover does not return an OpenRPC document"),
        ([None, b"[1]"], "system.listMethods does not return names"),
        ([None, None], "does not tell of its methods: fault -32601: Method not found"),
    ],
)
def test_a_server_that_does_not_tell(answers: list[bytes | None], problem: str) -> None:
    fault = b'{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":%d}'
    sent = [http(fault % place if answer is None else result(answer, place)) for place, answer in enumerate(answers, 1)]
    with lying(sent) as liar:
        ended = CliRunner().invoke(main, ["stubs", liar.url])
    assert ended.exit_code == 1
    assert problem in ended.output


def test_signatures_one_by_one() -> None:
    fault = b'{"jsonrpc":"2.0","error":{"code":1,"message":"no"},"id":%b}'
    signatures = b'[["int","string"],["int","string","double","base64"]]'
    answers = [
        fault % b"1",
        result(b'["b.c","a"]', 2),
        fault % b"null",
        result(b'"undef"', 3),
        fault % b"4",
        result(signatures, 5),
        result(b'"Help."', 6),
    ]
    with lying([http(answer) for answer in answers]) as liar, Client(liar.url) as client:
        text = source(described(client), liar.url, "jsonrpc")
    assert "def a(self, *args: typing.Any) -> typing.Any:" in text
    assert "def c(self, p1: str, p2: float | UnsetType = UNSET, p3: str | UnsetType = UNSET, /) -> int:" in text
    assert '"""Help."""' in text


def test_a_file_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, ["stubs", server.url, "--output", str(tmp_path / "no" / "x.py")])
    assert ended.exit_code == 1
    assert ended.output.endswith("x.py cannot be written: no such file or directory\n")
    assert CliRunner().invoke(main, ["stubs", "http://"]).output.startswith("gateway: http:// has no host")
