"""What the supervisor and its workers know of each other: orders, reports, and who is alike."""

import socket
from collections.abc import Callable

from msgspec import Struct

START = b"g"
STOP = b"s"
RETIRE = b"r"


class StartupError(Exception):
    """What keeps a generation from being planned or started, a line each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class ForcedShutdown(Exception):
    """A second signal has come, and all workers have been killed."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


class Report(Struct, frozen=True, kw_only=True):
    """What a worker says of itself once: how many methods it serves, or what is wrong."""

    methods: int = 0
    problems: list[str] = []


class Generation(Struct, frozen=True, kw_only=True, eq=False):
    """Workers that are alike.

    Attributes:
        workers: how many.
        work: what each of them does, given its slot (the smallest number that no living worker has) and its end of the
            socket pair, on which it sends its Report and is sent START and then STOP or RETIRE; what it returns is its
            exit code.
        listeners: the sockets that it accepts from.
        grace: seconds from STOP to the end of accepting.
        drain: seconds that running calls have then.
        ended: told the slot of each worker that is gone.

    """

    workers: int
    work: Callable[[int, socket.socket], int]
    listeners: tuple[socket.socket, ...]
    grace: float
    drain: float
    ended: Callable[[int], None]
