"""The address of those who watch, which is not the callers': Prometheus, and whoever asks whether a process is well.

    admission(metrics, levels, health) -> Admission    GET /metrics, /healthz, /readyz; all else is 404 or 405
    sample(metrics, levels)                            once a second, so that other workers have what is true here

Nobody is asked here who they are: whoever reaches the address may read it. Web pages may not: the Host of /metrics
must be an IP address, a name without a dot (localhost, a container), or a known name, so a page whose own name was made
to point here (DNS rebinding) reads nothing.
"""

import asyncio
from collections.abc import Callable, Iterable

from msgspec import Struct

from gateway.endpoints.rebinding import FOREIGN, is_sensible
from gateway.model.http import Admission, Admitted, HTTPRequest, HTTPResponse
from gateway.telemetry.metrics import Levels, Metrics

_PERIOD = 1.0  # seconds
_PATHS = ("/metrics", "/healthz", "/readyz")
_PLAIN = ("Content-Type", "text/plain; charset=utf-8")
_FOREIGN = FOREIGN.format("metrics.bind").encode()
_UNCACHED = ("Cache-Control", "no-store")


class _Scrape(Struct, frozen=True):
    """A request for the numbers. They are written in a thread: of many methods and workers it takes a while."""

    metrics: Metrics
    accept: str

    async def answer(self, body: bytes) -> HTTPResponse:
        content_type, text = await asyncio.to_thread(self.metrics.expose, self.accept)
        return HTTPResponse(headers=(("Content-Type", content_type), _UNCACHED), body=text)

    @property
    def client(self) -> str:
        """Nobody's: who reads metrics is not counted."""
        return ""

    def too_many(self) -> HTTPResponse:
        """Refuse it (nobody is counted, so it is never asked for)."""
        return HTTPResponse(status=429)

    def too_large(self) -> HTTPResponse:
        return HTTPResponse(status=413, headers=(_PLAIN,), body=b"No body is read here.\n")

    def unreadable(self, status: int, reason: str) -> HTTPResponse:
        return HTTPResponse(status=status, headers=(_PLAIN,), body=f"{reason}\n".encode())


def admission(
    metrics: Metrics, levels: Callable[[], Levels], health: Callable[[str], HTTPResponse], names: Iterable[str]
) -> Admission:
    """Make the endpoint for monitoring.

    Arguments:
        metrics: what /metrics shows.
        levels: measures what goes up and down in this process.
        health: answers /healthz and /readyz.
        names: the host names with a dot by which /metrics may be read.

    """
    known = frozenset(name.lower() for name in names)

    def admit(head: HTTPRequest) -> HTTPResponse | Admitted:
        path = head.target.partition("?")[0]
        if path not in _PATHS:
            return HTTPResponse(status=404, headers=(_PLAIN,), body=f"Here are {', '.join(_PATHS)}.\n".encode())
        if head.method not in ("GET", "HEAD"):
            return HTTPResponse(status=405, headers=(_PLAIN, ("Allow", "GET, HEAD")), body=b"This is only read.\n")
        if path != "/metrics":
            return health(path)
        if not is_sensible(head.headers.get("Host", ""), known):
            return HTTPResponse(status=403, headers=(_PLAIN,), body=_FOREIGN)
        metrics.update(levels())
        return _Scrape(metrics, head.headers.get("Accept", ""))

    return admit


async def sample(metrics: Metrics, levels: Callable[[], Levels]) -> None:
    """Measure what goes up and down, again and again, until it is cancelled."""
    while True:
        metrics.update(levels())
        await asyncio.sleep(_PERIOD)
