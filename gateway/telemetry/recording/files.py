"""The folder of recordings: files of JSON lines that only their owner can read, with a limit for all of them.

Each process writes files of its own, and begins another one when a file has a sixteenth of the limit. Whoever writes
removes the oldest files first; the folder is locked for that, so that several processes keep the limit together.
"""

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

PARTS = 16  # files that the limit has room for at least
NAME = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9]+-[0-9a-f]{8}\.jsonl")


class Files:
    """What one process writes.

    Arguments:
        folder: where to; it is made where it is not there.
        limit: bytes of all files in it.

    Attributes:
        lines: how many were written.

    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.lines = 0
        self._folder = folder
        self._limit = limit
        self._most = limit // PARTS
        self._file: int | None = None
        self._name = ""
        self._size = 0

    def write(self, lines: Iterable[bytes]) -> None:
        """Write lines, each as a whole or not at all.

        Raises:
            OSError: they cannot be written, or only some of them.

        """
        piece: list[bytes] = []
        size = 0
        for line in lines:
            if piece and size + len(line) > self._most:
                self._write(piece)
                piece, size = [], 0
            piece.append(line)
            size += len(line)
        if piece:
            self._write(piece)

    def close(self) -> None:
        """Close the file; the next line begins another one."""
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
            self._file = None

    def _write(self, lines: list[bytes]) -> None:
        data = b"".join(lines)
        with self._locked():
            if self._size + len(data) > self._most or not self._is_there():
                self.close()
            self._make_room(len(data))
            if self._file is None:
                self._open()
            assert self._file is not None  # noqa: S101 - it was opened above
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            except OSError:
                with suppress(OSError):  # no half of a line stays
                    os.ftruncate(self._file, self._size)
                self.close()
                raise
            self._size += len(data)
            self.lines += len(lines)

    def _is_there(self) -> bool:
        """Tell whether the file is open, and nobody has removed it."""
        return self._file is not None and os.fstat(self._file).st_nlink > 0

    def _open(self) -> None:
        self._name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._folder / self._name, flags, 0o600)
        self._size = 0

    def _make_room(self, wanted: int) -> None:
        found = sorted((status.st_mtime_ns, path, status.st_size) for path, status in _own(self._folder))
        total = sum(size for _, _, size in found)
        for _, path, size in found:
            if total + wanted <= self._limit:
                return
            if self._file is None or path.name != self._name:
                path.unlink(missing_ok=True)
                total -= size

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with suppress(FileExistsError):
            self._folder.mkdir(mode=0o700, parents=True)
        lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(OSError):  # a file system may have no locks; then the limit may be passed for a while
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _own(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Find the files that were written here; what others have put there is never removed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if NAME.fullmatch(entry.name):
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield Path(entry.path), status
