"""The console: pages for people, on an address of their own.

    GET /, /console.css, /*.js      the files of page/, as they are
    GET /data/VIEW                  what a view shows, in JSON; or as an event of server-sent events, after which the
                                    browser asks for the next one. So no connection is held open, any worker may answer,
                                    and none waits for a page when it ends
    POST /call                      a call, for the page that was loaded from here; the gateway's own endpoint answers
                                    it, with all of its rules for addresses and keys

Nobody is asked who they are to read: whoever reaches the address may. Web pages from elsewhere may not: the Host must
name this machine (rebinding.py), and a call that has an Origin must have this one.

These are responses in one piece, so no web framework is needed: gateway/hosts/http serves them like all others. No
script or style stands in the page itself, so the Content-Security-Policy allows none.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import resources
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from msgspec import Struct, structs

from gateway.endpoints.rebinding import FOREIGN, is_sensible
from gateway.model.http import Admission, Admitted, HTTPRequest, HTTPResponse


class Event(Struct, frozen=True):
    """What a view shows that goes on: the number of what is known then, and the data, of JSON's types."""

    number: str
    data: Any


View: TypeAlias = Callable[[str], Any]
"""Makes what a view shows, of JSON's types or an Event, given the number of the last one; called in a thread."""

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_GUARDED = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", _POLICY),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
)
_PAUSE = 1000  # milliseconds between two events
_PLAIN = ("Content-Type", "text/plain; charset=utf-8")


def admission(
    *, admit: Admission, views: Mapping[str, View], path: str, hosts: tuple[str, ...], bind: str
) -> Admission:
    """Make the endpoint of the console.

    Args:
        admit: the endpoint for calls.
        views: what is at /data/VIEW.
        path: where calls are POSTed to at that endpoint.
        hosts: the names that it is called by; empty for any.
        bind: the console's own address, whose name may be used.

    """
    pages = dict(files())
    known = frozenset(name.lower() for name in (bind.rpartition(":")[0], *hosts))

    def answer(head: HTTPRequest) -> HTTPResponse | Admitted:
        host = head.headers.get("Host", "")
        target = head.target.partition("?")[0]
        if not is_sensible(host, known):
            return plain(403, FOREIGN.format("console.bind"))
        if target == "/call":
            if not _is_own(head.headers.get("Origin"), host):
                return plain(403, "Only the page that was loaded from here may call.\n")
            return admit(_forwarded(head, path, hosts))
        view = views.get(target.removeprefix("/data/")) if target.startswith("/data/") else None
        if view is None and target not in pages:
            return plain(404, "There is no such page.\n")
        if head.method not in ("GET", "HEAD"):
            return plain(405, "This is only read.\n", ("Allow", "GET, HEAD"))
        return pages[target] if view is None else _Reading(view, head.headers.get("Last-Event-ID", ""))

    return answer


class _Reading(Struct, frozen=True):
    """A request for what a view shows. It is made in a thread: of many methods it takes a while."""

    view: View
    last: str

    async def answer(self, body: bytes) -> HTTPResponse:
        kind, text = await asyncio.to_thread(self._written)
        return written(kind, text)

    def _written(self) -> tuple[str, str]:
        found = self.view(self.last)
        if not isinstance(found, Event):
            return "application/json", encoded(found)
        return "text/event-stream", f"retry: {_PAUSE}\nid: {found.number}\ndata: {encoded(found.data)}\n\n"

    @property
    def client(self) -> str:
        """Nobody's: who reads the console is not counted."""
        return ""

    def too_many(self) -> HTTPResponse:
        """Refuse it (nobody is counted, so it is never asked for)."""
        return plain(429, "Too many requests at once.\n")

    def too_large(self) -> HTTPResponse:
        return plain(413, "No body is read here.\n")

    def unreadable(self, status: int, reason: str) -> HTTPResponse:
        return plain(status, f"{reason}\n")


class _Without(Mapping[str, str]):
    """Headers, but for the Origin, and with another Host where one is given."""

    def __init__(self, headers: Mapping[str, str], host: str | None) -> None:
        self._headers = headers
        self._host = host

    def __getitem__(self, name: str) -> str:
        if name.lower() == "origin":
            raise KeyError(name)
        return self._host if self._host is not None and name.lower() == "host" else self._headers[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._headers if name.lower() != "origin")

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _forwarded(head: HTTPRequest, path: str, hosts: tuple[str, ...]) -> HTTPRequest:
    """Return a call as it would have come to the endpoint for calls; its Origin and Host have been judged here."""
    headers = _Without(head.headers, hosts[0] if hosts else None)
    return structs.replace(head, target=path, headers=headers)


def _is_own(origin: str | None, host: str) -> bool:
    """Tell whether a request is from the page that was loaded from this host, or from no page at all."""
    return origin is None or urlsplit(origin).netloc.lower() == host.lower()


def written(content_type: str, text: str) -> HTTPResponse:
    """Make a response of a text in ASCII."""
    return HTTPResponse(headers=(("Content-Type", content_type), *_GUARDED), body=text.encode("ascii"))


def encoded(value: Any) -> str:
    """Write a value of JSON's types."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def plain(status: int, text: str, *headers: tuple[str, str]) -> HTTPResponse:
    """Make a response of a text."""
    return HTTPResponse(status=status, headers=(_PLAIN, *headers, *_GUARDED), body=text.encode())


def files() -> Iterator[tuple[str, HTTPResponse]]:
    """Iterate over the files of the page: their paths, and the responses that have them."""
    for file in _listed():
        content_type = _TYPES[file.name.rpartition(".")[2]]
        response = HTTPResponse(headers=(("Content-Type", content_type), *_GUARDED), body=file.read_bytes())
        yield f"/{file.name}", response
        if file.name == "index.html":
            yield "/", response


def _listed() -> Iterable[Any]:
    return (resources.files(__name__) / "page").iterdir()
