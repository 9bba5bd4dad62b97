"""The gateway's configuration, and the longest timeout of its methods, written as a configuration of nginx.

    render(config, longest) -> the text of nginx.conf, for nginx 1.22 and later, as its only configuration
                            -> ConfigError, where nginx could not reach the gateway
    warnings(config)        -> what works, but not as it should

Every number is one of the configuration. What nginx refuses by itself reaches callers as a fault that the codecs have
written, with the status that it has anyway.
"""

import math
import re
from collections.abc import Iterator, Mapping
from string import Template
from typing import Any

from gateway.calls import Rejected, Reply
from gateway.codecs import Codec
from gateway.codecs.jsonrpc import JSONRPC
from gateway.codecs.xmlrpc import XMLRPC
from gateway.config import Config, ConfigError
from gateway.edge import Nginx
from gateway.faults import (
    DeadlineExceeded,
    Denied,
    GatewayFault,
    InternalError,
    InvalidRequest,
    RateLimited,
    RequestTooLarge,
    Unavailable,
)
from gateway.limits import Limits
from gateway.networks import Network, address

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - how to reach what listens there
_SPARE = 512  # connections for listening sockets, and for those to the gateway that are idle
_ROOM = 2**16  # bytes; more than any of the faults here has
_BLOCK = re.compile(r"( *)@(\w+)")
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # nginx makes all of these folders


class _Text(Template):
    """A template in which ``$`` is nginx's own."""

    delimiter = "@"


_CONFIGURATION = """\
# nginx as the edge of the gateway: all of its configuration. It is written by "gateway nginx", from gateway.toml and the
# methods' timeouts, so change those and write it anew:
#     gateway nginx > /etc/nginx/nginx.conf && nginx -t && nginx -s reload
@process
worker_processes auto;
# After a reload, the longest call may still end.
worker_shutdown_timeout @read_timeout;
# nginx.clients, each with a connection of its own and one to the gateway: for each worker, because nothing keeps one of
# them from having all clients. A long answer that a client reads slowly waits in a file: one descriptor more.
worker_rlimit_nofile @descriptors;
events {
    worker_connections @worker_connections;
}
error_log @error_log warn;

http {
    @temporary
    server_tokens off;
    gzip off;  # answers are compressed by the gateway, and only where it is asked to
    types {}
    log_format rpc escape=json
        '{"time":"$time_iso8601","client":"$remote_addr","verb":"$request_method","status":"$status",'
        '"method":"$upstream_http_x_rpc_method","batch":"$upstream_http_x_rpc_batch",'
        '"fault":"$upstream_http_x_rpc_fault","exchange":"$sent_http_x_request_id","seconds":$request_time,'
        '"received":$request_length,"sent":$bytes_sent,"http":"$server_protocol","tls":"$ssl_protocol",'
        '"gateway":"$upstream_addr"}';
    access_log @access_log;

    upstream gateway {
        zone gateway 64k;
        @upstream
    }

    # 10 MiB hold some 80,000 clients.
    limit_req_zone $binary_remote_addr zone=rpc_rate:10m rate=@{rate}r/s;
    limit_conn_zone $binary_remote_addr zone=rpc_connections:10m;
    limit_req_status 429;
    limit_conn_status 429;

    # The faults of what nginx refuses by itself, by status.
    map $status $rpc_fault_text {
        @faults
    }
    map $status $rpc_fault_xml {
        @xmlrpc_faults
    }
    map $status $rpc_fault_json {
        @jsonrpc_faults
    }
    map $status $rpc_retry_after {
        429 @retry_after;
        503 @retry_after;
    }
    map $status $rpc_allow {
        405 POST;
    }

    server {
        @listen
        server_name @server_name;
        @real_ip

        ssl_certificate @certificate;
        ssl_certificate_key @key;
        ssl_protocols @tls_protocols;
        ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;  # for TLS 1.2: forward secrecy, and authenticated encryption
        ssl_prefer_server_ciphers on;
        ssl_session_cache shared:rpc_tls:10m;
        ssl_session_timeout 1h;
        ssl_session_tickets off;  # their keys would outlive the secrecy of the sessions
        ssl_early_data off;  # whoever has recorded a call could send it again

        client_header_timeout @head_timeout;  # of a head as a whole, and of a TLS handshake
        client_body_timeout @body_timeout;  # between two reads; of a body as a whole it is the gateway's
        send_timeout @write_timeout;
        keepalive_timeout @idle_timeout;
        lingering_timeout @linger;
        lingering_time @linger;
        reset_timedout_connection on;
        client_header_buffer_size @first_buffer;
        large_client_header_buffers 1 @large_buffer;  # both together are a head, with room for what nginx adds to it
        client_max_body_size @max_body;

        # The protocol is told by the Content-Type. It stands in the path, so that locations tell it by its beginning,
        # whatever parameters it has: no regular expression reads what a client sends.
        error_page 400 403 413 414 429 500 501 502 503 504 505 /_fault/$content_type;
        error_page 494 =431 /_fault/$content_type;
        error_page 497 =400 /_fault/$content_type;
        error_page 404 405 /_fault/;  # as the gateway says it, in plain text

        location / {
            @allow
            @limits
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;  # of clients without one, it is server_name
            proxy_set_header X-Forwarded-For $remote_addr;  # whatever the client says, it is from here
            proxy_set_header X-Real-IP "";
            proxy_set_header Forwarded "";
            proxy_hide_header X-RPC-Method;
            proxy_hide_header X-RPC-Batch;
            proxy_hide_header X-RPC-Fault;
            proxy_request_buffering @buffering;
            proxy_connect_timeout @connect_timeout;
            proxy_send_timeout @send_timeout;
            proxy_read_timeout @read_timeout;  # the longest timeout of a method, and nginx.margin
            # A call is POSTed, so without non_idempotent it is tried again only if no byte of it has been sent.
            proxy_next_upstream error timeout;
            proxy_next_upstream_tries 2;
        }

        location /_fault/ {
            internal;
            add_header X-Content-Type-Options nosniff always;
            add_header X-Request-ID $request_id always;
            add_header Retry-After $rpc_retry_after always;
            add_header Allow $rpc_allow always;
            default_type "text/plain; charset=utf-8";
            return 200 $rpc_fault_text;  # the status stays that of the refusal

            location /_fault/text/xml {
                internal;
                default_type "@xmlrpc";
                return 200 $rpc_fault_xml;
            }
            location /_fault/application/xml {
                internal;
                default_type "@xmlrpc";
                return 200 $rpc_fault_xml;
            }
            location /_fault/application/json {  # application/json-rpc and application/jsonrequest begin like this, too
                internal;
                default_type "@jsonrpc";
                return 200 $rpc_fault_json;
            }
        }
    }
}
"""


