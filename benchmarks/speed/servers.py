"""Who is compared: a row for each server.

A server joins by its row; nothing else names one, but the rows of what it is compared with (cases.py). Each prints
``http://127.0.0.1:PORT/`` when it is ready.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from msgspec import Struct

from benchmarks.concurrency.processes import ROOT
from benchmarks.running import cores

XML, JSON = "XML-RPC", "JSON-RPC"
BUILT = ROOT / "build" / "speed"  # what git does not see
_GO, _NODE = BUILT / "xmlrpc-go", BUILT / "node"
NODE_MODULES = _NODE / "node_modules"
_PEERS = ROOT / "benchmarks" / "speed" / "peers"
_JAYSON = "jayson@5.0.0"
_PYTHON = (sys.executable, "-m")
_GATEWAY = (
    *(*_PYTHON, "gateway", "serve", "benchmarks.speed.methods", "--bind", "127.0.0.1:0", "--set", "server.drain=0"),
    *("--set", "limits.max_body=16777216", "--set", 'access.trusted_proxies=["127.0.0.1"]'),
)
_ALL = frozenset({"add", "addAsync", "addThread", "echo", "sleepAsync", "sleepThread"})
_COMPILED = find_spec("gateway.codecs.xmlrpc._compiled") is not None
_PURE = {"GATEWAY_CODEC": "pure"} if _COMPILED else {}


class Missing(Exception):
    """A server cannot be had on this machine; the message says what it needs."""


def _nothing() -> None:
    """Prepare a server that is ready to start."""


class Server(Struct, frozen=True, kw_only=True):
    """A server.

    Attributes:
        key: what stands for it in results.json, and on the command line.
        name: what stands for it in tables and pictures.
        paths: where it serves, by the protocols that it speaks.
        methods: what it offers of what is called.
        command: what starts it.
        environment: variables that it is started with.
        prepare: fetches or builds it, once; raises Missing.
        warm_up: seconds under load before it is measured.
        spread: whether it has all cores; otherwise it has one.

    """

    key: str
    name: str
    paths: dict[str, str]
    methods: frozenset[str]
    command: tuple[str, ...]
    environment: dict[str, str] = {}
    prepare: Callable[[], None] = _nothing
    warm_up: int = 1
    spread: bool = False

    @property
    def short(self) -> str:
        """Return the name without what it consists of."""
        return re.split(",| on | with ", self.name)[0]

    @property
    def cores(self) -> list[int]:
        """Return the cores that it runs on."""
        return cores() if self.spread else cores()[:1]


def _compiled() -> None:
    """See whether the compiled codec is there."""
    if not _COMPILED:
        raise Missing("the compiled codec is not built")


def _go() -> None:
    """Build the server that is written in Go."""
    if not shutil.which("go"):
        raise Missing("it needs go (Debian's package is golang-go)")
    _run(["go", "build", "-o", str(_GO), str(_PEERS / "xmlrpc.go")])


def _jayson() -> None:
    """Install jayson into a folder that git does not see."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise Missing("it needs node and npm")
    if not (NODE_MODULES / "jayson").is_dir():
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(_NODE), _JAYSON])


def _run(command: list[str]) -> None:
    BUILT.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, cwd=BUILT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or ["nothing was said"]
        raise Missing(f"{' '.join(command[:2])} fails: {said[-1]}")


def _modules(*names: str) -> Callable[[], None]:
    def prepare() -> None:
        for name in names:
            if not find_spec(name):
                raise Missing("it needs the extra compare")

    return prepare


_PATHS = {XML: "/RPC2", JSON: "/jsonrpc"}
SERVERS = (
    Server(
        key="gateway",
        name="gateway",
        paths=_PATHS,
        methods=_ALL,
        command=_GATEWAY,
        environment=_PURE,
    ),
    Server(
        key="gateway-compiled",
        name="gateway with compiled codec",
        paths={XML: "/RPC2"},
        methods=_ALL,
        command=_GATEWAY,
        environment={"GATEWAY_CODEC": "compiled"},
        prepare=_compiled,
    ),
    Server(
        key="go",
        name="Go, net/http and encoding/xml",
        paths={XML: "/RPC2"},
        methods=_ALL,
        command=(str(_GO),),
        prepare=_go,
    ),
    Server(
        key="jayson",
        name="jayson on node",
        paths={JSON: "/"},
        methods=frozenset({"add", "addAsync", "echo"}),
        command=("node", str(_PEERS / "jayson_server.js")),
        environment={"NODE_PATH": str(NODE_MODULES)},
        prepare=_jayson,
        warm_up=10,
    ),
    Server(
        key="standard-library",
        name="standard library, threads, HTTP/1.1",
        paths={XML: "/RPC2"},
        methods=frozenset({"add", "addThread", "echo", "sleepThread"}),
        command=(*_PYTHON, "benchmarks.speed.peers.standard_library"),
    ),
    Server(
        key="aiohttp-xmlrpc",
        name="aiohttp-xmlrpc on uvloop",
        paths={XML: "/RPC2"},
        methods=frozenset({"add", "addAsync", "echo"}),
        command=(*_PYTHON, "benchmarks.speed.peers.on_aiohttp", "xmlrpc"),
        prepare=_modules("aiohttp", "aiohttp_xmlrpc"),
    ),
    Server(
        key="pjrpc",
        name="pjrpc on aiohttp and uvloop",
        paths={JSON: "/jsonrpc"},
        methods=frozenset({"add", "addAsync", "echo"}),
        command=(*_PYTHON, "benchmarks.speed.peers.on_aiohttp", "jsonrpc"),
        prepare=_modules("aiohttp", "pjrpc"),
    ),
    Server(
        key="tornado",
        name="plain Tornado on uvloop",
        paths=_PATHS,
        methods=frozenset({"add", "echo"}),
        command=(*_PYTHON, "benchmarks.plain_tornado", "uvloop"),
    ),
    Server(
        key="one-worker",
        name="gateway, one worker on all cores",
        paths=_PATHS,
        methods=frozenset({"add"}),
        command=_GATEWAY,
        environment=_PURE,
        spread=True,
    ),
    Server(
        key="two-workers",
        name="gateway, two workers on all cores",
        paths=_PATHS,
        methods=frozenset({"add"}),
        command=(*_GATEWAY, "--workers", "2"),
        environment=_PURE,
        spread=True,
    ),
)
BY_KEY = {server.key: server for server in SERVERS}


def available(servers: Sequence[Server]) -> tuple[list[Server], dict[str, str]]:
    """Return the servers that can be had on this machine, and of the others, by their keys, what they need."""
    if not shutil.which("wrk"):
        raise SystemExit("wrk makes the load: install it (Debian's package is wrk), and try again")
    found, missing = [], {}
    for server in servers:
        try:
            server.prepare()
        except Missing as reason:
            missing[server.key] = str(reason)
        else:
            found.append(server)
    return found, missing
