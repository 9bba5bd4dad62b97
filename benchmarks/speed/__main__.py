"""``make bench``: the gateway and other servers side by side.

python -m benchmarks.speed                      5 rounds of 1 s of everything, some 11 minutes; into build/speed/
python -m benchmarks.speed --only xml json      only these tables
python -m benchmarks.speed --publish            measures nothing: writes the tables and the picture of build/speed/
                                                into benchmarks/ and README.md (``make figures``)

Servers run on one core, wrk on the other one. results.json is written after each round, so an end before the last round
keeps what there is.
"""

import argparse
from pathlib import Path

from benchmarks import bridges
from benchmarks.concurrency.__main__ import raise_descriptor_limit
from benchmarks.concurrency.processes import ROOT, end_descendants
from benchmarks.speed import codecs, memory
from benchmarks.speed.aims import aims
from benchmarks.speed.cases import BY_KEY as GROUPS
from benchmarks.speed.cases import needed
from benchmarks.speed.pictures import draw
from benchmarks.speed.report import put, report, story
from benchmarks.speed.results import Results, begun, read, write
from benchmarks.speed.rounds import Pace, say, take
from benchmarks.speed.servers import BUILT, BY_KEY, available

PARTS = (*GROUPS, "codecs", "memory", "bridges")
_OTHER_FILES = 500  # open files beside connections
_CALLS_OF_OBJECTS = 500
_ROUNDS_OF_BRIDGES = 3  # at the most: a round takes half a minute


def main() -> None:
    """Measure, and write a report into a folder; or publish the one that is there."""
    arguments = _parser().parse_args()
    file = arguments.output / "results.json"
    if arguments.publish:
        publish(read(file), arguments.root)
        return
    try:
        results = measured(arguments, file)
    finally:
        end_descendants()
    text = report(results)
    (arguments.output / "report.md").write_text(f"{text}\n", encoding="utf-8")
    draw(results, arguments.output)
    print(text, aims(results), sep="\n\n")


def publish(results: Results, root: Path) -> None:
    """Write results, tables and picture where readers find them."""
    folder = root / "benchmarks" / "speed"
    write(folder / "results.json", results)
    draw(results, folder)
    put(root / "benchmarks" / "README.md", report(results))
    put(root / "README.md", story(results))


def measured(arguments: argparse.Namespace, file: Path) -> Results:
    """Measure what is asked for, and write to the file what there is after each part."""
    groups = [GROUPS[part] for part in arguments.only if part in GROUPS]
    servers, missing = available([each for each in needed(groups) if each.key in arguments.servers])
    for key, reason in missing.items():
        say(f"{BY_KEY[key].name} is left out: {reason}")
    results = begun(arguments.seconds, missing)
    raise_descriptor_limit(max(memory.KINDS.values()) + _OTHER_FILES)
    if groups:
        pace = Pace(rounds=arguments.rounds, seconds=arguments.seconds, warm_up=arguments.warm_up)
        take(results, groups, servers, pace, lambda found: write(file, found))
    if "codecs" in arguments.only:
        say("codecs")
        results.codecs = codecs.measured(arguments.seconds / 2)
    if "memory" in arguments.only:
        for server in available([BY_KEY[key] for key in memory.SERVERS if key in arguments.servers])[0]:
            for method in memory.KINDS.keys() & server.methods:
                say(f"memory of {server.name}, {method}")
                results.memory.append(memory.measured(server, method))
    write(file, results)
    if "bridges" in arguments.only:
        rounds = min(arguments.rounds, _ROUNDS_OF_BRIDGES)
        with bridges.everything() as here:
            results.bridges = bridges.measure(here, arguments.seconds, rounds)
            results.objects = bridges.objects(here, rounds, _CALLS_OF_OBJECTS)
            results.object_calls = _CALLS_OF_OBJECTS
        write(file, results)
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--rounds", type=int, default=5)
    add("--seconds", type=int, default=1, help="of a round")
    add("--warm-up", type=int, default=10, help="seconds at the most; a server needs 1, node's compiler 10")
    add("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    add("--servers", nargs="+", choices=BY_KEY, default=BY_KEY, metavar="SERVER", help=f"of {', '.join(BY_KEY)}")
    add("--output", type=Path, default=BUILT, metavar="FOLDER", help="where results.json and the report are")
    add("--publish", action="store_true", help="measure nothing, and write what is there into the pages")
    add("--root", type=Path, default=ROOT, metavar="FOLDER", help="of the pages; by default this repository")
    return parser


if __name__ == "__main__":
    main()
