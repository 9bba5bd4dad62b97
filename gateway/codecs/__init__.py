"""Codecs: bytes to calls, replies to bytes. No socket, no clock, no log.

A codec is made with the limits that it keeps. ``decode`` never raises: a body that is no call becomes an InvalidCall.
``encode`` never raises either: a reply that cannot be encoded becomes a fault.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from gateway.model.calls import Answer, Batch, Call, Entry, InvalidCall, Reply
from gateway.model.faults import Fault, ResponseTooLarge, detached
from gateway.model.values import encoding_error

Decoded: TypeAlias = Call | InvalidCall | Batch


class Codec(Protocol):
    """What the service asks of a protocol.

    Attributes:
        protocol: the name that contexts and logs carry.
        media_types: the Content-Types, in lower case and without parameters, that mean this protocol.
        charsets: the values of a charset parameter that are taken; None where the codec itself decides.
        first_bytes: what a body begins with whose sender did not say what it is.
        content_type: the Content-Type of an answer.

    """

    protocol: str
    media_types: frozenset[str]
    charsets: frozenset[str] | None
    first_bytes: bytes
    content_type: str

    def decode(self, body: bytes, charset: str | None) -> Decoded:
        """Read a whole body. ``charset`` is the parameter of the Content-Type, in lower case."""

    def encode(self, entry: Entry, reply: Reply, room: int) -> Answer:
        """Write one reply, as a part of a document, in at most ``room`` bytes."""

    def single(self, answer: Answer) -> bytes:
        """Make the document that answers a single call."""

    def batch(self, answers: list[Answer]) -> bytes:
        """Make the document that answers a batch."""


def encoded(
    reply: Reply,
    room: int,
    protocol: str,
    write_value: Callable[[Any], bytes],
    write_fault: Callable[[Fault], bytes],
) -> Answer:
    """Write a reply: its value, if it can be encoded in the bytes that are left, and a fault otherwise."""
    fault = reply.fault
    if fault is None:
        try:
            wire = write_value(reply.value)
            if len(wire) <= room:
                return Answer(wire=wire)
            fault = ResponseTooLarge(f"the response has {len(wire)} bytes, and {room} are left")
        except ResponseTooLarge as too_large:
            fault = detached(too_large)
        except Exception as error:  # noqa: BLE001 - code of the result itself may run here
            fault = encoding_error(error).fault(protocol)
    try:
        return Answer(wire=write_fault(fault), fault=fault)
    except Exception as error:  # noqa: BLE001 - likewise, of the fault's data
        fault = encoding_error(error).fault(protocol, "error")
        return Answer(wire=write_fault(fault), fault=fault)
