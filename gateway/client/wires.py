"""One exchange on a connection, by HTTP or by a framing of plain TCP: the bytes of a call out, those of its answer in.

    HTTPWire      a POST, and its response
    FramedWire    a message, and the next message that is not a call of the server's own

What has come is an Answer; OSError, TimeoutError and EOFError are about the connection, BadResponse and StatusError
about what was received.
"""

import time
from collections.abc import Mapping

from msgspec import Struct

from gateway.client.address import Address
from gateway.client.errors import BadResponse, StatusError, plain, refused
from gateway.client.options import Options, authorization_of
from gateway.client.transport import Stream
from gateway.codecs import Codec
from gateway.model.faults import RequestTooLarge
from gateway.wire.content_coding import CorruptBodyError, is_known, pack, unpack
from gateway.wire.framing import FRAMINGS, FramingError
from gateway.wire.http_grammar import charset
from gateway.wire.http_reading import IncompleteError, NotHTTPError, ReadResponse, ResponseReader, ResponseTooLongError

_DEADLINE = "X-Request-Timeout"
_EARLIER = 0.1, 0.5  # the server is told of so much less time, so that it is the server who says that it is over


class Answer(Struct, frozen=True, kw_only=True):
    """What has come.

    Attributes:
        body: unpacked.
        charset: of its Content-Type.
        refused: the status, where it is not one of success; then the body may have a fault all the same.
        keeps: whether the connection can be used again.

    """

    body: bytes
    keeps: bool
    charset: str | None = None
    refused: StatusError | None = None

    @property
    def retry_after(self) -> int | None:
        """What the head of a refusal says."""
        return None if self.refused is None else self.refused.retry_after


class HTTPWire:
    """POSTs to one address."""

    def __init__(self, address: Address, options: Options, codec: Codec) -> None:
        self._address = address
        self._most = options["max_response"]
        self._compress_above = options["compress_above"]
        self._fixed = {
            "Host": address.authority,
            "User-Agent": "callgate",
            "Accept-Encoding": "gzip",
            "Content-Type": codec.content_type,
        }
        if authorization := authorization_of(options, address):
            self._fixed["Authorization"] = authorization

    def head(self, headers: Mapping[str, str]) -> bytes:
        """Make what all requests with these headers begin with; they win over all others."""
        lines = {name.lower(): f"{name}: {value}" for name, value in {**self._fixed, **headers}.items()}
        lines.setdefault(_DEADLINE.lower(), f"{_DEADLINE}: ")
        lines[_DEADLINE.lower()] = lines.pop(_DEADLINE.lower())  # behind the others, for ``exchange`` to go on with
        end = "" if lines[_DEADLINE.lower()].endswith(" ") else "\r\n"
        return ("\r\n".join([f"POST {self._address.target} HTTP/1.1", *lines.values()]) + end).encode("ascii")

    async def exchange(self, stream: Stream, head: bytes, body: bytes, deadline: float, *, is_answered: bool) -> Answer:
        """Send a request, and return its response; a notification has one, too."""
        left = deadline - time.monotonic()
        coding = b""
        if self._compress_above is not None and len(body) > self._compress_above:
            body, coding = pack(body, "gzip"), b"Content-Encoding: gzip\r\n"
        told = b""
        if head.endswith(b" "):
            told = b"%.3f\r\n" % max(left - min(left * _EARLIER[0], _EARLIER[1]), 0.001)
        request = b"%b%b%bContent-Length: %d\r\n\r\n%b" % (
            head,
            told,
            coding,
            len(body),
            body,
        )
        await stream.send(request, deadline)
        reader = ResponseReader(self._most)
        try:
            response = None
            while response is None:
                data = await stream.receive(deadline)
                response = reader.feed(data) if data else reader.end()
        except (NotHTTPError, ResponseTooLongError) as error:
            raise self._bad(error) from None
        except IncompleteError as error:
            raise EOFError(_cut_short(error)) from None
        return self._answer(response)

    def _answer(self, response: ReadResponse) -> Answer:
        head, body = response.head, response.body
        coding = head.headers.get("content-encoding", "").lower()
        if coding:
            body = self._unpacked(body, coding)
        kind = charset(head.headers["content-type"]) if "content-type" in head.headers else None
        if 200 <= head.status < 300:
            return Answer(body=body, keeps=response.keeps, charset=kind)
        # A server that refuses by the head may not have read the body, and would take it for the next request.
        return Answer(body=body, keeps=False, charset=kind, refused=refused(self._address.url, head, body))

    def _unpacked(self, body: bytes, coding: str) -> bytes:
        url = self._address.url
        if not is_known(coding):
            raise BadResponse(
                f"{url}: the response has an unknown Content-Encoding: {plain(coding[:40])}", url=url, sent="yes"
            )
        try:
            return unpack(body, coding, self._most)
        except CorruptBodyError:
            raise BadResponse(f"{url}: the response is damaged: it is not {coding}", url=url, sent="yes") from None
        except RequestTooLarge:
            text = f"the response of {url} has more than {self._most} bytes after unpacking"
            raise BadResponse(text, url=url, sent="yes", remedy="raise max_response") from None

    def _bad(self, error: Exception) -> BadResponse:
        url = self._address.url
        if isinstance(error, ResponseTooLongError):
            return BadResponse(f"the response of {url} has {error}", url=url, sent="yes", remedy="raise max_response")
        text = f"no response from {url}: it does not respond in HTTP: {error}"
        return BadResponse(text, url=url, sent="maybe", remedy="is the port right?")


def _cut_short(error: IncompleteError) -> str:
    if error.received:
        return f"it closed the connection after {error.received} bytes of the response"
    return "it closed the connection without a response"


class FramedWire:
    """Messages to one address, with one of our framings."""

    def __init__(self, address: Address, options: Options, codec: Codec) -> None:
        authorization_of(options, address)  # there must be none
        self._address = address
        self._framing = FRAMINGS[options["framing"]]
        self._most = options["max_response"]
        self._codec = codec

    def head(self, headers: Mapping[str, str]) -> bytes:
        """Refuse headers, for which there is no place.

        Raises:
            ValueError: there are some.

        """
        if headers:
            raise ValueError(f"{self._address.url} has no place for headers: only HTTP has")
        return b""

    async def exchange(
        self, stream: Stream, _head: bytes, body: bytes, deadline: float, *, is_answered: bool
    ) -> Answer:
        """Send a message, and return the next one; a notification is not answered."""
        frames = self._framing(self._most)
        await stream.send(frames.frame(body), deadline)
        if not is_answered:
            return Answer(body=b"", keeps=True)
        found: list[bytes] = []
        has_ended = False
        try:
            while not found and not has_ended:
                data = await stream.receive(deadline)
                has_ended = not data
                messages = list(frames.feed(data) if data else frames.end())
                found = [message for message in messages if not self._is_call(message)]
        except FramingError as error:
            raise self._bad(error) from None
        if not found:
            raise EOFError("it closed the connection without a response")
        return Answer(body=found[0], keeps=len(found) == 1 and not frames.unfinished())

    def _is_call(self, message: bytes) -> bool:
        return b'"method"' in message and self._codec.decode_answer(message) is None

    def _bad(self, error: FramingError) -> BadResponse:
        url = self._address.url
        if error.found:
            text = f"{url}: the response is not framed as configured: {plain(error.found.decode('latin-1'))}"
            return BadResponse(text, url=url, sent="maybe", remedy="is the port right, and the framing?")
        text = f"the response of {url} has more than {self._most} bytes"
        return BadResponse(text, url=url, sent="yes", remedy="raise max_response")
