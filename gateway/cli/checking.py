"""``gateway check`` and ``gateway reload``: both report everything that is wrong before anything is changed."""

import os
import signal
import sys
from pathlib import Path

import click

from gateway import app
from gateway.app import mounted
from gateway.cli.changing import changes, put_back, served
from gateway.cli.checks import Finding, findings
from gateway.cli.loading import MODULE_HELP, configured, counted, fail
from gateway.config import Config, ConfigError, load
from gateway.config.described import described
from gateway.methods import Registry
from gateway.methods.loading import LoadError
from gateway.process import tls
from gateway.process.state import signatures, state_of


@click.command(epilog=MODULE_HELP)
@configured
def check(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Report everything that is wrong with configuration and methods.

    Errors have exit code 1. Warnings are about what may be meant as it is. docs/checks.md has all of them. Upstreams
    are not connected to; "gateway upstreams" does that.
    """
    gateway, warnings = _checked(modules, file, settings)
    told = f" and {counted(len(gateway.upstreams), 'upstream')}" if gateway.upstreams else ""
    warned = f", {counted(warnings, 'warning')}" if warnings else ""
    click.echo(f"gateway: {described(gateway.config)}")
    click.echo(f"gateway: no errors{warned}: {counted(len(gateway.offered()), 'method')}{told}")


@click.command("reload", epilog=MODULE_HELP)
@configured
@click.option("--diff", is_flag=True, help="Only show what would change: options, and methods with their signatures.")
def reload_(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...], diff: bool) -> None:
    """Make a running gateway read configuration and methods again.

    They are checked first, as the command check does it. The process is the one in server.pid_file.
    """
    gateway = _checked(modules, file, settings)[0]
    if diff:
        before = served(gateway.config.server.pid_file)
        after = state_of(gateway.config, "", signatures(gateway.offered()))
        click.echo("\n".join(changes(before, after)) or "gateway: nothing would change")
        return
    _reload(gateway.config)


@click.command(epilog=MODULE_HELP)
@configured
def rollback(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Go back to the configuration file of before the last reload.

    What is in the file now is kept beside it, as NAME.rolled-back. The gateway then reads everything again, as the
    command reload does it. The environment, the command line and the code of methods stay as they are.
    """
    try:
        config = load(file, os.environ, settings)
    except ConfigError as error:  # it may be what is to be taken back
        config = error.config
    put_back(config.server.pid_file)
    _reload(_checked(modules, file, settings)[0].config)


def _reload(config: Config) -> None:
    if not config.server.pid_file:
        fail(["server.pid_file is not set, so the process is not known: send it SIGHUP, or set the option and restart"])
    try:
        process = int(Path(config.server.pid_file).read_text("ascii"))
        os.kill(process, signal.SIGHUP)
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or "it holds no process id").lower()
        fail([f"{config.server.pid_file}: {reason}; is the gateway running?"])
    click.echo(f"gateway: process {process} reads configuration and methods again; its log has the result")


def _checked(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> tuple[app.Gateway, int]:
    """Put everything together but sockets, and report everything that is wrong with it.

    Returns:
        the gateway, and how many warnings there were; an error ends the command.

    """
    found: list[Finding] = []
    registry = Registry()
    try:
        config = load(file, os.environ, settings)
    except ConfigError as error:
        config = error.config
        found += [Finding("configuration", problem) for problem in error.problems]
    try:
        tls.load(config.tls)
    except ConfigError as error:
        found += [Finding("certificates", problem) for problem in error.problems]
    try:
        if modules or config.server.modules or not found:  # with a broken upstream, it may be all that is served
            registry = mounted.registry_of(config, modules)
    except LoadError as error:
        found += [Finding("methods", problem) for problem in error.problems]
    try:
        gateway = app.build(config, registry)
    except (ConfigError, LoadError) as error:
        found += [
            Finding("upstreams" if problem.startswith("upstreams.") else "configuration", problem)
            for problem in error.problems
        ]
    if not found:
        found += findings(gateway, modules or config.server.modules)
    for finding in sorted(found, key=lambda finding: finding.level):
        click.echo(f"gateway: {finding}", err=True)
    if any(finding.level == "error" for finding in found):
        sys.exit(1)
    return gateway, len(found)
