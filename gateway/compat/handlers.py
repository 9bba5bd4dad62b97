"""Request handlers of programs for SimpleXMLRPCServer: what of them counts, and what of them is refused."""

from pathlib import Path
from typing import Any

import msgspec

from gateway.config import Config, load
from gateway.config.monitoring import MetricsSection

_NEVER = 2**62  # bytes of a response that is compressed
_REMEDIES = {  # what programs override in a request handler -> what does the same here
    "_dispatch": "use server.registry.middleware",
    "do_POST": "use server.registry.middleware, or server.registry.authenticate for the head",
    "parse_request": "use server.registry.authenticate, which sees the head of each request",
    "authenticate": "use server.registry.authenticate",
    "end_headers": "access.origins lets web pages call, with all headers that they need",
    "do_OPTIONS": "access.origins lets web pages call",
    "do_GET": "only calls are answered; docs/mounting.md shows how to serve them beside pages",
}
_LIBRARY = frozenset({"gateway", "xmlrpc", "http", "socketserver", "builtins"})


class SimpleXMLRPCRequestHandler:
    """How requests are answered; a program may have a subclass that says something else.

    Attributes:
        rpc_paths: where calls are POSTed to.
        encode_threshold: bytes above which a response is compressed for clients that accept it; None for never.

    """

    rpc_paths: tuple[str, ...] = ("/", "/RPC2")
    encode_threshold: int | None = 1400


def check_handler(handler: type) -> None:
    """Refuse a request handler that does something of its own; how it logs is let be.

    Raises:
        TypeError: it has a method that would not be called.

    """
    classes = [each for each in handler.__mro__ if each.__module__.partition(".")[0] not in _LIBRARY]
    for name, remedy in _REMEDIES.items():
        if any(name in vars(each) for each in classes):
            raise TypeError(f"{handler.__name__}.{name} would not be called: {remedy}")


def configured(config: str | Path | Config | None, handler: Any, *, allow_none: bool) -> Config:
    """Return the configuration of a server with such a request handler.

    Raises:
        ConfigError: the file is wrong.

    """
    loaded = load(Path(config), {}, ()) if isinstance(config, str | Path) else config
    loaded = loaded or Config(metrics=MetricsSection(bind=""))
    above = handler.encode_threshold
    return msgspec.structs.replace(
        loaded,
        limits=msgspec.structs.replace(loaded.limits, compress_above=_NEVER if above is None else above),
        server=msgspec.structs.replace(loaded.server, paths=tuple(handler.rpc_paths)),
        xmlrpc=msgspec.structs.replace(loaded.xmlrpc, none="nil" if allow_none else "fault"),
    )
