"""The programs of docs/ that are applications of other frameworks: each is run, and answers, as its page says.

Below ``<!-- program: NAME -->`` is the program, and below that, in a block of text, what runs it and what is typed
then. All of them run at once.
"""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from msgspec import Struct

from tests.hosts.test_flask import printed_by
from tests.serving import eventually, free_port
from tests.test_docs import PLAIN_CALL, called

pytestmark = pytest.mark.unmeasured

PAGES = ("docs/mounting.md", "docs/migrating.md")
BLOCK = re.compile(
    r"(?:<!-- (?P<kind>program|beside|examples)(?:: (?P<file>\S+))? -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```",
    re.DOTALL,
)


class Shown(Struct, frozen=True):
    """What a page shows of a program: the command that runs it, and what is typed then, with what that prints."""

    command: str
    examples: list[str]


def read(page: str) -> tuple[dict[str, str], dict[str, Shown]]:
    """Return the files of a page, and its programs."""
    files: dict[str, str] = {}
    programs: dict[str, Shown] = {}
    common: list[str] = []
    program = ""
    for block in BLOCK.finditer((Path(__file__).parents[1] / page).read_text("utf-8")):
        kind, text = block["kind"], block["text"]
        if kind == "examples":
            common = text.split("$ ")[1:]
        elif block["file"]:
            files[block["file"]] = text
            program = block["file"] if kind == "program" else ""
        elif program and block["language"] == "text":
            command, *own = text.split("$ ")[1:]
            programs[program] = Shown(command.strip(), common + own)
            program = ""
    return files, programs


READ = [read(page) for page in PAGES]
FILES = {name: text for files, _ in READ for name, text in files.items()}
PROGRAMS = {name: shown for _, programs in READ for name, shown in programs.items()}


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Run all programs, each with a port of its own."""
    folder = tmp_path_factory.mktemp("shop")
    ports = {name: free_port() for name in PROGRAMS}
    bin_folder = Path(sys.executable).parent
    with ExitStack() as programs:
        for name, text in FILES.items():
            (folder / name).write_text(text.replace("8000", str(ports.get(name, 0))))
        for name, port in ports.items():
            command = PROGRAMS[name].command.replace("8000", str(port)).split()
            log = programs.enter_context((folder / f"{name}.log").open("wb"))
            process = programs.enter_context(
                subprocess.Popen([str(bin_folder / command[0]), *command[1:]], cwd=folder, stdout=log, stderr=log)
            )
            programs.callback(process.terminate)
        for name, port in ports.items():
            eventually(partial(is_up, port), f"{name} is up", 120)
        yield ports


def is_up(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_answers_as_the_page_says(name: str, ports: dict[str, int]) -> None:
    for example in PROGRAMS[name].examples:
        typed, _, expected = example.partition("\n")
        port = str(ports[name])
        is_call = PLAIN_CALL.fullmatch(typed) is not None
        printed = called(typed, port) if is_call else printed_by(typed.replace("8000", port))
        assert printed == expected


def test_all_programs_are_found() -> None:
    assert len(PROGRAMS) == 8 + 6 + 5
    assert all(len(shown.examples) > 1 for shown in PROGRAMS.values())
