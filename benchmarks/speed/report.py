"""The report in Markdown: a paragraph that sums up, and the tables.

report(results) -> what stands in benchmarks/README.md
story(results) -> what stands in README.md
put(file, text)   between the two markers of a file
"""

import statistics
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks import bridges
from benchmarks.speed.cases import BY_KEY as GROUPS
from benchmarks.speed.cases import CASES, Group
from benchmarks.speed.driving import Round
from benchmarks.speed.results import Results, Run, ratios
from benchmarks.speed.servers import BY_KEY as SERVERS

_QUIET = 0.05  # the share of the processors that others may have while the machine is called quiet


def report(results: Results) -> str:
    """Write all of it."""
    parts = [story(results), _machine(results)]
    for group in GROUPS.values():
        rows = list(_rows(results, group))
        if rows:
            parts += [f"### {group.title}", group.note, _table(_columns(group), rows)]
    if results.codecs:
        parts += ["### Codecs alone", _CODECS, _codecs(results)]
    if results.memory:
        parts += ["### Memory", _MEMORY, _memory(results)]
    if results.bridges:
        parts += ["### Bridges", _BRIDGES, bridges.report(results.bridges)]
    if results.objects:
        parts += [_OBJECTS, bridges.objects_report(results.objects, results.object_calls)]
    return "\n\n".join(_wrapped(part) for part in parts)


_CODECS = """Milliseconds of processor time to read a call's body, and to write the response, in one process without a
server. A call is `add(7, 3)`."""
_MEMORY = """KiB of memory that a server grows by for each idle connection, and for each call that waits on one: 1,000
coroutines, or 500 threads."""
_BRIDGES = """`add(2, 3)` of a server of each protocol, directly, and over JSON-RPC through a gateway in front of it.
"Per CPU s" is of the gateway's processor time."""
_OBJECTS = """An object that is sent and fetched again and again, one call after the other, by the clients that people
have:"""


def put(file: Path, text: str) -> None:
    """Replace what stands between the two markers of a file.

    Raises:
        ValueError: the file does not have both of them, once.

    """
    begin, end = (f"<!-- make figures: {place} -->\n" for place in ("begin", "end"))
    before, found, rest = file.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended or begin in after:
        raise ValueError(f"{file} does not have the markers {begin.strip()} and {end.strip()} once")
    file.write_text(f"{before}{begin}\n{text}\n\n{end}{after}", encoding="utf-8")


def story(results: Results) -> str:
    """Sum up what came of it at 64 connections, and how quiet the machine was."""
    sentences = [*_compared(results, "xml add 64", "XML-RPC"), *_compared(results, "json add 64", "JSON-RPC")]
    others = [each.others for run in results.runs for each in run.rounds]
    if others:
        share = statistics.median(others)
        sentences.append(
            f"""Measured on {results.taken} by `make bench`, while others used {share:.0%} of the machine's processors
            in the median round and {max(others):.0%} at the most."""
        )
        if share > _QUIET:
            sentences.append("That is not quiet: trust the ratios, which are of the same rounds, and not the rates.")
    return _wrapped(" ".join(sentences))


def _compared(results: Results, case: str, protocol: str) -> Iterator[str]:
    reference = results.run(case, GROUPS[CASES[case].group].reference)
    for run in results.runs:
        if run.case != case or not run.server.startswith("gateway"):
            continue
        rate = round(run.median(_per_cpu), -2)
        text = f"""In {protocol} with 64 connections, the {_name(run.server)} makes {rate:,.0f} calls of `add` per
            second of processor time"""
        if reference is not None:
            ratio = statistics.median(ratios(run, reference, _per_cpu))
            text += f", {ratio:.2f} times as many as {_name(reference.server)}"
        yield f"{text}."


def _per_cpu(each: Round) -> float:
    return each.per_cpu


def _name(server: str) -> str:
    return SERVERS[server].name


def _columns(group: Group) -> tuple[str, ...]:
    several = len({case.connections for case in group.cases}) > 1
    against = f"against {SERVERS[group.reference].short} (min - max)"
    first = ("connections",) if several else ("method",) if len(group.cases) > 1 else ()
    return (*first, "server", "calls/s", "calls per CPU s (min - max)", against, "p50 ms", "p99 ms", "others")


def _rows(results: Results, group: Group) -> Iterator[tuple[str, ...]]:
    several = len({case.connections for case in group.cases}) > 1
    for case in group.cases:
        first = (f"{case.connections}",) if several else (f"`{case.method}`",) if len(group.cases) > 1 else ()
        reference = results.run(case.key, group.reference)
        for run in results.runs:
            if run.case == case.key and run.rounds:
                yield (*first, *_figures(run, reference))


def _figures(run: Run, reference: Run | None) -> tuple[str, ...]:
    per_cpu = [each.per_cpu for each in run.rounds]
    found = ratios(run, reference, _per_cpu) if reference is not None and reference is not run else []
    against = f"{statistics.median(found):.2f} ({min(found):.2f} - {max(found):.2f})" if found else ""
    others = [each.others for each in run.rounds]
    return (
        _name(run.server),
        _number(run.median(lambda each: each.rate)),
        f"{_number(statistics.median(per_cpu))} ({_number(min(per_cpu))} - {_number(max(per_cpu))})",
        against,
        _milliseconds(run.median(lambda each: each.p50)),
        _milliseconds(run.median(lambda each: each.p99)),
        f"{statistics.median(others):.0%} (up to {max(others):.0%})",
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    sides = ["---" if name in {"server", "method", "codec", "waits"} else "---:" for name in head]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, sides, *rows))


def _codecs(results: Results) -> str:
    names = list(results.codecs[0].milliseconds)
    rows = [(each.library, *(f"{each.milliseconds[name]:.3g}" for name in names)) for each in results.codecs]
    return _table(("codec", *names), rows)


def _memory(results: Results) -> str:
    rows = [
        (_name(each.server), f"`{each.method}`", f"{each.idle:.1f}", f"{each.waiting:.1f}") for each in results.memory
    ]
    return _table(("server", "waits", "KiB for an idle connection", "KiB for a waiting call"), rows)


def _machine(results: Results) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in results.versions.items())
    rounds = max((len(run.rounds) for run in results.runs), default=0)
    text = (
        f"{rounds} round{'s' * (rounds > 1)} of {results.seconds} s. The machine: {machine}. The programs: {versions}."
    )
    missing = {_name(key): why for key, why in results.missing.items()} | results.dropped
    if missing:
        text += f" Not measured: {'; '.join(f'{name} ({why})' for name, why in missing.items())}."
    return text


def _wrapped(text: str) -> str:
    if text.startswith(("|", "#")):
        return text
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)
