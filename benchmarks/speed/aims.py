"""What the gateway is to reach, and what it reaches: ``make bench`` prints it at the end."""

import statistics
from collections.abc import Callable, Iterator

from msgspec import Struct

from benchmarks.speed.cases import STRUCTS
from benchmarks.speed.driving import Round
from benchmarks.speed.results import Results, ratios
from benchmarks.speed.servers import BY_KEY as SERVERS

Found = Callable[[Results], float | None]


class Aim(Struct, frozen=True, kw_only=True):
    """A figure that is wanted: at least so much, or at most, and how it is found in results."""

    name: str
    wanted: float
    found: Found
    at_most: bool = False

    def reached(self, value: float) -> bool:
        """Tell whether a value is good enough."""
        return value <= self.wanted if self.at_most else value >= self.wanted


def _per_cpu(each: Round) -> float:
    return each.per_cpu


def _against(case: str, server: str, reference: str, value: Callable[[Round], float] = _per_cpu) -> Found:
    def found(results: Results) -> float | None:
        ours, theirs = results.run(case, server), results.run(case, reference)
        return statistics.median(ratios(ours, theirs, value)) if ours and theirs else None

    return found


_PYTHON_PEERS = ("standard-library", "aiohttp-xmlrpc", "pjrpc", "tornado")


def _against_python(results: Results) -> float | None:
    """Return the smallest ratio against any server in Python, of ours with the same protocol."""
    found = []
    for case, server in (("xml add 64", "gateway-compiled"), ("xml add 64", "gateway"), ("json add 64", "gateway")):
        ours = results.run(case, server)
        peers = [results.run(case, key) for key in _PYTHON_PEERS]
        found += [statistics.median(ratios(ours, each, _per_cpu)) for each in peers if each and ours]
    return min(found, default=None)


def _codec(library: str, operation: str) -> Found:
    def found(results: Results) -> float | None:
        return next((each.milliseconds[operation] for each in results.codecs if each.library == library), None)

    return found


def _bridge(name: str, in_flight: int, value: str) -> Found:
    def found(results: Results) -> float | None:
        return next(
            (
                float(getattr(each, value))
                for each in results.bridges
                if (each.name, each.in_flight) == (name, in_flight)
            ),
            None,
        )

    return found


def _memory(method: str, value: str) -> Found:
    def found(results: Results) -> float | None:
        return next(
            (
                float(getattr(each, value))
                for each in results.memory
                if (each.server, each.method) == ("gateway", method)
            ),
            None,
        )

    return found


def _codecs() -> Iterator[Aim]:
    for library, loads, dumps in (
        ("gateway, XML-RPC, compiled", 4, 3),
        ("gateway, XML-RPC", 60, 40),
        ("gateway, JSON-RPC", 8, 5),
    ):
        for operation, wanted in (("loads", loads), ("dumps", dumps)):
            yield Aim(
                name=f"{library}: {operation} {STRUCTS:,} structs, ms",
                wanted=wanted,
                found=_codec(library, f"{operation} {STRUCTS:,} structs"),
                at_most=True,
            )


AIMS = (
    Aim(name="XML-RPC at 64, against Go", wanted=1.0, found=_against("xml add 64", "gateway", "go")),
    Aim(name="the same, compiled", wanted=1.4, found=_against("xml add 64", "gateway-compiled", "go")),
    Aim(
        name="XML-RPC as behind nginx, against Go",
        wanted=0.95,
        found=_against("xml-proxied add 64", "gateway", "go"),
    ),
    Aim(name="the same, compiled", wanted=1.3, found=_against("xml-proxied add 64", "gateway-compiled", "go")),
    Aim(name="JSON-RPC at 64, against jayson", wanted=1.3, found=_against("json add 64", "gateway", "jayson")),
    Aim(name="async def, XML-RPC, against Go", wanted=0.6, found=_against("xml-kinds addAsync 64", "gateway", "go")),
    Aim(name="def in a thread, against Go", wanted=0.35, found=_against("xml-kinds addThread 64", "gateway", "go")),
    Aim(
        name="p99 of XML-RPC at 64, against Go",
        wanted=1.1,
        found=_against("xml add 64", "gateway", "go", lambda each: each.p99),
        at_most=True,
    ),
    Aim(name="against each server in Python", wanted=4, found=_against_python),
    *_codecs(),
    Aim(
        name="bridge to JSON-RPC over TCP at 64, calls per CPU s",
        wanted=30_000,
        found=_bridge("JSON-RPC over TCP", 64, "per_cpu"),
    ),
    Aim(
        name="bridge to XML-RPC over HTTP at 64, calls per CPU s",
        wanted=20_000,
        found=_bridge("XML-RPC", 64, "per_cpu"),
    ),
    Aim(
        name="added to a call over TCP at 1, us",
        wanted=150,
        found=_bridge("JSON-RPC over TCP", 1, "added_us"),
        at_most=True,
    ),
    Aim(name="an idle connection, KiB", wanted=3, found=_memory("sleepAsync", "idle"), at_most=True),
    Aim(name="a waiting coroutine, KiB", wanted=8, found=_memory("sleepAsync", "waiting"), at_most=True),
    Aim(name="a waiting thread, KiB", wanted=30, found=_memory("sleepThread", "waiting"), at_most=True),
    Aim(
        name="two workers, calls per CPU s, against one",
        wanted=0.95,
        found=_against("workers add 64", "two-workers", "one-worker"),
    ),
)


def aims(results: Results) -> str:
    """Write a line for each aim that was measured."""
    lines = []
    for aim in AIMS:
        value = aim.found(results)
        if value is not None:
            sign, verdict = "<=" if aim.at_most else ">=", "reached" if aim.reached(value) else "MISSED"
            lines.append(f"{verdict:8} {aim.name}: {value:,.5g} (wanted {sign} {aim.wanted:,g})")
    lines += [f"missing  {SERVERS[key].name}: {why}" for key, why in results.missing.items()]
    return "\n".join(lines)
