"""The programs of docs/mounting.md: each is run as the page says, all at once, and answers as the page says."""

import random
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.hosts.test_flask import printed_by
from tests.serving import eventually
from tests.test_docs import PLAIN_CALL, called

pytestmark = pytest.mark.unmeasured

PAGE = (Path(__file__).parents[2] / "docs" / "mounting.md").read_text("utf-8")
BLOCK = re.compile(
    r"(?:<!-- (?P<kind>program|beside|examples)(?:: (?P<file>\S+))? -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```",
    re.DOTALL,
)
BLOCKS = list(BLOCK.finditer(PAGE))
FILES = {block["file"]: block["text"] for block in BLOCKS if block["file"]}
PROGRAMS = [block["file"] for block in BLOCKS if block["kind"] == "program"]
COMMON = next(block["text"] for block in BLOCKS if block["kind"] == "examples")
SHOWN = dict(
    zip(PROGRAMS, [block["text"] for block in BLOCKS if block["language"] == "text" and not block["kind"]], strict=True)
)


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Run all programs, each with a port of its own."""
    folder = tmp_path_factory.mktemp("shop")
    ports = {name: quiet_port() for name in PROGRAMS}
    bin_folder = Path(sys.executable).parent
    with ExitStack() as programs:
        for name, text in FILES.items():
            (folder / name).write_text(text.replace("8000", str(ports.get(name, 0))))
        for name, port in ports.items():
            command = SHOWN[name].split("$ ")[1].strip().replace("8000", str(port)).split()
            log = programs.enter_context((folder / f"{name}.log").open("wb"))
            process = programs.enter_context(
                subprocess.Popen([str(bin_folder / command[0]), *command[1:]], cwd=folder, stdout=log, stderr=log)
            )
            programs.callback(process.terminate)
        for name, port in ports.items():
            eventually(partial(is_up, port), f"{name} is up")
        yield ports


def quiet_port() -> int:
    """Return a port on which nobody listens, and which no connection gets until a program has started."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is no port")


def is_up(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_answers_as_the_page_says(name: str, ports: dict[str, int]) -> None:
    own = SHOWN[name].split("$ ")[2:]
    assert len(own) == 1
    for example in [*COMMON.split("$ ")[1:], *own]:
        typed, _, expected = example.partition("\n")
        port = str(ports[name])
        is_call = PLAIN_CALL.fullmatch(typed) is not None
        printed = called(typed, port) if is_call else printed_by(typed.replace("8000", port))
        assert printed == expected
