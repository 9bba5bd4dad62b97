"""A web page whose own name was made to point at this machine (DNS rebinding) reads nothing here."""

from collections.abc import Container

from gateway.model.networks import address
from gateway.wire.http_grammar import host_name

FOREIGN = "Use an IP address as the host, a name without a dot, or a name in {} or access.hosts.\n"


def is_sensible(host: str, known: Container[str]) -> bool:
    """Tell whether a Host header names this machine: by an IP address, a name without a dot, or a known name."""
    name = host_name(host)
    return "." not in name or name in known or address(name.strip("[]")) is not None
