"""Responses of HTTP/1.1 as bytes.

response_head(response, connection)          all before the body
beginning(status), header_lines(headers)     its pieces, for whoever keeps those that do not change
"""

import time
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from gateway.model.http import HTTPResponse


def response_head(response: HTTPResponse, connection: Iterable[str] = ()) -> bytes:
    """Write the head of a response, with Date, Content-Length, and what there is to say of the connection."""
    headers = header_lines((*response.headers, *(("Connection", each) for each in connection)))
    return b"%b%d\r\n%b\r\n" % (beginning(response.status), len(response.body), headers)


def head_of_pieces(response: HTTPResponse, connection: Iterable[str], *, in_chunks: bool) -> bytes:
    """Write the head of a response whose length is not known: in chunks, or up to the end of the connection."""
    lines = [*response.headers, *(("Connection", each) for each in connection)]
    lines += [("Transfer-Encoding", "chunked")] * in_chunks
    date = formatdate(time.time(), usegmt=True)
    status = f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\nDate: {date}\r\n"
    return b"%b%b\r\n" % (status.encode(), header_lines(lines))


def beginning(status: int) -> bytes:
    """Write a head up to the number of its Content-Length, which the other headers follow."""
    return _beginning(status, int(time.time()))


def header_lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """Write headers, a line each."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")


@lru_cache(maxsize=16)
def _beginning(status: int, second: int) -> bytes:
    line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
    return f"{line}\r\nDate: {formatdate(second, usegmt=True)}\r\nContent-Length: ".encode("latin-1")
