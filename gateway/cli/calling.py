"""``gateway call``."""

from typing import Any

import click
import msgspec

from gateway import client
from gateway.cli.loading import fail


# An ARG may begin with a dash, like -5 or -hot, unless it is an option of this command.
@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("url")
@click.argument("method")
@click.argument("arguments", nargs=-1, metavar="[ARG]...")
@click.option(
    "--protocol",
    type=click.Choice(["jsonrpc", "xmlrpc"]),
    default="jsonrpc",
    show_default=True,
    help="The protocol; XML-RPC has no arguments by name.",
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

    An ARG is JSON (10, true, '["a"]', '{"b": 1}'); what is not JSON is a string. name=value gives an argument by name.
    A string that looks like one is written as JSON: '"a=b"'. After --, nothing is an option. A fault has exit code 1.
    """
    try:
        result = client.call(url, method, _params(arguments), protocol, timeout)
    except client.RemoteFault as fault:
        data = "" if fault.data is None else f" {_shown(fault.data)}"
        fail([f"fault {fault.code}: {fault.message}{data}"])
    except client.CallError as error:
        fail([str(error)])
    click.echo(result if isinstance(result, str) else _shown(result), color=True)  # as it is, escapes and all


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
