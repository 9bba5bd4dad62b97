"""The transcripts of agents, on every host; the paths where clients look for OAuth are the application's own there."""

from collections.abc import Callable

import pytest

from gateway.hosts.wsgi import WSGIHost
from gateway.model.http import Endpoint
from tests.endpoints import mcp_methods
from tests.endpoints.replaying import play
from tests.hosts.mounting import MOUNTS, Serve, endpoint_of, served, waitress_of

pytestmark = pytest.mark.unmeasured

HOSTS: dict[str, Callable[[Endpoint], Serve]] = {**MOUNTS, "wsgi": lambda endpoint: waitress_of(WSGIHost(endpoint))}
OWN = frozenset({404})


@pytest.mark.parametrize("name", HOSTS)
def test_agents_are_answered_alike(name: str) -> None:
    with served(HOSTS[name](endpoint_of(mcp_methods.registry, mcp_methods.SETTINGS))) as running:
        assert play(running.port, frozenset() if name in ("uvicorn", "hypercorn", "wsgi") else OWN) == []
