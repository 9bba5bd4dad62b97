"""Connections to upstreams over TCP, and TLS on them.

    tls = client_context(options)                                  UpstreamConfigError: a file cannot be read
    connection = await open_stream(make, target, options, tls)     OSError

``STREAM_FAILURES`` is what becomes of their exceptions.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Annotated, TypeVar

from msgspec import Meta

from gateway.upstreams import Failures, UpstreamConfigError
from gateway.upstreams.faults import hung_up, unreachable
from gateway.upstreams.options import Options, Target, check_addresses
from gateway.upstreams.transport.addresses import connect, resolve

P = TypeVar("P", bound=asyncio.Protocol)

# What an adapter's table of failures has about connections. A refusal is a ConnectionError, too.
STREAM_FAILURES: Failures = {
    OSError: unreachable,
    ConnectionRefusedError: unreachable,
    ConnectionError: hung_up,
    EOFError: hung_up,
}


class TLSOptions(Options, frozen=True, kw_only=True):
    """Whom we trust, and who we are, where the URL is one of TLS: https, or a scheme that ends with +tls."""

    ca: Annotated[str | None, Meta(description="A file of certificates; the servers signed by them are trusted.")] = (
        None
    )
    cert: Annotated[str | None, Meta(description="A file with our certificate, and its key if ``key`` has none.")] = (
        None
    )
    key: Annotated[str | None, Meta(description="A file with the key of our certificate.")] = None


class StreamOptions(TLSOptions, frozen=True, kw_only=True):
    """What an upstream has whose URL is an address and no more."""

    def __post_init__(self) -> None:
        """Check that it is one."""
        super().__post_init__()
        check_addresses(self)


def client_context(options: TLSOptions) -> ssl.SSLContext | None:
    """Make the context of connections, which verifies the server's certificate and name; None where TLS is not spoken.

    Raises:
        UpstreamConfigError: a file cannot be read, or is not needed.

    """
    scheme = options.form.partition("://")[0].lower()
    if not scheme.endswith(("https", "+tls")):
        if options.ca or options.cert or options.key:
            encrypted = f"{scheme}s" if scheme.endswith("http") else f"{scheme.removesuffix('+tcp')}+tls"
            raise UpstreamConfigError(f"ca, cert and key are for a url with {encrypted}")
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.cert is not None:
            context.load_cert_chain(options.cert, options.key)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(file for file in (options.ca, options.cert, options.key) if file is not None)
        raise UpstreamConfigError(
            f"the certificates in {named} cannot be read: {str(error.strerror or error).lower()}"
        ) from None
    return context


async def open_stream(make: Callable[[], P], target: Target, options: Options, tls: ssl.SSLContext | None = None) -> P:
    """Connect, within ``connect_timeout``. An address that is silent does not hold up the next one of its name.

    Raises:
        OSError: the name does not resolve, no server responds in time, or the certificate is not trusted.

    """
    async with asyncio.timeout(options.connect_timeout):
        name = target.name if tls else None
        loop = asyncio.get_running_loop()
        if target.path:
            _, connection = await loop.create_unix_connection(make, target.path, ssl=tls, server_hostname=name)
            return connection
        connected = await connect(await resolve(target.host, target.port))
        _, connection = await loop.create_connection(make, sock=connected, ssl=tls, server_hostname=name)
    return connection
