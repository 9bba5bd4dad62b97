"""The drill of rolling restarts: two published gateways are reloaded, stopped and started, one after the other.

A third gateway finds them in ZooKeeper, and has 300 calls a second for them. Its callers must not notice.
"""

import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from gateway import Registry
from tests.fleet.directories.zookeeper import ZooKeeper
from tests.fleet.load import Load
from tests.process.fleets import Fleet, fleet, write_handlers
from tests.serving import eventually, free_port, serving

NAME = "2 times each of two published gateways is reloaded, then stopped and started"
_PROVIDERS = "/dubbo/callgate/providers"
_HANDLERS = """
import os

from gateway import method

LOG = os.open({log!r}, os.O_WRONLY | os.O_APPEND)


@method
def get(key: str) -> int:
    os.write(LOG, f"{{key}}\\n".encode())
    return os.getpid()


@method
def put(key: str) -> int:
    return get(key)
"""


def drilled(pause: float) -> tuple[Load, Counter[str]]:
    """Run it, and return the calls, and how often each has run."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        log = Path(folder) / "executed"
        log.touch()
        directory = Path(folder) / "directory"
        directory.mkdir()
        server = ZooKeeper(directory)
        stack.callback(server.kill)
        server.start()
        others = server.client()
        stack.callback(others.close)
        stack.callback(others.stop)
        running = [_started(stack, Path(folder) / name, server.server, str(log)) for name in ("one", "other")]
        eventually(lambda: len(others.get_children(_PROVIDERS)) == 2, "they are not listed")
        file = Path(folder) / "gateway.toml"
        file.write_text(
            f"[directories.zk]\nkind = 'zookeeper'\nservers = ['{server.server}']\nsession = 4.0\n"
            "[upstreams.up]\nurl = 'jsonrpc+http:///api'\ndirectory = 'zk'\ndirectory_service = 'callgate'\n"
            "methods = { get = ['key'], put = ['key'] }\nidempotent = ['get']\n"
        )
        with serving(Registry(), None, file) as front, Load(front.port, 2.0, pause) as load:
            time.sleep(1)
            for _ in range(2):
                for gateway, start in running:
                    gateway[0].signal(signal.SIGHUP)
                    eventually(lambda gateway=gateway: "reloaded" in gateway[0].log, "it does not reload")  # type: ignore[misc]
                    gateway[0].signal(signal.SIGTERM)
                    gateway[0].end()
                    gateway[0] = start()
                    eventually(lambda: len(others.get_children(_PROVIDERS)) == 2, "it is not listed again")
                    time.sleep(1)
        return load, Counter(log.read_text().split())


def _started(stack: ExitStack, folder: Path, directory: str, log: str) -> tuple[list[Fleet], Callable[[], Fleet]]:
    """Start a published gateway; return it, and what starts it again."""
    folder.mkdir()
    write_handlers(folder, _HANDLERS.format(log=log))
    settings = (
        "server.grace=1",
        "publish.directory=zk",
        "directories.zk.kind=zookeeper",
        f"directories.zk.servers={directory}",
        "directories.zk.session=4",
    )
    bind = f"127.0.0.1:{free_port()}"

    def start() -> Fleet:
        return stack.enter_context(fleet(folder, *settings, workers=1, bind=bind))

    return [start()], start
