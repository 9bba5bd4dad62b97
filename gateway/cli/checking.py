"""``gateway check`` and ``gateway reload``: both report everything that is wrong before anything is changed."""

import os
import signal
from pathlib import Path

import click

from gateway import app
from gateway.cli.loading import MODULE_HELP, configured, counted, fail
from gateway.config import ConfigError, load
from gateway.config.described import described
from gateway.methods import Registry
from gateway.methods.loading import LoadError
from gateway.process import tls


@click.command(epilog=MODULE_HELP)
@configured
def check(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Report everything that is wrong with configuration and methods.

    Upstreams are not connected to; "gateway upstreams" does that.
    """
    gateway = _checked(modules, file, settings)
    told = f" and {counted(len(gateway.bridges), 'upstream')}" if gateway.bridges else ""
    click.echo(f"gateway: {described(gateway.config)}")
    click.echo(f"gateway: all is well: {counted(len(gateway.offered()), 'method')}{told}")


@click.command("reload", epilog=MODULE_HELP)
@configured
def reload_(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Make a running gateway read configuration and methods again.

    They are checked first, as the command check does it. The process is the one in server.pid_file.
    """
    config = _checked(modules, file, settings).config
    if not config.server.pid_file:
        fail(["server.pid_file is not set, so the process is not known: send it SIGHUP, or set the option and restart"])
    try:
        process = int(Path(config.server.pid_file).read_text("ascii"))
        os.kill(process, signal.SIGHUP)
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or "it holds no process id").lower()
        fail([f"{config.server.pid_file}: {reason}; is the gateway running?"])
    click.echo(f"gateway: process {process} reads configuration and methods again; its log has the result")


def _checked(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> app.Gateway:
    """Put everything together but sockets, and report everything that is wrong with it."""
    problems: list[str] = []
    registry = Registry()
    try:
        config = load(file, os.environ, settings)
    except ConfigError as error:
        config, problems = error.config, error.problems
    try:
        tls.load(config.tls)
    except ConfigError as error:
        problems += error.problems
    try:
        if modules or config.server.modules or not problems:  # with a broken upstream, it may be all that is served
            registry = app.registry_of(config, modules)
    except LoadError as error:
        problems += error.problems
    try:
        gateway = app.build(config, registry)
    except ConfigError as error:
        problems += error.problems
    if problems:
        fail(problems)
    return gateway
