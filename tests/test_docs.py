"""The examples of README.md and docs/: each console block is typed into a shell, and prints what it says.

``$`` begins what is typed; the lines below are what is printed. ``<!-- file: NAME -->`` above a block makes it a file
of a project of its own, which the console blocks behind it then talk to; before the first one they talk to this
repository's handlers. The port 8000 is whichever one is free.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/migrating.md", "docs/methods.md", "docs/agents.md", "docs/deployment.md", "docs/record.md")
BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)
INSTALLED = re.compile(r"pip install +(?:(?:--constraint +\S+|--\S+) +)*('[^']+'|[^\s`]+)")
PLAIN_CALL = re.compile(r"(?:\.venv/bin/)?gateway call [^|;&>$`\\]+")  # what a shell would read as shlex does
NOT_TEXT = {".png", ".svg", ".pyc"}
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@contextmanager
def served(project: Path, command: list[str]) -> Iterator[str]:
    """Run a gateway in a folder, and yield its port."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        assert "ready at http://" in ready
        yield ready.partition("127.0.0.1:")[2].partition("/")[0]
    finally:
        process.terminate()
        process.communicate(timeout=15)


def typed(command: str, project: Path, port: str) -> str:
    """Type a command into a shell, and return what it prints."""
    shown = command.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    if project == ROOT:
        shown = shown.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    else:
        shown = f". .venv/bin/activate\n{shown}"
    run = subprocess.run(
        ["/bin/bash", "-c", shown],
        cwd=project,
        env=os.environ | {"PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return run.stdout + run.stderr


def called(command: str, port: str) -> str:
    """Run ``gateway call`` in this process, which is faster than a shell, and return what it prints."""
    _, *arguments = shlex.split(command.replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
    return CliRunner().invoke(main, arguments, catch_exceptions=False).output


def check_console(text: str, project: Path, port: str) -> None:
    """Type the examples of a block; only the first ``gateway call`` into a shell."""
    was_typed = False
    for example in text.split("$ ")[1:]:
        command, _, expected = example.partition("\n")
        is_call = PLAIN_CALL.fullmatch(command) is not None
        printed = called(command, port) if is_call and was_typed else typed(command, project, port)
        was_typed = was_typed or is_call
        assert printed.rstrip("\n") == expected.rstrip("\n")


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_do_what_they_say(page: str, tmp_path: Path) -> None:
    blocks = list(BLOCK.finditer((ROOT / page).read_text("utf-8")))
    assert any(block["kind"] == "console" for block in blocks)
    parts: list[tuple[Path, list[str], list[str]]] = [(ROOT, ["-m", "gateway", "serve", "--bind", "127.0.0.1:0"], [])]
    for number, block in enumerate(blocks):
        if block["file"]:
            project = tmp_path / str(number)
            (project / block["file"]).parent.mkdir(parents=True)
            (project / ".venv").symlink_to(Path(sys.executable).parents[1])
            (project / block["file"]).write_text(block["text"].replace("127.0.0.1:8000", "127.0.0.1:0"))
            is_program = "serve(" in block["text"]
            command = [block["file"]] if is_program else ["-m", "gateway", "serve", "--bind", "127.0.0.1:0"]
            parts.append((project, command, []))
        elif block["kind"] == "console":
            parts[-1][2].append(block["text"])
    for project, command, consoles in parts:
        if consoles:
            with served(project, command) as port:
                for console in consoles:
                    check_console(console, project, port)


def files() -> Iterator[Path]:
    """Yield the text files of this repository."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name[0] != "." and name not in ("build", "dist") and not name.endswith(".egg-info")
        ]
        yield from (Path(folder, name) for name in names if Path(name).suffix not in NOT_TEXT)


def test_no_file_says_to_install_another_name() -> None:
    """What is not published yet is installed from a clone: by its name it may be somebody else's program."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = "|".join(project["optional-dependencies"])
    clone = re.compile(
        rf"(?P<quote>['\"]?)(?:\.|path/to/clone)(?:\[(?:(?:{extras})(?:,(?:{extras}))*|{{extra}})\])?(?P=quote)"
    )
    assert project["name"] == "callgate"
    told = 0
    for file in files():
        text = file.read_text("utf-8", "replace")
        assert not re.search("(?<!g)rpc" + "-gateway", text), file
        for what in INSTALLED.findall(text.replace("\\", "")) if file != Path(__file__) else ():
            assert what == "-r" or clone.fullmatch(what), (file, what)
            told += 1
    assert told > 5


@pytest.mark.parametrize(
    "page",
    ["README.md", "benchmarks/README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))],
)
def test_the_links_lead_somewhere(page: str) -> None:
    for target in LINK.findall((ROOT / page).read_text("utf-8")):
        assert (ROOT / page).parent.joinpath(target).exists(), target
