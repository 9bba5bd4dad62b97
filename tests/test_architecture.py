"""The architecture: which folder of gateway/ may import which (docs/design.md), and where third parties may be used.

``violations`` reads the source, so it sees imports inside of functions too. Each kind of illegal arrow is planted in a
copy of the source once, to show that it is seen.
"""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages import tracked

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parent.parent
BELOW_APP = {"model", "wire", "codecs", "methods", "telemetry", "hosts", "upstreams", "config", "core", "endpoints"}
BELOW_APP |= {"deploy", "client", "fleet"}
TABLE: dict[str, set[str]] = {  # a folder or a module -> the folders that it may import, beside itself
    "model": set(),
    "wire": {"model"},
    "codecs": {"model", "wire"},
    "methods": {"model"},
    "telemetry": {"model", "wire"},
    "hosts": {"model", "wire"},
    "fleet": {"model", "wire"},
    "upstreams": {"model", "wire", "codecs", "fleet"},
    "upstreams.frame": {"model", "wire", "codecs", "fleet", "methods"},
    "config": {"model", "upstreams", "fleet"},
    "core": {"model", "wire", "methods", "config", "telemetry"},
    "endpoints": {"model", "wire", "codecs", "methods", "config", "core", "telemetry"},
    "deploy": {"model", "codecs", "methods", "config"},
    "client": {"model", "wire", "codecs"},
    "app": BELOW_APP,
    "process": BELOW_APP | {"app"},
    "wsgi": BELOW_APP | {"app"},
    "cli": BELOW_APP | {"app", "process"},
    "compat": BELOW_APP | {"app", "process"},
    "testing": BELOW_APP | {"app"},
    "pytest_plugin": BELOW_APP | {"app", "process", "testing"},
    "__main__": {"cli"},
    "": BELOW_APP | {"app", "process"},  # gateway/__init__.py
}
SHARED = {  # what all siblings may use
    "upstreams": {"", "options", "faults", "names", "transport"},
    "codecs": {"contract"},
}
SIBLINGS = {("upstreams", "grpc"): {"protobuf"}}  # what one sibling may use of another
ABOVE_SIBLINGS = {
    ("upstreams", "frame"),
    ("upstreams", "begun"),
    ("upstreams", "calling"),
    ("upstreams", "counting"),
    ("upstreams", "instances"),
    ("upstreams", "spreading"),
    ("upstreams", "streaming"),
}  # what uses siblings only through the table of schemes
WIRING = {"app", "process", "wsgi", "cli", "testing", "__main__"}
THIRD_PARTIES = {
    "tornado": {"hosts"},
    "flask": {"hosts"},
    "aiohttp": {"hosts"},
    "django": {"hosts"},
    "uvloop": {"hosts"},
    "click": {"cli"},
    "watchfiles": {"process"},
    "prometheus_client": {"telemetry"},
    "httptools": {"hosts", "upstreams"},
    "grpc": {"upstreams"},
    "dns": {"fleet"},
    "google": {"upstreams"},
    "opentelemetry": {"telemetry"},
}


def violations(package: Path) -> list[str]:
    """Return what is wrong with the imports of a package, a line each."""
    return [
        f"{path.relative_to(package.parent)}: {problem}"
        for path in sorted(package.rglob("*.py"))
        for problem in problems_of(path, package)
    ]


def problems_of(path: Path, package: Path) -> Iterator[str]:
    parts = path.relative_to(package).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield "a relative import"
        elif isinstance(node, ast.ImportFrom) and node.module == "gateway":
            if parts and parts[0] not in WIRING:
                yield "from gateway import, below the wiring"
            for alias in node.names:
                yield from arrow(parts, ("gateway", alias.name), package)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield from arrow(parts, (*str(node.module).split("."), alias.name), package)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from arrow(parts, tuple(alias.name.split(".")), package)


def arrow(parts: tuple[str, ...], target: tuple[str, ...], package: Path) -> Iterator[str]:
    """Judge one import: of a module with these parts below gateway, by the full name of what is imported."""
    name = ".".join(target)
    room = parts[0] if parts else ""
    if target[0] != "gateway":
        if room not in THIRD_PARTIES.get(target[0], {room}):
            yield f"{room} imports {target[0]}"
        if target[0] == "handlers":
            yield "the gateway imports handlers"
        return
    inside = target[1:] if is_module(package, target[1:]) else target[1:-1]
    if not inside:
        if len(target) == 1:
            yield "import gateway"
        return
    row = ".".join(parts[:2]) if ".".join(parts[:2]) in TABLE else room
    if inside[0] not in TABLE:
        yield f"{inside[0]} is in no row of the table"
    elif inside[0] != room and inside[0] not in TABLE[row]:
        yield f"{row or 'gateway'} imports {name}"
    elif inside[0] == room and room in SHARED and len(parts) > 1:
        own, other = parts[1], inside[1] if len(inside) > 1 else ""
        may = SHARED[room] | SIBLINGS.get((room, own), set()) | {own}
        if other not in may and (room, own) not in ABOVE_SIBLINGS:
            yield f"{room}.{own} imports its sibling {other}"


