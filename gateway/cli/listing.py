"""``gateway methods`` and ``gateway upstreams``: tables of what is served, and of where it comes from."""

import asyncio
import reprlib
import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.app import measured
from gateway.cli.loading import MODULE_HELP, configured, load_gateway
from gateway.fleet.listing import DirectoryStatus
from gateway.methods import Method
from gateway.telemetry import log
from gateway.upstreams.instances import Instances


@click.command(epilog=MODULE_HELP)
@configured
@click.option("--json", "as_json", is_flag=True, help="Print the OpenRPC document instead of a table.")
def methods(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """List the methods that would be served, with their parameters.

    Upstreams whose methods are not known from the configuration are asked for them.
    """
    gateway = load_gateway(modules, file, settings)
    log.configure("error", gateway.config.log.format)
    unknown = [upstream for upstream in gateway.upstreams if not upstream.is_described]
    asyncio.run(measured.survey(unknown, gateway.registry))
    for upstream in unknown:
        if upstream.status.error:
            click.echo(f"gateway: upstream {upstream.name}: {upstream.status.error}", err=True)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(gateway.describe()), indent=2).decode())
        return
    served = dict(gateway.registry.methods())
    others = [(name, served[by], f"versions: {by}") for name, by in gateway.versions.others() if by in served]
    listed = [*((name, found, found.place) for name, found in gateway.offered()), *others]
    print_table([(name, _parameters(found), found.run, place) for name, found, place in listed])


@click.command(epilog=MODULE_HELP)
@configured
@click.option("-v", "--verbose", is_flag=True, help="List the methods of each upstream, too.")
def upstreams(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...], verbose: bool) -> None:
    """Connect to each upstream, and show its state.

    Each upstream is asked once for its methods. The exit code is 1 if one of them is not up.
    """
    gateway = load_gateway(modules, file, settings)
    log.configure("error", gateway.config.log.format)  # the table has what is wrong
    asyncio.run(measured.survey(gateway.upstreams, gateway.registry))
    rows = [
        (upstream.name, upstream.address, upstream.status.state, str(upstream.status.methods), upstream.status.error)
        for upstream in gateway.upstreams
    ]
    print_table([("NAME", "ADDRESS", "STATE", "METHODS", "LAST ERROR"), *rows])
    for upstream in gateway.upstreams:
        if upstream.instances is not None:
            click.echo(f"\n{upstream.name}:{_age(upstream.instances.list_status)}")
            print_table([("  INSTANCE", "VERSION", "WEIGHT", "STATE", "LAST ERROR"), *_instances(upstream.instances)])
    for upstream in gateway.upstreams if verbose else ():
        click.echo(f"\n{upstream.name}:")
        print_table([(f"  {n}", _parameters(found)) for n, found in gateway.offered() if found.place == upstream.place])
    if any(upstream.status.state != "up" for upstream in gateway.upstreams):
        sys.exit(1)


def _instances(instances: Instances) -> list[tuple[str, ...]]:
    return [(f"  {each.address}", each.version, str(each.weight), each.state, each.error) for each in instances.rows()]


def _age(status: DirectoryStatus | None) -> str:
    """Say how old a directory's list is, and why it is not current."""
    if status is None:
        return ""
    if status.read is None:
        return f" there is no list: {status.error or 'the directory has not answered'}"
    age = f" the list is {time.monotonic() - status.read:.0f} s old"
    return f"{age}: {status.error}" if status.error else age


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Print rows in columns."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        *columns, last = row
        click.echo(
            "  ".join((*(text.ljust(width) for text, width in zip(columns, widths, strict=False)), last)).rstrip()
        )


def _parameters(method: Method) -> str:
    shown = [param.name if param.required else f"{param.name}={_default(param.default)}" for param in method.params]
    if method.rest is not None:
        shown.append("*")
    if method.others is not None:
        shown.append("**")
    return f"({', '.join(shown)})"


def _default(value: Any) -> str:
    return "..." if value is ... else " ".join(reprlib.repr(value).split())
