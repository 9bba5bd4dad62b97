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
from collections.abc import Callable, Iterable
from functools import partial

import msgspec
from msgspec import Struct

_log = logging.getLogger("gateway")
_NEVER = float("inf")
_MERCY = 3.0  # seconds that it has to withdraw the gateway
_PAUSE = 1.0  # seconds between two attempts to start it
_END = b"end\n"


class Publishing(Struct, frozen=True, kw_only=True, eq=False):
    """What a registrar is to publish.

    Attributes:
        what: compared, to see whether a reload has changed it.
        methods: those that the gateway serves. The child is told of others, and goes on.
        work: what the child does, given its end of a link; what it returns is its exit code.

    """

    what: object
    methods: tuple[str, ...] = ()
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
        elif self.pid and publishing is not None and not self._is_ending:
            self._tell(publishing)
        elif not self.pid:
            self.due = _NEVER if publishing is None else time.monotonic()

    def _tell(self, publishing: Publishing) -> None:
        """Tell the present one which methods there are now; if it does not listen, another one will be told."""
        if self._published is not None and publishing.methods == self._published.methods:
            return
        self._published = publishing
        message = msgspec.json.encode(publishing.methods) + b"\n"
        try:
            if self.link is not None and self.link.send(message) == len(message):
                return
        except OSError:
            _log.debug("the registrar does not listen")
        self.end()

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

    def fork(self, signals: Iterable[int], leave: Callable[[socket.socket], None]) -> Callable[[], int] | None:
        """Start one. Where there is no process left, another attempt is due later.

        Args:
            signals: those of the supervisor, which must not reach a child that has not left it yet.
            leave: closes in a child what belongs to the supervisor, given the supervisor's end of the link.

        Returns:
            in the child what it does; None in the supervisor.

        """
        publishing = self.wanted
        if publishing is None:
            return None
        links: tuple[socket.socket, ...] = ()
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            links = ours, theirs = socket.socketpair()
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            for end in links:
                end.close()
            self.due = time.monotonic() + _PAUSE
            reason = str(error.strerror).lower()
            _log.error("the gateway is not published: %s; another attempt in %g s", reason, _PAUSE)
            return None
        if pid == 0:
            leave(ours)
            return partial(publishing.work, theirs)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        theirs.close()
        ours.setblocking(False)  # noqa: FBT003 - the standard library's
        self.pid, self.link, self._published, self._is_ending = pid, ours, publishing, False
        return None

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
