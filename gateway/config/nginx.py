"""What nginx is told beside what the gateway knows: the section ``[nginx]``. gateway/deploy/nginx.py writes it out.

Timeouts, sizes and networks that both enforce stand in ``[limits]`` and ``[access]``, once.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.model.networks import Network

_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_FILE = r'^[^"$\\\x00-\x1f\x7f]*$'
_ADDRESS = Annotated[
    str,
    Meta(
        pattern=rf"^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.*-]+):{_PORT}$",
        description="host:port, like 0.0.0.0:443 or [::]:443, with a port from 1 to 65535",
    ),
]


class NginxSection(Struct, frozen=True, kw_only=True):
    """The edge: nginx between the network and the gateway."""

    listen: Annotated[
        tuple[_ADDRESS, ...], Meta(min_length=1, description="Where it listens, for HTTPS; nowhere for plain HTTP.")
    ] = ("0.0.0.0:443", "[::]:443")
    server_name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9.-]+$",
            description="a host name; the Host of old clients that send none.",
        ),
    ] = "localhost"
    certificate: Annotated[
        str, Meta(pattern=_FILE, description='a path without ", $ and \\; a certificate and its chain, in PEM.')
    ] = "/etc/ssl/certs/callgate.pem"
    key: Annotated[
        str, Meta(pattern=_FILE, description="a path without \", $ and \\; the certificate's private key, in PEM.")
    ] = "/etc/ssl/private/callgate.key"
    tls_protocols: Annotated[
        tuple[Literal["TLSv1.2", "TLSv1.3"], ...],
        Meta(min_length=1, description="Versions of TLS that are spoken; older ones are broken."),
    ] = ("TLSv1.2", "TLSv1.3")
    servers: Annotated[
        tuple[_ADDRESS, ...], Meta(description="host:port of the gateways behind it; server.bind, here, if empty.")
    ] = ()
    proxies: Annotated[
        tuple[Network, ...],
        Meta(description="Balancers in front of it, whose X-Forwarded-For it believes; it is the edge if empty."),
    ] = ()
    buffer_bodies: Annotated[
        bool,
        Meta(
            description="Whether a body is passed on when it is complete, as uWSGI needs it. It then has no time limit"
            " as a whole, but only between two reads."
        ),
    ] = False
    connect_timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=75,
            description="Seconds to connect to a gateway; then another one is tried. It is near: five are two"
            " retransmissions.",
        ),
    ] = 5.0
    send_timeout: Annotated[
        float, Meta(gt=0, le=86400, description="Seconds in which a gateway takes nothing of a request.")
    ] = 10.0
    margin: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="Seconds that it waits for an answer beyond the longest timeout of a method, so that the caller"
            " hears of it from the gateway.",
        ),
    ] = 5.0
    rate: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Requests per second of one client; 0 for no limit. An office behind one address stays below"
            " 100.",
        ),
    ] = 100
    burst: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Requests that a client which has rested may make at once.")
    ] = 200
    connections: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Requests of one client that run at once; 0 for no limit. A hundredth of all clients.",
        ),
    ] = 100
    clients: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Clients that are connected at once; beyond them, idle connections are closed. Each takes up to"
            " two connections and a file.",
        ),
    ] = 10_000
    user: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_.-]*$",
            description="a name; whom its workers run as when root starts it, and if empty nobody is named.",
        ),
    ] = "www-data"
    access_log: Annotated[
        str, Meta(pattern=_FILE, description='a path without ", $ and \\; a line for each request, none if empty.')
    ] = "/var/log/nginx/access.log"
    error_log: Annotated[
        str, Meta(pattern=_FILE, description='a path without ", $ and \\; what goes wrong, stderr if empty.')
    ] = "/var/log/nginx/error.log"
    folder: Annotated[
        str,
        Meta(
            pattern=_FILE,
            description="a path without \", $ and \\; a folder for its process id and bodies, the system's if empty.",
        ),
    ] = ""
