"""The report in Markdown: what was claimed, what is true, how it was measured, and every figure.

    report(results) -> the text

All that it says of a server is taken from the results; a server that was left out is not spoken of.
"""

import textwrap
from collections.abc import Iterable, Sequence

from benchmarks.concurrency.contenders import CONTENDERS
from benchmarks.concurrency.driving import Step
from benchmarks.concurrency.figures import WARM_UP
from benchmarks.concurrency.results import Results

LATE = 0.5  # seconds beyond the call's own time that 95 of 100 callers may wait where a server copes
_KINDS = ("refused", "reset", "timed out", "fault", "wrong", "other")
_MIB = 2**20


def report(results: Results) -> str:
    """Write it."""
    parts = [
        "# Calls that block, many at once",
        _story(results),
        "![Completed calls per second against users](calls_per_second.svg)",
        "## Who copes with how many",
        f"A server copes if no call fails and p95 is at most {LATE:g} s above the {results.pace.call_seconds:g} s.",
        _table(("server", "set up as", "copes with", "most calls in progress", "memory then"), _summary(results)),
        "![p95 against users](p95.svg)",
        "![Memory against users](memory.svg)",
        "## How it is measured",
        _method(results),
        "## Every figure",
        _table(_COLUMNS, (_row(step, results) for step in results.steps)),
        *_beyond(results),
        "## The machine",
        _machine(results),
        "`make compare` measures it again and writes this page, results.json and the pictures.",
    ]
    return "\n\n".join(parts) + "\n"


def copes(step: Step, call_seconds: float) -> bool:
    """Tell whether a server copes with a load."""
    found = step.figures
    return not found.failures and found.p95 is not None and found.p95 <= call_seconds + LATE


def _story(results: Results) -> str:
    """Say what was claimed, what is true, and why, by the largest load of each server."""
    last = {step.server: step for step in results.steps}
    sentences = [
        """An old article claims that, with calls that block for 5 seconds, the standard library's threading XML-RPC
        server copes with about 40 at once because its HTTP server is weak, that Flask on uWSGI prefork is good until
        something blocks, and that Tornado goes to 500 with ease."""
    ]
    if {"threading", "threading-backlog"} <= last.keys():
        few, many = last["threading"], last["threading-backlog"]
        sentences.append(
            f"""Of the calls of {few.users:,} users, the threading server completes {_share(few)}, and {_share(many)}
            once its listen backlog is 4,096 instead of 5: neither the threads nor the HTTP server were the limit, but
            the kernel, which drops a connection that finds the backlog full, so that the client repeats its SYN after
            1, 3 and 7 seconds."""
        )
    prefork = [each for each in CONTENDERS if each.key in last and each.family == "Flask on uWSGI"]
    if prefork:
        shown = ", ".join(f"{last[each.key].figures.at_once:,} ({each.name})" for each in prefork)
        sentences.append(
            f"""A process of uWSGI, or a thread of one, is taken by a call until that is answered, so no more run at
            once than there are of these, {shown}, and the other callers wait in the backlog."""
        )
    if "tornado-blocking" in last:
        sentences.append(
            f"""An event loop like Tornado's carries thousands of connections but runs one handler at a time, so with a
            blocking one it completes {last["tornado-blocking"].figures.calls_per_second:.1f} calls per second: the 500
            of the article are calls that wait without blocking."""
        )
    ours = [(last[key], way) for key, way in _OURS.items() if key in last]
    if ours:
        shown = " and ".join(
            f"{step.figures.at_once:,} {way} (p95 {_seconds(step)}, {_per_call(step)} KiB of memory each)"
            for step, way in ours
        )
        sentences.append(
            f"""The gateway accepts on its loop, with a backlog of 4,096, and blocks in threads, so one process of it
            has run {shown} at once."""
        )
    return _lines(" ".join(sentences))


_OURS = {"gateway-threads": "blocking calls in threads", "gateway-async": "async calls on the loop"}


