"""Calls of gRPC methods.

Calls with one request and one response go over connections of our own (unary.py). What streams, and the server's
reflection, goes over channels of grpc (line.py).

Types come from the server's own reflection, or from .proto files or a descriptor set, and then without asking it.
A method's parameters are the fields of its request; a stream of requests is one parameter, an array. A stream of
answers is collected: an array of at most ``most_messages`` and ``limits.max_reply`` bytes, for a caller is better told
that it is too long than given a part of it. A caller that subscribes gets each answer when it is there. What streams
both ways takes an array and gives one: the requests do not wait for responses. A caller that subscribes may send more
of them while it runs. What has come when the deadline ends a stream goes along with the fault.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from math import isinf
from types import GenericAlias
from typing import Any, ClassVar, Literal, Union

import grpc
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from msgspec import Struct

from gateway.fleet.listing import Instance
from gateway.model.faults import BadUpstream, DeadlineExceeded, Unavailable
from gateway.model.limits import Limits
from gateway.upstreams import Cancel, Failures, Invocation, Outcome, Parameter, Signature, UpstreamConfigError
from gateway.upstreams.faults import garbled, hung_up
from gateway.upstreams.grpc import line as lines
from gateway.upstreams.grpc import unary
from gateway.upstreams.grpc.hpack import HeaderBlocks, ProtocolError
from gateway.upstreams.grpc.line import HEALTH, Line, channel_options
from gateway.upstreams.grpc.options import GRPCOptions, read_tls
from gateway.upstreams.grpc.reflection import Reflected, ask
from gateway.upstreams.grpc.status import StatusError, told
from gateway.upstreams.grpc.unary import SHARE, Connection, UnaryCall, framed, head_of, with_along
from gateway.upstreams.names import MOST
from gateway.upstreams.options import target
from gateway.upstreams.protobuf.files import Schema, from_options
from gateway.upstreams.protobuf.types import Types, declaration, neutral
from gateway.upstreams.protobuf.values import Values
from gateway.upstreams.transport.dial import STREAM_FAILURES
from gateway.upstreams.transport.pool import Pool
from gateway.upstreams.transport.pooled import Pooled
from gateway.upstreams.transport.secret import revealed

_SENDABLE = re.compile(r"[\x20-\x7e]*")  # the value of metadata
_SERVING = b"\x08\x01"  # HealthCheckResponse, status: SERVING
_STREAM = "messages"  # the parameter of a method that takes a stream
_CLOCK = 0.005  # seconds by which a timer of the loop may be early
# What makes a call on a channel, by whether the method takes a stream, and gives one.
_CALLS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


class _Method(Struct, frozen=True, kw_only=True):
    """A method that can be called.

    Attributes:
        wrapped: the name of the request's field, where a request of a stream may be given without it.
        unwrapped: the name of the answer's field, where an answer of a stream is returned without it.
        read: makes the value of an answer of its bytes; DecodeError or BadUpstream.

    """

    path: str
    request: Descriptor
    response: type[Message]
    takes_stream: bool
    gives_stream: bool
    wrapped: str | None
    unwrapped: str | None
    read: Callable[[bytes], Any]

    @property
    def streams(self) -> bool:
        """Whether there may be another number of requests or answers than one."""
        return self.takes_stream or self.gives_stream


class GRPC(Pooled[Pool[Connection]]):
    """Calls over HTTP/2, many on each connection."""

    Options: ClassVar = GRPCOptions
    takes: ClassVar[Literal["list", "dict", "either"]] = "dict"
    unannounced: ClassVar = False
    failures: ClassVar[Failures] = {
        **STREAM_FAILURES,
        StatusError: told,
        ProtocolError: garbled,
        grpc.aio.BaseError: hung_up,  # of a channel that is closed
        DecodeError: garbled,
    }

    def __init__(self, options: GRPCOptions, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        self._values = Values(limits.max_reply)
        self._own = tuple(revealed("metadata", options.metadata, _SENDABLE).items())
        self._tls = read_tls(options) if options.is_tls else None
        self._blocks = HeaderBlocks()
        self.aim(options.first)
        self._closing: set[asyncio.Future[None]] = set()
        self._methods: dict[str, _Method] = {}
        self._known: list[Signature] | None = None
        files = from_options(options)
        if files is not None:
            try:
                schema = Schema(files)
                services = schema.services if options.service is None else (options.service,)
                self._known = [signature for service in services for signature in self._read(service, schema)]
            except ValueError as error:
                raise UpstreamConfigError(str(error)) from None

    def aim(self, instance: Instance) -> None:
        """Have calls go to an instance."""
        self._target = target(instance)
        self._heads: dict[str, bytes] = {}
        self._pool = Pool(self._connect, self._options.connections, SHARE)
        self._lines = Pool(self._connect_line, self._options.connections, SHARE)

    def connections(self) -> tuple[int, int]:
        """Count the connections, those of streams too, and the calls that wait for one."""
        (calls, waiting), (streams, waiting_too) = self._pool.load(), self._lines.load()
        return calls + streams, waiting + waiting_too

    async def check(self, _health: str, invocation: Invocation) -> None:
        """Ask the service grpc.health.v1.Health for the server as a whole.

        Raises:
            Unavailable: it says that it does not serve.
            StatusError: it has no such service, or cannot be reached.

        """
        answer = await self._called(self._unary(HEALTH, b"", bytes, invocation))
        if answer != _SERVING:
            raise Unavailable("the server says that it does not serve")

    def known(self) -> list[Signature] | None:
        """Return what the .proto files or the descriptor set have."""
        return self._known

    async def describe(self, deadline: float) -> list[Signature] | None:
        """Ask by reflection; where the types are known, only connect."""
        if self._known is not None:
            await self.reach()
            return self._known
        invocation = Invocation(method="", params={}, deadline=deadline, request_id="describe")
        line = await self._connect_line()  # for the one question; calls need another kind of connection
        try:
            async with line.calling(invocation):
                reflected = await ask(line.channel, self._options.service, invocation.time_left, self._limits)
        finally:
            line.close()
        if reflected is None:
            raise BadUpstream("the server has no reflection: name its .proto files or a descriptor_set")
        return await asyncio.to_thread(self._described, reflected)  # thousands of types take seconds

    async def call(self, invocation: Invocation) -> Any:
        """Send the request or requests, and wait for the answer or all answers."""
        method = self._methods[invocation.method]
        request = self._request(method, neutral(invocation.params))
        if not method.streams:
            return await self._called(self._unary(method.path, request, method.read, invocation))
        async with self._lines.lend(invocation) as line:
            async with line.calling(invocation):
                answer = await self._exchange(line, method, request, invocation)
            try:
                return self._answer(method, answer)
            except (BadUpstream, DecodeError):
                line.retire()
                raise

    def begin(self, invocation: Invocation, outcome: Outcome) -> Cancel | None:
        """Send the request, and have the result told later; what streams needs a coroutine."""
        method = self._methods[invocation.method]
        if method.streams:
            return None
        request = self._request(method, neutral(invocation.params))
        call = self._unary(method.path, request, method.read, invocation)
        return self._pool.lend_to(outcome, invocation, call.send).cancel

    async def stream(self, invocation: Invocation) -> AsyncGenerator[Any, None]:
        """Send the request or requests, and give each answer when it is there."""
        method = self._methods[invocation.method]
        request = self._request(method, neutral(invocation.params))
        left, more = invocation.time_left, invocation.more
        if more is not None:
            request = more.each(partial(self._message, method, place="params.message"), request)
        async with self._lines.lend(invocation) as line, line.calling(invocation):
            call: Any = getattr(line.channel, _CALLS[method.takes_stream, True])(method.path)(
                request, timeout=None if isinf(left) else left, metadata=self._metadata(invocation)
            )
            try:
                async for answer in call:
                    line.hear()
                    yield self._answer(method, [answer])[0]
            except DecodeError:
                line.retire()
                raise
            finally:
                call.cancel()

    async def close(self) -> None:
        """Close all connections."""
        self._pool.close()
        self._lines.close()
        await asyncio.gather(*self._closing)

    def _described(self, reflected: Reflected) -> list[Signature]:
        if self._options.service is None:
            return list(self._describable(reflected))
        try:
            return list(self._read(self._options.service, Schema(reflected.files)))
        except ValueError as error:
            raise BadUpstream(f"the server's reflection is incomplete: {error}") from None

    def _describable(self, reflected: Reflected) -> Iterator[Signature]:
        """Make signatures of all services that can be described, and one that is refused of each other."""
        schema = Schema(reflected.files, tolerant=True)
        missing = schema.broken | reflected.missing
        left = MOST
        for name in reflected.services:
            try:
                made = list(self._read(name, schema))
            except ValueError as error:
                yield Signature(name=name, refused=f"cannot be described: {missing.get(name, error)}")
                continue
            left -= len(made)
            if left < 0:
                raise BadUpstream(f"the server has more than {MOST} methods")
            yield from made

    def _read(self, service: str, schema: Schema) -> Iterator[Signature]:
        """Make signatures and methods of a service.

        Raises:
            ValueError: there is no such service, or its types cannot be used.

        """
        types = Types()
        for described in schema.service(service).methods:
            name = described.full_name if self._options.service is None else described.name
            yield self._add(name, described, types, schema)

    def _add(self, name: str, described: MethodDescriptor, types: Types, schema: Schema) -> Signature:
        doc = schema.comment(described) or declaration(described)
        request, response = described.input_type, described.output_type
        only = types.only(response)
        wrapped = types.only(request)
        params, message = types.parameters(request), None
        if described.client_streaming:
            each = types.message(request)
            is_plain = wrapped is not None and request.fields[0].message_type is None
            each = Union[each, wrapped[1]] if wrapped is not None and is_plain else each  # noqa: UP007 - made at run time
            params, message = (Parameter(name=_STREAM, hint=GenericAlias(list, (each,))),), each
        result = types.result(response)
        if described.server_streaming:
            result = GenericAlias(list, (only[1] if only is not None and self._options.bare else result,))
        made = GetMessageClass(response)
        self._methods[name] = _Method(
            path=f"/{described.containing_service.full_name}/{described.name}",
            request=request,
            response=made,
            takes_stream=described.client_streaming,
            gives_stream=described.server_streaming,
            wrapped=wrapped[0] if wrapped is not None else None,
            unwrapped=only[0] if only is not None and self._options.bare else None,
            read=partial(self._plain, made),
        )
        streams = described.server_streaming
        return Signature(
            name=name,
            params=params,
            result=result,
            doc=doc,
            only=None if streams else only,
            streams=streams,
            message=message if streams else None,
            is_idempotent=described.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN,
        )

    def _plain(self, kind: type[Message], data: bytes) -> Any:
        return self._values.plain(kind.FromString(data))

    def _request(self, method: _Method, params: dict[str, Any]) -> Any:
        """Make the bytes of the request, or of each of a stream.

        Raises:
            InvalidParams: a value does not fit.

        """
        if not method.takes_stream:
            return self._values.build(method.request, params).SerializeToString()
        return [
            self._message(method, each, place=f"params.{_STREAM}[{index}]")
            for index, each in enumerate(params[_STREAM])
        ]

    def _message(self, method: _Method, value: Any, *, place: str) -> bytes:
        """Make the bytes of a message of a stream."""
        plain = neutral(value)
        given = plain if type(plain) is dict or method.wrapped is None else {method.wrapped: plain}
        return self._values.build(method.request, given, place).SerializeToString()

    async def _exchange(self, line: Line, method: _Method, request: Any, invocation: Invocation) -> Any:
        kind = _CALLS[method.takes_stream, method.gives_stream]
        call: Any = getattr(line.channel, kind)(method.path)(
            request, timeout=invocation.time_left, metadata=self._metadata(invocation)
        )
        return await (self._collected(call, method, invocation) if method.gives_stream else call)

    async def _collected(self, call: Any, method: _Method, invocation: Invocation) -> list[bytes]:
        """Wait for all answers of a stream.

        Raises:
            BadUpstream: there are too many.
            DeadlineExceeded: the time is over; what has come until then is its ``data["messages"]``.

        """
        answers: list[bytes] = []
        size = 0
        try:
            async for answer in call:
                size += len(answer)
                if len(answers) == self._options.most_messages or size > self._limits.max_reply:
                    raise BadUpstream(
                        f"the response stream has more than {self._options.most_messages} messages or"
                        f" {self._limits.max_reply} bytes"
                    )
                answers.append(answer)
        except asyncio.CancelledError:
            if not answers or invocation.time_left > _CLOCK:
                raise
            raise self._cut_short(method, answers) from None
        except grpc.aio.AioRpcError as error:
            if not answers or error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            raise self._cut_short(method, answers) from None
        finally:
            call.cancel()
        return answers

    def _cut_short(self, method: _Method, answers: list[bytes]) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"the stream did not end in time; messages received: {len(answers)}",
            messages=self._answer(method, answers),
        )

    def _answer(self, method: _Method, answer: Any) -> Any:
        """Read the answer, or all answers of a stream.

        Raises:
            DecodeError: it is not what it should be.
            BadUpstream: it is nothing, or too much.

        """
        if answer is None:
            raise BadUpstream("the response has no message")
        if not method.gives_stream:
            return method.read(answer)
        values = self._values.plain_all(method.response.FromString(each) for each in answer)
        field = method.unwrapped
        return values if field is None else [None if value is None else value.get(field) for value in values]

    def _metadata(self, invocation: Invocation) -> tuple[tuple[str, str], ...]:
        return (("x-request-id", invocation.request_id), *self._own, *self._along(invocation))

    def _along(self, invocation: Invocation) -> tuple[tuple[str, str], ...]:
        """Return what goes along with this call; what gRPC cannot carry is left out."""
        return tuple((name.lower(), value) for name, value in invocation.along if _SENDABLE.fullmatch(value))

    def _unary(self, path: str, request: bytes, read: Callable[[bytes], Any], invocation: Invocation) -> UnaryCall:
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = head_of(path, self._authority(), self._own, is_tls=self._tls is not None)
        if invocation.along:
            head = with_along(head, self._along(invocation))
        return UnaryCall(head, framed(request), read, invocation)

    async def _called(self, call: UnaryCall) -> Any:
        """Send a call, and wait for what it becomes."""
        async with self._pool.lend(call.invocation) as connection:
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            stop = call.send(answer, connection)
            try:
                return await answer
            except asyncio.CancelledError:
                stop()
                raise

    def _authority(self) -> str:
        """Return what the server is told that it is called; grpc does it in the same way for streams."""
        to, name = self._target, self._name()
        return name or (f"[{to.host}]:{to.port}" if ":" in to.host else f"{to.host}:{to.port}")

    def _name(self) -> str | None:
        """Return the name of the server, where it is not that of the address."""
        return self._options.server_name or (self._target.name if self._target.name != self._target.host else None)

    async def _connect(self) -> Connection:
        to = self._target._replace(name=self._options.server_name or self._target.name)
        tls = None if self._tls is None else self._tls.context
        return await unary.connect(to, self._options, tls, self._limits.max_reply, self._blocks)

    async def _connect_line(self) -> Line:
        return await lines.connect(self._channel, self._closing, self._options.connect_timeout)

    def _channel(self) -> grpc.aio.Channel:
        to = self._target
        address = f"dns:///[{to.host}]:{to.port}" if ":" in to.host else f"dns:///{to.host}:{to.port}"
        address = f"unix:{to.path}" if to.path else address
        options = channel_options(self._limits, self._name())
        if self._tls is None:
            return grpc.aio.insecure_channel(address, options=options)
        return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(*self._tls[1:]), options=options)
