"""The house: who may import whom (docs/design.md), and nothing of the third parties where it does not belong."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GROUND = {"faults", "calls", "exchange", "limits", "values", "coding", "eager", "framing", "loops", "threads"}
GROUND |= {"networks", "rules", "edge", "sources", "generations"}
MIDDLE = {"codecs", "methods", "layers", "access", "rates", "log", "hosts", "config", "client", "metrics", "workers"}
MIDDLE |= {"upstreams"}
FLOW = {
    "bridges",
    "dispatch",
    "introspection",
    "answering",
    "service",
    "loading",
    "monitoring",
    "nginx",
    "tls",
    "uwsgi",
}
FLOW |= {"bridges", "sockets"}
WIRING = {"app", "server", "fleet", "wsgi", "cli", "__init__", "__main__"}
ACROSS = {  # the only ways between rooms of one floor
    "values": {"faults"},
    "calls": {"faults"},
    "coding": {"faults"},
    "exchange": {"limits"},
    "rules": {"calls", "networks"},
    "edge": {"networks"},
    "service": {"answering"},
    "config": {"upstreams"},  # the options of each scheme
    "upstreams": {"codecs"},  # XML-RPC and JSON-RPC as a client
    "server": {"app"},
    "fleet": {"app", "server"},
    "wsgi": {"app"},
    "__init__": {"app", "server"},
    "cli": {"app", "fleet"},
    "__main__": {"cli"},
}
THIRD_PARTIES = {
    "tornado": {"hosts"},
    "flask": {"hosts"},
    "uvloop": {"loops"},
    "click": {"cli"},
    "prometheus_client": {"metrics"},
    "httptools": {"upstreams"},
    "thriftpy2": {"upstreams"},
    "grpc": {"upstreams"},
    "google": {"upstreams"},
}
FLOORS = (GROUND, MIDDLE, FLOW, WIRING)


def modules() -> list[Path]:
    return sorted((ROOT / "gateway").rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "gateway").parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Return the full names of what a module imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms_imported(path: Path) -> set[str]:
    known = set().union(*FLOORS)
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("gateway.")}
    return (rooms & known) - {room_of(path)}


def floor_of(room: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if room in floor)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_from_below(path: Path) -> None:
    room = room_of(path)
    for other in rooms_imported(path):
        below = floor_of(other) < floor_of(room)
        assert below or other in ACROSS.get(room, set()), f"{room} imports {other}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_third_parties_stay_in_their_rooms(path: Path) -> None:
    for name in imports(path):
        for package, rooms in THIRD_PARTIES.items():
            assert name.split(".")[0] != package or room_of(path) in rooms, f"{path} imports {name}"


def test_hosts_know_only_the_exchange_and_the_limits() -> None:
    for path in (ROOT / "gateway" / "hosts").glob("*.py"):
        assert rooms_imported(path) <= {"exchange", "limits", "eager", "framing", "loops"}


def test_every_room_has_a_floor() -> None:
    assert {room_of(path) for path in modules()} == set().union(*FLOORS)


def test_the_gateway_never_imports_handlers() -> None:
    assert not any(name.split(".")[0] == "handlers" for path in modules() for name in imports(path))


def test_no_back_arrow_hides_behind_type_checking() -> None:
    assert not [path for path in modules() if "TYPE_CHECKING" in path.read_text("utf-8")]


def test_importing_the_gateway_loads_no_host() -> None:
    rim = {*THIRD_PARTIES, "google.protobuf"} - {"google"}  # a namespace, which others fill, too
    code = f"import sys, gateway; sys.exit(bool({rim} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_top_level_is_fixed() -> None:
    expected = {"gateway", "handlers", "conf", "tests", "benchmarks", "docs", ".ci", "pyproject.toml", "README.md"}
    expected |= {"CHANGELOG.md", "LICENSE", "Makefile", "constraints.txt", ".gitignore", "locustfile.py"}
    git = shutil.which("git")
    assert git is not None, "git is needed"
    tracked = subprocess.run([git, "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert {name.split("/")[0] for name in tracked.split("\n") if name} <= expected
