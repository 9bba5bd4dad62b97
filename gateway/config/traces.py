"""Traces of OpenTelemetry: the section ``[traces]`` of the configuration. The variables OTEL_* have all the rest."""

from typing import Annotated

from msgspec import Meta, Struct


class TracesSection(Struct, frozen=True, kw_only=True):
    """Traces of OpenTelemetry."""

    enabled: Annotated[
        bool,
        Meta(
            description="Whether calls are traced. It needs the extra otel; the variables OTEL_* say how and where to."
        ),
    ] = False
    propagate: Annotated[
        bool,
        Meta(description="Whether upstreams are told the trace that a call belongs to: traceparent and tracestate."),
    ] = True
