"""What other servers answer instead of a result, and what the caller is told of it.

The codes of JSON-RPC 2.0, section 5.1, which the fault code interoperability specification has for XML-RPC, keep their
meaning; what a service has chosen itself is its callers' business and is passed on, code, message and data. Codes of
the reserved range mean something else in each implementation: they become an application error that has the code in its
data. Tracebacks, and the names of classes that the standard library's server puts before a message, stay here.
"""

import re
from collections.abc import Collection
from typing import Any

import msgspec

from gateway.model.faults import (
    CATALOGUE,
    BadUpstream,
    DeadlineExceeded,
    Fault,
    ForeignFault,
    GatewayFault,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    Overloaded,
    ParseError,
    Unavailable,
)

_RESERVED = range(-32768, -31999)
_INT32 = range(-(2**31), 2**31)
_CLASS = re.compile(r"<class '[^']*'>: ?")
_NO_METHOD = re.compile(r'method "[^"]*" is not supported')  # SimpleXMLRPCServer, with the code 1 of any exception
_WRONG_ARGUMENTS = re.compile(r"(?:[\w<>]+\.)*([\w<>]+)\(\) ((?:missing|takes|got) .*)")
_TRACEBACK = "Traceback (most recent call last)"
_LONGEST_NAME = 100  # characters of a class's name
_MOST_SAID = 1000  # characters of a message
FAILED = "the service behind it failed"


def is_answer(fault: Fault) -> bool:
    """Tell whether a fault is what the upstream itself has answered, so that it is certainly up."""
    return not isinstance(fault, (Unavailable, BadUpstream, DeadlineExceeded, Overloaded))


def told(fault: ForeignFault) -> Fault:
    """Turn another server's fault into the one that the caller gets."""
    message = safe(fault.detail)
    if fault.detail != message and _NO_METHOD.fullmatch(message):
        return MethodNotFound("the service behind it has no such method")
    if fault.code == _INTERNAL:
        return Fault(FAILED)
    if fault.code in _SPECIFIED:
        return _SPECIFIED[fault.code](_detail(fault, message))
    data = fault.data if _is_safe(fault.data) else None
    if fault.code in _RESERVED or fault.code not in _INT32:
        return Fault(message, data={"code": fault.code} | ({} if data is None else {"data": data}))
    return Fault(fault.code, message, data)


def safe(message: str) -> str:
    """Leave out of a message what tells the inside of its server."""
    text = _CLASS.sub("", message)[:_MOST_SAID].strip()
    return text.partition(_TRACEBACK)[0].strip() or FAILED


def wrong_arguments(text: str, names: Collection[str]) -> Fault | None:
    """Tell what a Python service's TypeError means, if it is about arguments: the caller's, or its own calls inside.

    ``names`` are those that the function may have there.
    """
    found = _WRONG_ARGUMENTS.fullmatch(text)
    if found is None:
        return None
    return InvalidParams(f"the method {found[2]}") if found[1] in names else Fault(FAILED)


def raised(kind: str, text: str) -> Fault:
    """Tell what a Python service has raised: a text, and the plain name of the class in ``data["type"]``."""
    name = kind.rpartition(".")[2]
    return Fault(text, data={"type": name} if name.isidentifier() and len(name) <= _LONGEST_NAME else None)


def _is_safe(data: Any) -> bool:
    return data is None or _TRACEBACK.encode() not in msgspec.json.encode(data)


def _detail(fault: ForeignFault, message: str) -> str:
    """Return what an error says beyond the words that the specification has for its code."""
    said = fault.data.get("detail") if type(fault.data) is dict else None
    if type(said) is str:
        return safe(said)
    return "" if message.lower() == CATALOGUE[_SPECIFIED[fault.code]].title.lower() else message


_INTERNAL = -32603
_SPECIFIED: dict[int, type[GatewayFault]] = {
    -32700: ParseError,
    -32600: InvalidRequest,
    -32601: MethodNotFound,
    -32602: InvalidParams,
}


# What stands in the tables of the bridges. The caller is told no more than this; the log has the reason.


def unreachable(_: Exception) -> Unavailable:
    """Tell that there is no connection."""
    return Unavailable("the service behind it cannot be reached")


def hung_up(_: Exception) -> Unavailable:
    """Tell that the connection has broken."""
    return Unavailable("the service behind it has closed the connection")


def garbled(_: Exception) -> BadUpstream:
    """Tell that what came is not the protocol."""
    return BadUpstream("the service behind it does not speak its protocol")
