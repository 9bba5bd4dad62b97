"""nginx and a gateway that refuse nothing that a test does not mean."""

from collections.abc import Iterator

import pytest

from benchmarks.edge import Edge, edge
from tests.deploy.nginx.edging import FREE, METHODS


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Both, with nothing refused that the tests do not mean."""
    with edge(tmp_path_factory.mktemp("edge"), METHODS, [*FREE, "server.workers=2", "limits.linger=1"]) as running:
        yield running
