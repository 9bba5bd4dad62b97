"""Response objects of other servers: what a parsed one says."""

from typing import Any

from gateway.model.calls import Id, Reply
from gateway.model.faults import BadUpstream, Fault, ForeignFault

ID_TYPES = frozenset({str, int, float, type(None)})
_VERSIONS = ("2.0", "1.0")


def read_answer(document: Any) -> tuple[Id, Reply] | None:
    """Read a parsed response object (section 5); see JSONRPC.decode_answer."""
    if type(document) is not dict or document.get("jsonrpc", "1.0") not in _VERSIONS:
        return None, no_answer('a response is an object with jsonrpc "2.0"')
    if "method" in document and "result" not in document and "error" not in document:
        return None
    answered = document.get("id")
    is_error = document.get("error") is not None and document.get("result") is None
    if type(answered) not in ID_TYPES or ("id" not in document and not (is_error and "jsonrpc" in document)):
        return None, no_answer("its id is a string, a number or null")
    if is_error:
        return answered, _read_error(document["error"], is_old="jsonrpc" not in document)
    if "result" in document and document.get("error") is None:
        return answered, Reply(value=document["result"])
    return answered, no_answer("it has either a result or an error")


def no_answer(reason: str) -> Reply:
    """Make the reply of what is not a response."""
    return Reply(fault=BadUpstream(f"the response is not JSON-RPC: {reason}"))


def _read_error(error: Any, *, is_old: bool) -> Reply:
    """Read an error object (section 5.1); in JSON-RPC 1.0 it may also be a text, or an array as Stratum has it."""
    if is_old and type(error) is str:
        return Reply(fault=ForeignFault(Fault.code, error))
    if is_old and type(error) is list and [type(each) for each in error[:2]] == [int, str]:
        return Reply(fault=ForeignFault(error[0], error[1]))
    if type(error) is not dict or type(error.get("code")) is not int or type(error.get("message")) is not str:
        return no_answer("an error has an int code and a string message")
    return Reply(fault=ForeignFault(error["code"], error["message"], error.get("data")))
