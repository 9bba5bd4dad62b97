"""Calls of gRPC methods.

Types come from the server's own reflection, or from .proto files or a descriptor set, and then without asking it.
A method's parameters are the fields of its request; a stream of requests is one parameter, an array. A stream of
answers is collected: an array of at most ``most_messages`` and ``limits.max_reply`` bytes, for a caller is better told
that it is too long than given a part of it. A caller that subscribes gets each answer when it is there. What streams
both ways takes an array and gives one: the requests do not wait for responses. What has come when the deadline ends a
stream goes along with the fault.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
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
from gateway.upstreams import Failures, Invocation, Parameter, Signature, UpstreamConfigError
from gateway.upstreams.faults import garbled, hung_up, unreachable
from gateway.upstreams.grpc.line import HEALTH, SHARE, Line, channel_options, connect
from gateway.upstreams.grpc.options import GRPCOptions, read_tls
from gateway.upstreams.grpc.reflection import Reflected, ask
from gateway.upstreams.grpc.status import StatusError, told
from gateway.upstreams.names import MOST
from gateway.upstreams.options import target
from gateway.upstreams.protobuf.files import Schema, from_options
from gateway.upstreams.protobuf.types import Types, declaration, neutral
from gateway.upstreams.protobuf.values import Values
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

    """

    path: str
    request: Descriptor
    response: type[Message]
    takes_stream: bool
    gives_stream: bool
    wrapped: str | None
    unwrapped: str | None


class GRPC(Pooled[Pool[Line]]):
    """Calls over HTTP/2, many on each connection."""

    Options: ClassVar = GRPCOptions
    takes: ClassVar[Literal["list", "dict", "either"]] = "dict"
    unannounced: ClassVar = False
    failures: ClassVar[Failures] = {
        StatusError: told,
        grpc.aio.BaseError: hung_up,  # of a channel that is closed
        DecodeError: garbled,
        OSError: unreachable,  # TimeoutError among them
    }

    def __init__(self, options: GRPCOptions, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        self._values = Values(limits.max_reply)
        self._own = tuple(revealed("metadata", options.metadata, _SENDABLE).items())
        self.aim(options.first)
        self._closing: set[asyncio.Future[None]] = set()
        self._methods: dict[str, _Method] = {}
        self._known: list[Signature] | None = None
        self._tls = read_tls(options) if options.is_tls else None
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
        self._pool = Pool(self._connect, self._options.connections, SHARE)

    async def check(self, _health: str, invocation: Invocation) -> None:
        """Ask the service grpc.health.v1.Health for the server as a whole.

        Raises:
            Unavailable: it says that it does not serve.
            StatusError: it has no such service, or cannot be reached.

        """
        async with self._pool.lend(invocation) as line, line.calling(invocation):
            ask: Any = line.channel.unary_unary(HEALTH)
            answer = await ask(b"", timeout=invocation.time_left, metadata=self._metadata(invocation))
        if answer != _SERVING:
            raise Unavailable("the server says that it does not serve")

    def known(self) -> list[Signature] | None:
        """Return what the .proto files or the descriptor set have."""
        return self._known

    async def describe(self, deadline: float) -> list[Signature] | None:
        """Ask by reflection; where the types are known, only connect."""
        invocation = Invocation(method="", params={}, deadline=deadline, request_id="describe")
        async with self._pool.lend() as line:
            if self._known is not None:
                return self._known
            async with line.calling(invocation):
                reflected = await ask(line.channel, self._options.service, invocation.time_left, self._limits)
        if reflected is None:
            raise BadUpstream("the server has no reflection: name its .proto files or a descriptor_set")
        return await asyncio.to_thread(self._described, reflected)  # thousands of types take seconds

    async def call(self, invocation: Invocation) -> Any:
        """Send the request or requests, and wait for the answer or all answers."""
        method = self._methods[invocation.method]
        request = self._request(method, neutral(invocation.params))
        async with self._pool.lend(invocation) as line:
            async with line.calling(invocation):
                answer = await self._exchange(line, method, request, invocation)
            try:
                return self._answer(method, answer)
            except (BadUpstream, DecodeError):
                line.retire()
                raise

    async def stream(self, invocation: Invocation) -> AsyncGenerator[Any, None]:
        """Send the request or requests, and give each answer when it is there."""
        method = self._methods[invocation.method]
        request = self._request(method, neutral(invocation.params))
        left = invocation.time_left
        async with self._pool.lend(invocation) as line, line.calling(invocation):
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
        params = types.parameters(request)
        if described.client_streaming:
            each = types.message(request)
            is_plain = wrapped is not None and request.fields[0].message_type is None
            each = Union[each, wrapped[1]] if wrapped is not None and is_plain else each  # noqa: UP007 - made at run time
            params = (Parameter(name=_STREAM, hint=GenericAlias(list, (each,))),)
        result = types.result(response)
        if described.server_streaming:
            result = GenericAlias(list, (only[1] if only is not None and self._options.bare else result,))
        self._methods[name] = _Method(
            path=f"/{described.containing_service.full_name}/{described.name}",
            request=request,
            response=GetMessageClass(response),
            takes_stream=described.client_streaming,
            gives_stream=described.server_streaming,
            wrapped=wrapped[0] if wrapped is not None else None,
            unwrapped=only[0] if only is not None and self._options.bare else None,
        )
        streams = described.server_streaming
        return Signature(
            name=name,
            params=params,
            result=result,
            doc=doc,
            only=None if streams else only,
            streams=streams,
            is_idempotent=described.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN,
        )

    def _request(self, method: _Method, params: dict[str, Any]) -> Any:
        """Make the bytes of the request, or of each of a stream.

        Raises:
            InvalidParams: a value does not fit.

        """
        if not method.takes_stream:
            return self._values.build(method.request, params).SerializeToString()
        wrapped = method.wrapped
        return [
            self._values.build(
                method.request,
                each if type(each) is dict or wrapped is None else {wrapped: each},
                f"params.{_STREAM}[{index}]",
            ).SerializeToString()
            for index, each in enumerate(params[_STREAM])
        ]

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
            return self._values.plain(method.response.FromString(answer))
        values = self._values.plain_all(method.response.FromString(each) for each in answer)
        field = method.unwrapped
        return values if field is None else [None if value is None else value.get(field) for value in values]

    def _metadata(self, invocation: Invocation) -> tuple[tuple[str, str], ...]:
        along = ((name.lower(), value) for name, value in invocation.along if _SENDABLE.fullmatch(value))
        return (("x-request-id", invocation.request_id), *self._own, *along)

    async def _connect(self) -> Line:
        return await connect(self._channel, self._closing, self._options.connect_timeout)

    def _channel(self) -> grpc.aio.Channel:
        to = self._target
        address = f"dns:///[{to.host}]:{to.port}" if ":" in to.host else f"dns:///{to.host}:{to.port}"
        address = f"unix:{to.path}" if to.path else address
        name = self._options.server_name or (to.name if to.name != to.host else None)
        options = channel_options(self._limits, name)
        if self._tls is None:
            return grpc.aio.insecure_channel(address, options=options)
        return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(*self._tls), options=options)
