"""What shells complete: bash is typed into, zsh and fish, where they are not installed, by what their scripts ask."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway import Registry
from gateway.cli import main
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


class Bash:
    """A bash at a terminal, into which lines are typed."""

    def __init__(self, folder: Path) -> None:
        self._said = ""
        self._terminal, inner = pty.openpty()
        own = {"PS1": "> ", "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb", "COLUMNS": "1000"}
        self._process = subprocess.Popen(
            ["/bin/bash", "--norc", "--noprofile", "-i"],
            cwd=folder,
            env=os.environ | own,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self._write("""eval "$(_GATEWAY_COMPLETE=bash_source gateway)"; echo is" ready"\n""")
        self._until("(is ready)\r\n")

    def completed(self, line: str) -> str:
        """Type a line and a tab, and return what the line then is."""
        # The cursor goes to the beginning of the line and to its end, so that the line is printed and not run.
        self._write(f"{line}\t\x01printf '<%s>\\n' \"\x05\"\n")
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


def test_bash_completes(project: Path) -> None:
    with serving(registry) as server:
        expected = {
            f"gateway call {server.url} inventory.c": f"gateway call {server.url} inventory.count ",
            "gateway call http://127.0.0.1:1/api h": "gateway call http://127.0.0.1:1/api here",
            "gateway serve handlers.m": "gateway serve handlers.more ",
            "gateway serve --set=limits.max_bod": "gateway serve --set=limits.max_body=",
            "gateway check --set upstreams.books.ur": "gateway check --set upstreams.books.url=",
        }
        with closing(Bash(project)) as bash:
            assert {line: bash.completed(line) for line in expected} == expected


@pytest.mark.parametrize(
    ("shell", "shown"), [("zsh", "plain\ninventory.count\n_\n"), ("fish", "plain,inventory.count\n")]
)
def test_other_shells_are_told(shell: str, shown: str) -> None:
    script = CliRunner().invoke(main, env={"_GATEWAY_COMPLETE": f"{shell}_source"}, prog_name="gateway")
    assert f"_GATEWAY_COMPLETE={shell}_complete" in script.output
    with serving(registry) as server:
        words = f"gateway call {server.url} inventory.c"
        asked = {"COMP_WORDS": words, "COMP_CWORD": "3" if shell == "zsh" else "inventory.c"}
        completing = {"_GATEWAY_COMPLETE": f"{shell}_complete", **asked}
        assert CliRunner().invoke(main, env=completing, prog_name="gateway").output == shown


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
