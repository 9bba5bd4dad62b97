"""What shells complete: bash, zsh and fish are typed into."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from gateway import Registry
from tests.serving import serving

BIN = Path(sys.executable).parent
HANDLERS = """
from gateway import method


@method
def here() -> int:
    return 1


@method
def hereafter() -> int:
    return 2
"""

registry = Registry()


@registry.register(name="inventory.list")
def listed() -> int:
    return 1


@registry.register(name="inventory.count")
def counted() -> int:
    return 1


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "__init__.py").write_text(HANDLERS)
    (tmp_path / "handlers" / "more.py").touch()
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "gateway.toml").write_text('[upstreams.books]\nurl = "jsonrpc+tcp://127.0.0.1:9"\n')
    return tmp_path


SHELLS = {  # how each is started without anybody's own files, and what is typed first
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        'eval "$(_GATEWAY_COMPLETE=bash_source gateway)"',
    ),
    "zsh": (
        ["zsh", "--no-rcs", "-i"],
        'bindkey -e; autoload -U compinit; compinit -D -u; eval "$(_GATEWAY_COMPLETE=zsh_source gateway)"',
    ),
    "fish": (
        ["fish", "--no-config", "--private"],
        "set -g fish_autosuggestion_enabled 0; _GATEWAY_COMPLETE=fish_source gateway | source",
    ),
}


class Shell:
    """A shell at a terminal, into which lines are typed."""

    def __init__(self, name: str, folder: Path) -> None:
        self._said = ""
        self._terminal, inner = pty.openpty()
        command, first = SHELLS[name]
        program, setsid = shutil.which(command[0]), shutil.which("setsid")
        assert program, f"{name} is needed: install the package {name}"
        assert setsid, "setsid is needed: install the package util-linux"
        own = {
            "PS1": "> ",
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "TERM": "dumb",
            "COLUMNS": "1000",
            "HOME": str(folder),
        }
        self._process = subprocess.Popen(
            [setsid, "--ctty", program, *command[1:]],  # fish wants a terminal of its own
            cwd=folder,
            env=os.environ | own,
            stdin=inner,
            stdout=inner,
            stderr=inner,
        )
        os.close(inner)
        self._write(f"""{first}; echo is" ready"\n""")
        self._until("(is ready)\r\n")

    def completed(self, line: str, more: str = "") -> str:
        """Type a line, a tab, and what follows, and return what the line then is."""
        # The cursor goes to the beginning of the line and to its end, so that the line is printed and not run.
        self._write(f"{line}\t{more}\x01printf '<%s>\\n' \"\x05\"\n")
        return self._until("<(gateway [^<>]*)>\r\n")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def _write(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _until(self, pattern: str) -> str:
        end = time.monotonic() + 60
        while not (found := re.search(pattern, self._said)):
            assert time.monotonic() < end, self._said
            if select.select([self._terminal], [], [], 0.1)[0]:
                self._said += os.read(self._terminal, 65536).decode()
        self._said = self._said[found.end() :]
        return found[1]


@pytest.mark.parametrize("name", SHELLS)
def test_a_shell_completes(name: str, project: Path) -> None:
    with serving(registry) as server:
        expected = {  # but for the space behind a whole word, which zsh takes back when something else is typed
            f"gateway call {server.url} inventory.c": f"gateway call {server.url} inventory.count ",
            "gateway call http://127.0.0.1:1/api h": "gateway call http://127.0.0.1:1/api here",
            "gateway serve handlers.m": "gateway serve handlers.more ",
            "gateway serve --set=limits.max_bod": "gateway serve --set=limits.max_body=",
            "gateway check --set upstreams.books.ur": "gateway check --set upstreams.books.url=",
            "gateway call --protocol=xm": "gateway call --protocol=xmlrpc ",
            "gateway serve --config=conf/g": "gateway serve --config=conf/gateway.toml ",
            "gateway stub": "gateway stubs ",
        }
        if name == "zsh":
            expected = {line: completed.rstrip(" ") for line, completed in expected.items()}
        with closing(Shell(name, project)) as shell:
            assert {line: shell.completed(line) for line in expected} == expected
            typed_on = shell.completed("gateway serve --set=limits.max_bod", "5")
            assert typed_on == "gateway serve --set=limits.max_body=5"


def test_a_broken_module_completes_nothing_and_says_nothing(project: Path) -> None:
    (project / "handlers" / "__init__.py").write_text('print("loud")\nraise SystemExit("broken")\n')
    asked = {"COMP_LINE": "gateway call http://127.0.0.1:1/api h", "COMP_CURRENT": "h"}
    ended = subprocess.run(
        [BIN / "gateway"],
        cwd=project,
        env=os.environ | asked | {"_GATEWAY_COMPLETE": "bash_complete"},
        capture_output=True,
        check=False,
    )
    assert (ended.stdout.strip(), ended.stderr) == (b"", b"")
