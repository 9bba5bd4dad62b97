"""``gateway serve``."""

import shlex
import sys
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit, urlunsplit

import click

from gateway.cli.checks import findings
from gateway.cli.loading import MODULE_HELP, configured, counted, fail
from gateway.config import Config, ConfigError
from gateway.config.access import Access
from gateway.config.described import described
from gateway.process.sockets import URLs


@click.command(epilog=MODULE_HELP)
@configured
@click.option(
    "--bind",
    metavar="HOST:PORT",
    multiple=True,
    help="The address to listen on, for example 127.0.0.1:8000; port 0 takes a free one. unix:/path is a Unix socket,"
    " fd:3 an inherited socket, systemd all sockets that systemd passes. Can be repeated.",
)
@click.option("--tcp", metavar="HOST:PORT", help="The address for JSON-RPC over plain TCP, without HTTP.")
@click.option(
    "--app",
    metavar="MODULE:APPLICATION",
    help="An application of Tornado that answers what is not a call, on the same addresses.",
)
@click.option("--workers", metavar="N", help="The number of processes that serve; auto starts one for each core.")
@click.option(
    "--reload",
    "reloads",
    is_flag=True,
    help="For development: read everything again when a file changes (extra reload).",
)
def serve(
    modules: tuple[str, ...],
    file: Path | None,
    settings: tuple[str, ...],
    bind: tuple[str, ...],
    *,
    reloads: bool,
    **given: str | None,
) -> None:
    """Serve MODULEs and upstreams until SIGINT or SIGTERM.

    SIGHUP, like the command reload, reads configuration and methods again without losing a call.
    """
    # Late, because the other commands do not need Tornado.
    from gateway.process.control import StartupError  # noqa: PLC0415
    from gateway.process.prefork import Source, serve_modules  # noqa: PLC0415

    settings += (f"server.bind={','.join(bind)}",) if bind else ()
    settings = (*settings, *(f"server.{name}={value}" for name, value in given.items() if value is not None))
    if reloads:
        _watch(modules, file, settings)
    try:
        serve_modules(
            Source(file=file, settings=settings, modules=modules),
            lambda urls, count, config: click.echo(f"{_ready(urls, count, config)}\ngateway: {described(config)}"),
            lambda gateway: [
                (found.level, found.check, found.text)
                for found in findings(gateway, modules or gateway.config.server.modules)
            ],
        )
    except (ConfigError, StartupError) as error:
        fail(error.problems)


def _watch(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> NoReturn:
    """Serve in a process below this one, which watches the current folder and that of the configuration."""
    try:
        from gateway.process.reloading import serve_and_watch  # noqa: PLC0415 - it needs an extra
    except ModuleNotFoundError as error:
        fail([f"--reload needs the package {error.name}: pip install '.[reload]' in the gateway's clone"])
    chosen = ("server.drain=0", *settings)  # callers are not to wait for a development to go on
    command = [sys.executable, "-m", "gateway", "serve", *(word for each in chosen for word in ("--set", each))]
    command += ["--config", str(file)] if file is not None else []
    folders = {Path.cwd(), *([file.resolve().parent] if file is not None else [])}
    sys.exit(
        serve_and_watch([*command, *modules], sorted(folders), lambda text: click.echo(f"gateway: {text}", err=True))
    )


def _ready(urls: URLs, methods: int, config: Config) -> str:
    told = " and ".join((urls.calls, *urls.others, *([urls.tcp] if urls.tcp else [])))
    metrics = "" if urls.metrics is None else f"\ngateway: metrics at {urls.metrics}"
    console = "" if urls.console is None else f"\ngateway: console at {urls.console}"
    ready = f"gateway: ready at {told} ({counted(methods, 'method')}). To call it:"
    agents = urls.calls.removesuffix(config.server.paths[0]) + config.mcp.path
    offered = f"\ngateway: agents (MCP) at {agents}" if config.mcp.expose else ""
    return f"{ready}\n{_examples(urls.calls, config.access)}{offered}{metrics}{console}"


def _examples(url: str, access: Access) -> str:
    """Show how to call the URL in each protocol, with what everybody has."""
    xml = "<methodCall><methodName>system.listMethods</methodName></methodCall>"
    json = '{"jsonrpc":"2.0","method":"system.listMethods","id":1}'
    called = url.replace("://", "://NAME:KEY@") if access.keys and not access.anonymous else url
    split = urlsplit(called)
    lines = []
    curl = "curl"
    if split.scheme.endswith("+unix"):  # the standard library's client has no way to call it
        curl += f" --unix-socket {shlex.quote(unquote(split.netloc.rpartition('@')[2]))}"
        called = urlunsplit(
            split._replace(scheme=split.scheme.removesuffix("+unix"), netloc=_on_localhost(split.netloc))
        )
    else:
        lines.append(
            f"""python3 -c "from xmlrpc.client import ServerProxy as S; print(S('{called}').system.listMethods())\""""
        )
    lines.append(f"{curl} -H 'Content-Type: text/xml' -d '{xml}' {called}")
    lines.append(f"{curl} -H 'Content-Type: application/json' -d '{json}' {called}")
    return "\n".join(f"  {line}" for line in lines)


def _on_localhost(place: str) -> str:
    user, at, _ = place.rpartition("@")
    return f"{user}{at}localhost"
