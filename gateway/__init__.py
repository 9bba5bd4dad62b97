"""One address for remote procedure calls: XML-RPC and JSON-RPC 2.0 in front of plain Python functions.

    from gateway import Fault, method

    @method
    def divide(a: float, b: float) -> float:
        if b == 0:
            raise Fault(1, "division by zero")
        return a / b

``gateway serve`` serves such functions from the package ``handlers`` of the current folder. A program of its own serves
a Registry with ``serve``, which blocks; with ``Server`` on its event loop; with ``running`` beside it, in a thread; as
an ASGI application, with ``asgi``; or with ``endpoint`` in the app of another framework (docs/mounting.md).
"""

from gateway.app.mounted import asgi, endpoint
from gateway.client import AsyncClient, CallError, Client
from gateway.config import Config, ConfigError
from gateway.methods import RegistrationError, Registry, method
from gateway.methods.loading import LoadError
from gateway.model.calls import Call, Caller, Context, Reply, current_context
from gateway.model.faults import (
    BadUpstream,
    DeadlineExceeded,
    Denied,
    Fault,
    InternalError,
    InvalidParams,
    MethodNotFound,
    Overloaded,
    RateLimited,
    Unavailable,
)
from gateway.model.http import AccessDenied, Endpoint, HTTPRequest
from gateway.process.control import StartupError
from gateway.process.embedding import Server, running
from gateway.process.server import serve

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "BadUpstream",
    "Call",
    "CallError",
    "Caller",
    "Client",
    "Config",
    "ConfigError",
    "Context",
    "DeadlineExceeded",
    "Denied",
    "Endpoint",
    "Fault",
    "HTTPRequest",
    "InternalError",
    "InvalidParams",
    "LoadError",
    "MethodNotFound",
    "Overloaded",
    "RateLimited",
    "RegistrationError",
    "Registry",
    "Reply",
    "Server",
    "StartupError",
    "Unavailable",
    "asgi",
    "current_context",
    "endpoint",
    "method",
    "running",
    "serve",
]
