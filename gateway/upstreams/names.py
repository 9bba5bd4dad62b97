"""What a server tells of its methods by system.listMethods: their names, and nothing else."""

from typing import Any

from gateway.model.faults import BadUpstream
from gateway.upstreams import Signature

MOST = 10_000  # methods


def from_names(names: Any) -> list[Signature]:
    """Make signatures of names alone."""
    if type(names) is not list or not all(type(name) is str for name in names) or len(names) > MOST:
        raise BadUpstream(f"its list of methods is not a list of at most {MOST} names")
    return [Signature(name=name) for name in names]
