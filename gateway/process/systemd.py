"""What systemd and this process tell each other: sd_notify(3) and sd_listen_fds(3)."""

import logging
import os
import socket

_FIRST = 3  # SD_LISTEN_FDS_START

_log = logging.getLogger("gateway")


def notify(state: str) -> None:
    """Send a state like ``READY=1``; nothing is sent where nobody waits for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
        try:
            told.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
        except OSError as error:
            _log.warning("%s cannot be sent to systemd: %s", state.partition("\n")[0], error.strerror)


def passed() -> range:
    """Return the descriptors of the sockets that systemd has opened for this process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):  # else they are meant for another process
        return range(0)
    count = os.environ.get("LISTEN_FDS", "")
    return range(_FIRST, _FIRST + int(count)) if count.isdecimal() else range(0)
