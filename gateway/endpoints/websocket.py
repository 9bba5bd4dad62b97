"""JSON-RPC over WebSocket: who is let in, and what becomes of each message.

    admit(head) -> HTTPResponse    refused: 401, 403 by the access policy; 400, 405, 426: it is not an upgrade
                -> JSONSession     let in; each message is a call, a batch, or neither, as a body of HTTP is; and calls
                                   that are about subscriptions (subscriptions.py)

A connection is judged once, with the head of its upgrade: its caller stays who they are. Each message is charged. A
browser cannot send Authorization with an upgrade. So a key may also be one of the subprotocols, behind ``bearer.``;
the subprotocol that is spoken is ``jsonrpc``.
"""

from collections.abc import Awaitable, Iterator, Mapping

import msgspec

from gateway.codecs.jsonrpc import JSONRPC
from gateway.endpoints.heads import Headers, Judged, Objection
from gateway.endpoints.rpc import Exchange, RPCEndpoint, rate_limited
from gateway.endpoints.subscriptions import Rules, Subscription, Subscriptions
from gateway.model.calls import Call, Caller, Context, Reply
from gateway.model.http import HTTPRequest, HTTPResponse
from gateway.model.websocket import Outlet

_SPOKEN = "jsonrpc"
_KEY = "bearer."


class WebSocketEndpoint:
    """What is behind the path of WebSocket."""

    def __init__(self, rpc: RPCEndpoint, rules: Rules) -> None:
        self.rpc = rpc
        self.rules = rules
        self.codec = next(codec for codec in rpc.codecs if isinstance(codec, JSONRPC))

    def admit(self, head: HTTPRequest) -> "HTTPResponse | JSONSession":
        """Judge an upgrade by its head."""
        offered = [each.strip() for each in head.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        shown = next((each.removeprefix(_KEY) for each in offered if each.startswith(_KEY)), None)
        if shown is not None and "Authorization" not in head.headers:
            head = msgspec.structs.replace(head, headers=_Authorized(head.headers, f"Bearer {shown}"))
        request_id = self.rpc.id_of(head)
        caller = self.rpc.judge_upgrade(head)
        if isinstance(caller, Objection):
            return self.rpc.object(caller, request_id)
        chosen = (("Sec-WebSocket-Protocol", _SPOKEN),) if _SPOKEN in offered else ()
        subscriptions = Subscriptions(self.rpc, self.codec, self.rules, caller.client)
        return JSONSession(self.rpc, subscriptions, head, caller, (("X-Request-ID", request_id), *chosen))


class JSONSession:
    """One connection.

    Attributes:
        headers: further headers of the response to its upgrade.
        client: whose connection it is.

    """

    def __init__(
        self, rpc: RPCEndpoint, subscriptions: Subscriptions, head: HTTPRequest, caller: Caller, headers: Headers
    ) -> None:
        self.headers = headers
        self.client = caller.client
        self._rpc = rpc
        self._subscriptions = subscriptions
        self._head = head
        self._judged = Judged(caller=caller, codec=subscriptions.codec, charset=None, coding="", headers=())

    def open(self, outlet: Outlet) -> None:
        """Begin."""
        self._subscriptions.outlet = outlet

    async def answer(self, message: bytes) -> bytes:
        """Answer a message; empty for no answer."""
        wait = self._rpc.rates.charge(self._judged.caller)
        opened: list[Subscription] = []

        def handle(call: Call, context: Context) -> Reply | Awaitable[Reply]:
            return self._subscriptions.handle(call, context, opened) or self._rpc.handler(call, context)

        exchange = Exchange(
            endpoint=self._rpc,
            head=self._head,
            judged=self._judged,
            request_id=self._rpc.request_id(None),
            refusal=rate_limited(wait) if wait else None,
            handler=handle,
        )
        try:
            return await exchange.answer_message(self._subscriptions.codec, message)
        except BaseException:
            for each in opened:
                each.stop()
            raise
        finally:
            for each in opened:
                each.begin()  # in the next turn of the loop: the host sends the answer before

    def is_open(self) -> bool:
        """Tell whether there are subscriptions."""
        return len(self._subscriptions) > 0

    def drained(self) -> None:
        """Go on, now that the client has taken all that was written."""
        self._subscriptions.drained()

    def retire(self) -> None:
        """End the subscriptions, and say so."""
        self._subscriptions.retire()

    def close(self) -> None:
        """End the subscriptions of a client that is gone."""
        self._subscriptions.close()


class _Authorized(Mapping[str, str]):
    """The headers of an upgrade, with the key that is among its subprotocols in the usual place."""

    def __init__(self, sent: Mapping[str, str], authorization: str) -> None:
        self._sent = sent
        self._authorization = authorization

    def __getitem__(self, name: str) -> str:
        return self._authorization if name.lower() == "authorization" else self._sent[name]

    def __contains__(self, name: object) -> bool:
        return name in self._sent or (isinstance(name, str) and name.lower() == "authorization")

    def __iter__(self) -> Iterator[str]:
        yield from self._sent
        yield "Authorization"

    def __len__(self) -> int:
        return len(self._sent) + 1
