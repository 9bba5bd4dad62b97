"""``gateway new``: a small project to begin with."""

from pathlib import Path

import click

from gateway.cli.loading import fail

_FILES = {
    "handlers/__init__.py": '"""The methods: gateway serve takes those of all modules in this package."""\n',
    "handlers/greeting.py": '''\
"""A method to begin with."""

from gateway import Fault, method


@method
def hello(name: str, times: int = 1) -> str:
    """Greet somebody."""
    if times < 1:
        raise Fault(100, "greet at least once")
    return " ".join([f"Hello, {name}!"] * times)
''',
    "conf/gateway.toml": """\
# The gateway's own conf/gateway.toml has every option with its default. "gateway check" reports mistakes.

[server]
bind = "127.0.0.1:8000"

[limits]
timeout = 30  # seconds that a call may take
""",
    "tests/test_greeting.py": '''\
"""The fixture rpc calls the methods of the package handlers, through everything but sockets."""

import pytest

from gateway import Fault, InvalidParams


def test_a_greeting(rpc):
    assert rpc.hello("Ada") == "Hello, Ada!"
    assert rpc.hello(name="Ada", times=2) == "Hello, Ada! Hello, Ada!"


def test_a_fault(rpc):
    with pytest.raises(Fault, match="at least once"):
        rpc.hello("Ada", 0)


def test_a_wrong_type(rpc):
    with pytest.raises(InvalidParams):
        rpc.hello("Ada", "twice")
''',
    "README.md": """\
# PROJECT

Methods for XML-RPC and JSON-RPC 2.0, in `handlers/`.

    gateway serve --reload                 # serves them, and reads them again at each change
    gateway call http://127.0.0.1:8000/api hello Ada
    gateway check                          # reports mistakes in methods and configuration
    python -m pytest                       # runs the tests; it needs pytest

The configuration is `conf/gateway.toml`.
""",
}


@click.command("new")
@click.argument("path", type=click.Path(path_type=Path))
def new(path: Path) -> None:
    """Write a small project into the folder PATH.

    It has a method, a configuration, tests and a README. No file is overwritten.
    """
    taken = [name for name in _FILES if (path / name).exists()]
    if taken:
        fail([f"{path / taken[0]} exists already: choose another folder"])
    try:
        for name, text in _FILES.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(text.replace("PROJECT", path.resolve().name), "utf-8")
    except OSError as error:
        fail([f"{error.filename}: {str(error.strerror).lower()}"])
    click.echo(f"gateway: {path} has {len(_FILES)} files. To begin:\n  cd {path}\n  gateway serve --reload")
