"""From the calls that Locust has made to the figures of the report.

    figures(calls, call_seconds, rounds, lengths) -> Figures

A call is (when it began, how long it took, what failed), in seconds; the failure is the text of one of the exceptions
of locustfile.py, or empty.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

Call: TypeAlias = tuple[float, float, str]

WARM_UP = 1.5  # call times from the first request to the first call that counts: between two rounds, if all goes well
_KINDS = {
    "TransportError('refused')": "refused",
    "TransportError('reset')": "reset",
    "TransportError('timed out')": "timed out",
    "Fault": "fault",
    "WrongAnswer": "wrong",
    "": "other",  # like HTTP 502
}
_TIMED_OUT = "TransportError('timed out')"


class Figures(Struct, frozen=True, kw_only=True):
    """What a load came to.

    Attributes:
        completed: right answers, in all.
        calls_per_second: right answers in the rounds that count.
        median, p95, p99: seconds of the calls that were answered or given up, so a lower bound where it is the time
            after which they were given up; None where there are none of them.
        failures: by kind, only those that happened.
        at_once: the most calls in progress at once, over a few call times.

    """

    completed: int
    calls_per_second: float
    median: float | None
    p95: float | None
    p99: float | None
    failures: dict[str, int]
    at_once: int


def figures(calls: Sequence[Call], call_seconds: float, rounds: int, lengths: int) -> Figures:
    """Take the figures of a run.

    Args:
        calls: all of them, in any order.
        call_seconds: how long the method takes.
        rounds: how many call times count, from WARM_UP on.
        lengths: over how many call times the most calls at once are sought.

    """
    ended = sorted(began + took for began, took, failure in calls if not failure)
    start = min((began for began, _, _ in calls), default=0.0) + WARM_UP * call_seconds
    counted = bisect_left(ended, start + rounds * call_seconds) - bisect_left(ended, start)
    waited = sorted(
        took for _, took, failure in calls if not failure.startswith("TransportError") or failure == _TIMED_OUT
    )
    return Figures(
        completed=len(ended),
        calls_per_second=counted / (rounds * call_seconds),
        median=percentile(waited, 0.5),
        p95=percentile(waited, 0.95),
        p99=percentile(waited, 0.99),
        failures=dict(Counter(kind(failure) for _, _, failure in calls if failure)),
        at_once=most_at_once(ended, call_seconds, lengths),
    )


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the value that a share of the values does not exceed; None where there are no values."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def kind(failure: str) -> str:
    """Return the kind of a failure."""
    return next(name for text, name in _KINDS.items() if failure.startswith(text))


def most_at_once(ended: Sequence[float], call_seconds: float, lengths: int) -> int:
    """Return how many calls ran at once, at the most, over so many call times.

    A place in which one call runs after the other gives one answer in each call time. One call time alone would not do:
    a loop that blocks holds back its answers, and sends several together. The fiftieth of a call time that is taken off
    is for what the client adds, lest a place be counted once too often.

    Args:
        ended: when the right answers came, in order.
        call_seconds: how long a call takes.
        lengths: over how many of these.

    """
    first, most = 0, 0
    for last, end in enumerate(ended):
        while ended[first] <= end - (lengths - 0.02) * call_seconds:
            first += 1
        most = max(most, last - first + 1)
    return round(most / lengths)
