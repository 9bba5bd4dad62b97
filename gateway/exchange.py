"""The seam between hosts and the gateway: one HTTP request in, one HTTP response out.

A host builds an HTTPRequest from its socket, asks the Admission with the head alone, reads the body if it is let in,
and writes the HTTPResponse of the Service. It knows nothing else of the gateway.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from msgspec import Struct


class HTTPRequest(Struct, frozen=True, kw_only=True):
    """A request, its body still as it was sent (compressed, if it is); empty as long as only the head is here.

    ``target`` is the request target as it stands in the request line; names in ``headers`` compare in any case.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    peer: str
    body: bytes = b""


class HTTPResponse(Struct, frozen=True, kw_only=True):
    """A response. The host adds Content-Length, Date and Connection."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


Service: TypeAlias = Callable[[HTTPRequest], Awaitable[HTTPResponse]]
Admission: TypeAlias = Callable[[HTTPRequest], HTTPResponse | None]
Refusal: TypeAlias = Callable[[HTTPRequest], HTTPResponse]
