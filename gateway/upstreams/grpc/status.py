"""What a gRPC status is to the caller, code by code.

    StatusError(code, details, trailer)   raised in place of grpc's own exception, which may be megabytes long
    told(refused)                         the fault for it, by STATUSES

The codes and their meaning are those of gRPC's "Status codes and their use". A service that turns a call down says why,
and its words are for its callers; so are the details of google.rpc that it sends along. UNAVAILABLE and
RESOURCE_EXHAUSTED come from grpc itself, too, with texts that name hosts: those stay in the log. grpc begins the
details of a stream that it has ended itself with words of its own: with any other code than UNAVAILABLE and
DEADLINE_EXCEEDED, what came was not gRPC.
"""

import math
import re
from collections.abc import Callable
from typing import Any

from grpc import StatusCode

from gateway.model.faults import (
    BadUpstream,
    DeadlineExceeded,
    Denied,
    Fault,
    InvalidParams,
    MethodNotFound,
    Overloaded,
    RequestTooLarge,
    Unavailable,
)
from gateway.upstreams.faults import FAILED, garbled, safe
from gateway.upstreams.grpc.details import read

_REMOVED = "Stream removed ("
_OWN_WORDS = (_REMOVED, "RST_STREAM with", "Compression ", "Decompression failed")
_NO_HTTP2 = "Failed parsing HTTP/2"
_TOO_LONG = tuple(
    removed + said
    for removed in ("", _REMOVED)
    for said in (
        "CLIENT: Received message larger than max",
        "CLIENT: Decompressed message larger than max",
        "Decompressed message larger than max",
    )
)
_REQUEST_TOO_LONG = re.compile(  # as servers in C++ and Python, Go, and Java say it
    r"(?:SERVER: )?Received message larger than max|grpc: received message (?:after decompression )?larger than max"
    r"|gRPC message exceeds maximum size"
)
_RAISED = (
    "Exception calling application: ",
    "Unexpected <class ",
    "Exception iterating responses: ",
)  # grpcio's servers
_NOT_PROCESSED = ("RST_STREAM with error code 7", "Stream refused", "REFUSED_STREAM")  # RFC 9113, section 8.7
# What grpc itself says of connections; a service's text that looks alike is held back, too.
_OF_GRPC = re.compile(
    r"\b(?:ipv[46]:|unix:|errno|os_error|socket|connect|endpoint|transport|recvmsg|broken pipe|stream|goaway|http/?2"
    r"|rst_|keepalive|ping|handshak|ssl|dns|resol|subchannel|picker|load.?balanc|channel|empty address|shutdown|tcp"
    r"|max_age|cancelling all calls|eof)",
    re.IGNORECASE,
)
_RETRY_AFTER = 1  # seconds, where the upstream says none
_LONGEST_RETRY = 86400  # seconds
_MOST_SAID = 2000  # characters


class StatusError(Exception):
    """A call that has ended with another status than OK.

    Arguments:
        code: the status.
        details: its text.
        trailer: its grpc-status-details-bin.
        is_said: the status and the text are certainly the server's; otherwise the text tells whose they are.

    """

    def __init__(self, code: StatusCode, details: str | None, trailer: bytes = b"", *, is_said: bool = False) -> None:
        self.code = code
        self._is_said = is_said
        self.details = (details or "")[:_MOST_SAID]
        self.rich = read(trailer) if trailer else []
        super().__init__(f"{code.name}: {self.details}")

    @property
    def is_answer(self) -> bool:
        """Whether the service itself has ended the call, so that it has certainly come there."""
        return self.code in _ANSWERS and not self._begins_with((*_OWN_WORDS, *_TOO_LONG))

    @property
    def is_unauthenticated(self) -> bool:
        """Whether the service wants other credentials."""
        return self.code is StatusCode.UNAUTHENTICATED

    @property
    def is_unprocessed(self) -> bool:
        """Whether the server has certainly not begun with the call."""
        is_told = any(words in self.details for words in _NOT_PROCESSED)
        return self.code is StatusCode.UNAVAILABLE and is_told and not self._is_said

    @property
    def is_too_long(self) -> bool:
        """Whether the response has more bytes than are read."""
        return self.code is StatusCode.RESOURCE_EXHAUSTED and self._begins_with(_TOO_LONG)

    @property
    def is_garbled(self) -> bool:
        """Whether the response was not gRPC, so that the connection is of no more use."""
        broken = self.code not in _ENDED and self._begins_with(_OWN_WORDS) and not self.is_too_long
        return broken or (self.code is StatusCode.UNAVAILABLE and _NO_HTTP2 in self.details)

    def _begins_with(self, words: tuple[str, ...]) -> bool:
        return not self._is_said and self.details.startswith(words)


