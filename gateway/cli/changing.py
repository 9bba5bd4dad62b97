"""``gateway rollback``, and what ``gateway reload --diff`` prints."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import msgspec

from gateway.cli.loading import fail
from gateway.process import state
from gateway.process.state import State

KEPT = ".rolled-back"


def changes(before: State, after: State) -> Iterator[str]:
    """Say what is different, a line each: options, then methods."""
    for option, old, new in _different(before.options, after.options):
        yield f"{option}: {old or 'default'} -> {new or 'default'}"
    for name, old, new in _different(before.methods, after.methods):
        if not old:
            yield f"+ {name}{new}"
        elif not new:
            yield f"- {name}{old}"
        else:
            yield f"  {name}{old} becomes {name}{new}"


def _different(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in (*before, *(name for name in after if name not in before)):
        old, new = before.get(name, ""), after.get(name, "")
        if old != new:
            yield name, old, new


def served(pid_file: str) -> State:
    """Return what a running gateway serves; a failure ends the command."""
    if not pid_file:
        fail(["server.pid_file is not set: what the gateway serves is written down beside it"])
    try:
        return state.read(pid_file)
    except (OSError, msgspec.MsgspecError):
        fail([f"{pid_file}: what is served is not written down beside it; is the gateway running?"])


def put_back(pid_file: str) -> Path:
    """Put the configuration file of before the last reload in its place, and return where it is.

    What is in the file now is kept beside it.
    """
    served(pid_file)
    try:
        before = state.read_before(pid_file)
    except (OSError, msgspec.MsgspecError):
        fail(["there is nothing to go back to: the gateway was not reloaded since it was started"])
    if before.file is None or not before.text:
        fail(["there is nothing to go back to: there was no configuration file before the last reload"])
    file = Path(before.file)
    try:
        mode = file.stat().st_mode & 0o777
        made = file.with_name(f"{file.name}.new")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as opened:  # noqa: PTH123 - it is a descriptor
            opened.write(before.text)
        made.chmod(mode)
        file.replace(file.with_name(file.name + KEPT))
        made.replace(file)
    except OSError as error:
        fail([f"{file}: {str(error.strerror).lower()}"])
    click.echo(f"gateway: {file} is what it was before the last reload; what it was now is {file.name}{KEPT}")
    return file
