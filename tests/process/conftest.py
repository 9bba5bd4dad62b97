"""What tests of processes share."""

from pathlib import Path

import pytest

from tests.process.fleets import write_handlers


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a folder whose methods are those of tests/process/fleets.py."""
    write_handlers(tmp_path)
    return tmp_path
