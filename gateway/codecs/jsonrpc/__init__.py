"""JSON-RPC 2.0 over strict JSON.

    bytes -> Call                a request object (section 4); without an id a notification (4.1)
          -> Batch               an array of them (section 6)
          -> InvalidCall            ParseError: not UTF-8, not JSON, or JSON that two readers could read differently
                                 (RFC 7493: duplicate names, numbers out of range, lone surrogates) or too deep;
                                 InvalidRequest: JSON, but not a request; its id is echoed where it has one
    Reply -> a response object   (section 5), its members in a fixed order and no others

and the other way round, as a client of other servers:

    method, params, id -> a request object; InvalidParams names the argument that cannot be encoded as JSON
    bytes -> id, Reply    a response object, as strictly read; BadUpstream for anything else
          -> None         a request object: the server calls by itself

The messages of the five errors that the specification names are exactly its words; what is known beyond them is in
``error.data``. text.py reads strict JSON, usual.py reads usual requests and finds results that need no conversion,
answers.py reads the response objects of other servers, and batches.py is about batches for them.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from math import isfinite
from typing import Any

import msgspec

from gateway.codecs.contract import Decoded, Turns, at_once, encoded
from gateway.codecs.jsonrpc import batches
from gateway.codecs.jsonrpc.answers import ID_TYPES, read_answer
from gateway.codecs.jsonrpc.text import LARGE, parse, parsing
from gateway.codecs.jsonrpc.usual import (
    Request,
    Response,
    call_of,
    read_call,
    read_request,
    read_result,
    size_of,
    written,
)
from gateway.model.calls import Answer, Batch, Call, Entry, Id, InvalidCall, Params, Reply
from gateway.model.faults import (
    BadUpstream,
    Fault,
    GatewayFault,
    InvalidParams,
    InvalidRequest,
    ParseError,
    ResponseTooLarge,
    detached,
)
from gateway.model.values import EncodingError, by_name, in_utc, is_exact_double, legible, located, offset, plain

_BOM = b"\xef\xbb\xbf"
_SPECIFIED_CODES = frozenset({-32700, -32600, -32601, -32602, -32603})
_MAX_INT = 10**4300  # Python itself reads and writes at most 4,300 digits (CVE-2020-10735)
_MAX_BITS = _MAX_INT.bit_length() - 1  # what has no more is below it
_EVERY, _EXACT_IN_DOUBLES = 0, 53  # bits of ints that are written as numbers; 0 for any
_MINUTE = timedelta(minutes=1)
_TURN = 2000  # values that are converted in one turn
_MANY = 5000  # values from which on more than one turn is taken
_UNBOUNDED = 2**62  # bytes; the arguments of a call came by a call, which was bounded
_FAULT_ROOM = 2**20  # for the data of a fault


class JSONRPC:
    """The JSON-RPC 2.0 codec, with the limits that it keeps.

    ``int64="text"`` writes ints beyond 53 bits as texts: JavaScript reads numbers as doubles, and rounds these.
    """

    name = "jsonrpc"
    title = "JSON-RPC 2.0"
    media_types: tuple[str, ...] = ("application/json", "application/json-rpc", "application/jsonrequest")
    content_type = "application/json"
    charsets: frozenset[str] | None = frozenset({"utf-8", "utf8", "us-ascii"})
    first_bytes = b"{["
    native: tuple[type, ...] = ()
    batch_method = ""
    written_as = "JSON"

    def __init__(self, *, max_depth: int, max_batch: int, int64: str = "number") -> None:
        self._max_depth = max_depth
        self._max_batch = max_batch
        self.wide_ints = int64 == "number"
        self._bits = _EVERY if self.wide_ints else _EXACT_IN_DOUBLES
        self._scalars = _SCALARS if self.wide_ints else {kind: _SCALARS[kind] for kind in _SCALARS if kind is not int}
        self.capabilities: dict[str, dict[str, str | int]] = {}

    def decode(self, body: bytes, _charset: str | None) -> Decoded:
        """Read a request or a batch of them; anything else becomes an InvalidCall."""
        return at_once(self.decoding(body, _charset))

    def decoding(self, body: bytes, _charset: str | None) -> Turns[Decoded]:
        """Read in turns: msgspec reads all of the text in one."""
        body = body.removeprefix(_BOM)
        request = read_request(body)
        if request is not None:
            if len(body) > LARGE:
                yield
            call = call_of(request, body, self._max_depth)
            if call is not None:
                return call
        try:
            document = yield from parsing(body, self._max_depth)
        except ParseError as fault:
            return InvalidCall(fault=detached(fault))
        if type(document) is not list:
            return _entry(document)
        if not document:
            return InvalidCall(fault=InvalidRequest("a batch has at least one call"))
        if len(document) > self._max_batch:
            return InvalidCall(fault=InvalidRequest(f"limit: a batch has at most {self._max_batch} calls"))
        return Batch([_entry(member) for member in document])

    def decode_usual(self, body: bytes, _charset: str | None) -> Call | None:
        """Read a request object that has an id and no other members than those of the specification."""
        call = read_call(body, self._max_depth)
        return None if call is None or call.notification else call

    def encode(self, entry: Entry, reply: Reply, room: int) -> Answer:
        """Write a response object."""
        if reply.fault is None:
            value = reply.value
            size = size_of(value, self._max_depth, room, self._bits)
            wire = written(Response(result=value, id=entry.id), value, size)
            if wire is not None and len(wire) <= room:
                return Answer(wire=wire)
        return at_once(encoded(self, entry, reply, room))

    def encoding(self, entry: Entry, reply: Reply, room: int) -> Turns[Answer]:
        """Write in turns: to look at all values and to write them are two."""
        return encoded(self, entry, reply, room)

    def write_value(self, value: Any, call_id: Id, room: int) -> Turns[bytes]:
        """Write the response object of a result."""
        size = size_of(value, self._max_depth, room, self._bits)
        if size > _MANY:
            yield
        wire = written(Response(result=value, id=call_id), value, size)
        return (yield from self._object(b"result", value, call_id, room)) if wire is None else wire

    def write_result(self, value: Any, room: int) -> Turns[bytes]:
        """Write a result by itself, as notifications have it.

        Raises:
            ResponseTooLarge: it has more than ``room`` bytes.
            Exception: it cannot be encoded.

        """
        wire = written(value, value, size_of(value, self._max_depth, room, self._bits))
        return (yield from self._written(value, room)) if wire is None else wire

    def write_error(self, fault: Fault) -> Turns[bytes]:
        """Write the error object of a fault by itself.

        Raises:
            Exception: its data cannot be encoded.

        """
        return self._written(_error(fault), _FAULT_ROOM)

    def write_fault(self, fault: Fault, call_id: Id) -> bytes:
        """Write the response object of a fault."""
        return at_once(self._object(b"error", _error(fault), call_id, _FAULT_ROOM))

    def _object(self, name: bytes, value: Any, call_id: Any, room: int) -> Turns[bytes]:
        said = yield from self._written(value, room)
        return b'{"jsonrpc":"2.0","%b":%b,"id":%b}' % (name, said, msgspec.json.encode(call_id))

    def _written(self, value: Any, room: int) -> Turns[bytes]:
        try:
            return msgspec.json.encode((yield from self._say(value, 1, _Left(room))))
        except EncodingError as error:
            raise (yield from located(error, value, self._is_scalar, 1)) from None

    def single(self, answer: Answer) -> bytes:
        """Return the response object itself."""
        return answer.wire

    def batch(self, answers: list[Answer]) -> bytes:
        """Put the response objects into an array; without any the answer is empty (section 6)."""
        return b"[%b]" % b",".join([answer.wire for answer in answers]) if answers else b""

    def encode_call(self, method: str, params: Params, call_id: Id = None) -> bytes:
        """Write a request object for another server.

        Raises:
            InvalidParams: an argument cannot be encoded as JSON; the detail names its place.

        """
        size = size_of(params, self._max_depth - 1, _UNBOUNDED, self._bits)
        wire = written(Request(method=method, params=params, id=call_id), params, size)
        return wire or self._request({"jsonrpc": "2.0", "method": method, "params": params, "id": call_id})

    def encode_notification(self, method: str, params: Params) -> bytes:
        """Write a request object without an id, which is not answered (section 4.1)."""
        return self._request({"jsonrpc": "2.0", "method": method, "params": params})

    def encode_batch(self, calls: Sequence[Call]) -> bytes:
        """Write an array of request objects (section 6); the ids are their places, counted from 1."""
        return batches.encode(self, calls)

    def _request(self, call: dict[str, Any]) -> bytes:
        try:
            said = at_once(self._say(call, 0, _Left(_UNBOUNDED)))
        except EncodingError as error:
            found = at_once(located(error, call, self._is_scalar))
            raise InvalidParams(f"{found.place.removeprefix('.')}: cannot be encoded as JSON: {found.reason}") from None
        return msgspec.json.encode(said)

    def decode_answer(
        self, body: bytes, _charset: str | None = None, *, lenient: bool = False
    ) -> tuple[Id, Reply] | None:
        """Read a response object (section 5); an error in it is a ForeignFault, anything else a BadUpstream.

        Servers of JSON-RPC 1.0 send no ``jsonrpc``, a result beside an error, one of them null, and always an id. An
        error of 2.0 without an id is as one whose id is null. ``lenient`` takes the last of members that have the same
        name. None stands for a request object, which answers nothing.
        """
        usual = read_result(body, self._max_depth)
        if usual is not None:
            return usual
        try:
            document = parse(body.removeprefix(_BOM), self._max_depth, unique=not lenient)
        except ParseError as fault:
            return None, Reply(fault=BadUpstream(f"the response is not JSON-RPC: {fault.detail}"))
        return read_answer(document)

    def decode_batch(
        self, body: bytes, _charset: str | None = None, *, lenient: bool = False
    ) -> list[tuple[Id, Reply]] | Reply:
        """Read the response objects of a batch, in any order; one that is not in an array is about all of it."""
        try:
            document = parse(body.removeprefix(_BOM), self._max_depth, unique=not lenient)
        except ParseError as fault:
            return Reply(fault=BadUpstream(f"the response is not JSON-RPC: {fault.detail}"))
        return batches.read(document)

    def _say(self, value: Any, depth: int, left: "_Left") -> Turns[Any]:
        """Turn a value into one that JSON carries exactly (bytes as base64, datetime by RFC 3339)."""
        kind = type(value)
        check = self._scalars.get(kind)
        if check is not None:
            check(value)
            return value
        if kind is int:
            _check_int(value)
            return value if is_exact_double(value) else str(value)
        if kind is datetime:
            return value if value.tzinfo is None else _moment(value)
        if depth >= self._max_depth:
            raise self._too_deep_to_write()
        if kind is list:
            return (yield from self._say_list(value, depth + 1, left))
        if kind is dict:
            return (yield from self._say_dict(by_name(value), depth + 1, left))
        return (yield from self._say(plain(value), depth, left))

    def _say_list(self, values: list[Any], depth: int, left: "_Left") -> Turns[list[Any]]:
        left.take(len(values))
        said: list[Any] = []
        for value in values:
            check = self._scalars.get(type(value))
            if check is None:
                said.append((yield from self._say(value, depth, left)))
            else:
                check(value)
                said.append(value)
            if left.is_turn_over():
                yield
        return said

    def _say_dict(self, members: dict[str, Any], depth: int, left: "_Left") -> Turns[dict[str, Any]]:
        left.take(len(members))
        said: dict[str, Any] = {}
        for name, value in members.items():
            _check_str(name)
            check = self._scalars.get(type(value))
            if check is None:
                said[name] = yield from self._say(value, depth, left)
            else:
                check(value)
                said[name] = value
            if left.is_turn_over():
                yield
        return said

    def _is_scalar(self, value: Any, depth: int) -> bool:
        kind = type(value)
        if kind in _SCALARS:
            _SCALARS[kind](value)
        elif kind is datetime:
            _moment(value)
        elif depth >= self._max_depth:
            raise self._too_deep_to_write()
        else:
            return False
        return True

    def _too_deep_to_write(self) -> EncodingError:
        return EncodingError(f"more than {self._max_depth} levels, or the value contains itself")


class _Left:
    """What is left: the bytes that may still be written, and the values of the present turn.

    Each value takes two bytes at least, and so what holds the same values many times over is given up before it is
    written out.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._values = _TURN

    def take(self, values: int) -> None:
        self._room -= 2 * values
        if self._room < 0:
            raise ResponseTooLarge("the response exceeds the limit")

    def is_turn_over(self) -> bool:
        self._values -= 1
        if self._values:
            return False
        self._values = _TURN
        return True


