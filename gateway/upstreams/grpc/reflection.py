"""gRPC server reflection: what a server tells of its own services, as file descriptors.

    files = await ask(channel, None, seconds, limits)      FileDescriptorProtos; None where the server has no reflection

Asked by version 1, and by v1alpha where there is no other: their messages are the same on the wire. A server may list
services that it cannot describe, the reflection service itself among them; those are left out.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from gateway.model.faults import BadUpstream
from gateway.model.limits import Limits

_VERSIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
_OTHERS = ("grpc.reflection.", "grpc.channelz.")  # services about a server
_MOST_FILES = 10_000

Ask: TypeAlias = Callable[[ServerReflectionRequest], Awaitable[ServerReflectionResponse]]


async def ask(
    channel: grpc.aio.Channel, service: str | None, seconds: float, limits: Limits
) -> list[FileDescriptorProto] | None:
    """Return the files of a service, or of all, with those that they import, within some seconds.

    Raises:
        BadUpstream: what it tells is no description.
        AioRpcError: the call has failed.

    """
    deadline = asyncio.get_running_loop().time() + seconds
    for version in _VERSIONS:
        try:
            return await _files(functools.partial(_answer, channel, version, deadline), service, limits.max_reply)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
    return None


async def _answer(
    channel: grpc.aio.Channel, version: str, deadline: float, request: ServerReflectionRequest
) -> ServerReflectionResponse:
    """Ask one question, on a stream of its own: grpc may report a stream that the server ends early as broken."""
    method: Any = channel.unary_stream(f"/{version}/ServerReflectionInfo")
    call = method(request.SerializeToString(), timeout=deadline - asyncio.get_running_loop().time())
    try:
        return _decoded(await call.read())
    finally:
        call.cancel()


def _decoded(data: object) -> ServerReflectionResponse:
    if not isinstance(data, bytes):
        raise BadUpstream("the server's reflection ends without a response")
    try:
        return ServerReflectionResponse.FromString(data)
    except DecodeError:
        raise BadUpstream("the server's reflection sends an invalid response") from None


async def _files(answer: Ask, service: str | None, most: int) -> list[FileDescriptorProto]:
    found: dict[str, FileDescriptorProto] = {}
    names = [service] if service else await _services(answer)
    wanted = [ServerReflectionRequest(file_containing_symbol=name) for name in names]
    asked: set[str] = set()
    while wanted:
        response = await answer(wanted.pop())
        for data in response.file_descriptor_response.file_descriptor_proto:
            file = _file(data)
            most -= len(data)
            found[file.name] = file
        if most < 0 or len(found) + len(asked) > _MOST_FILES:
            raise BadUpstream("the server's description of itself is too large")
        missing = {name for file in found.values() for name in file.dependency} - found.keys() - asked
        if not wanted:
            wanted = [ServerReflectionRequest(file_by_filename=name) for name in sorted(missing)]
            asked |= missing
    return list(found.values())


async def _services(answer: Ask) -> Iterable[str]:
    response = await answer(ServerReflectionRequest(list_services=""))
    return [each.name for each in response.list_services_response.service if not each.name.startswith(_OTHERS)]


def _file(data: bytes) -> FileDescriptorProto:
    try:
        return FileDescriptorProto.FromString(data)
    except DecodeError:
        raise BadUpstream("the server's reflection sends an invalid file") from None
