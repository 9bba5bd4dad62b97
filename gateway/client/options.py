"""What a client is told beside the URL, for all calls and for some.

Options        of a client
CallOptions    of ``client.using(...)``, too
"""

import ssl
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, Literal, TypeAlias, TypedDict

from gateway.client.address import Address, basic
from gateway.client.errors import reason_of
from gateway.codecs import CODECS, Codec
from gateway.wire.framing import FRAMINGS
from gateway.wire.http_grammar import TOKEN

Headers: TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str]]
File: TypeAlias = str | PathLike[str]

_FRAMING = frozenset(
    {"connection", "content-length", "content-encoding", "expect", "te", "transfer-encoding", "upgrade"}
)
_MIB = 2**20


class CallOptions(TypedDict, total=False):
    """What may differ from call to call.

    Attributes:
        timeout: seconds that a call may take, with everything: waiting for a connection, making it, second attempts.
            The server is told in X-Request-Timeout. 60 by default.
        idempotent: whether a call may run twice, so that it is tried again when nobody knows whether it has run.
            Otherwise only what was certainly not sent is. False by default.
        retries: how often a call is tried again. 2 by default.
        headers: further headers, or a function that returns them for each call, as for a trace. They win over all
            others, and those of ``using`` are added to those of the client.

    """

    timeout: float
    idempotent: bool
    retries: int
    headers: Headers


class Options(CallOptions, total=False):
    """What a client is told.

    Attributes:
        protocol: "jsonrpc" or "xmlrpc"; the URL may say it, too (``xmlrpc+http://...``). "jsonrpc" by default.
        key: an API key, sent as a Bearer token.
        auth: a name and a password, sent as Basic authorization, like NAME:KEY@ in the URL.
        ca: a file of certificates in PEM; the servers signed by them are trusted. The system's by default.
        cert: a file with our certificate for servers that ask for one; ``cert_key`` is the file of its key, if that is
            not in it.
        verify: whether the server's certificate is checked. True by default.
        tls: a context of one's own, in the place of these four.
        connections: at once, at most; other calls wait for one. 8 by default.
        connect_timeout: seconds to make a connection. 10 by default.
        compress_above: bytes from which a request is sent as gzip; the server must read it. Never by default.
        framing: of plain TCP: "json", "newline" or "netstring". "json" by default.
        max_response: bytes of a response, before and after unpacking. 64 MiB by default.
        lenient: whether some of what servers get wrong is read: of members with the same name the last counts, and in
            XML-RPC empty and zero dates and doubles that are not finite are None. False by default.
        nil: whether an XML-RPC server reads ``<nil/>``; otherwise None is refused as an argument. True by default.
        i8: whether it reads ``<i8>``; otherwise ints beyond 32 bits are refused. True by default.
        subscriptions: the names of the methods that make and end subscriptions over WebSocket: "rpc" for rpc.subscribe,
            "eth" for eth_subscribe. "rpc" by default.

    """

    protocol: str
    key: str | None
    auth: tuple[str, str] | None
    ca: File | None
    cert: File | None
    cert_key: File | None
    verify: bool
    tls: ssl.SSLContext | None
    connections: int
    connect_timeout: float
    compress_above: int | None
    framing: Literal["json", "newline", "netstring"]
    max_response: int
    lenient: bool
    nil: bool
    i8: bool
    subscriptions: Literal["rpc", "eth"]


DEFAULTS = Options(
    timeout=60.0,
    idempotent=False,
    retries=2,
    headers={},
    protocol="jsonrpc",
    key=None,
    auth=None,
    ca=None,
    cert=None,
    cert_key=None,
    verify=True,
    tls=None,
    connections=8,
    connect_timeout=10.0,
    compress_above=None,
    framing="json",
    max_response=64 * _MIB,
    lenient=False,
    nil=True,
    i8=True,
    subscriptions="rpc",
)
_DEPTH = 200  # levels of nesting of a response: the largest limits.max_depth of a gateway
_ABOVE_ZERO = ("timeout", "connections", "connect_timeout", "max_response")


