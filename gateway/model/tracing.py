"""The spans of traces, as far as those see them who have no part in making them (gateway/telemetry/spans.py does)."""

from typing import Protocol

from msgspec import Struct


class Peer(Struct, frozen=True):
    """What attempts of calls go to.

    Attributes:
        upstream: its name in the configuration.
        system: its protocol, like ``"grpc"``.
        address: host:port, or unix:/path; empty where each attempt has one of its own.
        service: of gRPC, where the methods' names do not have it.

    """

    upstream: str
    system: str
    address: str = ""
    service: str = ""


class AttemptSpan(Protocol):
    """The span of one attempt of a call at an upstream."""

    @property
    def along(self) -> tuple[tuple[str, str], ...]:
        """The headers or metadata by which the upstream continues the trace."""

    def at(self, address: str) -> None:
        """Note which instance has the attempt."""

    def failed(self, error: Exception, told: Exception) -> None:
        """Note what was raised, and what the caller is told of it."""

    def end(self, ended: str, sent: str) -> None:
        """End it: how the attempt has ended, and how far it had come."""


class CallSpan(Protocol):
    """The span of a call."""

    @property
    def trace_id(self) -> str:
        """The id of the trace, in hexadecimal digits."""

    @property
    def span_id(self) -> str:
        """The id of the span, in hexadecimal digits."""

    @property
    def is_sampled(self) -> bool:
        """Whether it is exported."""

    def attempt(self, peer: Peer, method: str) -> AttemptSpan:
        """Begin the span of an attempt."""
