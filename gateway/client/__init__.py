"""Our own callers: of a gateway, and of any other server of XML-RPC or JSON-RPC 2.0.

    Client          blocking; threads may share it
    AsyncClient     for asyncio
    errors.py       what is raised where there is no response; the server's faults are those of gateway/model/faults.py

core.py is both clients without their sockets, wires.py one exchange by HTTP or plain TCP, blocking.py and loop.py are
the sockets; subscriptions.py and sockets.py are AsyncClient over WebSocket.
"""

from gateway.client.calls import AsyncClient, Batch, Client
from gateway.client.core import Outcome
from gateway.client.errors import (
    ArgumentError,
    BadResponse,
    CallError,
    CallTimeout,
    ConnectionLost,
    StatusError,
    TLSError,
    Unreachable,
)
from gateway.client.subscriptions import Gap, Subscription

__all__ = [
    "ArgumentError",
    "AsyncClient",
    "BadResponse",
    "Batch",
    "CallError",
    "CallTimeout",
    "Client",
    "ConnectionLost",
    "Gap",
    "Outcome",
    "StatusError",
    "Subscription",
    "TLSError",
    "Unreachable",
]
