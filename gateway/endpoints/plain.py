"""The plain way: what most requests are, answered with few objects, and without a coroutine or a task.

    PlainWay.know(head) -> PlainHead    judged once for all requests with such a head
                        -> None         no request with such a head is plain
    PlainHead.answer(body, ...)         see gateway/model/http.py

It means exactly what the full way does (gateway/endpoints/rpc.py), and uses its parts. Plain is one call that wants an
answer, of a method that is registered, in a document that the codec's fast reader reads, by a caller that may make it
now. Whatever may turn out otherwise is found out before anything is charged or run, and left to the full way. Once the
method has begun, whatever becomes of it is answered here.

Nothing is kept with a head that another request with the same one may not share: no rate (only where it is counted),
no id, no time, no connection.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal, TypeVar

from gateway.codecs import Codec
from gateway.codecs.contract import Turns, may_be_large
from gateway.core.dispatch import Cancellable, Finder, Known
from gateway.core.rates import Meter
from gateway.endpoints.heads import Judged
from gateway.endpoints.rpc import NOSNIFF, TIMEOUT, RPCEndpoint
from gateway.endpoints.varying import VARYING, VaryingHeaders
from gateway.methods import Method
from gateway.model.calls import Answer, Call, Caller, Context, Reply, record_of
from gateway.model.http import HTTPRequest, HTTPResponse, Running
from gateway.telemetry.log import log_unencodable
from gateway.wire import content_coding
from gateway.wire.http_grammar import PRINTABLE
from gateway.wire.http_responses import beginning, header_lines, response_head

log = logging.getLogger("gateway")
_T = TypeVar("_T")

_LARGEST = 2**16  # bytes; where larger bodies are not plain after all, too much work is done twice


class PlainWay:
    """The plain way of one endpoint.

    Arguments:
        endpoint: its full way.
        finder: finds the methods that may be called so.
        permits: whether a caller may call the method that has a name; None where everybody may call everything.

    """

    def __init__(
        self,
        endpoint: RPCEndpoint,
        finder: Finder,
        permits: Callable[[str, Caller], bool] | None,
    ) -> None:
        self.endpoint = endpoint
        self.finder = finder
        self.permits = permits

    def know(self, head: HTTPRequest) -> "PlainHead | None":
        """Judge a head that may be kept."""
        judged = self.endpoint.judge(head)
        if not isinstance(judged, Judged) or judged.codec is None or judged.coding not in ("", "identity"):
            return None
        return PlainHead(self, head, judged, judged.codec)


class PlainHead:
    """The head of plain requests, as it was judged.

    Attributes:
        client: the address that the requests come from.

    """

    __slots__ = (
        "_accepted",
        "_caller",
        "_charset",
        "_codec",
        "_fixed",
        "_headers",
        "_is_chunked",
        "_meter",
        "_own",
        "_permitted",
        "_shared",
        "_varying",
        "_way",
        "client",
    )

    def __init__(self, way: PlainWay, head: HTTPRequest, judged: Judged, codec: Codec) -> None:
        self.client = judged.caller.client
        self._way = way
        self._caller = judged.caller
        self._codec = codec
        self._charset = judged.charset
        self._headers = head.headers
        self._is_chunked = "Transfer-Encoding" in head.headers
        self._varying = tuple(map(head.headers.get, VARYING))
        length = head.headers.get(VARYING[0], "")
        self._own = (int(length) if length.isdecimal() else None, *self._varying[1:])
        self._meter: Meter | None = way.endpoint.rates.meter(judged.caller)
        self._permitted: dict[str, Method] = {}
        self._fixed = header_lines((("Content-Type", codec.content_type), NOSNIFF)) + b"X-Request-ID: "
        self._shared = header_lines(judged.headers)
        accepted = head.headers.get("Accept-Encoding")
        self._accepted = content_coding.chosen(accepted) if accepted else None

    def answer(  # noqa: C901, PLR0913, PLR0917 - what is known of one request, and what is seen of it at once
        self,
        body: bytes,
        request_id: str | None,
        wish: str | None,
        connection: object,
        respond: Callable[[bytes], None],
        trace: str | None = None,
        request: object | None = None,
    ) -> bytes | Running | None:
        """Answer a request with this head."""
        meter, arrival, deadline = self._meter, time.monotonic(), math.inf
        if len(body) > _LARGEST or (meter is not None and not meter.is_ready()):
            return None
        if wish is not None:
            if not TIMEOUT.fullmatch(wish) or not float(wish):
                return None
            deadline = arrival + float(wish)
        codec, caller = self._codec, self._caller
        call = codec.decode_usual(body, self._charset)
        known = None if call is None else self._find(call.method)
        if call is None or known is None:
            return None
        later = known.later
        if known.at_once is None and (later is None or not later.has_room()):
            return None
        if meter is not None:
            meter.charge()
        context = Context(
            protocol=codec.name,
            native=codec.native,
            wide_ints=codec.wide_ints,
            method=call.method,
            caller=caller,
            headers=self._headers_of(len(body), request_id, wish, trace),
            request_id=self._way.endpoint.request_id(request_id),
            position=None,
            arrival=arrival,
            deadline=min(deadline, arrival + known.timeout),
            connection=None if caller.is_proxied else connection,
            request=request,
        )
        tracing = self._way.endpoint.observers.tracing
        if tracing is not None:
            context.span = tracing.begin(context, call)
        recorder = self._way.endpoint.recorder
        if recorder is not None:
            context.recorded = recorder.begin(call, context)
        if known.at_once is not None:
            start = time.monotonic()
            reply = known.at_once(call, context)
            if reply.fault is None and may_be_large(reply.value):
                return _Running(self, call, context, respond, len(body), start).finish(reply)
            answer = codec.encode(call, reply, self._way.endpoint.limits.max_reply)
            if self.may_take_turns(answer):
                return _Running(self, call, context, respond, len(body), start).finish_packed(reply, answer)
            return self.respond(call, context, reply, answer, start, len(body))
        running = _Running(self, call, context, respond, len(body), time.monotonic())
        assert later is not None  # noqa: S101 - it was looked at above
        begun = later.begin(call, context, running.end, has_wish=wish is not None)
        if isinstance(begun, Reply):
            return running.finish(begun)
        running.begun = begun
        return running

    def encoding(self, call: Call, reply: Reply) -> Turns[Answer]:
        """Encode a reply in turns."""
        return self._codec.encoding(call, reply, self._way.endpoint.limits.max_reply)

    def encode(self, call: Call, reply: Reply) -> Answer:
        """Encode a reply that is not large."""
        return self._codec.encode(call, reply, self._way.endpoint.limits.max_reply)

    def may_take_turns(self, answer: Answer) -> bool:
        """Tell whether an answer is large, and may be compressed."""
        return self._accepted is not None and len(answer.wire) > _LARGEST

    def packing(self, answer: Answer) -> Turns[bytes | None]:
        """Compress the document of an answer in turns; None where it is not large, or goes as it is."""
        document = self._codec.single(answer)
        if self._accepted is None or len(document) <= max(_LARGEST, self._way.endpoint.limits.compress_above):
            return None
        return (yield from content_coding.packing(document, self._accepted))

    def _find(self, name: str) -> Known | None:
        """Find a method that the caller may call."""
        known = self._way.finder.find(name, self._codec.name)
        permits = self._way.permits
        if known is not None and permits is not None and self._permitted.get(name) is not known.method:
            if not permits(name, self._caller):
                return None
            self._permitted[name] = known.method
        return known

    def _headers_of(
        self, length: int, request_id: str | None, wish: str | None, trace: str | None
    ) -> Mapping[str, str]:
        """Return the headers of one request, which are those of the head that was judged but for what varies."""
        if (length, request_id, wish, trace) == self._own:
            return self._headers
        varying = (str(length) if length and not self._is_chunked else None, request_id, wish, trace)
        return self._headers if varying == self._varying else VaryingHeaders(self._headers, varying)

    def respond(  # noqa: PLR0913, PLR0917 - what is known of one call
        self,
        call: Call,
        context: Context,
        reply: Reply,
        answer: Answer,
        start: float,
        received: int,
        packed: bytes | None = None,
    ) -> bytes:
        """Report a call, and make the response of its answer; ``packed`` is its document, where that is compressed."""
        codec, endpoint = self._codec, self._way.endpoint
        fault = answer.fault
        if fault is not None and fault is not reply.fault:
            log_unencodable(context, fault)
        self.note(context, None if fault is None else fault.code, len(answer.wire), start, reply, answer)
        document = codec.single(answer)
        endpoint.observers.answered(codec.name, received, len(document))
        return self._response(call.method, context.request_id, answer, document, packed)

    def note(  # noqa: PLR0913, PLR0917 - what is known of one call
        self,
        context: Context,
        outcome: int | Literal["cancelled"] | None,
        size: int,
        start: float,
        reply: Reply | None = None,
        answer: Answer | None = None,
    ) -> None:
        """Report a call."""
        record = record_of(context, outcome, size, start)
        self._way.endpoint.observers.note(record)
        if context.recorded is not None:
            context.recorded.end(record, reply, answer)

    def _response(self, method: str, request_id: str, answer: Answer, document: bytes, packed: bytes | None) -> bytes:
        extra = self._shared
        if self._caller.is_proxied:
            extra += summary(method, None if answer.fault is None else answer.fault.code)
        if self._accepted is not None and len(document) > self._way.endpoint.limits.compress_above:
            extra += header_lines((("Content-Encoding", self._accepted),))
            document = content_coding.pack(document, self._accepted) if packed is None else packed
        said = request_id.encode()
        head = b"%b%d\r\n%b%b\r\n%b\r\n" % (beginning(200), len(document), self._fixed, said, extra)
        return head + document  # formatted with the head, a large one would have room for more, which has to be found


class _Running:
    """A call that was begun, or whose answer is encoded in turns."""

    __slots__ = ("_call", "_context", "_head", "_received", "_respond", "_start", "begun")

    def __init__(  # noqa: PLR0913, PLR0917 - what is known of one call
        self,
        head: PlainHead,
        call: Call,
        context: Context,
        respond: Callable[[bytes], None],
        received: int,
        start: float,
    ) -> None:
        self.begun: Cancellable | None = None
        self._head = head
        self._call = call
        self._context = context
        self._respond = respond
        self._received = received
        self._start = start

    def finish(self, reply: Reply) -> "bytes | _Running":
        """Return the response; itself where that takes more than one turn, and is responded with later."""
        return self._go_on(self._responding(reply))

    def finish_packed(self, reply: Reply, answer: Answer) -> "bytes | _Running":
        """Do the same with an answer that is to be compressed."""
        return self._go_on(self._packing(reply, answer))

    def end(self, reply: Reply) -> None:
        """Respond, at once or in turns."""
        self._tell(self._ended, reply)

    def _ended(self, reply: Reply) -> "bytes | _Running":
        head, call = self._head, self._call
        if reply.fault is not None or may_be_large(reply.value):
            return self.finish(reply)
        answer = head.encode(call, reply)
        if head.may_take_turns(answer):
            return self.finish_packed(reply, answer)
        return head.respond(call, self._context, reply, answer, self._start, self._received)

    def _responding(self, reply: Reply) -> Turns[bytes]:
        answer = yield from self._head.encoding(self._call, reply)
        return (yield from self._packing(reply, answer))

    def _packing(self, reply: Reply, answer: Answer) -> Turns[bytes]:
        packed = yield from self._head.packing(answer)
        return self._head.respond(self._call, self._context, reply, answer, self._start, self._received, packed)

    def _tell(self, respond: Callable[[_T], "bytes | _Running"], what: _T) -> None:
        self.begun = None
        try:
            response = respond(what)
        except Exception:
            log.exception("the endpoint raised an exception, which is a bug")
            response = response_head(HTTPResponse(status=500))
        if isinstance(response, bytes):
            self._respond(response)

    def _go_on(self, turns: Turns[bytes]) -> "bytes | _Running":
        try:
            next(turns)
        except StopIteration as end:
            response: bytes = end.value
            return response
        self.begun = asyncio.get_running_loop().call_soon(self._tell, self._go_on, turns)
        return self

    def cancel(self) -> None:
        """Stop waiting for the call, because its caller has hung up."""
        begun, self.begun = self.begun, None
        if begun is not None:
            begun.cancel()
            self._head.note(self._context, "cancelled", 0, self._start)


@lru_cache(maxsize=1024)
def summary(method: str, fault: int | None) -> bytes:
    """Write what a trusted proxy is told of a call, for its own log."""
    named = f"X-RPC-Method: {method}\r\n" if PRINTABLE.fullmatch(method) else ""
    return (named if fault is None else f"{named}X-RPC-Fault: {fault}\r\n").encode("latin-1")
