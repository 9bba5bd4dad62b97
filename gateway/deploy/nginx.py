"""The gateway's configuration, and the longest timeout of its methods, written as a configuration of nginx.

    render(config, longest) -> the text of nginx.conf, for nginx 1.22 and later, as its only configuration
                            -> ConfigError, where nginx could not reach the gateway
    warnings(config)        -> what works, but not as it should

The text itself, with its reasons, stands in nginx.conf.in, and ``@name`` in it for what is made here. Every number is
one of the configuration's. What nginx refuses by itself reaches callers as a fault that the codecs have written, with
the status that nginx has for it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from string import Template
from typing import Any

from gateway.codecs import CODECS, Codec
from gateway.config import Config, ConfigError
from gateway.config.nginx import NginxSection
from gateway.model.calls import InvalidCall, Reply
from gateway.model.faults import (
    DeadlineExceeded,
    Denied,
    GatewayFault,
    InternalError,
    InvalidRequest,
    RateLimited,
    RequestTooLarge,
    Unavailable,
)
from gateway.model.limits import Limits
from gateway.model.networks import Network, address

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - how to reach what listens there
_SPARE = 512  # connections for listening sockets, and for those to the gateway that are idle
_ROOM = 2**16  # bytes; more than any of the faults here has
_BLOCK = re.compile(r"( *)@(\w+)")
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # nginx makes all of these folders


class _Text(Template):
    """A template in which ``$`` is nginx's own."""

    delimiter = "@"


def render(config: Config, longest: float) -> str:
    """Write the configuration of nginx.

    Arguments:
        config: the gateway's.
        longest: seconds, the longest timeout of all methods that are served.

    Raises:
        ConfigError: nginx could not reach the gateway.

    """
    nginx, limits = config.nginx, config.limits
    values = {
        **_process(nginx),
        **_faults(limits),
        **_timeouts(config, longest),
        "upstream": _upstream(_gateways(config), min(config.server.drain, limits.idle_timeout)),
        "rate": nginx.rate or 1,
        "listen": [f"listen {place} ssl http2 backlog={limits.backlog};" for place in nginx.listen],
        "server_name": nginx.server_name,
        "real_ip": _real_ip(nginx.proxies),
        "certificate": _quoted(nginx.certificate),
        "key": _quoted(nginx.key),
        "tls_protocols": " ".join(nginx.tls_protocols),
        "first_buffer": limits.max_header // 16,
        "large_buffer": limits.max_header * 13 // 32,
        "max_body": limits.max_body,
        "allow": _allow(config.access.allow),
        "limits": _limits(nginx),
        "websocket": _websocket(config),
        "upgrades": _upgrades(config),
        "buffering": "on" if nginx.buffer_bodies else "off",
    }
    return _filled(files(__package__).joinpath("nginx.conf.in").read_text("utf-8"), values)


def warnings(config: Config) -> Iterator[str]:
    """Report what would work, but not as it should, each with its remedy."""
    for server in _gateways(config):
        host = server.rpartition(":")[0].strip("[]")
        source = address("127.0.0.1" if host in ("localhost", "unix") else host)
        proxies = config.access.trusted_proxies
        if source is not None and source.is_loopback:
            is_trusted, remedy = any(source in network for network in proxies), str(source)
        else:
            is_trusted, remedy = bool(proxies), "nginx's address"
        if not is_trusted:
            yield (
                f"the gateway at {server} does not trust nginx: it counts all clients as one, and nginx's log does not"
                f" name the methods; add {remedy} to access.trusted_proxies"
            )


def _gateways(config: Config) -> tuple[str, ...]:
    """Return where nginx reaches the gateways."""
    if config.tls.certificate:
        problem = (
            "tls.certificate: nginx speaks plain HTTP to the gateway; leave [tls] empty, and set nginx.certificate"
        )
        raise ConfigError([problem])
    if config.nginx.servers:
        return config.nginx.servers
    address = _reached(config.server.bind)
    if address.startswith("unix:"):
        return (address,)
    host, _, port = address.rpartition(":")
    if int(port) == 0:
        raise ConfigError(["server.bind: port 0 is a free one, which nginx cannot know: choose one"])
    return (f"{_EVERYWHERE.get(host, host)}:{port}",)


def _reached(addresses: tuple[str, ...]) -> str:
    """Choose the address for nginx: a Unix socket if there is one, else the first that says where it is."""
    found = [address for address in addresses if address != "systemd" and not address.startswith("fd:")]
    if not found:
        problem = "server.bind: nginx cannot know where a socket is that others open: name it in nginx.servers"
        raise ConfigError([problem])
    return next((address for address in found if address.startswith("unix:")), found[0])


def _refusals(limits: Limits) -> dict[int, GatewayFault]:
    """Return the fault for each status that nginx itself answers with."""
    wait = limits.retry_after
    return {
        400: InvalidRequest("not a well-formed HTTP/1 or HTTP/2 request over TLS"),
        403: Denied(),
        413: RequestTooLarge(f"at most {limits.max_body} bytes"),
        414: RequestTooLarge(f"at most {limits.max_header} bytes of a head"),
        429: RateLimited("too many calls", retry_after=wait),
        431: RequestTooLarge(f"at most {limits.max_header} bytes of a head"),
        500: InternalError(),
        502: Unavailable("no response; whether the call was made is not known"),
        503: Unavailable("try again later", retry_after=wait),
        504: DeadlineExceeded("no response in time; whether the call was made is not known"),
    }


def _document(codec: Codec, fault: GatewayFault) -> str:
    answer = codec.encode(InvalidCall(fault=fault), Reply(fault=fault), _ROOM)
    return codec.single(answer).decode()


