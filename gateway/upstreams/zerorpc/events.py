"""ZeroRPC's events in MessagePack: [header, name, args], version 3 of its protocol.

pack(name, args, id)             a call, or with ``response_to`` an event on its way
checked(args)                    InvalidParams for what MessagePack cannot say, by its place
unpack(body)                     an event that was received, its value as it is
neutral(value, depth)            that value, if it is a neutral one; BadUpstream otherwise
"""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from gateway.model.faults import BadUpstream, InvalidParams
from gateway.model.values import EncodingError

MORE, HEARTBEAT = "_zpc_more", "_zpc_hb"
_VERSION = 3
_INTS = range(-(2**63), 2**64)
_PLAIN = frozenset({type(None), bool, float, bytes, datetime})

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[dict[Any, Any], Any, msgspec.Raw])


class Event(Struct, frozen=True):
    """What has come: whose it is, what it is, and its arguments or value, which nobody has looked at."""

    response_to: Any
    name: str
    packed: msgspec.Raw


def pack(name: str, args: list[Any], message_id: bytes, response_to: bytes | None = None) -> bytes:
    """Make an event."""
    header: dict[str, Any] = {"message_id": message_id, "v": _VERSION}
    if response_to is not None:
        header["response_to"] = response_to
    return _encoder.encode([header, name, args])


def checked(args: list[Any]) -> list[Any]:
    """Return arguments that MessagePack can say.

    Raises:
        InvalidParams: it cannot.

    """
    try:
        _check(args)
    except EncodingError as error:
        raise InvalidParams(f"params{error.place}: cannot be sent as MessagePack: {error.reason}") from None
    return args


def _check(value: Any) -> None:
    kind = type(value)
    if kind is int and value not in _INTS:
        raise EncodingError("an int beyond 64 bits")
    if kind is str:
        _check_text(value)
    elif kind is datetime:
        raise EncodingError("a datetime; send it as text or a number")
    elif kind is list:
        for index, item in enumerate(value):
            _check_inside(f"[{index}]", item)
    elif kind is dict:
        for name, item in value.items():
            _check_text(name)
            _check_inside(f".{name[:80]}", item)


def _check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise EncodingError("the text has a lone surrogate") from None


def _check_inside(step: str, value: Any) -> None:
    try:
        _check(value)
    except EncodingError as error:
        raise error.inside(step) from None


def unpack(body: bytes) -> Event:
    """Read an event.

    Raises:
        BadUpstream: it is none.

    """
    try:
        header, name, packed = _decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, TypeError, ValueError):
        raise BadUpstream("the response is not an event of ZeroRPC") from None
    return Event(header.get("response_to"), name if type(name) is str else "", packed)


def value(event: Event) -> Any:
    """Read the arguments or the value of an event.

    Raises:
        BadUpstream: it is not MessagePack, or a text in it is not UTF-8.

    """
    try:
        return msgspec.msgpack.decode(event.packed)
    except (msgspec.MsgspecError, RecursionError, TypeError, ValueError):
        raise BadUpstream("the response is not MessagePack, or has a text that is not UTF-8") from None


def neutral(value: Any, depth: int) -> Any:
    """Return a value of at most ``depth`` levels, if all of it is neutral.

    Raises:
        BadUpstream: it is not; the place is named.

    """
    try:
        _judge(value, depth)
    except EncodingError as error:
        raise BadUpstream(f"result{error.place}: {error.reason}") from None
    return value


def _judge(value: Any, depth: int) -> None:
    kind = type(value)
    if kind in (str, int) or kind in _PLAIN:
        return
    if kind not in (list, dict):
        raise EncodingError("an extension type of MessagePack")
    if depth == 0:
        raise EncodingError("nested too deeply")
    if kind is list:
        for index, item in enumerate(value):
            _judge_inside(f"[{index}]", item, depth - 1)
        return
    for name, item in value.items():
        if type(name) is not str:
            raise EncodingError(f"the name of a member must be a string, not {type(name).__name__}")
        _judge_inside(f".{name[:80]}", item, depth - 1)


def _judge_inside(step: str, value: Any, depth: int) -> None:
    try:
        _judge(value, depth)
    except EncodingError as error:
        raise error.inside(step) from None
