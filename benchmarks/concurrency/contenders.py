"""Who is compared: a row for each server, with the command that starts it on a port.

A server joins the comparison by its row; nothing else names one. Each serves XML-RPC at /RPC2 and has a method that
takes a number of seconds, blocks or waits for as long, and returns "done".
"""

import signal
import sys
from pathlib import Path

from msgspec import Struct

_PYTHON = (sys.executable, "-m")
_STANDARD_LIBRARY = (*_PYTHON, "benchmarks.concurrency.servers.standard_library")
_BACKLOG = min(4096, int(Path("/proc/sys/net/core/somaxconn").read_text()))  # uWSGI does not start with more
_UWSGI = (
    str(Path(sys.executable).with_name("uwsgi")),
    *("--strict", "--need-app", "--module", "benchmarks.concurrency.servers.flask_app:app"),
    *("--master", "--single-interpreter", "--py-call-uwsgi-fork-hooks", "--disable-logging"),
    *("--http-socket", "127.0.0.1:{port}", "--listen", str(_BACKLOG), "--add-header", "Connection: close"),
)
_AT_ONCE = ("--set", "server.drain=0")  # a stopped gateway lets no call end
_THREADS = ("--set", "limits.threads=2048", "--set", "limits.waiting=4096")  # the defaults are 512 and 1,024
_GATEWAY = (*_PYTHON, "gateway", "serve", "handlers", "--bind", "127.0.0.1:{port}", *_AT_ONCE)
_ONE_CLIENT = ("--set", "nginx.rate=0", "--set", "nginx.connections=0")  # all users have one address
_EDGE = (*_PYTHON, "benchmarks.edge", "handlers", "--set", "server.workers=2", *_ONE_CLIENT, *_THREADS, *_AT_ONCE)


class Contender(Struct, frozen=True, kw_only=True):
    """A server.

    Attributes:
        key: what stands for it in results.json, and on the command line.
        name: what stands at its line in the pictures.
        family: servers of one family work alike; a short test takes one of each.
        command: what starts it; ``{port}`` stands for the port, if it can be told.
        announces: what the server says of its URL, and of the certificate that it has, if it chooses its port itself: a
            pattern with these groups.
        method: what is called.
        stop: the signal that ends it; at all others uWSGI waits for calls that block.
        note: how it is set up, for the report.

    """

    key: str
    name: str
    family: str
    command: tuple[str, ...]
    announces: str = ""
    method: str = "sleep"
    stop: signal.Signals = signal.SIGTERM
    note: str


CONTENDERS = (
    Contender(
        key="simple",
        name="SimpleXMLRPCServer",
        family="standard library",
        command=(*_STANDARD_LIBRARY, "simple", "{port}"),
        note="one call at a time",
    ),
    Contender(
        key="threading",
        name="ThreadingMixIn, backlog 5",
        family="standard library",
        command=(*_STANDARD_LIBRARY, "threading", "{port}"),
        note="a thread for each connection; its default backlog",
    ),
    Contender(
        key="threading-backlog",
        name="ThreadingMixIn, backlog 4096",
        family="standard library",
        command=(*_STANDARD_LIBRARY, "backlog", "{port}"),
        note="the same with `request_queue_size = 4096`",
    ),
    Contender(
        key="uwsgi-2",
        name="Flask on uWSGI, 2 processes",
        family="Flask on uWSGI",
        command=(*_UWSGI, "--processes", "2"),
        stop=signal.SIGKILL,
        note="the gateway's blueprint, prefork",
    ),
    Contender(
        key="uwsgi-8",
        name="Flask on uWSGI, 8 processes",
        family="Flask on uWSGI",
        command=(*_UWSGI, "--processes", "8"),
        stop=signal.SIGKILL,
        note="the same",
    ),
    Contender(
        key="uwsgi-40",
        name="Flask on uWSGI, 40 processes",
        family="Flask on uWSGI",
        command=(*_UWSGI, "--processes", "40"),
        stop=signal.SIGKILL,
        note="the same",
    ),
    Contender(
        key="uwsgi-threads",
        name="Flask on uWSGI, 4x50 threads",
        family="Flask on uWSGI",
        command=(*_UWSGI, "--processes", "4", "--threads", "50"),
        stop=signal.SIGKILL,
        note="the same, 4 processes with 50 threads each",
    ),
    Contender(
        key="tornado-blocking",
        name="Tornado, blocked loop",
        family="Tornado",
        command=(*_PYTHON, "benchmarks.concurrency.servers.blocking_tornado", "{port}"),
        note="a RequestHandler that calls `time.sleep`",
    ),
    Contender(
        key="gateway-threads",
        name="gateway, threads",
        family="gateway",
        command=(*_GATEWAY, *_THREADS),
        note="a blocking method; `limits.threads=2048`, `limits.waiting=4096`",
    ),
    Contender(
        key="gateway-async",
        name="gateway, async",
        family="gateway",
        command=_GATEWAY,
        method="asyncSleep",
        note="an async method",
    ),
    Contender(
        key="gateway-nginx",
        name="nginx, gateway with 2 workers",
        family="gateway",
        command=_EDGE,
        announces=r"nginx is ready at (?P<url>https://localhost:\d+)/.*\n.*--cacert (?P<certificate>\S+)",
        note="a blocking method over TLS; in each of 2 processes `limits.threads=2048`, `limits.waiting=4096`",
    ),
)
