"""``gateway explain`` and ``gateway errors``: why a call was refused, and what has failed."""

import asyncio
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.app import measured
from gateway.cli.decisions import Asked, Places, Step, decide
from gateway.cli.loading import MODULE_HELP, configured, fail, load_gateway
from gateway.codecs import CODECS
from gateway.config.origins import settings as read_settings
from gateway.model.explained import explanations
from gateway.model.networks import address
from gateway.telemetry import log

_MARKS = {"passes": "ok", "refuses": "REFUSED", "tells": ""}
_CODE = re.compile(r"-?[0-9]{1,10}", re.ASCII)
_ERROR_ID = re.compile(r"[\w.:-]{4,64}", re.ASCII)


@click.command(epilog=MODULE_HELP)
@click.argument("method")
@configured
@click.option(
    "--from", "client", metavar="ADDRESS", default="127.0.0.1", help="The client's address.", show_default=True
)
@click.option("--key", metavar="NAME", help="The name of the client's API key.")
@click.option("--certificate", metavar="NAME", help="The common name of the client's certificate.")
@click.option("--host", metavar="HOST", default="localhost", help="The header Host.", show_default=True)
@click.option("--origin", metavar="ORIGIN", help="The header Origin, which web pages send.")
@click.option(
    "--protocol",
    type=click.Choice(list(CODECS)),
    default="jsonrpc",
    show_default=True,
    help="The protocol of the call.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(method: str, modules: tuple[str, ...], file: Path | None, settings: tuple[str, ...], **given: Any) -> None:
    """Say what would become of a call of METHOD.

    It tells which option decides, and calls nothing. An upstream that may have the method is asked for its methods. The
    exit code is 1 if the call would be refused.
    """
    client, as_json = given.pop("client"), given.pop("as_json")
    found = address(client)
    if found is None:
        raise click.UsageError(f"--from: {client!r} is not an IP address")
    gateway = load_gateway(modules, file, settings)
    log.configure("error", gateway.config.log.format)
    unknown = [each for each in gateway.upstreams if each.absent(method) is not None]
    if unknown:
        asyncio.run(measured.survey(unknown, gateway.registry))
    places = Places(read_settings(file, os.environ, settings), gateway.config.file)
    steps = list(decide(gateway, Asked(method=method, address=found, **given), places))
    last = steps[-1]
    refused = last.verdict == "refuses"
    if as_json:
        shown = {"method": method, "runs": not refused, "status": last.status, "code": last.code, "steps": steps}
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
    else:
        click.echo("\n".join(_lines(method, steps)))
    if refused:
        sys.exit(1)


def _lines(method: str, steps: list[Step]) -> Iterator[str]:
    width = max(len(step.step) for step in steps)
    for step in steps:
        yield f"{step.step:{width}}  {_MARKS[step.verdict]:7}  {step.text}" + (
            f"  [{step.decides}]" if step.decides else ""
        )
    last = steps[-1]
    if last.verdict != "refuses":
        yield f"{method} would be called"
    elif not last.status:
        yield f"{method} would not be called: there is no connection"
    else:
        yield f"{method} would not be called: fault {last.code}, HTTP {last.status}"


@click.command(context_settings={"ignore_unknown_options": True})  # a code begins with a dash
@click.argument("error_id", metavar="ERROR_ID|CODE")
@click.argument("files", nargs=-1, type=click.File("r", encoding="utf-8", errors="replace"), metavar="[FILE]...")
def errors(error_id: str, files: tuple[Any, ...]) -> None:
    """Find an error in log files, or explain the code of a fault.

    CODE, like -32002, is one of the gateway's own; what it means is printed, and what to do. ERROR_ID is what a fault
    has told, or a request id. Without a FILE, standard input is read. Both forms of the log are read, text and JSON.
    What is found is printed with its traceback. The exit code is 1 if nothing is found.
    """
    if _CODE.fullmatch(error_id) and not files:
        _explain_code(int(error_id))
        return
    if not _ERROR_ID.fullmatch(error_id):
        raise click.UsageError("expected the error_id of a fault, a request id, or the code of a fault without FILE")
    pattern = re.compile(rf"(?<![\w.:-]){re.escape(error_id)}(?![\w.:-])", re.ASCII)
    found = 0
    for file in files or (sys.stdin,):
        for entry in _entries(file):
            if pattern.search(entry):
                found += 1
                click.echo(_readable(entry))
    if not found:
        fail([f"{error_id} is not in the log"])


def _explain_code(code: int) -> None:
    found = explanations(code)
    if not found:
        fail([f"{code} is not one of the gateway's own codes: the documentation of the method says what it means"])
    click.echo("\n\n".join(found))


def _entries(lines: Iterable[str]) -> Iterator[str]:
    """Put together the lines of an entry: those after the first begin with blanks."""
    entry = ""
    for line in lines:
        if entry and not line.startswith("    "):
            yield entry
            entry = ""
        entry += line
    if entry:
        yield entry


def _readable(entry: str) -> str:
    """Write an entry of JSON as one of text."""
    if not entry.startswith("{"):
        return entry.rstrip("\n")
    try:
        fields = msgspec.json.decode(entry, type=dict[str, Any])
    except msgspec.MsgspecError:
        return entry.rstrip("\n")
    head = " ".join(str(fields.pop(name, "")) for name in ("time", "level"))
    message, traceback = fields.pop("message", None), fields.pop("traceback", "")
    rest = "" if message is not None else " ".join(f"{name}={value}" for name, value in fields.items())
    shown = "\n".join([f"{head} {message or rest}", *(f"    {line}" for line in str(traceback).splitlines())])
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in shown)
