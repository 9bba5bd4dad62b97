"""What is measured of a gateway while it serves, and how its upstreams are found to be."""

import asyncio
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from gateway.app import Gateway
from gateway.methods import Registry
from gateway.model.durations import Durations
from gateway.telemetry.metrics import Levels
from gateway.telemetry.recording import DROPPED
from gateway.upstreams.frame import UpstreamService

_MOST_INSTANCES = 50  # of an upstream in the console
_FIRST_LIST = 2.0  # seconds that a directory has to tell the command its first list


async def survey(upstreams: Collection[UpstreamService], registry: Registry) -> None:
    """Ask upstreams once for their methods, and add these, and reach each instance.

    Each ``status`` says then whether it is up, and why not. Where a directory tells nothing for some seconds, its
    upstreams are asked without it.
    """

    async def one(upstream: UpstreamService) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LIST):
                await upstream.follow()
        await upstream.survey(registry)
        if upstream.instances is not None:
            await upstream.instances.reach_all()

    await asyncio.gather(*map(one, upstreams))
    await asyncio.gather(*(upstream.close() for upstream in upstreams))


def levels(gateway: Gateway, requests: int, connections: int) -> Levels:
    """Measure what goes up and down in this process, and take what upstreams have counted since the last time."""
    levels: dict[tuple[str, ...], float | Durations] = {
        ("requests_in_flight",): requests,
        ("connections",): connections,
        ("threads_busy",): gateway.pool.busy,
        ("threads_overdue",): gateway.pool.overdue,
    }
    for upstream in gateway.upstreams:
        levels |= upstream.measured()
    for name, found in gateway.directories.items():
        status = found.status
        if status is not None:
            levels["directory_up", name] = float(status.state == "up")
            if status.read is not None:
                levels["directory_age_seconds", name] = time.monotonic() - status.read
    if gateway.recorder is not None:
        counted = gateway.recorder.counted()
        levels["records",] = counted.get("written", 0)
        levels |= {("records_dropped", reason): counted.get(reason, 0) for reason in DROPPED}
    for kind, limiters in gateway.limiters.items():
        levels["calls_running", kind] = sum(limiter.running for limiter in limiters)
        levels["calls_waiting", kind] = sum(limiter.waiting for limiter in limiters)
    return levels


def moving(gateway: Gateway, requests: int, connections: int) -> dict[str, Any]:
    """Measure what the console shows of this process beside its calls."""
    now = time.monotonic()
    return {
        "requests": requests,
        "connections": connections,
        "running": sum(limiter.running for limiters in gateway.limiters.values() for limiter in limiters),
        "waiting": sum(limiter.waiting for limiters in gateway.limiters.values() for limiter in limiters),
        "upstreams": [
            {
                "name": upstream.name,
                "address": upstream.address,
                "state": upstream.status.state,
                "methods": upstream.status.methods,
                "running": upstream.running,
                "error": upstream.status.error,
                "instances": [
                    row._asdict()
                    for row in ([] if upstream.instances is None else upstream.instances.rows())[:_MOST_INSTANCES]
                ],
            }
            for upstream in gateway.upstreams
        ],
        "directories": [
            {
                "name": name,
                "state": found.status.state,
                "age": None if found.status.read is None else now - found.status.read,
                "error": found.status.error,
            }
            for name, found in gateway.directories.items()
            if found.status is not None
        ],
    }
