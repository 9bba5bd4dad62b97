"""Standard error as a place for log lines that never blocks.

A pipe or a socket whose reader has stopped reading blocks whoever writes to it. Here the lines that do not fit are
dropped, and the next line that fits says how many.
"""

import logging
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial

# Bytes that are written at once. A pipe takes 4096 as a whole or not at all (PIPE_BUF), so that no line of another
# process comes inside of one of ours; the rest is room for the line that tells of lost ones.
_WHOLE = 3840


class StandardError(logging.Handler):
    """Writes each line at once, without a second flush."""

    def __init__(self) -> None:
        super().__init__()
        self._own: int | None = None
        self._write = self._open()
        self._rest = b""
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; what standard error does not accept is dropped and counted."""
        try:
            line = self.format(record)
            if self._write is None:
                sys.stderr.write(f"{line}\n")
            else:
                self._send(f"{line}\n".encode("utf-8", "backslashreplace"))
        except Exception:  # noqa: BLE001 - logging's own rule: a line that cannot be written ends no call
            self.handleError(record)

    def write(self, lines: Iterable[str]) -> None:
        """Write lines that are formatted, in as few pieces as can be."""
        with self.lock or nullcontext():
            if self._write is None:
                sys.stderr.write("".join([f"{line}\n" for line in lines]))
                return
            piece, count = b"", 0
            for line in lines:
                data = f"{line}\n".encode("utf-8", "backslashreplace")
                if len(piece) + len(data) > _WHOLE and count:
                    self._send(piece, count)
                    piece, count = b"", 0
                piece, count = piece + data, count + 1
            if count:
                self._send(piece, count)

    def close(self) -> None:
        """Close what was opened here; standard error itself stays open."""
        super().close()
        if self._own is not None:
            os.close(self._own)
            self._own = self._write = None

    def _send(self, data: bytes, lines: int = 1) -> None:
        assert self._write is not None  # noqa: S101 - the caller has looked
        data = self._rest + (self._loss() if self._lost else b"") + data
        try:
            sent = self._write(data)
        except BlockingIOError:
            self._lost += lines
            return
        if sent < len(self._rest):  # the rest of a line that was cut comes first
            self._rest = self._rest[sent:]
            self._lost += lines
        else:
            self._rest = data[sent:]
            self._lost = 0

    def _loss(self) -> bytes:
        text = "%d lines of the log were lost, because standard error did not accept them"
        record = logging.LogRecord("gateway", logging.WARNING, "", 0, text, (self._lost,), None)
        return f"{self.format(record)}\n".encode()

    def _open(self) -> Callable[[bytes], int] | None:
        """Open standard error once more, so that others who share it are not affected; None if not needed."""
        try:
            number = sys.stderr.fileno()
            mode = os.fstat(number).st_mode
            if stat.S_ISFIFO(mode):
                self._own = os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                return partial(os.write, self._own)
            if stat.S_ISSOCK(mode):
                self._own = os.dup(number)
                return partial(_send_now, self._own)
        except (OSError, ValueError, AttributeError):  # a test's or a program's own object
            return None
        return None


def _send_now(number: int, data: bytes) -> int:
    with socket.socket(fileno=os.dup(number)) as journal:
        return journal.send(data, socket.MSG_DONTWAIT)
