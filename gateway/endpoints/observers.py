"""Those who are told of calls and requests: the log, the metrics."""

import asyncio
from collections.abc import Callable, Sequence

from gateway.model.calls import CallRecord
from gateway.model.http import Refusal
from gateway.telemetry.tracing import Tracing


class Observers:
    """The observers of one endpoint.

    Arguments:
        calls: called in the next turn of the event loop, after the answers were sent, with all calls that have ended.
        refusals: called for each request that was refused before it was a call.
        traffic: called for each answered request: with its protocol, and the bytes of its body and of its answer.
        tracing: begins the spans of calls, and is one of those that are told of them; None where they are not traced.

    """

    def __init__(
        self,
        calls: tuple[Callable[[Sequence[CallRecord]], None], ...] = (),
        refusals: tuple[Callable[[Refusal], None], ...] = (),
        traffic: tuple[Callable[[str, int, int], None], ...] = (),
        tracing: Tracing | None = None,
    ) -> None:
        self.tracing = tracing
        self._calls = calls
        self._refusals = refusals
        self._traffic = traffic
        self._records: list[CallRecord] = []

    def note(self, record: CallRecord) -> None:
        """Take note of a call that has ended."""
        if not self._records:
            asyncio.get_running_loop().call_soon(self._report)
        self._records.append(record)

    def refused(self, refusal: Refusal) -> None:
        """Tell of a request that was refused."""
        for observe in self._refusals:
            observe(refusal)

    def answered(self, protocol: str, received: int, sent: int) -> None:
        """Tell of a request that was answered."""
        for observe in self._traffic:
            observe(protocol, received, sent)

    def _report(self) -> None:
        records, self._records = self._records, []
        for observe in self._calls:
            observe(records)
