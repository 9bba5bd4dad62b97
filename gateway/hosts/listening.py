"""Where connections come from: bound sockets, and what accepts on them.

    bind(address, port, backlog) -> sockets, which workers can inherit
    Listener(sockets, ...)       -> accepted sockets, a few in a turn of the event loop

Where there is no room, no connection is refused: it waits in the kernel's queue, from which other processes that share
the sockets may take it.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

log = logging.getLogger("gateway")

Take: TypeAlias = Callable[[socket.socket, Any], None]

_TURN = 16  # connections in a turn of the loop, so that workers which share a socket share what comes in a burst
_LAST = 4096  # connections that are accepted at the end; more may come than ever end, but by default no more can wait
_HERE = ("127.0.0.1", 0)  # the other end of a Unix socket is a process of this machine
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def bind(address: str, port: int, backlog: int) -> list[socket.socket]:
    """Bind and listen.

    Args:
        address: a host name or an address; empty for all of this machine.
        port: 0 for a free one, the same for IPv4 and IPv6.
        backlog: connections that may wait to be accepted.

    Returns:
        a socket for each address that the host name has.

    Raises:
        OSError: it cannot be bound.
        UnicodeError: it cannot be the name of a host.

    """
    families = socket.AF_UNSPEC if socket.has_ipv6 else socket.AF_INET
    places = socket.getaddrinfo(address or None, port, families, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    try:
        for family, _, _, _, place in sorted(set(places)):  # IPv4 first
            taken = place if port or not opened else (place[0], opened[0].getsockname()[1], *place[2:])
            _open(opened, family, taken, backlog)
    except OSError:
        for bound in opened:
            bound.close()
        raise
    return opened


def _open(opened: list[socket.socket], family: int, place: Any, backlog: int) -> None:
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return  # the name has an address of a family that this machine does not have
        raise
    opened.append(bound)
    bound.setblocking(False)  # noqa: FBT003 - the standard library's
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
    bound.bind(place)
    bound.listen(backlog)


class Listener:
    """Accepts connections on sockets, as long as there is room for them.

    Args:
        sockets: bound, listening, not blocking; they are closed at the end.
        has_room: tells whether one more may be accepted.
        take: gets each accepted socket and the address at its other end.

    """

    def __init__(self, sockets: Iterable[socket.socket], has_room: Callable[[], bool], take: Take) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        self._has_room = has_room
        self._take = take
        self._listens = False
        self.resume()

    def resume(self) -> None:
        """Accept again, if it does not and there is room."""
        if not self._listens and self._has_room():
            self._listens = True
            for bound in self._sockets:
                self._loop.add_reader(bound, self._accept_some, bound)

    def close(self) -> None:
        """Accept the connections that wait, so that they are not reset, and then no more."""
        for bound in self._sockets:
            for _ in range(_LAST):
                if not (self._has_room() and self._accept(bound)):
                    break
        self._pause()
        for bound in self._sockets:
            bound.close()
        self._sockets.clear()

    def _pause(self) -> None:
        self._listens = False
        for bound in self._sockets:
            self._loop.remove_reader(bound)

    def _accept_some(self, bound: socket.socket) -> None:
        for _ in range(_TURN):
            if not self._has_room():
                self._pause()
                return
            if not self._accept(bound):
                return

    def _accept(self, bound: socket.socket) -> bool:
        """Accept one; False where none waits."""
        try:
            accepted, address = bound.accept()
        except BlockingIOError:
            return False
        except OSError as error:  # accept(2): one that was gone already has its error told here
            if error.errno not in _EXHAUSTED:
                return True
            log.warning("no connection can be accepted for the moment: %s", os.strerror(error.errno or 0).lower())
            self._pause()
            return False
        self._take(accepted, _HERE if bound.family == socket.AF_UNIX else address)
        return True
