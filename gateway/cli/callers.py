"""``gateway callers``: who still calls a method."""

import os
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import click

from gateway.cli.listing import print_table
from gateway.cli.loading import configured_alone, fail
from gateway.config import ConfigError, load
from gateway.telemetry.callers import Row, read


@click.command()
@click.argument("method")
@configured_alone
def callers(method: str, file: Path | None, settings: tuple[str, ...]) -> None:
    """Show who has called METHOD: by key, certificate or address.

    METHOD is a name or a pattern with * and ?: the name that was called, or that of the version which has served it.
    The counts are those of server.callers, and a few seconds old. The last caller comes first.
    """
    try:
        config = load(file, os.environ, settings)
    except ConfigError as error:
        fail(error.problems)
    if not config.server.callers:
        fail(["server.callers is not set, so nobody is counted: name a folder, and reload"])
    tally = read(Path(config.server.callers))
    if tally is None:
        fail([f"server.callers: nothing was counted in {config.server.callers} yet; does the gateway run with it?"])
    found = [row for row in tally.rows if fnmatchcase(row.method, method) or fnmatchcase(row.called, method)]
    if not found:
        click.echo(f"gateway: nobody has called {method} since {_minute(tally.since)}")
        return
    rows = sorted(found, key=lambda row: row.last, reverse=True)
    print_table([("CALLED", "SERVED BY", "CALLER", "CALLS", "LAST CALL"), *map(_shown, rows)])
    click.echo(f"\ncounted since {_minute(tally.since)}")


def _shown(row: Row) -> tuple[str, ...]:
    caller = ascii(f"{row.kind} {row.name}".rstrip())[1:-1]  # a name may come from a certificate
    return row.called or row.method, row.method, caller, str(row.calls), _minute(row.last)


def _minute(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%MZ}"
