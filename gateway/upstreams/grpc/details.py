"""The details of a status: what a service sends beside its code and text, in ``grpc-status-details-bin``.

    details = read(trailer)     a list of dicts, each with its type in "@type"; [] where there is nothing to read

The messages are those of google/rpc/status.proto and google/rpc/error_details.proto. DebugInfo is left out: it holds
the inside of a server. Of a type that is not known here only the name is kept.
"""

from typing import Any

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from gateway.model.faults import BadUpstream
from gateway.upstreams.protobuf.values import Values

_PACKAGE = "google.rpc"
_HIDDEN = f"{_PACKAGE}.DebugInfo"
_MOST_BYTES = 65536  # of the details as JSON; grpc itself takes 16 KiB of trailers
# The fields of each message in the order of their numbers, from 1: strings but where a type follows the name.
_MESSAGES: dict[str, tuple[str, ...]] = {
    "Status": ("code int32", "message", "details google.protobuf.Any*"),
    "ErrorInfo": ("reason", "domain", "metadata ErrorInfoMetadata*"),
    "ErrorInfoMetadata": ("key", "value"),
    "RetryInfo": ("retry_delay google.protobuf.Duration",),
    "QuotaFailure": ("violations QuotaViolation*",),
    "QuotaViolation": ("subject", "description", "api_service", "quota_metric", "quota_id"),
    "PreconditionFailure": ("violations PreconditionViolation*",),
    "PreconditionViolation": ("type", "subject", "description"),
    "BadRequest": ("field_violations FieldViolation*",),
    "FieldViolation": ("field", "description", "reason", "localized_message LocalizedMessage"),
    "RequestInfo": ("request_id", "serving_data"),
    "ResourceInfo": ("resource_type", "resource_name", "owner", "description"),
    "Help": ("links HelpLink*",),
    "HelpLink": ("description", "url"),
    "LocalizedMessage": ("locale", "message"),
}


def _classes() -> dict[str, type[Message]]:
    file = FileDescriptorProto(
        name="gateway/details.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=["google/protobuf/any.proto", "google/protobuf/duration.proto"],
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, written in enumerate(fields, 1):
            field, _, kind = written.partition(" ")
            added = message.field.add(name=field, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
            if kind.endswith("*"):
                added.label = FieldDescriptorProto.LABEL_REPEATED
            if kind in ("", "int32"):
                added.type = FieldDescriptorProto.TYPE_INT32 if kind else FieldDescriptorProto.TYPE_STRING
            else:
                named = kind.rstrip("*")
                added.type = FieldDescriptorProto.TYPE_MESSAGE
                added.type_name = f".{named}" if "." in named else f".{_PACKAGE}.{named}"
    pool = DescriptorPool()
    for module in (any_pb2, duration_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        f"{_PACKAGE}.{name}": GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _classes()


def read(trailer: bytes) -> list[dict[str, Any]]:
    """Return the details in a trailer; what cannot be read is left out, for the status itself is still an answer."""
    values = Values(_MOST_BYTES)
    try:
        status: Any = _CLASSES[f"{_PACKAGE}.Status"].FromString(trailer)
        return [_plain(each, values) for each in status.details if not each.type_url.endswith(f"/{_HIDDEN}")]
    except (DecodeError, BadUpstream):
        return []


def _plain(packed: Any, values: Values) -> dict[str, Any]:
    name = packed.type_url.rpartition("/")[2]
    kind = _CLASSES.get(name)
    fields = {} if kind is None else values.plain(kind.FromString(packed.value)) or {}
    if name == f"{_PACKAGE}.ErrorInfo":
        fields["metadata"] = {entry["key"]: entry["value"] for entry in fields["metadata"]}
    return {"@type": name, **fields}
