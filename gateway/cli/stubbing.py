"""``gateway stubs``."""

from pathlib import Path
from typing import Any

import click

from gateway.cli.calling import client_of, of_a_server
from gateway.cli.loading import fail
from gateway.client import CallError
from gateway.client.described import described
from gateway.client.stubs import source
from gateway.model.faults import Fault


@click.command(context_settings={"help_option_names": ["--help"]})
@click.argument("url")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write, instead of standard output."
)
@click.option("--async", "is_async", is_flag=True, help="For an AsyncClient: the methods are awaited.")
@of_a_server
def stubs(url: str, output: Path | None, is_async: bool, protocol: str, headers: tuple[str, ...], **given: Any) -> None:
    """Write a Python module with the typed methods of a server.

    The methods are those that rpc.discover or system.listMethods of the server at URL names. The module has a class
    API, which takes a gateway.Client: API(Client(url)).inventory.list("fruit").
    """
    try:
        with client_of(url, protocol, headers, given) as client:
            written = source(described(client), client.url, client.protocol, is_async=is_async)
    except Fault as fault:
        fail([f"{url.rpartition('@')[2]} does not tell of its methods: fault {fault.code}: {fault.message}"])
    except (CallError, ValueError) as error:
        fail([str(error)])
    if output is None:
        click.echo(written, nl=False)
        return
    try:
        output.write_text(written, "utf-8")
    except OSError as error:
        fail([f"{output} cannot be written: {str(error.strerror or error).lower()}"])
