"""What a gRPC status is to the caller, code by code.

    Refusal(code, details)     what the bridge raises in place of grpc's own exception, which may be megabytes long
    told(refused)              the fault for it, by STATUSES

The codes and their meaning are those of gRPC's "Status codes and their use". A service that turns a call down says why,
and its words are for its callers; what stands in the details of the other codes is grpc's, and names hosts. grpc begins
the details of a stream that it has ended itself with words of its own: with any other code than UNAVAILABLE and
DEADLINE_EXCEEDED, what came was not gRPC.
"""

from collections.abc import Callable

from grpc import StatusCode

from gateway.model.faults import (
    BadUpstream,
    DeadlineExceeded,
    Denied,
    Fault,
    InvalidParams,
    MethodNotFound,
    Overloaded,
    Unavailable,
)
from gateway.upstreams.faults import garbled, safe

_OWN_WORDS = ("Stream removed (", "Compression ")
_NO_HTTP2 = "Failed parsing HTTP/2"
_TOO_LONG = "Received message larger than max"
_RETRY_AFTER = 1  # seconds; the status says none
_MOST_SAID = 2000  # characters


class Refusal(Exception):
    """A call that has ended with another status than OK."""

    def __init__(self, code: StatusCode, details: str | None) -> None:
        self.code = code
        self.details = (details or "")[:_MOST_SAID]
        super().__init__(f"{code.name}: {self.details}")

    @property
    def is_answer(self) -> bool:
        """Whether the service itself has ended the call, so that it has certainly come there."""
        return self.code in _ANSWERS and not self.details.startswith(_OWN_WORDS)

    @property
    def is_garbled(self) -> bool:
        """Whether what came was not gRPC, so that the connection is of no more use."""
        broken = self.code not in _ENDED and self.details.startswith(_OWN_WORDS) and _TOO_LONG not in self.details
        return broken or (self.code is StatusCode.UNAVAILABLE and _NO_HTTP2 in self.details)


def told(refused: Refusal) -> Fault:
    """Return the fault that the caller gets."""
    if refused.is_garbled:
        return garbled(refused)
    if refused.code is StatusCode.RESOURCE_EXHAUSTED and _TOO_LONG in refused.details:
        return BadUpstream("its answer has more bytes than are taken")
    return STATUSES[refused.code](refused)


def _detail(refused: Refusal) -> str:
    return safe(refused.details) if refused.details.strip() else ""


def _own(refused: Refusal) -> Fault:
    """Pass on what the service says."""
    return Fault(safe(refused.details), data={"grpc": {"code": refused.code.value[0], "name": refused.code.name}})


def _denied(refused: Refusal) -> Fault:
    return Denied(_detail(refused))


def _failed(_: Refusal) -> Fault:
    return BadUpstream("the service behind it has failed")


STATUSES: dict[StatusCode, Callable[[Refusal], Fault]] = {
    StatusCode.OK: garbled,  # without the message that belongs to it
    StatusCode.INVALID_ARGUMENT: lambda refused: InvalidParams(_detail(refused)),
    StatusCode.OUT_OF_RANGE: lambda refused: InvalidParams(_detail(refused)),
    StatusCode.UNIMPLEMENTED: lambda _: MethodNotFound("the service behind it has no such method"),
    StatusCode.NOT_FOUND: _own,
    StatusCode.ALREADY_EXISTS: _own,
    StatusCode.FAILED_PRECONDITION: _own,
    StatusCode.ABORTED: _own,
    StatusCode.DATA_LOSS: _own,
    StatusCode.UNKNOWN: _own,  # where many a library puts what a method has raised
    StatusCode.UNAUTHENTICATED: _denied,
    StatusCode.PERMISSION_DENIED: _denied,
    StatusCode.RESOURCE_EXHAUSTED: lambda _: Overloaded("the service behind it is", retry_after=_RETRY_AFTER),
    StatusCode.DEADLINE_EXCEEDED: lambda _: DeadlineExceeded("no answer of the service behind it in time"),
    StatusCode.UNAVAILABLE: lambda _: Unavailable("the service behind it cannot be reached"),
    StatusCode.INTERNAL: _failed,
    StatusCode.CANCELLED: _failed,
}
_ENDED = (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED)
_ANSWERS = frozenset(STATUSES) - {*_ENDED, StatusCode.INTERNAL, StatusCode.CANCELLED, StatusCode.OK}
