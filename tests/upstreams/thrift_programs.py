"""Thrift servers to stand behind a gateway: python -m tests.upstreams.thrift_programs LIBRARY PROTOCOL TRANSPORT PORT.

LIBRARY is thriftpy2, thriftpy2-multiplexed, or official, which is Apache's own with the code that its compiler makes;
``make`` has it made in the environment. With CERT in the environment, the official one speaks TLS.
"""

import importlib
import os
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

import thriftpy2
from thriftpy2.protocol import TBinaryProtocolFactory, TCompactProtocolFactory
from thriftpy2.rpc import make_server
from thriftpy2.thrift import TMultiplexedProcessor, TProcessor
from thriftpy2.transport import TBufferedTransportFactory, TFramedTransportFactory

from tests.upstreams import programs

HERE = Path(__file__).parent
GENERATED = Path(sys.prefix) / "thrift"  # of the environment, of which there may be one for each Python


class Handler:
    """The methods, for both libraries; they differ in the classes of what is not plain."""

    def __init__(self, invalid_operation: Any, person: Any) -> None:
        self._invalid_operation = invalid_operation
        self._person = person
        self._stored: Any = None
        self.add = programs.add
        self.subtract = programs.subtract
        self.multiply = programs.multiply
        self.echo = programs.echo
        self.pause = programs.pause
        self.mark = programs.mark
        self.paint = programs.echo
        self.nest = programs.echo

    def divide(self, a: float, b: float) -> float:
        if b == 0:
            raise self._invalid_operation(operation=4, why="division by zero")
        return a / b

    def getObj(self) -> Any:  # noqa: N802 - as the articles call it
        return self._stored

    def sendObj(self, data: Any) -> None:  # noqa: N802
        self._stored = data

    def search(self, number: str, last_name: str, first_name: str) -> list[Any]:
        return [
            self._person(id=row[0], last_name=row[1], first_name=row[2], number=row[3])
            for row in programs.search(number or None, last_name or None, first_name or None)
        ]

    def leave(self, path: str) -> None:
        programs.mark(path, 0)

    def reverse(self, data: bytes) -> bytes:
        return data[::-1]

    def negate(self, value: bool) -> bool:
        return not value

    def crash(self, why: str) -> None:
        raise RuntimeError(why)


def serve_thriftpy2(protocol: str, transport: str, port: int, *, multiplexed: bool = False) -> None:
    module = thriftpy2.load(str(HERE / "programs.thrift"), module_name="programs_thrift")
    handler = Handler(module.InvalidOperation, module.shapes.Person)
    processor: Any = TProcessor(module.Programs, handler)
    if multiplexed:
        several = TMultiplexedProcessor()
        several.register_processor("Programs", processor)
        processor = several
    factories: dict[str, Any] = {"binary": TBinaryProtocolFactory, "compact": TCompactProtocolFactory}
    server = make_server(
        module.Programs,
        handler,
        "127.0.0.1",
        port,
        proto_factory=factories[protocol](),
        trans_factory=TBufferedTransportFactory() if transport == "buffered" else TFramedTransportFactory(),
        client_timeout=600_000,
    )
    server.processor = processor
    server.serve()


def serve_official(protocol: str, transport: str, port: int) -> None:
    sys.path.insert(0, str(GENERATED))
    from thrift.protocol.TBinaryProtocol import TBinaryProtocolFactory  # type: ignore[import-untyped]
    from thrift.protocol.TCompactProtocol import TCompactProtocolFactory  # type: ignore[import-untyped]
    from thrift.server.TServer import TThreadedServer  # type: ignore[import-untyped]
    from thrift.transport.TSocket import TServerSocket  # type: ignore[import-untyped]
    from thrift.transport.TSSLSocket import TSSLServerSocket  # type: ignore[import-untyped]
    from thrift.transport.TTransport import TBufferedTransportFactory, TFramedTransportFactory  # type: ignore[import-untyped]

    types = importlib.import_module("programs.ttypes")
    shapes = importlib.import_module("shapes.ttypes")
    generated = importlib.import_module("programs.Programs")
    threading.excepthook = lambda _: None
    encrypted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if "CERT" in os.environ:
        encrypted.load_cert_chain(os.environ["CERT"])
    TThreadedServer(
        generated.Processor(Handler(types.InvalidOperation, shapes.Person)),
        TSSLServerSocket("127.0.0.1", port, ssl_context=encrypted)
        if "CERT" in os.environ
        else TServerSocket("127.0.0.1", port),
        TBufferedTransportFactory() if transport == "buffered" else TFramedTransportFactory(),
        TBinaryProtocolFactory() if protocol == "binary" else TCompactProtocolFactory(),
        daemon=True,
    ).serve()


if __name__ == "__main__":
    library, spoken, carried, where = sys.argv[1:]
    if library == "official":
        serve_official(spoken, carried, int(where))
    else:
        serve_thriftpy2(spoken, carried, int(where), multiplexed=library != "thriftpy2")
