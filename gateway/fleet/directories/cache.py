"""The last list of a service, in a file, for a start while its directory is down."""

import os
from pathlib import Path
from urllib.parse import quote

import msgspec

from gateway.fleet.listing import Instance, Listing

_LONGEST = 200  # bytes of a file's name


class Cache:
    """One file, which all workers write alike: beside it first, then renamed, so that none is read half written.

    Args:
        folder: where it is; an empty text for no cache.
        directory: the name of the directory.
        service: the service that is watched.

    """

    def __init__(self, folder: str, directory: str, service: str) -> None:
        self._file = (
            Path(folder, f"{quote(f'{directory} {service}', safe=' ')[:_LONGEST].strip()}.json") if folder else None
        )

    def load(self) -> tuple[Listing, float] | None:
        """Return the list, and when it was written, in seconds since 1970; None where there is none.

        Raises:
            OSError: it cannot be read.
            msgspec.DecodeError: it is not a list of instances.

        """
        if self._file is None:
            return None
        try:
            with self._file.open("rb") as file:
                written = os.fstat(file.fileno()).st_mtime
                return tuple(msgspec.json.decode(file.read(), type=list[Instance])), written
        except FileNotFoundError:
            return None

    def save(self, listing: Listing) -> None:
        """Write the list.

        Raises:
            OSError: it cannot be written.

        """
        if self._file is not None:
            beside = self._file.with_suffix(f".{os.getpid()}.new")
            beside.write_bytes(msgspec.json.encode(listing))
            beside.replace(self._file)
