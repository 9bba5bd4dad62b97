"""The configuration of uWSGI, from the gateway's own: render(config, registry, environment) -> the text of uwsgi.ini.

conf/uwsgi.ini was made from the defaults. Every number in it is one of the gateway's, or a sum of them.
"""

import math
import shlex
from collections.abc import Iterator, Mapping

from gateway.config import Config
from gateway.methods import Registry

_LARGEST_BUFFER = 65535  # bytes; uWSGI counts the variables of a request with 16 bits
_ANNOUNCED = 64  # times limits.max_body; if more is announced, uWSGI closes the connection
_UWSGI = """\
# uWSGI with gateway.wsgi, behind nginx. "gateway uwsgi" prints it from gateway.toml: change the numbers there,
# and print it again. Start it with
#     {environment}uwsgi --ini conf/uwsgi.ini
# SIGTERM stops it, and SIGHUP reads configuration and methods again. Running calls can end, and new callers wait during
# a reload.

[uwsgi]
strict = true
module = gateway.wsgi
need-app = true

# server.bind, for HTTP from a proxy. The proxy must wait for slow clients, because each connection holds a thread here.
# (The option http would add a process of uWSGI, which breaks off running calls when it is reloaded.)
{sockets}

# A connection has one request; it is the proxy that keeps connections to clients open.
add-header = Connection: close

# limits.backlog; the kernel's net.core.somaxconn must be at least this.
listen = {listen}

# server.workers. They are forked after the methods were loaded; each starts its event loop with its first request.
master = true
processes = {processes}
single-interpreter = true
py-call-uwsgi-fork-hooks = true

# limits.threads: a call holds a thread from its first byte until its response is sent.
threads = {threads}

# limits.max_header. uWSGI closes the connection if a head is longer, or has more than 116 headers beside Host and those
# of the body.
buffer-size = {buffer_size}

# limits.max_body, for one chunk of a body in chunks; and {announced} times as much for a Content-Length. Up to
# that, a body that is too large gets a fault; beyond it, the connection is closed.
chunked-input-limit = {chunk}
limit-post = {post}

# limits.head_timeout: seconds without progress while a request is received or a response is sent.
socket-timeout = {socket_timeout}

# More than all deadlines, because it ends a whole process with all its calls: the longest timeout of a method, and
# limits.body_timeout for the request, limits.write_timeout for the response, and limits.linger.
harakiri = {harakiri}

# After SIGTERM it stops when all calls have ended, each by its deadline. After SIGHUP they have server.drain seconds.
hook-master-start = unix_signal:15 gracefully_kill_them_all
worker-reload-mercy = {mercy}
reload-mercy = {mercy}

# The gateway has a line for each call in its own log.
disable-logging = true

# The program that SIGHUP starts again: if uWSGI is the wheel pyuwsgi, the Python that has it.
if-exists = .venv/bin/python
binary-path = .venv/bin/python
endif =
"""


def render(config: Config, registry: Registry, environment: Mapping[str, str]) -> str:
    """Write uwsgi.ini.

    Args:
        config: has the numbers; gateway.wsgi must load the same configuration when uWSGI runs.
        registry: has the deadlines of methods.
        environment: variables that gateway.wsgi needs for that. (uWSGI's option env comes too late for Python if uWSGI
            is a wheel.)

    """
    limits, mercy = config.limits, max(1, math.ceil(config.server.drain))
    deadline = max([limits.timeout, *(method.options.timeout or 0 for _, method in registry.methods())])
    variables = "".join(f"{name}={shlex.quote(value)} " for name, value in environment.items())
    return _UWSGI.format(
        environment=variables,
        sockets="\n".join(_sockets(config)),
        listen=limits.backlog,
        processes="%k" if config.server.workers == "auto" else config.server.workers,
        threads=limits.threads,
        buffer_size=min(limits.max_header, _LARGEST_BUFFER),
        announced=_ANNOUNCED,
        chunk=limits.max_body,
        post=limits.max_body * _ANNOUNCED,
        socket_timeout=math.ceil(limits.head_timeout),
        harakiri=math.ceil(deadline + limits.body_timeout + limits.write_timeout + limits.linger),
        mercy=mercy,
    )


def _sockets(config: Config) -> Iterator[str]:
    """Yield the lines for the addresses. What systemd passes, uWSGI takes by itself."""
    for address in config.server.bind:
        if address.startswith("fd:"):
            yield f"http-socket = fd://{address.removeprefix('fd:')}"
        elif address == "systemd":
            yield "protocol = http"  # of sockets that do not say; uWSGI's own otherwise
        else:
            yield f"http-socket = {address.removeprefix('unix:')}"
    if any(address.startswith("unix:") for address in config.server.bind):
        yield f"chmod-socket = {config.server.unix_mode}"
