"""XML-RPC servers.

Names come from system.listMethods, which SimpleXMLRPCServer has after ``register_introspection_functions()``; XML-RPC
tells no names of parameters, so arguments are by position, unless the configuration names them.
"""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gateway.codecs.xmlrpc import XMLRPC
from gateway.model.faults import BadUpstream, ForeignFault
from gateway.model.limits import Limits
from gateway.upstreams import Cancel, Failures, Invocation, Outcome, Signature
from gateway.upstreams.faults import told
from gateway.upstreams.transport.http import FAILURES, HTTP, HTTPOptions, OverHTTP, Response
from gateway.upstreams.xmlrpc.introspection import describe


class XMLRPCOptions(HTTPOptions, frozen=True, kw_only=True):
    """What the other server reads and writes beyond the specification."""

    nil: Annotated[bool, Meta(description="It reads <nil/>; otherwise None is refused as an argument.")] = True
    lenient: Annotated[
        bool,
        Meta(
            description="Of its results, empty and zero dates and nan and inf are read as None, and the last of members"
            " with the same name counts; otherwise such a result is a fault."
        ),
    ] = False
    i8: Annotated[bool, Meta(description="It reads <i8>; otherwise ints beyond 32 bits are refused.")] = True


class XMLRPCOverHTTP(OverHTTP):
    """Calls as methodCalls."""

    Options: ClassVar = XMLRPCOptions
    takes: ClassVar[Literal["list", "dict", "either"]] = "list"
    failures: ClassVar[Failures] = FAILURES

    def __init__(self, options: XMLRPCOptions, limits: Limits) -> None:
        self._codec = XMLRPC(
            max_depth=limits.max_depth, max_batch=1, none="nil" if options.nil else "fault", i8=options.i8, nan=False
        )
        self._lenient = options.lenient
        self._wire = HTTP(options, "text/xml", limits.max_reply)

    def known(self) -> list[Signature] | None:
        """Nothing is known without asking."""
        return None

    async def describe(self, deadline: float) -> list[Signature] | None:
        """Ask for names, signatures and texts."""
        return await describe(
            lambda method, params: self.call(
                Invocation(method=method, params=params, deadline=deadline, request_id="describe")
            )
        )

    async def call(self, invocation: Invocation) -> Any:
        """Post a methodCall, and read the methodResponse."""
        body = self._codec.encode_call(invocation.method, invocation.params)
        return self._value(await self._wire.post(body, invocation))

    def begin(self, invocation: Invocation, outcome: Outcome) -> Cancel:
        """Post a methodCall, and have the result told later."""
        body = self._codec.encode_call(invocation.method, invocation.params)
        return self._wire.begin(body, invocation, outcome, self._value)

    def _value(self, response: Response) -> Any:
        _, reply = self._codec.decode_answer(response.body, response.charset, lenient=self._lenient)
        if isinstance(reply.fault, BadUpstream):
            raise response.meant(reply.fault)
        if isinstance(reply.fault, ForeignFault):
            raise told(reply.fault)
        return reply.value

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()
