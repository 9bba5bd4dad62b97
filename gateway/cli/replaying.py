"""``gateway replay``."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.cli.calling import connecting, options_of
from gateway.cli.comparing import MISSING, Comparison
from gateway.cli.completing import of_methods
from gateway.cli.listing import print_table
from gateway.cli.loading import counted, fail
from gateway.cli.replays import Asked, Outcome, Replay, records
from gateway.client import AsyncClient, CallError
from gateway.client.address import address_of
from gateway.codecs import CODECS
from gateway.codecs.jsonrpc import JSONRPC
from gateway.model.places import Place, place
from gateway.telemetry.recording.typed import typed

_WIDEST = 40  # characters of a value in the table


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="FILE...")
@click.option("--to", "url", required=True, metavar="URL", help="The server that is called.")
@click.option(
    "--protocol",
    type=click.Choice(list(CODECS)),
    help="The protocol of all calls. By default that in which each was recorded, or that of the URL.",
)
@click.option(
    "--method", "methods", multiple=True, metavar="PATTERN", shell_complete=of_methods,
    help="Only calls of the methods that PATTERN matches. Can be repeated.",
)  # fmt: skip
@click.option(
    "--idempotent", multiple=True, metavar="PATTERN", shell_complete=of_methods,
    help="Call the methods that PATTERN matches, too: they do no harm if they run again. Can be repeated.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Call all methods, also those that change something.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Calls in a second, at most.")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, help="Calls at once.")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=0.0, metavar="NUMBER",
    help="By how much numbers may differ, as 1e-9: absolutely up to 1, relatively above. By default not at all.",
)  # fmt: skip
@click.option(
    "--ignore", multiple=True, metavar="PLACE",
    help="A place that is not compared, as result.*.updated or inventory.*:result.at. Can be repeated.",
)  # fmt: skip
@click.option(
    "--any-order", multiple=True, metavar="PLACE",
    help="A place of an array whose items may be in any order. Can be repeated.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@connecting
def replay(  # noqa: PLR0913, PLR0917 - the options of a command
    files: tuple[Path, ...],
    url: str,
    protocol: str | None,
    methods: tuple[str, ...],
    idempotent: tuple[str, ...],
    everything: bool,
    rate: float | None,
    concurrency: int,
    tolerance: float,
    ignore: tuple[str, ...],
    any_order: tuple[str, ...],
    as_json: bool,
    headers: tuple[str, ...],
    **given: Any,
) -> None:
    """Make recorded calls again, and compare the results.

    A FILE is a recording of [record], or a folder of them. Only methods that are known to do no harm if they run twice
    are called. A call whose arguments are redacted is skipped. The exit code is 1 if something differs, if a call has
    no response, or if nothing was compared. docs/record.md explains it.
    """
    comparison = Comparison(
        tolerance=tolerance, ignore=_places("--ignore", ignore), any_order=_places("--any-order", any_order)
    )
    asked = Asked(
        methods=methods,
        idempotent=idempotent,
        everything=everything,
        rate=rate,
        concurrency=concurrency,
        comparison=comparison,
    )
    try:
        told = address_of(url).protocol
        if protocol is not None and told not in (None, protocol):
            raise click.UsageError(f"--protocol: the URL says {told}")
        chosen = protocol or told
        make = _clients(url, chosen, headers, {**given, "connections": concurrency})
        outcome = asyncio.run(_replayed(files, asked, make, chosen))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except CallError as error:
        fail([str(error)])
    except OSError as error:
        fail([f"{error.filename}: {str(error.strerror).lower()}"])
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_told(outcome)), indent=2).decode())
    else:
        _print(outcome)
    if outcome.different or outcome.unanswered or not outcome.compared:
        sys.exit(1)


def _places(option: str, texts: tuple[str, ...]) -> tuple[Place, ...]:
    try:
        return tuple(map(place, texts))
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None


def _clients(
    url: str, protocol: str | None, headers: tuple[str, ...], given: dict[str, Any]
) -> Callable[[str], AsyncClient]:
    """Return what makes the client for a protocol; what is wrong with the options is told now.

    Raises:
        ValueError: the URL is wrong, or a file cannot be read.

    """
    made = options_of(url, protocol or JSONRPC.name, headers, given)

    def make(name: str) -> AsyncClient:
        made["protocol"] = name
        return AsyncClient(url, **made)

    make(protocol or JSONRPC.name)
    return make


async def _replayed(
    files: tuple[Path, ...], asked: Asked, make: Callable[[str], AsyncClient], chosen: str | None
) -> Outcome:
    clients: dict[str, AsyncClient] = {}
    async with AsyncExitStack() as stack:

        def client_for(recorded: str) -> AsyncClient:
            name = chosen or (recorded if recorded in CODECS else JSONRPC.name)
            if name not in clients:
                clients[name] = make(name)
                stack.push_async_exit(clients[name])
            return clients[name]

        return await Replay(asked, client_for).run(records(files))


def _print(outcome: Outcome) -> None:
    if outcome.rows:
        rows = [
            (_plain(row.method), _plain(row.request), _plain(row.place), _value(row.recorded), _value(row.now))
            for row in outcome.rows
        ]
        print_table([("METHOD", "REQUEST", "PLACE", "RECORDED", "NOW"), *rows])
        if outcome.more:
            click.echo(f"and {counted(outcome.more, 'difference')} more")
        click.echo()
    click.echo("\n".join(_summary(outcome)))


def _summary(outcome: Outcome) -> Iterator[str]:
    told = f"{counted(outcome.compared, 'call')} compared: {outcome.same} same, {outcome.different} different"
    without = f"; {outcome.unanswered} without a response" if outcome.unanswered else ""
    yield f"gateway: {told}{without}"
    if outcome.partly:
        yield f"gateway: {counted(outcome.partly, 'call')} compared in part, because the results are redacted"
    medians = outcome.medians()
    if medians is not None:
        yield f"gateway: the median took {1000 * medians[0]:.1f} ms when recorded, and {1000 * medians[1]:.1f} ms now"
    for reason, number in outcome.skipped.most_common():
        yield f"gateway: {number} skipped: {reason}"
    if not outcome.compared:
        yield "gateway: nothing was compared"


def _told(outcome: Outcome) -> dict[str, Any]:
    medians = outcome.medians()
    return {
        "compared": outcome.compared,
        "same": outcome.same,
        "different": outcome.different,
        "without_response": outcome.unanswered,
        "in_part": outcome.partly,
        "skipped": dict(outcome.skipped),
        "median_seconds": None if medians is None else {"recorded": medians[0], "now": medians[1]},
        "differences": [
            {
                "method": row.method,
                "request": row.request,
                "place": row.place,
                **({} if row.recorded is MISSING else {"recorded": typed(row.recorded)}),
                **({} if row.now is MISSING else {"now": typed(row.now)}),
            }
            for row in outcome.rows
        ],
        "more": outcome.more,
    }


def _value(value: Any) -> str:
    return _plain("-" if value is MISSING else msgspec.json.encode(typed(value)).decode())


def _plain(text: str) -> str:
    shown = text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
