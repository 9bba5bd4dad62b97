"""The ``gateway`` command.

Exit codes: 0 done; 1 what was asked for failed (a fault, a problem, a port in use); 2 the command line is wrong.
"""

import asyncio
import os
import re
import reprlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from gateway import app, client
from gateway.config import ConfigError, load
from gateway.config.described import described
from gateway.config.sources import variable_of
from gateway.core.access import make_key
from gateway.deploy import uwsgi
from gateway.deploy.nginx import render, warnings
from gateway.methods import Method, Registry
from gateway.methods.loading import LoadError
from gateway.process import tls
from gateway.telemetry import log

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
@click.version_option(package_name="callgate", prog_name="gateway")
def main() -> None:
    """Serve Python functions to XML-RPC and JSON-RPC 2.0 callers, on one URL."""


@main.command(epilog=_MODULE_HELP)
@_configured
@click.option("--bind", metavar="HOST:PORT", help="Where to listen, like 127.0.0.1:8000; port 0 takes a free one.")
@click.option("--tcp", metavar="HOST:PORT", help="Where to listen for JSON-RPC over plain TCP, without HTTP.")
@click.option("--workers", metavar="N", help="How many processes serve; auto is one for each core.")
def serve(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...], **given: str | None) -> None:
    """Serve MODULEs and upstreams until SIGINT or SIGTERM.

    SIGHUP, and the command reload, take configuration and methods anew without losing a call.
    """
    from gateway.process.control import StartupError  # noqa: PLC0415 - likewise
    from gateway.process.prefork import Source, serve_modules  # noqa: PLC0415 - Tornado, which the other commands do not need

    settings = (*settings, *(f"server.{name}={value}" for name, value in given.items() if value is not None))
    try:
        serve_modules(
            Source(file=file, settings=settings, modules=modules),
            lambda urls, count, config: click.echo(
                f"{_ready(urls.calls, urls.tcp, urls.metrics, count)}\ngateway: {described(config)}"
            ),
        )
    except (ConfigError, StartupError) as error:
        _fail(error.problems)


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
    _print_table([(name, _parameters(found), found.run, found.place) for name, found in gateway.offered()])


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
    gateway = _checked(modules, file, settings)
    told = f" and {len(gateway.bridges)} upstream{'s'[: len(gateway.bridges) != 1]}" if gateway.bridges else ""
    click.echo(f"gateway: {described(gateway.config)}")
    click.echo(f"gateway: all is well: {_counted(len(gateway.offered()))}{told}")


@main.command(epilog=_MODULE_HELP)
@_configured
def nginx(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Print the configuration of an nginx in front of the gateway.

    It waits for an answer as long as the slowest of the methods may take.
    """
    gateway = _gateway(modules, file, settings)
    config, registry = gateway.config, gateway.registry
    longest = max([config.limits.timeout, *(found.options.timeout or 0.0 for _, found in registry.methods())])
    try:
        text = render(config, longest)
    except ConfigError as error:
        _fail(error.problems)
    for warning in warnings(config):
        click.echo(f"gateway: warning: {warning}", err=True)
    click.echo(text, nl=False)


@main.command("reload", epilog=_MODULE_HELP)
@_configured
def reload_(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Have a running gateway take configuration and methods anew.

    They are checked first, as the command check does it. The process is the one in server.pid_file.
    """
    config = _checked(modules, file, settings).config
    if not config.server.pid_file:
        _fail(["server.pid_file is not set, so the process is not known: send it SIGHUP, or set it and start anew"])
    try:
        process = int(Path(config.server.pid_file).read_text("ascii"))
        os.kill(process, signal.SIGHUP)
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or "it holds no process id").lower()
        _fail([f"{config.server.pid_file}: {reason}; is the gateway running?"])
    click.echo(f"gateway: process {process} takes configuration and methods anew; its log says what comes of it")


@main.command()
@click.argument("name")
def key(name: str) -> None:
    """Make an API key for the caller NAME.

    It is printed with the line for the configuration, which holds only its hash: the key itself is kept nowhere.
    """
    if not re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII):
        raise click.UsageError(f"{name!r} is no name of a key: letters, digits and ._- are, at most 64 of them")
    made, stored = make_key()
    click.echo(f'{made}\n\n# in gateway.toml, under [access.keys]:\n{_bare(name)} = "{stored}"')


@main.command("uwsgi", epilog=_MODULE_HELP)
@_configured
def uwsgi_(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Print a configuration for uWSGI.

    Its numbers come from the gateway's own configuration; conf/uwsgi.ini is what comes of the defaults.
    """
    gateway = _gateway(modules, file, settings)
    config, registry = gateway.config, gateway.registry
    named = {"GATEWAY_CONFIG": str(file.absolute())} if file else {}
    given = (*settings, *([f"server.modules={','.join(modules)}"] if modules else ()))
    named |= {variable_of(name.strip()): value.strip() for name, _, value in (text.partition("=") for text in given)}
    click.echo(uwsgi.render(config, registry, named), nl=False)


def _bare(name: str) -> str:
    """Write a name as a key of TOML."""
    return f'"{name}"' if "." in name else name


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
        return app.build(config, app.registry_of(config, modules))
    except (ConfigError, LoadError) as error:
        _fail(error.problems)


def _checked(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> app.Gateway:
    """Put everything together but sockets, and report everything that is wrong with it."""
    problems: list[str] = []
    registry = Registry()
    try:
        config = load(file, os.environ, settings)
    except ConfigError as error:
        config, problems = error.config, error.problems
    try:
        tls.load(config.tls)
    except ConfigError as error:
        problems += error.problems
    try:
        if modules or config.server.modules or not problems:  # an upstream that is told of may be all that is served
            registry = app.registry_of(config, modules)
    except LoadError as error:
        problems += error.problems
    try:
        gateway = app.build(config, registry)
    except ConfigError as error:
        problems += error.problems
    if problems:
        _fail(problems)
    return gateway


def _fail(problems: list[str]) -> NoReturn:
    for problem in problems:
        click.echo(f"gateway: {problem}", err=True)
    sys.exit(1)


def _counted(methods: int) -> str:
    return f"{methods} method{'s'[: methods != 1]}"


def _ready(url: str, tcp: str | None, metrics_url: str | None, methods: int) -> str:
    xml = "<methodCall><methodName>system.listMethods</methodName></methodCall>"
    json = '{"jsonrpc":"2.0","method":"system.listMethods","id":1}'
    metrics = "" if metrics_url is None else f"\ngateway: metrics at {metrics_url}"
    return (
        f"gateway: ready at {url}{f' and {tcp}' if tcp else ''} ({_counted(methods)}). To call it:\n"
        f"""  python3 -c "from xmlrpc.client import ServerProxy as S; print(S('{url}').system.listMethods())"\n"""
        f"  curl -H 'Content-Type: text/xml' -d '{xml}' {url}\n"
        f"  curl -H 'Content-Type: application/json' -d '{json}' {url}{metrics}"
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
