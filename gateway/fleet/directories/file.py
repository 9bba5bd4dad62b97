"""A directory that is a file: a JSON array of instances, which other programs write and the gateway looks at.

    [{"url": "jsonrpc+tcp://10.0.0.7:31415", "weight": 100, "version": "1.4", "zone": "a"}]

It is looked at each second by its time, its inode and its size, which works with renamed files, network file systems
and the symbolic links of Kubernetes alike. A file that is not JSON at the moment, because somebody writes it in place,
counts as away.
"""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from gateway.fleet.directories.addresses import checked, split
from gateway.fleet.directories.options import DirectoryOptions
from gateway.fleet.directories.watching import Away, Complain
from gateway.fleet.listing import Instance

_LOOK = 1.0  # seconds between two looks at the file
_LARGEST = 16_777_216  # bytes of a file that is read


class FileOptions(DirectoryOptions, frozen=True, kw_only=True):
    """The options of a file."""

    path: Annotated[str, Meta(description="The file: a JSON array of instances.")]


class _Row(Struct, frozen=True, kw_only=True):
    """An instance as it is written. Either ``url`` or ``address`` says where it is."""

    url: str = ""
    address: str = ""
    service: str = ""
    server_name: str = ""
    weight: Annotated[int, Meta(ge=0, le=1_000_000)] = 100
    priority: Annotated[int, Meta(ge=0, le=65_535)] = 0
    version: str = ""
    group: str = ""
    zone: str = ""
    started: float | None = None
    labels: Mapping[str, str] = {}

    def instance(self) -> Instance:
        scheme, address = split(self.url) if self.url else ("", checked(self.address))
        return Instance(
            address=address,
            scheme=scheme,
            server_name=self.server_name,
            weight=self.weight,
            priority=self.priority,
            version=self.version,
            group=self.group,
            zone=self.zone,
            started=self.started,
            labels=self.labels,
        )


class FileKind:
    """Reads lists from one file."""

    Options: ClassVar[type[DirectoryOptions]] = FileOptions

    def __init__(self, options: FileOptions) -> None:
        self._path = Path(options.path).absolute()

    def lookup(self, service: str, complain: Complain) -> "_FileLookup":
        """Prepare to read the rows of a service; of an empty name all rows."""
        return _FileLookup(self._path, service, complain)

    def problem_of(self, service: str) -> str:
        """Any name will do."""
        return ""

    async def close(self) -> None:
        """Nothing is open."""


class _FileLookup:
    def __init__(self, path: Path, service: str, complain: Complain) -> None:
        self._path, self._service, self._complain = path, service, complain
        self._seen: tuple[int, ...] = ()

    async def read(self) -> list[Instance]:
        self._seen = self._look()  # before it is read: what is written meanwhile is seen at the next look
        try:
            with self._path.open("rb") as file:
                text = file.read(_LARGEST + 1)
        except OSError as error:
            raise Away(f"{self._path}: {str(error.strerror).lower()}") from None
        if len(text) > _LARGEST:
            raise Away(f"{self._path}: it is larger than {_LARGEST} bytes")
        try:
            rows = msgspec.json.decode(text, type=list[Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Away(f"{self._path}: it is not a JSON array: {error}") from None
        return list(self._instances(rows))

    async def changed(self) -> bool:
        await asyncio.sleep(_LOOK)
        return self._look() != self._seen

    def _look(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise Away(f"{self._path}: {str(error.strerror).lower()}") from None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _instances(self, rows: list[Any]) -> Iterator[Instance]:
        for row in rows:
            try:
                read = msgspec.convert(row, _Row)
                if not self._service or read.service == self._service:
                    yield read.instance()
            except (ValueError, msgspec.ValidationError) as error:
                self._complain(msgspec.json.encode(row).decode(), str(error))
