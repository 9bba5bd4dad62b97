"""How long things take: counted by buckets, until somebody writes them down."""

from bisect import bisect_left

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds, in seconds; what takes longer is in one more."""


class Durations:
    """How long things have taken.

    Attributes:
        seconds: their sum.
        buckets: how many are in each of BUCKETS.

    """

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)

    def add(self, seconds: float) -> None:
        """Count one."""
        self.seconds += seconds
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
