"""The heads of HTTP/1 messages, as far as Tornado leaves them to the host.

without_authority, declared_length, takes_expectation, beginning_of    what is read from a request's head
"""

import re
from contextlib import suppress

from tornado import httputil

from gateway.model.http import HTTPRequest
from gateway.wire.http_grammar import HOST

_ABSOLUTE = re.compile(r"https?://([^/?#]+)(.*)", re.ASCII | re.IGNORECASE)
_LONGEST_LENGTH = 18  # digits; Tornado refuses what is longer, for it is beyond its own limit


def without_authority(target: str, headers: httputil.HTTPHeaders) -> str:
    """Return the path and query of a target. A host in it replaces the header Host (RFC 9112, 3.2.2).

    Raises:
        HTTPInputError: it has the absolute form, and what it names is not one host.

    """
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        return target
    authority, rest = absolute.groups()
    if not HOST.fullmatch(authority):
        raise httputil.HTTPInputError("the target does not name one host")
    headers["Host"] = authority
    return rest if rest.startswith("/") else f"/{rest}"


def declared_length(headers: httputil.HTTPHeaders) -> int:
    """Return the Content-Length; 0 where there is none, or one that Tornado will refuse."""
    length = headers.get("Content-Length", "0")
    return int(length) if length.isascii() and length.isdigit() and len(length) <= _LONGEST_LENGTH else 0


def takes_expectation(headers: httputil.HTTPHeaders, version: str) -> bool:
    """Take the header Expect out, and tell whether the client waits for 100 Continue (RFC 9110, 10.1.1).

    Tornado would find no "100-Continue", and would answer clients of HTTP/1.0, too.
    """
    if "Expect" not in headers:
        return False
    return headers.pop("Expect").strip().lower() == "100-continue" and version != "HTTP/1.0"


def beginning_of(head: str, peer: str) -> HTTPRequest:
    """Read the beginning of a head that is too large: its whole lines."""
    line, _, lines = head.lstrip("\r\n").partition("\n")
    method, _, target = line.partition(" ")
    headers = httputil.HTTPHeaders()
    with suppress(httputil.HTTPInputError):
        headers = httputil.HTTPHeaders.parse("".join(lines.rpartition("\n")[:2]))
    return HTTPRequest(method=method, target=target.partition(" ")[0], headers=headers, peer=peer, is_whole=False)
