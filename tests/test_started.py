"""The pages for a first run, docs/start-*.md: each is a whole run in a folder of its own, and goes as the page says.

``<!-- file: NAME -->`` above a block makes it a file. The lines of a block below ``<!-- run: PORT -->`` are typed into
terminals of their own, and each goes on until the end of the page; what follows waits until the port is open. What is
behind ``$`` in a console block is typed, and prints the lines below it. Ports are whichever are free.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.serving import eventually, free_port
from tests.test_docs import PLAIN_CALL, called
from tests.test_mounted_programs import is_up

pytestmark = pytest.mark.unmeasured

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path.name for path in DOCS.glob("start-*.md"))
BLOCK = re.compile(
    r"(?:<!-- (?P<kind>file|run): (?P<about>\S+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL
)
PORT = re.compile(
    r"(?<=:)(?:8000|8001|8069|8443|50051)\b|(?<=--port )8000\b|(?<=\.listen\()8001\b|(?<=\(\(\"127\.0\.0\.1\", )8069\b"
)
EXAMPLE = re.compile(r"\$ (?P<typed>(?:.*\\\n)*.*)\n(?P<printed>(?:(?!\$ ).*\n)*)")
SHELL = ("/bin/bash", "-c")


@pytest.fixture
def programs() -> Iterator[ExitStack]:
    """Keep programs that go on, and end them in the end."""
    with ExitStack() as running:
        yield running


def end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(20)


def shell(command: str, folder: Path, environment: dict[str, str]) -> str:
    ran = subprocess.run(
        [*SHELL, command],
        cwd=folder,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return ran.stdout


@pytest.mark.parametrize("page", PAGES)
def test_the_run_goes_as_the_page_says(page: str, tmp_path: Path, programs: ExitStack) -> None:
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    environment = os.environ | {"PATH": f"{tmp_path}/.venv/bin:{os.defpath}:/usr/sbin", "PYTHONUNBUFFERED": "1"}
    ports = {"8000": str(free_port())}
    environment["GATEWAY_SERVER_BIND"] = f"127.0.0.1:{ports['8000']}"

    def elsewhere(text: str) -> str:
        return PORT.sub(lambda found: ports.setdefault(found[0], str(free_port())), text)

    examples = 0
    for block in BLOCK.finditer((DOCS / page).read_text("utf-8")):
        if block["kind"] == "file":
            file = tmp_path / block["about"]
            file.parent.mkdir(exist_ok=True)
            file.write_text(elsewhere(block["text"]))
        elif block["kind"] == "run":
            log = programs.enter_context((tmp_path / f"{block['about']}.log").open("wb"))
            for command in elsewhere(block["text"]).splitlines():
                process = subprocess.Popen(
                    [*SHELL, command], cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
                )
                programs.callback(end, process)
            port = int(elsewhere(f":{block['about']}").removeprefix(":"))
            eventually(partial(is_up, port), f"port {block['about']} is open", 60)
        elif block["language"] == "console":
            for example in EXAMPLE.finditer(block["text"]):
                typed = elsewhere(example["typed"])
                in_process = PLAIN_CALL.fullmatch(typed) is not None and "--ca" not in typed and examples > 0
                printed = called(typed, "8000") if in_process else shell(typed, tmp_path, environment)
                for written, free in ports.items():
                    printed = printed.replace(f":{free}", f":{written}")
                assert printed.rstrip("\n") == example["printed"].rstrip("\n"), example["typed"]
                examples += 1
    assert examples > 1


def test_all_pages_are_found() -> None:
    assert len(PAGES) == 6
