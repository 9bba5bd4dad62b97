"""Agents through nginx, over TLS: it passes on what they send, and what they need of the responses."""

from pathlib import Path

import pytest

from benchmarks.edge import edge
from tests.deploy.nginx.edging import FREE, logged_lines
from tests.endpoints.mcp_methods import SETTINGS
from tests.endpoints.replaying import RULES, TRANSCRIPTS, play

pytestmark = pytest.mark.unmeasured


def test_agents_are_answered_through_nginx_as_without_it(tmp_path: Path) -> None:
    settings = [*FREE, *(f"{name}={value}" for name, value in SETTINGS.items())]
    with edge(tmp_path, ["tests.endpoints.mcp_methods:registry"], settings) as running:
        assert play(running.port, tls=running.client) == []
        lines = logged_lines(running, len(RULES) + sum(len(each["steps"]) for each in TRANSCRIPTS))
        called = [(line["method"], line["fault"]) for line in lines if line["method"]]
        assert ("add", "") in called
        assert ("broken", "1001") in called
