"""The ``gateway`` command.

Exit codes: 0 done; 1 what was asked for failed (a fault, a problem, a port in use); 2 the command line is wrong.
"""

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

from gateway import app, client, tls, uwsgi
from gateway.access import make_key
from gateway.config import Config, ConfigError, load, variable_of
from gateway.loading import LoadError, load_registry
from gateway.methods import Method, Registry
from gateway.nginx import render, warnings

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
@click.option("--workers", metavar="N", help="How many processes serve; auto is one for each core.")
def serve(
    modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...], bind: str | None, workers: str | None
) -> None:
    """Serve the methods of MODULEs until SIGINT or SIGTERM.

    SIGHUP, and the command reload, take configuration and methods anew without losing a call.
    """
    from gateway.server import Source, serve_modules  # noqa: PLC0415 - Tornado, which the other commands do not need
    from gateway.workers import Failed  # noqa: PLC0415 - likewise

    given = {"server.bind": bind, "server.workers": workers}
    settings = (*settings, *(f"{name}={value}" for name, value in given.items() if value is not None))
    try:
        serve_modules(
            Source(file=file, settings=settings, modules=modules),
            lambda url, metrics_url, count: click.echo(_ready(url, metrics_url, count)),
        )
    except (ConfigError, Failed) as error:
        _fail(error.problems)


@main.command(epilog=_MODULE_HELP)
@_configured
@click.option("--json", "as_json", is_flag=True, help="Print the OpenRPC document instead of a table.")
def methods(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """List the methods that would be served, with their parameters."""
    config, registry = _load(modules, file, settings)
    if as_json:
        described = app.build(config, registry).describe()
        click.echo(msgspec.json.format(msgspec.json.encode(described), indent=2).decode())
        return
    rows = [(name, _parameters(found), found.run, found.place) for name, found in registry.methods()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        columns = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        click.echo("  ".join((*columns, row[3])).rstrip())


@main.command(epilog=_MODULE_HELP)
@_configured
def check(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Report everything that is wrong with configuration and methods."""
    _, registry = _checked(modules, file, settings)
    click.echo(f"gateway: all is well: {_counted(len(registry))}")


@main.command(epilog=_MODULE_HELP)
@_configured
def nginx(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Print the configuration of an nginx in front of the gateway.

    It waits for an answer as long as the slowest of the methods may take.
    """
    config, registry = _load(modules, file, settings)
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
    config, _ = _checked(modules, file, settings)
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
    config, registry = _load(modules, file, settings)
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
    """Call METHOD at URL and print its result, or its fault and exit 1.

    An ARG is JSON (10, true, '["a"]', '{"b": 1}'); what is not JSON is a text. name=value gives an argument by name; a
    text that looks like one is written as JSON: '"a=b"'. After -- nothing is an option.
    """
    try:
        result = client.call(url, method, _params(arguments), protocol, timeout)
    except client.RemoteFault as fault:
        data = "" if fault.data is None else f" {_shown(fault.data)}"
        _fail([f"fault {fault.code}: {fault.message}{data}"])
    except client.CallError as error:
        _fail([str(error)])
    click.echo(result if isinstance(result, str) else _shown(result), color=True)  # as it is, escapes and all


def _load(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> tuple[Config, Registry]:
    try:
        config = load(file, os.environ, settings)
        return config, load_registry(modules or config.server.modules)
    except (ConfigError, LoadError) as error:
        _fail(error.problems)


def _checked(modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> tuple[Config, Registry]:
    """Load configuration and methods, and report everything that is wrong with them."""
    problems: list[str] = []
    try:
        config = load(file, os.environ, settings)
    except ConfigError as error:
        config, problems = error.config, error.problems
    try:
        tls.load(config.tls)
    except ConfigError as error:
        problems += error.problems
    try:
        registry = load_registry(modules or config.server.modules)
    except LoadError as error:
        problems += error.problems
    if problems:
        _fail(problems)
    return config, registry


def _fail(problems: list[str]) -> NoReturn:
    for problem in problems:
        click.echo(f"gateway: {problem}", err=True)
    sys.exit(1)


def _counted(methods: int) -> str:
    return f"{methods} method{'s'[: methods != 1]}"


def _ready(url: str, metrics_url: str | None, methods: int) -> str:
    xml = "<methodCall><methodName>system.listMethods</methodName></methodCall>"
    json = '{"jsonrpc":"2.0","method":"system.listMethods","id":1}'
    metrics = "" if metrics_url is None else f"\ngateway: metrics at {metrics_url}"
    return (
        f"gateway: ready at {url} ({_counted(methods)}). To call it:\n"
        f"""  python3 -c "from xmlrpc.client import ServerProxy as S; print(S('{url}').system.listMethods())"\n"""
        f"  curl -H 'Content-Type: text/xml' -d '{xml}' {url}\n"
        f"  curl -H 'Content-Type: application/json' -d '{json}' {url}{metrics}"
    )


def _parameters(method: Method) -> str:
    shown = [
        param.name if param.required else f"{param.name}={' '.join(reprlib.repr(param.default).split())}"
        for param in method.params
    ]
    if method.rest is not None:
        shown.append("*")
    if method.others is not None:
        shown.append("**")
    return f"({', '.join(shown)})"


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
