"""A real DNS server: knot, with one zone that a test writes."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.serving import eventually, free_port

_CONFIGURATION = """
server:
    rundir: {folder}
    listen: 127.0.0.1@{port}
    user: root
log:
  - target: stderr
    any: info
database:
    storage: {folder}
template:
  - id: default
    storage: {folder}
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
zone:
  - domain: t.
    file: {folder}/t.zone
"""
_HEAD = "$ORIGIN t.\n$TTL {ttl}\n@ {ttl} IN SOA ns a {serial} 1 1 1 {ttl}\n@ {ttl} IN NS ns\nns {ttl} IN A 127.0.0.1\n"


class Knot:
    """A server in a folder, on a port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._serial = 0
        self._process: subprocess.Popen[bytes] | None = None
        configuration = _CONFIGURATION.format(folder=folder, port=self.port)
        if os.geteuid() != 0:
            configuration = configuration.replace("    user: root\n", "")
        (folder / "knot.conf").write_text(configuration)

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.port}"

    def write(self, *records: str, ttl: int = 0) -> None:
        """Have these records in the zone, and nothing else; a server that runs reads them."""
        self._serial += 1
        text = _HEAD.format(ttl=ttl, serial=self._serial) + "".join(f"{record}\n" for record in records)
        (self._folder / "t.zone.new").write_text(text)
        (self._folder / "t.zone.new").replace(self._folder / "t.zone")
        if self._process is not None:
            control = [_program("knotc"), "-s", str(self._folder / "knot.sock"), "-b", "zone-reload", "t."]
            subprocess.run(control, check=True, capture_output=True)

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program("knotd"), "-c", str(self._folder / "knot.conf")], stdout=log, stderr=subprocess.STDOUT
            )
        eventually(self._listens, "knot does not start")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Hold it: it is silent."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _program(name: str) -> str:
    program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin")
    assert program is not None, f"{name} is needed (Debian's package is knot)"
    return program


@contextmanager
def knot(folder: Path, *records: str) -> Iterator[Knot]:
    server = Knot(folder)
    server.write(*records)
    server.start()
    try:
        yield server
    finally:
        server.kill()
