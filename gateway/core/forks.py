"""A process that a method forks: it serves nobody, keeps no port open, and never returns into the gateway.

os.fork copies the calling thread, and all open sockets with it. A copy of the event loop's thread would accept and
answer requests beside the process that it comes from; any other copy would keep the port and the connections open for
as long as it lives. (subprocess does not need this: it closes what it has not been given.)

    closed_in_children(names)    while this process serves on these ports and Unix sockets
    end_child()                  after each step of a method: ends the process, if it is a child that a method forked
"""

import logging
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.model.calls import CURRENT

_DESCRIPTORS = Path("/proc/self/fd")

_log = logging.getLogger("gateway")
_served: list[int | str] = []  # ports of this process, and paths of Unix sockets
_forked_in: list[str] = []  # the method that has forked this process; empty in all others


@contextmanager
def closed_in_children(names: Iterable[int | str]) -> Iterator[None]:
    """Close sockets by their TCP port or Unix path in processes that are forked from this one meanwhile."""
    names = tuple(names)
    _served.extend(names)
    try:
        yield
    finally:
        for name in names:
            _served.remove(name)


def end_child() -> None:
    """End this process, if it was forked in a method: what called the method is the other process's."""
    if _forked_in:
        _log.warning("%s has forked a process that did not end by itself: end it with os._exit", _forked_in[0])
        os._exit(1)


def _after_fork() -> None:
    context = CURRENT.get(None)
    if context is not None:
        _forked_in.append(context.method)
    if _served:
        _close(set(_served))


def _close(names: set[int | str]) -> None:
    """Close sockets by their local name, which accepted connections share with the socket that they come from.

    Their numbers stay in use, because objects of the event loop still know them, and may close them later.
    """
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for entry in list(_DESCRIPTORS.iterdir()):
        number = int(entry.name)
        with suppress(OSError):  # it is not a socket, or the one that the list was read from
            if _local_name(number) in names:
                os.dup2(nothing, number, inheritable=False)
    os.close(nothing)


def _local_name(number: int) -> int | str:
    with socket.socket(fileno=os.dup(number)) as copy:
        if copy.family in (socket.AF_INET, socket.AF_INET6):
            return int(copy.getsockname()[1])
        return str(copy.getsockname()) if copy.family == socket.AF_UNIX else ""


if _DESCRIPTORS.is_dir():
    os.register_at_fork(after_in_child=_after_fork)
