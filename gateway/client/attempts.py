"""How calls are made that are made alike, and when one is tried again.

    View                                        the options of ``using``, with the head that its requests begin with
    pause_before_next(error, view, attempt)     seconds to wait, or None: the error stands

A call is tried again where it was certainly not sent, or where it may run twice; and only after errors that pass.
"""

import random
from collections.abc import Mapping

from msgspec import Struct

from gateway.client.errors import CallError, ConnectionLost, StatusError, Unreachable
from gateway.client.options import Headers, check_headers
from gateway.model.faults import Fault, GatewayFault, Overloaded, RateLimited, Unavailable

_BACKOFF = 0.1  # seconds before the first further attempt, where the server names none; twice as long each time
_PASSING = (Overloaded, RateLimited, Unavailable)
_PASSING_STATUSES = frozenset({429, 502, 503, 504})


class View(Struct, frozen=True, kw_only=True):
    """How some calls are made.

    ``head`` is what their requests begin with; None where ``headers`` is a function, which is asked for each call.
    """

    timeout: float
    idempotent: bool
    retries: int
    headers: Headers
    head: bytes | None


def pause_before_next(error: CallError | Fault, view: View, attempt: int) -> float | None:
    """Return how long to wait before a further attempt; None where there must be none."""
    if attempt >= view.retries:
        return None
    backoff: float = _BACKOFF * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - to spread callers, and no secret
    told: float | None = None
    if isinstance(error, GatewayFault):
        is_passing, told = isinstance(error, _PASSING) and view.idempotent, error.retry_after
    elif isinstance(error, StatusError):
        is_passing, told = error.status in _PASSING_STATUSES and view.idempotent, error.retry_after
    elif isinstance(error, Unreachable | ConnectionLost):
        is_passing = view.idempotent or error.sent == "no"
    else:
        return None
    if not is_passing:
        return None
    return backoff if told is None else max(float(told), backoff)


def merged(headers: Headers) -> Mapping[str, str]:
    """Return headers; where they are a function, what it says now."""
    if not callable(headers):
        return headers
    made = headers()
    check_headers(made)
    return made


def both(first: Headers, second: Headers) -> Headers:
    """Add headers to others; where one of them is a function, so is the sum."""
    if callable(first) or callable(second):
        return lambda: {**merged(first), **merged(second)}
    return {**first, **second}