def _process(nginx: NginxSection) -> dict[str, Any]:
    """Return what concerns the process as a whole, and its files."""
    folder = nginx.folder
    process_id = f"{folder}/nginx.pid" if folder else "/run/nginx.pid"
    return {
        "process": [*[f"user {nginx.user};"] * bool(nginx.user), f"pid {_quoted(process_id)};"],
        "temporary": [f"{kind}_temp_path {_quoted(f'{folder}/{kind}')};" for kind in _TEMPORARY if folder],
        "descriptors": 3 * nginx.clients + 2 * _SPARE,
        "worker_connections": 2 * nginx.clients + _SPARE,
        "error_log": _quoted(nginx.error_log) if nginx.error_log else "stderr",
        "access_log": f"{_quoted(nginx.access_log)} rpc" if nginx.access_log else "off",
    }


def _faults(limits: Limits) -> dict[str, Any]:
    """Return the faults: in plain text, and in each protocol, whose media types have places of their own."""
    refusals = _refusals(limits)
    titles = " or ".join(codec.title for codec in CODECS.values())
    plain = {404: "Not found.\n", 405: f"Calls are POSTed here: {titles}.\n"}
    maps: list[str] = []
    locations: list[str] = []
    for name, make in CODECS.items():
        codec = make(max_depth=limits.max_depth, max_batch=limits.max_batch)
        try:
            rows = _rows({status: _document(codec, fault) for status, fault in refusals.items()})
        except UnicodeDecodeError:
            continue  # the faults of a binary protocol cannot be written here, so nginx answers in plain text
        maps += [f"map $status $rpc_fault_{name} {{", *(f"    {row}" for row in rows), "}"]
        for media_type in _prefixes(codec.media_types):
            locations += [
                f"location /_fault/{media_type} {{",
                "    internal;",
                f'    default_type "{codec.content_type}";',
                f"    return 200 $rpc_fault_{name};",
                "}",
            ]
    return {
        "faults": _rows(plain | {status: f"{fault.message}\n" for status, fault in refusals.items()}),
        "protocol_faults": maps,
        "protocol_locations": locations,
        "retry_after": limits.retry_after,
    }


def _prefixes(media_types: tuple[str, ...]) -> list[str]:
    """Leave out the media types that begin like another one, for a location is found by how a path begins."""
    return [one for one in media_types if not any(one != other and one.startswith(other) for other in media_types)]


def _timeouts(config: Config, longest: float) -> dict[str, str]:
    nginx, limits = config.nginx, config.limits
    seconds = {
        "head_timeout": limits.head_timeout,
        "body_timeout": limits.body_timeout,
        "write_timeout": limits.write_timeout,
        "idle_timeout": limits.idle_timeout,
        "linger": limits.linger,
        "connect_timeout": nginx.connect_timeout,
        "send_timeout": nginx.send_timeout,
        "read_timeout": longest + nginx.margin,
        "shutdown_timeout": limits.body_timeout + longest + nginx.margin,
    }
    return {name: _time(value) for name, value in seconds.items()}


def _upstream(gateways: tuple[str, ...], shortest: float) -> list[str]:
    """Return the gateways, and how long connections to them are kept.

    A gateway that ends closes its idle connections after server.drain seconds, and after limits.idle_timeout in any
    case. nginx has to be first: what it sends on a connection that is being closed is lost.
    """
    kept = ["keepalive 64;", f"keepalive_timeout {_time(shortest / 2)};"] if shortest else []
    return ["least_conn;"] * (len(gateways) > 1) + [f"server {place} max_fails=0;" for place in gateways] + kept


def _real_ip(proxies: tuple[Network, ...]) -> list[str]:
    """Read the client from X-Forwarded-For where balancers stand in front, as the gateway itself does behind them."""
    if not proxies:
        return []
    trusted = [f"set_real_ip_from {network};" for network in proxies]
    return [*trusted, "real_ip_header X-Forwarded-For;", "real_ip_recursive on;"]


def _allow(networks: tuple[Network, ...]) -> list[str]:
    return [*(f"allow {network};" for network in networks), "deny all;"] if networks else []


def _limits(nginx: NginxSection) -> list[str]:
    rate = [f"limit_req zone=rpc_rate burst={nginx.burst} nodelay;"] * bool(nginx.rate)
    return rate + [f"limit_conn rpc_connections {nginx.connections};"] * bool(nginx.connections)


def _websocket(config: Config) -> list[str]:
    """Pass upgrades on. A connection is silent for as long as the gateway lets a client be."""
    section, nginx = config.websocket, config.nginx
    if not section.enabled:
        return []
    silence = section.ping_interval + section.ping_timeout if section.ping_interval else section.idle_timeout
    lines = [
        *_allow(config.access.allow),
        *_limits(nginx),
        "proxy_pass http://gateway;",
        "proxy_http_version 1.1;",
        "proxy_set_header Upgrade $http_upgrade;",
        "proxy_set_header Connection $rpc_connection;",
        "proxy_set_header Host $host;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
        'proxy_set_header X-Real-IP "";',
        'proxy_set_header Forwarded "";',
        f"proxy_connect_timeout {_time(nginx.connect_timeout)};",
        f"proxy_send_timeout {_time(config.limits.write_timeout)};",
        f"proxy_read_timeout {_time(silence + nginx.margin)};",
    ]
    return [f"location = {section.path} {{", *(f"    {line}" for line in lines), "}", ""]


def _upgrades(config: Config) -> list[str]:
    """Say what an upgrade has as its Connection."""
    return ["map $http_upgrade $rpc_connection {", "    websocket Upgrade;", "}"] if config.websocket.enabled else []


def _rows(texts: Mapping[int, str]) -> list[str]:
    return [f"{status} {_quoted(texts[status])};" for status in sorted(texts)]


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
