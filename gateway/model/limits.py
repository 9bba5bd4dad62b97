"""Every number that the gateway enforces, each with its range and its reason.

Codecs, layers and hosts take theirs from here; a deployment changes them in the section ``[limits]`` of gateway.toml.
"""

from typing import Annotated

from msgspec import Meta, Struct

_MIB = 2**20


class Limits(Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds."""

    max_body: Annotated[
        int,
        Meta(
            ge=1024,
            le=1024 * _MIB,
            description="Bytes of a request's body, before and after unpacking. 1 MiB is twice the default of xmlrpc-c,"
            " and nginx's default.",
        ),
    ] = _MIB
    max_header: Annotated[
        int,
        Meta(ge=1024, le=_MIB, description="Bytes of a request's head. Browsers and proxies stay below 16 KiB."),
    ] = 16384
    max_reply: Annotated[
        int,
        Meta(
            ge=1024,
            le=1024 * _MIB,
            description="Bytes of a response. It is built in memory, so this bounds what one call can take.",
        ),
    ] = 16 * _MIB
    max_depth: Annotated[
        int,
        Meta(
            ge=4,
            le=200,
            description="Levels of nesting, in requests and responses. xmlrpc-c's limit; no known client sends more.",
        ),
    ] = 64
    max_batch: Annotated[
        int,
        Meta(ge=1, le=100_000, description="Calls in one JSON-RPC batch or system.multicall."),
    ] = 100
    batch_concurrency: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Calls of one JSON-RPC batch that run at once. With 1 they run in order, one after the other."
            " The responses are in the order of the requests in any case. The calls of a system.multicall always run in"
            " order.",
        ),
    ] = 1
    timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=86400,
            description="Seconds that a call may take, unless its method has its own timeout. Half of the 60 s after"
            " which proxies give up, so that it is the gateway that reports the timeout.",
        ),
    ] = 30.0
    threads: Annotated[
        int,
        Meta(
            ge=1,
            le=32768,
            description="Blocking methods that run at once. A waiting thread costs about 30 KiB and no processor time,"
            " so 512 cost about 15 MiB. Methods that compute gain nothing from more threads than cores.",
        ),
    ] = 512
    calls: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Async methods that run at once. A waiting one costs about 10 KiB, without its connection.",
        ),
    ] = 16384
    in_flight: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Calls of one plain TCP connection or WebSocket that run at once; then nothing more is read"
            " from it. As many as a batch may have.",
        ),
    ] = 100
    waiting: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Calls that wait to run; the next one is refused at once as Overloaded. Twice the threads: a"
            " queue longer than two rounds only makes every response late.",
        ),
    ] = 1024
    client_rate: Annotated[
        float,
        Meta(
            ge=0,
            le=1_000_000,
            description="Calls per second from one client, over all workers; 0 for no limit. Each call of a batch"
            " counts. A client is an IPv4 address or an IPv6 /64.",
        ),
    ] = 0.0
    client_burst: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Calls that a client may make at once after a pause.")
    ] = 100
    key_rate: Annotated[
        float,
        Meta(
            ge=0,
            le=1_000_000,
            description="Calls per second with one API key, from wherever it is used, over all workers; 0 for no limit."
            " Each call of a batch counts.",
        ),
    ] = 0.0
    key_burst: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Calls that may be made at once with a key after a pause.")
    ] = 100
    retry_after: Annotated[
        int,
        Meta(ge=1, le=3600, description="Seconds after which refused callers are asked to try again."),
    ] = 1
    compress_above: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes from which a response is compressed, if the caller asks for it. Below about 1 KiB the"
            " work costs more than the bytes.",
        ),
    ] = 1024
    backlog: Annotated[
        int,
        Meta(
            ge=1,
            le=65535,
            description="Connections that may wait to be accepted. With Python's usual 5, a burst of a hundred callers"
            " causes SYN retransmissions of 1 s and more. The kernel limits it to net.core.somaxconn.",
        ),
    ] = 4096
    connections: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Connections of one process. At the limit, a new connection closes one that has been idle for a"
            " while or whose body makes no progress. If there is none, it waits. An idle connection costs about 5 KiB"
            " and a descriptor.",
        ),
    ] = 16384
    client_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Connections of one client to one process; one more is closed. A client is an IPv4 address or"
            " an IPv6 /64. 127.0.0.1 is not counted. Of access.trusted_proxies, requests are counted by the client that"
            " they name, and one more is refused. A sixteenth of all connections, which is enough for an office behind"
            " one address.",
        ),
    ] = 1024
    unread: Annotated[
        int,
        Meta(
            ge=_MIB,
            le=1024 * 1024 * _MIB,
            description="Bytes of responses that the clients of one process have not read; above it, the connections of"
            " the slowest readers are closed. Sixteen responses of max_reply.",
        ),
    ] = 256 * _MIB
    idle_timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=86400,
            description="Seconds that a connection stays open without a request. nginx's default.",
        ),
    ] = 75.0
    head_timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=86400,
            description="Seconds from the first byte of a request's head to its last, and for a TLS handshake. Heads"
            " are sent in one piece; ten seconds are enough for three retransmissions.",
        ),
    ] = 10.0
    body_timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=86400,
            description="Seconds until a request's body is complete. nginx waits 60 between two reads.",
        ),
    ] = 60.0
    write_timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=86400,
            description="Seconds without progress while a client reads its response. nginx's send_timeout.",
        ),
    ] = 60.0
    linger: Annotated[
        float,
        Meta(
            gt=0,
            le=60,
            description="Seconds that a refused upload is still read and thrown away. Closing at once would reset the"
            " connection, and the client would not see the response.",
        ),
    ] = 2.0
