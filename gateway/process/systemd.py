"""What systemd is told, if it has started this process and waits to be told: sd_notify(3)."""

import logging
import os
import socket

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
