"""The door that all hosts share: it judges a request by its head alone, before a byte of its body is read.

    admit(head) -> Exchange    let in; it answers the body (gateway/endpoints/exchange.py)
                -> 200, 503        /healthz: the process runs; /readyz: it takes calls, and is not about to stop
                -> 204             what a browser asks first, on behalf of a page whose Origin is allowed
                -> 401, 403        the access policy lets nobody in like this (gateway/core/access.py)
                -> 404, 405, 415   this is not where or how calls are made
                -> 429             the caller has called too often

Where the protocol is known, the body of a refusal is a fault of it.
"""

import math
import re
import secrets
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import count
from typing import TypeAlias

from gateway.codecs import Codec
from gateway.core.access import AccessDenied, AccessPolicy
from gateway.core.rates import RateLimits
from gateway.endpoints.exchange import TYPES, Desk, Exchange, Headers, content_coding
from gateway.model.faults import Denied, RateLimited
from gateway.model.http import HTTPRequest, HTTPResponse, Refusal
from gateway.wire import content_coding as coding
from gateway.wire.http_grammar import charset

_UNSAID = frozenset({"", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream"})
_EXCHANGE_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="rpc", Basic realm="rpc", charset="UTF-8"'),)
_ALLOW = (("Allow", "POST"),)
_PREFLIGHT = (  # the Fetch standard, 3.2.3
    ("Access-Control-Allow-Methods", "POST"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Request-ID, X-Request-Timeout"),
    ("Access-Control-Max-Age", "600"),
)

_Spoken: TypeAlias = tuple[Codec | None, str | None]


class RPCService:
    """Codecs and a handler, made into a door.

    Raises nothing: every request has a response.

    Attributes:
        closing: whether /readyz says that this process is about to stop.

    """

    def __init__(self, desk: Desk, paths: Iterable[str], policy: AccessPolicy, rates: RateLimits) -> None:
        self.closing = False
        self._desk = desk
        self._by_type = {media_type: codec for codec in desk.codecs for media_type in codec.media_types}
        self._paths = frozenset(paths)
        self._policy = policy
        self._rates = rates
        self._request_ids: Callable[[], int] = count(1).__next__
        self._process = secrets.token_hex(3)
        self._spoken = lru_cache(maxsize=256)(self._read_content_type)

    def admit(self, head: HTTPRequest) -> HTTPResponse | Exchange:
        """Judge a request by its head alone."""
        asked = self._judge(head)
        return asked if isinstance(asked, HTTPResponse) else self._too_often(asked) or asked

    def admit_message(self, head: HTTPRequest) -> HTTPResponse | Exchange:
        """Judge a message that came without HTTP, by the head that it would have.

        A caller that calls too often is told so in the answer, where the call's id is: nothing else says on a shared
        connection whose answer it is.
        """
        asked = self._judge(head)
        if isinstance(asked, Exchange) and (wait := self._rates.charge(asked.caller)):
            asked.refusal = rate_limited(wait)
        return asked

    def _judge(self, head: HTTPRequest) -> HTTPResponse | Exchange:
        path = head.target.partition("?")[0]
        if path in ("/healthz", "/readyz") and path not in self._paths and head.method in ("GET", "HEAD"):
            return self.health(path)
        codec, declared = self._spoken(head.headers.get("Content-Type", ""))
        caller = self._policy.judge(head)
        if isinstance(caller, AccessDenied):
            return self._turn_away(head, caller, codec)
        conversation = Exchange(
            desk=self._desk,
            head=head,
            caller=caller,
            codec=codec,
            charset=declared,
            request_id=self._request_id(head),
            headers=_shared_with(head),
        )
        return self._misplaced(conversation, path) or conversation

    def health(self, path: str) -> HTTPResponse:
        """Answer /healthz: the process runs; or /readyz: it takes calls, and is not about to stop."""
        closing = self.closing and path == "/readyz"
        headers = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))
        return HTTPResponse(status=503 if closing else 200, headers=headers, body=b"closing\n" if closing else b"ok\n")

    def _misplaced(self, asked: Exchange, path: str) -> HTTPResponse | None:
        """Refuse what is not where or how calls are made."""
        head, codec = asked.head, asked.codec
        if path not in self._paths:
            text = f"Not found. Calls are POSTed to {', '.join(sorted(self._paths))}."
            return self._desk.refuse(asked.refused("path", 404, text), text)
        if head.method == "OPTIONS" and asked.headers and "Access-Control-Request-Method" in head.headers:
            return HTTPResponse(status=204, headers=(*asked.headers, *_PREFLIGHT))
        if head.method != "POST":
            text = "Calls are POSTed here: XML-RPC or JSON-RPC 2.0."
            return self._desk.refuse(asked.refused("verb", 405, text), text, _ALLOW)
        content_type = head.headers.get("Content-Type", "")
        if codec is None and (_media_type(content_type) not in _UNSAID or "Origin" in head.headers):
            text = f"The Content-Type is {TYPES}."
        elif codec is not None and codec.charsets is not None and asked.charset not in (None, *codec.charsets):
            text = f"The charset is {' or '.join(sorted(codec.charsets))}."
        elif not coding.is_known(content_coding(head.headers)):
            text = "The Content-Encoding is gzip or deflate."
            accepted = (("Accept-Encoding", "gzip, deflate"),)
            return self._desk.refuse(asked.refused("coding", 415, text), text, accepted)
        else:
            return None
        return self._desk.refuse(asked.refused("type", 415, text), text)

    def _too_often(self, asked: Exchange) -> HTTPResponse | None:
        """Charge the request's first call; those that follow it in a batch are charged when their turn comes."""
        wait = self._rates.charge(asked.caller)
        if not wait:
            return None
        fault = rate_limited(wait)
        retry_after = (("Retry-After", str(fault.data["retry_after"])),)
        refused = asked.refused("rate", fault.status, fault.message)
        return self._desk.refuse_call(refused, fault, asked.codec, retry_after)

    def _turn_away(self, head: HTTPRequest, stranger: AccessDenied, codec: Codec | None) -> HTTPResponse:
        refused = Refusal(
            kind="access",
            status=stranger.status,
            reason=stranger.reason,
            client=head.peer,
            request_id=self._request_id(head),
        )
        return self._desk.refuse_call(refused, Denied(), codec, _CHALLENGE if stranger.status == 401 else ())

    def _read_content_type(self, content_type: str) -> _Spoken:
        return self._by_type.get(_media_type(content_type)), charset(_once(content_type))

    def _request_id(self, head: HTTPRequest) -> str:
        given = head.headers.get("X-Request-ID")
        if given is not None and _EXCHANGE_ID.fullmatch(given):
            return given
        return f"{self._process}-{self._request_ids():x}"


def rate_limited(wait: float) -> RateLimited:
    """Make the fault of a caller that may call again in so many seconds."""
    return RateLimited("too many calls", retry_after=math.ceil(wait))


def _shared_with(head: HTTPRequest) -> Headers:
    """Let the page of an Origin that the policy has let in read the response."""
    origin = head.headers.get("Origin")
    return () if origin is None else (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))


def _once(content_type: str) -> str:
    """Take a header that was repeated with one value as if it were there once."""
    values = {value.strip() for value in content_type.split(",")}
    return values.pop() if len(values) == 1 else content_type


def _media_type(content_type: str) -> str:
    return _once(content_type).partition(";")[0].strip().lower()
