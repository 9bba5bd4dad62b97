"""What ``gateway check`` looks for in the section ``[record]``."""

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gateway.app import Gateway


def not_writable(gateway: Gateway) -> Iterator[str]:
    """Tell why nothing can be recorded in the folder, asking as the user who runs the command."""
    section = gateway.config.record
    if not section.methods:
        return
    folder = Path(section.folder)
    try:
        found = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        yield f"record.folder: {folder} cannot be reached: {str(error.strerror).lower()}"
        return
    if not found.is_dir():
        yield f"record.folder: {found} is not a folder"
        return
    try:
        with tempfile.TemporaryFile(dir=found):
            pass
    except OSError as error:
        action = "written" if found == folder else f"made in {found}"
        yield f"record.folder: {folder} cannot be {action} by this user: {str(error.strerror).lower()}"


def readable(gateway: Gateway) -> Iterator[str]:
    """Tell that others may come to the files."""
    section = gateway.config.record
    folder = Path(section.folder)
    if section.methods and folder.is_dir() and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        yield f"record.folder: other users can open {folder}: chmod 700 {folder}"


def secrets_recorded(gateway: Gateway) -> Iterator[str]:
    """Tell that passwords are recorded."""
    section = gateway.config.record
    if section.methods and not section.redact_secrets:
        yield "record.redact_secrets: passwords and tokens are recorded, except at the places in record.redact"
