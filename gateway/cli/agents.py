"""``gateway mcp``: methods as tools of an agent on this machine, over standard input and output."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gateway.app import Gateway
from gateway.cli.calling import connecting, options_of
from gateway.cli.loading import MODULE_HELP, configured, fail, load_gateway
from gateway.client.core import Core
from gateway.client.loop import Looping
from gateway.core.hooks import LifespanError
from gateway.process.stdio import bridged, lines_of, relay, served
from gateway.telemetry import log


@click.command("mcp", epilog=MODULE_HELP)
@configured
@click.option(
    "--url", metavar="URL", help="A gateway elsewhere, like https://rpc.example.com/mcp: its tools are passed on."
)
@connecting
def mcp_(
    modules: tuple[str, ...],
    file: Path | None,
    settings: tuple[str, ...],
    url: str | None,
    headers: tuple[str, ...],
    **given: Any,
) -> None:
    """Offer methods as tools to an AI agent that starts this.

    It speaks the Model Context Protocol over standard input and output. The methods are those that mcp.expose names, of
    MODULEs and upstreams, in a process of its own; or, with --url, those of a gateway that runs. The log is written to
    standard error.
    """
    if url is None:
        if headers or given["ca"] is not None or given["insecure"]:
            raise click.UsageError("--header, --ca and --insecure need --url")
        gateway = load_gateway(modules, file, settings)
        if not gateway.config.mcp.expose:
            fail(["mcp.expose names no methods, so there is nothing to offer; for example, --set 'mcp.expose=*'"])
        log.configure(gateway.config.log.level, gateway.config.log.format)
        try:
            asyncio.run(_serve(gateway, given["key"], _only_output()))
        except LifespanError as error:
            fail(error.problems)
        return
    if modules or file is not None or settings:
        raise click.UsageError("--url has the tools of another gateway: give no MODULE, --config and --set with it")
    try:
        core = Core(url, options_of(url, "jsonrpc", headers, given), Looping())
    except ValueError as error:
        fail([str(error)])
    asyncio.run(_bridge(core, _only_output()))


def _only_output() -> Callable[[bytes], None]:
    """Take standard output for messages alone; whatever else is printed goes to standard error."""
    sys.stdout.flush()
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def write(message: bytes) -> None:
        output.write(message)
        output.flush()

    return write


async def _serve(gateway: Gateway, key: str | None, write: Callable[[bytes], None]) -> None:
    async with served(gateway, key) as post:
        await relay(lines_of(sys.stdin.buffer), write, post)


async def _bridge(core: Core, write: Callable[[bytes], None]) -> None:
    try:
        await relay(lines_of(sys.stdin.buffer), write, bridged(core))
    finally:
        await core.close()
