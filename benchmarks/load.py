"""A small load client: some connections, each with one request in flight, on one thread without an event loop.

It sends the same bytes again and again, reads each answer by its Content-Length, and checks it, so that a wrong answer
is never counted as a fast one. It spends some 15 microseconds on a call, a third or less of what the servers spend.
"""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple


class Load(NamedTuple):
    """What a run came to: calls per second, and the median time of a call in microseconds."""

    calls_per_second: float
    median: float


def request(path: str, content_type: str, body: bytes) -> bytes:
    """Make the bytes of a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def drive(port: int, sent: bytes, expected: bytes, connections: int, seconds: float) -> Load:
    """Drive a server for so many seconds.

    Raises:
        RuntimeError: an answer does not end with the expected bytes, or a connection is closed.

    """
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(connections)
        ]
        for connection in sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = sorted(_answer_times(sockets, sent, expected, seconds))
    if not times:
        raise RuntimeError(f"no answer within {seconds} s")
    return Load(len(times) / seconds, times[len(times) // 2] * 1e6)


def _answer_times(connections: list[socket.socket], sent: bytes, expected: bytes, seconds: float) -> Iterator[float]:
    by_number = {connection.fileno(): connection for connection in connections}
    started: dict[int, float] = {}
    partial: dict[int, bytes] = {}
    start = time.perf_counter()
    with select.epoll() as poll:
        for number, connection in by_number.items():
            poll.register(number, select.EPOLLIN)
            started[number] = time.perf_counter()
            connection.send(sent)
        while time.perf_counter() - start < seconds:
            for number, _ in poll.poll(1):
                data = partial.pop(number, b"") + by_number[number].recv(65536)
                if not _complete(data, expected):
                    partial[number] = data
                    continue
                now = time.perf_counter()
                yield now - started[number]
                started[number] = now
                by_number[number].send(sent)


def _complete(data: bytes, expected: bytes) -> bool:
    if not data:
        raise RuntimeError("the server closed a connection")
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return False
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    if len(body) < length:
        return False
    if expected not in body:
        raise RuntimeError(f"a wrong answer: {data!r}")
    return True
