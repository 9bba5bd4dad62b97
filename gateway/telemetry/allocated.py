"""The files in which workers keep their metrics, with all their blocks allocated before they are mapped.

A sparse file is given its blocks when it is first written to. Where the file system is full by then, a process that
writes through a mapping gets SIGBUS, which ends it. posix_fallocate(3) fails with an error instead.
"""

import os
from pathlib import Path
from typing import Any

from prometheus_client import mmap_dict


class AllocatedDict(mmap_dict.MmapedDict):
    """prometheus_client's dict of numbers in a file.

    Raises:
        OSError: the file system has no space, or the file cannot be opened; the file that exists stays as it is.

    """

    _used: int
    _capacity: int

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # noqa: FBT001, FBT002 - the library's signature
        with Path(filename).open("ab") as file:
            _allocate(file.fileno(), max(os.fstat(file.fileno()).st_size, mmap_dict._INITIAL_MMAP_SIZE))  # noqa: SLF001
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        needed = self._used + _size(key)
        capacity = self._capacity
        while needed > capacity:
            capacity *= 2
        if capacity > self._capacity:
            file: Any = self._f
            _allocate(file.fileno(), capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]


def _size(key: str) -> int:
    """Return how much an entry takes: a length, the key, padding up to eight bytes, and two numbers."""
    length = len(key.encode())
    return 4 + length + 8 - (length + 4) % 8 + 16


def _allocate(descriptor: int, size: int) -> None:
    os.posix_fallocate(descriptor, 0, size)
