"""The options of nginx in front of the gateway: the section ``[nginx]``. gateway/deploy/nginx.py writes them out.

Timeouts, sizes and networks that both enforce are in ``[limits]`` and ``[access]``, once.
"""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from gateway.model.networks import Network

_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_File: TypeAlias = Annotated[str, Meta(pattern=r'^[^"$\\\x00-\x1f\x7f]*$', description='a path without ", $ and \\')]
_Listening: TypeAlias = Annotated[
    str,
    Meta(
        pattern=rf"^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.*-]+):{_PORT}$",
        description="host:port, like 0.0.0.0:443 or [::]:443, with a port from 1 to 65535",
    ),
]
_Server: TypeAlias = Annotated[
    str,
    Meta(
        pattern=rf"^(?:(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):{_PORT}|unix:/[A-Za-z0-9._/-]{{1,106}})$",
        description="host:port, like 10.0.0.11:8000, with a port from 1 to 65535, or unix:/path",
    ),
]


class NginxSection(Struct, frozen=True, kw_only=True):
    """nginx in front: "gateway nginx" prints its configuration, made from this section, [limits] and [access]."""

    listen: Annotated[
        tuple[_Listening, ...],
        Meta(
            min_length=1,
            description="The addresses for HTTPS. nginx does not listen for plain HTTP, where a caller would have sent"
            " everything, the key included, before it is refused.",
        ),
    ] = ("0.0.0.0:443", "[::]:443")
    server_name: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9.-]+$", description="a host name"),
        Meta(description="The host for old clients that send none. access.hosts says which names are served."),
    ] = "localhost"
    certificate: Annotated[_File, Meta(description="The file with the certificate and its chain, in PEM.")] = (
        "/etc/ssl/certs/callgate.pem"
    )
    key: Annotated[_File, Meta(description="The file with the certificate's private key, in PEM.")] = (
        "/etc/ssl/private/callgate.key"
    )
    tls_protocols: Annotated[
        tuple[Literal["TLSv1.2", "TLSv1.3"], ...],
        Meta(min_length=1, description="The versions of TLS; older ones are insecure."),
    ] = ("TLSv1.2", "TLSv1.3")
    servers: Annotated[
        tuple[_Server, ...],
        Meta(description="The gateways, as host:port or unix:/path; [] for server.bind on this machine."),
    ] = ()
    proxies: Annotated[
        tuple[Network, ...],
        Meta(
            description='Load balancers in front of nginx whose X-Forwarded-For it trusts, like "10.1.0.0/24"; [] if'
            " there are none."
        ),
    ] = ()
    buffer_bodies: Annotated[
        bool,
        Meta(
            description="Whether a body is passed on only when it is complete. uWSGI needs that, because a slow client"
            " would hold a thread there. The time limit is then one between two reads, and not one for the whole body."
            " The gateway itself waits for slow bodies at no cost, and limits the whole."
        ),
    ] = False
    connect_timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=75,
            description="Seconds to connect to a gateway, after which the next one is tried. Five are enough for two"
            " retransmissions.",
        ),
    ] = 5.0
    send_timeout: Annotated[
        float, Meta(gt=0, le=86400, description="Seconds without progress while a request is sent to a gateway.")
    ] = 10.0
    margin: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="Seconds that nginx waits for a response beyond the longest timeout of a method. So it is the"
            " gateway that reports a timeout.",
        ),
    ] = 5.0
    rate: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Requests per second from one address; 0 for no limit. It stops floods before they reach the"
            " gateway, whose own rates count calls. An office behind one address stays below 100.",
        ),
    ] = 100
    burst: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Requests that one address may make at once beyond nginx.rate.")
    ] = 200
    connections: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Requests from one address that run at once; 0 for no limit. A hundredth of all clients.",
        ),
    ] = 100
    clients: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Clients that are connected at once; beyond that, idle connections are closed. Each takes up to"
            " two connections and a file.",
        ),
    ] = 10_000
    user: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_.-]*$", description="a name"),
        Meta(
            description='The user that the workers run as when root starts nginx; "" if nginx is started by the user'
            " that it runs as."
        ),
    ] = "www-data"
    access_log: Annotated[
        _File,
        Meta(
            description="The log with a JSON object for each request: client, method, batch, fault code, times, bytes."
            ' "" for none.'
        ),
    ] = "/var/log/nginx/access.log"
    error_log: Annotated[_File, Meta(description='The log of errors. "" for standard error.')] = (
        "/var/log/nginx/error.log"
    )
    folder: Annotated[
        _File,
        Meta(
            description='A folder for the process id, and for bodies that do not fit into memory; "" for the system\'s.'
        ),
    ] = ""
