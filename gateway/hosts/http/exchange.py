"""One request and its response: what was judged of it, and what is written."""

from http import HTTPStatus

from msgspec import Struct

from gateway.hosts.http.bodies import Body
from gateway.hosts.http.heads import Head
from gateway.hosts.http.known import Known
from gateway.model.http import Admitted, HTTPResponse
from gateway.wire.http_responses import response_head

_SHORT = 2**15  # bytes of a response that are copied behind its head; more are written beside it


class Exchange(Struct):
    """A request that is being read or answered.

    Attributes:
        body: its body.
        head: its head; None where that is known, and has not been read.
        known: its head, if that is known.
        admitted: what answers it, None where it is refused.
        refusal: what it is answered with, if it is refused, once its body is whole.
        is_slow: its body was not whole when its head was.
        is_answered: the response was written before the body was whole; what still comes of it is thrown away.

    """

    body: Body
    head: Head | None = None
    known: Known | None = None
    admitted: Admitted | None = None
    refusal: HTTPResponse = HTTPResponse(status=HTTPStatus.INTERNAL_SERVER_ERROR)
    is_slow: bool = False
    is_answered: bool = False

    def refuse(self, response: HTTPResponse) -> None:
        """Have the request answered like this, and keep nothing of its body."""
        self.refusal = response
        self.admitted = None
        self.body.drop()

    def encoded(self, response: HTTPResponse, *, close: bool) -> tuple[tuple[bytes, ...], bool]:
        """Write the response in one or two pieces, and tell whether the connection ends with it."""
        head = self.head
        if head is None:
            return (response_head(response, ("close",)), response.body), True
        close = close or "close" in head.options
        options: tuple[str, ...] = ("close",) if close else ()
        if head.is_old and not close:
            close = head.options != ("keep-alive",)
            options = () if close else ("keep-alive",)
        written = response_head(response, options)
        if head.method == "HEAD":
            return (written,), close
        return ((written + response.body,) if len(response.body) <= _SHORT else (written, response.body)), close
