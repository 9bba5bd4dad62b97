"""The ``gateway`` command.

Exit codes: 0 done; 1 what was asked for failed (a fault, a problem, a port in use); 2 the command line is wrong.
"""

import asyncio
import os
import reprlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from gateway import app, client, log
from gateway.config import Config, ConfigError, load
from gateway.loading import LoadError, load_registry
from gateway.methods import RESERVED, Method, Registry

_MODULE_HELP = (
    "A MODULE is a package (all modules in it), a package.module, or module:registry. Without one, the configured ones"
    " (server.modules) are taken: the package handlers of the current folder."
)
_MODULES = click.argument("modules", nargs=-1, metavar="[MODULE]...")
_CONFIG = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration; without it $GATEWAY_CONFIG, or conf/gateway.toml if there is one.",
)
_SET = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set an option of the configuration, like limits.timeout=5; as often as needed.",
)


def _configured(command: Callable[..., Any]) -> Callable[..., Any]:
    return _MODULES(_CONFIG(_SET(command)))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rpc-gateway", prog_name="gateway")
def main() -> None:
    """Serve Python functions to XML-RPC and JSON-RPC 2.0 callers, on one URL."""


@main.command(epilog=_MODULE_HELP)
@_configured
@click.option("--bind", metavar="HOST:PORT", help="Where to listen, like 127.0.0.1:8000; port 0 takes a free one.")
@click.option("--tcp", metavar="HOST:PORT", help="Where to listen for JSON-RPC over plain TCP, without HTTP.")
def serve(
    modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...], bind: str | None, tcp: str | None
) -> None:
    """Serve MODULEs and upstreams until SIGINT or SIGTERM."""
    for name, value in (("bind", bind), ("tcp", tcp)):
        if value is not None:
            settings = (*settings, f"server.{name}={value}")
    gateway = _gateway(modules, file, settings)
    config = gateway.config
    log.configure(config.log.level, config.log.format)
    try:
        app.run_until_signal(gateway, lambda *urls: click.echo(_ready(_offered(gateway), *urls)))
    except ConfigError as error:
        _fail(error.problems)
    except BrokenPipeError:  # nobody reads the ready line; click ends the command
        raise
    except (OSError, UnicodeError) as error:  # a host name can be one that has no bytes
        reason = str(getattr(error, "strerror", None) or error).lower()
        _fail([f"cannot listen on {config.server.bind}: {reason}; choose another address with --bind HOST:PORT"])


@main.command(epilog=_MODULE_HELP)
@_configured
@click.option("--json", "as_json", is_flag=True, help="Print the OpenRPC document instead of a table.")
def methods(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """List the methods that would be served, with their parameters.

    Of upstreams these are the ones that the configuration names; "gateway upstreams" asks for the others.
    """
    gateway = _gateway(modules, file, settings)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(gateway.describe()), indent=2).decode())
        return
    _print_table([(name, _parameters(found), found.run, found.place) for name, found in _offered(gateway)])


