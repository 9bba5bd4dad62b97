"""What other servers respond instead of a result, and what the caller is told of it.

The codes of JSON-RPC 2.0, section 5.1, which the fault code interoperability specification has for XML-RPC, keep their
meaning; what a service has chosen itself is passed on: code, message and data. Codes of the reserved range mean
something else in each implementation, and XML-RPC has servers whose codes are texts: these become an application error
with the code in its data. Tracebacks, and the names of classes that the standard library's server puts before a
message, stay here.
"""

import os
import re
from collections.abc import Collection
from typing import Any

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
MOST_SHOWN = 200  # characters of a reason for operators, which may quote what was received
FAILED = "the upstream failed"


def is_answer(fault: Fault) -> bool:
    """Tell whether a fault is the response of the upstream itself, so that it is certainly up."""
    return not isinstance(fault, (Unavailable, BadUpstream, DeadlineExceeded, Overloaded))


def told(fault: ForeignFault) -> Fault:
    """Turn another server's fault into the one that the caller gets."""
    message = safe(fault.detail)
    if fault.detail != message and _NO_METHOD.fullmatch(message):
        return MethodNotFound("the upstream has no such method")
    if fault.code == _INTERNAL:
        return Fault(FAILED)
    if fault.code in _SPECIFIED:
        return _specified(fault, message)
    data = _without_tracebacks(fault.data)
    if fault.word is not None or fault.code in _RESERVED or fault.code not in _INT32:
        code = fault.code if fault.word is None else fault.word
        return Fault(message, data={"code": code} | ({} if data is None else {"data": data}))
    return Fault(fault.code, message, data)


def safe(message: str) -> str:
    """Leave out of a message what shows the inside of its server."""
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


def _without_tracebacks(data: Any) -> Any:
    """Leave out of an error's data the texts that hold a traceback, and nothing else: Odoo sends both."""
    if type(data) is dict:
        return {name: _without_tracebacks(value) for name, value in data.items() if not _is_traceback(value)}
    if type(data) is list:
        return [_without_tracebacks(value) for value in data if not _is_traceback(value)]
    return None if _is_traceback(data) else data


def _is_traceback(value: Any) -> bool:
    return type(value) is str and _TRACEBACK in value


def _specified(fault: ForeignFault, message: str) -> GatewayFault:
    """Make a fault of the specification, with what the error says beyond the specification's own words."""
    kind, data = _SPECIFIED[fault.code], _without_tracebacks(fault.data)
    said = [] if message.lower() == CATALOGUE[kind].title.lower() else [message]
    if type(data) is dict and type(data.get("detail")) is str:  # another gateway
        said.append(safe(data.pop("detail")))
    elif type(data) is str:
        said.append(safe(data))
        data = None
    return kind(": ".join(said), **({} if data in (None, {}, []) else {"data": data}))


_INTERNAL = -32603
_SPECIFIED: dict[int, type[GatewayFault]] = {
    -32700: ParseError,
    -32600: InvalidRequest,
    -32601: MethodNotFound,
    -32602: InvalidParams,
}


# For the adapters' tables of failures. The caller is told no more than this; the log has the reason.


def unreachable(_: Exception) -> Unavailable:
    """Tell that there is no connection."""
    return Unavailable("the upstream cannot be reached")


def hung_up(_: Exception) -> Unavailable:
    """Tell that the connection broke."""
    return Unavailable("the upstream closed the connection")


def garbled(_: Exception) -> BadUpstream:
    """Tell that the response is not one of the protocol."""
    return BadUpstream("the response does not follow the protocol")


def reason(error: BaseException) -> str:
    """Say for operators what has happened."""
    number = getattr(error, "errno", None)
    if type(error).__module__ == "builtins" and number is not None and number > 0:  # libraries number otherwise
        return os.strerror(number).lower()
    text = " ".join(str(error).split())[:MOST_SHOWN]
    if type(error).__module__.startswith("gateway."):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
