"""make drill: instances die, hang, lie and come back under load, and a table says what became of the calls.

Four processes behind one gateway, 300 calls a second, half of them of an idempotent method. Every call that runs is
written down by its instance, so that none that is lost or doubled goes unnoticed: the drill fails then.
"""

import json
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import rolling
from benchmarks.directories import DRILLS as OF_DIRECTORIES
from benchmarks.directories import DirectoryDrill
from gateway.fleet.directories import file as looked_at
from tests.fleet.load import Fleet, Load

COUNT = 4
PAUSE = 0.025  # seconds between two calls of one of eight callers


class Drill(NamedTuple):
    """A drill: what happens meanwhile, the modes of instances that are not well, options, and how long callers wait."""

    name: str
    happens: Callable[[Fleet], None]
    modes: tuple[str, ...] = ()
    options: str = ""
    timeout: float = 2.0
    is_listed: bool = False


def killed(fleet: Fleet) -> None:
    """Kill one after the other, and start each again."""
    for number in range(5):
        program = fleet.programs[number % COUNT]
        program.kill()
        time.sleep(0.7)
        program.start()
        time.sleep(0.7)


def most_killed(fleet: Fleet) -> None:
    """Kill all but one at once."""
    for program in fleet.programs[1:]:
        program.kill()
    time.sleep(3)


def all_killed(fleet: Fleet) -> None:
    """Kill all, and start them after a second."""
    for program in fleet.programs:
        program.kill()
    time.sleep(1)
    for program in fleet.programs:
        program.start()
    time.sleep(3)


def stopped(fleet: Fleet) -> None:
    """Stop one for three seconds, twice."""
    for number in range(2):
        fleet.programs[number].signal(signal.SIGSTOP)
        time.sleep(3)
        fleet.programs[number].signal(signal.SIGCONT)
        time.sleep(1)


def withdrawn(fleet: Fleet) -> None:
    """Take one after the other out of the list, end it, start it again and list it."""
    for program in fleet.programs[:3]:
        fleet.list([each for each in fleet.programs if each is not program])
        time.sleep(1)
        program.kill()
        program.start()
        fleet.list(fleet.programs)
        time.sleep(0.5)


def broken_list(fleet: Fleet) -> None:
    """Break the list for a while, and empty it; the last one is used."""
    time.sleep(0.5)
    for text in ("[{", "[]"):
        fleet.listed.write_text(text)
        time.sleep(1.5)
    fleet.list(fleet.programs)
    time.sleep(0.5)


def nothing(_: Fleet) -> None:
    """Let calls run."""
    time.sleep(4)


DRILLS = (
    Drill("5 times one is killed and started", killed),
    Drill("all but one are killed at once", most_killed),
    Drill("all are gone for a second", all_killed),
    Drill("2 times one is stopped for 3 s, callers wait 1 s", stopped, timeout=1.0),
    Drill("the same with hedge = 0.1", stopped, options="hedge = 0.1", timeout=1.0),
    Drill("one answers with garbage", nothing, ("garbage",)),
    Drill("one resets each connection", nothing, ("reset",)),
    Drill("one fails inside", nothing, ("failing",)),
    Drill("3 times one is withdrawn from the list, then killed", withdrawn, is_listed=True),
    Drill("the list is broken, then empty", broken_list, is_listed=True),
)


def drilled(drill: Drill) -> tuple[str, ...]:
    """Run a drill, and return its row.

    Raises:
        AssertionError: a call was lost or doubled, or a caller was told what is not so.

    """
    with tempfile.TemporaryDirectory() as folder, Fleet(Path(folder), COUNT, drill.modes) as fleet:
        serving = fleet.gateway(drill.options, is_listed=drill.is_listed)
        with serving as server, Load(server.port, drill.timeout, PAUSE) as load:
            time.sleep(1)
            drill.happens(fleet)
            time.sleep(1)
        executed = fleet.executed()
    return _row(drill.name, load, executed)


def drilled_with(drill: DirectoryDrill) -> tuple[str, ...]:
    """Run a drill of a directory, and return its row.

    Raises:
        AssertionError: a call was lost or doubled, or a caller was told what is not so.

    """
    options = f"directory_service = '{drill.service}'"
    with tempfile.TemporaryDirectory() as folder, Fleet(Path(folder), COUNT) as fleet:
        (Path(folder) / "directory").mkdir()
        with drill.make(Path(folder) / "directory", fleet) as directory:
            serving = fleet.gateway(options, table=directory.table)
            with serving as server, Load(server.port, 2.0, PAUSE) as load:
                time.sleep(1)
                drill.happens(fleet, directory)
                time.sleep(1)
            executed = fleet.executed()
    return _row(drill.name, load, executed)


def _row(name: str, load: Load, executed: Counter[str]) -> tuple[str, ...]:
    load.judge(executed)
    return (name, *(_shown(load, method) for method in ("get", "put")), _doubled(executed))


def _shown(load: Load, method: str) -> str:
    count = sum(key.startswith(method) for key in load.outcomes)
    failed: Counter[Any] = load.failed(method)
    kinds = ", ".join(f"{code} {sent or ''}".strip() for code, sent in sorted(failed, key=json.dumps))
    return f"{failed.total()} of {count}" + (f": {kinds}" if kinds else "")


def _doubled(executed: Counter[str]) -> str:
    return str(sum(count > 1 for key, count in executed.items() if key.startswith("put")))


def main() -> None:
    """Run all drills, and write the table."""
    looked_at._LOOK = 0.1  # noqa: SLF001 - or the drill would take longer
    print("| what happens | idempotent calls that failed | others that failed | others that ran twice |")
    print("| --- | --- | --- | --- |")
    for drill in DRILLS:
        print(f"| {' | '.join(drilled(drill))} |", flush=True)
    for of_directory in OF_DIRECTORIES:
        print(f"| {' | '.join(drilled_with(of_directory))} |", flush=True)
    load, executed = rolling.drilled(PAUSE)
    print(f"| {' | '.join(_row(rolling.NAME, load, executed))} |", flush=True)


if __name__ == "__main__":
    main()
