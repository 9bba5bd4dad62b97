"""Heads that a framework has read, kept with what was judged of them: the plain way of mounted endpoints.

    heads.cut(head, version, pairs) -> Cut     what of it comes again, and what it has of its own
                                    -> None    heads like it are not kept
    heads.find(cut)                 -> Plain   what was judged of such a head
    heads.learn(cut, head)                     it was let in: keep it, if it comes again
    answered(plain, ...)                       the response to a request with such a head

This is what gateway/hosts/http/known.py is for the gateway's own server, with headers in the place of bytes. All that
the full way looks at in a head is part of the key, but for the values that ``Plain`` may be told, and the framework's
request.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeAlias

from msgspec import Struct

from gateway.model.http import HTTPRequest, HTTPResponse, Know, Plain
from gateway.model.limits import Limits

Pairs: TypeAlias = Iterable[tuple[str | bytes, str | bytes]]
_Values: TypeAlias = tuple[str | None, ...]

_NAMES = ("content-length", "x-request-id", "x-request-timeout", "traceparent")
_PLACES: dict[str | bytes, int] = {name: place for place, name in enumerate(_NAMES)}
_PLACES |= {name.encode(): place for place, name in enumerate(_NAMES)}
_NONE: _Values = (None, None, None, None)
_VALUE = re.compile(r"[!-~]{1,128}")
_LENGTH = re.compile(r"[1-9][0-9]{0,9}")
_LINE = len(": \r\n")
_LARGEST = 2**11  # bytes of a head
_MOST = 1024  # heads
_OWN = frozenset({"Date", "Content-Length"})  # headers that a server adds by itself


class Cut(Struct, frozen=True):
    """A head in two parts.

    Attributes:
        key: what comes again.
        values: those of Content-Length, X-Request-ID, X-Request-Timeout and traceparent; None where it is not there.

    """

    key: tuple[object, ...]
    values: _Values


class KeptHeads:
    """The heads that one endpoint has judged.

    Args:
        know: judges a head that may be kept.
        limits: what a head and its body are held to.

    """

    def __init__(self, know: Know, limits: Limits) -> None:
        self._know = know
        self._largest = min(_LARGEST, limits.max_header)
        self._longest = limits.max_body
        self._kept: OrderedDict[tuple[object, ...], Plain | None] = OrderedDict()  # None: it has come once

    def cut(self, head: HTTPRequest, version: str, pairs: Pairs) -> Cut | None:
        """Cut a head, whose headers these are, into what comes again and the values that may be others."""
        size, again, values = len(head.method) + len(head.target), list[object](), [*_NONE]
        for pair in pairs:
            name, value = pair
            size += len(name) + len(value) + _LINE
            place = _PLACES.get(name.lower())
            if place is None:
                again.append(pair)
                continue
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            if values[place] is not None or not _VALUE.fullmatch(text):
                return None
            values[place] = text
        length = values[0]
        if length is None or not _LENGTH.fullmatch(length) or int(length) > self._longest or size > self._largest:
            return None
        return Cut((head.method, head.target, version, head.peer, head.user, *again), tuple(values))

    def find(self, cut: Cut) -> Plain | None:
        """Find what was judged of a head."""
        plain = self._kept.get(cut.key)
        if plain is not None:
            self._kept.move_to_end(cut.key)
        return plain

    def learn(self, cut: Cut, head: HTTPRequest) -> None:
        """Keep a head that was let in, if it comes for the second time and heads like it may be kept."""
        if cut.key not in self._kept:
            self._kept[cut.key] = None
            if len(self._kept) > _MOST:
                self._kept.popitem(last=False)
            return
        self._kept[cut.key] = self._know(head)
        self._kept.move_to_end(cut.key)


async def answered(plain: Plain, cut: Cut, head: HTTPRequest, body: bytes) -> HTTPResponse | None:
    """Answer a request whose head was judged before; None where nothing was done, and it has to take the full way."""
    length, request_id, wish, trace = cut.values
    if str(len(body)) != length:
        return None
    came = asyncio.get_running_loop().create_future()

    def respond(response: bytes) -> None:
        if not came.done():  # it may have been cancelled just now
            came.set_result(response)

    answer = plain.answer(body, request_id, wish, head.connection, respond, trace, head.request)
    if answer is None or isinstance(answer, bytes):
        return None if answer is None else _read(answer)
    try:
        return _read(await came)
    except asyncio.CancelledError:
        answer.cancel()
        raise


def _read(response: bytes) -> HTTPResponse:
    """Read a response that the plain way has written."""
    head, _, body = response.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value) for name, _, value in [each.partition(": ") for each in lines] if name not in _OWN]
    return HTTPResponse(status=int(line.split(" ")[1]), headers=tuple(headers), body=body)
