"""The endpoint that all hosts share, and the one way that a call takes through it.

    admit(head) -> HTTPResponse   /healthz, /readyz, or refused by its head (gateway/endpoints/heads.py), or 429: the
                                  caller has called too often
                -> Exchange       let in; ``Exchange.answer(body)`` is the response:
                                  unpack -> decode -> call, in order or at once -> encode -> HTTPResponse
                                  200 with what the calls came to, faults included; 400 for a body that does not
                                  unpack, 413 for one that unpacks to too much, 415 where even the body does not show
                                  the protocol

The XML-RPC specification asks for 200 whenever there is an answer, and clients throw away the body of anything else; so
only what is refused before it is a call has another status. Where the protocol is known, the body of a refusal is a
fault all the same.
"""

import asyncio
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from email.utils import formatdate
from functools import partial
from itertools import count
from typing import TypeAlias

from msgspec import Struct, field

from gateway.codecs import Codec, Decoded
from gateway.core.access import AccessPolicy
from gateway.core.rates import RateLimits
from gateway.core.versions import midnight
from gateway.endpoints.batches import Room, Writer, at_once, in_order, in_turns, is_notification
from gateway.endpoints.heads import Headers, HeadJudge, Judged, Objection, content_types
from gateway.endpoints.observers import Observers
from gateway.model.calls import (
    Answer,
    Batch,
    Call,
    CallHandler,
    Context,
    Deprecation,
    Entry,
    InvalidCall,
    Recording,
    Reply,
    record_of,
)
from gateway.model.faults import GatewayFault, InvalidRequest, ParseError, RateLimited, RequestTooLarge
from gateway.model.http import HTTPRequest, HTTPResponse, Pieces, Refusal, Visitor
from gateway.model.limits import Limits
from gateway.model.tracing import CallSpan
from gateway.telemetry.log import log_unencodable
from gateway.wire import content_coding
from gateway.wire.http_grammar import PRINTABLE

_REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
TIMEOUT = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", re.ASCII)
NOSNIFF = ("X-Content-Type-Options", "nosniff")
_HEALTH = ("/healthz", "/readyz")
_LARGE = 2**16  # bytes of a body that is read in turns
_EVENTS = (  # of a stream; nginx does not buffer it
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-store"),
    ("X-Accel-Buffering", "no"),
)
BeginEvents: TypeAlias = Callable[["Exchange", Codec, Decoded], Awaitable[Pieces | None]]


