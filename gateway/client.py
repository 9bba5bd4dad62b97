"""One call from the command line, in either protocol.

    call(url, method, params, protocol, timeout) -> the result, or the server's Fault

This is no client library: Python has ``xmlrpc.client``, and JSON-RPC is one POST.
"""

import contextlib
import http.client
import re
import urllib.error
import urllib.request
import xmlrpc.client
from typing import Any
from xml.sax.saxutils import escape

import msgspec

from gateway.model.calls import Params

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]")  # and U+FFFE, U+FFFF (XML 1.0, 2.2)
_NOT_TEXT = "the name of the method or an argument is not text in UTF-8"


class CallError(Exception):
    """There is no answer, or what came is none; the message says what to look at."""


class RemoteFault(Exception):
    """The server's own fault."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


def call(url: str, method: str, params: Params, protocol: str, timeout: float) -> Any:
    """Call a method and return its result.

    Args:
        url: http or https.
        method: the exact name.
        params: by position, or by name, which XML-RPC does not have.
        protocol: ``"jsonrpc"`` or ``"xmlrpc"``.
        timeout: seconds to wait for each read.

    Raises:
        RemoteFault: the server answers with a fault.
        CallError: it answers with something else, or not at all.

    """
    if not url.lower().startswith(("http://", "https://")):
        raise CallError(f"{url} is no URL to call: it begins with http:// or https://, like http://127.0.0.1:8000/api")
    body, content_type, read = _PROTOCOLS[protocol](method, params)
    try:
        request = urllib.request.Request(url, body, {"Content-Type": content_type})  # noqa: S310 - http or https
        answer, refused = _post(request, timeout)
    except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:
        raise CallError(f"{url} gives no answer: {_reason(error)}") from None
    if refused is None:
        return read(answer)
    with contextlib.suppress(CallError):
        read(answer)  # a refusal can be a fault all the same
    raise CallError(f"{url} answers {refused}: {_plain(answer[:500].decode('utf-8', 'replace'))}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET, which calls nothing."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(request: urllib.request.Request, timeout: float) -> tuple[bytes, str | None]:
    """Return the body of the answer, and its status and reason where it is a refusal."""
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout) as response:
            return response.read(), None
    except urllib.error.HTTPError as error:
        location = error.headers.get("Location")
        return error.read(), f"{error.code} {error.reason}{f' (see {location})' if location else ''}"


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    strerror = getattr(inner, "strerror", None)
    text = _plain(str(strerror).lower() if strerror else str(inner)) or type(inner).__name__
    return f"{text}; does it speak http, without s?" if "wrong_version" in text or "handshake" in text else text


def _plain(text: str) -> str:
    """Show a foreign text on one line and without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _xmlrpc(method: str, params: Params) -> Any:
    if isinstance(params, dict):
        raise CallError("XML-RPC has no named arguments: give them by position, or use --protocol jsonrpc")
    try:
        body = xmlrpc.client.dumps(tuple(params), escape(method), allow_none=True).encode()
    except OverflowError:
        raise CallError("XML-RPC has no ints beyond 32 bits that every server reads; use --protocol jsonrpc") from None
    except UnicodeEncodeError:
        raise CallError(_NOT_TEXT) from None
    if _CONTROL.search(body):
        raise CallError("XML has no control characters; use --protocol jsonrpc")
    return body, "text/xml", _read_xmlrpc


def _read_xmlrpc(answer: bytes) -> Any:
    try:
        (result,), _ = xmlrpc.client.loads(answer, use_builtin_types=True)
    except xmlrpc.client.Fault as fault:
        raise RemoteFault(fault.faultCode, fault.faultString) from None
    except Exception as error:  # noqa: BLE001 - the standard library's reader lets out half a dozen kinds
        raise CallError(f"the answer is not XML-RPC: {error}") from None
    return result


def _jsonrpc(method: str, params: Params) -> Any:
    try:
        body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
    except UnicodeEncodeError:
        raise CallError(_NOT_TEXT) from None
    return body, "application/json", _read_jsonrpc


def _read_jsonrpc(answer: bytes) -> Any:
    try:
        document = msgspec.json.decode(answer, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CallError(f"the answer is not JSON-RPC: {error}") from None
    fault = document.get("error")
    if isinstance(fault, dict):
        raise RemoteFault(fault.get("code", 0), str(fault.get("message", "")), fault.get("data"))
    if "result" not in document:
        raise CallError("the answer is not JSON-RPC: it has neither a result nor an error")
    return document["result"]


_PROTOCOLS = {"jsonrpc": _jsonrpc, "xmlrpc": _xmlrpc}
