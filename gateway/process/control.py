"""What the supervisor and its workers know of each other: orders, reports, and who is alike."""

import socket
from collections.abc import Callable

from msgspec import Struct

from gateway.process.record import WorkerRecord

START = b"g"
STOP = b"s"
RETIRE = b"r"


class StartupError(Exception):
    """The gateway cannot start, or cannot take over a new configuration; the message has a line for each problem."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class ForcedShutdown(Exception):
    """A second signal has come, and all workers have been killed."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


class Report(Struct, frozen=True, kw_only=True):
    """What a worker says of itself once, or what is wrong.

    Attributes:
        methods: how many it serves.
        signatures: of them, by their names, where they are written down.
        named: those that are published.
        problems: what keeps it from serving.

    """

    methods: int = 0
    signatures: dict[str, str] = {}
    named: tuple[str, ...] = ()
    problems: list[str] = []


class Assignment(Struct, frozen=True, kw_only=True):
    """What a worker is given when it is forked.

    Attributes:
        slot: the smallest number that no other living worker has.
        link: its end of the socket pair, on which it sends its Report and is sent START and then STOP or RETIRE.
        record: what it writes down for the supervisor.

    """

    slot: int
    link: socket.socket
    record: WorkerRecord


class Generation(Struct, frozen=True, kw_only=True, eq=False):
    """Workers that are alike.

    Attributes:
        workers: how many.
        work: what each of them does; what it returns is its exit code.
        listeners: the sockets that it accepts from.
        grace: seconds from STOP to the end of accepting.
        drain: seconds that running calls have then.
        watchdog: seconds after which a worker is killed whose event loop does not run; 0 for never.
        ended: told the slot of each worker that is gone.

    """

    workers: int
    work: Callable[[Assignment], int]
    listeners: tuple[socket.socket, ...]
    grace: float
    drain: float
    watchdog: float
    ended: Callable[[int], None]
