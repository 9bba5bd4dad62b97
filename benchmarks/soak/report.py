"""What a run came to, as pictures, and what is wrong with it."""

import itertools
import statistics
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 60  # characters of a picture
_MOST_GROWTH = 0.02
_MEMORY_NOISE = 0.5  # MiB; a page here or there is not a leak
_DESCRIPTOR_NOISE = 8.0  # connections of callers and to the upstream come and go


class Sample(NamedTuple):
    """A process at one time: its private memory in KiB, and how many descriptors it has."""

    memory: float
    descriptors: float


class Outcome(NamedTuple):
    """What a run came to: samples by process, calls by kind, and what was wrong."""

    samples: dict[str, list[Sample]]
    calls: Counter[str]
    wrong: list[str]


def growth(values: list[float], noise: float, level: Callable[[list[float]], float]) -> float:
    """Return by what share the level of the last quarter is above that of the third; 0 if it is no more than noise."""
    quarter = len(values) // 4
    if not quarter:
        return 0.0
    before, after = level(values[-2 * quarter : -quarter]), level(values[-quarter:])
    return (after - before) / before if abs(after - before) > noise else 0.0


def floor(values: list[float]) -> float:
    """Return what memory falls back to: a tenth of the values is below. Large requests and responses come and go."""
    return statistics.quantiles(values, n=10, method="inclusive")[0] if len(values) > 1 else values[0]


def picture(values: list[float]) -> str:
    """Draw values over time, from nothing to the largest, in one line."""
    width = min(_WIDTH, len(values))
    edges = [len(values) * place // width for place in range(width + 1)]
    means = [statistics.fmean(values[start:stop]) for start, stop in itertools.pairwise(edges)]
    top = max(values) or 1.0
    return "".join(_BARS[round(mean / top * (len(_BARS) - 1))] for mean in means)


def report(outcome: Outcome) -> tuple[list[str], list[str]]:
    """Return the lines to print, and what is wrong."""
    lines, problems = [], list(dict.fromkeys(outcome.wrong))
    for process, samples in outcome.samples.items():
        memory, descriptors = [sample.memory / 1024 for sample in samples], [sample.descriptors for sample in samples]
        for what, unit, values, grown in (
            ("memory", " MiB", memory, growth(memory, _MEMORY_NOISE, floor)),
            ("descriptors", "", descriptors, growth(descriptors, _DESCRIPTOR_NOISE, min)),
        ):
            span = f"{values[0]:.1f} to {values[-1]:.1f}{unit}, at most {max(values):.1f}"
            lines.append(f"{process:19} {what:11} |{picture(values)}| {span}; second half {grown:+.1%}")
            if grown > _MOST_GROWTH:
                verb = "grows" if what == "memory" else "grow"
                problems.append(f"{process}: {what} {verb} by {grown:.1%} in the second half")
    lines.append("rounds of calls: " + ", ".join(f"{kind} {number}" for kind, number in sorted(outcome.calls.items())))
    return lines, problems
