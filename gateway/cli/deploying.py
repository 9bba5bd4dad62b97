"""``gateway nginx``, ``gateway uwsgi`` and ``gateway key``: texts for other programs, and for those who call."""

import re
from pathlib import Path

import click

from gateway.cli.loading import MODULE_HELP, configured, fail, load_gateway
from gateway.config import ConfigError
from gateway.config.access import KEY_PREFIX
from gateway.config.sources import variable_of
from gateway.core.access import make_key
from gateway.deploy import uwsgi
from gateway.deploy.nginx import render, warnings


@click.command(epilog=MODULE_HELP)
@configured
def nginx(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Print the configuration of an nginx in front of the gateway.

    It waits for a response as long as the longest timeout of a method.
    """
    gateway = load_gateway(modules, file, settings)
    config, registry = gateway.config, gateway.registry
    longest = max([config.limits.timeout, *(found.options.timeout or 0.0 for _, found in registry.methods())])
    try:
        text = render(config, longest)
    except ConfigError as error:
        fail(error.problems)
    for warning in warnings(config):
        click.echo(f"gateway: warning: {warning}", err=True)
    click.echo(text, nl=False)


@click.command("uwsgi", epilog=MODULE_HELP)
@configured
def uwsgi_(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Print a configuration for uWSGI.

    Its numbers are those of the gateway's own configuration; conf/uwsgi.ini was made from the defaults.
    """
    gateway = load_gateway(modules, file, settings)
    config, registry = gateway.config, gateway.registry
    named = {"GATEWAY_CONFIG": str(file.absolute())} if file else {}
    given = (*settings, *([f"server.modules={','.join(modules)}"] if modules else ()))
    named |= {variable_of(name.strip()): value.strip() for name, _, value in (text.partition("=") for text in given)}
    click.echo(uwsgi.render(config, registry, named), nl=False)


@click.command()
@click.argument("name")
def key(name: str) -> None:
    """Make an API key for the caller NAME.

    The key is printed with the line for the configuration, which has only its hash. The key itself is not stored.
    """
    if not re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII) or name.startswith(KEY_PREFIX):
        raise click.UsageError(
            f"{name!r} is not a name for a key: use letters, digits and ._-, at most 64 of them, and do not begin with"
            f" {KEY_PREFIX}"
        )
    made, stored = make_key()
    bare = f'"{name}"' if "." in name else name
    click.echo(f'{made}\n\n# in gateway.toml, under [access.keys]:\n{bare} = "{stored}"')
