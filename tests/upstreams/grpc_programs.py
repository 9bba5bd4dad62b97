"""gRPC servers to stand behind a gateway: python -m tests.upstreams.grpc_programs [OPTION]... PORT.

The service of programs.proto, written as grpcio's users write theirs. Options: --silent is without reflection;
--reflection v1 has its newer version only, other words a broken one; --cert FILE --key FILE --ca FILE
serve TLS, and ask for the client's certificate; --gzip compresses the responses; --age MS closes connections of this
age.
"""

import argparse
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import (
    FileDescriptorResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from tests.upstreams import programs

protos, services = grpc.protos_and_services("tests/upstreams/programs.proto")


class Programs(services.ProgramsServicer):  # type: ignore[misc, name-defined]
    def add(self, request: Any, context: Any) -> Any:
        return protos.Whole(value=request.a + request.b)

    def subtract(self, request: Any, context: Any) -> Any:
        return protos.Whole(value=request.a - request.b)

    def divide(self, request: Any, context: Any) -> Any:
        return protos.Whole(value=request.a // request.b)

    def pause(self, request: Any, context: Any) -> Any:
        return protos.Real(value=programs.pause(request.value))

    def mark(self, request: Any, context: Any) -> Any:
        return protos.Whole(value=programs.mark(request.path, request.seconds))


class Values(services.ValuesServicer):  # type: ignore[misc, name-defined]
    def Echo(self, request: Any, context: Any) -> Any:  # noqa: N802 - as in the .proto
        return request

    Moment = Nothing = Anything = Echo

    def Perhaps(self, request: Any, context: Any) -> Any:  # noqa: N802 - likewise
        return protos.Perhaps_(leaf=request.leaf if request.HasField("leaf") else None)


class Streams(services.StreamsServicer):  # type: ignore[misc, name-defined]
    def Count(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - likewise
        yield from (protos.Whole(value=number) for number in range(request.value))
        if request.value < 0:
            raise ZeroDivisionError("secret")

    def Pairs(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - likewise
        yield from (protos.Two(a=number, b=-number) for number in range(request.value))

    def Sum(self, requests: Any, context: Any) -> Any:  # noqa: N802 - likewise
        return protos.Whole(value=sum(request.value for request in requests))

    def Join(self, requests: Any, context: Any) -> Any:  # noqa: N802 - likewise
        pairs = list(requests)
        return protos.Two(a=sum(pair.a for pair in pairs), b=sum(pair.b for pair in pairs))

    def Chat(self, requests: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - likewise
        """Answer each request twice, the first time before the next one is read; first be deaf, or note the end."""
        for request in requests:
            what, _, how = request.text.partition(" ")
            if what == "sleep":
                time.sleep(float(how))
            elif what == "note":
                context.add_callback(lambda path=how: Path(path).write_text("ended"))
            yield from (protos.Text(text=request.text), protos.Text(text=request.text.upper()))

    def Forever(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - likewise
        """Send without an end, and note when nobody listens any more."""
        context.add_callback(lambda: Path(request.path).write_text("ended"))
        number = 0
        while context.is_active():
            yield protos.Whole(value=number)
            number += 1
            time.sleep(request.seconds)

    def Fill(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - likewise
        yield from (protos.Text(text="x" * 10_000) for _ in range(request.value))

    def Flood(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - likewise
        yield from (protos.Text(text=text) for text in programs.flood(request.path))


class Failing(services.FailingServicer):  # type: ignore[misc, name-defined]
    def End(self, request: Any, context: Any) -> Any:  # noqa: N802 - likewise
        code = next(code for code in grpc.StatusCode if code.value[0] == request.code)
        if request.details == "rich":
            context.set_trailing_metadata((("grpc-status-details-bin", rich(request.code)),))
        context.abort(code, request.details)

    def Crash(self, request: Any, context: Any) -> Any:  # noqa: N802 - likewise
        raise ZeroDivisionError(request.text)

    def Large(self, request: Any, context: Any) -> Any:  # noqa: N802 - likewise
        return protos.Text(text="x" * request.value)

    def Told(self, request: Any, context: Any) -> Any:  # noqa: N802 - likewise
        """Return the metadata and the time left; or who calls."""
        if request.text == "peer":
            return protos.Text(text=context.peer())
        if request.text == "late":
            time.sleep(3)
            return protos.Text()
        told = dict(context.invocation_metadata())
        left = context.time_remaining()
        return protos.Text(text=f"{told[request.text]} {left is not None and left < 60}")


def part(number: int, data: bytes) -> bytes:
    """Make a field of a protobuf message that holds a string or a message."""
    return bytes([number << 3 | 2, len(data)]) + data


def rich(code: int) -> bytes:
    """Make a google.rpc.Status by hand, with a detail of each kind that matters."""
    details = {
        "RetryInfo": part(1, b"\x08\x06\x10\x01"),  # 6 s and a nanosecond
        "BadRequest": part(1, part(1, b"items[2].price") + part(2, b"must be positive")),
        "ErrorInfo": part(1, b"NO_STOCK") + part(2, b"shop.example") + part(3, part(1, b"item") + part(2, b"pen")),
        "DebugInfo": part(1, b"/srv/secret.py") + part(2, b"secret"),
        "Unheard": part(1, b"x"),
    }
    packed = (
        part(3, part(1, f"type.googleapis.com/google.rpc.{name}".encode()) + part(2, data))
        for name, data in details.items()
    )
    return bytes([8, code]) + part(2, b"rich") + b"".join(packed)


def odd_file(package: str, messages: list[str], *imports: str, method: str = "Go") -> bytes:
    """Describe a service whose methods take the first message; each message has a field of the next one's type."""
    file = FileDescriptorProto(name=f"{package}.proto", package=package, dependency=imports, syntax="proto3")
    for name, inner in zip(messages, [*messages[1:], ""], strict=True):
        message = file.message_type.add(name=name)
        if inner:
            message.field.add(name="inner", number=1, label=1, type=11, type_name=f".{package}.{inner}")
    service = file.service.add(name="Odd")
    kind = f".{package}.{messages[0]}"
    service.method.add(name=method, input_type=kind, output_type=kind)
    return file.SerializeToString()


# Services that reflection lists, and what it describes them by; of one that is not here there is nothing.
ODD: dict[str, Any] = {
    "gone.Odd": None,
    "loud.Odd": "abort",
    "bytes.Odd": b"\xff",
    "half.Odd": odd_file("half", ["A"], "nowhere.proto"),
    "loop.Odd": odd_file("loop", ["A"], "loop.proto"),
    "twice.Odd": odd_file("twice", ["A", "B", "A"]),
    "deep.Odd": odd_file("deep", [f"M{level}" for level in range(300)]),
    "long.Odd": odd_file("long", ["A"], method="Go" * 300),
    "whole.Odd": odd_file("whole", [f"M{level}" for level in range(60)]),
}


def odd_reflection(kind: str, names: list[str]) -> Any:
    """Make a reflection service of version 1: a good one, or one that says something else."""
    half = FileDescriptorProto(name="half.proto", dependency=["nowhere.proto"]).SerializeToString()
    said = {
        "nonsense": [b"\xff"],
        "nothing": [],
        "no file": [answer(file_descriptor_proto=[b"\xff"])],
        "half": [answer(file_descriptor_proto=[half])],
    }

    def talk(requests: Any, context: Any) -> Any:
        next(requests)
        yield from said[kind]

    genuine = reflection.ReflectionServicer([*names, *ODD] if kind == "partial" else names)

    def partial(requests: Any, context: Any) -> Any:
        """Describe some services in an odd way."""
        for request in requests:
            odd = ODD.get(request.file_containing_symbol)
            if odd == "abort":
                context.abort(grpc.StatusCode.INTERNAL, "it has crashed")
            yield from (
                genuine.ServerReflectionInfo(iter([request]), context)
                if odd is None
                else [ServerReflectionResponse.FromString(answer(file_descriptor_proto=[odd]))]
            )

    typed = {"v1": genuine.ServerReflectionInfo, "partial": partial}
    handler = (
        grpc.stream_stream_rpc_method_handler(
            typed[kind],
            request_deserializer=ServerReflectionRequest.FromString,
            response_serializer=ServerReflectionResponse.SerializeToString,
        )
        if kind in typed
        else grpc.stream_stream_rpc_method_handler(talk)
    )
    return grpc.method_handlers_generic_handler(
        "grpc.reflection.v1.ServerReflection", {"ServerReflectionInfo": handler}
    )


def answer(**files: Any) -> bytes:
    return ServerReflectionResponse(file_descriptor_response=FileDescriptorResponse(**files)).SerializeToString()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--gzip", action="store_true")
    parser.add_argument("--age", type=int, default=2**31 - 1)
    parser.add_argument("--reflection")
    for file in ("--cert", "--key", "--ca"):
        parser.add_argument(file, type=Path)
    parser.add_argument("port", type=int)
    chosen = parser.parse_args()
    compression = grpc.Compression.Gzip if chosen.gzip else None
    options = (("grpc.max_connection_age_ms", chosen.age),)
    server = grpc.server(futures.ThreadPoolExecutor(64), options=options, compression=compression)
    names = [f"programs.{name}" for name in ("Programs", "Values", "Streams", "Failing")]
    services.add_ProgramsServicer_to_server(Programs(), server)
    services.add_ValuesServicer_to_server(Values(), server)
    services.add_StreamsServicer_to_server(Streams(), server)
    services.add_FailingServicer_to_server(Failing(), server)
    if chosen.reflection:
        server.add_generic_rpc_handlers((odd_reflection(chosen.reflection, names),))
    elif not chosen.silent:
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
    if chosen.cert:
        credentials = grpc.ssl_server_credentials(
            [(chosen.key.read_bytes(), chosen.cert.read_bytes())],
            root_certificates=chosen.ca.read_bytes(),
            require_client_auth=True,
        )
        server.add_secure_port(f"127.0.0.1:{chosen.port}", credentials)
    else:
        server.add_insecure_port(f"127.0.0.1:{chosen.port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
