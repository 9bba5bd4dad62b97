"""One call from the command line, in any protocol of the gateway.

    call(Server(url=...), "jsonrpc", method, params)    the result; CallError, or the server's own ForeignFault

This is not a client library: Python has ``xmlrpc.client``, and a call in JSON-RPC is one POST.
"""

import base64
import http.client
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from msgspec import Struct

from gateway.codecs import CODECS
from gateway.model.calls import Params
from gateway.model.faults import ForeignFault, InvalidParams
from gateway.wire.http_grammar import charset

MOST = 2**30  # bytes of a response: the largest limits.max_reply that a gateway can have
_DEPTH = 200  # levels of nesting: likewise, limits.max_depth
_CALL_ID = 1
_SHOWN = 500  # bytes of a response that is not one of the protocol
_URL = re.compile(r"(https?://)(?:([^/?#]*)@)?([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_HINTS = {
    "wrong_version": "does the server use http, without s?",
    "record_layer": "does the server use http, without s?",
    "handshake": "does the server use http, without s?",
    "certificate_verify_failed": "name the file of its authority with --ca",
}


class CallError(Exception):
    """There is no response, or it is not one of the protocol; the message says why."""


class Server(Struct, frozen=True, kw_only=True):
    """Whom to call, and how.

    Attributes:
        url: http or https; NAME:KEY@ before the host is sent as Basic authorization, and never shown.
        key: sent as Bearer authorization; None for none.
        headers: further headers, which win over all others.
        ca: a file with the certificates to trust, in PEM; without one the system's.
        verify: whether the server's certificate is checked.
        timeout: seconds to wait for each read.

    """

    url: str
    key: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    ca: Path | None = None
    verify: bool = True
    timeout: float = 60.0


def call(server: Server, protocol: str, method: str, params: Params) -> Any:
    """Call a method and return its result.

    Args:
        server: see Server.
        protocol: one of CODECS.
        method: the exact name.
        params: by position, or by name where the protocol has that.

    Raises:
        ForeignFault: the server responds with a fault.
        CallError: it responds with something else, or not at all, or the arguments cannot be encoded.

    """
    codec = CODECS[protocol](max_depth=_DEPTH, max_batch=1)
    url, authorization = _without_credentials(server)
    try:
        body = codec.encode_call(method, params, _CALL_ID)
    except InvalidParams as fault:
        raise CallError(fault.detail) from None
    headers = {"Content-Type": codec.content_type, **authorization, **dict(server.headers)}
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=_context(server)))
    try:
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - http or https
        answer, content_type, refused = _post(opener, request, server.timeout)
    except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:
        raise CallError(f"no response from {url}: {_reason(error)}") from None
    if len(answer) > MOST:
        raise CallError(f"the response of {url} has more than {MOST} bytes")
    answered, reply = codec.decode_answer(answer, charset(content_type)) or (None, None)
    if reply is not None and isinstance(reply.fault, ForeignFault):
        raise reply.fault  # a refusal can have a fault, too
    if refused is not None:
        raise CallError(f"{url} responds with {refused}: {_plain(answer[:_SHOWN].decode('utf-8', 'replace'))}")
    if reply is None or answered not in (None, _CALL_ID):
        raise CallError(f"{url} responds to another call than this one")
    if reply.fault is not None:
        raise CallError(f"{url}: {reply.fault.detail}")
    return reply.value


def _without_credentials(server: Server) -> tuple[str, dict[str, str]]:
    """Take NAME:KEY@ out of the URL, and return the header that says it, or the key."""
    found = _URL.fullmatch(server.url)
    if found is None:
        shown = server.url.rpartition("@")[2]
        raise CallError(
            f"{shown} is not a URL to call: it must begin with http:// or https://, as http://127.0.0.1:8000/api"
        )
    scheme, credentials, host, rest = found.groups()
    if "@" in rest and not re.fullmatch(r"(?:\[[^\]]*\]|[^:]*)(?::[0-9]*)?", host):
        raise CallError("in NAME:KEY@ of the URL, the characters / ? # must be percent-encoded: %2F, %3F, %23")
    if credentials is not None and server.key is not None:
        raise CallError("the key is given twice: in the URL, and as a key of its own")
    if credentials is not None:
        encoded = base64.b64encode(urllib.parse.unquote_to_bytes(credentials)).decode("ascii")
        return f"{scheme}{host}{rest}", {"Authorization": f"Basic {encoded}"}
    return server.url, {} if server.key is None else {"Authorization": f"Bearer {server.key}"}


def _context(server: Server) -> ssl.SSLContext | None:
    """Make the TLS context of a call; None for http."""
    if not server.url.lower().startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cafile=server.ca)
    except OSError as error:
        raise CallError(f"{server.ca}: it cannot be read as certificates in PEM: {_reason(error)}") from None
    if not server.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET, which calls nothing."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, timeout: float
) -> tuple[bytes, str, str | None]:
    """Return the body of the response, its Content-Type, and its status and reason where it is a refusal."""
    try:
        with opener.open(request, timeout=timeout) as response:
            return _body(response), response.headers.get("Content-Type", ""), None
    except urllib.error.HTTPError as error:
        location = error.headers.get("Location")
        refused = f"{error.code} {error.reason}{f' (see {location})' if location else ''}"
        return _body(error.fp), error.headers.get("Content-Type", ""), refused


def _body(response: Any) -> bytes:
    """Read a response up to the limit; one that ends before its Content-Length is an error."""
    body: bytes = response.read(MOST + 1)
    if response.length and len(body) <= MOST:
        raise http.client.IncompleteRead(body, response.length)
    return body


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    strerror = getattr(inner, "strerror", None)
    text = _plain(str(strerror).lower() if strerror else str(inner)) or type(inner).__name__
    hint = next((hint for part, hint in _HINTS.items() if part in text.lower()), None)
    return f"{text}; {hint}" if hint else text


def _plain(text: str) -> str:
    """Show a foreign text on one line and without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