def render(config: Config, longest: float) -> str:
    """Write the configuration of nginx.

    Arguments:
        config: the gateway's.
        longest: seconds, the longest timeout of all methods that are served.

    Raises:
        ConfigError: nginx could not reach the gateway.

    """
    nginx, limits = config.nginx, config.limits
    refusals = _refusals(limits)
    xmlrpc = XMLRPC(max_depth=limits.max_depth, max_batch=limits.max_batch)
    jsonrpc = JSONRPC(max_depth=limits.max_depth, max_batch=limits.max_batch)
    return _filled(
        _CONFIGURATION,
        {
            **_process(config),
            "upstream": _upstream(_gateways(config), min(config.server.drain, limits.idle_timeout)),
            "faults": _rows(_PLAIN | {status: fault.message for status, fault in refusals.items()}, end="\n"),
            "xmlrpc_faults": _rows({status: _document(xmlrpc, fault) for status, fault in refusals.items()}),
            "jsonrpc_faults": _rows({status: _document(jsonrpc, fault) for status, fault in refusals.items()}),
            "xmlrpc": xmlrpc.content_type,
            "jsonrpc": jsonrpc.content_type,
            "rate": nginx.rate or 1,
            "retry_after": limits.retry_after,
            "listen": [f"listen {place} ssl http2 backlog={limits.backlog};" for place in nginx.listen],
            "server_name": nginx.server_name,
            "real_ip": _real_ip(nginx.proxies),
            "certificate": _quoted(nginx.certificate),
            "key": _quoted(nginx.key),
            "tls_protocols": " ".join(nginx.tls_protocols),
            "head_timeout": _time(limits.head_timeout),
            "body_timeout": _time(limits.body_timeout),
            "write_timeout": _time(limits.write_timeout),
            "idle_timeout": _time(limits.idle_timeout),
            "linger": _time(limits.linger),
            "first_buffer": limits.max_header // 16,
            "large_buffer": limits.max_header * 13 // 16,
            "max_body": limits.max_body,
            "allow": _allow(config.access.allow),
            "limits": _limits(nginx),
            "buffering": "on" if nginx.buffer_bodies else "off",
            "connect_timeout": _time(nginx.connect_timeout),
            "send_timeout": _time(nginx.send_timeout),
            "read_timeout": _time(longest + nginx.margin),
        },
    )


def warnings(config: Config) -> Iterator[str]:
    """Tell what would work, but not as it should: each of them with its remedy."""
    for upstream in config.nginx.upstreams or _gateways(config):
        host = upstream.rpartition(":")[0].strip("[]")
        sources = ("127.0.0.1", "::1") if host == "localhost" else (host,)
        found = [address(source) for source in sources]
        is_near = all(source is not None and source.is_loopback for source in found)
        trusted = config.access.trusted_proxies
        if (is_near and not any(source in network for source in found if source for network in trusted)) or not trusted:
            source = sources[0] if is_near else "nginx's address"
            yield (
                f"the gateway at {upstream} does not trust nginx, so it takes all clients for one, and tells no access"
                f" log what was called: add {source} to access.trusted_proxies"
            )


