"""Neutral values <-> protobuf messages.

    values = Values(most)
    message = values.build(descriptor, {"item": {"name": "pen"}})    InvalidParams names the place: params.item.name
    values.plain(message)                                            {"item": {"name": "pen"}}; BadUpstream

Both ways are exact, or refused: an int64 is an int, bytes are bytes, a Timestamp is a datetime. What a type of the
.proto itself rounds is rounded: ``float`` has 24 bits, Duration has nanoseconds, and a datetime has microseconds where
a Timestamp has nanoseconds. protobuf's own JSON mapping makes strings of int64 and takes bytes for base64, so it is not
used. Names are those of the .proto; fields without presence are always there, others when they are set; None leaves a
field unset. A member that the .proto does not know is refused on the way in and passed over on the way out, as protobuf
does everywhere.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from msgspec import Struct

from gateway.model.faults import BadUpstream, InvalidParams
from gateway.upstreams.protobuf.scalars import KEYS, Scalar, scalar
from gateway.upstreams.protobuf.wellknown import WELL_KNOWN

Write: TypeAlias = Callable[[Any, Any, str], None]  # message, value, place
Read: TypeAlias = Callable[[Any, "_Size"], Any]

EMPTY = "google.protobuf.Empty"
VALUE = "google.protobuf.Value"
WHOLE = "value"  # the name of what a well-known type is, where it is all of a request or an answer


class _Field(Struct, frozen=True):
    """A field of a message, and its two ways."""

    name: str
    oneof: str | None
    presence: bool
    takes_none: bool
    write: Write
    read: Read


class _Size:
    """Counts what an answer will have at least as JSON, so that few bytes of protobuf do not become much memory."""

    def __init__(self, most: int) -> None:
        self._left = most

    def grow(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise BadUpstream("the response has more values than limits.max_reply allows")


class Values:
    """The two ways, for any number of message types; ``most`` bounds the bytes that an answer has as JSON."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._plans: dict[Descriptor, dict[str, _Field]] = {}

    def build(self, descriptor: Descriptor, params: dict[str, Any], place: str = "params") -> Message:
        """Make a message of a request's arguments.

        Raises:
            InvalidParams: a value does not fit; nothing of it is sent then.

        """
        message: Any = GetMessageClass(descriptor)()
        known = WELL_KNOWN.get(descriptor.full_name)
        if known is None:
            self._fill(message, params, place)
        elif params.get(WHOLE) is not None or descriptor.full_name == VALUE:
            known.write(message, params.get(WHOLE), f"{place}.{WHOLE}")
        if not message.IsInitialized():
            raise InvalidParams(f"{place}.{message.FindInitializationErrors()[0]}: missing")
        made: Message = message
        return made

    def plain(self, message: Message) -> dict[str, Any] | None:
        """Make a value of an answer: a dict of its fields, or None for google.protobuf.Empty.

        Raises:
            BadUpstream: it holds what has no value here, or too much.

        """
        return self._whole(message, _Size(self._most))

    def plain_all(self, messages: Iterable[Message]) -> list[dict[str, Any] | None]:
        """Make values of the answers of a stream, which together hold no more than one."""
        size = _Size(self._most)
        return [self._whole(message, size) for message in messages]

    def _whole(self, message: Message, size: _Size) -> dict[str, Any] | None:
        if not message.IsInitialized():
            raise BadUpstream("the response lacks a required field")
        descriptor = message.DESCRIPTOR
        if descriptor.full_name == EMPTY:
            size.grow(2)
            return None
        known = WELL_KNOWN.get(descriptor.full_name)
        return self._read(message, size) if known is None else {WHOLE: known.read(message)}

    def _fill(self, message: Any, given: Any, place: str) -> None:
        if type(given) is not dict:
            raise InvalidParams(f"{place}: expected a struct, got {type(given).__name__}")
        plan = self._plan(message.DESCRIPTOR)
        for name, value in given.items():
            field = plan.get(name)
            if field is None:
                raise InvalidParams(f"{place}.{name[:80]}: there is no such field")
            if value is None and not field.takes_none:
                continue
            if field.oneof is not None and message.WhichOneof(field.oneof) is not None:
                other = message.WhichOneof(field.oneof)
                raise InvalidParams(f"{place}.{name}: only one of {other} and {name} can be given")
            field.write(message, value, f"{place}.{name}")

    def _read(self, message: Any, size: _Size) -> dict[str, Any]:
        read: dict[str, Any] = {}
        plan = self._plan(message.DESCRIPTOR)
        size.grow(2)
        for name, field in plan.items():
            if not field.presence or message.HasField(name):
                size.grow(len(name) + 4)
                read[name] = field.read(getattr(message, name), size)
        return read

    def _plan(self, descriptor: Descriptor) -> dict[str, _Field]:
        plan = self._plans.get(descriptor)
        if plan is None:
            plan = self._plans[descriptor] = {field.name: self._field(field) for field in descriptor.fields}
        return plan

    def _field(self, field: FieldDescriptor) -> _Field:
        write, read = self._ways(field)
        return _Field(
            name=field.name,
            oneof=field.containing_oneof.name if field.containing_oneof is not None else None,
            presence=field.has_presence,
            takes_none=not field.is_repeated and is_value(field),
            write=write,
            read=read,
        )

    def _ways(self, field: FieldDescriptor) -> tuple[Write, Read]:
        if is_map(field):
            return self._map(field)
        if field.message_type is not None:
            write, read = self._message(field.message_type)
            return _many_messages(field.name, write, read) if field.is_repeated else (_one(field.name, write), read)
        kind = scalar(field)
        return _many_scalars(field.name, kind) if field.is_repeated else _scalar(field.name, kind)

    def _message(self, descriptor: Descriptor) -> tuple[Write, Read]:
        known = WELL_KNOWN.get(descriptor.full_name)
        if known is None:
            return self._fill, self._read

        def read(message: Any, size: _Size) -> Any:
            size.grow(known.size)
            return known.read(message)

        return known.write, read

    def _map(self, field: FieldDescriptor) -> tuple[Write, Read]:
        """Make the ways of a map, whose keys are strings here, as in JSON and XML-RPC: 7 is "7", true is "true"."""
        assert field.message_type is not None  # noqa: S101 - is_map has seen it
        name, inner = field.name, field.message_type.fields_by_name["value"]
        key = KEYS[field.message_type.fields_by_name["key"].type]
        put, read_one = self._member(inner)

        def write(message: Any, value: Any, place: str) -> None:
            if type(value) is not dict:
                raise InvalidParams(f"{place}: expected a struct, got {type(value).__name__}")
            into = getattr(message, name)
            for at, member in value.items():
                inside = f"{place}.{at[:80]}"
                put(into, key.check(at, inside), member, inside)

        def read(value: Any, size: _Size) -> dict[str, Any]:
            size.grow(6 * len(value))
            return {key.read(at): read_one(value[at], size) for at in value}

        return write, read

    def _member(self, inner: FieldDescriptor) -> tuple[Callable[[Any, Any, Any, str], None], Read]:
        """Make the ways of one value of a map."""
        if inner.message_type is None:
            kind = scalar(inner)

            def put_scalar(into: Any, key: Any, value: Any, place: str) -> None:
                into[key] = kind.check(value, place)

            return put_scalar, _reader(kind)
        write, read = self._message(inner.message_type)

        def put_message(into: Any, key: Any, value: Any, place: str) -> None:
            write(into[key], value, place)

        return put_message, read