class RPCEndpoint:
    """Codecs and a handler, made into an endpoint. Raises nothing: every request has a response.

    Arguments:
        codecs: the protocols that are spoken.
        handler: answers a call.
        limits: what requests and answers are held to.
        observers: the observers of what is answered here.
        paths: where calls are POSTed to.
        policy: who is let in.
        rates: how often a caller may call.
        asked: the names of headers that pages may send beside the usual ones.

    Attributes:
        closing: whether /readyz says that this process is about to stop.
        begin_events: begins the stream that a body calls for, as server-sent events; None where there are none.
        recorder: records calls with their arguments and results; None where they are not.
        judge: judges a head.
        judge_upgrade: judges the head of an upgrade to WebSocket.

    """

    def __init__(  # noqa: PLR0913 - all of them are named
        self,
        *,
        codecs: tuple[Codec, ...],
        handler: CallHandler,
        limits: Limits,
        observers: Observers,
        paths: Iterable[str],
        policy: AccessPolicy,
        rates: RateLimits,
        asked: Iterable[str] = (),
    ) -> None:
        self.closing = False
        self.begin_events: BeginEvents | None = None
        self.recorder: Recording | None = None
        self.codecs = codecs
        self.handler = handler
        self.limits = limits
        self.observers = observers
        paths = tuple(paths)
        judge = HeadJudge(codecs, paths, policy, asked)
        self.judge, self._visit, self.judge_upgrade = judge.judge, judge.visit, judge.judge_upgrade
        self._health = frozenset(_HEALTH) - frozenset(paths)
        self.rates = rates
        self._next: Callable[[], int] = count(1).__next__
        self._process = secrets.token_hex(3)

    def admit(self, head: HTTPRequest) -> "HTTPResponse | Exchange":
        """Judge a request by its head alone, and charge its first call to its caller."""
        path = head.target.partition("?")[0]
        if path in self._health and head.method in ("GET", "HEAD"):
            return self.health(path)
        judged = self.judge(head)
        if type(judged) is Judged:
            wait = self.rates.charge(judged.caller)
            if not wait:
                return Exchange(
                    endpoint=self,
                    head=head,
                    judged=judged,
                    request_id=self.id_of(head),
                )
            judged = too_often(judged, rate_limited(wait))
        elif isinstance(judged, HTTPResponse):
            return judged
        assert isinstance(judged, Objection)  # noqa: S101 - what is neither of the other two
        return self.object(judged, self.id_of(head))

    def visit(self, head: HTTPRequest) -> Visitor | HTTPResponse:
        """Judge a request that is not a call, and is for an application beside this endpoint, by its head."""
        visitor = self._visit(head)
        return visitor if isinstance(visitor, Visitor) else self.object(visitor, self.id_of(head))

    def admit_message(self, head: HTTPRequest) -> "HTTPResponse | Exchange":
        """Judge a message that came without HTTP, by the head that it would have.

        A caller that calls too often gets the fault in an answer with the call's id: nothing else shows on a shared
        connection which call it is for.
        """
        judged = self.judge(head)
        if isinstance(judged, Objection):
            return self.object(judged, self.id_of(head))
        if isinstance(judged, HTTPResponse):
            return judged
        wait = self.rates.charge(judged.caller)
        return Exchange(
            endpoint=self,
            head=head,
            judged=judged,
            request_id=self.id_of(head),
            refusal=rate_limited(wait) if wait else None,
        )

    def health(self, path: str) -> HTTPResponse:
        """Answer /healthz: the process runs; or /readyz: it takes calls, and is not about to stop."""
        closing = self.closing and path == "/readyz"
        headers = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))
        return HTTPResponse(status=503 if closing else 200, headers=headers, body=b"closing\n" if closing else b"ok\n")

    def refuse(
        self, refusal: Refusal, answer: GatewayFault | str, codec: Codec | None = None, headers: Headers = ()
    ) -> HTTPResponse:
        """Refuse a request: with a fault where the protocol is known, in plain text otherwise."""
        self.observers.refused(refusal)
        if codec is None or isinstance(answer, str):
            text = answer if isinstance(answer, str) else answer.message
            content_type, body = "text/plain; charset=utf-8", f"{text}\n".encode()
        else:
            fault = codec.encode(InvalidCall(fault=answer), Reply(fault=answer), self.limits.max_reply)
            content_type, body = codec.content_type, codec.single(fault)
        head = (("Content-Type", content_type), NOSNIFF, ("X-Request-ID", refusal.request_id))
        return HTTPResponse(status=refusal.status, headers=(*head, *headers), body=body)

    def recognize(self, body: bytes) -> Codec | None:
        """Recognize the protocol by the first byte of the body."""
        first = body.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        return next((codec for codec in self.codecs if first and first in codec.first_bytes), None)

    def object(self, objection: Objection, request_id: str) -> HTTPResponse:
        """Refuse a request that was objected to."""
        refusal = Refusal(
            kind=objection.kind,
            status=objection.status,
            reason=objection.reason,
            client=objection.client,
            request_id=request_id,
        )
        return self.refuse(refusal, objection.answer, objection.codec, objection.headers)

    def id_of(self, head: HTTPRequest) -> str:
        """Return the id of a request with this head."""
        return self.request_id(head.headers.get("X-Request-ID"))

    def request_id(self, given: str | None) -> str:
        """Return the id of a request: the value of its X-Request-ID, if that is plain, or else a new one."""
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return f"{self._process}-{self._next():x}"


