"""A real ZooKeeper server, as Debian has it, in a small JVM."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate
from kazoo.client import KazooClient

from tests.serving import eventually, free_port

JARS = Path("/usr/share/java")
_NAMES = ("zookeeper.jar", "zookeeper-jute.jar", "slf4j-api.jar", "slf4j-simple.jar", "snappy-java.jar")
_JAVA = ("-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_MAIN = "org.apache.zookeeper.server.ZooKeeperServerMain"
_PEER = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_CONFIGURATION = """
tickTime=200
dataDir={folder}/data
clientPort={port}
clientPortAddress=127.0.0.1
minSessionTimeout=400
admin.enableServer=false
maxClientCnxns=0
4lw.commands.whitelist=srvr
"""
_ENCRYPTED = """
serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory
secureClientPort={secure}
secureClientPortAddress=127.0.0.1
ssl.keyStore.location={folder}/key.p12
ssl.keyStore.password=secret
ssl.trustStore.location={folder}/ca.pem
ssl.clientAuth=need
"""


class ZooKeeper:
    """A server in a folder, on a port; with an authority it has another port, for TLS.

    ``peers`` are the ports of the servers of an ensemble, of which this one is ``number``.
    """

    def __init__(
        self,
        folder: Path,
        authority: trustme.CA | None = None,
        number: int = 0,
        peers: Sequence[tuple[int, int]] = (),
    ) -> None:
        assert (JARS / "zookeeper.jar").exists(), "ZooKeeper is needed (Debian's package is zookeeper)"
        self.folder = folder
        self.port, self.secure = free_port(), 0
        self._process: subprocess.Popen[bytes] | None = None
        text = _CONFIGURATION
        if authority is not None:
            self.secure = free_port()
            text += _ENCRYPTED
            _write_key(authority, folder / "key.p12")
            authority.cert_pem.write_to_path(folder / "ca.pem")
        self._main = _MAIN if not peers else _PEER
        if peers:
            (folder / "data").mkdir()
            (folder / "data" / "myid").write_text(f"{number + 1}\n")
            text += "initLimit=25\nsyncLimit=10\n"
            text += "".join(f"server.{n + 1}=127.0.0.1:{a}:{b}\n" for n, (a, b) in enumerate(peers))
        (folder / "zoo.cfg").write_text(text.format(folder=folder, port=self.port, secure=self.secure))

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.begin()
        eventually(self.serves, "ZooKeeper does not start")

    def begin(self) -> None:
        """Start it, and do not wait: one of an ensemble serves only beside others."""
        java = shutil.which("java")
        assert java is not None, "Java is needed, which comes with Debian's package zookeeper"
        jars = [*(JARS / name for name in _NAMES), *JARS.glob("netty-*.jar")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    java,
                    *_JAVA,
                    "-Dzookeeper.forceSync=no",
                    "-Dzookeeper.electionPortBindRetry=0",
                    "-cp",
                    ":".join(map(str, jars)),
                    self._main,
                    str(self.folder / "zoo.cfg"),
                ],
                stdout=log,
                stderr=log,
            )

    def serves(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as asked:
            asked.settimeout(1)
            asked.sendall(b"srvr")
            return b"Mode:" in asked.recv(4096)
        return False

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def lose_data(self) -> None:
        """Lose what is on disk; it must not run."""
        shutil.rmtree(self.folder / "data")

    def stop(self) -> None:
        """Hold it: it is silent."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self, **options: Any) -> Any:
        """Connect with kazoo, another client."""
        client = KazooClient(self.server, timeout=2.0, **options)
        client.start(10)
        return client


def _write_key(authority: trustme.CA, file: Path) -> None:
    issued = authority.issue_cert("localhost", "127.0.0.1")
    key: Any = load_pem_private_key(issued.private_key_pem.bytes(), None)
    certificate = load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    above = [load_pem_x509_certificate(authority.cert_pem.bytes())]
    encryption = BestAvailableEncryption(b"secret")
    file.write_bytes(serialize_key_and_certificates(b"server", key, certificate, above, encryption))
