"""The one door that all hosts share: an HTTP request in, an HTTP response out.

    admit(head)        None, or the response that refuses it: 404, 405, 415
    too_large(head)    413, for a host that is sent, or told of, more than ``limits.max_body``
    service(request)   200 with what the calls came to, faults included; 400 for a body that does not unpack, 413 for
                       one that is too large, 415 where even the body does not tell the protocol

The XML-RPC specification asks for 200 whenever there is an answer, and clients throw away the body of anything else; so
only what is refused before it is a call has another status. Where the protocol is known, the body is a fault all the
same.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import count
from typing import TypeAlias

from msgspec import Struct

from gateway import coding
from gateway.calls import Answer, Batch, Call, Context, Entry, Handler, Rejected, Reply
from gateway.codecs import Codec, Decoded
from gateway.exchange import HTTPRequest, HTTPResponse
from gateway.faults import GatewayFault, InvalidRequest, ParseError, RequestTooLarge
from gateway.limits import Limits
from gateway.log import log_call, log_refusal, log_unsayable

_UNSAID = frozenset({"", "application/x-www-form-urlencoded"})
_TIMEOUT = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", re.ASCII)
_EXCHANGE_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_CHARSET = re.compile(r"""charset\s*=\s*"?([^"\s;]+)""", re.IGNORECASE)
_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))
_TYPES = "text/xml for XML-RPC, or application/json for JSON-RPC 2.0"

_Spoken: TypeAlias = tuple[Codec | None, str | None]


class RPCService:
    """Codecs and a handler, made into a door.

    Raises nothing: every request has a response.
    """

    def __init__(self, codecs: Iterable[Codec], handler: Handler, limits: Limits, paths: Iterable[str]) -> None:
        self._codecs = tuple(codecs)
        self._by_type = {media_type: codec for codec in self._codecs for media_type in codec.media_types}
        self._headers = {codec.protocol: _answer_headers(codec) for codec in self._codecs}
        self._handler = handler
        self._limits = limits
        self._paths = frozenset(paths)
        self._exchange_ids: Callable[[], int] = count(1).__next__
        self._process = secrets.token_hex(3)
        self._spoken = lru_cache(maxsize=256)(self._read_content_type)

    def admit(self, head: HTTPRequest) -> HTTPResponse | None:
        """Judge a request by its head alone, before a byte of its body is read."""
        headers = head.headers
        if head.target.partition("?")[0] not in self._paths:
            return self._refuse(head, 404, f"Not found. Calls are POSTed to {', '.join(sorted(self._paths))}.")
        if head.method != "POST":
            return self._refuse(head, 405, "Calls are POSTed here: XML-RPC or JSON-RPC 2.0.", ("Allow", "POST"))
        content_type = headers.get("Content-Type", "")
        codec, charset = self._spoken(content_type)
        if codec is None and (_media_type(content_type) not in _UNSAID or "Origin" in headers):
            return self._refuse(head, 415, f"The Content-Type is {_TYPES}.")
        if codec is not None and codec.charsets is not None and charset not in (None, *codec.charsets):
            return self._refuse(head, 415, f"The charset is {' or '.join(sorted(codec.charsets))}.")
        if not coding.is_known(_coding(headers)):
            return self._refuse(
                head, 415, "The Content-Encoding is gzip or deflate.", ("Accept-Encoding", "gzip, deflate")
            )
        return None

    def too_large(self, head: HTTPRequest) -> HTTPResponse:
        """Refuse a request whose body has, or would have, more bytes than are read."""
        fault = RequestTooLarge(f"at most {self._limits.max_body} bytes")
        return self._refuse_call(head, self._spoken(head.headers.get("Content-Type", ""))[0], fault, fault.status)

    async def __call__(self, request: HTTPRequest) -> HTTPResponse:
        """Answer a whole request that ``admit`` has let in."""
        arrival = time.monotonic()
        codec, charset = self._spoken(request.headers.get("Content-Type", ""))
        try:
            body = coding.unpack(request.body, _coding(request.headers), self._limits.max_body)
        except coding.CorruptBody as error:
            return self._refuse_call(request, codec, ParseError(f"the body does not unpack: {error}"), 400)
        except RequestTooLarge as fault:
            return self._refuse_call(request, codec, fault, fault.status)
        if codec is None:
            codec = self._told_by(body)
            if codec is None:
                return self._refuse(request, 415, f"The body is neither XML nor JSON; the Content-Type is {_TYPES}.")
        exchange_id = self._exchange_id(request)
        wish = request.headers.get("X-Request-Timeout")
        decoded: Decoded = codec.decode(body, charset)
        if wish is not None and not (_TIMEOUT.fullmatch(wish) and float(wish) > 0):
            decoded = Rejected(fault=InvalidRequest("X-Request-Timeout is a number of seconds above 0, like 2.5"))
            wish = None
        deadline = arrival + (float(wish) if wish else float("inf"))
        exchange = _Exchange(codec=codec, request=request, id=exchange_id, arrival=arrival, deadline=deadline)
        return self._response(exchange, await self._document(exchange, decoded))

    async def _document(self, exchange: "_Exchange", decoded: Decoded) -> bytes:
        """Answer what was decoded: a batch is a loop, one call after the other, and shares the room of one answer."""
        room = self._limits.max_reply
        if not isinstance(decoded, Batch):
            answer = await self._answer(exchange, decoded, None, room)
            return b"" if _is_notification(decoded) else exchange.codec.single(answer)
        answers = []
        for position, entry in enumerate(decoded.entries):
            answer = await self._answer(exchange, entry, position, room)
            if not _is_notification(entry):
                answers.append(answer)
                room -= len(answer.wire)
        return exchange.codec.batch(answers)

    async def _answer(self, exchange: "_Exchange", entry: Entry, position: int | None, room: int) -> Answer:
        """Answer one entry, and log it, whatever becomes of it: after the answer, which need not wait for the log."""
        context = exchange.context(entry, position)
        start = time.monotonic()
        answer = None
        try:
            reply = await self._handler(entry, context) if isinstance(entry, Call) else Reply(fault=entry.fault)
            answer = exchange.codec.encode(entry, reply, room)
            if answer.fault is not None and answer.fault is not reply.fault:
                log_unsayable(context, answer.fault)
        finally:
            seconds = time.monotonic() - start
            asyncio.get_running_loop().call_soon(log_call, entry, context, answer, seconds)
        return answer

    def _response(self, exchange: "_Exchange", body: bytes) -> HTTPResponse:
        headers = (*self._headers[exchange.codec.protocol], ("X-Request-ID", exchange.id))
        accepted = exchange.request.headers.get("Accept-Encoding")
        if accepted and len(body) > self._limits.compress_above and (chosen := coding.chosen(accepted)):
            return HTTPResponse(headers=(*headers, ("Content-Encoding", chosen)), body=coding.pack(body, chosen))
        return HTTPResponse(headers=headers, body=body)

    def _refuse(self, request: HTTPRequest, status: int, text: str, *headers: tuple[str, str]) -> HTTPResponse:
        exchange_id = self._exchange_id(request)
        log_refusal(status, text, request.peer, exchange_id)
        return HTTPResponse(
            status=status,
            headers=(*_TEXT, ("X-Request-ID", exchange_id), *headers),
            body=f"{text}\n".encode(),
        )

    def _refuse_call(self, request: HTTPRequest, codec: Codec | None, fault: GatewayFault, status: int) -> HTTPResponse:
        """Refuse with a fault body, where the protocol is known."""
        if codec is None:
            return self._refuse(request, status, fault.message)
        exchange_id = self._exchange_id(request)
        log_refusal(status, fault.message, request.peer, exchange_id)
        answer = codec.encode(Rejected(fault=fault), Reply(fault=fault), self._limits.max_reply)
        headers = (*self._headers[codec.protocol], ("X-Request-ID", exchange_id))
        return HTTPResponse(status=status, headers=headers, body=codec.single(answer))

    def _read_content_type(self, content_type: str) -> _Spoken:
        charset = _CHARSET.search(content_type.partition(";")[2])
        return self._by_type.get(_media_type(content_type)), charset[1].lower() if charset else None

    def _told_by(self, body: bytes) -> Codec | None:
        """Tell the protocol by the first byte of the body."""
        first = body.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        return next((codec for codec in self._codecs if first and first in codec.first_bytes), None)

    def _exchange_id(self, request: HTTPRequest) -> str:
        given = request.headers.get("X-Request-ID")
        if given is not None and _EXCHANGE_ID.fullmatch(given):
            return given
        return f"{self._process}-{self._exchange_ids():x}"


def _answer_headers(codec: Codec) -> tuple[tuple[str, str], ...]:
    return (("Content-Type", codec.content_type), ("X-Content-Type-Options", "nosniff"))


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _coding(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Encoding", "").strip().lower()


def _is_notification(entry: Entry) -> bool:
    return isinstance(entry, Call) and entry.notification


class _Exchange(Struct, frozen=True, kw_only=True):
    """What all calls of one request have in common."""

    codec: Codec
    request: HTTPRequest
    id: str
    arrival: float
    deadline: float

    def context(self, entry: Entry, position: int | None) -> Context:
        return Context(
            protocol=self.codec.protocol,
            method=entry.method if isinstance(entry, Call) else "",
            client=self.request.peer,
            headers=self.request.headers,
            exchange_id=self.id,
            position=position,
            arrival=self.arrival,
            deadline=self.deadline,
        )
