"""Which configuration a gateway has read, and that it says so: no start from another folder loses the access rules."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.config import Config, load
from gateway.config.access import Access, Rule
from gateway.config.beside import load_for_program
from gateway.config.described import callers, described
from gateway.config.server import ServerSection
from gateway.process.server import serve
from tests.cli.running import environment, run, serving
from tests.raw_http import post

pytestmark = pytest.mark.unmeasured

PROGRAM = """
from gateway import Config, Registry, serve

registry = Registry()


@registry.register
def one() -> int:
    return 1


serve(registry, "127.0.0.1:0"{})
"""
KEYS = f"[access]\nkeys = {{ odoo = 'sha256:{'0' * 64}' }}\n"
CALL = b'{"jsonrpc":"2.0","method":"one","id":1}'


@contextmanager
def started(folder: Path, *command: str) -> Iterator[tuple[int, str]]:
    """Run a program in a folder until it is ready, and yield its port and the line of its configuration."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        ready, _, told = (process.stdout.readline() for _ in range(3))
        found = re.search(r"127\.0\.0\.1:(\d+)/", ready)
        assert found is not None, ready
        yield int(found[1]), told
    finally:
        process.terminate()
        process.communicate(timeout=20)


def status(port: int) -> int:
    return post(port, CALL).status


def with_conf(folder: Path, text: str = KEYS) -> Path:
    (folder / "conf").mkdir(parents=True)
    (folder / "conf" / "gateway.toml").write_text(text)
    return folder


@pytest.mark.parametrize("place", [".", "package", "package/inner"])
def test_the_file_is_found_beside_a_program_and_the_packages_that_it_is_in(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = with_conf(tmp_path / "project")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder = project / place
    folder.mkdir(parents=True, exist_ok=True)
    while folder != project:
        (folder / "__init__.py").touch()
        folder = folder.parent
    program: dict[str, Any] = {"__file__": str(project / place / "program.py")}
    exec("def main(serve):\n    return serve()", program)  # noqa: S102 - a program in another file
    assert program["main"](lambda: load_for_program(None, {})).file == project / "conf" / "gateway.toml"


def test_a_program_that_is_started_elsewhere_keeps_its_access_rules(tmp_path: Path) -> None:
    project, elsewhere = with_conf(tmp_path / "project"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (project / "program.py").write_text(PROGRAM.format(""))
    with started(elsewhere, str(project / "program.py")) as (port, told):
        assert status(port) == 401
    assert told == (
        f"gateway: configuration: {project}/conf/gateway.toml;"
        " who may call: everybody who can reach it and has an API key\n"
    )


def test_the_program_s_own_file_comes_before_that_of_the_current_folder(tmp_path: Path) -> None:
    project, elsewhere = with_conf(tmp_path / "project"), with_conf(tmp_path / "elsewhere", "")
    (project / "program.py").write_text(PROGRAM.format(""))
    (tmp_path / "program.py").write_text(PROGRAM.format(""))
    with started(elsewhere, str(project / "program.py")) as (port, told):
        assert status(port) == 401
    with started(elsewhere, str(tmp_path / "program.py")) as (port, told):
        assert status(port) == 200
    assert told.startswith("gateway: configuration: conf/gateway.toml;")


@pytest.mark.parametrize(
    ("given", "origin"),
    [(', config="other.toml"', "other.toml"), (", config=Config()", "no file (conf/gateway.toml does not exist)")],
)
def test_a_program_names_its_configuration(given: str, origin: str, tmp_path: Path) -> None:
    with_conf(tmp_path)
    (tmp_path / "other.toml").write_text("")
    (tmp_path / "program.py").write_text(PROGRAM.format(given))
    with started(tmp_path, "program.py") as (port, told):
        assert status(port) == 200
    assert told == f"gateway: configuration: {origin}; who may call: everybody who can reach it\n"


def test_an_endpoint_takes_a_file_or_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "some.toml").write_text("[server]\npaths = ['/x']")
    registry = gateway.Registry()
    assert gateway.endpoint(registry, config=tmp_path / "some.toml").paths == ("/x",)
    assert gateway.endpoint(registry, config=str(tmp_path / "some.toml")).paths == ("/x",)
    assert gateway.endpoint(registry, config=Config(server=ServerSection(paths=("/y",)))).paths == ("/y",)
    with pytest.raises(gateway.ConfigError, match="it cannot be read"):
        gateway.endpoint(registry, config=tmp_path / "none.toml")


def test_what_is_wrong_with_a_given_configuration_is_reported() -> None:
    with pytest.raises(gateway.ConfigError, match=r"server\.bind: expected host:port"):
        serve(gateway.Registry(), "nowhere", config=Config())
    config = Config(access=Access(rules=(Rule(methods=("*",), keys=("x",)),)))
    with pytest.raises(gateway.ConfigError, match=r"there is no key 'x' in access\.keys"):
        gateway.endpoint(gateway.Registry(), config=config)


def test_the_command_says_what_it_has_read(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text("from gateway import method\n\n\n@method\ndef one() -> int:\n    return 1\n")
    with_conf(tmp_path)
    told = "gateway: configuration: conf/gateway.toml; who may call: everybody who can reach it and has an API key\n"
    assert run(tmp_path, "check", "some").out.startswith(told)
    with serving(tmp_path, "some", "--set", "metrics.bind=") as running:
        assert running.process.stdout is not None
        assert running.process.stdout.readline() == told


@pytest.mark.parametrize(
    ("settings", "who"),
    [
        ((), "everybody who can reach it"),
        (("access.allow=10.0.0.0/8,::1",), "everybody who can reach it, from 10.0.0.0/8, ::1/128"),
        ((f'access.keys={{"a": "sha256:{"0" * 64}"}}', "access.anonymous=true"), "everybody who can reach it"),
        (('access.rules=[{"methods": ["*"]}]',), "everybody who can reach it; 1 rule for methods"),
        (
            ("tls.client_ca=a", "tls.certificate=b", "tls.key=c", f'access.keys={{"a": "sha256:{"0" * 64}"}}'),
            "clients with a certificate, with an API key",
        ),
    ],
)
def test_who_may_call(settings: tuple[str, ...], who: str) -> None:
    assert callers(load(None, {}, settings)) == who


def test_what_public_functions_return_and_raise_comes_from_the_package(tmp_path: Path) -> None:
    registry = gateway.Registry()
    assert isinstance(gateway.endpoint(registry, config=Config()), gateway.Endpoint)
    with pytest.raises(gateway.LoadError):
        gateway.endpoint("no_such_module", config=Config())
    program = (
        PROGRAM.replace("serve(", "try:\n    serve(", 1)
        .format(", config=Config()")
        .replace("127.0.0.1:0", "192.0.2.1:1")
    )
    caught = f"import gateway\n{program}except gateway.StartupError as error:\n    print(error)\n"
    (tmp_path / "program.py").write_text(caught)
    ended = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("cannot listen on 192.0.2.1:1")
    assert "configuration: " in described(Config())
