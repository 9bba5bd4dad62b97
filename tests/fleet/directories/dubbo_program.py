"""Programs of Dubbo's own SDK for Python: python -m tests.fleet.directories.dubbo_program ROLE SERVER ...

``provide SERVER PORT`` serves org.example.Hello, whose hello takes and returns a message with a text, and lists it.
``read SERVER SERVICE`` writes what a consumer is told of a service, as JSON: the URLs as it reads them.
"""

import json
import sys
import threading
from typing import Any

from dubbo import Dubbo
from dubbo.configs import RegistryConfig, ServiceConfig
from dubbo.proxy.handlers import RpcMethodHandler, RpcServiceHandler
from dubbo.registry import NotifyListener
from dubbo.registry.zookeeper.zk_registry import ZookeeperRegistryFactory
from dubbo.url import create_url


def hello(request: bytes) -> bytes:
    """Greet whoever is in field 1 of a short message."""
    text = b"hello " + request[2:]
    return b"\n%c%b" % (len(text), text)


def provide(server: str, port: str) -> None:
    methods = [RpcMethodHandler.unary(hello, method_name="hello")]
    handler = RpcServiceHandler(service_name="org.example.Hello", method_handlers=methods)
    made = Dubbo(registry_config=RegistryConfig.from_url(f"zookeeper://{server}"))
    made.create_server(ServiceConfig(handler, host="127.0.0.1", port=int(port))).start()
    threading.Event().wait()


class Printed(NotifyListener):  # type: ignore[misc]
    """Writes what it is told."""

    def __init__(self) -> None:
        self.told = threading.Event()

    def notify(self, urls: list[Any]) -> None:
        said = [[url.scheme, url.location, url.path, url.parameters] for url in urls]
        sys.stdout.write(f"{json.dumps(said)}\n")
        sys.stdout.flush()
        self.told.set()


def read(server: str, service: str) -> None:
    listener = Printed()
    registry = ZookeeperRegistryFactory().get_registry(create_url(f"zookeeper://{server}"))
    registry.subscribe(create_url(f"consumer://127.0.0.1/{service}?service={service}"), listener)
    listener.told.wait(20)
    registry.destroy()


if __name__ == "__main__":
    {"provide": provide, "read": read}[sys.argv[1]](*sys.argv[2:])
