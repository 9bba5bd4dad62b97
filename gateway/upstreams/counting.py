"""What has happened at an upstream since somebody asked, for the metrics."""

from collections import Counter

from gateway.fleet.seats import Ended
from gateway.model.durations import Durations
from gateway.model.faults import BadUpstream, DeadlineExceeded, Fault, Overloaded, Unavailable
from gateway.upstreams import Invocation
from gateway.upstreams.faults import FAILED


class Counts:
    """What has happened.

    Attributes:
        attempts: by how they have ended, and how far they had come.
        durations: of those that an instance has answered.
        extra: attempts beside the first ones, by their reason.
        no_budget: extra attempts that were not made, because there had been too many.

    """

    def __init__(self) -> None:
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.durations = Durations()
        self.extra: Counter[str] = Counter()
        self.no_budget = 0

    def note(self, ended: Ended, invocation: Invocation, now: float) -> None:
        """Count an attempt that ends now, in seconds of ``time.monotonic()``."""
        if invocation.span is not None:
            invocation.span.end(ended, invocation.sent)
        key = ended, invocation.sent
        self.attempts[key] = self.attempts.get(key, 0) + 1
        if ended in ("ok", "failed"):
            self.durations.add(now - invocation.start)

    def take(self, name: str) -> dict[tuple[str, ...], float | Durations]:
        """Return what has happened at an upstream until now, as the metrics have it, and begin again."""
        taken: dict[tuple[str, ...], float | Durations] = {("upstream_duration_seconds", name): self.durations}
        taken |= {("upstream_attempts", name, *key): count for key, count in self.attempts.items()}
        taken |= {("upstream_extra", name, why): count for why, count in self.extra.items()}
        taken["upstream_budget_empty", name] = self.no_budget
        self.attempts, self.extra, self.durations, self.no_budget = Counter(), Counter(), Durations(), 0
        return taken


def verdict(told: Exception, invocation: Invocation, *, is_late: bool) -> Ended:
    """Tell what a failure says of the instance that was called."""
    if is_late:
        return "late"
    if isinstance(told, Unavailable):
        return "refused" if invocation.sent == "no" else "bad"
    if isinstance(told, DeadlineExceeded):
        return "late"
    if invocation.sent == "no":  # it was never asked
        return "cancelled"
    if isinstance(told, (BadUpstream, Overloaded)):
        return "bad"
    is_inside = not isinstance(told, Fault) or (type(told) is Fault and told.detail == FAILED)
    return "failed" if is_inside else "ok"
