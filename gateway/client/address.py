"""Where a server is: a URL as it is written -> an Address.

    http://host:port/path       https://...      http+unix://%2Frun%2Fgateway.sock/path
    ws://host:port/ws           wss://...        JSON-RPC over WebSocket, for AsyncClient
    tcp://host:port             tcp+tls://...    tcp+unix:///run/gateway.sock        JSON-RPC without HTTP

Each may begin with its protocol: xmlrpc+https://host/RPC2, jsonrpc+tcp://host:port. NAME:KEY@ before the host is sent
as Basic authorization, and never shown.
"""

import base64
import re
from urllib.parse import quote, unquote, unquote_to_bytes

from msgspec import Struct

_URL = re.compile(
    r"(?:([a-z0-9]+)\+)?(https?|http\+unix|wss?|tcp|tcp\+tls|tcp\+unix)://(?:([^/?#]*)@)?([^/?#]*)([^#]*)(?:#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::([0-9]{1,5}))?", re.ASCII)
_SAFE = "/%:@!$&'()*+,;=~?"  # in a path and a query, beside letters and digits (RFC 3986, section 3.3)
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_EXAMPLE = "it must begin with http:// or https://, as http://127.0.0.1:8000/api"


class Address(Struct, frozen=True, kw_only=True):
    """Where a server is.

    Attributes:
        url: as it is shown, without a name and a key.
        protocol: what the URL begins with; None where it does not say.
        is_http: whether HTTP is spoken.
        is_tls: whether TLS is.
        is_websocket: whether HTTP is left for WebSocket.
        host: to connect to; empty for a Unix socket.
        port: likewise.
        path: of a Unix socket; empty for a host.
        target: of an HTTP request: path and query, quoted.
        authority: the value of Host.
        authorization: the value of Authorization that the URL gives; empty without one.

    """

    url: str
    protocol: str | None
    is_http: bool
    is_tls: bool
    is_websocket: bool
    host: str
    port: int
    path: str
    target: str
    authority: str
    authorization: str


def address_of(url: str) -> Address:
    """Read a URL.

    Raises:
        ValueError: it is not one to call; the text does not show a name or a key.

    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(f"{url.rpartition('@')[2]} is not a URL to call: {_EXAMPLE}")
    protocol, scheme, credentials, host, rest = found.groups()
    if "@" in rest and not _HOST.fullmatch(host):
        raise ValueError("in NAME:KEY@ of the URL, the characters / ? # must be percent-encoded: %2F, %3F, %23")
    scheme = scheme.lower()
    prefix = f"{protocol}+" if protocol else ""
    shown = f"{prefix}{scheme}://{host}{rest}"
    is_websocket = scheme in ("ws", "wss")
    is_http = is_websocket or scheme.startswith("http")
    is_unix = scheme.endswith("unix")
    name, port = ("", 0) if is_unix else _host_and_port(shown, host, _PORTS.get(scheme))
    path = "" if not is_unix else unquote(host) if is_http else unquote(rest)
    if is_unix and (not path or (not is_http and host)):
        example = "http+unix://%2Frun%2Fgateway.sock/api" if is_http else "tcp+unix:///run/gateway.sock"
        raise ValueError(f"{shown} has no path of a socket, as {example}")
    if not is_http and not is_unix and rest.strip("/"):
        raise ValueError(f"{shown} has a path, which plain TCP has not, as tcp://127.0.0.1:31415")
    if credentials is not None and not is_http:
        raise ValueError(f"{shown} has no place for a name and a key: only HTTP has")
    return Address(
        url=shown,
        protocol=protocol.lower() if protocol else None,
        is_http=is_http,
        is_tls=scheme in ("https", "wss", "tcp+tls"),
        is_websocket=is_websocket,
        host=name,
        port=port,
        path=path,
        target=quote(rest if rest.startswith("/") else f"/{rest}", safe=_SAFE),
        authority="localhost" if is_unix else _authority(name, host),
        authorization="" if credentials is None else basic(unquote_to_bytes(credentials)),
    )


def _host_and_port(shown: str, host: str, default: int | None) -> tuple[str, int]:
    found = _HOST.fullmatch(host)
    if found is None:
        raise ValueError(f"{shown} is not a URL to call: {host!r} is not a host and a port")
    name, port = found[1].strip("[]"), int(found[2]) if found[2] else default
    if not name:
        raise ValueError(f"{shown} has no host, as http://127.0.0.1:8000/api")
    if port is None or not 0 < port < 65536:
        raise ValueError(f"{shown} has no port from 1 to 65535")
    if not name.isascii() or ".." in name or name.startswith("."):
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"{shown} is not a URL to call: {name!r} is not the name of a host") from None
    return name, port


def _authority(name: str, host: str) -> str:
    return host if host.isascii() else f"{name}{host[host.rindex(':') :]}" if ":" in host else name


def basic(credentials: bytes) -> str:
    """Return the value of Authorization for ``name:password``."""
    return f"Basic {base64.b64encode(credentials).decode('ascii')}"