def _gateways(config: Config) -> tuple[str, ...]:
    """Return where nginx reaches the gateways."""
    if config.nginx.upstreams:
        return config.nginx.upstreams
    host, _, port = config.server.bind.rpartition(":")
    if int(port) == 0:
        raise ConfigError(["server.bind: port 0 is a free one, which nginx cannot know; choose one"])
    if config.tls.certificate:
        raise ConfigError(
            ["tls.certificate: nginx speaks plain HTTP to the gateway; leave [tls] empty, and set nginx.certificate"]
        )
    return (f"{_EVERYWHERE.get(host, host)}:{port}",)


def _refusals(limits: Limits) -> dict[int, GatewayFault]:
    """Return what is told of each status that nginx itself answers with."""
    wait = limits.retry_after
    return {
        400: InvalidRequest("no well-formed HTTP request, or not over TLS"),
        403: Denied(),
        413: RequestTooLarge(f"at most {limits.max_body} bytes"),
        414: RequestTooLarge(f"at most {limits.max_header} bytes of a head"),
        429: RateLimited("too many calls", retry_after=wait),
        431: RequestTooLarge(f"at most {limits.max_header} bytes of a head"),
        500: InternalError(),
        501: InvalidRequest("the Transfer-Encoding is chunked, or none"),
        502: Unavailable("no answer; whether the call was made is not known"),
        503: Unavailable("come back later", retry_after=wait),
        504: DeadlineExceeded("no answer in time; whether the call was made is not known"),
        505: InvalidRequest("the version of HTTP is 1.0, 1.1 or 2"),
    }


_PLAIN = {404: "Not found.", 405: "Calls are POSTed here: XML-RPC or JSON-RPC 2.0."}


def _document(codec: Codec, fault: GatewayFault) -> str:
    answer = codec.encode(Rejected(fault=fault), Reply(fault=fault), _ROOM)
    return codec.single(answer).decode()


def _process(config: Config) -> dict[str, Any]:
    """Return what concerns the process as a whole, and its files."""
    nginx = config.nginx
    folder = nginx.folder
    temporary = [f"{kind}_temp_path {_quoted(f'{folder}/{kind}')};" for kind in _TEMPORARY] if folder else []
    return {
        "process": [f"user {nginx.user};"] * bool(nginx.user)
        + [f"pid {_quoted(f'{folder}/nginx.pid' if folder else '/run/nginx.pid')};"],
        "temporary": temporary,
        "descriptors": 3 * nginx.clients + 2 * _SPARE,
        "worker_connections": 2 * nginx.clients + _SPARE,
        "error_log": _quoted(nginx.error_log) if nginx.error_log else "stderr",
        "access_log": f"{_quoted(nginx.access_log)} rpc" if nginx.access_log else "off",
    }


def _upstream(gateways: tuple[str, ...], shortest: float) -> list[str]:
    """Return the gateways, and how long connections to them are kept.

    A gateway that ends closes its idle connections after server.drain seconds, and after limits.idle_timeout in any
    case. nginx has to be first: what it sends on a connection that is being closed is lost.
    """
    kept = ["keepalive 64;", f"keepalive_timeout {_time(shortest / 2)};"] if shortest else []
    return ["least_conn;"] * (len(gateways) > 1) + [f"server {place};" for place in gateways] + kept


def _real_ip(proxies: tuple[Network, ...]) -> list[str]:
    """Read the client from X-Forwarded-For where balancers stand in front, as the gateway itself does behind them."""
    if not proxies:
        return []
    trusted = [f"set_real_ip_from {network};" for network in proxies]
    return [*trusted, "real_ip_header X-Forwarded-For;", "real_ip_recursive on;"]


def _allow(networks: tuple[Network, ...]) -> list[str]:
    return [*(f"allow {network};" for network in networks), "deny all;"] if networks else []


def _limits(nginx: Nginx) -> list[str]:
    rate = [f"limit_req zone=rpc_rate burst={nginx.burst} nodelay;"] * bool(nginx.rate)
    return rate + [f"limit_conn rpc_connections {nginx.connections};"] * bool(nginx.connections)


def _rows(texts: Mapping[int, str], end: str = "") -> list[str]:
    return [f"{status} {_quoted(texts[status] + end)};" for status in sorted(texts)]


def _quoted(text: str) -> str:
    """Write a text that has no variable in it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def _time(seconds: float) -> str:
    milliseconds = math.ceil(seconds * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _filled(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template: a placeholder that has a line for itself becomes as many lines as its list has."""
    lines: list[str] = []
    for line in template.splitlines():
        block = _BLOCK.fullmatch(line)
        if block is None:
            lines.append(_Text(line).substitute(values))
        else:
            lines += [block[1] + part for part in values[block[2]]]
    return "\n".join(lines) + "\n"
