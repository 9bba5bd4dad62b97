"""The faults: everything that a caller can be told instead of a result.

    Fault                     the method's own answer: ``raise Fault("text")`` or ``raise Fault(code, "text", data)``
    ├─ ForeignFault           what another server has answered to the gateway
    └─ GatewayFault           the gateway's answers; code, title and HTTP status stand in CATALOGUE
       ├─ ParseError          the body is not XML or not JSON
       ├─ UnsupportedEncoding the XML names a character encoding that is not spoken here
       ├─ InvalidCharacter    the bytes are not text in the encoding that they claim
       ├─ InvalidRequest      well-formed, but not a call
       ├─ MethodNotFound      no method has exactly this name
       ├─ InvalidParams       the arguments do not fit; the detail names the place
       ├─ InternalError       the method crashed, or its result cannot be said; the log has the rest
       ├─ DeadlineExceeded    no answer within the time that the call had
       ├─ Unavailable         nobody is there to do it
       ├─ Overloaded          every place is taken; ``data["retry_after"]`` says when to come back
       ├─ RateLimited         this caller has called too often; likewise
       ├─ BadUpstream         the service behind the gateway answered nonsense
       ├─ Denied              this caller may not do this
       ├─ RequestTooLarge     the request has too many bytes
       └─ ResponseTooLarge    the answer would have too many bytes

A fault carries its own answer, so neither codecs nor hosts decide anything about it. Codes -32700 to -32600 are those
of JSON-RPC 2.0 section 5.1 and of the XML-RPC fault code interoperability specification (version 20010516); those from
-32000 downwards lie in the range that both leave to implementations.
"""

from typing import Any, NamedTuple

_RESERVED = range(-32768, -31999)
_INT32 = range(-(2**31), 2**31)


class Entry(NamedTuple):
    """A row of the catalogue: the code on the wire, the words before the detail, the HTTP status at the door."""

    code: int
    title: str
    status: int = 200


class Fault(Exception):
    """A method's own fault, told to the caller as it is.

    ``Fault("text")`` has the code -32000; ``Fault(code, "text")`` and ``Fault(code, "text", data)`` choose their own.
    ``data`` travels in JSON-RPC's ``error.data``; an XML-RPC fault has no place for it.

    Raises:
        ValueError: the code lies in the range that both protocols reserve (-32768 to -32000), or beyond 32 bits.
        TypeError: the arguments are not a text, or a code and a text.

    """

    code: int = -32000  # a subclass with a constructor of its own may not call this one
    title: str = ""
    detail: str = ""
    data: Any = None
    status: int = 200

    def __init__(self, *args: Any, data: Any = None) -> None:
        super().__init__(*args)
        code, message = args[:2] if len(args) > 1 else (Fault.code, args[0] if args else None)
        if not isinstance(message, str) or type(code) is not int or len(args) > 3:
            raise TypeError(f"Fault takes a text, or a code and a text, not {args!r}")
        if len(args) > 1 and (code in _RESERVED or code not in _INT32):
            raise ValueError(f"Fault code {code} is reserved or beyond 32 bits; choose one outside -32768 to -32000")
        self.code = code
        self.detail = message
        self.data = args[2] if len(args) > 2 else data

    @property
    def message(self) -> str:
        """The whole text: title and detail."""
        return f"{self.title}: {self.detail}" if self.title and self.detail else self.title or self.detail


class ForeignFault(Fault):
    """Another server's fault, with any code, as the gateway has read it. A bridge decides what the caller is told."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        Exception.__init__(self, message)
        self.code = code
        self.detail = message
        self.data = data


class GatewayFault(Fault):
    """One of the gateway's own answers: a row of the catalogue, a detail for this case, and data by name."""

    data: dict[str, Any]

    def __init__(self, detail: str = "", **data: Any) -> None:
        Exception.__init__(self, detail)
        self.code, self.title, self.status = next(CATALOGUE[kind] for kind in type(self).__mro__ if kind in CATALOGUE)
        self.detail = detail
        self.data = data


class ParseError(GatewayFault):
    """The body is not well-formed."""


class UnsupportedEncoding(GatewayFault):
    """The XML document names a character encoding that is not spoken here."""


class InvalidCharacter(GatewayFault):
    """The bytes are not text in the encoding that they claim."""


class InvalidRequest(GatewayFault):
    """The body is well-formed, but not a call."""


class MethodNotFound(GatewayFault):
    """No method is registered under exactly this name."""


class InvalidParams(GatewayFault):
    """The arguments do not fit the method; the detail names the place."""


class InternalError(GatewayFault):
    """The method crashed or returned what cannot be said; ``data["error_id"]`` finds the reason in the log."""


class DeadlineExceeded(GatewayFault):
    """The call had no answer within its time."""


class Unavailable(GatewayFault):
    """Nobody is there to do it: the upstream is down, or the gateway is closing."""


class Overloaded(GatewayFault):
    """Every running and waiting place is taken; ``data["retry_after"]`` says in how many seconds to come back."""


class RateLimited(GatewayFault):
    """The caller has called too often; ``data["retry_after"]`` says in how many seconds to come back."""


class BadUpstream(GatewayFault):
    """The service behind the gateway answered what its protocol does not allow."""


class Denied(GatewayFault):
    """The caller may not do this."""


class RequestTooLarge(GatewayFault):
    """The request has more bytes than are taken, before or after unpacking."""


class ResponseTooLarge(GatewayFault):
    """The answer would have more bytes than are sent."""


CATALOGUE: dict[type[Fault], Entry] = {
    Fault: Entry(Fault.code, "Application error"),
    ParseError: Entry(-32700, "Parse error"),
    UnsupportedEncoding: Entry(-32701, "Unsupported encoding"),
    InvalidCharacter: Entry(-32702, "Invalid character for encoding"),
    InvalidRequest: Entry(-32600, "Invalid Request"),
    MethodNotFound: Entry(-32601, "Method not found"),
    InvalidParams: Entry(-32602, "Invalid params"),
    InternalError: Entry(-32603, "Internal error"),
    DeadlineExceeded: Entry(-32001, "Deadline exceeded"),
    Unavailable: Entry(-32002, "Unavailable", 503),
    Overloaded: Entry(-32003, "Overloaded", 503),
    RateLimited: Entry(-32003, "Rate limited", 429),
    BadUpstream: Entry(-32004, "Bad upstream"),
    Denied: Entry(-32005, "Denied", 403),
    RequestTooLarge: Entry(-32006, "Request too large", 413),
    ResponseTooLarge: Entry(-32007, "Response too large"),
}
