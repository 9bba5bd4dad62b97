"""The registrar: the child of the supervisor that publishes the gateway, as its supervisor sees it.

A worker cannot publish: it is replaced at each reload, and several would be several gateways at one address. The
supervisor cannot either, for it has no event loop. The registrar is forked when the first generation is ready, is kept
over reloads that leave [publish] as it is, is started again when it has died, and ends when the supervisor says so or
is gone. What it publishes vanishes with its session in any case.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable

from msgspec import Struct

_log = logging.getLogger("gateway")
_NEVER = float("inf")
_MERCY = 3.0  # seconds that it has to withdraw the gateway
_PAUSE = 1.0  # seconds between two attempts to start it
_END = b"e"


class Publishing(Struct, frozen=True, kw_only=True, eq=False):
    """What a registrar is to publish.

    Attributes:
        what: compared, to see whether a reload has changed it.
        work: what the child does, given its end of a link; what it returns is its exit code.

    """

    what: object
    work: Callable[[socket.socket], int]


class Registrar:
    """There is none, or one that publishes, or one that ends.

    Attributes:
        pid: its process id; 0 where there is none.
        link: the supervisor's end of their socket pair.
        wanted: what is to be published; None for nothing.
        due: when to look after it or to start one, on the clock of time.monotonic().

    """

    def __init__(self) -> None:
        self.pid = 0
        self.link: socket.socket | None = None
        self.wanted: Publishing | None = None
        self.due = _NEVER
        self._published: Publishing | None = None
        self._is_ending = False

    def want(self, publishing: Publishing | None) -> None:
        """Say what is to be published from now on."""
        self.wanted = publishing
        if self.pid and (publishing is None or self._published is None or publishing.what != self._published.what):
            self.end()
        elif not self.pid:
            self.due = _NEVER if publishing is None else time.monotonic()

    def stop(self) -> None:
        """Publish nothing any more."""
        self.want(None)

    def end(self) -> None:
        """Have the present one withdraw the gateway, and end."""
        if self._is_ending or self.link is None:
            return
        self._is_ending = True
        self.due = time.monotonic() + _MERCY
        try:
            self.link.send(_END)
        except OSError:
            _log.debug("the registrar ends already")

    def is_due(self, now: float) -> bool:
        """Tell whether one is to be started; kill one that does not end."""
        if now < self.due:
            return False
        self.due = _NEVER
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            return False
        return self.wanted is not None

    def started(self, pid: int, link: socket.socket) -> None:
        """Take note of a child."""
        self.pid, self.link, self._published, self._is_ending = pid, link, self.wanted, False
        self.due = _NEVER

    def not_started(self, error: OSError) -> None:
        """Try it again later."""
        self.due = time.monotonic() + _PAUSE
        _log.error("the gateway is not published: %s; another attempt in %g s", str(error.strerror).lower(), _PAUSE)

    def reap(self) -> None:
        """See whether it has ended, and start another one if that was not meant."""
        if not self.pid:
            return
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return
        self.pid = 0
        self.leave()
        pause = 0.0
        if not self._is_ending:
            pause = _PAUSE
            code = os.waitstatus_to_exitcode(status)
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            _log.warning("the process that publishes the gateway %s; another one starts in %g s", how, pause)
        self.due = _NEVER if self.wanted is None else time.monotonic() + pause

    def leave(self) -> None:
        """Close the link; in another child, too: held open there, the supervisor would look alive to it."""
        if self.link is not None:
            self.link.close()
            self.link = None