def is_module(package: Path, parts: tuple[str, ...]) -> bool:
    path = package.joinpath(*parts)
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_every_arrow_is_in_the_table() -> None:
    assert violations(ROOT / "gateway") == []


def test_every_folder_has_a_row() -> None:
    rooms = {
        path.relative_to(ROOT / "gateway").parts[0].removesuffix(".py") for path in (ROOT / "gateway").rglob("*.py")
    }
    assert {room.removesuffix(".py") for room in rooms} - {"__init__"} == {row.partition(".")[0] for row in TABLE} - {
        ""
    }


@pytest.mark.parametrize(
    ("file", "line", "problem"),
    [
        ("model/calls.py", "from gateway.codecs import Codec", "model imports gateway.codecs.Codec"),
        ("wire/framing.py", "import gateway.hosts.tcp", "wire imports gateway.hosts.tcp"),
        ("hosts/tcp.py", "from gateway.endpoints import rpc", "hosts imports gateway.endpoints.rpc"),
        (
            "core/dispatch.py",
            "def late() -> None:\n    from gateway.hosts import tcp",
            "core imports gateway.hosts.tcp",
        ),
        ("core/rates.py", "from . import access", "a relative import"),
        ("core/rates.py", "from gateway import Fault", "from gateway import, below the wiring"),
        ("core/rates.py", "import gateway", "import gateway"),
        ("app/mounted.py", "from gateway.process import server", "app imports gateway.process.server"),
        (
            "upstreams/thrift/adapter.py",
            "from gateway.upstreams.rpyc import adapter",
            "upstreams.thrift imports its sibling rpyc",
        ),
        (
            "upstreams/transport/pool.py",
            "import gateway.upstreams.grpc.adapter",
            "upstreams.transport imports its sibling grpc",
        ),
        (
            "upstreams/zerorpc/adapter.py",
            "from gateway.upstreams.frame import _fits",
            "upstreams.zerorpc imports its sibling frame",
        ),
        (
            "upstreams/jsonrpc/http.py",
            "from gateway.methods import Registry",
            "upstreams imports gateway.methods.Registry",
        ),
        (
            "codecs/jsonrpc/text.py",
            "from gateway.codecs.xmlrpc.text import escaped",
            "codecs.jsonrpc imports its sibling xmlrpc",
        ),
        ("core/layers.py", "import tornado.web", "core imports tornado"),
        ("app/mounted.py", "import handlers.calculator", "the gateway imports handlers"),
    ],
)
def test_an_illegal_arrow_is_seen(file: str, line: str, problem: str, tmp_path: Path) -> None:
    package = Path(
        shutil.copytree(ROOT / "gateway", tmp_path / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    )
    planted = package / file
    planted.write_text(f"{planted.read_text('utf-8')}\n{line}\n", "utf-8")
    assert list(problems_of(planted, package)) == [problem]


def test_all_files_are_looked_at(tmp_path: Path) -> None:
    package = Path(shutil.copytree(ROOT / "gateway", tmp_path / "gateway"))
    for file in ("model/calls.py", "upstreams/grpc/__init__.py"):
        planted = package / file
        planted.write_text(f"{planted.read_text('utf-8')}\nimport gateway\n", "utf-8")
    assert [problem.partition(":")[0] for problem in violations(package)] == [
        "gateway/model/calls.py",
        "gateway/upstreams/grpc/__init__.py",
    ]


def test_no_back_arrow_hides_behind_type_checking() -> None:
    assert not [path for path in (ROOT / "gateway").rglob("*.py") if "TYPE_CHECKING" in path.read_text("utf-8")]


def test_importing_the_gateway_loads_no_host() -> None:
    rim = {*THIRD_PARTIES, "google.protobuf"} - {"google"}  # a namespace, which others fill, too
    code = f"import sys, gateway; sys.exit(bool({rim} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_what_serves_calls_loads_no_tornado() -> None:
    code = "import sys, gateway.cli, gateway.hosts.http; sys.exit('tornado' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_top_level_is_fixed() -> None:
    expected = {"gateway", "handlers", "conf", "tests", "benchmarks", "docs", ".ci", "pyproject.toml", "README.md"}
    expected |= {"CHANGELOG.md", "LICENSE", "Makefile", "constraints.txt", ".gitignore", "locustfile.py", "MANIFEST.in"}
    assert {name.split("/")[0] for name in tracked()} <= expected


def test_no_group_of_a_regular_expression_is_possessive() -> None:
    """Before Python 3.11.5 (Debian 12 has 3.11.2) such a group may match less than it can: write ``(?>(?:x)*)``."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "gateway").rglob("*.py"))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"\br[bf]?['\"].*[^\\(]\)[*+?]\+", line)
    ]
    assert found == []
