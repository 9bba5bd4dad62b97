"""The endpoint of MCP: one POST, one message, and one JSON object in return, or events where that is asked for.

    admit(head) -> HTTPResponse   refused by its head, as a call would be; 405 for GET and DELETE; 404, before a key is
                                  looked at, where clients look for OAuth; 429 for a large body of a caller that has
                                  called too often
                -> Exchange       let in; ``answer(body)``: unpack -> read the message -> list or call -> HTTPResponse
                                  202 where there is nothing to answer
                all other paths   are those of the endpoint for calls

A call of a tool is a call like any other: it has the same rules, rates, deadline, layers, log and metrics, with the
protocol "mcp".
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from gateway.codecs import Codec
from gateway.codecs.jsonrpc.text import parse
from gateway.core.access import AccessPolicy
from gateway.endpoints.batches import Room
from gateway.endpoints.events import are_asked_for, begin
from gateway.endpoints.heads import Headers, HeadJudge, Objection
from gateway.endpoints.mcp.messages import (
    INVALID_PARAMS,
    LEGACY,
    METHOD_NOT_FOUND,
    SERVER_INFO,
    SUPPORTED,
    Message,
    Problem,
    not_a_request,
    read,
)
from gateway.endpoints.mcp.progress import Progress, token_of
from gateway.endpoints.mcp.results import Results
from gateway.endpoints.mcp.tools import PROTOCOL, Toolbox
from gateway.endpoints.rpc import Exchange, RPCEndpoint, rate_limited, too_often
from gateway.model.calls import Call, InvalidCall
from gateway.model.faults import ForeignFault, InvalidParams, ParseError, RateLimited, detached
from gateway.model.http import Admitted, HTTPRequest, HTTPResponse, Pieces
from gateway.telemetry.log import log_agent

_SENT = ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Session-Id")
_WELL_KNOWN, _REGISTER = "/.well-known/", "/register"  # where clients look for OAuth
_BOM = b"\xef\xbb\xbf"
_JSON = (("Content-Type", "application/json"),)
_PLAIN = (("Content-Type", "text/plain; charset=utf-8"),)
_SMALL = 2**16  # bytes of a body that is read although its caller has called too often, to tell the model so
_TTL = 60_000  # milliseconds that agents may keep the list of tools: methods come with upstreams and reloads
_KEPT = b',"ttlMs":%d,"cacheScope":"private"' % _TTL  # it differs by key
_LONGEST_NAME = 128  # characters of a tool's name, as the protocol has it


class MCPEndpoint:
    """The endpoint for agents, around that for calls. Raises nothing.

    Arguments:
        rpc: the endpoint for calls.
        codec: that of JSON-RPC.
        toolbox: the tools.
        policy: who is let in.
        path: where messages are POSTed to.
        calls: the paths of calls, which are left to the endpoint for these.
        instructions: a text about all of the tools; empty for none.
        version: of the gateway.
        max_depth: levels of nesting in a message.
        streams: tells whether a method streams.

    """

    def __init__(  # noqa: PLR0913 - all of them are named
        self,
        *,
        rpc: RPCEndpoint,
        codec: Codec,
        toolbox: Toolbox,
        policy: AccessPolicy,
        path: str,
        calls: Iterable[str],
        instructions: str,
        version: str,
        max_depth: int,
        streams: Callable[[str], bool],
    ) -> None:
        self.rpc = rpc
        self.streams = streams
        self.toolbox = toolbox
        self.results = Results(codec)
        self.max_depth = max_depth
        server = {"name": "callgate", "version": version}
        told: dict[str, Any] = {"capabilities": {"tools": {}}} | (
            {"instructions": instructions} if instructions else {}
        )
        self.greeting = told | {"serverInfo": server}
        self.discovery = told | {"supportedVersions": SUPPORTED}
        self.modern = b',"resultType":"complete","_meta":%b' % msgspec.json.encode({SERVER_INFO: server})
        self._path = path
        self._calls = frozenset(calls)
        self._judge = HeadJudge((codec,), (path,), policy, _SENT).judge

    def admit(self, head: HTTPRequest) -> HTTPResponse | Admitted:
        """Judge a request by its head, and charge one call to its caller."""
        path = head.target.partition("?")[0]
        if path != self._path:
            is_oauth = (path.startswith(_WELL_KNOWN) or path == _REGISTER) and path not in self._calls
            return self._absent(head) if is_oauth else self.rpc.admit(head)
        judged = self._judge(head)
        if isinstance(judged, HTTPResponse):
            return judged
        request_id = self.rpc.id_of(head)
        if isinstance(judged, Objection):
            if judged.kind == "verb":  # clients ask for a stream, and some end a session: that is not refused
                return HTTPResponse(status=405, headers=(("Allow", "POST"), ("X-Request-ID", request_id)))
            return self.rpc.object(judged, request_id)
        wait = self.rpc.rates.charge(judged.caller)
        fault = rate_limited(wait) if wait else None
        if fault is not None and not _is_small(head):
            return self.rpc.object(too_often(judged, fault), request_id)
        request = Exchange(endpoint=self.rpc, head=head, judged=judged, request_id=request_id, refusal=fault)
        return MCPExchange(endpoint=self, request=request)

    def _absent(self, head: HTTPRequest) -> HTTPResponse:
        """Say that there is no OAuth here, also to those who have no key."""
        visitor = self.rpc.visit(head)
        if isinstance(visitor, HTTPResponse):
            return visitor
        return HTTPResponse(status=404, headers=_PLAIN, body=b"Not found: keys are sent as Bearer tokens.\n")


class MCPExchange(Struct, frozen=True):
    """One request that was let in: that of the endpoint for calls, whose body is a message of MCP."""

    endpoint: MCPEndpoint
    request: Exchange

    @property
    def client(self) -> str:
        """Whose request it is: the address that a trusted proxy has named, or the peer's."""
        return self.request.client

    def too_large(self) -> HTTPResponse:
        """Refuse it, because its body has, or would have, more bytes than are read."""
        return self.request.too_large()

    def too_many(self) -> HTTPResponse:
        """Refuse it, because its client has too many at once."""
        return self.request.too_many()

    def unreadable(self, status: int, reason: str) -> HTTPResponse:
        """Refuse it, because its body did not come as its head says, or cannot be read by this host."""
        return self.request.unreadable(status, reason)

    async def answer(self, body: bytes) -> HTTPResponse:
        """Answer the message in a body. Raises nothing."""
        request = self.request
        unpacked = request.unpacked(body)
        if isinstance(unpacked, HTTPResponse):
            return unpacked
        message = self._read(unpacked)
        if message is None:
            return request.respond(b"", (), status=202)
        if isinstance(message, Problem):
            return await self._refused(message, len(body))
        if message.method in ("tools/list", "tools/call"):
            await self.endpoint.toolbox.look()
        if message.method == "tools/call":
            return await self._called(message, len(body))
        if isinstance(request.refusal, RateLimited):
            fault = request.refusal
            retry = (("Retry-After", str(fault.data["retry_after"])),)
            return request.refuse("rate", fault.status, fault, fault.message, retry)
        if message.method == "tools/list" and message.params.get("cursor"):
            return await self._refused(
                message.problem(INVALID_PARAMS, "Invalid params: there is no such cursor"), len(body)
            )
        members = self._told(message)
        if members is None:
            text = f"Method not found: {message.method[:_LONGEST_NAME]}"
            return await self._refused(message.problem(METHOD_NOT_FOUND, text), len(body))
        return self._respond(message, members, len(body))

    def _read(self, unpacked: bytes) -> Message | Problem | None:
        try:
            document = parse(unpacked.removeprefix(_BOM), self.endpoint.max_depth)
        except ParseError as fault:
            return Problem(code=fault.code, message=fault.message, status=400)
        message = read(document, self.request.head.headers)
        wrong = self.request.set_deadline() if isinstance(message, Message) else None
        return message if wrong is None else msgspec.structs.replace(not_a_request(wrong.detail), id=document["id"])

    def _told(self, message: Message) -> bytes | None:
        """Return the members of the result of a request that calls nothing; None where there is no such method."""
        endpoint = self.endpoint
        if message.method == "tools/list":
            tools = b'"tools":%b' % endpoint.toolbox.listed(self.request.judged.caller)
            return tools + _KEPT if message.is_modern else tools
        if message.method == ("server/discover" if message.is_modern else "initialize"):
            log_agent(*message.agent(), self.client, self.request.request_id)
            if message.is_modern:
                return _members(endpoint.discovery) + _KEPT
            version = message.params.get("protocolVersion")
            return _members({"protocolVersion": version if version in LEGACY else LEGACY[-1], **endpoint.greeting})
        return b"" if message.method == "ping" and not message.is_modern else None

    async def _called(self, message: Message, received: int) -> HTTPResponse:
        """Call a tool."""
        request, endpoint = self.request, self.endpoint
        name, arguments = message.params.get("name"), message.params.get("arguments")
        arguments = {} if arguments is None else arguments
        tool = endpoint.toolbox.find(name, request.judged.caller) if type(name) is str else None
        if tool is None or type(arguments) is not dict:
            text = "Invalid params: arguments is an object" if tool is not None else "Invalid params: name is a string"
            text = f"Unknown tool: {name[:_LONGEST_NAME]}" if type(name) is str and tool is None else text
            return await self._refused(message.problem(INVALID_PARAMS, text), received)
        try:
            call = Call(method=tool.method, params=tool.params(arguments))
        except InvalidParams as fault:
            call = Call(method=tool.method, params=[])
            request.refusal = detached(fault)
        events = await self._begun(message, call)
        if events is not None:
            return request.in_pieces(events)
        answer = await request.answer_entry(endpoint.results, Room(endpoint.rpc.limits.max_reply), call, None)
        return self._respond(message, answer.wire, received, request.told_to_proxy(call, [answer]))

    async def _begun(self, message: Message, call: Call) -> Pieces | None:
        """Begin the stream of a tool whose agent wants to see its progress; None where there is none."""
        request, endpoint, token = self.request, self.endpoint, token_of(message)
        is_wanted = token is not None and request.refusal is None and are_asked_for(request.head)
        if token is None or not is_wanted or not endpoint.streams(call.method):
            return None
        most = endpoint.rpc.limits.max_reply
        form = Progress(endpoint.results, call, token, most, partial(self._written, message))
        return await begin(request, call, endpoint.results, form)

    async def _refused(self, problem: Problem, received: int) -> HTTPResponse:
        """Answer with an error, which is observed like that of a call."""
        room = Room(self.endpoint.rpc.limits.max_reply)
        entry = InvalidCall(fault=ForeignFault(problem.code, problem.message))
        answer = await self.request.answer_entry(self.endpoint.results, room, entry, None)
        wire = problem.wire()
        self.endpoint.rpc.observers.answered(PROTOCOL, received, len(wire))
        return self.request.respond(wire, _JSON, self.request.told_to_proxy(entry, [answer]), problem.status)

    def _respond(self, message: Message, members: bytes, received: int, extra: Headers = ()) -> HTTPResponse:
        wire = self._written(message, members)
        self.endpoint.rpc.observers.answered(PROTOCOL, received, len(wire))
        return self.request.respond(wire, _JSON, extra)

    def _written(self, message: Message, members: bytes) -> bytes:
        """Write a response object."""
        rest = self.endpoint.modern if message.is_modern else b""
        return b'{"jsonrpc":"2.0","id":%b,"result":{%b%b}}' % (msgspec.json.encode(message.id), members, rest)


def _members(result: dict[str, Any]) -> bytes:
    return msgspec.json.encode(result)[1:-1]


def _is_small(head: HTTPRequest) -> bool:
    length = head.headers.get("Content-Length", "")
    return length.isdecimal() and int(length) <= _SMALL
