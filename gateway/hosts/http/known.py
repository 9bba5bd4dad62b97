"""Heads of requests that are known by their bytes, so that they need not be read and judged again.

    known.find(data, peer, certificate) -> Known    what was judged of it, and what this head has of its own
    known.again(data, at, most)         -> Known    the same for a head that differs in nothing but values
                                        -> None     it has to be read
    known.learn(data, head, request)                it was read: keep it, if heads like it may be kept

What differs from request to request (Content-Length, X-Request-ID, X-Request-Timeout, traceparent) is cut out, each as
a whole line in the one way in which nearly all clients write it. What is left is looked up, with the peer and its
certificate. A head is kept only if it was read as a whole before, and its headers of these names are those that were
cut out. So a head that is found would be read in the same way. Only what comes again is kept, and the least recently
used head goes first. Heads can hold passwords: they are compared, and nothing else is done with them.

The heads of one connection mostly differ in nothing but these values. That is seen by comparing what is between them
(Known.again), in a third of the time that a look-up takes.
"""

import re
from collections import OrderedDict

from msgspec import Struct

from gateway.hosts.http.heads import Head
from gateway.model.http import HTTPRequest, Know, Plain

_VARYING = re.compile(
    rb"\r\n(?:content-length: ?([1-9][0-9]{0,9})"
    rb"|x-request-id: ?([!-~]{1,64})"
    rb"|x-request-timeout: ?([0-9.]{1,13})"
    rb"|traceparent: ?([!-~]{1,128}))(?=\r\n)",
    re.IGNORECASE,
)
_NAMES = ("Content-Length", "X-Request-ID", "X-Request-Timeout", "traceparent")
_VALUES = tuple(
    re.compile(value).fullmatch for value in (rb"[1-9][0-9]{0,9}", rb"[!-~]{1,64}", rb"[0-9.]{1,13}", rb"[!-~]{1,128}")
)
_NONE: "tuple[bytes | None, ...]" = (None, None, None, None)
_SPECIAL = ("Transfer-Encoding", "Expect", "Connection", "Upgrade")  # what is about the message and the connection
_LARGEST = 2**11  # bytes of a head
_MOST = 1024  # heads

_Values = tuple[bytes | None, ...]  # in the order of _NAMES
_Key = tuple[str, str | None, bytes]


class Known(Struct, frozen=True):
    """A head that is known.

    Attributes:
        head: its bytes, up to the empty line and with it.
        plain: what was judged of it.
        length: how many bytes the body has.
        request_id: the value of X-Request-ID, None without one.
        wish: the value of X-Request-Timeout, None without one.
        trace: the value of traceparent, None without one.
        form: where these values are.

    """

    head: bytes
    plain: Plain
    length: int
    request_id: str | None
    wish: str | None
    trace: str | None
    form: "_Form"

    def again(self, data: bytes, at: int, most: int) -> "Known | None":
        """Return what is known of a head that begins at a place, if it has the form of this one, and ``most`` bytes."""
        form, begin = self.form, at
        if not data.startswith(form.begin, at):
            return None
        at += len(form.begin)
        values = [*_NONE]
        for number, after in form.values:
            end = data.find(b"\r", at)
            value = data[at:end]
            if not _VALUES[number](value) or not data.startswith(after, end):
                return None
            values[number] = value
            at = end + len(after)
        if at - begin > most:
            return None
        return form.known(data[begin:at], self.plain, tuple(values))


class _Form(Struct, frozen=True):
    """What heads are like that differ in values.

    Attributes:
        begin: what is before the first value.
        values: the number of each in _NAMES, and what is behind it.
        longest: bytes that a body may have.

    """

    begin: bytes
    values: tuple[tuple[int, bytes], ...]
    longest: int

    def known(self, head: bytes, plain: Plain, values: _Values) -> Known | None:
        """Say what is known of a head; None where its body is too long."""
        length, request_id, wish, trace = values
        size = int(length or 0)
        if size > self.longest:
            return None
        return Known(head, plain, size, _text(request_id), _text(wish), _text(trace), self)


class KnownHeads:
    """The heads that one endpoint has judged.

    Args:
        know: judges a head that may be kept.
        longest: bytes that a body may have.

    """

    def __init__(self, know: Know, longest: int) -> None:
        self._know = know
        self._longest = longest
        self._known: OrderedDict[_Key, Known | None] = OrderedDict()  # None: it has come once

    def find(self, data: bytes, peer: str, certificate: str | None) -> Known | None:
        """Find what is known of a head."""
        cut = _cut(data)
        if cut is None:
            return None
        kept, values = cut
        key = (peer, certificate, kept)
        known = self._known.get(key)
        if known is None:
            return None
        self._known.move_to_end(key)
        return known if known.head == data else self._made(data, known.plain, values)

    def learn(self, data: bytes, head: Head, request: HTTPRequest) -> None:
        """Keep a head that was read, if it comes for the second time and heads like it may be kept."""
        cut = _cut(data)
        if cut is None or head.is_old or any(name in head.headers for name in _SPECIAL):
            return
        kept, values = cut
        if [head.headers.get(name) for name in _NAMES] != [_text(value) for value in values]:
            return  # there is another one, which was not cut out
        key = (request.peer, request.certificate, kept)
        if key not in self._known:
            self._known[key] = None
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
            return
        plain = self._know(request)
        if plain is not None:
            self._known[key] = self._made(data, plain, values)
        self._known.move_to_end(key)

    def _made(self, data: bytes, plain: Plain, values: _Values) -> Known | None:
        numbers, starts, ends = [], [], [0]
        for found in _VARYING.finditer(data):
            number = found.lastindex or 0  # of the one group that has matched
            numbers.append(number - 1)
            starts.append(found.start(number))
            ends.append(found.end(number))
        begin, *after = [data[end:start] for end, start in zip(ends, [*starts, len(data)], strict=True)]
        form = _Form(begin, tuple(zip(numbers, after, strict=True)), self._longest)
        return form.known(data, plain, values)


def _cut(data: bytes) -> tuple[bytes, _Values] | None:
    """Cut out what varies; None where that comes twice, or the head is too large to be kept, or begins with a line end.

    So nothing before the request line is cut out.
    """
    if len(data) > _LARGEST or data.startswith(b"\r\n"):
        return None
    pieces = _VARYING.split(data)
    values = [*_NONE]
    for start in range(1, len(pieces), 5):
        for number, value in enumerate(pieces[start : start + 4]):
            if value is not None:
                if values[number] is not None:
                    return None
                values[number] = value
    return b"".join(pieces[::5]), tuple(values)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