def _entry(document: Any) -> Entry:
    """Make a call of a parsed request object (section 4)."""
    if type(document) is not dict:
        return InvalidCall(fault=InvalidRequest("a call is an object"))
    call_id = document.get("id")
    if type(call_id) not in ID_TYPES:
        return InvalidCall(fault=InvalidRequest("id is a string, a number or null"))
    if document.get("jsonrpc") != "2.0":
        return InvalidCall(fault=InvalidRequest('jsonrpc is exactly "2.0"'), id=call_id)
    method = document.get("method")
    if type(method) is not str:
        return InvalidCall(fault=InvalidRequest("method is a string"), id=call_id)
    params = document.get("params", [])
    if type(params) is not list and type(params) is not dict:
        return InvalidCall(fault=InvalidRequest("params is an array or an object"), id=call_id)
    return Call(method=method, params=params, id=call_id, notification="id" not in document)


def _error(fault: Fault) -> dict[str, Any]:
    """Make the error object (section 5.1)."""
    specified = isinstance(fault, GatewayFault) and fault.code in _SPECIFIED_CODES
    error: dict[str, Any] = {"code": fault.code, "message": fault.title if specified else legible(fault.message)}
    data = fault.data
    if specified and fault.detail:
        data = {"detail": legible(fault.detail), **fault.data}
    if data or (data is not None and not isinstance(fault, GatewayFault)):
        error["data"] = data
    return error


def _check_str(value: str) -> None:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise EncodingError("a string has a lone surrogate") from None


def _check_int(value: int) -> None:
    if value.bit_length() > _MAX_BITS and abs(value) >= _MAX_INT:
        raise EncodingError("the int has more than 4,300 digits")


def _check_float(value: float) -> None:
    if not isfinite(value):
        raise EncodingError(f"{value} is not a JSON number")


def _moment(value: datetime) -> datetime:
    """Leave no zone but a fixed offset of whole minutes, as RFC 3339 has it; one with seconds becomes UTC."""
    ahead = offset(value)
    if ahead is None:
        return value.replace(tzinfo=None)
    return in_utc(value).replace(tzinfo=UTC) if ahead % _MINUTE else value.replace(tzinfo=timezone(ahead))


def _sayable(value: object) -> None:
    """Check nothing: JSON can encode every value of the type."""


_SCALARS: dict[type, Callable[[Any], None]] = {
    str: _check_str,
    int: _check_int,
    float: _check_float,
    bool: _sayable,
    type(None): _sayable,
    bytes: _sayable,
}