def is_map(field: FieldDescriptor) -> bool:
    """Tell whether a field is a map."""
    return field.message_type is not None and field.is_repeated and field.message_type.GetOptions().map_entry


def is_value(field: FieldDescriptor) -> bool:
    """Tell whether a field can hold null itself."""
    return field.message_type is not None and field.message_type.full_name == VALUE


def _one(name: str, write: Write) -> Write:
    def write_one(message: Any, value: Any, place: str) -> None:
        inside = getattr(message, name)
        inside.SetInParent()
        write(inside, value, place)

    return write_one


def _many_messages(name: str, write: Write, read: Read) -> tuple[Write, Read]:
    def write_all(message: Any, value: Any, place: str) -> None:
        into = getattr(message, name)
        for index, each in enumerate(_listed(value, place)):
            write(into.add(), each, f"{place}[{index}]")

    return write_all, lambda value, size: [read(each, size) for each in value]


def _scalar(name: str, kind: Scalar) -> tuple[Write, Read]:
    def write(message: Any, value: Any, place: str) -> None:
        setattr(message, name, kind.check(value, place))

    return write, _reader(kind)


def _reader(kind: Scalar) -> Read:
    """Read a scalar; a name of an enum can be much longer than its number."""

    def read(value: Any, size: _Size) -> Any:
        made = kind.read(value)
        if kind.is_named and type(made) is str:
            size.grow(len(made))
        return made

    return read


def _many_scalars(name: str, kind: Scalar) -> tuple[Write, Read]:
    def write(message: Any, value: Any, place: str) -> None:
        listed = _listed(value, place)
        getattr(message, name).extend([kind.check(each, f"{place}[{index}]") for index, each in enumerate(listed)])

    read_one = _reader(kind)

    def read(value: Any, size: _Size) -> list[Any]:
        size.grow(2 * len(value))
        return [read_one(each, size) for each in value] if kind.is_named else [kind.read(each) for each in value]

    return write, read


def _listed(value: Any, place: str) -> list[Any]:
    if type(value) is not list:
        raise InvalidParams(f"{place}: expected an array, got {type(value).__name__}")
    return value
