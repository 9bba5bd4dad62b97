"""The directory in which the workers of a gateway keep their metrics: made, locked, and removed at the end.

A directory that was removed while the gateway runs is made again at the next reload. Where none can be made, the
workers serve all the same.
"""

import fcntl
import logging
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_log = logging.getLogger("gateway")
_PREFIX = "gateway-metrics-"
_ABANDONED = 60.0  # seconds of age from which a directory that nobody holds belongs to a gateway that was killed


class MetricsDirectory:
    """A directory that belongs to this process and the workers that it forks.

    Attributes:
        path: where it is; None if it cannot be made.

    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self._lock: int | None = None
        ours = self.ensure()
        if ours is not None:
            _remove_abandoned(ours)

    def ensure(self) -> Path | None:
        """Return the directory; make another one if it is gone."""
        if self.path is None or not self.path.is_dir():
            self._release()
            self.path = _make()
            self._lock = None if self.path is None else _hold(self.path)
        return self.path

    def remove(self) -> None:
        """Remove the directory with what is in it."""
        if self.path is not None:
            shutil.rmtree(self.path, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _make() -> Path | None:
    try:
        return Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        reason = str(error.strerror).lower()
        _log.error(
            "the directory for the metrics cannot be made: %s; set TMPDIR to another one; "
            "until then /metrics shows only the worker that responds",
            reason,
        )
        return None


def _hold(directory: Path) -> int | None:
    """Lock a directory while this process or one that it forks has the descriptor; None where others have locked it."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_abandoned(ours: Path) -> None:
    """Remove the directories of gateways that were killed; those of living ones are locked."""
    for other in ours.parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if other == ours or time.time() - other.stat().st_mtime < _ABANDONED:
                continue
            held = _hold(other)
            if held is not None:
                shutil.rmtree(other, ignore_errors=True)
                os.close(held)
