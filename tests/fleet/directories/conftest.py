"""One ZooKeeper server for all tests of a process, and kazoo as the other party."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from tests.fleet.directories.zookeeper import ZooKeeper


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[ZooKeeper]:
    running = ZooKeeper(tmp_path_factory.mktemp("zookeeper"), authority)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def others(server: ZooKeeper) -> Iterator[Any]:
    """Kazoo, whose nodes are gone after the test."""
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    other = server.client(connection_retry={"max_tries": -1, "delay": 0.05, "max_delay": 0.2})
    yield other
    if not server.runs():  # the test has failed, and kazoo would wait for it without an end
        server.start()
    other.delete("/dubbo", recursive=True)
    other.stop()
    other.close()
