"""From the body of an admitted request to its response: decode, call, encode; one call after the other.

    Exchange.answer(body) -> 200 with what the calls came to, faults included
                              -> 400 for a body that does not unpack, 413 for one that unpacks to too much, 415 where
                                 even the body does not tell the protocol

The XML-RPC specification asks for 200 whenever there is an answer, and clients throw away the body of anything else; so
only what is refused before it is a call has another status. Where the protocol is known, the body of a refusal is a
fault all the same.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from msgspec import Struct

from gateway.codecs import Codec, Decoded
from gateway.model.calls import Answer, Batch, Call, Caller, CallHandler, Context, Entry, InvalidCall, Reply
from gateway.model.faults import GatewayFault, InvalidRequest, ParseError, RequestTooLarge
from gateway.model.http import HTTPRequest, HTTPResponse, Refusal
from gateway.model.limits import Limits
from gateway.telemetry.log import log_unencodable
from gateway.wire import content_coding as coding
from gateway.wire.http_grammar import PRINTABLE

Headers: TypeAlias = tuple[tuple[str, str], ...]

TYPES = "text/xml for XML-RPC, or application/json for JSON-RPC 2.0"
_NOSNIFF = ("X-Content-Type-Options", "nosniff")
_TIMEOUT = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", re.ASCII)


class Observers(Struct, frozen=True, kw_only=True):
    """Who is told what became of calls and requests: the log, the metrics.

    Attributes:
        calls: told of each call, after its answer has gone out: what was asked, by whom, the answer (None if the caller
            has hung up), and how many seconds it took.
        refusals: told of each request that was refused before it was a call.
        traffic: told of each request that was answered: its protocol, and the bytes of its body and of its answer's.

    """

    calls: tuple[Callable[[Entry, Context, Answer | None, float], None], ...] = ()
    refusals: tuple[Callable[[Refusal], None], ...] = ()
    traffic: tuple[Callable[[str, int, int], None], ...] = ()


class Desk(Struct, frozen=True, kw_only=True):
    """What all conversations of a door share."""

    codecs: tuple[Codec, ...]
    handler: CallHandler
    limits: Limits
    observers: Observers

    def refuse(self, refused: Refusal, text: str, headers: Headers = ()) -> HTTPResponse:
        """Refuse a request in plain text."""
        for told in self.observers.refusals:
            told(refused)
        head = (("Content-Type", "text/plain; charset=utf-8"), _NOSNIFF, ("X-Request-ID", refused.request_id))
        return HTTPResponse(status=refused.status, headers=(*head, *headers), body=f"{text}\n".encode())

    def refuse_call(
        self, refused: Refusal, fault: GatewayFault, codec: Codec | None, headers: Headers = ()
    ) -> HTTPResponse:
        """Refuse a request with a fault, where the protocol is known."""
        plain = self.refuse(refused, fault.message, headers)
        if codec is None:
            return plain
        answer = codec.encode(InvalidCall(fault=fault), Reply(fault=fault), self.limits.max_reply)
        head = (("Content-Type", codec.content_type), *plain.headers[1:])
        return HTTPResponse(status=refused.status, headers=head, body=codec.single(answer))

    def told_by(self, body: bytes) -> Codec | None:
        """Tell the protocol by the first byte of the body."""
        first = body.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        return next((codec for codec in self.codecs if first and first in codec.first_bytes), None)

    def tell(self, entry: Entry, context: Context, answer: Answer | None, seconds: float) -> None:
        """Tell all observers of a call."""
        for told in self.observers.calls:
            told(entry, context, answer, seconds)


class Exchange(Struct, kw_only=True):
    """One request that was let in, and what its calls have in common.

    With a ``refusal``, that is the answer to each of them.
    """

    desk: Desk
    head: HTTPRequest
    caller: Caller
    codec: Codec | None
    charset: str | None
    request_id: str
    headers: Headers
    arrival: float = 0.0
    deadline: float = 0.0
    refusal: GatewayFault | None = None

    async def answer(self, body: bytes) -> HTTPResponse:
        """Answer the request, now that its body is here. Raises nothing."""
        self.arrival = time.monotonic()
        try:
            unpacked = coding.unpack(body, content_coding(self.head.headers), self.desk.limits.max_body)
        except coding.CorruptBodyError as error:
            fault = ParseError(f"the body does not unpack: {error}")
            return self.desk.refuse_call(self.refused("coding", 400, fault.message), fault, self.codec)
        except RequestTooLarge:
            return self.too_large()
        codec = self.codec or self.desk.told_by(unpacked)
        if codec is None:
            text = f"The body is neither XML nor JSON; the Content-Type is {TYPES}."
            return self.desk.refuse(self.refused("type", 415, text), text)
        decoded = self._read_wish(codec.decode(unpacked, self.charset))
        document, answers = await self._document(codec, decoded)
        for told in self.desk.observers.traffic:
            told(codec.protocol, len(body), len(document))
        return self._response(codec, document, handed_over(decoded, answers) if self.caller.is_proxied else ())

    def too_large(self) -> HTTPResponse:
        """Refuse the request, because its body has, or would have, more bytes than are read."""
        fault = RequestTooLarge(f"at most {self.desk.limits.max_body} bytes")
        return self.desk.refuse_call(self.refused("size", fault.status, fault.message), fault, self.codec)

    def unreadable(self, status: int, reason: str) -> HTTPResponse:
        """Refuse the request, because its body did not come as its head says, or cannot be read by this host."""
        return self.desk.refuse_call(self.refused("framing", status, reason), InvalidRequest(reason), self.codec)

    def refused(self, kind: str, status: int, reason: str) -> Refusal:
        """Say that the request is refused after all."""
        return Refusal(kind=kind, status=status, reason=reason, client=self.caller.client, request_id=self.request_id)

    def _read_wish(self, decoded: Decoded) -> Decoded:
        """Set the deadline to what the caller asks for, if it does."""
        wish = self.head.headers.get("X-Request-Timeout")
        if wish is None:
            self.deadline = float("inf")
        elif _TIMEOUT.fullmatch(wish) and float(wish) > 0:
            self.deadline = self.arrival + float(wish)
        else:
            return InvalidCall(fault=InvalidRequest("X-Request-Timeout is a number of seconds above 0, like 2.5"))
        return decoded

    async def _document(self, codec: Codec, decoded: Decoded) -> tuple[bytes, list[Answer]]:
        """Answer what was decoded: a batch is a loop, one call after the other, and shares the room of one answer."""
        room = self.desk.limits.max_reply
        if not isinstance(decoded, Batch):
            answer = await self._answer(codec, decoded, None, room)
            return b"" if _is_notification(decoded) else codec.single(answer), [answer]
        answers, sent = [], []
        for position, entry in enumerate(decoded.entries):
            answer = await self._answer(codec, entry, position, room)
            answers.append(answer)
            if not _is_notification(entry):
                sent.append(answer)
                room -= len(answer.wire)
        return codec.batch(sent), answers

    async def _answer(self, codec: Codec, entry: Entry, position: int | None, room: int) -> Answer:
        """Answer one entry, and tell of it, whatever becomes of it: after the answer, which need not wait for that."""
        context = self._context(codec, entry, position)
        start = time.monotonic()
        answer = None
        try:
            if isinstance(entry, Call) and self.refusal is None:
                reply = await self.desk.handler(entry, context)
            else:
                reply = Reply(fault=entry.fault if isinstance(entry, InvalidCall) else self.refusal)
            answer = codec.encode(entry, reply, room)
            if answer.fault is not None and answer.fault is not reply.fault:
                log_unencodable(context, answer.fault)
        finally:
            seconds = time.monotonic() - start
            asyncio.get_running_loop().call_soon(self.desk.tell, entry, context, answer, seconds)
        return answer

    def _context(self, codec: Codec, entry: Entry, position: int | None) -> Context:
        return Context(
            protocol=codec.protocol,
            method=entry.method if isinstance(entry, Call) else "",
            caller=self.caller,
            headers=self.head.headers,
            request_id=self.request_id,
            position=position,
            arrival=self.arrival,
            deadline=self.deadline,
        )

    def _response(self, codec: Codec, body: bytes, extra: Headers) -> HTTPResponse:
        headers = (
            ("Content-Type", codec.content_type),
            _NOSNIFF,
            ("X-Request-ID", self.request_id),
            *self.headers,
            *extra,
        )
        accepted = self.head.headers.get("Accept-Encoding")
        if accepted and len(body) > self.desk.limits.compress_above and (chosen := coding.chosen(accepted)):
            return HTTPResponse(headers=(*headers, ("Content-Encoding", chosen)), body=coding.pack(body, chosen))
        return HTTPResponse(headers=headers, body=body)


def handed_over(decoded: Decoded, answers: list[Answer]) -> Headers:
    """Tell a trusted proxy what it cannot read in the body, for its own log; it keeps these headers from the client."""
    entries = decoded.entries if isinstance(decoded, Batch) else [decoded]
    named = next((entry.method for entry in entries if isinstance(entry, Call)), "")
    headers = [("X-RPC-Method", named)] if PRINTABLE.fullmatch(named) else []
    if isinstance(decoded, Batch):
        headers.append(("X-RPC-Batch", str(len(entries))))
    fault = next((answer.fault for answer in answers if answer.fault is not None), None)
    return (*headers, *([] if fault is None else [("X-RPC-Fault", str(fault.code))]))


def content_coding(headers: Mapping[str, str]) -> str:
    """Return the Content-Encoding, in lower case; an empty text is none."""
    return headers.get("Content-Encoding", "").strip().lower()


def _is_notification(entry: Entry) -> bool:
    return isinstance(entry, Call) and entry.notification
