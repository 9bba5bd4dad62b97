"""The adapter of protobuf's generic services (``py_generic_services``), from the .proto alone.

The wire has no ids: an answer is known by the index of its method, and by its place. So a connection has one call at a
time, and whatever leaves a doubt (a deadline, a caller who has gone, an answer that nobody waits for) ends it. An
answer comes as a frame with the index of the method that was called; or as a call back, with the index of a method of
the client's own service, whose request is the answer. What else the server calls on the client is passed over.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from msgspec import Meta, Struct, field

from gateway.fleet.listing import Instance
from gateway.model.faults import BadUpstream
from gateway.model.limits import Limits
from gateway.upstreams import Failures, Invocation, Signature, UpstreamConfigError
from gateway.upstreams.faults import garbled
from gateway.upstreams.options import check_addresses, target
from gateway.upstreams.protobuf.files import ProtoOptions, Schema, from_options
from gateway.upstreams.protobuf.frames import MOST_METHODS, MethodFrames
from gateway.upstreams.protobuf.types import Types, declaration, neutral
from gateway.upstreams.protobuf.values import Values
from gateway.upstreams.transport.connection import StreamConnection
from gateway.upstreams.transport.dial import STREAM_FAILURES, open_stream
from gateway.upstreams.transport.sessions import Idle, Kept, Most, SessionPooled, pooled
from gateway.wire.framing import FrameTooLongError, FramingError


class GenericOptions(ProtoOptions, frozen=True, kw_only=True):
    """How the server answers, and whose the connections are."""

    client_service: Annotated[
        str | None, Meta(description="The full name of the service whose methods the server calls to answer.")
    ] = None
    callbacks: Annotated[
        dict[str, str], Meta(description="Which method of the client's service answers a call: method = answer.")
    ] = field(default_factory=dict)
    oneway: Annotated[tuple[str, ...], Meta(description="The methods that are not answered.")] = ()
    length_includes_itself: Annotated[
        bool, Meta(description="The length before a message counts its own four bytes, too.")
    ] = False

    session: Kept = "shared"
    sessions: Most = 100
    session_idle: Idle = 600.0

    def __post_init__(self) -> None:
        """Check the URL, and what belongs together."""
        super().__post_init__()
        check_addresses(self)
        if not self.proto and self.descriptor_set is None:
            raise ValueError("proto or descriptor_set is needed")
        if bool(self.client_service) != bool(self.callbacks):
            raise ValueError("client_service and callbacks belong together")


class _Method(Struct, frozen=True, kw_only=True):
    """A method that can be called; ``answer`` is the index and the type of what answers it, None where nothing does."""

    index: int
    request: Descriptor
    answer: tuple[int, type[Message]] | None


class ProtobufGeneric(SessionPooled["_Connection"]):
    """Calls as frames, one at a time on each connection."""

    Options: ClassVar = GenericOptions
    takes: ClassVar[Literal["list", "dict", "either"]] = "dict"
    failures: ClassVar[Failures] = {**STREAM_FAILURES, DecodeError: garbled}

    def __init__(self, options: GenericOptions, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        self._values = Values(limits.max_reply)
        self.aim(options.first)
        self._methods: dict[str, _Method] = {}
        self._passed: frozenset[int] = frozenset()
        try:
            self._known = list(self._read(Schema(from_options(options) or ())))
        except ValueError as error:
            raise UpstreamConfigError(str(error)) from None

    def aim(self, instance: Instance) -> None:
        """Have calls go to an instance."""
        self._target = target(instance)
        self._pool = pooled(self._options, self._connect)

    def known(self) -> list[Signature] | None:
        """Return what the .proto files or the descriptor set have."""
        return self._known

    async def describe(self, _: float) -> list[Signature] | None:
        """Connect; the protocol has no way to ask."""
        async with self._pool.lend():
            return self._known

    async def call(self, invocation: Invocation) -> Any:
        """Send a frame, and wait for the one that answers it."""
        method = self._methods[invocation.method]
        request = self._values.build(method.request, neutral(invocation.params)).SerializeToString()
        async with self._pool.lend(invocation) as connection:
            if method.answer is None:
                return await connection.send(invocation, method.index, request)
            index, kind = method.answer
            answer = await connection.call(invocation, method.index, request, index)
            return self._values.plain(kind.FromString(answer))

    async def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def _read(self, schema: Schema) -> Iterator[Signature]:
        """Make signatures and methods of the service, and find out what the server may send."""
        options = self._options
        service = schema.service(options.service or self._only_service(schema))
        client = schema.service(options.client_service) if options.client_service else None
        if len(service.methods) > MOST_METHODS:
            raise UpstreamConfigError(f"{service.full_name} has more than {MOST_METHODS} methods")
        self._check_names(service, client)
        if client is not None:
            answers = options.callbacks.values()
            self._passed = frozenset(method.index for method in client.methods if method.name not in answers)
        types = Types()
        for method in service.methods:
            yield self._add(method, client, types, schema)

    def _only_service(self, schema: Schema) -> str:
        names = sorted(set(schema.services) - {self._options.client_service})
        if len(names) != 1:
            raise UpstreamConfigError(f"set service to the one that is called: {', '.join(names) or 'there is none'}")
        return names[0]

    def _check_names(self, service: ServiceDescriptor, client: ServiceDescriptor | None) -> None:
        options = self._options
        for option, names, where in (
            ("oneway", options.oneway, service),
            ("callbacks", options.callbacks, service),
            ("callbacks", options.callbacks.values(), client),
        ):
            unknown = [name for name in names if where is not None and name not in where.methods_by_name]
            if unknown and where is not None:
                raise UpstreamConfigError(f"{option}: {where.full_name} has no method {unknown[0]}")
        both = set(options.oneway) & set(options.callbacks)
        if both:
            raise UpstreamConfigError(f"{min(both)} is in oneway and in callbacks: choose one")

    def _add(
        self, described: MethodDescriptor, client: ServiceDescriptor | None, types: Types, schema: Schema
    ) -> Signature:
        options = self._options
        name = described.name
        doc = schema.comment(described) or declaration(described)
        answer = described.output_type
        index = described.index
        if client is not None and name in options.callbacks:
            back = client.methods_by_name[options.callbacks[name]]
            answer, index = back.input_type, back.index
        elif client is not None and name not in options.oneway:
            return Signature(name=name, doc=doc, refused="has no response: name it in callbacks or oneway")
        is_answered = name not in options.oneway
        self._methods[name] = _Method(
            index=described.index,
            request=described.input_type,
            answer=(index, GetMessageClass(answer)) if is_answered else None,
        )
        return Signature(
            name=name,
            params=types.parameters(described.input_type),
            result=types.result(answer) if is_answered else type(None),
            doc=doc,
            only=types.only(answer) if is_answered else None,
        )

    async def _connect(self) -> "_Connection":
        frames = MethodFrames(self._limits.max_reply, length_includes_itself=self._options.length_includes_itself)
        return await open_stream(lambda: _Connection(frames, self._passed), self._target, self._options)


class _Connection(StreamConnection):
    """A connection, and the answer that is waited for on it; ``passed`` are the indexes that are not an answer."""

    def __init__(self, frames: MethodFrames, passed: frozenset[int]) -> None:
        super().__init__()
        self._frames = frames
        self._passed = passed
        self._awaited: tuple[int, asyncio.Future[bytes]] | None = None

    async def call(self, invocation: Invocation, index: int, message: bytes, answer: int) -> bytes:
        """Send a message, and wait for the one that answers it."""
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._awaited = (answer, waiting)
        self._write(invocation, index, message)
        try:
            received = await waiting
        finally:
            self._awaited = None
        invocation.sent = "yes"
        return received

    async def send(self, invocation: Invocation, index: int, message: bytes) -> None:
        """Send a message that has no response, and wait until it is sent."""
        self._write(invocation, index, message)
        await self._writable.wait()
        if self._error is not None:
            raise self._error

    def _write(self, invocation: Invocation, index: int, message: bytes) -> None:
        if not self.usable():
            raise self._error or EOFError()
        invocation.sent = "maybe"
        self._transport.write(self._frames.frame(index, message))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (called by the event loop)."""
        super().connection_made(transport)
        self._transport.set_write_buffer_limits(0)  # so that ``send`` knows when nothing is left
        self._acknowledge()

    def data_received(self, data: bytes) -> None:
        """Take what the server sends (called by the event loop)."""
        self._acknowledge()
        try:
            for index, message in self._frames.feed(data):
                self._receive(index, message)
        except FrameTooLongError:
            self._fail(BadUpstream("the response has more bytes than limits.max_reply"))
        except FramingError:
            self._fail(BadUpstream("the upstream sent an invalid frame"))
        except BadUpstream as fault:
            self._fail(fault)

    def _receive(self, index: int, message: bytes) -> None:
        awaited = self._awaited
        if awaited is not None and index == awaited[0] and not awaited[1].done():
            awaited[1].set_result(message)
        elif index not in self._passed:
            raise BadUpstream(f"the upstream sent a message that no call waits for: index {index}")

    def _pending(self) -> Iterable[asyncio.Future[Any]]:
        return () if self._awaited is None else (self._awaited[1],)
