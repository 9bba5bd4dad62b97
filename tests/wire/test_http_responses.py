"""The heads of responses, byte for byte."""

import re

import pytest

from gateway.model.http import HTTPResponse
from gateway.wire.http_responses import response_head


@pytest.mark.parametrize(
    ("response", "connection", "line", "rest"),
    [
        (HTTPResponse(), (), "HTTP/1.1 200 OK", "Content-Length: 0\r\n\r\n"),
        (
            HTTPResponse(status=503),
            ("close",),
            "HTTP/1.1 503 Service Unavailable",
            "Content-Length: 0\r\nConnection: close\r\n\r\n",
        ),
        (
            HTTPResponse(headers=(("X-One", "1"), ("X-Two", "\xe9")), body=b"1234567890"),
            ("keep-alive",),
            "HTTP/1.1 200 OK",
            "Content-Length: 10\r\nX-One: 1\r\nX-Two: \xe9\r\nConnection: keep-alive\r\n\r\n",
        ),
    ],
)
def test_a_head_has_the_length_of_the_body_and_all_headers_in_order(
    response: HTTPResponse, connection: tuple[str, ...], line: str, rest: str
) -> None:
    head = response_head(response, connection).decode("latin-1")
    date = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"  # RFC 9110, 5.6.7
    assert re.fullmatch(rf"{re.escape(line)}\r\nDate: {date}\r\n{re.escape(rest)}", head)
