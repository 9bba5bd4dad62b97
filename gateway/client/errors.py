"""Why a call has no result that the server gave. A fault of the server's is not one of these (gateway/model/faults.py).

    CallError           names the URL, what happened, and what can be done
    ├─ ArgumentError    an argument cannot be encoded in the protocol
    ├─ Unreachable      no connection could be made
    ├─ TLSError         TLS was refused, by either side
    ├─ ConnectionLost   it broke before the response was whole
    ├─ CallTimeout      the time of the call is over
    ├─ StatusError      an HTTP status came, and no response of the protocol
    └─ BadResponse      it cannot be read, or is that to another call

Unreachable, TLSError and ConnectionLost are also a ConnectionError, and CallTimeout is also a TimeoutError.

``sent`` says how far the call came: "no" where the server certainly has not run it, "maybe" where nobody knows, and
"yes" where there is a response.
"""

import os
import socket
import ssl
from typing import Literal, TypeAlias

from gateway.wire.http_grammar import seconds
from gateway.wire.http_reading import ReadHead

Sent: TypeAlias = Literal["no", "maybe", "yes"]

_TLS_REMEDIES = {
    "wrong_version": "does the server use http, without s?",
    "record_layer": "does the server use http, without s?",
    "handshake": "does the server use http, without s?",
    "certificate_verify_failed": "name the file of its authority with ca",
    "certificate required": "the server asks for a certificate: name yours with cert",
    "certificate_required": "the server asks for a certificate: name yours with cert",
}
_STATUS_REMEDIES = {
    401: "an API key is needed, or a name and a password",
    403: "this caller may not call here",
    404: "is the path right? That of a gateway is /api",
    405: "is the path right? Calls are POSTed",
    413: "send less, or raise the server's limit (limits.max_body of a gateway)",
    415: "is the protocol right?",
    429: "call again later",
    431: "send fewer or shorter headers",
    502: "the server behind the proxy does not respond",
    503: "call again later",
    504: "the server behind the proxy does not respond in time",
}
_SHOWN = 500  # bytes of a body that an error quotes
_TOO_LATE = "timed out"


class CallError(Exception):
    """There is no result.

    Attributes:
        url: of the server, without a name and a key.
        sent: how far the call came: "no", "maybe" or "yes".
        remedy: what can be done; empty where nobody knows.

    """

    def __init__(self, text: str, *, url: str = "", sent: Sent = "no", remedy: str = "") -> None:
        Exception.__init__(self, f"{text}; {remedy}" if remedy else text)
        self.url = url
        self.sent = sent
        self.remedy = remedy


class ArgumentError(CallError):
    """An argument cannot be encoded in the protocol; the text names its place."""


class Unreachable(CallError, ConnectionError):
    """No connection could be made."""


class TLSError(CallError, ConnectionError):
    """One side has refused the other's certificate, or does not speak TLS."""


class ConnectionLost(CallError, ConnectionError):
    """The connection broke before the response was whole."""


class CallTimeout(CallError, TimeoutError):
    """The time of the call is over."""


class StatusError(CallError):
    """The response is an HTTP status, and its body is not a response of the protocol.

    Attributes:
        status: the HTTP status.
        retry_after: seconds after which to call again, where the server says so.
        location: where the server says to look instead; it is not called.

    """

    status: int = 0
    retry_after: int | None = None
    location: str = ""


class BadResponse(CallError):
    """The response is not HTTP, not of the protocol, too long, or to another call."""


def refused(url: str, head: ReadHead, body: bytes) -> StatusError:
    """Say what the status of a response means."""
    location = plain(head.headers.get("location", "")) if head.status < 400 else ""
    where = f" (see {location})" if location else ""
    said = plain(body[:_SHOWN].decode("utf-8", "replace"))
    error = StatusError(
        f"{url} responds with {f'{head.status} {plain(head.reason)}'.strip()}{where}: {said}".rstrip(": "),
        url=url,
        sent="maybe" if head.status in (502, 504) else "yes",
        remedy=f"call {location} instead" if location else _STATUS_REMEDIES.get(head.status, ""),
    )
    error.status, error.location = head.status, location
    error.retry_after = seconds(head.headers.get("retry-after", ""))
    return error


def no_connection(url: str, error: OSError) -> CallError:
    """Say why no connection could be made."""
    if isinstance(error, ssl.SSLError):
        return tls_error(url, error, "no")
    remedy = {
        ConnectionRefusedError: "is the server started, and the port right?",
        FileNotFoundError: "is the server started, and the path of the socket right?",
        PermissionError: "may this user open the socket?",
        TimeoutError: "is the address right, and does a firewall drop packets?",
        socket.gaierror: "is the name of the host right?",
    }.get(type(error), "")
    return Unreachable(f"no response from {url}: {reason_of(error)}", url=url, sent="no", remedy=remedy)


def tls_error(url: str, error: ssl.SSLError, sent: Sent) -> TLSError:
    """Say why TLS does not work."""
    said = reason_of(error)
    known = f"{said} {error.reason or ''}".lower()
    remedy = next((remedy for part, remedy in _TLS_REMEDIES.items() if part in known), "")
    return TLSError(f"no response from {url}: {said}", url=url, sent=sent, remedy=remedy)


def lost(url: str, error: OSError | EOFError, sent: Sent) -> CallError:
    """Say how a connection broke."""
    if isinstance(error, ssl.SSLError):
        return tls_error(url, error, sent)
    remedy = "" if sent == "no" else "the call may have run"
    return ConnectionLost(f"no response from {url}: {reason_of(error)}", url=url, sent=sent, remedy=remedy)


def timed_out(url: str, sent: Sent, remedy: str = "") -> CallTimeout:
    """Say that the time is over."""
    return CallTimeout(f"no response from {url}: {_TOO_LATE}", url=url, sent=sent, remedy=remedy)


def reason_of(error: BaseException) -> str:
    """Return the reason of an error in lower case, on one line."""
    if type(error) is TimeoutError:
        return _TOO_LATE
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno).lower()  # that of asyncio has an address in it
    strerror = getattr(error, "strerror", None)
    return plain(str(strerror).lower() if strerror else str(error)) or type(error).__name__


def plain(text: str) -> str:
    """Show a foreign text on one line and without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
