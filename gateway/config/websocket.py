"""The options of JSON-RPC over WebSocket: the section ``[websocket]``. Sizes and calls at once are in ``[limits]``."""

from typing import Annotated

from msgspec import Meta, Struct


class WebSocketSection(Struct, frozen=True, kw_only=True):
    """JSON-RPC over WebSocket."""

    enabled: Annotated[bool, Meta(description="Whether WebSocket is spoken.")] = False
    path: Annotated[
        str,
        Meta(pattern=r"^/[A-Za-z0-9._~%@:+=/-]*$", description="The path of it, which is not one of server.paths."),
    ] = "/ws"
    ping_interval: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="Seconds without a byte from the client after which it is sent a ping; 0 for never. Proxies and"
            " address translators forget silent connections after a minute or more.",
        ),
    ] = 20.0
    ping_timeout: Annotated[
        float,
        Meta(gt=0, le=86400, description="Seconds that it has to answer a ping; then the connection is closed."),
    ] = 20.0
    idle_timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=604_800,
            description="Seconds that a connection stays open without a message and without a call that runs.",
        ),
    ] = 3600.0
