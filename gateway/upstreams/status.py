"""How an upstream is, as far as the last call has shown, and the log lines about it."""

import logging
import time
from collections.abc import Callable
from typing import Literal

log = logging.getLogger("gateway.upstreams")

_QUIET = 10.0  # seconds between two warnings about connections, of which an overloaded upstream would cause thousands


class Status:
    """How an upstream is.

    Attributes:
        state: "up" after a response of its own, "down" after a failure to reach it.
        methods: how many it has here.
        error: the last failure, for operators; it never goes to a caller.
        came_back: called when it is up again, or one of its instances is, which may have other methods now.

    """

    def __init__(self, name: str, address: str) -> None:
        self.state: Literal["unknown", "up", "down"] = "unknown"
        self.methods = 0
        self.error = ""
        self.came_back: Callable[[], object] = _nothing
        self._name = name
        self._address = address
        self._uncounted = 0
        self._untold = 0
        self._quiet_until = 0.0
        self._unauthenticated_until = 0.0

    def note_up(self) -> None:
        """Note that it has responded."""
        if self.state == "down":
            log.info("upstream %s is up again", self._name)
            self.came_back()
        self.state = "up"

    def note_down(self, reason: str) -> None:
        """Note that it could not be reached."""
        if self.state != "down":
            log.warning("upstream %s (%s) is down: %s", self._name, self._address, reason)
        self.state = "down"
        self.error = reason

    def complain(self, problem: str) -> None:
        """Note and log what is wrong with it."""
        self.error = problem
        log.warning("upstream %s: %s", self._name, problem)

    def note_unauthenticated(self, reason: str) -> None:
        """Note that it does not accept our own credentials, and log it, but not for each of many calls."""
        self.error = reason
        if time.monotonic() >= self._unauthenticated_until:
            told = "it does not accept the gateway's credentials"
            log.error("upstream %s: %s: %s; correct them in the configuration", self._name, told, reason)
            self._unauthenticated_until = time.monotonic() + _QUIET

    def note_no_connection(self, connections: int) -> None:
        """Count a call for which no connection became free in time, and log it, but not each of many."""
        self._uncounted += 1
        self._untold += 1
        if time.monotonic() >= self._quiet_until:
            self.complain(f"no connection became free in time: all {connections} are in use (calls: {self._untold})")
            self._untold = 0
            self._quiet_until = time.monotonic() + _QUIET

    def take_no_connection(self) -> int:
        """Return how many such calls there were since the last time."""
        taken, self._uncounted = self._uncounted, 0
        return taken


def _nothing() -> None:
    """Do nothing: its methods are known without asking it."""
