"""Beside locustfile.py: keep every call exactly, where Locust's own statistics round the times to two digits.

    locust -f locustfile.py,benchmarks/concurrency/record.py --headless --record FILE --seconds 2.5

The run ends after so many seconds (Locust's own option takes whole ones). FILE becomes one JSON array for each call, in
the order in which they ended: when it began, in seconds since the epoch, how long it took, in seconds, and what failed
(the text of the failure; empty for a right answer). Calls that have not ended by then are in it no more.
"""

import json
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

_calls: list[tuple[float, float, str]] = []


def add_options(parser: LocustArgumentParser) -> None:
    """Add the option that names the file."""
    parser.add_argument("--record", required=True, include_in_web_ui=False, help="the file for every call")
    parser.add_argument("--seconds", type=float, required=True, include_in_web_ui=False, help="how long to run")


def end_in_time(environment: Environment, **_: Any) -> None:
    """Let the run end."""
    options, runner = environment.parsed_options, environment.runner
    assert options is not None  # noqa: S101 - Locust's command line has set both
    assert runner is not None  # noqa: S101
    gevent.spawn_later(options.seconds, runner.quit)


def note(start_time: float, response_time: float, exception: Exception | None, **_: Any) -> None:
    """Keep a call."""
    _calls.append((start_time, response_time / 1000, "" if exception is None else repr(exception)))


def write(environment: Environment, **_: Any) -> None:
    """Write them all."""
    options = environment.parsed_options
    assert options is not None  # noqa: S101 - Locust's command line has set them
    Path(options.record).write_text("".join(f"{json.dumps(call)}\n" for call in _calls), encoding="utf-8")


events.init_command_line_parser.add_listener(add_options)  # type: ignore[no-untyped-call]
events.test_start.add_listener(end_in_time)  # type: ignore[no-untyped-call]
events.request.add_listener(note)  # type: ignore[no-untyped-call]
events.quitting.add_listener(write)  # type: ignore[no-untyped-call]
