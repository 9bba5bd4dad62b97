"""What the commands share: their options, the gateway that these describe, and how a failure is reported."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import click

from gateway import app
from gateway.app import mounted
from gateway.cli.completing import of_modules, of_settings
from gateway.config import ConfigError, load
from gateway.methods.loading import LoadError

MODULE_HELP = (
    "A MODULE is a package (all modules in it), a package.module, or module:registry. Without one, the configured"
    " modules are served (server.modules): by default the package handlers in the current folder."
)
_MODULES = click.argument("modules", nargs=-1, metavar="[MODULE]...", shell_complete=of_modules)
_CONFIG = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration file. By default $GATEWAY_CONFIG, or else conf/gateway.toml if it exists.",
)
_SET = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=of_settings,
    help="Set an option of the configuration, for example limits.timeout=5. Can be repeated.",
)


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the arguments and options that choose a configuration and modules."""
    return _MODULES(_CONFIG(_SET(command)))


def configured_alone(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that choose a configuration."""
    return _CONFIG(_SET(command))


def load_gateway(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> app.Gateway:
    """Put a gateway together without its sockets; what is wrong is reported, and ends the command."""
    try:
        config = load(file, os.environ, settings)
        return app.build(config, mounted.registry_of(config, modules))
    except (ConfigError, LoadError) as error:
        fail(error.problems)


def fail(problems: Iterable[str]) -> NoReturn:
    """Report problems and end the command with exit code 1."""
    for problem in problems:
        click.echo(f"gateway: {problem}", err=True)
    sys.exit(1)


def counted(number: int, noun: str) -> str:
    """Return "1 method" or "2 methods"."""
    return f"{number} {noun}{'s'[: number != 1]}"
