"""The fixtures for tests of methods, which pytest finds where the gateway is installed.

    rpc             gateway.testing.Client: calls the methods in this process
    rpc_server      a gateway on a free port, in a thread, for real clients
    rpc_registry    what both serve: by default the package handlers
    rpc_config      their configuration: by default the defaults, without metrics

``rpc_server`` has ``url`` and ``port``. Define rpc_registry and rpc_config in conftest.py to serve something else.
"""

from collections.abc import Iterator

import pytest

from gateway.config import Config
from gateway.config.monitoring import MetricsSection
from gateway.methods import Registry
from gateway.methods.loading import load_registry
from gateway.process.embedding import Server, running
from gateway.testing import Client


@pytest.fixture
def rpc_registry() -> Registry:
    """Load the methods of the package handlers in the current folder."""
    return load_registry(["handlers"])


@pytest.fixture
def rpc_config() -> Config:
    """Return the defaults, without metrics."""
    return Config(metrics=MetricsSection(bind=""))


@pytest.fixture
def rpc(rpc_registry: Registry, rpc_config: Config) -> Iterator[Client]:
    """Make a client of the methods in this process."""
    with Client(rpc_registry, config=rpc_config) as client:
        yield client


@pytest.fixture
def rpc_server(rpc_registry: Registry, rpc_config: Config) -> Iterator[Server]:
    """Run a gateway on a free port."""
    with running(rpc_registry, config=rpc_config) as server:
        yield server
