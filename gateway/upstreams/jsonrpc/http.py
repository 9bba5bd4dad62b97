"""JSON-RPC servers over HTTP, other gateways among them. Responses of JSON-RPC 1.0 are read, too."""

from functools import partial
from itertools import count
from typing import Any, ClassVar, Literal

from gateway.codecs.jsonrpc import JSONRPC
from gateway.model.calls import Reply
from gateway.model.faults import BadUpstream, ForeignFault
from gateway.model.limits import Limits
from gateway.upstreams import Cancel, Failures, Invocation, Outcome, Signature
from gateway.upstreams.faults import told
from gateway.upstreams.jsonrpc.openrpc import Lenient, describe
from gateway.upstreams.transport.http import FAILURES, HTTP, HTTPOptions, OverHTTP, Response


class JSONRPCOptions(HTTPOptions, frozen=True, kw_only=True):
    """What the other server writes beyond the specification."""

    lenient: Lenient = False


class JSONRPCOverHTTP(OverHTTP):
    """Calls as request objects, one in each POST."""

    Options: ClassVar = JSONRPCOptions
    takes: ClassVar[Literal["list", "dict", "either"]] = "either"
    failures: ClassVar[Failures] = FAILURES

    def __init__(self, options: JSONRPCOptions, limits: Limits) -> None:
        self._codec = JSONRPC(max_depth=limits.max_depth, max_batch=1)
        self._wire = HTTP(options, "application/json", limits.max_reply)
        self._lenient = options.lenient
        self._ids = count(1)

    def known(self) -> list[Signature] | None:
        """Nothing is known without asking."""
        return None

    async def describe(self, deadline: float) -> list[Signature] | None:
        """Ask for the methods."""
        return await describe(self.call, deadline)

    async def call(self, invocation: Invocation) -> Any:
        """Post a request object, and read the response object."""
        call_id = next(self._ids)
        body = self._codec.encode_call(invocation.method, invocation.params, call_id)
        return self._value(await self._wire.post(body, invocation), call_id)

    def begin(self, invocation: Invocation, outcome: Outcome) -> Cancel:
        """Post a request object, and have the result told later."""
        call_id = next(self._ids)
        body = self._codec.encode_call(invocation.method, invocation.params, call_id)
        return self._wire.begin(body, invocation, outcome, partial(self._value, call_id=call_id))

    def _value(self, response: Response, call_id: int) -> Any:
        answered, reply = self._codec.decode_answer(response.body, lenient=self._lenient) or (None, Reply())
        if isinstance(reply.fault, BadUpstream):
            raise response.meant(reply.fault)
        if answered != call_id and not (answered is None and reply.fault):  # no id: it has not read ours (section 5)
            raise response.meant(BadUpstream("the response has the id of another call"))
        if isinstance(reply.fault, ForeignFault):
            raise told(reply.fault)
        return reply.value

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()