@main.command(epilog=_MODULE_HELP)
@_configured
def upstreams(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Reach each upstream, and show how it is.

    Each is asked once for its methods. Exit 1 if one is not up.
    """
    gateway = _gateway(modules, file, settings)
    log.configure("error", gateway.config.log.format)  # what is wrong stands in the table
    asyncio.run(app.survey(gateway))
    rows = [
        (bridge.name, bridge.address, bridge.status.state, str(bridge.status.methods), bridge.status.error)
        for bridge in gateway.bridges
    ]
    _print_table([("NAME", "ADDRESS", "STATE", "METHODS", "LAST ERROR"), *rows])
    if any(bridge.status.state != "up" for bridge in gateway.bridges):
        sys.exit(1)


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        *columns, last = row
        click.echo(
            "  ".join((*(text.ljust(width) for text, width in zip(columns, widths, strict=False)), last)).rstrip()
        )


@main.command(epilog=_MODULE_HELP)
@_configured
def check(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Report everything that is wrong with configuration and methods.

    Upstreams are not reached for it; "gateway upstreams" does that.
    """
    problems: list[str] = []
    registry = Registry()
    try:
        config = load(file, os.environ, settings)
    except ConfigError as error:
        config, problems = error.config, error.problems
    try:
        if modules or config.server.modules or not problems:  # an upstream that is told of may be all that is served
            registry = _load_registry(modules, config)
    except LoadError as error:
        problems += error.problems
    try:
        gateway = app.build(config, registry)
    except ConfigError as error:
        problems += error.problems
    if problems:
        _fail(problems)
    told = f" and {len(gateway.bridges)} upstream{'s'[: len(gateway.bridges) != 1]}" if gateway.bridges else ""
    click.echo(f"gateway: all is well: {_counted(_offered(gateway))}{told}")


# An ARG may begin with a dash, like -5 or -hot, unless it is an option of this command.
@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("url")
@click.argument("method")
@click.argument("arguments", nargs=-1, metavar="[ARG]...")
@click.option(
    "--protocol",
    type=click.Choice(["jsonrpc", "xmlrpc"]),
    default="jsonrpc",
    show_default=True,
    help="What to speak; XML-RPC has no arguments by name.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.001, max=86400),
    default=60.0,
    show_default=True,
    help="Seconds to wait for the server.",
)
def call(url: str, method: str, arguments: tuple[str, ...], protocol: str, timeout: float) -> None:
    """Call METHOD at URL and print its result, or its fault.

    An ARG is JSON (10, true, '["a"]', '{"b": 1}'); what is not JSON is a text. name=value gives an argument by name; a
    text that looks like one is written as JSON: '"a=b"'. After -- nothing is an option. Exit 1 for a fault.
    """
    try:
        result = client.call(url, method, _params(arguments), protocol, timeout)
    except client.RemoteFault as fault:
        data = "" if fault.data is None else f" {_shown(fault.data)}"
        _fail([f"fault {fault.code}: {fault.message}{data}"])
    except client.CallError as error:
        _fail([str(error)])
    click.echo(result if isinstance(result, str) else _shown(result), color=True)  # as it is, escapes and all


def _gateway(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> app.Gateway:
    try:
        config = load(file, os.environ, settings)
        return app.build(config, _load_registry(modules, config))
    except (ConfigError, LoadError) as error:
        _fail(error.problems)


def _load_registry(modules: tuple[str, ...], config: Config) -> Registry:
    names = modules or config.server.modules
    return load_registry(names) if names or not config.upstreams else Registry()


def _offered(gateway: app.Gateway) -> list[tuple[str, Method]]:
    """Return the methods that are served, without those that speak of them."""
    return [(name, found) for name, found in gateway.registry.methods() if not name.startswith(RESERVED)]


def _fail(problems: list[str]) -> NoReturn:
    for problem in problems:
        click.echo(f"gateway: {problem}", err=True)
    sys.exit(1)


def _counted(offered: list[tuple[str, Method]]) -> str:
    return f"{len(offered)} method{'s'[: len(offered) != 1]}"


def _ready(offered: list[tuple[str, Method]], url: str, *others: str) -> str:
    xml = "<methodCall><methodName>system.listMethods</methodName></methodCall>"
    json = '{"jsonrpc":"2.0","method":"system.listMethods","id":1}'
    return (
        f"gateway: ready at {' and '.join((url, *others))} ({_counted(offered)}). To call it:\n"
        f"""  python3 -c "from xmlrpc.client import ServerProxy as S; print(S('{url}').system.listMethods())"\n"""
        f"  curl -H 'Content-Type: text/xml' -d '{xml}' {url}\n"
        f"  curl -H 'Content-Type: application/json' -d '{json}' {url}"
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


def _params(arguments: tuple[str, ...]) -> list[Any] | dict[str, Any]:
    named: dict[str, Any] = {}
    positional: list[Any] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name.isidentifier():
            if name in named:
                raise click.UsageError(f"the argument {name} is given twice")
            named[name] = _value(value)
        else:
            positional.append(_value(argument))
    if named and positional:
        raise click.UsageError("arguments are all by position, or all by name")
    return named or positional


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return text


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()
