"""Where the gateway listens, and what it serves: the sections ``[server]`` and ``[tls]`` of the configuration."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

_PORT = "(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_SOCKET = r"unix:/[^,\s]{1,106}|fd:(?:[3-9]|[1-9][0-9]{1,6})|systemd"
_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*"
_Bound: TypeAlias = Annotated[
    str,
    Meta(
        pattern=rf"^(?:(\[[0-9a-fA-F:.]+\]|[^:\s/,]*):{_PORT}|{_SOCKET})$",
        description="host:port, like 127.0.0.1:8000, with a port from 0, which takes a free one, to 65535;"
        " [::1]:8000 for IPv6, :8000 for all addresses; unix:/path for a Unix socket; fd:3 for a socket"
        " that the process has inherited; systemd for all that systemd passes.",
    ),
]
_Function: TypeAlias = Annotated[str, Meta(pattern=rf"^{_NAME}$", description="a function, module:function")]
URLPath: TypeAlias = Annotated[
    str, Meta(pattern=r"^/[A-Za-z0-9._~%@:+=/-]*$", description="a path that begins with a slash")
]
OptionalAddress: TypeAlias = Annotated[
    str,
    Meta(
        pattern=rf"^(?:(\[[0-9a-fA-F:.]+\]|[^:\s/]*):{_PORT})?$",
        description="host:port, like 127.0.0.1:9464, with a port from 0, which takes a free one, to 65535, or nothing",
    ),
]
OptionalFunction: TypeAlias = Annotated[
    str, Meta(pattern=rf"^(?:{_NAME})?$", description="module:function, or nothing")
]


class ServerSection(Struct, frozen=True, kw_only=True):
    """Where the gateway listens, and what it serves."""

    bind: Annotated[
        tuple[_Bound, ...],
        Meta(
            min_length=1,
            description="The address to listen on, host:port, or a list of several. Port 0 takes a free one; [::1]:8000"
            " is IPv6; :8000 stands for all addresses. unix:/run/callgate/gateway.sock is a Unix socket, fd:3 a socket"
            " that the process has inherited, and systemd all sockets that systemd passes. The default can only be"
            " reached from this machine. Without the section [access], everybody who reaches it may call.",
            examples=[":8000", ["127.0.0.1:8000", "unix:/run/callgate/gateway.sock"]],
        ),
    ] = ("127.0.0.1:8000",)
    unix_mode: Annotated[
        str,
        Meta(pattern="^[0-7]{3}$", description="three octal digits, like 660"),
        Meta(
            description="The permissions of Unix sockets, in octal: who may write to the file may call. 660 is the"
            " owner and the group."
        ),
    ] = "660"
    paths: Annotated[
        tuple[URLPath, ...],
        Meta(
            min_length=1,
            description="The paths that calls are POSTed to. All of them are the same, and the first one is printed at"
            " the start. /api is the gateway's own; the others are the usual paths of XML-RPC and JSON-RPC clients.",
        ),
    ] = ("/api", "/RPC2", "/jsonrpc", "/")
    modules: Annotated[
        tuple[str, ...],
        Meta(
            description="The modules whose methods are served: a package (all modules in it), package.module, or"
            " module:registry. With [], only upstreams are served."
        ),
    ] = ("handlers",)
    middleware: Annotated[
        tuple[_Function, ...],
        Meta(
            description="The middleware of all methods: async functions (call, context, next), as module:function; the"
            " first one is the outermost."
        ),
    ] = ()
    app: Annotated[
        str,
        Meta(pattern=rf"^(?:{_NAME})?$", description="module:application"),
        Meta(
            description="An application of Tornado that answers what is not a call, as module:application, on the same"
            ' addresses; "" for none. GET and HEAD of server.paths are its, too.'
        ),
    ] = ""
    tcp: Annotated[
        OptionalAddress,
        Meta(
            description='The address for JSON-RPC over plain TCP: host:port, like "127.0.0.1:31415"; "" for none. Hosts'
            " and ports are written as in server.bind."
        ),
    ] = ""
    tcp_framing: Annotated[
        Literal["json", "newline", "netstring"],
        Meta(
            description="How messages over plain TCP are separated. json: a text ends with its last bracket, whatever"
            " is between two texts (a newline, white space, a NUL, nothing). newline: one on each line. netstring: like"
            ' "5:hello,".'
        ),
    ] = "json"
    workers: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        Meta(
            description='Processes that serve; "auto" starts one for each core. Each process loads the modules and has'
            " its own memory, and a caller reaches any of them."
        ),
    ] = 1
    grace: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Seconds from SIGTERM or SIGINT, when /readyz starts to return 503, to the end of accepting"
            " connections. A load balancer that asks /readyz every 5 seconds needs about 10.",
        ),
    ] = 0.0
    drain: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Seconds that running calls have to end when the gateway stops, after server.grace.",
        ),
    ] = 10.0
    watchdog: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="Seconds after which a worker is killed and replaced if its event loop does not run, because a"
            ' method that should not run there holds it (run = "inline", async), or because the process is stopped; 0'
            " for never. The log shows the worker's stack first. Twice the default of limits.timeout; keep it above"
            " what any inline method takes.",
        ),
    ] = 60.0
    pid_file: Annotated[str, Meta(description='The file with the process id, for "gateway reload"; "" for none.')] = ""
    callers: Annotated[
        str,
        Meta(
            description='A folder for the counts of who calls which method, for "gateway callers": by key, certificate'
            ' or address. They outlive reloads and restarts. "" for none, and then nobody is counted.'
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Take one address by itself, as a program may write it; its characters would be addresses, too."""
        given: object = self.bind
        if isinstance(given, str):
            msgspec.structs.force_setattr(self, "bind", (given,))


class TLSSection(Struct, frozen=True, kw_only=True):
    """HTTPS without a proxy in front. Without a certificate it is HTTP."""

    certificate: Annotated[
        str, Meta(description='The file with the certificate and its chain, in PEM; "" for HTTP.')
    ] = ""
    key: Annotated[str, Meta(description="The file with the certificate's private key, in PEM.")] = ""
    client_ca: Annotated[
        str,
        Meta(
            description="A file of authorities, in PEM: clients then need a certificate from one of them;"
            ' "" if they need none.'
        ),
    ] = ""