def _lines(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def _share(step: Step) -> str:
    return f"{step.figures.calls_per_second / step.ideal:.0%}"


def _seconds(step: Step) -> str:
    return "-" if step.figures.p95 is None else f"{step.figures.p95:.2f} s"


def _per_call(step: Step) -> str:
    grown = step.memory.peak - step.memory.idle
    return f"{grown / step.figures.at_once / 1024:,.0f}" if step.figures.at_once else "-"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:" if name not in {"set up as", "failed"} else "---" for name in head[1:]]], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _summary(results: Results) -> Iterable[tuple[str, ...]]:
    for contender in CONTENDERS:
        steps = [step for step in results.steps if step.server == contender.key]
        if steps:
            able = [step.users for step in steps if copes(step, results.pace.call_seconds)]
            most = max(steps, key=lambda step: step.figures.at_once)
            yield (
                contender.name,
                contender.note,
                f"{max(able):,} users" if able else f"not even {min(step.users for step in steps):,} users",
                f"{most.figures.at_once:,}",
                f"{most.memory.peak / _MIB:,.0f} MiB",
            )


_COLUMNS = (
    "server",
    "users",
    "calls/s",
    "ideal",
    "median s",
    "p95 s",
    "p99 s",
    "failed",
    "most at once",
    "idle MiB",
    "peak MiB",
    "KiB per waiting call",
)


def _row(step: Step, results: Results) -> tuple[str, ...]:
    found = step.figures
    patience = results.pace.call_seconds * results.pace.patience
    times = (found.median, found.p95, found.p99)
    failed = ", ".join(f"{kind} {found.failures[kind]:,}" for kind in _KINDS if kind in found.failures)
    return (
        next(each.name for each in CONTENDERS if each.key == step.server),
        f"{step.users:,}",
        f"{found.calls_per_second:,.1f}",
        f"{step.ideal:,.1f}",
        *("-" if time is None else f"{'> ' * (time >= patience)}{min(time, patience):.2f}" for time in times),
        (failed or "none") + ("" if step.survived else "; the server ended"),
        f"{found.at_once:,}",
        f"{step.memory.idle / _MIB:,.0f}",
        f"{step.memory.peak / _MIB:,.0f}",
        _per_call(step),
    )


def _method(results: Results) -> str:
    pace = results.pace
    seconds, patience = f"{pace.call_seconds:g}", f"{pace.call_seconds * pace.patience:g}"
    items = (
        """Each server is started again for each number of users, asked whether it answers correctly, loaded by Locust
        with the [locustfile.py](../../locustfile.py) of this repository, on the same machine, and stopped.""",
        f"""All users come within a second. Each calls a method over XML-RPC that takes {seconds} s, checks the answer,
        and calls again. A caller gives up after {patience} s.""",
        f"""Calls per second are right answers in the {pace.rounds * pace.call_seconds:g} s that begin
        {pace.call_seconds * WARM_UP:g} s after the first request. The ideal is the number of users divided by the time
        of a call.""",
        """Median, p95 and p99 are of the calls that were answered or given up; > stands where they were given up. Who
        still waited at the end is not among them.""",
        """Failures are connections refused or reset, calls that were given up (timed out), faults, wrong answers, and
        others, like an HTTP status without a fault.""",
        f"""Most at once are the right answers within {pace.lengths} call times, divided by their number, at the
        most.""",
        """Memory is that of all processes of the server; what they share counts once (proportional set size). Per
        waiting call is what the server grew by, divided by the most at once.""",
        """The client is part of what is measured: it shares the cores with the server, and Locust spends some tenths of
        a second on 2,000 answers that come at once.""",
    )
    return "\n".join(textwrap.indent(_lines(item), "  ").replace("  ", "* ", 1) for item in items)


def _beyond(results: Results) -> list[str]:
    step = results.many
    if step is None:
        return []
    found = step.figures
    failed = ", ".join(f"{kind} {number:,}" for kind, number in found.failures.items()) or "none"
    text = f"""A bounded asyncio client ([many.py](many.py)) made {step.users:,} calls of an async method, each on a
        connection of its own: {found.completed:,} right answers, {found.at_once:,} of them at once, failed: {failed}.
        p95 is {_seconds(step)}, of {step.users / step.ideal:g} s. The gateway grew by {_per_call(step)} KiB for each
        call, to {step.memory.peak / _MIB:,.0f} MiB."""
    return ["## Beyond Locust", _lines(text)]


def _machine(results: Results) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in results.versions.items())
    return _lines(f"Measured on {results.taken}. The machine: {machine}. The programs: {versions}.")
