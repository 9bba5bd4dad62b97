"""``gateway new`` and ``gateway serve --reload``: from nothing to a project that serves what was written last."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.client import Client
from tests.cli.running import environment
from tests.serving import eventually

pytestmark = pytest.mark.usefixtures("project")
METHODS = "from gateway import method\n@method\ndef version() -> str:\n    return '{}'\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(main, arguments, catch_exceptions=False)
    return ended.exit_code, ended.output


def python(*arguments: str, folder: Path) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.stdout + ended.stderr


def test_a_new_project_is_checked_tested_and_described(project: Path) -> None:
    code, said = run("new", "shop")
    assert (code, said) == (0, "gateway: shop has 5 files. To begin:\n  cd shop\n  gateway serve --reload\n")
    folder = project / "shop"
    assert "hello" in python("-m", "gateway", "methods", folder=folder)
    pytest_run = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:callgate", "-p", "gateway.pytest_plugin")
    assert "3 passed" in python(*pytest_run, folder=folder)
    readme = (folder / "README.md").read_text()
    assert readme.startswith("# shop\n")
    assert len(readme.splitlines()) <= 10
    assert tomllib.loads((folder / "conf" / "gateway.toml").read_text())["limits"] == {"timeout": 30}


def test_nothing_is_overwritten(project: Path) -> None:
    (project / "README.md").write_text("mine")
    assert run("new", ".") == (1, "gateway: README.md exists already: choose another folder\n")
    assert not (project / "handlers").exists()
    (project / "file").touch()
    assert run("new", "file")[0] == 1


def typed(command: str, folder: Path) -> str:
    """Type a command of the page into a shell."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shown = command.replace("python -m pytest", "python -m pytest -p no:cacheprovider")
    ended = subprocess.run(
        ["/bin/bash", "-ec", shown],
        cwd=folder,
        env=environment({"PATH": path}),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return ended.stdout


def test_what_the_page_types_makes_a_project_that_is_served_and_tested(project: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "developing.md").read_text()
    begun, others = (
        block.splitlines() for block in re.findall(r"<!-- typed: [a-z ]+ -->\n```sh\n(.*?)```", page, re.DOTALL)
    )
    assert begun == ["gateway new shop", "cd shop", "gateway serve --reload"]
    typed(begun[0], project)
    for command in (begun[2], *others):
        assert command in (project / "shop" / "README.md").read_text()
    with reloading(project / "shop") as watched:
        shown = [command.replace("http://127.0.0.1:8000/api", watched.url()) for command in others]
        said = [typed(command, project / "shop") for command in shown]
    assert said[0] == "Hello, Ada!\n"
    assert "no errors" in said[1]
    assert "3 passed" in said[2]


class Watched:
    """A gateway that reloads."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def url(self) -> str:
        eventually(lambda: "ready at" in self.log, "it does not start")
        found = re.search(r"ready at (\S+)", self.log)
        assert found is not None
        return found[1]

    def serves(self, version: str, client: Client) -> None:
        eventually(lambda: client.version() == version, f"{version} is not served: {self.log}")


@contextmanager
def reloading(folder: Path) -> Iterator[Watched]:
    command = [sys.executable, "-m", "gateway", "serve", "--reload", "--bind", "127.0.0.1:0", "--set", "metrics.bind="]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=environment({}), stdout=log, stderr=log) as process,
    ):
        try:
            yield Watched(process, folder / "log")
        finally:
            process.terminate()
            process.wait(30)


def write(folder: Path, text: str) -> None:
    (folder / "handlers").mkdir(exist_ok=True)
    (folder / "handlers" / "__init__.py").touch()
    (folder / "handlers" / "some.py").write_text(text)


def test_changes_are_served_at_once_and_a_mistake_ends_nothing(project: Path) -> None:
    write(project, METHODS.format("one"))
    with reloading(project) as watched, Client(watched.url(), idempotent=True) as client:
        watched.serves("one", client)
        write(project, METHODS.format("two"))
        watched.serves("two", client)
        write(project, "import nowhere\n")
        eventually(lambda: "No module named 'nowhere'" in watched.log, "the mistake is not shown")
        assert "not reloaded, nothing has changed" in watched.log
        watched.serves("two", client)
        write(project, METHODS.format("tri"))
        watched.serves("tri", client)
        watched.process.terminate()
        assert watched.process.wait(30) == 0


@pytest.mark.processes
def test_what_cannot_start_is_started_when_it_is_mended(project: Path) -> None:
    write(project, "import nowhere\n")
    with reloading(project) as watched:
        eventually(lambda: "gateway: waiting for a change of a file" in watched.log, "it does not wait")
        assert "No module named 'nowhere'" in watched.log
        write(project, METHODS.format("one"))
        with Client(watched.url()) as client:
            watched.serves("one", client)
        watched.process.terminate()
        assert watched.process.wait(30) == 0


def test_without_the_extra_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    monkeypatch.delitem(sys.modules, "gateway.process.reloading", raising=False)
    code, said = run("serve", "--reload")
    assert (code, said) == (
        1,
        "gateway: --reload needs the package watchfiles: pip install '.[reload]' in the gateway's clone\n",
    )
