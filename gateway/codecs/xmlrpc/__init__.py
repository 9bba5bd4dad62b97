"""XML-RPC, as specified (xmlrpc.com/spec) and as real clients write it.

    bytes -> Call        a methodCall
          -> Batch       a call of system.multicall, whose entries are calls of their own
          -> InvalidCall    UnsupportedEncoding, InvalidCharacter: before there is text
                         ParseError: text, but no XML
                         InvalidRequest: XML, but no call; a DOCTYPE; a value out of its range
    Reply -> a methodResponse: the value in <params>, or a fault of faultCode and faultString

and the other way round, as a client of other servers:

    method, arguments -> a methodCall; InvalidParams names the argument that cannot be encoded
    bytes -> Reply       a methodResponse; BadUpstream for anything else

text.py turns bytes into text, usual.py the usual text into a call, document.py any other text, and scalars.py has the
scalars both ways; multicalls.py has the entries and results of multicalls; here are the codec itself, and answers.
Where _compiled.c was built, it comes before all of them, and returns None for what it leaves to them (choice.py).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any

from gateway.codecs.contract import Decoded, Turns, at_once, encoded
from gateway.codecs.xmlrpc import multicalls, usual
from gateway.codecs.xmlrpc.choice import compiled
from gateway.codecs.xmlrpc.document import read_answer, read_call
from gateway.codecs.xmlrpc.scalars import WRITERS
from gateway.codecs.xmlrpc.text import escaped, escaped_legibly, read_text
from gateway.model.calls import Answer, Batch, Call, Entry, Id, InvalidCall, Params, Reply
from gateway.model.faults import (
    BadUpstream,
    Fault,
    GatewayFault,
    InvalidParams,
    InvalidRequest,
    ResponseTooLarge,
    detached,
)
from gateway.model.values import EncodingError, by_name, located, plain

_INT64 = range(-(2**63), 2**63)
_PROLOG = b'<?xml version="1.0" encoding="utf-8"?>'
_PARAMS = (_PROLOG + b"<methodResponse><params><param>", b"</param></params></methodResponse>")
_CALL = _PROLOG + b"<methodCall><methodName>%b</methodName><params>%b</params></methodCall>"
_UNBOUNDED = 2**62  # bytes; the arguments of a call came by a call, which was bounded
_FAULT = (_PROLOG + b"<methodResponse><fault>", b"</fault></methodResponse>")
_SLOT = b"<value><array><data>%b</data></array></value>"


_TURN = 2000  # parts that are written in one turn
_SHORT = 64  # characters of the names of members that are kept
_UTF8 = frozenset({None, "utf-8", "utf8"})  # what the compiled codec reads, which looks at the declaration itself
_NONE = {"nil": "<value><nil/></value>", "empty": "<value><string></string></value>", "fault": None}

_CAPABILITIES: dict[str, dict[str, str | int]] = {
    "xmlrpc": {"specUrl": "http://xmlrpc.com/spec", "specVersion": 1},
    "faults_interop": {
        "specUrl": "http://xmlrpc-epi.sourceforge.net/specs/rfc.fault_codes.php",
        "specVersion": 20010516,
    },
    "introspection": {
        "specUrl": "http://xmlrpc-c.sourceforge.net/introspection.html",
        "specVersion": 1,
    },
    "system.multicall": {
        "specUrl": "https://mirrors.talideon.com/articles/multicall.html",
        "specVersion": 1,
    },
    "nil": {
        "specUrl": "https://web.archive.org/web/20050911054235/http://ontosys.com/xml-rpc/extensions.php",
        "specVersion": 1,
    },
}


class XMLRPC:
    """The XML-RPC codec, with the limits that it keeps.

    ``none`` is how None is written: ``"nil"`` as the extension, ``"empty"`` as an empty string, ``"fault"`` not at all.
    ``i8`` says whether that extension is written, and ``nan`` whether responses of other servers may hold doubles that
    are not finite.
    """

    name = "xmlrpc"
    title = "XML-RPC"
    media_types: tuple[str, ...] = ("text/xml", "application/xml")
    content_type = "text/xml; charset=utf-8"
    charsets: frozenset[str] | None = None
    first_bytes = b"<"
    native: tuple[type, ...] = (bytes, datetime)
    wide_ints = True
    batch_method = "system.multicall"
    written_as = "XML-RPC"

    def __init__(self, *, max_depth: int, max_batch: int, none: str = "nil", i8: bool = True, nan: bool = True) -> None:
        self._max_depth = max_depth
        self._max_batch = max_batch
        self._none = _NONE[none]
        self._none_bytes = None if self._none is None else self._none.encode()
        self._i8 = i8
        self._nan = nan
        self._writers: dict[type, Callable[[Any], str]] = WRITERS | {int: self._int, type(None): lambda _: self._nil()}
        self.capabilities = {said: _CAPABILITIES[said] for said in _CAPABILITIES if said != "nil" or none == "nil"}

    def decode(self, body: bytes, charset: str | None) -> Decoded:
        """Read a methodCall; a system.multicall becomes a Batch, anything that is not a call an InvalidCall."""
        return at_once(self.decoding(body, charset))

    def decoding(self, body: bytes, charset: str | None) -> Turns[Decoded]:
        """Read in turns; by the compiled codec in one."""
        found = None
        if compiled is not None and charset in _UTF8:
            found = compiled.read_call(body, self._max_depth)
        if found is None:
            try:
                document = read_text(body, charset)
                found = yield from usual.read_call(document, self._max_depth)
                if found is None:
                    found = yield from read_call(document, self._max_depth)
            except GatewayFault as fault:
                return InvalidCall(fault=detached(fault))
        method, params = found
        if method == self.batch_method:
            return self._multicall(params)
        return Call(method=method, params=params)

    def decode_usual(self, body: bytes, charset: str | None) -> Call | None:
        """Read a methodCall as most clients write it, which is not a system.multicall."""
        if compiled is not None and charset in _UTF8:
            found = compiled.read_call(body, self._max_depth)
        else:
            try:
                found = at_once(usual.read_call(read_text(body, charset), self._max_depth))
            except GatewayFault:
                return None
        return None if found is None or found[0] == self.batch_method else Call(method=found[0], params=found[1])

    def _multicall(self, params: list[Any]) -> Decoded:
        if len(params) != 1 or type(params[0]) is not list:
            return InvalidCall(fault=InvalidParams("system.multicall takes one array of structs"))
        if len(params[0]) > self._max_batch:
            return InvalidCall(fault=InvalidRequest(f"limit: a multicall has at most {self._max_batch} calls"))
        return Batch([multicalls.entry(entry) for entry in params[0]])

    def encode(self, entry: Entry, reply: Reply, room: int) -> Answer:
        """Write the value of a result, or the struct of a fault."""
        if reply.fault is None:
            wire = self._write_at_once(reply.value, room)
            if wire is not None and len(wire) <= room:
                return Answer(wire=wire)
        return at_once(encoded(self, entry, reply, room))

    def encoding(self, entry: Entry, reply: Reply, room: int) -> Turns[Answer]:
        """Write in turns; by the compiled codec in one."""
        return encoded(self, entry, reply, room)

    def write_value(self, value: Any, _: Id, room: int) -> Turns[bytes]:
        """Write the value of a result."""
        try:
            return (yield from self._write(value, room))
        except EncodingError as error:
            raise (yield from located(error, value, self._is_scalar)) from None

    def write_fault(self, fault: Fault, _: Id) -> bytes:
        """Write the struct of a fault: faultCode, faultString and nothing else, for clients break on a third member."""
        text = fault.message
        if isinstance(fault, GatewayFault) and fault.data:
            text += f" [{', '.join(f'{name}={value}' for name, value in fault.data.items())}]"
        text = escaped_legibly(text)
        return (
            f"<value><struct><member><name>faultCode</name><value><int>{fault.code:d}</int></value></member>"
            f"<member><name>faultString</name><value><string>{text}</string></value></member></struct></value>"
        ).encode()

    def single(self, answer: Answer) -> bytes:
        """Make the methodResponse of a call."""
        begin, end = _PARAMS if answer.fault is None else _FAULT
        return b"".join((begin, answer.wire, end))  # formatted, a large one would have room for more, to be found

    def batch(self, answers: list[Answer]) -> bytes:
        """Make the methodResponse of a multicall: each result in an array of its own, each fault a struct."""
        slots = [_SLOT % answer.wire if answer.fault is None else answer.wire for answer in answers]
        begin, end = _PARAMS
        return b"".join((begin, b"<value><array><data>", *slots, b"</data></array></value>", end))

    def encode_call(self, method: str, params: Params, _call_id: Id = None) -> bytes:
        """Write a methodCall for another server.

        Raises:
            InvalidParams: an argument cannot be encoded as XML-RPC; the detail names its place. Or they are by name.

        """
        if isinstance(params, dict):
            raise InvalidParams("XML-RPC has no arguments by name")
        try:
            name = escaped(method)
            said = [b"<param>%b</param>" % at_once(self._write(value, _UNBOUNDED)) for value in params]
        except EncodingError as error:
            found = at_once(
                located(error, params, self._is_scalar, -1)
            )  # the arguments themselves are no array of the document
            raise InvalidParams(f"params{found.place}: cannot be encoded as XML-RPC: {found.reason}") from None
        return _CALL % (name.encode(), b"".join(said))

    def encode_notification(self, _method: str, _params: Params) -> bytes:
        """Refuse it: each methodCall has a methodResponse."""
        raise InvalidParams("XML-RPC has no notifications")

    def encode_batch(self, calls: Sequence[Call]) -> bytes:
        """Write a call of system.multicall."""
        return self.encode_call(self.batch_method, multicalls.entries(calls))

    def decode_batch(
        self, body: bytes, charset: str | None = None, *, lenient: bool = False
    ) -> list[tuple[Id, Reply]] | Reply:
        """Read what system.multicall returns: an array of one value for each result, a struct for each fault."""
        _, reply = self.decode_answer(body, charset, lenient=lenient)
        return reply if reply.fault is not None else multicalls.read(reply.value)

    def decode_answer(self, body: bytes, charset: str | None = None, *, lenient: bool = False) -> tuple[Id, Reply]:
        """Read a methodResponse; a fault in it is a ForeignFault, anything else a BadUpstream. It never has an id.

        ``lenient`` reads empty and zero dates and doubles that are not finite as None, and duplicate members.
        """
        if compiled is not None and charset in _UTF8:
            found = compiled.read_answer(body, self._max_depth)
            if found is not None:
                return None, Reply(value=found[0])
        try:
            document = read_text(body, charset)
            if (found := at_once(usual.read_answer(document, self._max_depth))) is not None:
                return None, Reply(value=found[0])
            return None, at_once(read_answer(document, self._max_depth, nan=self._nan, lenient=lenient))
        except GatewayFault as fault:
            return None, Reply(fault=BadUpstream(f"the response is not XML-RPC: {fault.detail}"))

    def _write_at_once(self, value: Any, room: int) -> bytes | None:
        """Write what the compiled codec writes, or a scalar; None for all else, and for what cannot be encoded."""
        if compiled is not None:
            return compiled.write_value(value, self._max_depth, room, self._none_bytes, self._i8)
        write = self._writers.get(type(value))
        if write is not None:
            with suppress(EncodingError):
                return write(value).encode()
        return None

    def _write(self, value: Any, room: int) -> Turns[bytes]:
        if compiled is not None:
            written = compiled.write_value(value, self._max_depth, room, self._none_bytes, self._i8)
            if written is not None:
                return written
        parts = _Parts()
        yield from self._say(value, parts, 0, room)
        return "".join(parts).encode()

    def _say(self, value: Any, parts: "_Parts", depth: int, room: int) -> Turns[None]:
        if depth >= self._max_depth:
            raise self._too_deep_to_write()
        kind = type(value)
        write = self._writers.get(kind)
        if write is not None:
            parts.append(write(value))
        elif kind is list:
            _check_room(len(parts) + len(value), room)
            parts.append("<value><array><data>")
            for each in value:
                write = self._writers.get(type(each))
                if write is not None and depth + 1 < self._max_depth:
                    parts.append(write(each))
                else:
                    yield from self._say(each, parts, depth + 1, room)
                if len(parts) > parts.turn:
                    parts.turn = len(parts) + _TURN
                    yield
            parts.append("</data></array></value>")
        elif kind is dict:
            yield from self._say_struct(by_name(value), parts, depth + 1, room)
        else:
            yield from self._say(plain(value), parts, depth, room)

    def _say_struct(self, members: dict[str, Any], parts: "_Parts", depth: int, room: int) -> Turns[None]:
        _check_room(len(parts) + len(members), room)
        if members and depth >= self._max_depth:
            raise self._too_deep_to_write()
        parts.append("<value><struct>")
        for name, value in members.items():
            begun = _begin_member(name) if len(name) < _SHORT else f"<member><name>{escaped(name)}</name>"
            write = self._writers.get(type(value))
            if write is not None:
                parts.append(f"{begun}{write(value)}</member>")
            else:
                parts.append(begun)
                yield from self._say(value, parts, depth, room)
                parts.append("</member>")
            if len(parts) > parts.turn:
                parts.turn = len(parts) + _TURN
                yield
        parts.append("</struct></value>")

    def _int(self, value: int) -> str:
        if -0x80000000 <= value <= 0x7FFFFFFF:
            return f"<value><int>{value}</int></value>"
        if not self._i8:
            raise EncodingError("the int has more than 32 bits, and xmlrpc.i8 is off")
        if value not in _INT64:
            raise EncodingError("the int has more than 64 bits")
        return f"<value><i8>{value}</i8></value>"

    def _nil(self) -> str:
        if self._none is None:
            raise EncodingError('the specification has no None, and xmlrpc.none is "fault"')
        return self._none

    def _is_scalar(self, value: Any, depth: int) -> bool:
        if depth >= self._max_depth:
            raise self._too_deep_to_write()
        write = self._writers.get(type(value))
        if write is None:
            return False
        write(value)
        return True

    def _too_deep_to_write(self) -> EncodingError:
        return EncodingError(f"more than {self._max_depth} levels, or the value contains itself")


class _Parts(list[str]):
    """What is written, and how long it may be at the end of the present turn."""

    turn = _TURN


@lru_cache(maxsize=1024)
def _begin_member(name: str) -> str:
    return f"<member><name>{escaped(name)}</name>"


def _check_room(parts: int, room: int) -> None:
    """Give up what holds the same values many times over, before it is written out: no part has less than 9 bytes."""
    if 9 * parts > room:
        raise ResponseTooLarge("the response exceeds the limit")
