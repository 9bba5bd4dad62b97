"""Opens the sockets of an address, as ``server.bind`` writes it.

    127.0.0.1:8000, [::1]:8000, :8000    TCP
    unix:/run/gateway.sock               a Unix socket, whose file has a mode
    fd:3                                 a socket that listens already, inherited under this number
    systemd                              all sockets that systemd passes

The file of a Unix socket on which nobody listens is left over from a process that was killed: it is replaced.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from gateway.process.systemd import passed

_UNIX = "unix:"


def open_address(address: str, backlog: int, mode: int) -> tuple[socket.socket, ...]:
    """Bind and listen, or take over what listens already.

    Args:
        address: as above.
        backlog: connections that may wait to be accepted.
        mode: the permissions of a Unix socket.

    Returns:
        sockets that do not block; for a host name one for each of its addresses.

    Raises:
        OSError: it cannot be bound, or there is no such socket.
        UnicodeError: it cannot be the name of a host.

    """
    from gateway.hosts.listening import bind  # noqa: PLC0415 - who only imports the gateway needs no host

    if address == "systemd":
        return tuple(_inherited_all(passed()))
    if address.startswith("fd:"):
        return (_inherited(int(address.removeprefix("fd:"))),)
    if address.startswith(_UNIX):
        return (_unix(address.removeprefix(_UNIX), backlog, mode),)
    host, _, port = address.rpartition(":")
    return tuple(bind(host.strip("[]"), int(port), backlog))


def remove_files(addresses: Iterable[str]) -> None:
    """Remove the files of those of the addresses that are Unix sockets, if nobody listens there any more."""
    for address in addresses:
        if address.startswith(_UNIX):
            with suppress(OSError):  # the folder may be gone, too
                _remove_stale(address.removeprefix(_UNIX))


def set_mode(address: str, mode: int) -> None:
    """Give the file of a Unix socket, which exists already, its permissions."""
    if address.startswith(_UNIX):
        Path(address.removeprefix(_UNIX)).chmod(mode)


def _unix(path: str, backlog: int, mode: int) -> socket.socket:
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)  # noqa: FBT003 - the standard library's
        bound.bind(path)
        Path(path).chmod(mode)  # nobody can connect before it listens
        bound.listen(backlog)
    except OSError:
        bound.close()
        raise
    return bound


def _remove_stale(path: str) -> None:
    try:
        kind = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise OSError(errno.EEXIST, "there is a file of this name, which is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
        tried.setblocking(False)  # noqa: FBT003 - the standard library's
        try:
            tried.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
        except BlockingIOError:  # somebody listens, and has a full queue
            return


def _inherited_all(numbers: range) -> Iterator[socket.socket]:
    if not numbers:
        raise OSError(errno.ENOENT, "systemd has passed no socket to this process (LISTEN_FDS): it needs a socket unit")
    for number in numbers:
        yield _inherited(number)


def _inherited(number: int) -> socket.socket:
    """Take over a socket; its number stays open, so that a reload can come back to it."""
    copy = os.dup(number)
    try:
        bound = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    if not bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        bound.close()
        raise OSError(errno.EINVAL, "the socket does not listen")
    os.set_inheritable(number, False)  # noqa: FBT003 - the standard library's
    bound.setblocking(False)  # noqa: FBT003 - likewise
    return bound
