"""gRPC server reflection: a server describes its own services by file descriptors.

    reflected = await ask(channel, None, seconds, limits)      None where the server has no reflection

Version 1 is asked, and v1alpha where there is no other: their messages are the same on the wire. A server may list
services that it cannot describe; each of them is in ``reflected.missing`` with the reason, and the others are there.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from msgspec import Struct

from gateway.model.faults import BadUpstream
from gateway.model.limits import Limits
from gateway.upstreams.options import nearest

_VERSIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
_OTHERS = ("grpc.reflection.", "grpc.channelz.")  # services about a server
_MOST_FILES = 10_000
_MOST_SERVICES = 1_000
_MOST_SAID = 200  # characters of a reason
# With these the whole server cannot be asked; with any other status it is one service that cannot be described.
_OF_THE_SERVER = (
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)

Ask: TypeAlias = Callable[[ServerReflectionRequest], Awaitable[ServerReflectionResponse]]


class Reflected(Struct, frozen=True):
    """What a server has described.

    Attributes:
        services: the full names of the services that it has.
        files: their files, with those that they import.
        missing: the services of which there is no file, and why.

    """

    services: tuple[str, ...]
    files: tuple[FileDescriptorProto, ...]
    missing: dict[str, str]


async def ask(channel: grpc.aio.Channel, service: str | None, seconds: float, limits: Limits) -> Reflected | None:
    """Ask for the files of a service, or of all, within some seconds.

    Raises:
        BadUpstream: the response is not a description, or is too large; or the one service is not described.
        AioRpcError: the call has failed.

    """
    deadline = asyncio.get_running_loop().time() + seconds
    for version in _VERSIONS:
        try:
            return await _reflect(functools.partial(_answer, channel, version, deadline), service, limits.max_reply)
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


async def _reflect(answer: Ask, service: str | None, most: int) -> Reflected:
    found = _Files(answer, most)
    if service is not None:
        await found.gather(service)
        return Reflected((service,), tuple(found.by_name.values()), {})
    names = await _services(answer)
    missing: dict[str, str] = {}
    for name in names:
        try:
            await found.gather(name)
        except (BadUpstream, grpc.aio.AioRpcError) as error:
            if found.is_too_large or _code(error) in _OF_THE_SERVER:
                raise
            missing[name] = _reason(error)
    return Reflected(names, tuple(found.by_name.values()), missing)


class _Files:
    """The files that have come so far; at most ``most`` bytes."""

    def __init__(self, answer: Ask, most: int) -> None:
        self.by_name: dict[str, FileDescriptorProto] = {}
        self._answer = answer
        self._left = most
        self._asked: set[str] = set()

    @property
    def is_too_large(self) -> bool:
        return self._left < 0 or len(self.by_name) + len(self._asked) > _MOST_FILES

    async def gather(self, service: str) -> None:
        """Ask for the file of a service, and for the files that it imports.

        Raises:
            BadUpstream: there is none; or it is not a file, or all of them together are too large.
            AioRpcError: the call has failed.

        """
        response = await self._answer(ServerReflectionRequest(file_containing_symbol=service))
        if response.HasField("error_response"):
            listed = await _services(self._answer)
            if service in listed:
                raise BadUpstream(f"the server answers: {response.error_response.error_message or 'not found'}")
            known = ", ".join(sorted(listed)) or "none"
            raise BadUpstream(f"there is no service {service}{nearest(service, listed)} (there is: {known})")
        self._take(response)
        while missing := {name for file in self.by_name.values() for name in file.dependency} - self._known():
            for name in sorted(missing):
                self._asked.add(name)
                self._take(await self._answer(ServerReflectionRequest(file_by_filename=name)))

    def _known(self) -> set[str]:
        return self._asked | self.by_name.keys()

    def _take(self, response: ServerReflectionResponse) -> None:
        for data in response.file_descriptor_response.file_descriptor_proto:
            self._left -= len(data)
            file = _file(data)
            self.by_name.setdefault(file.name, file)
        if self.is_too_large:
            raise BadUpstream("the server's description of itself is too large")


async def _services(answer: Ask) -> tuple[str, ...]:
    response = await answer(ServerReflectionRequest(list_services=""))
    listed = [each.name for each in response.list_services_response.service]
    names = dict.fromkeys(name for name in listed if not name.startswith(_OTHERS))
    if len(names) > _MOST_SERVICES:
        raise BadUpstream(f"the server has more than {_MOST_SERVICES} services")
    return tuple(names)


def _code(error: Exception) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.aio.AioRpcError) else None


def _reason(error: Exception) -> str:
    said = error.details() or error.code().name if isinstance(error, grpc.aio.AioRpcError) else ""
    text = said or (error.detail if isinstance(error, BadUpstream) else "")
    return " ".join(text.split())[:_MOST_SAID]


def _file(data: bytes) -> FileDescriptorProto:
    try:
        return FileDescriptorProto.FromString(data)
    except DecodeError:
        raise BadUpstream("the server's reflection sends an invalid file") from None
