"""HTTP towards upstreams: a body in a POST, the body of the answer, or what stands in FAILURES.

    wire = HTTP(options, "text/xml", limits.max_reply)
    charset, body = await wire.post(data, invocation)

One session for each upstream, made at its first call, with at most ``connections`` connections. No cookies, no
redirects, no compression, no proxy of the environment: what is called is what is configured. An answer's status is no
answer of the protocol: a body is read with 200 and with the statuses of an error, for several servers send their faults
with those; the codec tells whether it is one.
"""

import ssl
from typing import Annotated, Any

import aiohttp
from msgspec import Meta, field

from gateway.faults import BadUpstream
from gateway.upstreams import Failures, Invocation, NoBridge
from gateway.upstreams.options import Options
from gateway.upstreams.remote import garbled, hung_up, unreachable

_USER_AGENT = "rpc-gateway"
_MOST_HEADER = 8190  # bytes of a line of a head
_KEPT = 4.0  # seconds that an idle connection is kept; many a server closes it after 5


class HTTPOptions(Options, frozen=True, kw_only=True):
    """What an upstream over HTTP can have beside the common options."""

    headers: Annotated[
        dict[str, Annotated[str, Meta(pattern=r"^[^\r\n\0]*$", description="a header's value, on one line")]],
        Meta(description="Headers of each request, like Authorization."),
    ] = field(default_factory=dict)
    ca: Annotated[str | None, Meta(description="A file of certificates; the servers signed by them are trusted.")] = (
        None
    )
    cert: Annotated[str | None, Meta(description="A file with our certificate, and its key if ``key`` has none.")] = (
        None
    )
    key: Annotated[str | None, Meta(description="A file with the key of our certificate.")] = None


FAILURES: Failures = {
    aiohttp.ClientConnectorError: unreachable,
    aiohttp.ConnectionTimeoutError: unreachable,
    aiohttp.ClientSSLError: unreachable,
    aiohttp.ClientConnectionError: hung_up,  # ServerDisconnectedError among them
    aiohttp.ClientPayloadError: garbled,
    aiohttp.ClientResponseError: garbled,
    aiohttp.ClientError: garbled,
    OSError: unreachable,
}


class HTTP:
    """The connections to one server."""

    def __init__(self, options: HTTPOptions, content_type: str, most: int) -> None:
        self._options = options
        self._url = options.url.partition("+")[2]
        self._most = most
        self._tls = _tls(options)
        self._headers = {
            "User-Agent": _USER_AGENT,
            "Accept-Encoding": "identity",
            **options.headers,
            "Content-Type": content_type,
        }
        self._session: aiohttp.ClientSession | None = None

    async def post(self, data: bytes, invocation: Invocation) -> tuple[str | None, bytes]:
        """Send a body, and return the charset and the body of the answer.

        Raises:
            BadUpstream: the answer is a redirect, compressed, or too long.
            Exception: one of FAILURES.

        """
        session = self._session or self._open()
        headers = {
            "X-Request-ID": invocation.exchange_id,
            "X-Request-Timeout": f"{max(invocation.time_left, 1e-3):.3f}",
        }
        request = session.post(
            self._url, data=data, headers=headers, allow_redirects=False, trace_request_ctx=invocation
        )
        async with request as response:
            if 300 <= response.status < 400 or response.headers.get("Content-Encoding", "identity") != "identity":
                raise BadUpstream(f"it answers with the HTTP status {response.status}, or compressed")
            body = await _bounded(response, self._most)
            invocation.sent = "yes"
            if response.status != 200 and not body.strip():
                raise BadUpstream(f"it answers with the HTTP status {response.status} and nothing else")
            return _charset(response), body

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_sent)  # which comes when the head is ready, before its first byte
        options = self._options
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=options.connections, keepalive_timeout=_KEPT, ssl=self._tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers=self._headers,
            skip_auto_headers=("Accept",),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=options.connect_timeout),
            max_line_size=_MOST_HEADER,
            max_field_size=_MOST_HEADER,
            trust_env=False,
            trace_configs=[trace],
        )
        return self._session


class _Connector(aiohttp.TCPConnector):
    """Connections that are in their place: aiohttp would take what came on an idle one for the next call's answer."""

    async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
        """Pass over connections that have something to read before anything was asked."""
        for _ in range(self.limit):
            connection = await super().connect(*args, **kwargs)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()
        return await super().connect(*args, **kwargs)  # a new one by now


async def _note_sent(_: aiohttp.ClientSession, context: object, __: object) -> None:
    invocation = getattr(context, "trace_request_ctx", None)
    assert isinstance(invocation, Invocation)  # noqa: S101 - post gives it
    invocation.sent = "maybe"


async def _bounded(response: aiohttp.ClientResponse, most: int) -> bytes:
    too_long = BadUpstream(f"its answer has more than {most} bytes")
    if (response.content_length or 0) > most:
        raise too_long
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > most:
            raise too_long
        chunks.append(chunk)
    return b"".join(chunks)


def _charset(response: aiohttp.ClientResponse) -> str | None:
    return response.charset.lower() if response.charset else None


def _tls(options: HTTPOptions) -> ssl.SSLContext | bool:
    if not options.url.partition("://")[0].lower().endswith("https"):
        if options.ca or options.cert or options.key:
            raise NoBridge("ca, cert and key are for a url with https")
        return True
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.cert is not None:
            context.load_cert_chain(options.cert, options.key)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(file for file in (options.ca, options.cert, options.key) if file is not None)
        raise NoBridge(f"the certificates in {named} cannot be read: {str(error.strerror or error).lower()}") from None
    return context
