"""A small load client: some connections, each with one request in flight, on one thread without an event loop.

It sends the same bytes again and again, reads each answer, and checks it, so that a wrong answer is never counted as a
fast one. It spends some 15 microseconds on a call, a third or less of what the servers spend.
"""

import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import cycle
from typing import NamedTuple


class Load(NamedTuple):
    """What a run came to: calls per second, and the median time of a call in microseconds."""

    calls_per_second: float
    median: float


class Exchange(NamedTuple):
    """What is sent, what is in the answer, and what finds the answer in the bytes so far: None if it is not whole."""

    sent: bytes
    expected: bytes
    read: Callable[[bytes], bytes | None]


def request(path: str, content_type: str, body: bytes) -> bytes:
    """Make the bytes of a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def http(path: str, content_type: str, body: bytes, expected: bytes) -> Exchange:
    """Make a POST; its answer ends by its Content-Length."""
    return Exchange(request(path, content_type, body), expected, _body)


def bytewise(sent: bytes, expected: bytes) -> Exchange:
    """Make an exchange of a protocol whose answer is always the same."""
    return Exchange(sent, expected, lambda data: data if len(data) >= len(expected) else None)


def drive(port: int, exchange: Exchange | Sequence[Exchange], connections: int, seconds: float) -> Load:
    """Drive a server for so many seconds; of several exchanges, each connection has one, in turn.

    Raises:
        RuntimeError: what is expected is not in an answer, or a connection is closed.

    """
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(connections)
        ]
        for connection in sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        exchanges = [exchange] if isinstance(exchange, Exchange) else exchange
        return load(_answer_times(dict(zip(sockets, cycle(exchanges), strict=False)), seconds), seconds)


def load(times: Iterator[float], seconds: float) -> Load:
    """Sum up the times of calls, in seconds.

    Raises:
        RuntimeError: there are none.

    """
    in_order = sorted(times)
    if not in_order:
        raise RuntimeError(f"no answer within {seconds} s")
    return Load(len(in_order) / seconds, in_order[len(in_order) // 2] * 1e6)


def _answer_times(connections: Mapping[socket.socket, Exchange], seconds: float) -> Iterator[float]:
    by_number = {connection.fileno(): (connection, exchange) for connection, exchange in connections.items()}
    started: dict[int, float] = {}
    partial: dict[int, bytes] = {}
    start = time.perf_counter()
    with select.epoll() as poll:
        for number, (connection, exchange) in by_number.items():
            poll.register(number, select.EPOLLIN)
            started[number] = time.perf_counter()
            connection.send(exchange.sent)
        while time.perf_counter() - start < seconds:
            for number, _ in poll.poll(1):
                connection, (sent, expected, read) = by_number[number]
                received = connection.recv(65536)
                if not received:
                    raise RuntimeError("the server closed a connection")
                data = partial.pop(number, b"") + received
                answer = read(data)
                if answer is None:
                    partial[number] = data
                    continue
                if expected not in answer:
                    raise RuntimeError(f"a wrong answer: {data!r}")
                now = time.perf_counter()
                yield now - started[number]
                started[number] = now
                connection.send(sent)


def _body(data: bytes) -> bytes | None:
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return None
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return body if len(body) >= length else None
