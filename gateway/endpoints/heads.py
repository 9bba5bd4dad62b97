"""What the head of a request alone decides, before a byte of its body is read.

    judge(head) -> Judged         let in: who calls, and in which protocol
                -> Objection      401, 403: the access policy lets nobody in like this (gateway/core/access.py)
                                  404, 405, 415: this is not where or how calls are made
                                  431: it had more bytes than are read
                -> HTTPResponse   204: what a browser asks first, on behalf of a page whose Origin is allowed

A judgement holds nothing but what follows from the head, so equal heads have equal judgements.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

import msgspec
from msgspec import Struct

from gateway.codecs import Codec
from gateway.core.access import AccessPolicy
from gateway.model.calls import Caller
from gateway.model.faults import Denied, GatewayFault, RequestTooLarge
from gateway.model.http import AccessDenied, HTTPRequest, HTTPResponse, Visitor
from gateway.wire import content_coding, websocket
from gateway.wire.http_grammar import charset

Headers: TypeAlias = tuple[tuple[str, str], ...]

_UNDECLARED = frozenset({"", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream"})
_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="rpc", Basic realm="rpc", charset="UTF-8"'),)
_SHOWN = ("Deprecation", "Retry-After", "Sunset", "X-Request-ID")  # headers of responses that pages may read
_PAGES = ("Authorization", "Content-Type", "X-Request-ID", "X-Request-Timeout")  # the headers that they may send
_EXPOSED = ("Access-Control-Expose-Headers", ", ".join(_SHOWN))


class Judged(Struct, frozen=True, kw_only=True):
    """What the head of an admitted request says.

    Attributes:
        caller: who calls.
        codec: the protocol that the Content-Type names; None where it has to be recognized by the body.
        charset: the parameter of the Content-Type, in lower case; None without one.
        coding: the Content-Encoding of the body, in lower case; empty without one.
        headers: what lets the page of an allowed Origin read the response.

    """

    caller: Caller
    codec: Codec | None
    charset: str | None
    coding: str
    headers: Headers


class Objection(Struct, frozen=True, kw_only=True):
    """Why a request is refused by its head, and what its sender gets.

    Attributes:
        kind: see Refusal.
        status: the HTTP status.
        reason: for the log.
        client: the client's address, or the peer's where the client is not known.
        answer: a fault, or a plain text.
        codec: the protocol in which a fault is written; None for plain text.
        headers: further headers of the response.

    """

    kind: str
    status: int
    reason: str
    client: str
    answer: GatewayFault | str
    codec: Codec | None = None
    headers: Headers = ()


class HeadJudge:
    """Judges heads: by the access policy first, then by path, verb and media type.

    ``asked`` are the names of headers that pages may send beside the usual ones.
    """

    def __init__(
        self, codecs: tuple[Codec, ...], paths: Iterable[str], policy: AccessPolicy, asked: Iterable[str] = ()
    ) -> None:
        self._paths = frozenset(paths)
        self._preflight = _preflight(asked)
        self._policy = policy
        self._by_type = {media_type: codec for codec in codecs for media_type in codec.media_types}
        self._protocols = " or ".join(codec.title for codec in codecs)
        self._types = content_types(codecs)
        self._read_type = lru_cache(maxsize=256)(self._read_content_type)

    def judge(self, head: HTTPRequest) -> Judged | Objection | HTTPResponse:
        """Judge a head."""
        media_type, codec, declared = self._read_type(head.headers.get("Content-Type", ""))
        if not head.is_whole:
            return _too_large(head, codec)
        caller = self._policy.judge(head)
        if isinstance(caller, AccessDenied):
            return _denied(head, caller, codec)
        origin = head.headers.get("Origin")
        path = head.target.partition("?")[0]
        if path not in self._paths:
            text = f"Not found. Calls are POSTed to {', '.join(sorted(self._paths))}."
            return Objection(kind="path", status=404, reason=text, client=caller.client, answer=text)
        if head.method == "OPTIONS" and origin is not None and "Access-Control-Request-Method" in head.headers:
            return HTTPResponse(status=204, headers=(*_shared_with(origin), *self._preflight))
        if head.method != "POST":
            text = f"Calls are POSTed here: {self._protocols}."
            allow = (("Allow", "POST"),)
            return Objection(kind="verb", status=405, reason=text, client=caller.client, answer=text, headers=allow)
        if codec is None:
            text = f"The Content-Type must be {self._types}."
            is_wrong = origin is not None or media_type not in _UNDECLARED
        else:
            text = f"The charset must be {' or '.join(sorted(codec.charsets or ()))}."
            is_wrong = codec.charsets is not None and declared is not None and declared not in codec.charsets
        if is_wrong:
            return Objection(kind="type", status=415, reason=text, client=caller.client, answer=text)
        coding = _content_coding(head.headers)
        if not content_coding.is_known(coding):
            text = "The Content-Encoding must be gzip or deflate."
            accept = (("Accept-Encoding", "gzip, deflate"),)
            return Objection(kind="coding", status=415, reason=text, client=caller.client, answer=text, headers=accept)
        headers = () if origin is None else (*_shared_with(origin), _EXPOSED)
        return Judged(caller=caller, codec=codec, charset=declared, coding=coding, headers=headers)

    def judge_upgrade(self, head: HTTPRequest) -> Caller | Objection:
        """Judge the head of an upgrade to WebSocket (RFC 6455, 4.2.1)."""
        caller = self._policy.judge(head)
        if isinstance(caller, AccessDenied):
            return msgspec.structs.replace(_denied(head, caller, None), answer="Denied.")
        if head.method != "GET":
            text, allow = "WebSocket begins with GET.", (("Allow", "GET"),)
            return Objection(kind="verb", status=405, reason=text, client=caller.client, answer=text, headers=allow)
        wanted = "websocket" in _tokens(head, "Upgrade") and "upgrade" in _tokens(head, "Connection")
        if not wanted or head.headers.get("Sec-WebSocket-Version") != websocket.VERSION:
            text = f"An upgrade to WebSocket, version {websocket.VERSION}, is needed here."
            headers = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", websocket.VERSION))
            return Objection(
                kind="framing", status=426, reason=text, client=caller.client, answer=text, headers=headers
            )
        if not websocket.is_key(head.headers.get("Sec-WebSocket-Key", "")):
            text = "The Sec-WebSocket-Key must be 16 bytes in base64."
            return Objection(kind="framing", status=400, reason=text, client=caller.client, answer=text)
        return caller

    def visit(self, head: HTTPRequest) -> Visitor | Objection:
        """Judge the head of a request that is not a call, by the rules for addresses and for the Host alone."""
        located = self._policy.locate(head)
        if isinstance(located, AccessDenied):
            return Objection(
                kind="access", status=located.status, reason=located.reason, client=head.peer, answer="Denied."
            )
        client, is_proxied = located
        forwarded = head.headers.get("X-Forwarded-Proto", "") if is_proxied else ""
        return Visitor(client=client, scheme=forwarded if forwarded in ("http", "https") else None)

    def _read_content_type(self, content_type: str) -> tuple[str, Codec | None, str | None]:
        """Read a Content-Type: its media type, the codec of it, and its charset."""
        values = {value.strip() for value in content_type.split(",")}
        once = values.pop() if len(values) == 1 else content_type  # a header that was repeated with one value
        media_type = once.partition(";")[0].strip().lower()
        return media_type, self._by_type.get(media_type), charset(once)


def _tokens(head: HTTPRequest, name: str) -> list[str]:
    """Return the values of a header that is a list of tokens, in lower case."""
    return [token.strip().lower() for token in head.headers.get(name, "").split(",")]


def content_types(codecs: Iterable[Codec]) -> str:
    """Name the Content-Type of each protocol."""
    return " or ".join(f"{codec.content_type.partition(';')[0]} for {codec.title}" for codec in codecs)


def _too_large(head: HTTPRequest, codec: Codec | None) -> Objection:
    fault = RequestTooLarge("the head has more bytes than are read")
    return Objection(kind="size", status=431, reason=fault.message, client=head.peer, answer=fault, codec=codec)


def _denied(head: HTTPRequest, denied: AccessDenied, codec: Codec | None) -> Objection:
    return Objection(
        kind="access",
        status=denied.status,
        reason=denied.reason,
        client=head.peer,
        answer=Denied(),
        codec=codec,
        headers=_CHALLENGE if denied.status == 401 else (),
    )


def _preflight(asked: Iterable[str]) -> Headers:
    """Make what a browser is told before it sends a call (the Fetch standard, 3.2.3)."""
    return (
        ("Access-Control-Allow-Methods", "POST"),
        ("Access-Control-Allow-Headers", ", ".join((*_PAGES, *asked))),
        ("Access-Control-Max-Age", "600"),
    )


def _shared_with(origin: str) -> Headers:
    return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))


def _content_coding(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Encoding", "").strip().lower()
