"""The faults: everything that a caller can get instead of a result.

    Fault                     the method's own answer: ``raise Fault("text")`` or ``raise Fault(code, "text", data)``
    ├─ ForeignFault           what another server has answered to the gateway
    └─ GatewayFault           the gateway's own; code, title and HTTP status are in CATALOGUE
       ├─ ParseError          the body is not XML or not JSON
       ├─ UnsupportedEncoding the XML names a character encoding that is not supported
       ├─ InvalidCharacter    the bytes are not text in the encoding that they claim
       ├─ InvalidRequest      well-formed, but not a call
       ├─ MethodNotFound      no method has exactly this name
       ├─ InvalidParams       the arguments do not fit; the detail names the place
       ├─ InternalError       the method crashed, or its result cannot be encoded; see the log
       ├─ DeadlineExceeded    no response within the time that the call had
       ├─ Unavailable         the upstream is down, or the gateway is stopping
       ├─ Overloaded          too many calls at once; ``data["retry_after"]`` says when to call again
       ├─ RateLimited         this caller has called too often; likewise
       ├─ BadUpstream         the upstream's response breaks its protocol
       ├─ Denied              this caller may not do this
       ├─ RequestTooLarge     the request has too many bytes
       └─ ResponseTooLarge    the response would have too many bytes

A fault carries its own code, text and status, so neither codecs nor hosts decide anything about it. Codes -32700 to
-32600 are those of JSON-RPC 2.0 section 5.1 and of the XML-RPC fault code interoperability specification (version
20010516); those from -32000 downwards lie in the range that both leave to implementations.
"""

import sys
from types import FrameType
from typing import Any, NamedTuple, TypeVar

_RESERVED = range(-32768, -31999)
_SERVERS = range(-32099, -31999)  # JSON-RPC 2.0, section 5.1: for servers to define, which methods share with us
_INT32 = range(-(2**31), 2**31)
_Error = TypeVar("_Error", bound=BaseException)
_CHOICE = "from -32099 to -32008, or outside of -32768 to -32000"


class Entry(NamedTuple):
    """A row of the catalogue: the code on the wire, the words before the detail, the HTTP status of a refusal."""

    code: int
    title: str
    status: int = 200


class Fault(Exception):
    """A method's own fault, which the caller gets as it is.

    ``Fault("text")`` has the code -32000; ``Fault(code, "text")`` and ``Fault(code, "text", data)`` choose a code. It
    may be any int of 32 bits, also one of those that JSON-RPC leaves to servers (-32099 to -32000), but no other code
    of the range that both protocols reserve (-32768 to -32000), and none of the gateway's own (-32007 to -32001).
    ``data`` goes into JSON-RPC's ``error.data``; an XML-RPC fault has no place for it.

    Raises:
        ValueError: the code is reserved, one of the gateway's own, or has more than 32 bits; the message begins
            with the line that makes it.
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
        if len(args) > 1 and (problem := _problem(code)):
            raise ValueError(f"{_line()}: Fault code {code} {problem}; choose one {_CHOICE}")
        self.code = code
        self.detail = message
        self.data = args[2] if len(args) > 2 else data

    def __str__(self) -> str:
        """Return ``text (code 3)``; a fault without a code of its own is its text."""
        return self.message if self.code == Fault.code else f"{self.message} (code {self.code})"

    @property
    def message(self) -> str:
        """The whole text: title and detail."""
        return f"{self.title}: {self.detail}" if self.title and self.detail else self.title or self.detail


def detached(error: _Error) -> _Error:
    """Return an exception without its traceback and without the exceptions behind it.

    They hold the frames of the call, and so its arguments and its result, for as long as the exception is kept.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def _line() -> str:
    """Return where a fault is made: ``file:line``, beneath the constructors of subclasses."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the way that the standard library has
    while frame is not None and frame.f_code.co_name == "__init__":
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _problem(code: int) -> str:
    if code not in _INT32:
        return "has more than 32 bits"
    if code in OWN_CODES:
        return "is one of the gateway's own"
    return "is reserved by JSON-RPC and XML-RPC" if code in _RESERVED and code not in _SERVERS else ""


class ForeignFault(Fault):
    """Another server's fault, with any code, as the gateway has read it. The upstream decides what the caller gets.

    ``word`` is the code of a server whose codes are texts, and ``code`` that of an application error then.
    """

    def __init__(self, code: int | str, message: str, data: Any = None) -> None:
        Exception.__init__(self, message)
        self.code = code if isinstance(code, int) else Fault.code
        self.word = None if isinstance(code, int) else code
        self.detail = message
        self.data = data


class GatewayFault(Fault):
    """One of the gateway's own answers: a row of the catalogue, a detail for this case, and data by name.

    ``foreign`` is what another server has answered, exactly, where a client has read this fault from it.
    """

    data: dict[str, Any]
    foreign: ForeignFault | None = None

    def __init__(self, detail: str = "", **data: Any) -> None:
        Exception.__init__(self, detail)
        self.code, self.title, self.status = next(CATALOGUE[kind] for kind in type(self).__mro__ if kind in CATALOGUE)
        self.detail = detail
        self.data = data

    @property
    def retry_after(self) -> float | None:
        """Seconds after which to call again; None where the fault does not say."""
        said = self.data.get("retry_after")
        return said if isinstance(said, int | float) else None


class ParseError(GatewayFault):
    """The body is not well-formed."""


class UnsupportedEncoding(GatewayFault):
    """The XML document names a character encoding that is not supported."""


class InvalidCharacter(GatewayFault):
    """The bytes are not text in the encoding that they claim."""


class InvalidRequest(GatewayFault):
    """The body is well-formed, but not a call."""


class MethodNotFound(GatewayFault):
    """No method is registered under exactly this name."""


class InvalidParams(GatewayFault):
    """The arguments do not fit the method; the detail names the place."""


class InternalError(GatewayFault):
    """The method crashed, or its result cannot be encoded; ``data["error_id"]`` finds the reason in the log."""


class DeadlineExceeded(GatewayFault):
    """The call had no response within its time."""


class Unavailable(GatewayFault):
    """The upstream is down, or the gateway is stopping."""


class Overloaded(GatewayFault):
    """Too many calls run and wait; ``data["retry_after"]`` says after how many seconds to call again."""


class RateLimited(GatewayFault):
    """The caller has called too often; ``data["retry_after"]`` says after how many seconds to call again."""


class BadUpstream(GatewayFault):
    """The upstream's response breaks its protocol."""


class Denied(GatewayFault):
    """The caller may not do this."""


class RequestTooLarge(GatewayFault):
    """The request has more bytes than the limit, before or after unpacking."""


class ResponseTooLarge(GatewayFault):
    """The response would have more bytes than the limit."""


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

OWN_CODES = frozenset(row.code for kind, row in CATALOGUE.items() if kind is not Fault)
