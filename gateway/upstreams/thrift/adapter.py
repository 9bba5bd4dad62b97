"""The adapter of Thrift services: their methods come from a .thrift file, and no code is generated.

One call at a time on each connection, because replies come in order; the number and name of a reply are compared with
those of the call all the same. A connection is lent again only after a whole reply, and closed if anything interferes.
"""

import itertools
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from msgspec import Meta

from gateway.fleet.listing import Instance
from gateway.model.calls import current_context
from gateway.model.faults import BadUpstream, Fault, InvalidParams, MethodNotFound
from gateway.model.limits import Limits
from gateway.model.values import EncodingError
from gateway.upstreams import Failures, Invocation, Signature, UpstreamConfigError
from gateway.upstreams.faults import FAILED, safe
from gateway.upstreams.options import nearest, target
from gateway.upstreams.thrift.binary import BinaryReader, BinaryWriter
from gateway.upstreams.thrift.compact import CompactReader, CompactWriter
from gateway.upstreams.thrift.connection import Connection
from gateway.upstreams.thrift.decoding import decode
from gateway.upstreams.thrift.encoding import encode
from gateway.upstreams.thrift.hints import signature
from gateway.upstreams.thrift.idl import load
from gateway.upstreams.thrift.types import SCALARS, Field, Record, ThriftMethod
from gateway.upstreams.thrift.wire import CALL, EXCEPTION, ONEWAY, REPLY, MisreadError, Reader, Source, Writer
from gateway.upstreams.transport.dial import STREAM_FAILURES, StreamOptions, client_context, open_stream
from gateway.upstreams.transport.pool import Pool
from gateway.upstreams.transport.pooled import Pooled

_Reply: TypeAlias = tuple[Any, Fault | None]

_PROTOCOLS: dict[str, tuple[type[Writer], type[Reader]]] = {
    "binary": (BinaryWriter, BinaryReader),
    "compact": (CompactWriter, CompactReader),
}
_APPLICATION_EXCEPTION = Record(
    word="TApplicationException",
    fields={
        1: Field("message", SCALARS["string"]),
        2: Field("type", SCALARS["i32"]),
    },
)
_UNKNOWN, _MISSING_RESULT = 0, 5
# The types of Thrift's own exception, by which a server says that it did not run a call; others mean that it failed.
APPLICATION_EXCEPTIONS: dict[int, type[Fault]] = {
    _UNKNOWN: Fault,
    1: MethodNotFound,  # UNKNOWN_METHOD
    2: BadUpstream,  # INVALID_MESSAGE_TYPE
    3: BadUpstream,  # WRONG_METHOD_NAME
    4: BadUpstream,  # BAD_SEQUENCE_ID
    _MISSING_RESULT: Fault,
    6: Fault,  # INTERNAL_ERROR
    7: BadUpstream,  # PROTOCOL_ERROR
    8: BadUpstream,  # INVALID_TRANSFORM
    9: BadUpstream,  # INVALID_PROTOCOL
    10: BadUpstream,  # UNSUPPORTED_CLIENT_TYPE
}
_SAID: dict[type[Fault], str] = {
    Fault: FAILED,
    MethodNotFound: "the upstream has no such method",
    BadUpstream: "the upstream did not understand the call",
}


class ThriftOptions(StreamOptions, frozen=True, kw_only=True):
    """The service, and the form of its messages."""

    idl: Annotated[str, Meta(description="The .thrift file of the service.")]
    includes: Annotated[
        tuple[str, ...], Meta(description="Folders of included files that are not beside the file that includes them.")
    ] = ()
    service: Annotated[str, Meta(description="The service in the file; needed if it has several.")] = ""
    protocol: Annotated[Literal["binary", "compact"], Meta(description="How values are written.")] = "binary"
    transport: Annotated[
        Literal["buffered", "framed"], Meta(description="framed: each message begins with its length.")
    ] = "buffered"
    multiplexed: Annotated[
        bool, Meta(description="The server has several services and expects a name in each call.")
    ] = False


