"""The messages of MCP: JSON-RPC objects, and what the revisions of the protocol ask of them.

    read(document, headers) -> Message     a request
                            -> Problem     not a request, or one that a revision does not allow
                            -> None        a notification, or a response: there is nothing to answer

Revisions before 2026-07-28 ("legacy") begin with ``initialize`` and have their version in a header, or nowhere. The
later one ("modern") has it in each request, and repeats parts of the request in headers, which must be the same.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from gateway.model.faults import InvalidRequest

LEGACY = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN = "2026-07-28"
SUPPORTED = (*LEGACY, MODERN)

INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32600, -32601, -32602
_HEADER_MISMATCH, _UNSUPPORTED_VERSION = -32020, -32022
_META = "io.modelcontextprotocol/"
_VERSION, _CAPABILITIES, _CLIENT = (
    f"{_META}{each}" for each in ("protocolVersion", "clientCapabilities", "clientInfo")
)
SERVER_INFO = f"{_META}serverInfo"
_BASE64 = re.compile(r"=\?base64\?([A-Za-z0-9+/]*={0,2})\?=")

Id: TypeAlias = str | int | None


class Message(Struct, frozen=True, kw_only=True):
    """A request of an agent.

    Attributes:
        id: is echoed with its type.
        method: what is asked for.
        params: without them an empty dict.
        is_modern: whether it is of the revision 2026-07-28.

    """

    id: Id
    method: str
    params: dict[str, Any]
    is_modern: bool

    def agent(self) -> tuple[str, str, str]:
        """Return the name and the version that the agent gives itself, and the revision that it speaks."""
        meta = self.params.get("_meta")
        told = meta.get(_CLIENT) if self.is_modern and type(meta) is dict else self.params.get("clientInfo")
        told = told if type(told) is dict else {}
        revision = MODERN if self.is_modern else str(self.params.get("protocolVersion"))
        return str(told.get("name")), str(told.get("version")), revision

    def problem(self, code: int, text: str) -> "Problem":
        """Make an error of this request; only the revision 2026-07-28 has statuses for them."""
        status = 200 if not self.is_modern else 404 if code == METHOD_NOT_FOUND else 400
        return Problem(id=self.id, code=code, message=text, status=status)


class Problem(Struct, frozen=True, kw_only=True):
    """An error of JSON-RPC, and the HTTP status that it has."""

    code: int
    message: str
    id: Id = None
    status: int = 200
    data: dict[str, Any] | None = None

    def wire(self) -> bytes:
        """Write the response object."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        error |= {"data": self.data} if self.data is not None else {}
        return msgspec.json.encode({"jsonrpc": "2.0", "id": self.id, "error": error})


def not_a_request(reason: str) -> Problem:
    """Make the problem of what is not a request."""
    return Problem(code=INVALID_REQUEST, message=InvalidRequest(reason).message, status=400)


def read(document: Any, headers: Mapping[str, str]) -> Message | Problem | None:
    """Read a message, with the headers that came with it."""
    if type(document) is list:
        return not_a_request("there are no batches: send one message")
    if type(document) is not dict or document.get("jsonrpc") != "2.0":
        return not_a_request('a message is an object with jsonrpc "2.0"')
    method = document.get("method")
    if method is None and ("result" in document or "error" in document):
        return None
    if type(method) is not str:
        return not_a_request("method is a string")
    if "id" not in document:
        return None
    number = document["id"]
    if type(number) not in (str, int):
        return not_a_request("id is a string or an integer")
    params = document.get("params")
    params = {} if params is None else params
    version = _header(headers, "MCP-Protocol-Version")
    meta = params.get("_meta") if type(params) is dict else None
    said = meta.get(_VERSION) if type(meta) is dict else None
    is_modern = said is not None or (version is not None and version not in LEGACY)
    if type(params) is not dict:
        status = 400 if is_modern else 200
        return Problem(id=number, code=INVALID_PARAMS, message="Invalid params: params is an object", status=status)
    message = Message(id=number, method=method, params=params, is_modern=is_modern)
    problem = _modern_problem(message, headers, meta) if is_modern else None
    return problem or message


def _modern_problem(message: Message, headers: Mapping[str, str], meta: Any) -> Problem | None:
    """Check what the revision 2026-07-28 asks of each request, in its order."""

    def problem(code: int, text: str, data: dict[str, Any] | None = None) -> Problem:
        return Problem(id=message.id, code=code, message=text, status=400, data=data)

    meta = meta if type(meta) is dict else {}
    version = meta.get(_VERSION)
    if type(version) is not str or type(meta.get(_CAPABILITIES)) is not dict:
        return problem(INVALID_PARAMS, f"Invalid params: _meta must have {_VERSION} and {_CAPABILITIES}")
    if _header(headers, "MCP-Protocol-Version") != version:
        return problem(_HEADER_MISMATCH, f"Header mismatch: MCP-Protocol-Version is not {_VERSION} of the body")
    if version != MODERN:
        told = {"supported": list(SUPPORTED), "requested": version}
        return problem(_UNSUPPORTED_VERSION, "Unsupported protocol version", told)
    if _header(headers, "Mcp-Method") != message.method:
        return problem(_HEADER_MISMATCH, "Header mismatch: Mcp-Method is not the method of the body")
    if message.method == "tools/call" and _decoded(_header(headers, "Mcp-Name")) != message.params.get("name"):
        return problem(_HEADER_MISMATCH, "Header mismatch: Mcp-Name is not params.name of the body")
    return None


def _header(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    return None if value is None else value.strip(" \t")  # not every server has done so


def _decoded(value: str | None) -> str | None:
    """Read the value of a header that may be in base64, because it is not plain ASCII; None where it is not one."""
    match = None if value is None else _BASE64.fullmatch(value)
    if match is None:
        return value
    try:
        return base64.b64decode(match[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def mirrored(document: Any) -> dict[str, str]:
    """Return the headers that a message is POSTed with, for one that came without HTTP."""
    if type(document) is not dict or type(document.get("params", {})) is not dict:
        return {}
    params, method = document.get("params", {}), document.get("method")
    meta = params.get("_meta")
    version = meta.get(_VERSION) if type(meta) is dict else None
    if type(version) is not str or type(method) is not str:
        return {}
    told = {"MCP-Protocol-Version": version, "Mcp-Method": method}
    told |= {"Mcp-Name": params["name"]} if type(params.get("name")) is str else {}
    return {name: _encoded(value) for name, value in told.items()}


def _encoded(value: str) -> str:
    is_plain = value.isascii() and value.isprintable() and value == value.strip() and not _BASE64.fullmatch(value)
    return value if is_plain else f"=?base64?{base64.b64encode(value.encode('utf-8', 'replace')).decode()}?="
