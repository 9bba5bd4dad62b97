"""The options of a gRPC server in gateway.toml, and the files that TLS needs."""

import re
import ssl
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

from msgspec import Meta, field

from gateway.model.secrets import Secret
from gateway.upstreams import UpstreamConfigError
from gateway.upstreams.options import check_addresses
from gateway.upstreams.protobuf.files import ProtoOptions
from gateway.upstreams.transport.along import ClientAddress, Forward, IdempotencyKey, Identity, check_along

_OWN = frozenset({"te", "content-type", "user-agent", "connection", "host", "x-request-id"})
_KEY = re.compile(r"(?!grpc-)[a-z0-9_.-]+(?<!-bin)")
_TABLE = "a table of names in small letters and texts in ASCII"
_Key: TypeAlias = Annotated[str, Meta(pattern=r"^(?!grpc-)[a-z0-9_.-]+(?<!-bin)$", description=_TABLE)]
_Text: TypeAlias = Annotated[str, Meta(pattern=r"^[\x20-\x7e]*$", description=_TABLE)]


class GRPCOptions(ProtoOptions, frozen=True, kw_only=True):
    """How the server is reached, and what it is told with each call."""

    metadata: Annotated[
        dict[_Key, _Text | Secret],
        Meta(description="Metadata of each call, like authorization; { file = ... } and { env = ... } are read."),
    ] = field(default_factory=dict)
    forward: Forward = ()
    identity: Identity = ""
    client_address: ClientAddress = ""
    idempotency_key: IdempotencyKey = ""
    ca: Annotated[
        str | None, Meta(description="A file of certificates; the servers signed by them are trusted, and no others.")
    ] = None
    cert: Annotated[str | None, Meta(description="A file with our certificate.")] = None
    key: Annotated[str | None, Meta(description="A file with the key of our certificate.")] = None
    server_name: Annotated[
        str | None, Meta(description="The name in the server's certificate, if it is not the one in the url.")
    ] = None
    most_messages: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Messages of a stream that are collected; a longer one is a fault.")
    ] = 1000

    def __post_init__(self) -> None:
        """Check the URL, and what belongs to TLS."""
        super().__post_init__()
        check_addresses(self)
        check_along(self, self.metadata, _OWN)
        for name in (*self.forward, self.identity, self.client_address, self.idempotency_key):
            if name and not _KEY.fullmatch(name.lower()):
                raise ValueError(f"{name} cannot be the name of metadata of gRPC")
        if not self.is_tls and (self.ca or self.cert or self.key or self.server_name):
            raise ValueError("ca, cert, key and server_name are for a url with grpcs")
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key belong together")

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.form.lower().startswith("grpcs:")


class TLS(NamedTuple):
    """What TLS needs: for calls, and the same in files for streams, which grpc connects itself."""

    context: ssl.SSLContext
    ca: bytes | None
    key: bytes | None
    cert: bytes | None


def read_tls(options: GRPCOptions) -> TLS:
    """Read the certificates that we trust, our key, and our certificate.

    Raises:
        UpstreamConfigError: they cannot be read, or are none; grpc itself says so only when it connects, and not which.

    """
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.cert is not None:
            context.load_cert_chain(options.cert, options.key)
        context.set_alpn_protocols(["h2"])
        ca, key, cert = (_contents(file) for file in (options.ca, options.key, options.cert))
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(file for file in (options.ca, options.cert, options.key) if file is not None)
        raise UpstreamConfigError(f"the certificates in {named} cannot be read: {error.strerror or error}") from None
    return TLS(context, ca, key, cert)


def _contents(file: str | None) -> bytes | None:
    return None if file is None else Path(file).read_bytes()
