"""What a type checker sees of the public face: mypy refuses a misspelt option, or one of the wrong type."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[2]
PROGRAM = """
from gateway import Registry, method

registry = Registry()

@method(name="a", aliases=("b",), timeout=5, concurrency=2, run="thread", deprecated="use b", protocols=("xmlrpc",))
def right(a: int) -> int:
    return a

@registry.register(name="c", protocols="jsonrpc", aliases=["d"])
def also_right(a: int) -> int:
    return a

registry.register(right, timeout=1.5)
number: int = right(1) + also_right(2) + registry.register(right)(3)

@method(nmae="a")  # error
def misspelt(a: int) -> int:
    return a

@method(timeout="5")  # error
def mistyped(a: int) -> int:
    return a

@registry.register(time_out=5)  # error
def registered(a: int) -> int:
    return a

registry.register(right, run="process")  # error
registry.namespace("n").register(right, alias="x")  # error
right("1")  # error
"""


def test_a_misspelt_option_fails_in_mypy(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(ROOT / ".mypy_cache/tests"), str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    expected = [number for number, line in enumerate(program.read_text().splitlines(), 1) if "# error" in line]
    found = {int(number) for number in re.findall(r"program\.py:(\d+): error", run.stdout)}
    assert sorted(found) == expected, run.stdout + run.stderr
