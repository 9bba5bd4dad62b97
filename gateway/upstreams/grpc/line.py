"""A connection to a gRPC server for what streams: one channel of grpc, ready or failed.

    line = await connect(make_channel, closing, seconds)   StatusError: there is no connection, and why
    line.usable()                                          for the pool
    async with line.calling(invocation): ...               a call of it

grpc connects and reconnects at its own pace, with pauses of up to two minutes, and a call does not learn whether it
was sent. So a channel is taken here for one connection: when that has gone, a new channel is made. grpc tries a call a
second time only where the server has certainly not begun with it (GOAWAY below its stream, REFUSED_STREAM: "transparent
retries"); no retry policy of a service's configuration is read. A connection on which nothing
was received since a call without a response in time was sent may be dead; it gets no new calls.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from gateway.model.faults import BadUpstream
from gateway.model.limits import Limits
from gateway.upstreams import Invocation
from gateway.upstreams.grpc.status import StatusError

HEALTH = "/grpc.health.v1.Health/Check"  # harmless, should it get through
_DETAILS = "grpc-status-details-bin"
_READY = grpc.ChannelConnectivity.READY
_SETTLED = (_READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


def channel_options(limits: Limits, server_name: str | None) -> list[tuple[str, Any]]:
    """Return grpc's options (channel arguments) for what is called as it is configured, and no other way."""
    named = [] if server_name is None else [("grpc.ssl_target_name_override", server_name)]
    return [
        ("grpc.max_receive_message_length", limits.max_reply),
        ("grpc.max_send_message_length", -1),  # the gateway's own limit has been before
        ("grpc.compression_enabled_algorithms_bitset", 7),  # none, deflate, gzip; the limit holds for what is unpacked
        ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.primary_user_agent", "callgate"),
        *named,
    ]


class Line:
    """One connection. ``closing`` takes the tasks that close it."""

    def __init__(self, channel: grpc.aio.Channel, closing: set[asyncio.Future[None]]) -> None:
        self.channel = channel
        self._closing = closing
        self._closed = False
        self._heard = 0
        self._retired = False

    def usable(self) -> bool:
        """Tell whether a new call can be sent."""
        return not self._retired and not self._closed and self.channel.get_state() is _READY

    def close(self) -> None:
        """Close it; calls that run are cancelled."""
        if not self._closed:
            self._closed = True
            task = asyncio.ensure_future(self.channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    @contextlib.asynccontextmanager
    async def calling(self, invocation: Invocation) -> AsyncIterator[None]:
        """Note how far a call comes, and what it shows of the connection.

        Raises:
            StatusError: the call has ended with another status than OK.

        """
        heard = self._heard
        invocation.sent = "maybe"
        try:
            yield
        except asyncio.CancelledError:
            self._retired = self._retired or self._heard == heard
            raise
        except grpc.aio.AioRpcError as error:
            refused = StatusError(error.code(), error.details(), _trailer(error))
            if refused.is_answer:
                invocation.sent = "yes"
                self._heard += 1
            elif refused.is_unprocessed:
                invocation.sent = "no"
            late = refused.code is grpc.StatusCode.DEADLINE_EXCEEDED and self._heard == heard
            gone = refused.code is grpc.StatusCode.UNAVAILABLE  # which the channel's state shows a moment later
            self._retired = self._retired or late or gone or refused.is_garbled
            raise refused from None
        except BadUpstream:
            invocation.sent = "yes"
            raise
        self._heard += 1
        invocation.sent = "yes"

    def hear(self) -> None:
        """Take note that a part of a response is here: the connection is good."""
        self._heard += 1

    def retire(self) -> None:
        """Take no more calls: what came is not what was asked for."""
        self._retired = True


def _trailer(error: grpc.aio.AioRpcError) -> bytes:
    found = dict(error.trailing_metadata() or ()).get(_DETAILS, b"")
    return found if isinstance(found, bytes) else b""


async def connect(make: Callable[[], grpc.aio.Channel], closing: set[asyncio.Future[None]], seconds: float) -> Line:
    """Make a channel, and wait until it is connected.

    Raises:
        StatusError: it cannot be.
        TimeoutError: nobody answers.

    """
    channel = make()
    line = Line(channel, closing)
    try:
        async with asyncio.timeout(seconds):
            await _settle(channel)
            if channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                await _learn_why(channel)
    except BaseException:
        line.close()
        raise
    return line


async def _settle(channel: grpc.aio.Channel) -> None:
    """Wait until the connection is made or has failed; one that has been lost by then shows in the call."""
    state = channel.get_state(try_to_connect=True)
    while state not in _SETTLED:
        await channel.wait_for_state_change(state)
        state = channel.get_state()
        if state is grpc.ChannelConnectivity.IDLE:
            return


async def _learn_why(channel: grpc.aio.Channel) -> None:
    """Raise what a call is told on a channel that has failed: the state itself has no reason."""
    check: Any = channel.unary_unary(HEALTH)
    try:
        await check(b"")
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            raise StatusError(error.code(), error.details()) from None
