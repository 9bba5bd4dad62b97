"""``gateway publish``, ``gateway drain`` and ``gateway undrain``: the gateway in a directory."""

import asyncio
import os
import time
from functools import partial
from pathlib import Path

import click

from gateway.cli.loading import configured_alone, fail
from gateway.config import Config, ConfigError, load
from gateway.fleet.directories.zookeeper.client import Lost, Refused
from gateway.telemetry import log

_SECONDS = 5.0  # that a gateway has to take note of being drained


@click.command()
@configured_alone
@click.option(
    "--ready",
    metavar="URL",
    help="Where to ask whether the gateway is ready; by default /readyz at the first address of server.bind. unix:/path"
    " is a Unix socket.",
)
def publish(file: Path | None, settings: tuple[str, ...], ready: str | None) -> None:
    """Publish a gateway that another server runs, like uWSGI.

    It runs in the foreground until SIGINT or SIGTERM, asks /readyz each second, and lists the gateway while that is
    200. "gateway serve" publishes itself, and does not need it.
    """
    from gateway.process.publishing import is_ready, publication_of, serve  # noqa: PLC0415 - for this command alone

    config = _configuration(file, settings)
    log.configure(config.log.level, config.log.format)
    first = config.server.bind[0]
    scheme = "https" if config.tls.certificate else "http"
    url = ready or (first if first.startswith("unix:") else f"{scheme}://{_reached(first)}/readyz")
    try:
        serve(config, publication_of(config, first, time.time()), partial(is_ready, url))
    except ConfigError as error:
        fail(error.problems)


def _reached(address: str) -> str:
    """Return the address at which this machine reaches what listens on all addresses."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("", "0.0.0.0", "[::]") else address  # noqa: S104 - what is looked for


@click.command()
@configured_alone
@click.argument("address", required=False)
def drain(file: Path | None, settings: tuple[str, ...], address: str | None) -> None:
    """Have a published gateway take no new calls.

    It stays listed with a weight of 0, also after a restart, until "gateway undrain". ADDRESS is host:port, as it is
    listed; by default that of publish.address.
    """
    _drain(file, settings, address, drained=True)


@click.command()
@configured_alone
@click.argument("address", required=False)
def undrain(file: Path | None, settings: tuple[str, ...], address: str | None) -> None:
    """Have a published gateway take new calls again.

    ADDRESS is host:port, as it is listed; by default that of publish.address.
    """
    _drain(file, settings, address, drained=False)


def _drain(file: Path | None, settings: tuple[str, ...], address: str | None, *, drained: bool) -> None:
    from gateway.fleet.directories.zookeeper import publishing  # noqa: PLC0415 - for these commands alone
    from gateway.process.publishing import publication_of, session_of  # noqa: PLC0415 - likewise

    given = (f"publish.address={address}",) if address else ()
    config = _configuration(file, (*settings, *given))
    publication = publication_of(config, config.server.bind[0], 0.0)

    async def main() -> str:
        client, root = session_of(config)
        try:
            return await publishing.drain(client, root, publication, drained=drained, seconds=_SECONDS)
        finally:
            await client.close()

    try:
        problem = asyncio.run(main())
    except ConfigError as error:
        fail(error.problems)
    except (Lost, Refused) as error:
        fail([f"directories.{config.publish.directory}: {error}"])
    if problem:
        fail([f"{publication.address} is marked, but {problem}"])
    click.echo(f"gateway: {publication.address} takes {'no new calls' if drained else 'calls again'}")


def _configuration(file: Path | None, settings: tuple[str, ...]) -> Config:
    try:
        config = load(file, os.environ, settings)
    except ConfigError as error:
        fail(error.problems)
    if not config.publish.directory:
        fail(["publish.directory is not set, so it is not known where the gateway is published"])
    return config
