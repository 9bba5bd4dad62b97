"""The configuration of uWSGI, from the gateway's own: render(config, registry, environment) -> the text of uwsgi.ini.

conf/uwsgi.ini is made from the defaults. Every number in it is one of the gateway's, or a sum of them.
"""

import math
import shlex
from collections.abc import Mapping

from gateway.config import Config
from gateway.methods import Registry

_LARGEST_BUFFER = 65535  # bytes; uWSGI counts the variables of a request with 16 bits
_ANNOUNCED = 64  # times limits.max_body; uWSGI hangs up on what announces more, and the gateway answers what does not
_UWSGI = """\
# uWSGI in front of gateway.wsgi, behind nginx. Made by "gateway uwsgi" from gateway.toml: change the numbers there, and
# make it again. Started as
#     {environment}uwsgi --ini conf/uwsgi.ini
# it stops with SIGTERM, and reads configuration and methods again with SIGHUP; running calls end, and callers who come
# during a reload wait.

[uwsgi]
strict = true
module = gateway.wsgi
need-app = true

# server.bind. It speaks HTTP for a proxy, which waits for slow clients: here each connection holds a thread. (The
# option http would put a process of uWSGI's between, which cuts off running calls when it is reloaded.)
http-socket = {bind}

# A connection has one request; keeping it is the proxy's work towards its clients.
add-header = Connection: close

# limits.backlog; the kernel's net.core.somaxconn has to be as much.
listen = {listen}

# server.workers. They are forked when the methods have been loaded; each starts its event loop with its first request.
master = true
processes = {processes}
single-interpreter = true
py-call-osafterfork = true

# limits.threads: a call holds one of them from its first byte until its answer is sent.
threads = {threads}

# limits.max_header. It closes the connection of a longer head, and of one with more than 116 headers beside Host and
# those of the body.
buffer-size = {buffer_size}

# limits.max_body, for one chunk of a body in chunks; and {announced} times as much for a Content-Length. Up to there a
# body that is too large is answered with a fault, beyond it the connection is closed.
chunked-input-limit = {chunk}
limit-post = {post}

# limits.head_timeout: seconds in which nothing comes of a request, or nothing of an answer can be sent.
socket-timeout = {socket_timeout}

# Above all deadlines, for it ends a whole process with all its calls: the longest time that a method has, and beside it
# limits.body_timeout for the request, limits.write_timeout for the answer, and limits.linger.
harakiri = {harakiri}

# SIGTERM has it stop when all calls have ended, each by its deadline. At SIGHUP they have the seconds of server.drain.
hook-master-start = unix_signal:15 gracefully_kill_them_all
worker-reload-mercy = {mercy}
reload-mercy = {mercy}

# The gateway has a line for each call in its own log.
disable-logging = true

# What SIGHUP starts again: where uWSGI is the wheel pyuwsgi, the Python that has it.
if-exists = .venv/bin/python
binary-path = .venv/bin/python
endif =
"""


def render(config: Config, registry: Registry, environment: Mapping[str, str]) -> str:
    """Write uwsgi.ini.

    Args:
        config: its numbers; what gateway.wsgi loads when uWSGI runs must say the same.
        registry: its deadlines.
        environment: variables that gateway.wsgi must find for that. (uWSGI's option env comes too late for Python
            where uWSGI is a wheel.)

    """
    limits, mercy = config.limits, max(1, math.ceil(config.server.drain))
    deadline = max([limits.timeout, *(method.options.timeout or 0 for _, method in registry.methods())])
    variables = "".join(f"{name}={shlex.quote(value)} " for name, value in environment.items())
    return _UWSGI.format(
        environment=variables,
        bind=config.server.bind,
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