def told(refused: StatusError) -> Fault:
    """Return the fault that the caller gets."""
    if refused.is_garbled:
        return garbled(refused)
    fault = STATUSES[refused.code](refused)
    if refused.rich and isinstance(fault.data, dict):
        fault.data["details"] = refused.rich
    return fault


def _detail(refused: StatusError) -> str:
    return safe(refused.details) if refused.details.strip() else ""


def _own(refused: StatusError) -> Fault:
    """Pass on what the service says."""
    raised = refused.code is StatusCode.UNKNOWN and refused.details.startswith(_RAISED)
    text = FAILED if raised else safe(refused.details)
    return Fault(text, data={"grpc": {"code": refused.code.value[0], "name": refused.code.name}})


def _denied(refused: StatusError) -> Fault:
    return Denied(_detail(refused))


def _failed(_: StatusError) -> Fault:
    return BadUpstream("the upstream failed")


def _exhausted(refused: StatusError) -> Fault:
    if refused.is_too_long:
        return BadUpstream("the response of the upstream has more bytes than limits.max_reply")
    if _REQUEST_TOO_LONG.match(refused.details):
        return RequestTooLarge("the upstream does not take a request of this size")
    text = _detail(refused) or "the upstream has no capacity left"
    return Overloaded(text, retry_after=_pause(refused) or _RETRY_AFTER)


def _unavailable(refused: StatusError) -> Fault:
    text = "" if _OF_GRPC.search(refused.details) else _detail(refused)
    pause = _pause(refused)
    data: dict[str, Any] = {} if pause is None else {"retry_after": pause}
    return Unavailable(text or "the upstream cannot be reached", **data)


def _pause(refused: StatusError) -> int | None:
    """Return after how many seconds the upstream wants the call again, by its RetryInfo."""
    delays = [each["retry_delay"] for each in refused.rich if "retry_delay" in each]
    return min(max(1, math.ceil(delays[0])), _LONGEST_RETRY) if delays else None


STATUSES: dict[StatusCode, Callable[[StatusError], Fault]] = {
    StatusCode.OK: garbled,  # without the message that belongs to it
    StatusCode.INVALID_ARGUMENT: lambda refused: InvalidParams(_detail(refused)),
    StatusCode.OUT_OF_RANGE: lambda refused: InvalidParams(_detail(refused)),
    StatusCode.UNIMPLEMENTED: lambda _: MethodNotFound("the upstream has no such method"),
    StatusCode.NOT_FOUND: _own,
    StatusCode.ALREADY_EXISTS: _own,
    StatusCode.FAILED_PRECONDITION: _own,
    StatusCode.ABORTED: _own,
    StatusCode.DATA_LOSS: _own,
    StatusCode.UNKNOWN: _own,  # where many a library puts what a method has raised
    StatusCode.UNAUTHENTICATED: _denied,
    StatusCode.PERMISSION_DENIED: _denied,
    StatusCode.RESOURCE_EXHAUSTED: _exhausted,
    StatusCode.DEADLINE_EXCEEDED: lambda _: DeadlineExceeded("no response from the upstream in time"),
    StatusCode.UNAVAILABLE: _unavailable,
    StatusCode.INTERNAL: _failed,
    StatusCode.CANCELLED: _failed,
}
_ENDED = (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED)
_ANSWERS = frozenset(STATUSES) - {*_ENDED, StatusCode.INTERNAL, StatusCode.CANCELLED, StatusCode.OK}