class Exchange(Struct, kw_only=True):
    """One request that was let in, and what its calls have in common.

    With a ``refusal``, that is the answer to each of them. ``handler`` answers them in the endpoint's place.
    ``span`` is that of a batch, ``begun`` that of a call which something else has begun, at ``began``.
    """

    endpoint: RPCEndpoint
    head: HTTPRequest
    judged: Judged
    request_id: str
    refusal: GatewayFault | None = None
    arrival: float = 0.0
    deadline: float = math.inf
    deprecations: list[Deprecation] = field(default_factory=list)
    handler: CallHandler | None = None
    span: CallSpan | None = None
    begun: CallSpan | None = None
    began: float = 0.0

    async def answer(self, body: bytes) -> HTTPResponse:
        """Answer the request, now that its body is here. Raises nothing."""
        endpoint, judged = self.endpoint, self.judged
        unpacked = self.unpacked(body)
        if isinstance(unpacked, HTTPResponse):
            return unpacked
        codec = judged.codec or endpoint.recognize(unpacked)
        if codec is None:
            types = content_types(endpoint.codecs)
            text = f"The protocol is not known from the body, so a Content-Type is needed: {types}."
            return self.refuse("type", 415, text, text)
        decoded = await self._decoded(codec, unpacked)
        if self.head.takes_pieces and endpoint.begin_events is not None:
            events = await endpoint.begin_events(self, codec, decoded)
            if events is not None:
                return self.in_pieces(events)
        answers, document = await self._answer_all(codec, decoded)
        endpoint.observers.answered(codec.name, len(body), len(document))
        headers, extra = (("Content-Type", codec.content_type),), self.told_to_proxy(decoded, answers)
        coding = self._coding_of(document)
        if coding is None or len(document) <= _LARGE:
            return self.respond(document, headers, extra)
        packed = await in_turns(content_coding.packing(document, coding))
        return self._response(packed, headers, extra, coding=coding)

    def unpacked(self, body: bytes) -> bytes | HTTPResponse:
        """Unpack the body, which is whole now; a response refuses it."""
        self.arrival = time.monotonic()
        try:
            return content_coding.unpack(body, self.judged.coding, self.endpoint.limits.max_body)
        except content_coding.CorruptBodyError as error:
            fault = ParseError(f"the body does not unpack: {error}")
            return self.refuse("coding", 400, fault, fault.message)
        except RequestTooLarge:
            return self.too_large()

    async def answer_message(self, codec: Codec, message: bytes) -> bytes:
        """Answer a message that is on a connection without HTTP; empty for notifications. Raises nothing."""
        self.arrival = time.monotonic()
        _, document = await self._answer_all(codec, await self._decoded(codec, message))
        self.endpoint.observers.answered(codec.name, len(message), len(document))
        return document

    def in_pieces(self, events: Pieces) -> HTTPResponse:
        """Make the response whose body are events."""
        headers = (NOSNIFF, ("X-Request-ID", self.request_id), *self.judged.headers)
        return HTTPResponse(headers=(*_EVENTS, *headers), pieces=events)

    async def _decoded(self, codec: Codec, body: bytes) -> Decoded:
        """Read the call or the calls of a body, and the time that they have."""
        if len(body) > _LARGE:
            decoded = await in_turns(codec.decoding(body, self.judged.charset))
        else:
            decoded = codec.decode(body, self.judged.charset)
        wrong = self.set_deadline()
        return decoded if wrong is None else InvalidCall(fault=wrong)

    async def _answer_all(self, codec: Codec, decoded: Decoded) -> tuple[list[Answer], bytes]:
        """Answer the call or the calls of a body: the answers, and the document that they make."""
        if isinstance(decoded, Batch):
            document, answers = await self._trace_batch(codec, decoded)
            return answers, document
        answer = await self.answer_entry(codec, Room(self.endpoint.limits.max_reply), decoded, None)
        return [answer], b"" if is_notification(decoded) else codec.single(answer)

    def too_large(self) -> HTTPResponse:
        """Refuse the request, because its body has, or would have, more bytes than are read."""
        fault = RequestTooLarge(f"at most {self.endpoint.limits.max_body} bytes")
        return self.refuse("size", fault.status, fault, fault.message)

    @property
    def client(self) -> str:
        """Whose request it is: the address that a trusted proxy has named, or the peer's."""
        return self.judged.caller.client

    def too_many(self) -> HTTPResponse:
        """Refuse the request, because its client has too many at once."""
        wait = self.endpoint.limits.retry_after
        fault = RateLimited("too many requests at once", retry_after=wait)
        return self.refuse("rate", fault.status, fault, fault.message, (("Retry-After", str(wait)),))

    def unreadable(self, status: int, reason: str) -> HTTPResponse:
        """Refuse the request, because its body did not come as its head says, or cannot be read by this host."""
        return self.refuse("framing", status, InvalidRequest(reason), reason)

    def refuse(
        self, kind: str, status: int, answer: GatewayFault | str, reason: str, headers: Headers = ()
    ) -> HTTPResponse:
        """Refuse the request: with a fault where the protocol is known, in plain text otherwise."""
        client = self.judged.caller.client
        refusal = Refusal(kind=kind, status=status, reason=reason, client=client, request_id=self.request_id)
        return self.endpoint.refuse(refusal, answer, self.judged.codec, headers)

    def set_deadline(self) -> InvalidRequest | None:
        """Set the deadline to what the caller asks for, if it does; a fault says that it is not a time."""
        wish = self.head.headers.get("X-Request-Timeout")
        if wish is None:
            return None
        if not TIMEOUT.fullmatch(wish) or not float(wish):
            return InvalidRequest("X-Request-Timeout must be a number of seconds above 0, like 2.5")
        self.deadline = self.arrival + float(wish)
        return None

    async def _trace_batch(self, codec: Codec, batch: Batch) -> tuple[bytes, list[Answer]]:
        """Answer the calls of a batch, in a span if calls are traced."""
        tracing, head = self.endpoint.observers.tracing, self.head
        if tracing is None:
            return await self._answer_batch(codec, batch)
        told = {"headers": head.headers, "client": self.client, "request_id": self.request_id}
        with tracing.batch(codec.name, codec.batch_method, len(batch.entries), told) as self.span:
            return await self._answer_batch(codec, batch)

    async def _answer_batch(self, codec: Codec, batch: Batch) -> tuple[bytes, list[Answer]]:
        """Answer the calls of a batch; together they have the room of one answer.

        A batch that is a call itself, like system.multicall, is in order: its callers count on that.
        """
        limits, entries = self.endpoint.limits, batch.entries
        if limits.batch_concurrency == 1 or codec.batch_method:
            answers = await in_order(entries, partial(self.answer_entry, codec, Room(limits.max_reply)))
        else:
            room = Room(limits.max_reply, asyncio.Lock())
            answers = await at_once(entries, limits.batch_concurrency, partial(self.answer_entry, codec, room))
        sent = [answer for entry, answer in zip(entries, answers, strict=True) if not is_notification(entry)]
        return codec.batch(sent), answers

    def context(self, codec: Writer, entry: Entry, position: int | None) -> Context:
        """Make the context of an entry."""
        context = Context(
            protocol=codec.name,
            native=codec.native,
            wide_ints=codec.wide_ints,
            method=entry.method if type(entry) is Call else "",
            caller=self.judged.caller,
            headers=self.head.headers,
            request_id=self.request_id,
            position=position,
            arrival=self.arrival,
            deadline=self.deadline,
            connection=None if self.judged.caller.is_proxied else self.head.connection,
            request=self.head.request,
        )
        tracing = self.endpoint.observers.tracing
        if tracing is not None:
            context.span = self.begun or tracing.begin(context, entry, self.span)
        return context

    async def answer_entry(self, codec: Writer, room: Room, entry: Entry, position: int | None) -> Answer:
        """Answer one entry, and have it observed, whatever becomes of it: after the answer, which need not wait."""
        context = self.context(codec, entry, position)
        recorder = self.endpoint.recorder
        if recorder is not None and isinstance(entry, Call):
            context.recorded = recorder.begin(entry, context)
        start = self.began or time.monotonic()
        reply = answer = None
        try:
            if isinstance(entry, InvalidCall):
                reply = Reply(fault=entry.fault)
            elif self.refusal is not None:
                reply = Reply(fault=self.refusal)
            else:
                replied = (self.handler or self.endpoint.handler)(entry, context)
                reply = replied if isinstance(replied, Reply) else await replied
            if context.deprecation is not None:
                self.deprecations.append(context.deprecation)
            answer = await room.encode(codec, entry, reply)
            if answer.fault is not None and answer.fault is not reply.fault:
                log_unencodable(context, answer.fault)
        finally:
            size = 0 if answer is None or is_notification(entry) else len(answer.wire)
            record = record_of(context, "cancelled" if answer is None else _code(answer), size, start)
            self.endpoint.observers.note(record)
            if context.recorded is not None:
                context.recorded.end(record, reply, answer)
        return answer

    def told_to_proxy(self, decoded: Decoded, answers: list[Answer]) -> Headers:
        """Return what a trusted proxy cannot read in the body, for its own log; it keeps these from the client."""
        if not self.judged.caller.is_proxied:
            return ()
        entries = decoded.entries if isinstance(decoded, Batch) else [decoded]
        named = next((entry.method for entry in entries if isinstance(entry, Call)), "")
        headers = [("X-RPC-Method", named)] if PRINTABLE.fullmatch(named) else []
        if isinstance(decoded, Batch):
            headers.append(("X-RPC-Batch", str(len(entries))))
        fault = next((answer.fault for answer in answers if answer.fault is not None), None)
        return (*headers, *([] if fault is None else [("X-RPC-Fault", str(fault.code))]))

    def respond(self, body: bytes, headers: Headers, extra: Headers = (), status: int = 200) -> HTTPResponse:
        """Make the response of a body, compressed where that is asked for and worth it.

        Args:
            body: as it is.
            headers: what is about the body.
            extra: what else there is to say.
            status: the HTTP status.

        """
        coding = self._coding_of(body)
        packed = body if coding is None else content_coding.pack(body, coding)
        return self._response(packed, headers, extra, status, coding)

    def _coding_of(self, body: bytes) -> str | None:
        """Choose the coding in which a body is sent; None for none."""
        accepted = self.head.headers.get("Accept-Encoding")
        worth_it = accepted and len(body) > self.endpoint.limits.compress_above
        return content_coding.chosen(accepted) if accepted and worth_it else None

    def _response(
        self, body: bytes, headers: Headers, extra: Headers, status: int = 200, coding: str | None = None
    ) -> HTTPResponse:
        headers = (*headers, NOSNIFF, ("X-Request-ID", self.request_id), *self.judged.headers, *extra)
        headers += _retirement(self.deprecations)
        headers += () if coding is None else (("Content-Encoding", coding),)
        return HTTPResponse(status=status, headers=headers, body=body)


def _code(answer: Answer) -> int | None:
    return None if answer.fault is None else answer.fault.code


def _retirement(said: Iterable[Deprecation]) -> Headers:
    """Tell the first days of what is deprecated and withdrawn (RFC 9745, RFC 8594)."""
    since = min((midnight(each.since) for each in said), default=None)
    sunset = min((midnight(each.sunset) for each in said if each.sunset is not None), default=None)
    return (
        *(() if since is None else (("Deprecation", f"@{since:.0f}"),)),
        *(() if sunset is None else (("Sunset", formatdate(sunset, usegmt=True)),)),
    )


def rate_limited(wait: float) -> RateLimited:
    """Make the fault of a caller that may call again in so many seconds."""
    return RateLimited("too many calls", retry_after=math.ceil(wait))


def too_often(judged: Judged, fault: RateLimited) -> Objection:
    """Make the objection to a caller that has called too often."""
    return Objection(
        kind="rate",
        status=fault.status,
        reason=fault.message,
        client=judged.caller.client,
        answer=fault,
        codec=judged.codec,
        headers=(("Retry-After", str(fault.data["retry_after"])),),
    )
