"""What operators see of the gateway: the sections ``[log]``, ``[metrics]``, ``[traces]`` and ``[console]``."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.server import OptionalAddress


class LogSection(Struct, frozen=True, kw_only=True):
    """The log, which is written to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(
            description="The lowest level that is written: debug, info, warning or error. info has a line for each"
            " call, and warning has none."
        ),
    ] = "info"
    format: Annotated[
        Literal["text", "json"],
        Meta(description="How it is written: text for people, json for programs, with one object on each line."),
    ] = "text"


class MetricsSection(Struct, frozen=True, kw_only=True):
    """What Prometheus reads."""

    bind: Annotated[
        OptionalAddress,
        Meta(
            description='The address of /metrics: host:port, like "127.0.0.1:9464". It is an address of its own, which'
            ' callers do not see. Port 0 takes a free one, which is printed at the start. "" for none.'
        ),
    ] = "127.0.0.1:0"


class TracesSection(Struct, frozen=True, kw_only=True):
    """Traces of OpenTelemetry; docs/traces.md explains them."""

    enabled: Annotated[
        bool,
        Meta(
            description="Whether calls are traced. It needs the extra otel. The variables OTEL_* of the environment say"
            " how many calls are traced, and where their spans are sent."
        ),
    ] = False
    propagate: Annotated[
        bool,
        Meta(
            description="Whether upstreams over HTTP and gRPC are told the trace that a call belongs to, in traceparent"
            " and tracestate."
        ),
    ] = True


class ConsoleSection(Struct, frozen=True, kw_only=True):
    """Pages for people: the methods, a form to call them, and what goes on in the gateway."""

    bind: Annotated[
        OptionalAddress,
        Meta(
            description='The address of the console: host:port, like "127.0.0.1:9465". It is an address of its own;'
            " port 0 takes a free one, which is printed at the start. Whoever reaches it may read all of it, so keep it"
            " on this machine or in a private network; calls that are made with it are held to the section [access]."
            ' "" for none.'
        ),
    ] = ""
    public: Annotated[
        bool,
        Meta(
            description="Whether /console/ at the addresses for calls shows each caller the methods that it may call,"
            " to be read only. The section [access] holds there."
        ),
    ] = False
