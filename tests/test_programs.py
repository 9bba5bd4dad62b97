"""The programs of docs/: each block below ``<!-- program: NAME -->`` is run, and prints the next block of text.

The programs of a page are in one folder, in which they run one after the other. ``<!-- beside: NAME -->`` is a file
that they need.
"""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.certificates import Authority
from tests.conftest import Logged

ROOT = Path(__file__).parent.parent
PAGES = (
    "docs/calling.md",
    "docs/compat.md",
    "docs/embedding.md",
    "docs/hooks.md",
    "docs/testing.md",
)
BLOCK = re.compile(
    r"(?:<!-- (?P<kind>program|beside): (?P<file>\S+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL
)


@pytest.mark.parametrize("page", PAGES)
def test_the_programs_print_what_the_page_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], logged: Logged
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    if page == "docs/calling.md":
        _certify(tmp_path)
    programs = 0
    printed: str | None = None
    for block in BLOCK.finditer((ROOT / page).read_text("utf-8")):
        if block["file"]:
            file = tmp_path / block["file"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block["text"])
        if block["kind"] == "program":
            runpy.run_path(str(tmp_path / block["file"]), run_name="__main__")
            printed = capsys.readouterr().out
            programs += 1
        elif block["language"] == "text" and printed is not None:
            assert printed == block["text"]
            printed = None
    assert programs
    logged.take("the fake upstream is down")  # what docs/testing.md shows
    for name in [name for name, module in sys.modules.items() if _is_in(tmp_path, module)]:
        del sys.modules[name]  # another page has another module of this name


def _certify(folder: Path) -> None:
    """Make the certificates of a page."""
    authority = Authority(folder)
    for name in ("server", "client"):
        for made, suffix in zip(authority.issue(name), (".pem", ".key"), strict=True):
            made.rename(folder / f"{name}{suffix}")


@pytest.mark.processes
def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    files = {block["file"]: block["text"] for block in BLOCK.finditer((ROOT / "docs/testing.md").read_text("utf-8"))}
    for name in ("shop.py", "test_shop.py"):
        (tmp_path / name).write_text(files[name])
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=tmp_path, check=False, stdout=subprocess.PIPE, text=True
    )
    assert "3 passed" in ended.stdout


def _is_in(folder: Path, module: ModuleType) -> bool:
    return str(getattr(module, "__file__", None)).startswith(f"{folder}/")
