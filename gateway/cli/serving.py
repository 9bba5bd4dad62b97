"""``gateway serve``."""

from pathlib import Path

import click

from gateway.cli.loading import MODULE_HELP, configured, counted, fail
from gateway.config import ConfigError
from gateway.config.access import Access
from gateway.config.described import described


@click.command(epilog=MODULE_HELP)
@configured
@click.option(
    "--bind", metavar="HOST:PORT", help="The address to listen on, for example 127.0.0.1:8000; port 0 takes a free one."
)
@click.option("--tcp", metavar="HOST:PORT", help="The address for JSON-RPC over plain TCP, without HTTP.")
@click.option("--workers", metavar="N", help="The number of processes that serve; auto starts one for each core.")
def serve(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...], **given: str | None) -> None:
    """Serve MODULEs and upstreams until SIGINT or SIGTERM.

    SIGHUP, like the command reload, reads configuration and methods again without losing a call.
    """
    # Late, because the other commands do not need Tornado.
    from gateway.process.control import StartupError  # noqa: PLC0415
    from gateway.process.prefork import Source, serve_modules  # noqa: PLC0415

    settings = (*settings, *(f"server.{name}={value}" for name, value in given.items() if value is not None))
    try:
        serve_modules(
            Source(file=file, settings=settings, modules=modules),
            lambda urls, count, config: click.echo(
                f"{_ready(urls.calls, urls.tcp, urls.metrics, count, config.access)}\ngateway: {described(config)}"
            ),
        )
    except (ConfigError, StartupError) as error:
        fail(error.problems)


def _ready(url: str, tcp: str | None, metrics_url: str | None, methods: int, access: Access) -> str:
    xml = "<methodCall><methodName>system.listMethods</methodName></methodCall>"
    json = '{"jsonrpc":"2.0","method":"system.listMethods","id":1}'
    called = url.replace("://", "://NAME:KEY@") if access.keys and not access.anonymous else url
    metrics = "" if metrics_url is None else f"\ngateway: metrics at {metrics_url}"
    return (
        f"gateway: ready at {url}{f' and {tcp}' if tcp else ''} ({counted(methods, 'method')}). To call it:\n"
        f"""  python3 -c "from xmlrpc.client import ServerProxy as S; print(S('{called}').system.listMethods())"\n"""
        f"  curl -H 'Content-Type: text/xml' -d '{xml}' {called}\n"
        f"  curl -H 'Content-Type: application/json' -d '{json}' {called}{metrics}"
    )
