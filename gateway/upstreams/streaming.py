"""Calls to upstreams whose values come one after the other.

    from_one(calls, streamer, invocation)             of the only instance
    over_instances(instances, spread, course)         of one of several

A stream is asked for once. Where there are several instances, one that has certainly not begun with it is passed over
for the next one. An instance is judged by how soon the first value comes: after that, a stream takes as long as it
likes, and counts as a call that runs. Whoever reads closes the stream, which ends the upstream's.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol, cast

from gateway.upstreams import Invocation, Streamer
from gateway.upstreams.counting import Counts
from gateway.upstreams.instances import Attempt, Instances
from gateway.upstreams.spreading import Course, Spread


class Calls(Protocol):
    """What has the calls of an upstream; see calling.py."""

    counts: Counts

    def note_result(self, invocation: Invocation, /) -> None:
        """Note that the upstream has responded with a result."""

    def failure(self, error: Exception, invocation: Invocation, /) -> Exception:
        """Note how the upstream is, and return what the caller is told."""


async def from_one(calls: Calls, streamer: Streamer, invocation: Invocation) -> AsyncGenerator[Any, None]:
    """Give the values of a call.

    Raises:
        Fault: what the caller is told.

    """
    try:
        async with aclosing(streamer.stream(invocation)) as values:
            async for value in values:
                yield value
    except Exception as error:  # noqa: BLE001 - what is in no table is raised as it is
        raise calls.failure(error, invocation) from None
    except (GeneratorExit, asyncio.CancelledError):
        calls.counts.note("cancelled", invocation, time.monotonic())
        raise
    calls.note_result(invocation)


async def over_instances(instances: Instances, spread: Spread, course: Course) -> AsyncGenerator[Any, None]:
    """Give the values of a call at an instance, which has not refused it.

    Raises:
        Fault: what the caller is told.

    """
    attempt: Attempt | None = spread.first(course)
    while attempt is not None:
        following: Attempt | None = None
        try:
            async with aclosing(cast("Streamer", instances.adapter(attempt.seat)).stream(attempt.invocation)) as values:
                async for value in values:
                    instances.flows(attempt)
                    yield value
        except Exception as error:  # noqa: BLE001 - likewise
            told = spread.ended(course, attempt, error)
            more = attempt.invocation.more
            if more is None or not more.is_read:  # a message that was taken is not given to another one
                following = spread.after_refusal(course, told, attempt.invocation.sent)
            if following is None:
                raise course.told(told) from None
        except (GeneratorExit, asyncio.CancelledError):
            spread.cancelled(course, attempt)
            raise
        else:
            spread.succeeded(attempt)
        attempt = following
