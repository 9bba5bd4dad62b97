"""Interleaved rounds: all servers run, and in each round each of them is driven in each case in turn.

take(results, groups, servers, pace, keep)   fills results.runs

What slows the machine for a while slows all servers, and ratios are of the same round. A server that answers wrongly in
a case, or not at all, is left out of this case, with the reason.
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeAlias

from msgspec import Struct

from benchmarks.running import CannotStart, Running, cores, serving
from benchmarks.speed.cases import Case, Group
from benchmarks.speed.driving import Round, WrongAnswer, checked, driven
from benchmarks.speed.results import Results, Run
from benchmarks.speed.servers import Server

Keep: TypeAlias = Callable[[Results], None]


class Pace(Struct, frozen=True, kw_only=True):
    """How many rounds of how many seconds, and how many seconds of warming up at the most."""

    rounds: int
    seconds: int
    warm_up: int


class Entry(Struct, kw_only=True):
    """A server in a case, with the length of its right answer."""

    case: Case
    server: Server
    running: Running
    length: int = 0

    @property
    def name(self) -> str:
        """Return what tells it from the others."""
        return f"{self.server.name}, {self.case.key}"

    def driven(self, seconds: int) -> Round:
        """Load the server once."""
        return driven(self.running, self.case, self.server.paths[self.case.protocol], self.length, seconds)


def take(results: Results, groups: Sequence[Group], servers: Sequence[Server], pace: Pace, keep: Keep) -> None:
    """Measure; ``keep`` is called after each round."""
    with ExitStack() as stack:
        all_cores = cores()
        running = _started(results, servers, stack)
        os.sched_setaffinity(0, all_cores[-1:])
        stack.callback(os.sched_setaffinity, 0, all_cores)
        entries = _entries(results, groups, servers, running)
        _warm_up(entries, pace)
        runs: dict[str, Run] = {}
        for number in range(pace.rounds):
            say(f"round {number + 1} of {pace.rounds}: {len(entries)} runs")
            for entry in entries:
                if entry.name not in results.dropped:
                    _take(entry, pace, runs, results)
            results.runs = list(runs.values())
            keep(results)


def _started(results: Results, servers: Sequence[Server], stack: ExitStack) -> dict[str, Running]:
    found = {}
    for each in servers:
        try:
            found[each.key] = stack.enter_context(serving(each.command, each.cores, each.environment))
        except CannotStart as reason:
            results.missing[each.key] = str(reason)
            say(f"{each.name} is left out: {reason}")
    return found


def _entries(
    results: Results, groups: Sequence[Group], servers: Sequence[Server], running: dict[str, Running]
) -> list[Entry]:
    """Return the servers of each case, all of which answer rightly."""
    found = []
    for group in groups:
        for case in group.cases:
            for server in servers:
                if server.key in running and group.takes_part(server, case):
                    entry = Entry(case=case, server=server, running=running[server.key])
                    try:
                        entry.length = checked(entry.running, case, server.paths[case.protocol])
                    except WrongAnswer as wrong:
                        _drop(entry, wrong, results)
                    else:
                        found.append(entry)
    return found


def _warm_up(entries: Sequence[Entry], pace: Pace) -> None:
    """Drive each server once in the first of its cases, for as long as it needs."""
    warm: set[str] = set()
    for entry in entries:
        if entry.server.key not in warm and pace.warm_up:
            warm.add(entry.server.key)
            entry.driven(min(entry.server.warm_up, pace.warm_up))


def _take(entry: Entry, pace: Pace, runs: dict[str, Run], results: Results) -> None:
    try:
        found = entry.driven(pace.seconds * entry.case.seconds)
    except WrongAnswer as wrong:
        runs.pop(entry.name, None)
        _drop(entry, wrong, results)
    else:
        new = Run(case=entry.case.key, server=entry.server.key, rounds=[])
        runs.setdefault(entry.name, new).rounds.append(found)


def _drop(entry: Entry, reason: WrongAnswer, results: Results) -> None:
    results.dropped[entry.name] = str(reason)
    say(f"{entry.name} is left out: {reason}")


def say(text: str) -> None:
    """Tell how it goes."""
    print(text, file=sys.stderr, flush=True)
