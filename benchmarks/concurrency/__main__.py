"""``make compare``: every server side by side with calls that block, and a report with pictures.

python -m benchmarks.concurrency              calls of 5 seconds, up to 2,000 users; into benchmarks/concurrency/
python -m benchmarks.concurrency --quick      calls of 1 second, up to 500 users; into build/concurrency/, as
                                              whatever is not the full comparison
python -m benchmarks.concurrency --redraw     the report once more, from results.json
"""

import argparse
import math
import resource
import signal
import sys
from pathlib import Path
from typing import NoReturn

import msgspec
from msgspec import Struct

from benchmarks.concurrency.contenders import CONTENDERS
from benchmarks.concurrency.driving import CannotStart, Pace, Step, drive
from benchmarks.concurrency.many import many
from benchmarks.concurrency.pictures import draw
from benchmarks.concurrency.processes import ROOT, end_descendants
from benchmarks.concurrency.report import report
from benchmarks.concurrency.results import Results, gathered, read, write

_START_AND_STOP = 1.0  # seconds of a run beside its load
_OTHER_FILES = 500  # open files of a server or a client beside its connections
_ASKED_FOR_MANY = "gateway-async"
_LONGER = 3  # times as long as others are the calls of many, so that the last one comes before the first one has ended


class Plan(Struct, frozen=True, kw_only=True):
    """What is measured.

    Attributes:
        users: how many of them call at once, a step for each number.
        many: calls at once in the one run beyond the reach of Locust; 0 for none.
        servers: their keys.

    """

    pace: Pace
    users: tuple[int, ...]
    many: int
    servers: tuple[str, ...] = tuple(each.key for each in CONTENDERS)


FULL = Plan(pace=Pace(call_seconds=5, rounds=3, patience=3), users=(40, 200, 500, 1000, 2000), many=10_000)
QUICK = Plan(pace=Pace(call_seconds=1, rounds=1, patience=2.2), users=(40, 200, 500), many=0)
FULL_OUTPUT = ROOT / "benchmarks" / "concurrency"
OTHER_OUTPUT = ROOT / "build" / "concurrency"  # what is not the full comparison never takes its place


def main() -> None:
    """Measure, and write the report.

    Ends with 1 where it cannot measure, with a message; with 130 or 143 after SIGINT or SIGTERM, all servers stopped.
    """
    arguments = _parser().parse_args()
    plan = _plan(arguments)
    output = arguments.output or (FULL_OUTPUT if plan == FULL else OTHER_OUTPUT)
    file = output / "results.json"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    try:
        if not arguments.redraw:
            output.mkdir(parents=True, exist_ok=True)
            write(file, measured(plan))
        results = read(file)
    except (CannotStart, OSError) as error:
        sys.exit(f"The comparison cannot go on: {error}")
    finally:
        end_descendants()
    draw(results, output)
    (output / "README.md").write_text(report(results), encoding="utf-8")
    _say(f"The report is {output / 'README.md'}")


def measured(plan: Plan) -> Results:
    """Take all steps, and say how it goes.

    Raises:
        CannotStart: a server or Locust does not work, or there are too few descriptors.

    """
    raise_descriptor_limit(max(plan.many, 2 * max(plan.users)) + _OTHER_FILES)
    runs = [(each, users) for each in CONTENDERS if each.key in plan.servers for users in plan.users]
    minutes = math.ceil(len(runs) * (plan.pace.seconds + _START_AND_STOP) / 60)
    _say(f"{len(runs)} runs of {plan.pace.seconds:g} s, about {minutes} minute{'s' * (minutes > 1)}")
    steps = []
    for number, (contender, users) in enumerate(runs, 1):
        _say(f"{number:3}/{len(runs)}  {contender.name}: {users:,} users", end="")
        step = drive(contender, users, plan.pace)
        _say(_outcome(step))
        steps.append(step)
    beyond = None
    if plan.many and _ASKED_FOR_MANY in plan.servers:
        contender = next(each for each in CONTENDERS if each.key == _ASKED_FOR_MANY)
        _say(f"beyond   {contender.name}: {plan.many:,} calls", end="")
        beyond = many(contender, plan.many, _LONGER * plan.pace.call_seconds)
        _say(f" - {beyond.figures.completed:,} right answers, {beyond.figures.at_once:,} at once{_failed(beyond)}")
    return gathered(plan.pace, steps, beyond)


def raise_descriptor_limit(needed: int) -> None:
    """Let this process and those that it starts have so many open files.

    Raises:
        CannotStart: the system does not allow it.

    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CannotStart(
            f"so many connections need {needed:,} open files, and the system's limit is {hard:,}: raise it with"
            f" ulimit -Hn {needed} as root, or ask for less with --users and --many"
        )
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        _say(f"the limit of open files is raised from {soft:,} to {needed:,}")


def _outcome(step: Step) -> str:
    found = step.figures
    p95 = "no answer" if found.p95 is None else f"p95 {found.p95:.2f} s"
    return f" - {found.calls_per_second:.1f} of {step.ideal:.0f} calls/s, {p95}{_failed(step)}"


def _failed(step: Step) -> str:
    failures = ", ".join(f"{kind} {number:,}" for kind, number in step.figures.failures.items())
    return f"{'; ' * bool(failures)}{failures}{'' if step.survived else '; the server has ended'}"


def _parser() -> argparse.ArgumentParser:
    keys = [each.key for each in CONTENDERS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.concurrency", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="calls of 1 second and three steps: two minutes")
    add("--redraw", action="store_true", help="measure nothing, and write the report from results.json")
    add("--servers", nargs="+", choices=keys, metavar="SERVER", help=f"only these of {', '.join(keys)}")
    add("--users", nargs="+", type=int, metavar="N", help="other numbers of users")
    add("--call-seconds", type=float, metavar="S", help="another length of a call")
    add("--patience", type=float, metavar="N", help="other call times after which a caller gives up")
    add("--many", type=int, metavar="N", help="another number of calls in the run without Locust; 0 to leave it out")
    add("--output", type=Path, metavar="FOLDER", help="where results.json and the report are")
    return parser


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = QUICK if arguments.quick else FULL
    asked = {"call_seconds": arguments.call_seconds, "patience": arguments.patience}
    pace = msgspec.structs.replace(plan.pace, **{name: value for name, value in asked.items() if value is not None})
    return Plan(
        pace=pace,
        users=tuple(arguments.users or plan.users),
        many=plan.many if arguments.many is None else arguments.many,
        servers=tuple(arguments.servers or plan.servers),
    )


def _end(number: int, _: object) -> NoReturn:
    """End at a signal, and let nothing disturb the servers' being stopped."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def _say(text: str, *, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