def checked(given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Check the options of a client or of ``using``.

    Raises:
        TypeError: there is no such option.
        ValueError: one is out of its range, or not a header.

    """
    for name in given:
        if name not in known:
            raise TypeError(f"there is no option {name!r}; there are {', '.join(known)}")
    for name in _ABOVE_ZERO:
        if name in given and not given[name] > 0:
            raise ValueError(f"{name} must be above 0")
    if given.get("framing", "json") not in FRAMINGS:
        raise ValueError(f"framing must be one of {', '.join(FRAMINGS)}")
    if given.get("subscriptions", "rpc") not in ("rpc", "eth"):
        raise ValueError("subscriptions must be one of rpc, eth")
    headers = given.get("headers", {})
    if not callable(headers):
        check_headers(headers)


def check_headers(headers: Mapping[str, str]) -> None:
    """Check headers of the caller's own.

    Raises:
        ValueError: a name or a value is not one, or is the client's own affair. No value is shown: it may be a key.

    """
    for name, value in headers.items():
        if not TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} in headers is not the name of a header")
        if name.lower() in _FRAMING:
            raise ValueError(f"{name} in headers cannot be chosen: the client sets it")
        if not all(c == "\t" or c.isprintable() for c in value) or not value.isascii():
            raise ValueError(f"the header {name} must be in printable ASCII characters")


def codec_of(options: Options, address: Address) -> Codec:
    """Make the codec of a client.

    Raises:
        ValueError: there is no such protocol, or not over this transport.

    """
    name = address.protocol or options["protocol"]
    if name not in CODECS:
        raise ValueError(f"there is no protocol {name!r}; there are {', '.join(sorted(CODECS))}")
    if name != "jsonrpc" and (address.is_websocket or not address.is_http):
        over = "WebSocket" if address.is_websocket else "plain TCP"
        raise ValueError(f"{address.url}: over {over}, only JSON-RPC is spoken")
    own: dict[str, Any] = {}
    if name == "xmlrpc":
        own = {"none": "nil" if options["nil"] else "fault", "i8": options["i8"]}
    return CODECS[name](max_depth=_DEPTH, max_batch=1, **own)


def authorization_of(options: Options, address: Address) -> str:
    """Return the value of Authorization; empty for none.

    Raises:
        ValueError: there are two, or one that nobody could send.

    """
    key, auth = options["key"], options["auth"]
    if (key is not None) + (auth is not None) + bool(address.authorization) > 1:
        raise ValueError("the key is given twice: in the URL, as key or as auth; choose one")
    if (key is not None or auth is not None) and not address.is_http:
        raise ValueError(f"{address.url} has no place for a key: only HTTP has")
    if key is not None:
        if not key or not all("!" <= c <= "~" for c in key):
            raise ValueError("a key has printable ASCII characters without blanks")
        return f"Bearer {key}"
    return basic(":".join(auth).encode()) if auth is not None else address.authorization


def tls_of(options: Options, address: Address) -> ssl.SSLContext | None:
    """Make the TLS context of a client; None where TLS is not spoken.

    Raises:
        ValueError: a file cannot be read, or is not needed.

    """
    files = [options["ca"], options["cert"], options["cert_key"]]
    if not address.is_tls:
        if any(file is not None for file in files) or options["tls"] is not None or not options["verify"]:
            raise ValueError(
                "ca, cert, cert_key, verify and tls need a URL that begins with https://, wss:// or tcp+tls://"
            )
        return None
    if options["tls"] is not None:
        return options["tls"]
    try:
        context = ssl.create_default_context(cafile=options["ca"])
    except OSError as error:
        raise ValueError(f"{options['ca']}: it cannot be read as certificates in PEM: {reason_of(error)}") from None
    if options["cert"] is not None:
        try:
            context.load_cert_chain(options["cert"], options["cert_key"])
        except OSError as error:
            named = " and ".join(str(file) for file in files[1:] if file is not None)
            raise ValueError(f"{named}: no certificate and key can be read: {reason_of(error)}") from None
    if not options["verify"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
