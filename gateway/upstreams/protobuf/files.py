"""Where message types come from: .proto files, or a set of descriptors that was made of them.

    files = from_options(options)      what [upstreams.NAME] names; None where it names nothing
    schema = Schema(files)             a pool of their own, never protobuf's global one
    schema.service("calc.Calculator")  a service by its full name
    schema.comment(method)             what the .proto says above a method

protoc, which grpcio-tools brings, runs in a process of its own: within this one it writes its complaints past Python.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from msgspec import Meta

from gateway.upstreams import Options, UpstreamConfigError
from gateway.upstreams.options import nearest

_SERVICE_FIELD, _METHOD_FIELD = 6, 2  # in FileDescriptorProto and ServiceDescriptorProto, which make a comment's path
_DEEPEST = 100  # files that import each other in a row
_MOST_SAID = 1000  # characters of what protoc says
_PROTOC_TIME = 60.0  # seconds
_CHATTER = re.compile(r"WARNING: All log messages before|[IWE]\d{4} ")  # of the library that protoc logs with
_OWN = (  # files that every .proto may import, and that a server need not have
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)


class ProtoOptions(Options, frozen=True, kw_only=True):
    """Where the message types come from, and which service is meant.

    Raises:
        ValueError: the types are named twice, or ``methods`` are named, which have types.

    """

    proto: Annotated[tuple[str, ...], Meta(description="The .proto files of the service.")] = ()
    include: Annotated[
        tuple[str, ...], Meta(description="Folders where .proto files and their imports are; else the first one's own.")
    ] = ()
    descriptor_set: Annotated[
        str | None, Meta(description="A file of protoc --include_imports --descriptor_set_out, instead of proto.")
    ] = None
    service: Annotated[
        str | None,
        Meta(description="The full name of the one service that is called; its methods need no more than their names."),
    ] = None

    def __post_init__(self) -> None:
        """Check what excludes each other."""
        super().__post_init__()
        if self.proto and self.descriptor_set:
            raise ValueError("use proto or descriptor_set, not both")
        if self.include and not self.proto:
            raise ValueError("include needs proto")
        if self.methods:
            raise ValueError("the service's own description names the methods; choose among them with expose and hide")


class Schema:
    """Files in a pool. With ``tolerant``, those that cannot be used are left out.

    Attributes:
        broken: why a service of ``files`` is left out.

    Raises:
        ValueError: a file is missing, or is not a valid one.

    """

    def __init__(self, files: Iterable[FileDescriptorProto], *, tolerant: bool = False) -> None:
        self.broken: dict[str, str] = {}
        self._pool = DescriptorPool()
        self._comments: dict[str, str] = {}
        self._services: dict[str, ServiceDescriptor] = {}
        by_name = {module.DESCRIPTOR.name: _own(module.DESCRIPTOR.serialized_pb) for module in _OWN}
        by_name |= {file.name: file for file in files}
        added: set[str] = set()
        for name, file in by_name.items():
            try:
                self._add(name, by_name, added, ())
            except ValueError as error:
                if not tolerant:
                    raise
                self.broken |= {_full_name(file, service.name): str(error) for service in file.service}

    @property
    def services(self) -> Iterable[str]:
        """The full names of the services."""
        return self._services

    def service(self, name: str) -> ServiceDescriptor:
        """Return a service.

        Raises:
            ValueError: there is none of this name.

        """
        if name not in self._services:
            known = ", ".join(sorted(self._services)) or "none"
            raise ValueError(f"there is no service {name}{nearest(name, self._services)} (there is: {known})")
        return self._services[name]

    def comment(self, method: MethodDescriptor) -> str:
        """Return what is written above a method; nothing where the comments have not come along."""
        return self._comments.get(method.full_name, "")

    def _add(self, name: str, files: dict[str, FileDescriptorProto], added: set[str], above: tuple[str, ...]) -> None:
        """Add a file behind those that it imports."""
        if name in added:
            return
        if name in above or len(above) > _DEEPEST:
            raise ValueError(f"{name} imports itself, or is behind more than {_DEEPEST} imports")
        if name not in files:
            raise ValueError(f"{above[-1]} imports {name}, which is missing")
        file = files[name]
        for imported in file.dependency:
            self._add(imported, files, added, (*above, name))
        added.add(name)
        try:
            self._pool.Add(file)
        except TypeError as error:
            raise ValueError(f"{name} is not a valid file: {str(error)[:_MOST_SAID]}") from None
        for service in file.service:
            full_name = _full_name(file, service.name)
            self._services[full_name] = self._pool.FindServiceByName(full_name)
        self._comments |= _comments(file)


def _own(serialized: bytes) -> FileDescriptorProto:
    return FileDescriptorProto.FromString(serialized)


def _full_name(file: FileDescriptorProto, name: str) -> str:
    return f"{file.package}.{name}" if file.package else name


def _comments(file: FileDescriptorProto) -> dict[str, str]:
    found = {}
    for location in file.source_code_info.location:
        match list(location.path):
            case [field, s, inner, m] if (field, inner) == (_SERVICE_FIELD, _METHOD_FIELD):
                service = file.service[s]
                text = "\n".join(line.strip() for line in location.leading_comments.strip().splitlines())
                found[f"{_full_name(file, service.name)}.{service.method[m].name}"] = text
    return found


def from_options(options: ProtoOptions) -> list[FileDescriptorProto] | None:
    """Read the files that the configuration names.

    Raises:
        UpstreamConfigError: they cannot be read, or protoc refuses them.

    """
    if options.proto:
        return _read_set(_compiled(options), ", ".join(options.proto))
    if options.descriptor_set is None:
        return None
    try:
        data = Path(options.descriptor_set).read_bytes()
    except OSError as error:
        raise UpstreamConfigError(f"{options.descriptor_set} cannot be read: {str(error.strerror).lower()}") from None
    return _read_set(data, options.descriptor_set)


def _read_set(data: bytes, place: str) -> list[FileDescriptorProto]:
    try:
        files = list(FileDescriptorSet.FromString(data).file)
    except DecodeError:
        files = []
    if not files:
        raise UpstreamConfigError(
            f"{place} has no descriptors; make it with protoc --include_imports --descriptor_set_out"
        )
    return files


def _compiled(options: ProtoOptions) -> bytes:
    """Run protoc."""
    if importlib.util.find_spec("grpc_tools") is None:
        raise UpstreamConfigError(
            "proto needs the package grpcio-tools: pip install '.[protobuf]' in the gateway's clone,"
            " or name a descriptor_set"
        )
    for file in options.proto:
        if not Path(file).is_file():
            raise UpstreamConfigError(f"there is no file {file}")
    folders = options.include or (str(Path(options.proto[0]).parent),)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "descriptors"
        flags = ("--include_imports", "--include_source_info", f"--descriptor_set_out={out}")
        paths = [f"-I{path}" for path in folders]
        command = [sys.executable, "-m", "grpc_tools.protoc", *paths, *flags, *options.proto]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PROTOC_TIME, check=False)  # noqa: S603 - no shell; the files are the operator's
        except subprocess.TimeoutExpired:
            raise UpstreamConfigError(
                f"protoc has not read {', '.join(options.proto)} within {_PROTOC_TIME:g} s"
            ) from None
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line and not _CHATTER.match(line)]
            raise UpstreamConfigError(f"protoc: {'; '.join(said)[:_MOST_SAID]}")
        return out.read_bytes()
