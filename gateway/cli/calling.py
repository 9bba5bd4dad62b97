"""``gateway call``."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.cli.completing import of_methods
from gateway.cli.loading import fail
from gateway.client import CallError, Client
from gateway.client.options import Options
from gateway.codecs import CODECS
from gateway.model.explained import explanations
from gateway.model.faults import Fault
from gateway.wire.http_grammar import TOKEN

_MOST = 2**30  # bytes of a response: the largest limits.max_reply that a gateway can have
_ENCRYPTED = ("https:", "jsonrpc+https:", "xmlrpc+https:", "tcp+tls:", "jsonrpc+tcp+tls:")
_FIELD = re.compile(r"[ -~\t]*")  # of a header (RFC 9110, 5.5), without what is obsolete


_PROTOCOL = click.option(
    "--protocol",
    type=click.Choice(list(CODECS)),
    default="jsonrpc",
    show_default=True,
    help="The protocol; XML-RPC has no arguments by name.",
)
_OPTIONS = (
    click.option(
        "--timeout",
        type=click.FloatRange(min=0.001, max=86400),
        default=60.0,
        show_default=True,
        help="Seconds to wait for the server.",
    ),
    click.option(
        "--key", metavar="KEY", help="An API key, sent as a Bearer token. http://NAME:KEY@host does the same."
    ),
    click.option(
        "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header to send. Can be repeated."
    ),
    click.option(
        "--ca",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A file of certificates in PEM; the servers signed by them are trusted.",
    ),
    click.option("--insecure", is_flag=True, help="Do not check the server's certificate: anybody can answer."),
)


def connecting(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a command that connects to a server."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def of_a_server(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a command that calls a server."""
    return _PROTOCOL(connecting(command))


# An ARG may begin with a dash, like -5 or -hot, unless it is an option of this command.
@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("url")
@click.argument("method", shell_complete=of_methods)
@click.argument("arguments", nargs=-1, metavar="[ARG]...")
@of_a_server
def call(
    url: str, method: str, arguments: tuple[str, ...], protocol: str, headers: tuple[str, ...], **given: Any
) -> None:
    """Call METHOD at URL and print its result, or its fault.

    An ARG is JSON (10, true, '["a"]', '{"b": 1}'); what is not JSON is a string. name=value gives an argument by name.
    A string that looks like one is written as JSON: '"a=b"'. After --, nothing is an option. A fault has exit code 1.
    """
    params = _params(arguments)
    try:
        with client_of(url, protocol, headers, given) as client:
            result = client.call(method, **params) if isinstance(params, dict) else client.call(method, *params)
    except Fault as fault:
        said = getattr(fault, "foreign", None) or fault
        data = "" if said.data is None else f" {_shown(said.data)}"
        fail([f"fault {said.code}: {said.message}{data}", *_hint(said.code)])
    except (CallError, ValueError) as error:
        fail([str(error)])
    click.echo(result if isinstance(result, str) else _shown(result), color=True)  # as it is, escapes and all


def _hint(code: int) -> list[str]:
    """Say to a person, and to no program, where a fault is explained."""
    return [f"what it means: gateway errors {code}"] if explanations(code) and sys.stderr.isatty() else []


def client_of(url: str, protocol: str, headers: tuple[str, ...], given: dict[str, Any]) -> Client:
    """Make the client of a command; what is wrong with its options is not shown, since it may be a key.

    Raises:
        ValueError: the URL is wrong, or a file cannot be read.

    """
    return Client(url, **options_of(url, protocol, headers, given))


def options_of(url: str, protocol: str, headers: tuple[str, ...], given: dict[str, Any]) -> Options:
    """Make the options of a client of those of a command."""
    insecure = given.pop("insecure")
    if (given["ca"] is not None or insecure) and not url.lower().startswith(_ENCRYPTED):
        raise click.UsageError("--ca and --insecure need a URL that begins with https://")
    if given["key"] is not None and not re.fullmatch(r"[!-~]+", given["key"]):
        raise click.UsageError("--key: expected printable ASCII characters without blanks")
    pairs = [(name, value.strip()) for name, colon, value in (text.partition(":") for text in headers) if colon]
    if len(pairs) < len(headers) or not all(TOKEN.fullmatch(name) and _FIELD.fullmatch(value) for name, value in pairs):
        raise click.UsageError("--header: expected 'NAME: VALUE' in printable ASCII characters")
    made: Options = {
        **given,  # type: ignore[typeddict-item]
        "protocol": protocol,
        "headers": dict(pairs),
        "verify": not insecure,
        "retries": 0,
        "max_response": _MOST,
    }
    return made


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
    """Write a value as JSON, with NaN and Infinity where the server sent them."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=msgspec.to_builtins)