class Thrift(Pooled[Pool[Connection]]):
    """Calls as messages, one at a time on each connection."""

    Options: ClassVar = ThriftOptions
    takes: ClassVar[Literal["list", "dict", "either"]] = "either"
    failures: ClassVar[Failures] = STREAM_FAILURES

    def __init__(self, options: ThriftOptions, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        self._methods = load(options.idl, options.service, options.includes)
        self._writer, self._reader = _PROTOCOLS[options.protocol]
        self._prefix = f"{options.service}:" if options.multiplexed else ""
        self._numbers = itertools.cycle(range(1, 2**31))
        self._tls = client_context(options)
        self.aim(options.first)
        if options.multiplexed and not options.service:
            raise UpstreamConfigError("multiplexed needs the name of the service: service = ...")
        for name in options.methods:
            if name not in self._methods:
                raise UpstreamConfigError(f"the file {options.idl} has no method {name}{nearest(name, self._methods)}")

    def aim(self, instance: Instance) -> None:
        """Have calls go to an instance."""
        self._target = target(instance)
        self._pool = Pool(self._connect, self._options.connections)

    def known(self) -> list[Signature] | None:
        """Return all methods of the service."""
        return [signature(method) for method in self._methods.values()]

    async def describe(self, deadline: float) -> list[Signature] | None:
        """Make a connection; there is no method that every service has."""
        async with self._pool.lend():
            return self.known()

    async def call(self, invocation: Invocation) -> Any:
        """Send a message, and wait for the reply with its number."""
        method = self._methods[invocation.method]
        number = next(self._numbers)
        message = self._message(method, number, invocation)

        async def read(source: Source) -> _Reply:
            return await _reply(self._reader(source), method, number, self._limits.max_depth)

        async with self._pool.lend(invocation) as connection:
            try:
                reply = await connection.call(message, invocation, None if method.oneway else read)
            except MisreadError as error:
                raise BadUpstream(f"response{error.place}: {error.reason}" if error.place else error.reason) from None
        value, fault = reply or (None, None)
        if fault is not None:
            raise fault
        return value

    async def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def _message(self, method: ThriftMethod, number: int, invocation: Invocation) -> bytes:
        writer = self._writer()
        writer.message(ONEWAY if method.oneway else CALL, self._prefix + method.name, number)
        try:
            encode(method.args, invocation.params, writer, textual=bytes not in current_context().native)
        except EncodingError as error:
            raise InvalidParams(f"params{error.place}: {error.reason}") from None
        return bytes(writer.data)

    async def _connect(self) -> Connection:
        framed = self._options.transport == "framed"
        return await open_stream(
            lambda: Connection(self._limits.max_reply, framed=framed), self._target, self._options, self._tls
        )


async def _reply(reader: Reader, method: ThriftMethod, number: int, depth: int) -> _Reply:
    """Read a reply: a value, or a fault.

    Raises:
        MisreadError: it is not a reply to this call.

    """
    kind, name, answered = await reader.message()
    if answered != number or name.rpartition(":")[2] != method.name:
        raise MisreadError("the response is for another call")
    if kind == EXCEPTION:
        return _application_exception(await decode(_APPLICATION_EXCEPTION, reader, depth))
    if kind != REPLY:
        raise MisreadError("the message is not a response")
    fields = await decode(method.reply, reader, depth + 1)
    for field_number, field in method.reply.fields.items():
        if field.name in fields:
            value = fields[field.name]
            return (value, None) if field_number == 0 else (None, _thrown(field, value))
    return None, None  # void, or nothing: a Python service has returned None


def _application_exception(said: dict[str, Any]) -> _Reply:
    """Turn Thrift's own exception into a fault; the text of a service is passed on, that of its library is not."""
    kind = said.get("type", _UNKNOWN)
    if kind == _MISSING_RESULT:
        return None, None
    fault = APPLICATION_EXCEPTIONS.get(kind, Fault)
    words = safe(said.get("message", "")) if kind == _UNKNOWN else _SAID[fault]
    return None, fault(words)


def _thrown(field: Field, value: dict[str, Any]) -> Fault:
    """Turn a declared exception into a fault: its first text as the message, all of it as the data."""
    words = next((text for text in value.values() if type(text) is str and text), field.type.word)
    return Fault(safe(words), data={"type": field.type.word, "value": value})
