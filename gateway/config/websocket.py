"""The options of JSON-RPC over WebSocket: the section ``[websocket]``. Sizes and calls at once are in ``[limits]``."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.server import URLPath

_Name = Annotated[str, Meta(pattern=r"^[\x21-\x7e]+$", description="a name without blanks")]


class WebSocketSection(Struct, frozen=True, kw_only=True):
    """JSON-RPC over WebSocket, on the same addresses as HTTP; docs/websocket.md explains it."""

    enabled: Annotated[
        bool,
        Meta(
            description="Whether WebSockets are accepted. The sizes of messages, the calls of one connection at once"
            " and the number of connections are those of [limits], and who is let in is in [access]."
        ),
    ] = False
    path: Annotated[URLPath, Meta(description="The path of WebSockets, which is not one of server.paths.")] = "/ws"
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
        Meta(
            gt=0, le=86400, description="Seconds that the client has to answer a ping; then the connection is closed."
        ),
    ] = 20.0
    idle_timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=604_800,
            description="Seconds that a connection stays open without a message, a call that runs, or a subscription.",
        ),
    ] = 3600.0
    subscribe: Annotated[
        _Name,
        Meta(description='The method that subscribes to a stream; "eth_subscribe" for clients of Ethereum.'),
    ] = "rpc.subscribe"
    unsubscribe: Annotated[
        _Name, Meta(description='The method that ends a subscription; "eth_unsubscribe" for clients of Ethereum.')
    ] = "rpc.unsubscribe"
    notification: Annotated[
        _Name,
        Meta(description='The method of notifications with values; "eth_subscription" for clients of Ethereum.'),
    ] = "rpc.subscription"
    ended: Annotated[_Name, Meta(description="The method of the notification that a stream has ended.")] = "rpc.ended"
    send: Annotated[_Name, Meta(description="The method that sends a message to a subscription that takes some.")] = (
        "rpc.send"
    )
    close: Annotated[_Name, Meta(description="The method that says that no more messages follow.")] = "rpc.close"
    subscriptions: Annotated[int, Meta(ge=1, le=100_000, description="Subscriptions of one connection.")] = 100
    slow_readers: Annotated[
        Literal["wait", "drop", "end"],
        Meta(
            description='What happens to values that the client does not read in time. "wait": the method is not asked'
            ' for more. "drop": the oldest values are dropped, and the client is told how many. "end": the subscription'
            " ends."
        ),
    ] = "wait"
    buffer: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description='Values of a subscription that are kept for a slow client, with "drop" and "end". Together they'
            " have at most limits.max_reply bytes.",
        ),
    ] = 100
